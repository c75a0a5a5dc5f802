"""Records of a topic as rows for sorting by event time, and the sorted rows without duplicates."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import orjson

from beepgpt.conversations.account import Account
from beepgpt.conversations.events import REACT, Event, Heartbeat, Ignored
from beepgpt.conversations.record_order import TimedRecord, timed_record
from beepgpt.conversations.reorder import DUPLICATES_KEPT

SortedRow = tuple[int, bytes, bytes, bytes]
"""Time, rank among rows of the same time, record, and a note: the `TimedRecord`'s other fields and the names of its event, as JSON."""


def sort_row(record: bytes, place: str, parsed: Event | Ignored | Heartbeat, written: int) -> SortedRow:
    """The row of a record; `written`: its timestamp, which stands in for a missing event time."""
    item = timed_record(record, place, parsed)
    rank = b"\0"
    names = [f"heartbeat {item.t}"]
    if isinstance(parsed, Event):
        rank = b"%c%s%s\0%s\0%d" % (
            *(1 + parsed.kind, parsed.ts.to_bytes(8, "big")),
            *(parsed.user.encode(), parsed.reaction.encode(), parsed.removed),
        )
        what = [parsed.channel, parsed.kind, parsed.ts, parsed.t]
        if parsed.kind == REACT:
            what += [parsed.user, parsed.reaction, parsed.removed]
        names = [repr(what)]
        if parsed.event_id:
            names.append(repr([parsed.channel, parsed.event_id]))
    elif isinstance(parsed, Ignored):
        rank = b"\x09"
        names = [f"ignored {item.t} {blake2b(record, digest_size=16).hexdigest()}"]
    t = written if item.t is None else item.t
    return t, rank, record, orjson.dumps([place, item.t, item.channel, item.latest, item.is_heartbeat, names])


def without_duplicates(rows: Iterable[SortedRow], lateness: int, account: Account) -> Iterator[TimedRecord]:
    """The first record of each event. Duplicates are recognised by the same rules as in the flow, and over the same time."""
    seen: set[str] = set()
    kept: deque[tuple[int, str]] = deque()
    for t, _, record, note in rows:
        place, own_t, channel, latest, is_heartbeat, names = orjson.loads(note)
        while kept and kept[0][0] < t - lateness - DUPLICATES_KEPT:
            seen.discard(kept.popleft()[1])
        if not seen.isdisjoint(names):
            account.count("copies")
            continue
        seen.update(names)
        kept.extend((t, name) for name in names)
        yield TimedRecord(record, place, own_t, channel, latest, is_heartbeat)
