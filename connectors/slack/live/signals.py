"""What a connection to Slack reports: events, and whether it is up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

Put = Callable[[Any], None]


class Arrival(NamedTuple):
    """Something that Slack sent, and wants to have acknowledged."""

    line: str
    kind: str
    """`events_api`, `interactive`, `slash_commands`."""
    payload: dict[str, Any]
    name: str
    """Of its envelope."""
    retry: int
    """How often Slack has tried before; 0 at the first time."""
    at: float
    """When our side first saw it, seconds since 1970."""
    acknowledge: Callable[[], None]


class Up(NamedTuple):
    """A line is connected, after it was not."""

    line: str
    at: float
    """When it was asked for, seconds: what Slack sent before went elsewhere."""
    connections: int
    """How many the app has now, by Slack's count."""


class Changed(NamedTuple):
    """A line has a new connection, which said hello before the old one ended: nothing went between them."""

    line: str
    at: float


class Down(NamedTuple):
    """A line's connection ended before it had a successor: what Slack sent since may not have come."""

    line: str
    why: str


class Failed(NamedTuple):
    """It can't go on."""

    error: Exception


def decoded(text: str | bytes) -> dict[str, Any]:
    """A frame's JSON object; anything else is nothing."""
    try:
        message = json.loads(text)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
