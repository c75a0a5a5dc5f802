"""A topic as a Bytewax sink, the same for every log: a writer behind it confirms what is written."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Self
from zlib import crc32

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from beepgpt.connectors.callbacks import nothing
from beepgpt.connectors.log.errors import reporting_to
from beepgpt.connectors.log.records import OutgoingRecord, Topic


class LogWriter(ABC):
    """Writes records to one topic in their order, each once unless the process dies."""

    @property
    @abstractmethod
    def most(self) -> int:
        """The most bytes that key and value of a record may have together, with headers of up to `HEADERS` bytes."""

    @abstractmethod
    def send(self, messages: Iterable[OutgoingRecord]) -> None:
        """Queue records for delivery. If one can't be delivered, this, a later `send` or `flush` raises NotDelivered."""

    @abstractmethod
    def flush(self) -> None:
        """Wait until all records are confirmed. Raises NotDelivered if one can't be."""

    @abstractmethod
    def close(self) -> None:
        """Close the writer without waiting for deliveries: call `flush` first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Flush, unless an error is on its way, and close."""
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()


LANES = tuple(f"lane-{number}" for number in range(8))
"""The sink's partitions, unrelated to the topic's. Their number is fixed, so that any number of workers can resume a recovery store."""


class LogSink(FixedPartitionedSink[Sequence[OutgoingRecord], None]):
    """Writes to a topic, at least once: a snapshot waits until all records before it are confirmed."""

    def __init__(self, topic: Topic, writer: LogWriter, on_error: Callable[[Exception], None] = nothing) -> None:
        """Take lists of records under Bytewax's keys; records of one key in the log keep their order if they come under one Bytewax key.

        `on_error` gets an error before it is raised.
        """
        self.name = topic.name
        self.topic = topic
        self.on_error = on_error
        self._writer = writer
        self._open = 0
        self._lock = threading.Lock()

    def list_parts(self) -> list[str]:
        return list(LANES)

    def part_fn(self, item_key: str) -> int:
        return crc32(item_key.encode())

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _LogSinkPartition:
        with self._lock:
            self._open += 1
        return _LogSinkPartition(self, self._writer)

    def closed(self) -> None:
        """Close the writer after the last partition."""
        with self._lock:
            self._open -= 1
            is_last = not self._open
        if is_last:
            self._writer.close()


class _LogSinkPartition(StatefulSinkPartition[Sequence[OutgoingRecord], None]):
    def __init__(self, sink: LogSink, writer: LogWriter) -> None:
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
