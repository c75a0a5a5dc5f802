"""Slack's Socket Mode, and what a connection to Slack reports: events, and its state."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import orjson
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from beepgpt import clock
from beepgpt.connectors.http import Outbound
from beepgpt.connectors.slack.live.web import BACKOFF, OPEN, CallStopped, Web, silent
from beepgpt.errors import SlackFailed, SlackRefused
from beepgpt.lenient_json import decode_json

Put = Callable[[Any], None]


class Arrival(NamedTuple):
    """An event that Slack sent and that has to be acknowledged."""

    line: str
    kind: str
    """`events_api`, `interactive`, `slash_commands`."""
    payload: dict[str, Any]
    name: str
    """The envelope's id."""
    retry: int
    """How many times Slack has sent it before."""
    at: float
    """When it was received, seconds since 1970."""
    acknowledge: Callable[[], None]


class Oversized(NamedTuple):
    """A request that Slack signed and that is too large to be used; it has to be acknowledged."""

    line: str
    head: bytes
    """Its beginning."""
    size: int
    """Bytes of all of it."""
    retry: int
    at: float
    acknowledge: Callable[[], None]


class Up(NamedTuple):
    """A connection is up, after an outage or for the first time."""

    line: str
    at: float
    """When the connection was requested, seconds since 1970: earlier events did not come here."""
    connections: int
    """Connections of the app, by Slack's count."""


class Changed(NamedTuple):
    """A connection was replaced by one that was ready before it ended: nothing was lost."""

    line: str
    at: float


class Down(NamedTuple):
    """A connection ended before it had a successor: events since then may be missing."""

    line: str
    why: str


class Failed(NamedTuple):
    """An error that ends the ingest."""

    error: Exception


def decoded(text: str | bytes) -> dict[str, Any]:
    """A JSON object that can be written again; anything else is an empty one.

    >>> decoded('{"a": [1]}'), decoded("[]"), decoded('{"a": ' + "[" * 300 + "]" * 300 + "}"), decoded("[" * 100_000)
    ({'a': [1]}, {}, {}, {})
    """
    try:
        message = decode_json(text.encode() if isinstance(text, str) else text)
        orjson.dumps(message)  # it writes 254 levels, and reads more
    except (ValueError, TypeError):
        return {}
    return message if isinstance(message, dict) else {}


log = logging.getLogger(__name__)

PING_EVERY = 5.0
"""Seconds between two pings; all that Slack sent before an answered ping was received."""
PING_PATIENCE = 20.0
"""Seconds until an unanswered ping counts as a broken connection."""
HELLO_PATIENCE = 10.0
"""Seconds to wait for the hello of a new connection."""
DRAIN = 60.0
"""Seconds for which an old connection is read beside its successor."""
TICK = 0.1
QUEUED = 64
"""Messages after an answered ping until all before it are surely read: more than the library buffers."""


class _Connection:
    """One WebSocket, read by a thread of its own."""

    def __init__(self, url: str, line: str, put: Put, outbound: Outbound) -> None:
        """Connect, and wait for Slack's hello. Raises AddressRefused, OSError, WebSocketException, TimeoutError, or ValueError."""
        self.asked_at = clock.now()
        self.goodbye = threading.Event()
        """Set when Slack announces the end of the connection."""
        self.ended = threading.Event()
        self.why = ""
        self.good = self.asked_at
        """All that Slack sent before this time (seconds since 1970) was passed to `put`."""
        self._line = line
        self._put = put
        # With a socket that is open already, redirects are not followed but raise ValueError.
        sock = outbound.open_socket(url, HELLO_PATIENCE)
        opened = connect(
            url, sock=sock, open_timeout=HELLO_PATIENCE, close_timeout=1, ping_interval=None, max_size=None, logger=silent("websockets")
        )
        self._stack = ExitStack()
        self._ws: ClientConnection = self._stack.enter_context(opened)
        try:
            hello = self._hello()
        except BaseException:
            self._stack.close()
            raise
        self.connections = int(hello.get("num_connections") or 1)
        self._thread = threading.Thread(target=self._read, name=f"slack-{line}", daemon=True)

    def read(self) -> None:
        """Start passing events to `put`; call it after `Up` or `Changed` was put, so that events follow it."""
        self._thread.start()

    def close(self) -> None:
        """Close the connection; Slack sends unread events again, since they were not acknowledged."""
        with suppress(Exception):
            self._stack.close()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(3)

    def _hello(self) -> dict[str, Any]:
        deadline = time.monotonic() + HELLO_PATIENCE
        while True:
            message = decoded(self._ws.recv(timeout=max(deadline - time.monotonic(), 0.01)))
            if message.get("type") == "hello":
                return message
            if message.get("type") == "disconnect":
                raise ConnectionError(f"it was refused: {message.get('reason')}")

    def _read(self) -> None:
        answered: threading.Event | None = None
        pinged, left = 0.0, 0
        try:
            while True:
                now = clock.now()
                if answered is None and now - pinged >= PING_EVERY:
                    answered, pinged, left = self._ws.ping(), now, QUEUED
                elif answered is not None and not answered.is_set() and not 0 <= now - pinged <= clock.passing(PING_PATIENCE):
                    raise TimeoutError(f"a ping was not answered within {PING_PATIENCE:.0f} seconds")
                was_answered = answered is not None and answered.is_set()
                try:
                    text = self._ws.recv(timeout=TICK if not was_answered else 0)
                except TimeoutError:
                    left = 0 if was_answered else left  # a pause before the answer does not show that all before it was read
                else:
                    left -= was_answered
                    self._take(decoded(text))
                if was_answered and left <= 0:  # all that came before the answer is read
                    self.good, answered = pinged, None
        except ConnectionClosed as closed:
            received = closed.rcvd
            self.why = f"Slack closed it ({received.code})" if received is not None else "it broke"
        except (OSError, WebSocketException) as error:
            self.why = str(error) or type(error).__name__
        except Exception as error:
            self._put(Failed(error))
        finally:
            self.ended.set()
            with suppress(Exception):
                self._ws.close()

    def _take(self, message: dict[str, Any]) -> None:
        kind, name = message.get("type"), message.get("envelope_id")
        if kind == "disconnect":
            if message.get("reason") == "link_disabled":
                self._put(Failed(SlackFailed("Socket Mode was turned off for the app: turn it on in its settings")))
            self.goodbye.set()
        elif isinstance(name, str) and isinstance(message.get("payload"), dict):
            retry = message.get("retry_attempt")
            self._put(
                Arrival(
                    self._line,
                    str(kind),
                    message["payload"],
                    name,
                    retry if isinstance(retry, int) else 0,
                    clock.now(),
                    lambda: self._acknowledge(name),
                )
            )

    def _acknowledge(self, name: str) -> None:
        """Acknowledge an envelope; if the connection has ended, Slack sends it again."""
        with suppress(OSError, WebSocketException):
            self._ws.send(json.dumps({"envelope_id": name}))


