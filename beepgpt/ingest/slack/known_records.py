"""What stands on a topic already, so that what comes again is known, and what is missing in a gap can be told from what is not.

A live event and the same message in a channel's history have different forms and only one of them an `event_id`. What they have in
common is what they are about: the channel, the message, the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from beepgpt.conversations.events import DELETE, EDIT, POST, REACT, Event, Ignored, micros, parse
from beepgpt.conversations.export import NEVER, events_of
from beepgpt.conversations.rules import SECOND

RecordKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class RecordIdentity:
    """What a record is known by."""

    t: int
    """When it happened, microseconds."""
    channel: str | None
    event_id: str
    key: RecordKey | None
    """What it is about; None for what no history tells of."""
    edited: int | None
    """The message that it edits."""
    thread: int | None
    """The root that it replies to."""


def facts_of(record: bytes, now: int) -> RecordIdentity:
    """Of a record as it stands on a topic, which came at that time.

    >>> said = b'{"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1690360253.041239"}'
    >>> facts_of(said, now=1690360254000000).key
    ('C1', 0, 1690360253041239)
    """
    parsed = parse(record, now, bots="context")
    if isinstance(parsed, Event):
        key: RecordKey = (parsed.channel, parsed.kind, parsed.ts)
        if parsed.kind == EDIT:
            key = (*key, parsed.t)
        elif parsed.kind == REACT:
            key = (*key, parsed.t, parsed.user, parsed.reaction, parsed.removed)
        edited = parsed.ts if parsed.kind == EDIT else None
        return RecordIdentity(parsed.t, parsed.channel, parsed.event_id, key, edited, parsed.thread_ts)
    event_id = _id_of(record)
    if isinstance(parsed, Ignored) and parsed.channel is not None and parsed.t is not None:
        is_message = parsed.reason in ("bot", "no_author") or parsed.reason.startswith("subtype:")
        return RecordIdentity(parsed.t, parsed.channel, event_id, (parsed.channel, POST, parsed.t) if is_message else None, None, None)
    return RecordIdentity(now, getattr(parsed, "channel", None), event_id, None, None, None)


def _id_of(record: bytes) -> str:
    try:
        event_id = orjson.loads(record)["event_id"]
    except (ValueError, KeyError, TypeError):
        return ""
    return event_id if isinstance(event_id, str) else ""


@dataclass(frozen=True)
class Missing:
    """What a channel's history has and a topic has not."""

    events: list[tuple[int, dict[str, Any]]]
    """Time and inner event, in order of time: posts, and edits at the end of their second."""
    untimed: int
    """Reactions in there: whether and when they came in the gap nobody can know."""
    vanished: int
    """Messages on the topic that the history has no longer: deleted, at a time that nobody can know."""
    unreadable: int
    """Messages without a time that can be read."""


