"""History at a pace: a Bytewax source whose event time passes at a multiple of real time."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import NamedTuple

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from beepgpt.clock import now_us
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.slack import export as slack_export
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import parse
from beepgpt.conversations.export import ExportedDay, records_of
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.record_order import (
    Span,
    TimedRecord,
    due_time,
    heartbeat_record,
    merge_by_time,
    next_heartbeat,
    span_of,
    timed_record,
)
from beepgpt.conversations.rules import Rules
from beepgpt.errors import BadCommand
from beepgpt.runtime.places import Origin, values_in

HEARTBEAT_EVERY = 1.0
"""Real seconds between two heartbeats, while the run keeps up with its pace."""
TICK = 0.1
"""Seconds for which a paced run sleeps before it checks whether it is asked to stop."""
AT_ONCE = 500
"""Values per batch: more are due only where the run fell behind."""


def pace_of(text: str | None) -> float | None:
    """Parse `--pace`: how much faster than real time. Raises BadCommand.

    >>> pace_of("60x"), pace_of("0.5x")
    (60.0, 0.5)
    """
    return None if text is None else multiple_of("--pace", text)


def multiple_of(flag: str, text: str) -> float:
    """Parse a multiple of real time, which `flag` gives. Raises BadCommand."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?x", text) or not (multiple := float(text.removesuffix("x"))):
        raise BadCommand(f"{flag} {text}: a multiple of real time like 1x, 60x or 0.5x is expected")
    return multiple


def heartbeat_step(multiple: float) -> int:
    """Microseconds of event time from one heartbeat to the next.

    >>> heartbeat_step(60.0), heartbeat_step(0.5)
    (60000000, 500000)
    """
    return round(HEARTBEAT_EVERY * multiple * 1e6)


def pace_summary(span: Span, since: int, multiple: float) -> str:
    """How many records there are, how long they will take from `since` on, and whether heartbeats are added."""
    seconds = max(span.last - since, 0) / 1e6 / multiple
    summary = f"{span.items:,} records, at {multiple:g}x in {duration_text(seconds)}."
    if not span.in_order:
        summary += " The source's channels are not in one order of time: no heartbeats are added."
    return summary


def duration_text(seconds: float) -> str:
    """Format a duration in seconds.

    >>> duration_text(93_784)
    '1 day and 2:03:04'
    """
    days, rest = divmod(round(seconds), 86_400)
    before = f"{days:,} day{'s' if days > 1 else ''} and " if days else ""
    return f"{before}{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"


