"""Records in the order of their event time: several channels merged into one order, and where heartbeats may stand in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from operator import itemgetter
from typing import NamedTuple

from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import ONE_DAY, Event, Heartbeat, Ignored, Parsed, parse, ts_text


class TimedRecord(NamedTuple):
    """A record of a source, with its event time and channel."""

    record: bytes
    place: str
    """Where it stands in the source, for messages."""
    t: int | None
    """Event time, or a heartbeat's, in microseconds; None: it has none that can be read."""
    channel: str | None
    latest: int | None
    """The latest of the times that a reader compares with the record's timestamp."""
    is_heartbeat: bool


def timed_record(record: bytes, place: str, parsed: Parsed | None = None) -> TimedRecord:
    """Parse a record as far as its key, partition and timestamp need it; what a message said before a change is not in it any more.

    Records that claim to be from the future have their channel here, too: where a record goes must not depend on the time of the ingest.

    >>> timed_record(b'{"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1690360253.041239"}', "events.jsonl:1")[2:]
    (1690360253041239, 'C1', 1690360253041239, False)
    >>> timed_record(b"oops", "events.jsonl:2")[2:]
    (None, None, None, False)
    """
    parsed = parse(record, FOREVER, bots="context") if parsed is None else parsed
    if isinstance(parsed, Event):
        return TimedRecord(parsed.record, place, parsed.t, parsed.channel, max(parsed.t, parsed.ts), False)
    if isinstance(parsed, Ignored):
        return TimedRecord(parsed.record, place, parsed.t, parsed.channel, parsed.t, False)
    if isinstance(parsed, Heartbeat):
        return TimedRecord(record, place, parsed.at, None, parsed.at, True)
    return TimedRecord(record, place, None, None, None, False)


def due_time(item: TimedRecord, now: int) -> int | None:
    """The event time at which a paced run emits a record; None: at once, for records without a time or from the future."""
    return item.t if item.t is not None and item.t <= now + ONE_DAY else None


def merge_by_time(channels: Iterable[Iterable[TimedRecord]]) -> Iterator[TimedRecord]:
    """Merge channels by event time. Each channel keeps its own order; a record without a time stays behind the one before it.

    >>> ana, bo = (TimedRecord(b"", name, t, None, t, False) for name, t in (("ana", 2), ("bo", 1)))
    >>> [item.place for item in merge_by_time([[ana], [bo, bo._replace(place="bo, no time", t=None)]])]
    ['bo', 'bo, no time', 'ana']
    """
    return (item for _, item in merge(*map(_with_time, channels), key=itemgetter(0)))


def _with_time(items: Iterable[TimedRecord]) -> Iterator[tuple[int, TimedRecord]]:
    t = 0
    for item in items:
        t = t if item.t is None else item.t
        yield t, item


@dataclass
class Span:
    """The records of a source that are still missing on the topic: how many, from when to when."""

    first: int = 0
    """Event time in microseconds: the end of what is there already, in any partition; else the beginning of the source."""
    last: int = 0
    """Event time of the last missing record."""
    items: int = 0
    in_order: bool = True
    """Whether heartbeats at the time reached make nothing late that isn't late in its own channel."""


def _all_are_missing(item: TimedRecord, seq: int) -> bool:
    return True


def span_of(
    items: Iterable[TimedRecord],
    now: int,
    lateness: int,
    *,
    is_missing: Callable[[TimedRecord, int], bool] = _all_are_missing,
    newest: int = -1,
) -> Span:
    """Find the span of the missing records, and whether all are in one order of time.

    `is_missing` is called with a record and its number; `newest` is the greatest number that any partition has.
    """
    span = Span()
    clocks: dict[str, int] = {}
    reached = 0
    for seq, item in enumerate(items):
        t = due_time(item, now)
        if t is not None:
            own = clocks.get(item.channel or "", 0)
            if item.channel is not None and reached - t > lateness >= own - t:
                span.in_order = False
            clocks[item.channel or ""] = max(own, t)
            reached = max(reached, t)
        if seq <= newest or not span.first:
            span.first = reached
        if is_missing(item, seq):
            span.items += 1
            span.last = reached
    return span


def heartbeat_record(at: int, retained_since: int = 0, unchecked_since: int | None = None) -> bytes:
    """The record of a heartbeat: everything before `at` (microseconds) has been read.

    `retained_since`: messages from before this time were deleted by a retention; only who applies it reads that.
    `unchecked_since`: edits and deletions of replies since then may be missing; only who looks for them reads that.

    >>> heartbeat_record(1690360260000000)
    b'{"type":"heartbeat","at":"1690360260.000000"}'
    """
    since = b',"retained_since":"%s"' % ts_text(retained_since).encode() if retained_since else b""
    unchecked = b',"unchecked_since":"%s"' % ts_text(unchecked_since).encode() if unchecked_since is not None else b""
    return b'{"type":"heartbeat","at":"%s"%s%s}' % (ts_text(at).encode(), since, unchecked)


def next_heartbeat(after: int, step: int) -> int:
    """The first heartbeat after a time: at multiples of the step, independent of the events and of where a run starts.

    >>> next_heartbeat(90, 60), next_heartbeat(120, 60)
    (120, 180)
    """
    return (after // step + 1) * step
