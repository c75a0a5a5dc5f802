"""What a connection to Slack reports: events, and its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

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
    """A line is connected after an outage, or for the first time."""

    line: str
    at: float
    """When the connection was requested, seconds since 1970: earlier events did not come here."""
    connections: int
    """Connections of the app, by Slack's count."""


class Changed(NamedTuple):
    """A line has a new connection, which was ready before the old one ended: nothing was lost."""

    line: str
    at: float


class Down(NamedTuple):
    """A line's connection ended before it had a successor: events since then may be missing."""

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
        message = orjson.loads(text)
        orjson.dumps(message)  # it writes 254 levels, and reads more
    except (ValueError, TypeError):
        return {}
    return message if isinstance(message, dict) else {}
