"""A topic as a Bytewax sink."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from zlib import crc32

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from beepgpt.connectors.callbacks import nothing
from beepgpt.connectors.kafka.connection import PATIENCE, Connection
from beepgpt.connectors.kafka.errors import reporting_to
from beepgpt.connectors.kafka.topics import describe_topic
from beepgpt.connectors.kafka.writer import OutgoingRecord, Writer

LANES = tuple(f"lane-{number}" for number in range(8))
"""The sink's partitions, unrelated to the topic's. Their number is fixed, so that any number of workers can resume a recovery store."""


class KafkaSink(FixedPartitionedSink[Sequence[OutgoingRecord], None]):
    """Writes to a topic, at least once: a snapshot waits until all records before it are confirmed."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        *,
        on_error: Callable[[Exception], None] = nothing,
        patience: float = PATIENCE,
        cuts: bool = False,
    ) -> None:
        """Takes lists of records under Bytewax's keys; records of one Kafka key keep their order if they come under one Bytewax key.

        `on_error` gets an error before it is raised; `patience` and `cuts`: see `Writer`. Raises KafkaFailed.
        """
        self.name = topic
        self.topic = describe_topic(connection, topic)
        self.on_error = on_error
        self._writer = Writer(connection, topic, patience=patience, cuts=cuts)
        self._open = 0
        self._lock = threading.Lock()

    def list_parts(self) -> list[str]:
        return list(LANES)

    def part_fn(self, item_key: str) -> int:
        return crc32(item_key.encode())

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _KafkaSinkPartition:
        with self._lock:
            self._open += 1
        return _KafkaSinkPartition(self, self._writer)

    def closed(self) -> None:
        """Closes the writer after the last partition."""
        with self._lock:
            self._open -= 1
            is_last = not self._open
        if is_last:
            self._writer.close()


class _KafkaSinkPartition(StatefulSinkPartition[Sequence[OutgoingRecord], None]):
    def __init__(self, sink: KafkaSink, writer: Writer) -> None:
        self._sink = sink
        self._writer = writer

    def write_batch(self, values: list[Sequence[OutgoingRecord]]) -> None:
        with reporting_to(self._sink.on_error):
            for messages in values:
                self._writer.send(messages)

    def snapshot(self) -> None:
        with reporting_to(self._sink.on_error):
            self._writer.flush()

    def close(self) -> None:
        self._sink.closed()
