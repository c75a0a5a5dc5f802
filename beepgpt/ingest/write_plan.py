"""Which record of a run goes to which partition, under which key, timestamp and number.

Each record carries its number in the run in a header, so that the topic itself shows how far an ingest came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from zlib import crc32

import orjson

from beepgpt.connectors.kafka import OutgoingRecord
from beepgpt.conversations.record_order import Span, TimedRecord, heartbeat_record, span_of

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
