"""Records on their way to a topic of events: in which order, under which key, in which partition, and which are there already.

Plain functions over records. A record's number in the order of all goes with it in a header, so that the topic itself tells how far
an ingest came.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from heapq import merge
from operator import itemgetter
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from beepgpt.conversations.account import Account
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import ONE_DAY, REACT, Event, Heartbeat, Ignored, Parsed, parse, ts_text
from beepgpt.conversations.reorder import DUPLICATES_KEPT

VERSION = 1
"""Raised when the same source would be written in another order, or to other partitions: what an older version began can't be finished."""
HEADER = "beepgpt-ingest"
_NUMBER = re.compile(rb"([0-9a-f]{12}):([0-9]+)(?::([0-9]+))?")
"""Which run, the number in it, and of a heartbeat that was added its time, microseconds."""

TopicMessage = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]], int | None, int | None]
"""Key, value, headers, partition, timestamp (microseconds)."""
SortedRow = tuple[int, bytes, bytes, bytes]
"""What is sorted: time, rank among those of one time, record, and what else is known of it."""


class Item(NamedTuple):
    """A record that is to be written."""

    record: bytes
    place: str
    """Where it stands in the source, in the words of a message."""
    t: int | None
    """Event time, or a heartbeat's, microseconds; None: it has none that can be read."""
    channel: str | None
    latest: int | None
    """The latest of the times that a reader holds against the record's timestamp."""
    is_heartbeat: bool


def item_of(record: bytes, place: str, parsed: Parsed | None = None) -> Item:
    """A record, with what its key, partition and timestamp are made from.

    What claims to be from the future has its key here all the same: where a record goes must not depend on the time of the ingest.

    >>> item_of(b'{"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1690360253.041239"}', "events.jsonl:1")[2:]
    (1690360253041239, 'C1', 1690360253041239, False)
    >>> item_of(b"oops", "events.jsonl:2")[2:]
    (None, None, None, False)
    """
    parsed = parse(record, FOREVER, bots="context") if parsed is None else parsed
    if isinstance(parsed, Event):
        return Item(record, place, parsed.t, parsed.channel, max(parsed.t, parsed.ts), False)
    if isinstance(parsed, Ignored):
        return Item(record, place, parsed.t, parsed.channel, parsed.t, False)
    if isinstance(parsed, Heartbeat):
        return Item(record, place, parsed.at, None, parsed.at, True)
    return Item(record, place, None, None, None, False)


# The order


def in_order(channels: Iterable[Iterable[Item]]) -> Iterator[Item]:
    """Several channels as one order of time, in which each channel keeps its own; an item without a time stays behind the one before it.

    >>> ana, bo = (Item(b"", name, t, None, t, False) for name, t in (("ana", 2), ("bo", 1)))
    >>> [item.place for item in in_order([[ana], [bo, bo._replace(place="bo, no time", t=None)]])]
    ['bo', 'bo, no time', 'ana']
    """
    return (item for _, item in merge(*map(_timed, channels), key=itemgetter(0)))


def _timed(items: Iterable[Item]) -> Iterator[tuple[int, Item]]:
    t = 0
    for item in items:
        t = t if item.t is None else item.t
        yield t, item


def row_of(record: bytes, place: str, parsed: Event | Ignored | Heartbeat, written: int) -> SortedRow:
    """A record to be sorted; one without a time of its own stands where it was `written`."""
    item = item_of(record, place, parsed)
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


def without_copies(rows: Iterable[SortedRow], lateness: int, account: Account) -> Iterator[Item]:
    """Sorted rows as items, the first of each event only: copies are known as the flow knows them, and for as long."""
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
        yield Item(record, place, own_t, channel, latest, is_heartbeat)


@dataclass
class Span:
    """What is still to be written, looked at beforehand."""

    first: int = 0
    """Event time, microseconds: the end of what is there already, in whichever partition; or the beginning of all."""
    last: int = 0
    """The end of what is missing."""
    items: int = 0
    in_order: bool = True
    """Whether a heartbeat at the time reached would make nothing late that isn't late in its own channel."""


def span_of(items: Iterable[Item], plan: WritePlan, lateness: int) -> Span:
    """What of the items is to be written: from when to when, and whether in one order of time."""
    span = Span()
    clocks: dict[str, int] = {}
    reached = 0
    newest = max(plan.there.values(), default=-1)
    for seq, item in enumerate(items):
        t = plan.due(item)
        if t is not None:
            own = clocks.get(item.channel or "", 0)
            if item.channel is not None and reached - t > lateness >= own - t:
                span.in_order = False
            clocks[item.channel or ""] = max(own, t)
            reached = max(reached, t)
        if seq <= newest or not span.first:
            span.first = reached
        if plan.missing(item, seq):
            span.items += 1
            span.last = reached
    return span


