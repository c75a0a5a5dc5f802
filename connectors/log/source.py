"""A topic as a Bytewax source, the same for every log: a reader behind it brings the records."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from beepgpt.connectors.callbacks import never, nothing
from beepgpt.connectors.log.errors import OffsetsGone, TopicChanged, reporting_to
from beepgpt.connectors.log.records import Record, RecordChunk, Topic

CHUNK = 1_000
"""Records that are handed to the flow at once."""
ENOUGH = 2 * CHUNK
"""Polled records that wait to be handed out; above it no more are polled."""
IDLE = 0.005
"""Seconds between two polls of a partition that gave nothing."""
LONG_IDLE = 0.025
"""Seconds between two polls of a partition that gave nothing in QUIET polls: each poll costs, and there may be many such partitions."""
QUIET = 200
WAIT = 0.002
"""Seconds between two looks for records."""
CHECK = 3.0
"""Seconds between two looks at the topic's partitions and ends."""
PATIENCE = 120.0
"""Seconds for which brokers may be away while a run goes on."""
IDLE_MARGIN = 60_000_000
"""Microseconds by which a heartbeat is behind the machine's clock: an event may take that long to reach its topic."""


class LogState(NamedTuple):
    """A partition's position, as snapshots hold it."""

    next: int
    """The offset to read next."""
    end: int | None
    """The offset to stop at, as it was at the first start; None: the topic is followed."""
    topic_id: str
    partitions: int
    """How many the topic had at the first start."""


class Bounds(NamedTuple):
    """A partition's next offset at the start of this run, and where a new run starts and stops (None: never)."""

    end: int
    start: int
    stop: int | None


class PartitionReader(ABC):
    """Reads the partitions of one worker; the first that runs out of records polls for all."""

    def __init__(self, source: LogSource) -> None:
        self._source = source
        self._parts: dict[int, LogPartition] = {}
        self.waiting = 0
        """Records that were polled and not yet handed out."""

    def add(self, part: LogPartition) -> None:
        """Read a partition, too, from its position."""
        self._parts[part.number] = part

    def remove(self, part: LogPartition) -> None:
        """Stop reading a partition; after the last one, close what is read from."""
        if self._parts.pop(part.number, None) is None:
            return
        self.waiting -= sum(map(len, part.ready))
        if not self._parts:
            self.close()
            self._source.closed()

    @abstractmethod
    def close(self) -> None:
        """Close what is read from."""

    @abstractmethod
    def poll(self) -> None:
        """Queue records at their partitions (`put`), without waiting for more. Raises LogFailed."""

    @abstractmethod
    def position(self, number: int) -> int:
        """The next offset in a partition, which may be beyond the last record, since offsets have gaps."""

    def report(self, ahead: Mapping[int, int], asked: int) -> None:
        """Report how many records each partition has ahead; one that has none gets a heartbeat of when that was asked, if it is to."""
        source = self._source
        source.lags(ahead, any(part.state.end is None for part in self._parts.values()))
        if source.idle_clock:
            for number, records in ahead.items():
                if records == 0:
                    self._parts[number].beat = asked - IDLE_MARGIN


