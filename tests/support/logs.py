"""Topics of any log, and what flows read of them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

from beepgpt.connectors.kafka import Connection, KafkaLog
from beepgpt.connectors.log import Log, LogSource, OutgoingRecord, Record, RecordChunk, TopicSpec, folder_place
from beepgpt.connectors.sqlite import topic_files
from beepgpt.connectors.sqlite.log import SqliteLog
from tests.support.broker import Broker, GivenBroker


@pytest.fixture(params=["sqlite", "kafka"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    """A log of each kind: Kafka on the real broker, and a folder of SQLite files."""
    if request.param == "sqlite":
        return SqliteLog(folder_place(str(tmp_path / "log")))
    broker: Broker | GivenBroker = request.getfixturevalue("broker")
    return KafkaLog(Connection(broker.bootstrap))


@pytest.fixture
def files(tmp_path: Path) -> SqliteLog:
    """A folder of SQLite files as a log."""
    return SqliteLog(folder_place(str(tmp_path / "log")))


def topic_on(log: Log, partitions: int = 3, **settings: str) -> str:
    """A new topic; `cleanup_policy="compact"` is its `cleanup.policy`."""
    name = f"test-{uuid4().hex[:12]}"
    log.create([TopicSpec(name, partitions, {key.replace("_", "."): value for key, value in settings.items()})])
    return name


def set_retention(files: SqliteLog, topic: str, ms: int) -> None:
    """Change it beneath everybody: who has the topic open does not clean it by this."""
    with closing(sqlite3.connect(topic_files.path_of(files.folder, topic))) as base, base:
        base.execute("UPDATE topic SET settings = ?", (json.dumps({"cleanup.policy": "delete", "retention.ms": str(ms)}),))


def write_to(log: Log, topic: str, *messages: OutgoingRecord) -> None:
    """Write and wait for it."""
    with log.writer(topic) as writer:
        writer.send(messages)


def flow_reads(source: LogSource, **how: Any) -> list[RecordChunk]:
    """What the source gives to a flow."""
    out: list[RecordChunk] = []
    flow = Dataflow("read")
    op.output("write", op.input("read", flow, source), TestingSink(out))
    run_main(flow, **how)
    return out


def records_in(chunks: list[RecordChunk]) -> list[Record]:
    """All records of chunks."""
    return [record for _, _, values in chunks for record in values]


def all_on(log: Log, topic: str) -> list[tuple[int, int, bytes | None, bytes | None]]:
    """Partition, offset, key and value of all that a topic holds."""
    return sorted((number, record.offset, record.key, record.value) for number, record in log.records(topic))
