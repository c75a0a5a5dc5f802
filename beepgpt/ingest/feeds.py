"""Sources of an ingest (an export, a file, a topic) as records in the order in which they are to be written."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from beepgpt.clock import now_us
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.log import LogSource, Record, chunks_of
from beepgpt.connectors.slack import export as slack_export
from beepgpt.connectors.sqlite.sorting import Sorter
from beepgpt.conversations.account import Account
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import REACT, Event, Heartbeat, Ignored, Parsed, Reject, log_time, parse
from beepgpt.conversations.export import ExportedDay, records_of
from beepgpt.conversations.forgetting import Forgotten, without_forgotten
from beepgpt.conversations.record_order import TimedRecord, merge_by_time, timed_record
from beepgpt.conversations.reorder import DUPLICATES_KEPT

SortedRow = tuple[int, bytes, bytes, bytes]
"""Time, rank among rows of the same time, record, and a note: the `TimedRecord`'s other fields and the names of its event, as JSON."""


def sort_row(record: bytes, place: str, parsed: Event | Ignored | Heartbeat, written: int) -> SortedRow:
    """The row of a record; `written`: its timestamp, which stands in for a missing event time."""
    item = timed_record(record, place, parsed)
    rank = b"\0"
    names = [f"heartbeat {item.t}"]
    if isinstance(parsed, Event):
        rank = b"%c%s%s\0%s\0%d%d" % (
            *(1 + parsed.kind, parsed.ts.to_bytes(8, "big")),
            *(parsed.user.encode(), parsed.reaction.encode(), parsed.removed, parsed.bot),
        )
        what = [parsed.channel, parsed.kind, parsed.ts, parsed.t]
        if parsed.kind == REACT:
            what += [parsed.user, parsed.reaction, parsed.removed]
        names = [repr(what)]
        if parsed.event_id:
            names.append(repr([parsed.channel, parsed.event_id]))
    elif isinstance(parsed, Ignored):
        rank = b"\x09"
        names = [f"ignored {item.t} {blake2b(item.record, digest_size=16).hexdigest()}"]
    t = written if item.t is None else item.t
    return t, rank, item.record, orjson.dumps([place, item.t, item.channel, item.latest, item.is_heartbeat, names])


def without_duplicates(rows: Iterable[SortedRow], lateness: int, account: Account) -> Iterator[TimedRecord]:
    """The first record of each event, and of heartbeats that follow each other the last one, which says what all of them say.

    Duplicates are recognized by the same rules as in the flow, and over the same time.
    """
    seen: set[str] = set()
    kept: deque[tuple[int, str]] = deque()
    heartbeat: TimedRecord | None = None
    for t, _, record, note in rows:
        place, own_t, channel, latest, is_heartbeat, names = orjson.loads(note)
        while kept and kept[0][0] < t - lateness - DUPLICATES_KEPT:
            seen.discard(kept.popleft()[1])
        if not seen.isdisjoint(names):
            account.count("copies")
            continue
        seen.update(names)
        kept.extend((t, name) for name in names)
        item = TimedRecord(record, place, own_t, channel, latest, is_heartbeat)
        if heartbeat is not None and is_heartbeat:
            account.count("copies")
        elif heartbeat is not None:
            yield heartbeat
        heartbeat = item if is_heartbeat else None
        if not is_heartbeat:
            yield item
    if heartbeat is not None:
        yield heartbeat


DIGEST_BYTES = 64 * 2**10
"""Bytes at the beginning and the end of a file that identify it."""
MOST_NAMED = 10
"""Unreadable day files that are named in messages; all of them are counted."""


class Feed(Protocol):
    """A source that can be read repeatedly, always in the same order."""

    identity: dict[str, Any]
    """What identifies the source and its present content."""
    notes: list[str]
    """Messages for the user about it, for the end of the run."""

    @property
    def share(self) -> float:
        """How much of it has been read, 0 to 1."""
        ...

    def prepare(self, account: Account, progress: Callable[[], None]) -> None:
        """Do what has to be done once, before the first record."""

    def items(self, account: Account) -> Iterator[TimedRecord]:
        """Yield all records, and count them in the account."""
        ...


def remembered(record: bytes, forgotten: Forgotten | None, account: Account) -> bytes | None:
    """Count a record as read; returns it without what is forgotten, or None, also counted, if nothing is left of it."""
    account.count("read")
    kept = record if forgotten is None else without_forgotten(record, forgotten)
    if kept is None:
        account.count("forgotten")
    return kept


def _list_of(forgotten: Forgotten | None) -> dict[str, str]:
    """What a list adds to a source's identity: with another list, its records have other numbers."""
    return {} if forgotten is None else {"forgotten": forgotten.digest}