class LogSource(FixedPartitionedSource[RecordChunk, LogState]):
    """Reads a topic, in order within each partition, up to an end or for ever."""

    place: str
    """Of the log, as `kafka://host:port`."""

    def __init__(
        self,
        topic: Topic,
        *,
        since: int | None = None,
        until: int | None = None,
        follow: bool = False,
        wanted: Callable[[int], bool] = lambda partition: True,
        stopping: Callable[[], bool] = never,
        on_end: Callable[[], None] = nothing,
        progress: Callable[[int, float], None] = nothing,
        on_lag: Callable[[Mapping[int, int]], None] = nothing,
        on_error: Callable[[Exception], None] = nothing,
        on_start: Callable[[], None] = nothing,
        idle_clock: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        """Read from the first record stamped at or after `since` up to the first one stamped after `until` (microseconds, exclusive).

        Without `since` it reads from the beginning, without `until` to the end as it is at the first start; with `follow` there is no end.

        `wanted`: whether this process reads a partition. `stopping`: asked before each batch; once it is true, the source ends without
        `on_end`, which is called at the end of all partitions. `progress` gets the number of records of a batch and the share of all known
        records that is read, `on_lag` the number of records that are still to be read by partition, and `on_error` an error before it is
        raised, since the engine may not show it. `on_start` is called when the flow is built. `idle_clock`: partitions that are read to
        their end get heartbeats by the machine's clock, so that a replay may differ. `patience`: seconds for which brokers may be away.

        Raises LogFailed.
        """
        self.topic = topic
        self.name = topic.name
        self.stopping = stopping
        self.progress = progress
        self.on_lag = on_lag
        self.on_end = on_end
        self.on_error = on_error
        self.on_start = on_start
        self.idle_clock = idle_clock
        self.patience = patience
        self.check_every = min(CHECK, patience / 2)
        self._mine = [each for each in range(self.topic.partitions) if wanted(each)]
        self._bounds = self._look(self._mine, since, until, follow) if self._mine else {}
        self._readers: dict[int, PartitionReader] = {}
        self._open: set[int] = set()
        self._read = 0
        self._known = 0
        self._lock = threading.Lock()

    @abstractmethod
    def _look(self, partitions: list[int], since: int | None, until: int | None, follow: bool) -> dict[int, Bounds]:
        """The offsets of some partitions, in as few requests as possible."""

    @abstractmethod
    def _reader(self) -> PartitionReader:
        """A reader for the partitions of one worker."""

    def covered(self, number: int, offset: int) -> None:
        """Called with a partition's next offset once a snapshot that is in the recovery store covers all before it."""

    def closed(self) -> None:
        """Called when a worker's partitions are closed."""

    @property
    def bounds(self) -> dict[int, tuple[int, int | None]]:
        """The first offset that a new run reads, and the end (None: followed), by partition of this process."""
        return {number: (each.start, each.stop) for number, each in self._bounds.items()}

    @property
    def ends(self) -> dict[int, int]:
        """The end as it was when this run began, by partition of this process."""
        return {number: each.end for number, each in self._bounds.items()}

    def list_parts(self) -> list[str]:
        self.on_start()
        if not self._mine:
            self.on_end()
        return [str(each) for each in self._mine]

    def build_part(self, step_id: str, for_part: str, resume_state: LogState | None) -> LogPartition:
        number = int(for_part)
        bounds = self._bounds[number]
        state = resume_state or LogState(bounds.start, bounds.stop, self.topic.id, self.topic.partitions)
        with reporting_to(self.on_error):
            self._check(number, bounds, state)
        with self._lock:
            worker = threading.get_ident()
            reader = self._readers.get(worker) or self._readers.setdefault(worker, self._reader())
            self._open.add(number)
            self._known += max((bounds.end if state.end is None else state.end) - state.next, 0)
        return LogPartition(self, reader, number, state, is_fresh=resume_state is None)

    def _check(self, number: int, bounds: Bounds, state: LogState) -> None:
        """Raise TopicChanged or OffsetsGone if reading can't be resumed from `state`."""
        check_same(Topic(self.name, state.topic_id, state.partitions), self.topic, self.place)
        if state.next > bounds.end:
            raise self.went_back(number, bounds.end, state.next)

    def went_back(self, number: int, end: int, next: int) -> OffsetsGone:
        """The error for a partition that ends before what was already read."""
        return OffsetsGone(
            f"{self.name}, partition {number}: it ends at offset {end:,}, but was read up to {next:,}: the log lost records, or an older"
            " copy was put in its place; start again without the old recovery store"
        )

    def gone(self, number: int, first: int, begin: int) -> OffsetsGone:
        """The error for records that were removed before they were read."""
        return OffsetsGone(
            f"{self.name}, partition {number}: offsets {first:,} to {begin - 1:,} are gone ({begin - first:,} offsets), removed before"
            " they were read: to go on without them, start again without the old recovery store; to keep more, raise the topic's"
            " retention"
        )

    def took(self, count: int) -> None:
        """Counts records that were handed out, and reports progress."""
        self._read += count
        self.progress(count, min(self._read / max(self._known, 1), 1.0))

    def lags(self, ahead: Mapping[int, int], is_followed: bool) -> None:
        """Report how many records are still to be read, by partition of a worker."""
        if is_followed:
            self._known = self._read + sum(ahead.values())
        self.on_lag(ahead)

    def ended(self, number: int) -> None:
        """Mark a partition as read to its end; after the last one, call `on_end`."""
        with self._lock:
            self._open.discard(number)
            is_last = not self._open
        if is_last:
            self.on_end()


class LogPartition(StatefulSourcePartition[RecordChunk, LogState]):
    """A partition that is read."""

    def __init__(self, source: LogSource, reader: PartitionReader, number: int, state: LogState, *, is_fresh: bool = False) -> None:
        self.number = number
        self.is_fresh = is_fresh
        """Whether nothing of it was ever read: it may begin later, then, without having lost anything."""
        self.state = state
        self.ready: deque[list[Record]] = deque()
        self.beat: int | None = None
        """A heartbeat that is due, microseconds."""
        self._name = f"{source.name}/{number}"
        self._has_shown_stop = False
        self._source = source
        self._reader = reader
        self._covered: int | None = None
        self._awake: datetime | None = None
        self._empty_looks = 0
        reader.add(self)

    def put(self, records: list[Record]) -> int:
        """Queue polled records, up to the partition's end; returns their number."""
        end = self.state.end
        if end is not None and records[-1].offset >= end:
            records = [record for record in records if record.offset < end]
        for start in range(0, len(records), CHUNK):
            self.ready.append(records[start : start + CHUNK])
        return len(records)

    def begin_at(self, offset: int) -> int:
        """Begin at a later offset, since what was before it is gone; returns it."""
        self.state = self.state._replace(next=offset)
        return offset

    def next_batch(self) -> list[RecordChunk]:
        if self._source.stopping():
            if self._has_shown_stop:
                raise StopIteration
            self._has_shown_stop = True
            return [(self._name, self.state.next, [])]
        if self.beat is not None and not self.ready:
            heartbeat, self.beat = heartbeat_at(self.beat, self.state.next), None
            return [(self._name, self.state.next, [heartbeat])]
        if not self.ready:
            if not self._is_at_end():
                with reporting_to(self._source.on_error):
                    self._reader.poll()
            if not self.ready:
                if self._is_at_end() or (self.state.end is not None and self._reader.position(self.number) >= self.state.end):
                    self._source.ended(self.number)
                    raise StopIteration
                self._empty_looks += 1
                self._awake = _next_tick(IDLE if self._empty_looks < QUIET else LONG_IDLE)
                return []
        self._awake = None
        self._empty_looks = 0
        self.is_fresh = False
        records = self.ready.popleft()
        first, last = records[0].offset, records[-1].offset
        self.state = self.state._replace(next=last + 1)
        self._reader.waiting -= len(records)
        self._source.took(len(records))
        return [(self._name, first, records)]

    def next_awake(self) -> datetime | None:
        return self._awake

    def has_come_to(self, offset: int) -> bool:
        """Whether all records before an offset were handed out; there may be gaps before it."""
        return self.state.next >= offset or (not self.ready and self._reader.position(self.number) >= offset)

    def snapshot(self) -> LogState:
        self._commit()
        self._covered = self.state.next
        return self.state

    def close(self) -> None:
        self._commit()
        self._reader.remove(self)

    def _is_at_end(self) -> bool:
        return self.state.end is not None and self.state.next >= self.state.end

    def _commit(self) -> None:
        """Report the offset of the previous snapshot, which is in the recovery store by now."""
        if self._covered is not None:
            self._source.covered(self.number, self._covered)


def heartbeat_at(at: int, offset: int) -> Record:
    """A heartbeat as a producer writes it; `at` in microseconds. It is in no topic, so `offset` is the next record's."""
    value = b'{"type":"heartbeat","at":"%d.%06d"}' % divmod(at, 1_000_000)
    return Record(value, offset, at, None, [])


def _next_tick(seconds: float) -> datetime:
    """The next multiple of `seconds`: partitions that wake one after the other would keep the fetching thread from running."""
    return datetime.fromtimestamp((time.time() // seconds + 1) * seconds, UTC)


def chunks_of(source: LogSource) -> Iterator[RecordChunk]:
    """Read a source without an engine, its partitions in turn; it ends early when the source's `stopping` is true."""
    parts = {name: source.build_part("read_records", name, None) for name in source.list_parts()}
    try:
        open_parts = dict(parts)
        while open_parts:
            idle = True
            for name, part in list(open_parts.items()):
                try:
                    chunks = part.next_batch()
                except StopIteration:
                    del open_parts[name]
                    continue
                idle = idle and not chunks
                yield from (chunk for chunk in chunks if chunk[2])
            if idle:
                time.sleep(WAIT)
    finally:
        for part in parts.values():
            part.close()


def check_same(before: Topic, now: Topic, place: str) -> None:
    """Raise TopicChanged if a topic that is read was made again, or has other partitions."""
    name = now.name
    if before.id != now.id:
        raise TopicChanged(
            f"{name}: the topic was deleted and made again since this run was started, so that its offsets mean other"
            " records: start again without the old recovery store"
        )
    if before.partitions != now.partitions:  # keys move between them, so a channel's order is lost
        raise TopicChanged(
            f"{name}: the topic had {before.partitions} partitions when this run was started, and has {now.partitions}: channels move"
            f" between partitions, and their order is lost. Rebuild it: `beepgpt ingest {place}/{name}"
            f" --with dead-letters,late --to {place}/NEW`, and start again from the new topic"
        )


def check_kept(before: Topic, now: Topic) -> None:
    """Raise TopicChanged if a topic that is written to was made again, or has other partitions."""
    if before.id != now.id:
        raise TopicChanged(
            f"{now.name}: the topic was deleted and made again since this run was started: what was written to it is gone, and would not be"
            " written again: start again without the old recovery store"
        )
    if before.partitions != now.partitions:
        raise TopicChanged(
            f"{now.name}: the topic had {before.partitions} partitions when this run was started, and has {now.partitions}: what comes"
            " under an old key now, as a retraction does, would not meet what stands there: start again, to a new topic"
        )
