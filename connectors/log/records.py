"""Topics and their records, as values; which partition a key belongs to, and how a record is made to fit."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from beepgpt.connectors.log.errors import NotDelivered

DEFAULT_LIMIT = 1_048_588
"""`max.message.bytes` of a topic that says nothing."""
LOOK_BACK = 100
"""Offsets in which a partition's last record is looked for."""
LogHeaders = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Topic:
    """A topic that exists."""

    name: str
    id: str
    """It changes when the topic is deleted and made again."""
    partitions: int
    replicas: int = field(default=-1, compare=False)
    """Copies of each partition; -1: not known."""


@dataclass(frozen=True)
class TopicSpec:
    """A topic to create."""

    name: str
    partitions: int
    settings: Mapping[str, str] = field(default_factory=dict)
    """Such as `{"cleanup.policy": "compact", "retention.ms": "-1"}`."""
    replicas: int = -1
    """-1: the brokers' default."""


def differences_of(topic: Topic, has: Mapping[str, str], spec: TopicSpec) -> Iterator[str]:
    """A line for each difference between a topic, which has these settings, and what it should be."""
    if topic.partitions != spec.partitions:
        yield f"{spec.name}: has {topic.partitions} partitions, not {spec.partitions}"
    for name, value in spec.settings.items():
        if (now := has.get(name)) != value:
            yield f"{spec.name}: {name} is {now}, not {value}"


class Record(NamedTuple):
    """A record of a partition."""

    value: bytes | None
    """None: a tombstone."""
    offset: int
    timestamp: int
    """Microseconds, of which a log keeps the milliseconds."""
    key: bytes | None
    headers: list[tuple[str, bytes]]
    """A value that is null, as other producers may write it, is empty here."""


RecordChunk = tuple[str, int, list[Record]]
"""Topic and partition, offset of the first record, records in order; their offsets may have gaps (compaction, transactions). No
records: reading stops here, since it was asked to."""


class OutgoingRecord(NamedTuple):
    """A record to write."""

    key: bytes | None
    value: bytes | None
    """None: a tombstone, which needs a key."""
    headers: LogHeaders = ()
    partition: int | bytes | None = None
    """None: chosen by the key, as Kafka's own clients do; bytes: that of another key."""
    timestamp: int | None = None
    """Microseconds, of which a log keeps the milliseconds; None: now."""


@lru_cache(4_096)  # channels come again and again
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's own clients choose for a key.

    >>> partition_of(b"C024BE91L", 12)
    5
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(key: bytes) -> int:
    """MurmurHash2 (Austin Appleby), 32 bits, with the seed of Kafka's own clients; kafka-python's takes three times as long."""
    words, rest = divmod(len(key), 4)
    hashed = 0x9747B28C ^ len(key)
    for (word,) in struct.iter_unpack("<I", key[: 4 * words]):
        mixed = word * 0x5BD1E995 & 0xFFFFFFFF
        mixed = (mixed ^ mixed >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        hashed = (hashed * 0x5BD1E995 & 0xFFFFFFFF) ^ mixed
    if rest:
        hashed = (hashed ^ int.from_bytes(key[4 * words :], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    hashed = (hashed ^ hashed >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return hashed ^ hashed >> 15


OVERHEAD = 512
"""Bytes allowed for what a batch and a record need beside key and value."""
HEADERS = 384
"""Those of them that are for headers; where headers need more, the value has so much less room."""
MARKED_EVERY = LOOK_BACK // 4
"""Values of a partition of which one has the writer's mark: seldom enough to cost nothing, and found among its last records."""


def weight_of(key: bytes | None, value: bytes | None, headers: LogHeaders = ()) -> int:
    """The bytes of a record that count beside `OVERHEAD`: of key, value, and of headers what goes beyond `HEADERS`.

    >>> weight_of(b"k", b"value", [("reason", b"late")]), weight_of(b"k", b"value", [("settings", b"s" * 400)])
    (6, 38)
    """
    if not headers:
        return len(value or b"") + len(key or b"")
    beside = sum(len(name.encode()) + len(content) + 8 for name, content in headers)  # 8: at most, for their lengths
    return len(value or b"") + len(key or b"") + max(beside - HEADERS, 0)


class FittedRecord(NamedTuple):
    """A record as it is written."""

    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int | None
    """None: any."""
    timestamp: int | None
    """Milliseconds; None: now."""
    size: int
    """As `weight_of` counts it."""


class Placing:
    """Places records in a topic's partitions, and makes them fit: the same for every log."""

    def __init__(
        self, topic: str, limit: int, partitions: int, *, advice: str, cuts: bool = False, mark: tuple[str, bytes] | None = None
    ) -> None:
        """`limit`: the topic's `max.message.bytes`; `advice`: how it is raised. `cuts`, `mark`: see `Log.writer`."""
        self.most = limit - OVERHEAD
        self.limit = limit
        self._topic = topic
        self._partitions = partitions
        self._advice = advice
        self._cuts = cuts
        self._mark = mark
        self._values: Counter[int | None] = Counter()

    def place(self, message: OutgoingRecord) -> FittedRecord:
        """The record as it is to be written. Raises NotDelivered if it is too large."""
        key, value, headers, placed, timestamp = message
        placed = key if placed is None else placed
        partition = partition_of(placed, self._partitions) if isinstance(placed, bytes) else placed  # kafka-python is slower
        size = weight_of(key, value, headers)
        if size > self.most and self._cuts and value:
            headers = [*headers, ("cut_from", b"%d" % len(value))]
            value = value[: max(len(value) - (weight_of(key, value, headers) - self.most), 0)]
            size = weight_of(key, value, headers)
        if size > self.most:
            raise self.too_large(size, partition)
        if self._mark is not None and value is not None:
            headers = self._marked(self._mark, key, value, headers, partition)
        return FittedRecord(value, key, list(headers), partition, None if timestamp is None else timestamp // 1000, size)

    def too_large(self, size: int, partition: int | None) -> NotDelivered:
        """The error for a record that the topic does not take. `size`: as `weight_of` counts it."""
        where = self._topic if partition is None else f"{self._topic}, partition {partition}"
        return NotDelivered(
            f"{where}: a record of {size:,} bytes, with the {OVERHEAD} that it may need beside, does not fit into the {self.limit:,} that"
            f" the topic takes: {self._advice}, or leave the record out"
        )

    def _marked(self, mark: tuple[str, bytes], key: bytes | None, value: bytes, headers: LogHeaders, partition: int | None) -> LogHeaders:
        """The headers with the writer's mark, if this value is one to have it and has room; if it has none, the next one is asked."""
        if self._values[partition] % MARKED_EVERY == 0:
            if weight_of(key, value, with_mark := [*headers, mark]) > self.most:
                return headers
            headers = with_mark
        self._values[partition] += 1
        return headers
