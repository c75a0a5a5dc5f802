"""Keeps a web server answering while strangers hold its connections: each request has to come soon, and who waits longest makes room.

uvicorn has no time-out for a request, and its `limit_concurrency` turns newcomers away, who may be Slack. So uvicorn's own protocol is
derived here; what it is told about HTTP, and what it answers, stays uvicorn's.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

READ_WITHIN = 5.0
"""Seconds for a whole request, from its first byte or the connection's beginning; Slack itself gives up after three."""
MOST_CONNECTIONS = 256

Refuse = Callable[[str], None]


def most_connections() -> int:
    """Connections to hold at once: a quarter of the files that this process may open, at most."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if limit == resource.RLIM_INFINITY else max(8, min(MOST_CONNECTIONS, limit // 4))


def guarded(refuse: Refuse, most: int) -> type[H11Protocol]:
    """A protocol for uvicorn's `http` that holds `most` connections, and calls `refuse` with a reason for each that it ends."""
    waiting: dict[GuardedProtocol, None] = {}
    """Connections whose next request is not whole, by how long they have been waiting for it."""

    class GuardedProtocol(H11Protocol):
        deadline: asyncio.TimerHandle | None = None
        is_first = True

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.watch()
            if len(self.connections) > most and waiting:
                next(iter(waiting)).end("crowded")

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.unwatch()

        def handle_events(self) -> None:
            super().handle_events()
            if self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing():
                self.watch()
            else:
                self.is_first = False
                self.unwatch()

        def on_response_complete(self) -> None:
            if self.cycle.more_body:  # the rest of it is not read
                self.transport.close()
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:
            refuse("malformed")
            try:
                super().send_400_response(msg)
            except h11.LocalProtocolError:  # the request's beginning has its response already
                self.transport.abort()

        def watch(self) -> None:
            if self.deadline is None:
                self.deadline = self.loop.call_later(READ_WITHIN, self.end, "slow")
                waiting[self] = None

        def unwatch(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None
                del waiting[self]

        def end(self, why: str) -> None:
            """End the connection without a response."""
            has_begun = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
            if self.is_first or has_begun:  # otherwise it was kept alive, and nothing more came
                refuse(why)
            self.unwatch()
            self.connections.discard(self)
            self.transport.abort()

    return GuardedProtocol
