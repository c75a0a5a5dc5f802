"""Which record of a run goes to which partition, under which key, timestamp and number; what is there already; and at what pace.

Each record carries its number in the run in a header, so that the topic itself shows how far an ingest came."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from zlib import crc32

import orjson

from beepgpt.connectors.log import Log, LogWriter, OutgoingRecord, WrongTopic
from beepgpt.conversations.account import Account
from beepgpt.conversations.record_order import Span, TimedRecord, due_time, heartbeat_record, next_heartbeat, span_of
from beepgpt.runtime.pacing import HEARTBEAT_EVERY, TICK, heartbeat_step, pace_summary

VERSION = 1
"""Raised when the same source would be written in another order or to other partitions: older ingests can't be resumed then."""
HEADER = "beepgpt-ingest"


def run_id(source: Mapping[str, Any], partitions: int) -> str:
    """A digest of everything that decides which record has which number and partition.

    >>> run_id({"kind": "file", "size": 3}, 12)
    '57031f4f585f'
    """
    return sha256(orjson.dumps([VERSION, partitions, source], option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


@dataclass(frozen=True)
class WritePlan:
    """Where the records of one run go, and which of them are there already."""

    run: str
    partitions: int
    partition_of: Callable[[bytes, int], int]
    """Partition of a key, of so many."""
    now: int
    """When this start was made, in microseconds: the timestamp of what has no usable time."""
    there: Mapping[int, int] = field(default_factory=dict)
    """Number of the last record that each partition has of this run; -1: none."""
    beats: Mapping[int, int] = field(default_factory=dict)
    """Time of the last heartbeat that was added to each partition, where one stands near its end."""

    def partitions_for(self, item: TimedRecord) -> Sequence[int]:
        """Partitions that the record belongs in: its channel's; for a heartbeat all."""
        if item.is_heartbeat:
            return range(self.partitions)
        if item.channel is not None:
            return (self.partition_of(item.channel.encode(), self.partitions),)
        return (crc32(item.record) % self.partitions,)

    def missing_in(self, item: TimedRecord, seq: int) -> list[int]:
        """Partitions that lack the record."""
        return [each for each in self.partitions_for(item) if seq > self.there.get(each, -1)]

    def span(self, items: Iterable[TimedRecord], lateness: int) -> Span:
        """The span of the records that are missing on the topic."""
        newest = max(self.there.values(), default=-1)
        return span_of(items, self.now, lateness, is_missing=lambda item, seq: bool(self.missing_in(item, seq)), newest=newest)

    def outgoing(self, item: TimedRecord, seq: int, partitions: Iterable[int]) -> list[OutgoingRecord]:
        """The record for each of these partitions, with its event time as timestamp.

        A reader accepts a time of up to a day after the timestamp: what is rejected today for its time must be rejected by every reader.
        """
        key = None if item.channel is None else item.channel.encode()
        timestamp = self.now if item.latest is None else min(item.latest, self.now)
        header = ((HEADER, b"%s:%d" % (self.run.encode(), seq)),)
        return [OutgoingRecord(key, item.record, header, each, timestamp) for each in partitions]

    def heartbeats(self, at: int, seq: int, partitions: Iterable[int]) -> list[OutgoingRecord]:
        """A heartbeat at time `at` for each of these partitions; `seq`: the last number that was written or found there."""
        header = ((HEADER, b"%s:%d:%d" % (self.run.encode(), seq, at)),)
        return [OutgoingRecord(None, heartbeat_record(at), header, each, min(at, self.now)) for each in partitions]


LOOK_BACK = 20
"""Offsets at the end of each partition that are read for their headers."""
LOOK_FAR_BACK = 10_000
"""The same where other programs have written since."""
SETTLED = 0.5
"""Seconds without new records of this run before the topic counts as settled: a killed process's last records may still be in flight."""
TRIES = 10

_NUMBER = re.compile(rb"([0-9a-f]{12}):([0-9]+)(?::([0-9]+))?")
"""Run, record number, and of an added heartbeat its time in microseconds."""

RecordHeaders = Sequence[tuple[str, bytes]]


@dataclass
class IngestProgress:
    """What the partitions of a topic have of a run."""

    there: dict[int, int] = field(default_factory=dict)
    """Number of the last record of this run, in each partition; -1: none."""
    beats: dict[int, int] = field(default_factory=dict)
    """Time of the last heartbeat that this run added, in each partition that has one near its end."""
    others: list[int] = field(default_factory=list)
    """Partitions that end with records of other programs."""
    unclear: list[int] = field(default_factory=list)
    """Partitions that end with too many records of others to see whether any of this run stand before them."""

    @property
    def is_begun(self) -> bool:
        """Whether any record of this run is there."""
        return any(seq >= 0 for seq in self.there.values())


def progress_in(tails: Mapping[int, tuple[Sequence[RecordHeaders], bool]], run: str) -> IngestProgress:
    """The progress that the ends of the partitions show.

    `tails`: for each partition the headers of its last records, oldest first, and whether it has no others.

    >>> ours = [("beepgpt-ingest", b"0123456789ab:7")]
    >>> progress_in({0: ([ours], False), 1: ([ours, []], False), 2: ([], True)}, "0123456789ab")
    IngestProgress(there={0: 7, 1: 7, 2: -1}, beats={}, others=[1], unclear=[])
    """
    progress = IngestProgress()
    for partition, (records, is_all) in tails.items():
        places = [number_in(headers, run) for headers in records]
        progress.there[partition] = max((each[0] for each in places if each is not None), default=-1)
        if beats := [each[1] for each in places if each is not None and each[1]]:
            progress.beats[partition] = max(beats)
        if places and places[-1] is None:
            progress.others.append(partition)
        if progress.there[partition] < 0 and not is_all:
            progress.unclear.append(partition)
    return progress


def number_in(headers: RecordHeaders, run: str) -> tuple[int, int] | None:
    """A record's number in this run, and an added heartbeat's time, else 0; None if the record is not of this run.

    >>> number_in([("beepgpt-ingest", b"0123456789ab:7:1690360260000000")], "0123456789ab")
    (7, 1690360260000000)
    """
    for name, value in headers:
        if name == HEADER and (match := _NUMBER.fullmatch(value)) and match[1] == run.encode():
            return int(match[2]), int(match[3] or 0)
    return None


def read_progress(log: Log, topic: str, run: str) -> IngestProgress:
    """Read from the topic how far an earlier start came, once no more of its records arrive.

    Raises WrongTopic if the topic holds others' records and none of this run, or if another process is writing the same ingest.
    """

    def progress(back: int) -> IngestProgress:
        return progress_in(log.tails(topic, back), run)

    found = progress(LOOK_BACK)
    if found.others or found.unclear:
        found = progress(LOOK_FAR_BACK)
    if found.others and not found.is_begun:
        raise WrongTopic(
            f"{topic}: it holds records already, and none of this ingest (another source, other settings, a source that has changed"
            " since, or another number of partitions): older events behind newer ones would be late. Name an empty topic"
        )
    if found.unclear:
        raise WrongTopic(
            f"{topic}, partition {found.unclear[0]}: of its last {LOOK_FAR_BACK:,} records none is of this ingest, so that nobody knows"
            " what of it stands before them: name an empty topic"
        )
    for _ in range(TRIES):
        time.sleep(SETTLED + (HEARTBEAT_EVERY if found.beats else 0))
        before, found = found, progress(LOOK_FAR_BACK if found.others else LOOK_BACK)
        if (found.there, found.beats) == (before.there, before.beats):
            return found
    raise WrongTopic(f"{topic}: the same ingest is writing to it now: stop that first, or wait for its end")


def check_not_closed(topic: str, found: IngestProgress, missing: int) -> None:
    """Raise WrongTopic if others have written behind this run's records while some of these are still missing."""
    if found.others and missing:
        raise WrongTopic(
            f"{topic}, partition {found.others[0]}: others' records came after those of this ingest, of which {missing:,} are missing, and"
            " would be late now: name an empty topic"
        )


def check_all_there(log: Log, topic: str, expected: dict[int, int]) -> None:
    """Raise WrongTopic if a partition has fewer records than were written to it."""
    for number, (begin, end) in log.bounds(topic).items():
        if (missing := expected.get(number, 0) - (end - begin)) > 0:
            raise WrongTopic(
                f"{topic}, partition {number}: {missing:,} records of this ingest were removed from it: make the topic again, without an"
                " end to what it keeps (`beepgpt topics`), and ingest again"
            )


def check_nothing_else(log: Log, topic: str, expected: int) -> None:
    """Raise WrongTopic if the sum of the partitions' end offsets is greater than expected."""
    if (more := sum_of_ends(log, topic) - expected) > 0:
        raise WrongTopic(
            f"{topic}: {more:,} records came from somebody else while this ingest wrote its own: the order of time is lost"
            f" there. Let nobody else write, and ingest again to an empty topic; or put it in order:"
            f" `beepgpt ingest {log.place}/{topic} --to` another one"
        )


def sum_of_ends(log: Log, topic: str) -> int:
    """The sum of the partitions' end offsets, which grows by one with each record."""
    return sum(end for _, end in log.bounds(topic).values())


class PacedWriting:
    """Holds records back until they are due, and adds heartbeats to every partition at fixed event times.

    Which heartbeats there are, and between which records, depends on the events and the pace alone. None is missing in any
    partition before a record that stands behind it in another: they are confirmed before more is sent.
    """

    def __init__(self, multiple: float, span: Span, writer: LogWriter, plan: WritePlan, account: Account) -> None:
        self._multiple = multiple
        self._span = span
        self._writer = writer
        self._plan = plan
        self._account = account
        self._step = heartbeat_step(multiple)
        self._covered = {each: max(span.first, plan.beats.get(each, 0)) for each in range(plan.partitions)}
        """Event time up to which each partition has its heartbeats."""
        self._beat = next_heartbeat(min(self._covered.values()), self._step)
        self._origin = max(self._covered.values())
        """The event time at which this start begins."""
        self._due = 0
        """The latest event time so far."""
        self._began: float | None = None

    def summary(self) -> str:
        """How many records it will write, and how long that will take."""
        return pace_summary(self._span, self._origin, self._multiple)

    def advance_to(self, item: TimedRecord, seq: int, is_missing: bool, send: Callable[[], None], stop: Callable[[], bool]) -> bool:
        """Write the heartbeats before a record, each when it is due, and sleep until the record is; False if asked to stop before."""
        self._due = max(self._due, due_time(item, self._plan.now) or 0)
        has_sent = False
        while self._span.in_order and self._beat <= self._due:
            if missing := [each for each, covered in self._covered.items() if covered < self._beat]:
                if not self._wait_until(self._beat, send, stop):
                    return False
                send()
                self._writer.send(self._plan.heartbeats(self._beat, seq - 1, missing))
                self._account.count("heartbeats_added")
                has_sent = True
            self._beat += self._step
        if has_sent:
            self._writer.flush()
        return not is_missing or self._wait_until(self._due, send, stop)

    def _wait_until(self, t: int, send: Callable[[], None], stop: Callable[[], bool]) -> bool:
        """Send what was collected, and sleep until event time `t` is due; False if asked to stop."""
        if self._began is None:  # passing over what was there already took some time, too
            self._began = time.monotonic()
        while (ahead := (t - self._origin) / 1e6 / self._multiple - (time.monotonic() - self._began)) > 0 and not stop():
            send()
            time.sleep(min(ahead, TICK))
        return not stop()
