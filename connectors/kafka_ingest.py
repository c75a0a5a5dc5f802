"""A topic that is about to be filled: what its settings would do to old records, and what it ends with."""

from __future__ import annotations

import time
from collections.abc import Iterator

from beepgpt.connectors.kafka import (
    Connection,
    KafkaFailed,
    KafkaSource,
    RecordChunk,
    begin_and_end_offsets,
    records_of,
    topic_settings,
)

WAIT = 0.002
"""Seconds between two looks for records."""

KafkaHeaders = list[tuple[str, bytes]]

UNFIT = {
    "retention.ms": ("-1", "records as old as an export's would be deleted soon after they came"),
    "retention.bytes": ("-1", "the oldest records would be deleted as soon as it is full"),
    "cleanup.policy": ("delete", "of each channel only the last event would stay"),
    "message.timestamp.type": ("CreateTime", "records would be stamped with the time of the ingest, not with their events'"),
}
"""What a topic of events must have, and what would happen otherwise."""


class WrongTopic(KafkaFailed):
    """A topic that can't be filled; the message says why, and which one can."""


def check_keeps(connection: Connection, topic: str) -> bool:
    """Raises WrongTopic if the topic would not keep what is written; returns whether that could be asked."""
    has = topic_settings(connection, topic, UNFIT)
    for name, (wanted, otherwise) in UNFIT.items():
        if has.get(name, wanted) != wanted:
            raise WrongTopic(
                f"{topic}: its {name} is {has[name]}: {otherwise}. Set it to {wanted} (kafka-configs.sh --alter --topic {topic}"
                f" --add-config {name}={wanted}), or name a topic that `beepgpt topics` made for events"
            )
    return bool(has)


def tails(connection: Connection, topic: str, back: int) -> dict[int, tuple[list[KafkaHeaders], bool]]:
    """Of each partition: the headers of the records among its last `back` offsets, oldest first, and whether no others stand before."""
    bounds = begin_and_end_offsets(connection, topic)
    found: dict[int, tuple[list[KafkaHeaders], bool]] = {number: ([], end - back <= begin) for number, (begin, end) in bounds.items()}
    for number, record in records_of(connection, topic, back=back):
        found[number][0].append(record.headers)
    return found


def chunks_of(source: KafkaSource) -> Iterator[RecordChunk]:
    """All that a source has, its partitions in turn, in a plain loop; it ends early if the source is told to stop."""
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
