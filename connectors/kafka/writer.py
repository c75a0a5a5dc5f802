"""Writes records to a topic, and waits until they are confirmed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer, errors

from beepgpt.connectors.callbacks import never
from beepgpt.connectors.kafka.connection import FOREIGN, TOO_LARGE, Connection, Unconfirmed, failure_of
from beepgpt.connectors.kafka.outages import OUTAGES, looks, milliseconds, started
from beepgpt.connectors.kafka.topics import describe_topic, max_message_bytes
from beepgpt.connectors.log.errors import LogFailed, NotDelivered
from beepgpt.connectors.log.records import DEFAULT_LIMIT, OutgoingRecord, Placing
from beepgpt.connectors.log.sink import LogWriter
from beepgpt.connectors.log.source import PATIENCE

BATCH_BYTES = 256 * 2**10
LINGER_MS = 20
MAX_PENDING = 20_000
MAX_PENDING_BYTES = 64 * 2**20
METADATA = 5.0
"""Seconds that one try to learn a topic's partitions may take."""


class Writer(LogWriter):
    """Writes records to one topic in their order, each once unless the process dies."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        *,
        patience: float = PATIENCE,
        cuts: bool = False,
        stopping: Callable[[], bool] = never,
        mark: tuple[str, bytes] | None = None,
    ) -> None:
        """See `Log.writer`."""
        self._stopping = stopping
        self._who = f"writing {topic}"
        self._connection = connection
        self._topic = topic
        self._patience = patience
        self._pending: deque[tuple[Any, int]] = deque()
        self._pending_bytes = 0
        self._lock = threading.RLock()
        self._producer: Any = None
        limit, partitions = max_message_bytes(connection, topic), describe_topic(connection, topic).partitions
        advice = "raise its max.message.bytes (and message.max.bytes of the brokers)"
        self._placing = Placing(topic, limit, partitions, advice=advice, cuts=cuts, mark=mark)

    @property
    def most(self) -> int:
        """The most bytes that key and value of a record may have together, with headers of up to `HEADERS` bytes."""
        return self._placing.most

    def send(self, messages: Iterable[OutgoingRecord]) -> None:
        """Queue records for delivery. If one can't be delivered, this, a later `send` or `flush` raises NotDelivered."""
        with self._lock:
            producer = self._producer or self._start()
            size = 0
            partition: int | None = None
            try:
                for message in messages:
                    placed = self._placing.place(message)
                    size, partition = placed.size, placed.partition
                    OUTAGES.asked(self._who, self._has_answer)
                    future = self._queue(producer, placed[:-1])
                    self._pending.append((future, size))
                    self._pending_bytes += size
                    if self._pending_bytes > MAX_PENDING_BYTES or len(self._pending) > MAX_PENDING:
                        self._wait()
            except FOREIGN as error:
                raise self._not_delivered(error, None, size, partition) from error
            self._settle()

    def flush(self) -> None:
        """Wait until all records are confirmed. Raises NotDelivered if one can't be."""
        with self._lock:
            try:
                self._settle()
                for seconds in looks(self._patience + 10, self._stopping):
                    if self._producer is None or not self._pending:
                        return
                    with suppress(errors.KafkaTimeoutError):
                        self._producer.flush(timeout=seconds)
                    self._settle()
                if self._pending:
                    raise self._given_up()
            except FOREIGN as error:
                raise self._not_delivered(error, None, 0) from error

    def _given_up(self) -> Unconfirmed:
        if self._stopping():
            return Unconfirmed("the run was asked to stop, and nothing was confirmed since")
        return Unconfirmed(f"nothing was confirmed for {self._patience + 10:.0f} seconds")

    def _queue(self, producer: Any, record: tuple[Any, ...]) -> Any:
        """Queue a record; while the topic's partitions are not known, it waits for the brokers."""
        for _ in looks(self._patience, self._stopping):
            with suppress(errors.KafkaTimeoutError):
                return producer.send(self._topic, *record)
        return producer.send(self._topic, *record)

    def close(self) -> None:
        """Close the producer without waiting for deliveries: call `flush` first."""
        with self._lock:
            if self._producer is not None:
                try:
                    self._producer.close(timeout=1)
                except FOREIGN:  # it can't be flushed, and would try again when it is collected
                    self._producer._sender.force_close()
                    self._producer._closed = True
                self._producer = None
            OUTAGES.answered(self._who)

    def _start(self) -> Any:
        """Make the producer; it waits for brokers that are away, since the topic was there at the start."""
        options = self._connection.options() | {
            "acks": "all",
            "enable_idempotence": True,
            "allow_auto_create_topics": False,
            "delivery_timeout_ms": milliseconds(self._patience),
            "request_timeout_ms": min(30_000, max(milliseconds(self._patience) - LINGER_MS, 1)),
            "max_block_ms": min(milliseconds(self._patience), int(METADATA * 1000)),
            "linger_ms": LINGER_MS,
            "batch_size": min(BATCH_BYTES, self._placing.limit),  # it would split a larger one, and lose its way doing so
            "max_request_size": max(2 * self._placing.limit, DEFAULT_LIMIT),  # the topic's own limit is the only one
            "metrics_enabled": False,
        }
        OUTAGES.asked(self._who, self._has_answer)
        self._producer = started(KafkaProducer, options, self._topic, self._connection, self._patience, self._stopping)
        return self._producer

    def _wait(self) -> None:
        """Wait until half of the pending records are confirmed: kafka-python queues without a limit."""
        for seconds in looks(self._patience + 10, self._stopping):
            if self._pending_bytes <= MAX_PENDING_BYTES // 2 and len(self._pending) <= MAX_PENDING // 2:
                return
            future, _ = self._pending[0]
            with suppress(errors.KafkaError):  # `_settle` raises it
                future.get(timeout=seconds)
            self._settle()
        raise self._given_up()

    def _has_answer(self) -> bool:
        """Whether the oldest record is confirmed, or failed, and nobody has looked yet; asked by any thread."""
        with suppress(IndexError):
            return bool(self._pending[0][0].is_done)
        return self._producer is not None

    def _settle(self) -> None:
        """Drop confirmed records from the queue. Raises NotDelivered for the first that failed."""
        pending = self._pending
        while pending and pending[0][0].is_done:
            future, size = pending.popleft()
            self._pending_bytes -= size
            OUTAGES.answered(self._who)
            if future.exception is not None:
                raise self._not_delivered(future.exception, future, size) from future.exception
        if pending:
            OUTAGES.asked(self._who, self._has_answer)

    def _not_delivered(self, error: BaseException, future: Any, size: int, partition: int | None = None) -> LogFailed:
        """The error with topic, partition if known, and reason."""
        if isinstance(error, LogFailed):
            return error
        placed = getattr(getattr(future, "_produce_future", None), "topic_partition", None)
        if placed is not None and placed.partition is not None:
            partition = placed.partition
        if isinstance(error, TOO_LARGE):
            return self._placing.too_large(size, partition)
        where = self._topic if partition is None else f"{self._topic}, partition {partition}"
        return NotDelivered(f"{where}: a record was not delivered: {failure_of(error, where, self._connection)}")