class KnownRecords:
    """What stands on a topic, as far back as it matters.

    >>> known = KnownRecords()
    >>> said = b'{"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1690360253.041239"}'
    >>> known.add(facts_of(said, now=1690360254000000))
    >>> facts_of(said, now=1690360254000000) in known
    True
    >>> told = [("hi", "1690360253.041239"), ("so", "1690360255.000100")]
    >>> stored = [{"type": "message", "user": "U1", "text": text, "ts": ts} for text, ts in told]
    >>> [event["text"] for _, event in known.missing("C1", stored, since=0).events]
    ['so']
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._keys: set[RecordKey] = set()
        self._edited: dict[tuple[str, int], int] = {}
        """Of a message: its last edit."""
        self._posts: dict[str, set[int]] = {}
        """Of a channel: its messages that are not deleted."""
        self._order: deque[RecordIdentity] = deque()
        self._newest: dict[str, int] = {}
        self._threads: dict[str, dict[int, int]] = {}
        """Of a channel: the threads that were replied to, and when."""

    def __contains__(self, facts: RecordIdentity) -> bool:
        if facts.event_id and facts.event_id in self._ids:
            return True
        if facts.key is None or facts.edited is None:
            return facts.key in self._keys
        end_of_second = facts.t // SECOND * SECOND + SECOND - 1  # which an edit that was filled in has
        return facts.key in self._keys or (*facts.key[:3], end_of_second) in self._keys

    def __len__(self) -> int:
        return len(self._order)

    def add(self, facts: RecordIdentity) -> None:
        """It stands on the topic, or will before anything that comes after it."""
        self._order.append(facts)
        if facts.event_id:
            self._ids.add(facts.event_id)
        if facts.key is not None:
            self._keys.add(facts.key)
        if facts.channel is None:
            return
        if facts.key is not None and facts.key[1] in (POST, DELETE):
            posts, ts = self._posts.setdefault(facts.channel, set()), facts.key[2]
            assert isinstance(ts, int)
            (posts.add if facts.key[1] == POST else posts.discard)(ts)
        self._newest[facts.channel] = max(self._newest.get(facts.channel, 0), facts.t)
        if facts.edited is not None:
            message = (facts.channel, facts.edited)
            self._edited[message] = max(self._edited.get(message, 0), facts.t)
        if facts.thread is not None:
            threads = self._threads.setdefault(facts.channel, {})
            threads[facts.thread] = max(threads.get(facts.thread, 0), facts.t)

    def forget_before(self, t: int) -> None:
        """What happened before this time is not asked for any more."""
        while self._order and self._order[0].t < t:
            facts = self._order.popleft()
            self._ids.discard(facts.event_id)
            if facts.key is not None:
                self._keys.discard(facts.key)
            if facts.channel is not None and facts.edited is not None:
                message = (facts.channel, facts.edited)
                if self._edited.get(message, t) < t:
                    del self._edited[message]
            if facts.channel is not None and facts.key is not None:
                self._posts.get(facts.channel, set()).discard(facts.t)
        for threads in self._threads.values():
            for root in [root for root, last in threads.items() if last < t]:
                del threads[root]

    def newest(self, channel: str | None = None) -> int | None:
        """The time of the channel's newest event, or of all channels'."""
        return self._newest.get(channel) if channel is not None else max(self._newest.values(), default=None)

    def threads(self, channel: str, since: int) -> list[int]:
        """Roots of threads that were replied to since then."""
        return [root for root, last in self._threads.get(channel, {}).items() if last >= since]

    def channels(self, since: int) -> list[str]:
        """Those in which something happened since then."""
        return [channel for channel, newest in self._newest.items() if newest >= since]

    def missing(
        self, channel: str, stored: Iterable[Any], since: int, whole_since: int | None = None, waiting: Collection[int] = ()
    ) -> Missing:
        """What of a channel's history happened since then, and is not known; messages that are known and gone, of `whole_since` on.

        `waiting`: times of those that came while the history was read, and may be newer than it.

        A live edit has a time of its own, a stored one the second in which it was made: one that is known from within that second,
        or later, is the same or a newer one.
        """
        events: list[tuple[int, int, dict[str, Any]]] = []
        untimed = unreadable = 0
        there: set[int] = set()
        for message in stored:
            for t, kind, event in events_of(channel, message):
                if t == NEVER:
                    unreadable += 1
                elif kind == REACT:
                    untimed += t >= since
                elif kind == POST:
                    if event.get("subtype") != "tombstone":
                        there.add(t)
                    if t >= since and (channel, POST, t) not in self._keys:
                        events.append((t, kind, event))
                elif t >= since and self._edited.get((channel, _message_of(event)), 0) < t // SECOND * SECOND:
                    events.append((t, kind, event))
        earliest = since if whole_since is None else whole_since
        vanished = sum(ts >= earliest and ts not in there and ts not in waiting for ts in self._posts.get(channel, ()))
        events.sort(key=lambda each: each[:2])
        return Missing([(t, event) for t, _, event in events], untimed, vanished, unreadable)


def _message_of(event: dict[str, Any]) -> int:
    return micros(event["message"]["ts"])