class ExportFeed:
    """An export's channels, merged by event time."""

    def __init__(
        self,
        export: slack_export.Export,
        edits: Literal["known", "final"],
        include: tuple[slack_export.ChannelKind, ...],
        forgotten: Forgotten | None = None,
    ) -> None:
        self.export = export
        self._forgotten = forgotten
        self._edits = edits
        self._days = 0
        self._all_days = sum(len(channel.days) for channel in export.channels)
        self.notes: list[str] = []
        listed = [(channel.id, [(day.place, [copy.stored for copy in day.copies]) for day in channel.days]) for channel in export.channels]
        self.identity: dict[str, Any] = {
            "kind": "export",
            "include": list(include),
            "edits": edits,
            "files": sha256(orjson.dumps(listed)).hexdigest(),
            **_list_of(forgotten),
        }

    @property
    def share(self) -> float:
        return self._days / max(self._all_days, 1)

    def prepare(self, account: Account, progress: Callable[[], None]) -> None:
        """Do nothing."""

    def items(self, account: Account) -> Iterator[TimedRecord]:
        self._days = 0
        self.notes.clear()
        return merge_by_time([self._items_of(channel, account) for channel in self.export.channels])

    def _items_of(self, channel: slack_export.ExportChannel, account: Account) -> Iterator[TimedRecord]:
        days = self._days_of(channel, account)
        with_authors = self._forgotten is not None
        records = records_of(channel.id, days, edits=self._edits, with_authors=with_authors, people=self.export.people)
        for number, record in enumerate(records, 1):
            kept = remembered(record, self._forgotten, account)
            if kept is not None:
                yield timed_record(kept, f"{self.export.path}, record {number:,} of channel {channel.id}")

    def _days_of(self, channel: slack_export.ExportChannel, account: Account) -> Iterator[ExportedDay]:
        for day in slack_export.read_days(self.export, channel):
            self._days += 1
            for reject in day.rejects:  # a file, not a record
                account.count("read")
                account.count(f"unusable:{reject.reason}")
                if len(self.notes) < MOST_NAMED:
                    self.notes.append(f"{reject.place}: not written, as it can't be read ({reject.reason}: {reject.detail})")
            yield day


class FileFeed:
    """A file of events, in its own order."""

    def __init__(self, path: Path, stop: Callable[[], bool], forgotten: Forgotten | None = None) -> None:
        self._path = path
        self._forgotten = forgotten
        self._stop = stop
        self.share = 0.0
        self.notes: list[str] = []
        with path.open("rb") as file:
            head = file.read(DIGEST_BYTES)
            size = path.stat().st_size
            file.seek(max(0, size - DIGEST_BYTES))
            ends = sha256(head + file.read(DIGEST_BYTES)).hexdigest()
            self.identity: dict[str, Any] = {"kind": "file", "size": size, "ends": ends, **_list_of(forgotten)}

    def prepare(self, account: Account, progress: Callable[[], None]) -> None:
        """Do nothing."""

    def items(self, account: Account) -> Iterator[TimedRecord]:
        source = jsonl.JsonlSource(self._path, stopping=self._stop, progress=self._progress)
        partition = source.build_part("read_records", jsonl.PARTITION, None)
        try:
            while True:
                for name, first, lines in partition.next_batch():
                    for number, line in enumerate(lines, first):
                        kept = remembered(line, self._forgotten, account)
                        if kept is not None:
                            yield timed_record(kept, f"{name}, line {number:,}")
        except StopIteration:
            return
        finally:
            partition.close()

    def _progress(self, _count: int, share: float) -> None:
        self.share = share


TopicRole = Literal["source", "dead-letters", "late"]


class TopicReading(NamedTuple):
    """A topic that is read: SOURCE itself, or its dead letters or late events."""

    role: TopicRole
    source: LogSource


