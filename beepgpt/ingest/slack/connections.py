"""The connections that bring events, and up to when everything that Slack sent over them has arrived."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from beepgpt import clock

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

log = logging.getLogger(__name__)


class LiveConnection(Protocol):
    """A connection over which Slack sends events; it is reopened when it breaks."""

    name: str

    @property
    def good_until(self) -> float | None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...

    def drop(self) -> None: ...


class Connections:
    """All connections of the program. Used by one thread only."""

    def __init__(self, connections: Iterable[LiveConnection], delay: float) -> None:
        """`delay`: seconds that an event may take from Slack."""
        self._connections = {each.name: each for each in connections}
        self._delay = delay
        self._up: dict[str, float] = {}
        """When each connection that is up was opened."""
        self._proven: dict[str, float | None] = {}
        """Up to when events are known to arrive over each connection; None: without limit, since one has arrived."""
        self._untried: set[str] = set()
        """Connections that have brought nothing yet, while no probe of channels has found that nothing is missing, either."""
        self._last_event: dict[str, float] = {}
        """When the last event arrived over each connection, by the monotonic clock."""

    def __len__(self) -> int:
        return len(self._connections)

    def start(self) -> None:
        """Open all."""
        for connection in self._connections.values():
            connection.start()

    def close(self) -> None:
        """Close all."""
        for connection in self._connections.values():
            connection.close()

    @property
    def are_up(self) -> bool:
        """Whether all of them are connected."""
        return len(self._up) == len(self._connections)

    @property
    def up_since(self) -> float:
        """When the last one was connected, in seconds since 1970."""
        return max(self._up.values())

    def good_until(self) -> float | None:
        """Up to when everything that Slack sent has arrived, by this machine's clock; None while something may be missing."""
        goods: list[float] = []
        for name, connection in self._connections.items():
            good = connection.good_until
            if good is None or name not in self._up:
                return None
            proven = self._proven.get(name)
            goods.append(good if proven is None else min(good, proven))
        return min([clock.now() - self._delay, *goods])

    def on_up(self, up: slack_live.Up) -> None:
        """Note that a connection was opened; it has yet to prove that events arrive over it."""
        log.info("connected to Slack", extra={"line": up.line, "connections": up.connections})
        if up.connections > len(self._connections):
            log.warning(
                "the app has more connections than this command has: Slack gives each of them a share of the events, so that those of"
                " another program are missing here until they are backfilled",
                extra={"connections": up.connections, "ours": len(self._connections)},
            )
        self._up[up.line] = self._proven[up.line] = up.at
        self._untried.add(up.line)

    def on_down(self, down: slack_live.Down) -> None:
        """Note that a connection broke."""
        log.warning("disconnected from Slack", extra={"line": down.line, "why": down.why})
        self._up.pop(down.line, None)

    def on_renewed(self, changed: slack_live.Changed) -> bool:
        """Note that a connection was replaced. Returns False if the old one was still unproven: its events may be missing."""
        log.info("a connection was renewed", extra={"line": changed.line})
        self._proven[changed.line] = changed.at
        was_tried = changed.line not in self._untried
        self._untried.add(changed.line)
        return was_tried

    def on_event(self, name: str) -> None:
        """Note that an event arrived over a connection, which proves it."""
        self._last_event[name] = time.monotonic()
        if name in self._proven:
            self._proven[name] = None
            self._untried.discard(name)

    def suspects(self, quiet: float) -> tuple[str, ...]:
        """Connections that have brought nothing yet, or nothing for `quiet` seconds."""
        since = time.monotonic() - quiet
        return tuple(name for name in self._up if self._proven[name] is not None or self._last_event[name] < since)

    def prove(self, until: float) -> None:
        """Note that nothing from before this time is missing."""
        for name, proven in self._proven.items():
            if proven is not None and until > proven:
                self._proven[name] = until
                self._untried.discard(name)

    def drop(self, names: Iterable[str]) -> None:
        """Replace silent connections; until they are replaced, none of these is up."""
        for name in names:
            if name in self._up:
                self._connections[name].drop()
                self._up.pop(name)
