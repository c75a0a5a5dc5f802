"""Writes records to a topic: the partition of a key, deliveries that are confirmed, and a Bytewax sink over both."""

from __future__ import annotations

import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from zlib import crc32

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from kafka import KafkaProducer, errors

from beepgpt.connectors.callbacks import never, nothing
from beepgpt.connectors.kafka.connection import (
    FOREIGN,
    PATIENCE,
    TOO_LARGE,
    Connection,
    KafkaFailed,
    NotDelivered,
    failure_of,
    reporting_to,
)
from beepgpt.connectors.kafka.outages import OUTAGES, looks, milliseconds, started
from beepgpt.connectors.kafka.topics import DEFAULT_LIMIT, LOOK_BACK, describe_topic, max_message_bytes

MARKED_EVERY = LOOK_BACK // 4
"""Values of a partition of which one has the writer's mark: seldom enough to cost nothing, and found among its last records."""


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


BATCH_BYTES = 256 * 2**10
LINGER_MS = 20
OVERHEAD = 512
"""Bytes allowed for what a batch and a record need beside key and value."""
HEADERS = 384
"""Those of them that are for headers; where headers need more, the value has so much less room."""
MAX_PENDING = 20_000
MAX_PENDING_BYTES = 64 * 2**20
METADATA = 5.0
"""Seconds that one try to learn a topic's partitions may take."""


class OutgoingRecord(NamedTuple):
    """A record to write."""

    key: bytes | None
    value: bytes | None
    """None: a tombstone, which needs a key."""
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | bytes | None = None
    """None: chosen by the key, as Kafka's own clients do; bytes: that of another key."""
    timestamp: int | None = None
    """Microseconds, of which Kafka keeps the milliseconds; None: now."""


def weight_of(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> int:
    """The bytes of a record that count beside `OVERHEAD`: of key, value, and of headers what goes beyond `HEADERS`.

    >>> weight_of(b"k", b"value", [("reason", b"late")]), weight_of(b"k", b"value", [("settings", b"s" * 400)])
    (6, 38)
    """
    beside = sum(len(name.encode()) + len(content) + 8 for name, content in headers)  # 8: at most, for their lengths
    return len(value or b"") + len(key or b"") + max(beside - HEADERS, 0)


class Writer:
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
        """`patience`: seconds for which the brokers may be away before a delivery counts as failed; infinite: it waits for ever.

        `cuts`: a value that is too large for the topic is cut, and the header `cut_from` holds its length in bytes. `stopping`: asked
        twice a second while deliveries are waited for; once it is true, they are waited for a few seconds more. `mark`: a header of
        the first value of each partition, and of each `MARKED_EVERY`th after it, so that one stands among a topic's last records; where a
        record has no room for it, of the next one that has.
        """
        self._cuts = cuts
        self._mark = mark
        self._values: Counter[int | None] = Counter()
        self._stopping = stopping
        self._who = f"writing {topic}"
        self._connection = connection
        self._topic = topic
        self._patience = patience
        self._pending: deque[tuple[Any, int]] = deque()
        self._pending_bytes = 0
        self._lock = threading.RLock()
        self._producer: Any = None
        self._limit = max_message_bytes(connection, topic)
        self._partitions = describe_topic(connection, topic).partitions

    @property
    def most(self) -> int:
        """The most bytes that key and value of a record may have together, with headers of up to `HEADERS` bytes."""
        return self._limit - OVERHEAD

    def send(self, messages: Iterable[OutgoingRecord]) -> None:
        """Queue records for delivery. If one can't be delivered, this, a later `send` or `flush` raises NotDelivered."""
        with self._lock:
            producer = self._producer or self._start()
            size = 0
            partition: int | None = None
            try:
                for message in messages:
                    key, value, headers, placed, timestamp = message
                    placed = key if placed is None else placed
                    partition = partition_of(placed, self._partitions) if isinstance(placed, bytes) else placed  # kafka-python is slower
                    size = weight_of(key, value, headers)
                    if size > self.most and self._cuts and value:
                        headers = [*headers, ("cut_from", b"%d" % len(value))]
                        value = value[: max(len(value) - (weight_of(key, value, headers) - self.most), 0)]
                        size = weight_of(key, value, headers)
                    if size > self.most:
                        raise errors.MessageSizeTooLargeError
                    if self._mark is not None and value is not None:
                        headers = self._marked(self._mark, key, value, headers, partition)
                    OUTAGES.asked(self._who, self._has_answer)
                    future = self._queue(producer, (value, key, list(headers), partition, None if timestamp is None else timestamp // 1000))
                    self._pending.append((future, size))
                    self._pending_bytes += size
                    if self._pending_bytes > MAX_PENDING_BYTES or len(self._pending) > MAX_PENDING:
                        self._wait()
            except FOREIGN as error:
                raise self._not_delivered(error, None, size, partition) from error
            self._settle()

    def _marked(
        self, mark: tuple[str, bytes], key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]], partition: int | None
    ) -> Sequence[tuple[str, bytes]]:
        """The headers with the writer's mark, if this value is one to have it and has room; if it has none, the next one is asked."""
        if self._values[partition] % MARKED_EVERY == 0:
            if weight_of(key, value, with_mark := [*headers, mark]) > self.most:
                return headers
            headers = with_mark
        self._values[partition] += 1
        return headers

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

    def _given_up(self) -> errors.KafkaTimeoutError:
        if self._stopping():
            return errors.KafkaTimeoutError("the run was asked to stop, and nothing was confirmed since")
        return errors.KafkaTimeoutError(f"nothing was confirmed for {self._patience + 10:.0f} seconds")

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

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

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
            "batch_size": min(BATCH_BYTES, self._limit),  # it would split a larger one, and lose its way doing so
            "max_request_size": max(2 * self._limit, DEFAULT_LIMIT),  # the topic's own limit is the only one
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

    def _not_delivered(self, error: BaseException, future: Any, size: int, partition: int | None = None) -> KafkaFailed:
        """The error with topic, partition if known, and reason."""
        if isinstance(error, KafkaFailed):
            return error
        where = self._topic if partition is None else f"{self._topic}, partition {partition}"
        placed = getattr(getattr(future, "_produce_future", None), "topic_partition", None)
        if placed is not None and placed.partition is not None:
            where = f"{self._topic}, partition {placed.partition}"
        if isinstance(error, TOO_LARGE):
            return NotDelivered(
                f"{where}: a record of {size:,} bytes, with the {OVERHEAD} that it may need beside, does not fit into the {self._limit:,}"
                f" that the topic takes: raise its max.message.bytes (and message.max.bytes of the brokers), or leave the record out"
            )
        return NotDelivered(f"{where}: a record was not delivered: {failure_of(error, where, self._connection)}")


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
        stopping: Callable[[], bool] = never,
        mark: tuple[str, bytes] | None = None,
    ) -> None:
        """Take lists of records under Bytewax's keys; records of one Kafka key keep their order if they come under one Bytewax key.

        `on_error` gets an error before it is raised; `patience`, `cuts`, `stopping`, `mark`: see `Writer`. Raises KafkaFailed.
        """
        self.name = topic
        self.topic = describe_topic(connection, topic)
        self.on_error = on_error
        self._writer = Writer(connection, topic, patience=patience, cuts=cuts, stopping=stopping, mark=mark)
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
        """Close the writer after the last partition."""
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