class SocketLine:
    """Keeps one connection open: when Slack announces its end, the successor is opened first."""

    def __init__(self, name: str, web: Web, put: Put) -> None:
        """`web` calls with the app's token. `put` gets the signals, from several threads."""
        self.name = name
        self._web = web
        self._put = put
        self._current: _Connection | None = None
        self._draining: list[tuple[_Connection, float]] = []
        self._drop = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"slack-line-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread that keeps the connection open."""
        self._thread.start()

    def close(self) -> None:
        """Close the connection and end the thread."""
        self._closing.set()
        self._thread.join(5)

    def drop(self) -> None:
        """Replace the connection."""
        self._drop.set()

    @property
    def good_until(self) -> float | None:
        """All that Slack sent over this connection before this time (seconds since 1970) was put; None while not connected."""
        current, draining = self._current, list(self._draining)
        if current is None or current.ended.is_set():
            return None
        return min([current.good, *(each.good for each, _ in draining if not each.ended.is_set())])

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._turn()
        except CallStopped:
            pass
        except Exception as error:
            self._put(Failed(error))
        finally:
            for each in [self._current, *(old for old, _ in self._draining)]:
                if each is not None:
                    each.close()

    def _turn(self) -> None:
        current = self._current
        if current is None:
            self._drop.clear()
            self._current = current = self._open()
            if current is not None:
                self._put(Up(self.name, current.asked_at, current.connections))
                current.read()
            return
        self._drain()
        if self._drop.is_set():
            self._current = None
            self._put(Down(self.name, "nothing came over it"))
            current.close()
        elif current.ended.is_set():
            self._current = None
            self._put(Down(self.name, current.why))
        elif current.goodbye.is_set():
            successor = self._open()
            if successor is None:
                return
            if current.ended.is_set():
                self._put(Down(self.name, current.why))
                self._current = successor
                self._put(Up(self.name, successor.asked_at, successor.connections))
            else:
                self._draining.append((current, time.monotonic() + DRAIN))
                self._current = successor
                self._put(Changed(self.name, successor.asked_at))
            successor.read()
        else:
            current.ended.wait(TICK)

    def _drain(self) -> None:
        """Close old connections at their end. One that Slack did not close may have lost events: it is reported as an outage."""
        for old, until in list(self._draining):
            if old.ended.is_set() or time.monotonic() > until:
                broke = not old.why.startswith("Slack closed")  # events on their way to it come late, or are lost
                self._draining.remove((old, until))
                old.close()
                if broke:
                    self._put(Down(self.name, f"an old connection: {old.why or 'it was not closed'}"))
                    if self._current is not None:
                        self._put(Up(self.name, self._current.asked_at, self._current.connections))

    def _open(self) -> _Connection | None:
        """Open a connection, and retry until it works; None when this is closed."""
        tries = 0
        while not self._closing.is_set():
            try:
                return _Connection(str(self._web.ask(OPEN)["url"]), self.name, self._put, self._web.outbound)
            except (OSError, WebSocketException, SlackRefused, KeyError, ValueError) as error:
                log.warning(
                    "a connection to Slack could not be opened", extra={"line": self.name, "why": f"{type(error).__name__}: {error}"}
                )
            self._closing.wait(BACKOFF[min(tries, len(BACKOFF) - 1)])
            tries += 1
        return None