class PacedSource(FixedPartitionedSource[slack_export.ExportChunk, None]):
    """An export or a file as it would arrive live: in one order of time, each record when it is due, with heartbeats in between.

    Records from before `since` come at once. Which heartbeats there are, and between which records, depends on the records and the pace
    alone. It can't be resumed: for that, write the records to a topic at a pace (`beepgpt ingest --pace`), and read the topic.
    """

    def __init__(
        self,
        origin: Origin,
        rules: Rules,
        multiple: float,
        *,
        forgotten: Forgotten | None = None,
        since: int = 0,
        until: int | None = None,
        stopping: Callable[[], bool],
        on_end: Callable[[], None],
        progress: Callable[[int, float], None],
    ) -> None:
        """Read the source once, to find how long it will take, and whether heartbeats would make anything late.

        `forgotten`: records of what is forgotten have no time here, so that they move nothing.
        """
        self._forgotten = forgotten
        self.origin = origin
        self.rules = rules
        self.multiple = multiple
        self.until = until
        self.stopping = stopping
        self.on_end = on_end
        self.progress = progress
        self._now = now_us()
        self._rejects: dict[str, slack_export.UnreadableDay] = {}
        self.span = span_of((item for _, item in self._items()), self._now, rules.lateness)
        self.begins = max(self.span.first, since)
        """Event time at which the pace starts, in microseconds."""

    def summary(self) -> str:
        """How many records there are, and how long they will take."""
        last = self.span.last if self.until is None else min(self.span.last, self.until)
        return pace_summary(replace(self.span, last=last), self.begins, self.multiple)

    def list_parts(self) -> list[str]:
        return [self._name]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _PacedPartition:
        return _PacedPartition(self)

    def steps(self) -> Generator[Step, None, None]:
        """All records and heartbeats, with the event times at which they are due."""
        due, every = self.begins, heartbeat_step(self.multiple)
        beat = next_heartbeat(due, every)
        for number, item in self._items():
            t = due_time(item, self._now)
            if t is not None:
                due = max(due, t if self.until is None else min(t, self.until))
            while self.span.in_order and beat <= due:
                yield Step(beat, (self._name, 0, [heartbeat_record(beat)]), is_record=False)
                beat += every
            yield Step(due, (self._name, number, [self._rejects.pop(item.place, item.record)]))

    @property
    def _name(self) -> str:
        return slack_export.PARTITION if self.origin.file is None else self.origin.file.name

    def _items(self) -> Iterator[tuple[int, TimedRecord]]:
        """All records, each with its line number in the file or its number in the merged order."""
        if self.origin.export is not None:
            yield from enumerate(merge_by_time([self._channel(channel.id) for channel in self.origin.export.channels]))
            return
        assert self.origin.file is not None
        for _, number, line in values_in(jsonl.JsonlSource(self.origin.file, stopping=self.stopping)):
            yield number, self._timed(line)

    def _timed(self, record: bytes) -> TimedRecord:
        """The record as it came, with its time: the flow parses it as it does without a pace."""
        return timed_record(record, "", parse(record, FOREVER, bots="context", forgotten=self._forgotten))._replace(record=record)

    def _channel(self, channel: str) -> Iterator[TimedRecord]:
        assert self.origin.export is not None
        people = self.origin.export.people

        def to_records(channel: str, days: Iterator[ExportedDay]) -> Iterator[bytes]:
            return records_of(channel, days, edits=self.rules.edits, with_authors=self._forgotten is not None, people=people)

        source = slack_export.ExportSource(self.origin.export, to_records, wanted=lambda each: each == channel, stopping=self.stopping)
        for _, _, value in values_in(source):
            if isinstance(value, bytes):
                yield self._timed(value)
            else:
                self._rejects[value.place] = value
                yield TimedRecord(b"", value.place, None, None, None, False)


class Step(NamedTuple):
    """One value as a chunk of its own, and the event time at which it is due."""

    due: int
    chunk: slack_export.ExportChunk
    is_record: bool = True
    """False for the heartbeats that the pace adds."""


class _PacedPartition(StatefulSourcePartition[slack_export.ExportChunk, None]):
    def __init__(self, source: PacedSource) -> None:
        self._source = source
        self._steps = source.steps()
        self._next: Step | None = next(self._steps, None)
        self._emitted = 0
        self._began: float | None = None
        """When the pace began, by the monotonic clock: after the records that come at once."""

    def next_batch(self) -> list[slack_export.ExportChunk]:
        source = self._source
        if source.stopping():
            raise StopIteration
        if self._next is None:
            source.on_end()
            raise StopIteration
        chunks: list[slack_export.ExportChunk] = []
        before = self._emitted
        while self._next is not None and self._ahead(self._next) <= 0 and len(chunks) < AT_ONCE:
            chunks.append(self._next.chunk)
            self._emitted += self._next.is_record
            self._next = next(self._steps, None)
        if chunks:
            source.progress(self._emitted - before, min(self._emitted / max(source.span.items, 1), 1.0))
        return chunks

    def next_awake(self) -> datetime | None:
        ahead = 0.0 if self._next is None else self._ahead(self._next)
        return datetime.now(UTC) + timedelta(seconds=min(ahead, TICK)) if ahead > 0 else None

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._steps.close()

    def _ahead(self, step: Step) -> float:
        """Seconds until a record is due."""
        if step.due <= self._source.begins:
            return 0.0
        if self._began is None:
            self._began = monotonic()
        return (step.due - self._source.begins) / 1e6 / self._source.multiple - (monotonic() - self._began)
