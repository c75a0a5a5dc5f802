"""Records of a topic, and reading them outside a flow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from beepgpt.connectors.kafka.connection import PATIENCE, Connection, offset_consumer
from beepgpt.connectors.kafka.library import errors
from beepgpt.connectors.kafka.topics import begin_and_end_offsets, describe_topic, partitions_of

LOOK_BACK = 100
"""Offsets in which a partition's last record is looked for."""
KafkaHeaders = list[tuple[str, bytes]]


class Record(NamedTuple):
    """A record of a partition."""

    value: bytes | None
    """None: a tombstone."""
    offset: int
    timestamp: int
    """Microseconds, though Kafka counts milliseconds."""
    key: bytes | None
    headers: list[tuple[str, bytes]]
    """A value that is null, as other producers may write it, is empty here."""


RecordChunk = tuple[str, int, list[Record]]
"""Topic and partition, offset of the first record, records in order; their offsets may have gaps (compaction, transactions). No
records: reading stops here, since it was asked to."""


def record_of(each: Any) -> Record:
    """kafka-python's record as ours."""
    headers = each.headers and [(name, value or b"") for name, value in each.headers]
    return Record(each.value, each.offset, each.timestamp * 1000, each.key, headers)


def records_of(
    connection: Connection, topic: str, *, back: int | None = None, starts: Mapping[int, int] | None = None
) -> Iterator[tuple[int, Record]]:
    """Reads a topic's records, each with its partition, up to the end as it is now.

    `back`: only the last so many offsets of each partition; `starts`: the offset to begin at, by partition.
    """
    partitions = partitions_of(describe_topic(connection, topic))
    with offset_consumer(topic, connection) as consumer:
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        for partition in partitions:
            begin, end = begins[partition], ends[partition]
            consumer.assign([partition])
            start = begin if starts is None else max(begin, starts.get(partition.partition, begin))
            consumer.seek(partition, start if back is None else max(start, end - back))
            heard = time.monotonic()
            while consumer.position(partition) < end:
                found = consumer.poll(timeout_ms=200).get(partition, [])
                heard = time.monotonic() if found else heard
                if time.monotonic() - heard > PATIENCE:
                    raise errors.KafkaTimeoutError(f"nothing came for {PATIENCE:.0f} seconds")
                yield from ((partition.partition, record_of(each)) for each in found if each.offset < end)


def tails(connection: Connection, topic: str, back: int) -> dict[int, tuple[list[KafkaHeaders], bool]]:
    """The headers of the records among the last `back` offsets, oldest first, and whether these are all records; by partition."""
    bounds = begin_and_end_offsets(connection, topic)
    found: dict[int, tuple[list[KafkaHeaders], bool]] = {number: ([], end - back <= begin) for number, (begin, end) in bounds.items()}
    for number, record in records_of(connection, topic, back=back):
        found[number][0].append(record.headers)
    return found
