"""An export as a Bytewax source."""

from collections import deque
from collections.abc import Callable, Generator, Iterator

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from beepgpt.connectors.callbacks import never, nothing
from beepgpt.connectors.slack.export.days import read_days
from beepgpt.connectors.slack.export.values import PARTITION, BadExport, DayElements, Export, ExportChannel, UnreadableDay

CHUNK = 1_000
CHUNK_BYTES = 8 * 2**20
Records = Iterator[bytes]
ExportChunk = tuple[str, int, list[bytes | UnreadableDay]]
"""Partition, number of the first value (from 0, over the whole export), values."""
ExportState = tuple[str, int, int]
"""Channel id, values done in that channel, values done in all."""


class ExportSource(FixedPartitionedSource[ExportChunk, ExportState]):
    """Reads the wanted channels of an export one after the other, as records that `to_records` makes of their days."""

    def __init__(
        self,
        export: Export,
        to_records: Callable[[str, Iterator[DayElements]], Records],
        *,
        wanted: Callable[[str], bool] = lambda channel: True,
        stopping: Callable[[], bool] = never,
        on_end: Callable[[], None] = nothing,
        progress: Callable[[int, float], None] = nothing,
    ) -> None:
        """`stopping`: asked before each batch; once it is true, the source ends without `on_end`. `progress` gets the number of values of a
        batch, and the share of day files that is read.
        """
        self.export = export
        self.to_records = to_records
        self.wanted = wanted
        self.stopping = stopping
        self.on_end = on_end
        self.progress = progress

    def list_parts(self) -> list[str]:
        return [PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: ExportState | None) -> "_ExportPartition":
        return _ExportPartition(self, resume_state or ("", 0, 0))


class _ExportPartition(StatefulSourcePartition[ExportChunk, ExportState]):
    def __init__(self, source: ExportSource, state: ExportState) -> None:
        self._source = source
        self._channel, self._done, self._total = state
        self._values = self._from(self._channel, self._done)
        self._days = 0
        self._all_days = sum(len(channel.days) for channel in source.export.channels if source.wanted(channel.id))

    def next_batch(self) -> list[ExportChunk]:
        if self._source.stopping():
            raise StopIteration
        values: list[bytes | UnreadableDay] = []
        size = 0
        for channel, done, value in self._values:
            self._channel, self._done = channel, done
            values.append(value)
            size += len(value) if isinstance(value, bytes) else len(value.record)
            if len(values) == CHUNK or size >= CHUNK_BYTES:
                break
        if not values:
            self._source.on_end()
            raise StopIteration
        first = self._total
        self._total += len(values)
        self._source.progress(len(values), self._days / max(self._all_days, 1))
        return [(PARTITION, first, values)]

    def snapshot(self) -> ExportState:
        return self._channel, self._done, self._total

    def close(self) -> None:
        """Closes the archive."""
        self._values.close()

    def _from(self, start: str, done: int) -> Generator[tuple[str, int, bytes | UnreadableDay], None, None]:
        """Values after the first `done` of channel `start`, each with its channel and its number there. Raises BadExport."""
        for channel in self._source.export.channels:
            if not self._source.wanted(channel.id):
                continue
            if channel.id < start:
                self._days += len(channel.days)
                continue
            number = 0
            skip = done if channel.id == start else 0
            for number, value in enumerate(self._of(channel), 1):
                if number > skip:
                    yield channel.id, number, value
            if number < skip:
                raise BadExport(
                    f"{self._source.export.path}: channel {channel.id} had {skip:,} records when this run was stopped, and has"
                    f" {number:,} now: give the same export as before, or start anew without the old recovery store"
                )

    def _of(self, channel: ExportChannel) -> Iterator[bytes | UnreadableDay]:
        """A channel's records, with the rejects of a day file before the records of later files."""
        met: deque[UnreadableDay] = deque()

        def days() -> Iterator[DayElements]:
            for day in read_days(self._source.export, channel):
                self._days += 1
                met.extend(day.rejects)
                yield day

        for record in self._source.to_records(channel.id, days()):
            while met:
                yield met.popleft()
            yield record
        yield from met