def next_beat(after: int, step: int) -> int:
    """The first heartbeat after a time: they stand at multiples of the step, whatever the events and however often a run is begun.

    >>> next_beat(90, 60), next_beat(120, 60)
    (120, 180)
    """
    return (after // step + 1) * step


# Where to


def run_of(source: Mapping[str, Any], partitions: int) -> str:
    """A name for all that decides which record has which number and partition.

    >>> run_of({"kind": "file", "size": 3}, 12)
    '57031f4f585f'
    """
    return sha256(orjson.dumps([VERSION, partitions, source], option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


@dataclass(frozen=True)
class WritePlan:
    """How one run is written."""

    run: str
    partitions: int
    partition_of: Callable[[bytes, int], int]
    """A key's, of so many."""
    now: int
    """When this start was made, microseconds: what has no usable time is stamped with it."""
    there: Mapping[int, int] = field(default_factory=dict)
    """The number of the last record that each partition has of this run; -1: none."""
    beats: Mapping[int, int] = field(default_factory=dict)
    """The time of the last heartbeat that was added to each partition, where one stands near its end."""

    def where(self, item: Item) -> Sequence[int]:
        """Partitions that the item belongs in: its channel's; a heartbeat in all."""
        if item.is_heartbeat:
            return range(self.partitions)
        if item.channel is not None:
            return (self.partition_of(item.channel.encode(), self.partitions),)
        return (crc32(item.record) % self.partitions,)

    def missing(self, item: Item, seq: int) -> list[int]:
        """Those that don't have it yet."""
        return [each for each in self.where(item) if seq > self.there.get(each, -1)]

    def due(self, item: Item) -> int | None:
        """The time at which a run at a pace writes it; None: at once, as what claims to be from the future."""
        return item.t if item.t is not None and item.t <= self.now + ONE_DAY else None

    def messages(self, item: Item, seq: int, partitions: Iterable[int]) -> list[TopicMessage]:
        """The item for each of these partitions, stamped with its event time.

        A reader takes a time of up to a day after the stamp: what is rejected today for its time must be rejected by every reader.
        """
        key = None if item.channel is None else item.channel.encode()
        stamp = self.now if item.latest is None else min(item.latest, self.now)
        header = ((HEADER, b"%s:%d" % (self.run.encode(), seq)),)
        return [(key, item.record, header, each, stamp) for each in partitions]

    def heartbeats(self, at: int, seq: int, partitions: Iterable[int]) -> list[TopicMessage]:
        """For each of these partitions: all before `at` is there. `seq` is the last number that was written, or passed over."""
        record = b'{"type":"heartbeat","at":"%s"}' % ts_text(at).encode()
        header = ((HEADER, b"%s:%d:%d" % (self.run.encode(), seq, at)),)
        return [(None, record, header, each, min(at, self.now)) for each in partitions]


# What is there


RecordHeaders = Sequence[tuple[str, bytes]]


@dataclass
class Found:
    """What a topic's partitions end with."""

    there: dict[int, int] = field(default_factory=dict)
    """The number of the last record of this run, in each partition; -1: none."""
    beats: dict[int, int] = field(default_factory=dict)
    """The time of the last heartbeat that this run added, in each partition that has one near its end."""
    others: list[int] = field(default_factory=list)
    """Partitions that end with others' records."""
    unclear: list[int] = field(default_factory=list)
    """Those of which too many are others' to tell whether any of this run stand before them."""

    @property
    def is_begun(self) -> bool:
        """Whether any record of this run is there."""
        return any(seq >= 0 for seq in self.there.values())


def found_in(tails: Mapping[int, tuple[Sequence[RecordHeaders], bool]], run: str) -> Found:
    """What the ends of a topic's partitions tell: headers of their last records, oldest first, and whether those are all there are.

    >>> ours = [("beepgpt-ingest", b"0123456789ab:7")]
    >>> found_in({0: ([ours], False), 1: ([ours, []], False), 2: ([], True)}, "0123456789ab")
    Found(there={0: 7, 1: 7, 2: -1}, beats={}, others=[1], unclear=[])
    """
    found = Found()
    for partition, (records, is_all) in tails.items():
        places = [place_in(headers, run) for headers in records]
        found.there[partition] = max((each[0] for each in places if each is not None), default=-1)
        if beats := [each[1] for each in places if each is not None and each[1]]:
            found.beats[partition] = max(beats)
        if places and places[-1] is None:
            found.others.append(partition)
        if found.there[partition] < 0 and not is_all:
            found.unclear.append(partition)
    return found


def place_in(headers: RecordHeaders, run: str) -> tuple[int, int] | None:
    """The number that a record has in this run, and of a heartbeat that was added its time, else 0; None if it is not of this run.

    >>> place_in([("beepgpt-ingest", b"0123456789ab:7:1690360260000000")], "0123456789ab")
    (7, 1690360260000000)
    """
    for name, value in headers:
        if name == HEADER and (match := _NUMBER.fullmatch(value)) and match[1] == run.encode():
            return int(match[2]), int(match[3] or 0)
    return None


# The account

ENDS = ("written", "there", "copies", "letters_of_unusable", "elsewhere", "waiting")
"""What becomes of a record that can be used; a heartbeat counts once, though it is written to every partition."""


def check(account: Account) -> list[str]:
    """What doesn't add up, in words; `waiting` is not 0 only where a run was stopped."""
    found = accounted(account)
    return [] if found == account["read"] else [f"{account['read']:,} records read, but {found:,} accounted for"]


def accounted(account: Account) -> int:
    """How many of the records that were read are known to have gone somewhere, or nowhere."""
    return sum(account[each] for each in ENDS) + sum(account.by_reason("unusable").values())


def as_json(account: Account) -> dict[str, Any]:
    """The account as a report writes it."""
    return {
        **{each: account[each] for each in ("read", *ENDS)},
        "unusable": account.by_reason("unusable"),
        "heartbeats_added": account["heartbeats_added"],
        "adds_up": not check(account),
    }
