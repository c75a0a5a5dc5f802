"""History at a pace: event time passes at a multiple of real time, as if it happened now."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import NamedTuple

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from beepgpt.connectors.files import jsonl
from beepgpt.connectors.slack import export as slack_export
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.export import ExportedDay, records_of
from beepgpt.conversations.ingestion import Item, Span, WritePlan, in_order, item_of, next_beat, span_of
from beepgpt.conversations.rules import Rules
from beepgpt.errors import BadCommand
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.places import Origin, values_in

BEAT_EVERY = 1.0
"""Real seconds between two heartbeats of a run at a pace that keeps up with it."""
TICK = 0.1
"""Seconds for which a run at a pace sleeps before it looks whether it is to stop."""
AT_ONCE = 500
"""Values that a source at a pace gives at a time: more are due only where it fell behind."""


def pace_of(text: str | None) -> float | None:
    """How much faster than real time.

    >>> pace_of("60x"), pace_of("0.5x")
    (60.0, 0.5)
    """
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?x", text) or not (multiple := float(text.removesuffix("x"))):
        raise BadCommand(f"--pace {text}: a multiple of real time like 1x, 60x or 0.5x is expected")
    return multiple


def step_of(multiple: float) -> int:
    """Microseconds of event time from one heartbeat to the next.

    >>> step_of(60.0), step_of(0.5)
    (60000000, 500000)
    """
    return round(BEAT_EVERY * multiple * 1e6)


def told_of_pace(span: Span, since: int, multiple: float) -> str:
    """How long it will take from `since` on, and whether there are heartbeats."""
    seconds = max(span.last - since, 0) / 1e6 / multiple
    told = f"{span.items:,} records, at {multiple:g}x in {clock_of(seconds)}."
    if not span.in_order:
        told += " The source's channels are not in one order of time, so that no heartbeats are added."
    return told


def clock_of(seconds: float) -> str:
    """A duration to be read.

    >>> clock_of(93_784)
    '1 day and 2:03:04'
    """
    days, rest = divmod(round(seconds), 86_400)
    told = f"{days:,} day{'s' if days > 1 else ''} and " if days else ""
    return f"{told}{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"


class PacedSource(FixedPartitionedSource[Chunk, None]):
    """An export or a file as it would come live: in one order of time, each record when it is due, and heartbeats between them.

    What is from before `since` comes at once. Which heartbeats there are, and between which records, depends on the records and the pace
    alone. It can't be resumed: who wants that puts the records on a topic at a pace, and reads that.
    """

    def __init__(
        self,
        origin: Origin,
        rules: Rules,
        multiple: float,
        *,
        since: int = 0,
        until: int | None = None,
        stopping: Callable[[], bool],
        on_end: Callable[[], None],
        progress: Callable[[int, float], None],
    ) -> None:
        """Reads all of it once, for how long it will take, and whether heartbeats would make anything late."""
        self.origin = origin
        self.rules = rules
        self.multiple = multiple
        self.until = until
        self.stopping = stopping
        self.on_end = on_end
        self.progress = progress
        self._plan = WritePlan("", 1, lambda key, partitions: 0, now_us())
        self._rejects: dict[str, slack_export.UnreadableDay] = {}
        self.span = span_of((item for _, item in self._items()), self._plan, rules.lateness)
        self.begins = max(self.span.first, since)
        """The event time from which on it passes at the pace."""

    def told(self) -> str:
        """How long it will take."""
        last = self.span.last if self.until is None else min(self.span.last, self.until)
        return told_of_pace(replace(self.span, last=last), self.begins, self.multiple)

    def list_parts(self) -> list[str]:
        return [self._name]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _PacedPartition:
        return _PacedPartition(self)

    def steps(self) -> Generator[Step, None, None]:
        """What comes, and when."""
        due, every = self.begins, step_of(self.multiple)
        beat = next_beat(due, every)
        for number, item in self._items():
            t = self._plan.due(item)
            if t is not None:
                due = max(due, t if self.until is None else min(t, self.until))
            while self.span.in_order and beat <= due:
                yield Step(beat, (self._name, 0, [b'{"type":"heartbeat","at":"%s"}' % ts_text(beat).encode()]), is_record=False)
                beat += every
            yield Step(due, (self._name, number, [self._rejects.pop(item.place, item.record)]))

    @property
    def _name(self) -> str:
        return slack_export.PARTITION if self.origin.file is None else self.origin.file.name

    def _items(self) -> Iterator[tuple[int, Item]]:
        """Each with its number in the file, or in the order of all."""
        if self.origin.export is not None:
            yield from enumerate(in_order([self._of(channel.id) for channel in self.origin.export.channels]))
            return
        assert self.origin.file is not None
        for _, number, line in values_in(jsonl.JsonlSource(self.origin.file, stopping=self.stopping)):
            yield number, item_of(line, "")

    def _of(self, channel: str) -> Iterator[Item]:
        assert self.origin.export is not None

        def to_records(channel: str, days: Iterator[ExportedDay]) -> Iterator[bytes]:
            return records_of(channel, days, edits=self.rules.edits)

        source = slack_export.ExportSource(self.origin.export, to_records, wanted=lambda each: each == channel, stopping=self.stopping)
        for _, _, value in values_in(source):
            if isinstance(value, bytes):
                yield item_of(value, "")
            else:
                self._rejects[value.place] = value
                yield Item(b"", value.place, None, None, None, False)


class Step(NamedTuple):
    """One value, as a chunk of its own, and the event time at which it is due."""

    due: int
    chunk: Chunk
    is_record: bool = True
    """Whether it is none of the heartbeats that the pace adds."""


class _PacedPartition(StatefulSourcePartition[Chunk, None]):
    def __init__(self, source: PacedSource) -> None:
        self._source = source
        self._steps = source.steps()
        self._next: Step | None = next(self._steps, None)
        self._given = 0
        self._began: float | None = None
        """When the pace began, by the monotonic clock: what was to come at once took some time, too."""

    def next_batch(self) -> list[Chunk]:
        source = self._source
        if source.stopping():
            raise StopIteration
        if self._next is None:
            source.on_end()
            raise StopIteration
        chunks: list[Chunk] = []
        before = self._given
        while self._next is not None and self._ahead(self._next) <= 0 and len(chunks) < AT_ONCE:
            chunks.append(self._next.chunk)
            self._given += self._next.is_record
            self._next = next(self._steps, None)
        if chunks:
            source.progress(self._given - before, min(self._given / max(source.span.items, 1), 1.0))
        return chunks

    def next_awake(self) -> datetime | None:
        ahead = 0.0 if self._next is None else self._ahead(self._next)
        return datetime.now(UTC) + timedelta(seconds=min(ahead, TICK)) if ahead > 0 else None

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._steps.close()

    def _ahead(self, step: Step) -> float:
        """Seconds until it is due."""
        if step.due <= self._source.begins:
            return 0.0
        if self._began is None:
            self._began = monotonic()
        return (step.due - self._source.begins) / 1e6 / self._source.multiple - (monotonic() - self._began)
