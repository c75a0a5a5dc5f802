"""Records on a topic of a real broker, and flows that read and write them."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from beepgpt.connectors.kafka import Connection, KafkaSource, Writer, create_topics
from beepgpt.connectors.log import LogFailed, OutgoingRecord, Record, RecordChunk, TopicSpec

NOON = 1_690_286_400_000_000
SECOND = 1_000_000


def new_topic(connection: Connection, partitions: int = 3, **settings: str) -> str:
    name = f"test-{uuid4().hex[:12]}"
    create_topics(connection, [TopicSpec(name, partitions, settings)])
    return name


def put(connection: Connection, topic: str, *messages: OutgoingRecord) -> None:
    with Writer(connection, topic) as writer:
        writer.send(messages)


def numbered(count: int, first: int = 0, partition: int | None = None) -> list[OutgoingRecord]:
    """Messages `0`, `1`, …, each a second after the one before."""
    return [OutgoingRecord(b"%d" % each, b"%d" % each, (), partition, NOON + each * SECOND) for each in range(first, first + count)]


def read(source: KafkaSource, **how: Any) -> list[RecordChunk]:
    """What the source gives to a flow."""
    out: list[RecordChunk] = []
    flow = Dataflow("read")
    op.output("write", op.input("read", flow, source), TestingSink(out))
    run_main(flow, **how)
    return out


def write(sink: Sink[Any], items: Sequence[tuple[str, Sequence[OutgoingRecord]]], **how: Any) -> None:
    flow = Dataflow("write")
    op.output("write", op.input("read", flow, TestingSource(items)), sink)
    run_main(flow, **how)


def records(chunks: Sequence[RecordChunk]) -> list[Record]:
    return [record for _, _, values in chunks for record in values]


def values(chunks: Sequence[RecordChunk]) -> list[int]:
    return sorted(int(record.value or b"-1") for record in records(chunks))


def store_in(tmp_path: Path) -> dict[str, Any]:
    """A recovery store, and a snapshot after every batch."""
    store = tmp_path / "recovery"
    if not store.exists():
        store.mkdir()
        init_db_dir(store, 1)
    return {"recovery_config": RecoveryConfig(str(store)), "epoch_interval": timedelta(0)}


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def failing(run: Callable[[], object], kind: type[LogFailed]) -> str:
    """The message with which it fails."""
    with pytest.raises(Exception) as raised:
        run()
    return next(str(cause) for cause in causes(raised.value) if isinstance(cause, kind))


def stopped_after(count: int) -> dict[str, Any]:
    """Arguments that stop a source that has read so many records, as a signal would."""
    read = 0

    def progress(more: int, _done: float) -> None:
        nonlocal read
        read += more

    return {"progress": progress, "stopping": lambda: read >= count}