class TopicFeed:
    """A topic, and its dead letters, its late events and a history if asked for, in one order of time and without duplicates.

    The topic has a channel from its first event there on, or from when the topic began empty; the history has what was before.
    """

    def __init__(
        self,
        readings: list[TopicReading],
        lateness: int,
        sorter: Sorter,
        forgotten: Forgotten | None = None,
        history: ExportFeed | None = None,
    ) -> None:
        self._readings = readings
        self._history = history
        self._begins = 0
        """When the topic began empty, if its first heartbeat says so."""
        self._since: dict[str, int] = {}
        """When each channel's first event on the topic was."""
        self._forgotten = forgotten
        self._name = readings[0].source.name
        self._id = readings[0].source.topic.id.encode()
        self._bounds = readings[0].source.bounds
        self._lateness = lateness
        self._sorter = sorter
        self._known = sum((end or 0) - start for each in readings for start, end in each.source.bounds.values())
        self._read = 0
        self._passed = 0
        self.notes: list[str] = []
        self.identity: dict[str, Any] = {
            "kind": "topics",
            "lateness": lateness,
            "topics": [[each.role, each.source.topic.id, sorted(each.source.bounds.items())] for each in readings],
            **({} if history is None else {"history": history.identity}),
            **_list_of(forgotten),
        }

    @property
    def read_to(self) -> dict[str, int]:
        """The offset up to which SOURCE is read, by partition: what comes there later is not in it."""
        return {str(number): end or 0 for number, (_, end) in self._bounds.items()}

    @property
    def share(self) -> float:
        # Reading is one half of it, writing the other.
        return 0.5 * self._read / max(self._known, 1) + 0.5 * self._passed / max(len(self._sorter), 1)

    def prepare(self, account: Account, progress: Callable[[], None]) -> None:
        """Read all topics into the sorter, then what the history has of before."""
        for reading in self._readings:
            for partition, _, records in chunks_of(reading.source):
                self._read += len(records)
                kept = (self._kept(record, account) for record in records)
                self._sorter.add(
                    sort_row(record.value or b"", f"{partition}:{record.offset}", parsed, record.timestamp)
                    for record in kept
                    if record is not None
                    and (parsed := self._parse(record, reading, account)) is not None
                    and not isinstance(parsed, Reject)
                )
                progress()
        if self._history is not None:
            self._sorter.add(self._rows_before(self._history, account))
            progress()
        if unusable := sum(account.by_reason("unusable").values()):
            self.notes.append(f"{unusable:,} records can't be used, and were left where they are.")

    def items(self, account: Account) -> Iterator[TimedRecord]:
        self._passed = 0

        def rows() -> Iterator[SortedRow]:
            for row in self._sorter.rows():
                self._passed += 1
                yield row

        return without_duplicates(rows(), self._lateness, account)

    def _rows_before(self, history: ExportFeed, account: Account) -> Iterator[SortedRow]:
        """The rows of a history's records, but for those of times that the topic has itself."""
        reached = 0
        for item in history.items(account):
            parsed = parse(item.record, FOREVER, bots="context")
            reached = reached if item.t is None else item.t
            if isinstance(parsed, Reject):
                account.count(f"unusable:{parsed.reason}")
            elif reached >= max(self._begins, self._since.get(item.channel or "", FOREVER)):
                account.count("copies")
            else:
                yield sort_row(item.record, item.place, parsed, reached)

    def _kept(self, record: Record, account: Account) -> Record | None:
        """The record without what is forgotten; None if nothing is left of it."""
        value = remembered(record.value or b"", self._forgotten, account)
        return None if value is None else record if value is record.value or record.value is None else record._replace(value=value)

    def _note_beginnings(self, parsed: Parsed, offset: int) -> None:
        if isinstance(parsed, Heartbeat) and offset == 0:
            self._begins = parsed.at
        elif isinstance(parsed, Event | Ignored) and parsed.channel is not None and parsed.t is not None:
            self._since[parsed.channel] = min(parsed.t, self._since.get(parsed.channel, FOREVER))

    def _parse(self, record: Record, reading: TopicReading, account: Account) -> Parsed | None:
        """Parse a record as of the time when it was written; None if it came from another topic."""
        headers = dict(record.headers) if reading.role != "source" else {}
        came_from, _, place = headers.get("source", b"").decode(errors="replace").rpartition("/")
        # A topic that was deleted and created again has another id; dead letters of the old one may still be there.
        if came_from not in ("", self._name) or headers.get("source_topic_id", self._id) != self._id:
            account.count("elsewhere")
            return None
        parsed: Parsed
        if record.value is None:
            parsed = Reject("no_value", b"")
        elif headers.get("reason") == b"future":
            parsed = Reject("future", record.value)  # by the time at which it became a dead letter, it would no longer be one
        else:
            parsed = parse(record.value, log_time(record.timestamp, now_us()), bots="context")
        if isinstance(parsed, Reject):
            is_counted = came_from == self._name and self._has_read(place)
            account.count("letters_of_unusable" if is_counted else f"unusable:{parsed.reason}")
        self._note_beginnings(parsed, record.offset if reading.role == "source" else -1)
        return parsed

    def _has_read(self, place: str) -> bool:
        """Whether a `partition:offset` of SOURCE still exists and was read."""
        match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,19})", place)
        begin, end = self._bounds.get(int(match[1]), (0, 0)) if match else (0, 0)
        return match is not None and begin <= int(match[2]) < (end or 0)
