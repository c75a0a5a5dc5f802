"""What stands on the topic of `beepgpt ingest slack`, and how it is written there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from beepgpt.connectors import kafka
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.rules import HOUR
from beepgpt.ingest.slack.known_records import KnownRecords, facts_of

REMEMBERED = HOUR
"""How long before the last heartbeat copies are known: Slack sends again what was not acknowledged for up to an hour."""
TAILS = (1_000, 50_000)
"""Offsets at the end of each partition in which its last heartbeat is looked for, before all of them."""


@dataclass
class TopicContents:
    """What stands on the topic."""

    known: KnownRecords
    covered: int | None
    """The last heartbeat that every partition has; None: there is none."""
    begins: int = 0
    """When it began empty, if that is not long ago."""


@dataclass(frozen=True)
class Who:
    """The app, as Slack knows it."""

    team: str
    user: str


def remembered(connection: kafka.Connection, topic: kafka.Topic) -> TopicContents:
    """Read from the topic's end: its last heartbeat, and what it holds since an hour before. Without a heartbeat: all of it.

    The last one, not the greatest: a promise that turns out to be wrong is taken back by an earlier time.
    """
    beats: dict[int, int] = {}
    for back in (*TAILS, None):
        beats = {}
        for number, record in kafka.records_of(connection, topic.name, back=back):
            if (at := heartbeat_in(record.value)) is not None:
                beats[number] = at
        if len(beats) == topic.partitions:
            break
    covered = min(beats.values()) if len(beats) == topic.partitions else None
    known, begins = KnownRecords(), 0
    starts = None if covered is None else kafka.offsets_at(connection, topic.name, covered - REMEMBERED)
    for _, record in kafka.records_of(connection, topic.name, starts=starts):
        if (at := heartbeat_in(record.value)) is not None:
            begins = at if record.offset == 0 else begins
        elif record.value is not None:
            known.add(facts_of(record.value, record.timestamp))
    return TopicContents(known, covered, begins)


def heartbeat_in(value: bytes | None) -> int | None:
    """The time of a heartbeat; None for any other record."""
    if value is None or len(value) > 200 or b'"heartbeat"' not in value:
        return None
    try:
        body = orjson.loads(value)
        return micros(body["at"]) if body.get("type") == "heartbeat" else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def user_of(payload: Mapping[str, Any]) -> str:
    """Who did something with the app."""
    user = payload.get("user")
    named = user.get("id") if isinstance(user, dict) else user
    return named if isinstance(named, str) else ""


def record_of(payload: Mapping[str, Any], received_at: int) -> bytes:
    """A callback as Slack sent it, with the time at which it came; without the verification token, which is a secret that nobody needs."""
    kept = {name: value for name, value in payload.items() if name != "token"}
    return orjson.dumps(kept | {"received_at": ts_text(received_at)})


def filled_record(event: Mapping[str, Any], team: str, received_at: int) -> bytes:
    """An event that was taken from a channel's history: it has no id at Slack."""
    return orjson.dumps({"type": "event_callback", "team_id": team, "event": event, "filled": True, "received_at": ts_text(received_at)})


def now_us() -> int:
    """The machine's time, microseconds."""
    return time.time_ns() // 1000
