"""Slack's payloads as records of the topic: what is kept of them, and what is added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from beepgpt.conversations.events import micros, ts_text


def without_token(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload without its verification token, a secret that nobody needs."""
    return {name: value for name, value in payload.items() if name != "token"}


def record_of(payload: Mapping[str, Any], received_at: int) -> bytes:
    """The record of a callback as Slack sent it, with the time (microseconds) at which it was received."""
    return orjson.dumps(without_token(payload) | {"received_at": ts_text(received_at)})


def backfilled_record(event: Mapping[str, Any], team: str, received_at: int) -> bytes:
    """The record of an event from a channel's history, which has no event id."""
    return orjson.dumps({"type": "event_callback", "team_id": team, "event": event, "filled": True, "received_at": ts_text(received_at)})


def heartbeat_in(value: bytes | None) -> int | None:
    """The time of a heartbeat in microseconds; None for any other record."""
    if value is None or len(value) > 200 or b'"heartbeat"' not in value:
        return None
    try:
        body = orjson.loads(value)
        return micros(body["at"]) if body.get("type") == "heartbeat" else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def user_of(payload: Mapping[str, Any]) -> str:
    """The id of the person who used the app; empty if there is none."""
    user = payload.get("user")
    named = user.get("id") if isinstance(user, dict) else user
    return named if isinstance(named, str) else ""
