"""A log of each kind: Kafka on the real broker, and a folder of SQLite files."""

from pathlib import Path

import pytest

from beepgpt.connectors.kafka import Connection, KafkaLog
from beepgpt.connectors.log import Log, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from tests.support.broker import Broker, GivenBroker


@pytest.fixture(params=["sqlite", "kafka"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    if request.param == "sqlite":
        return SqliteLog(folder_place(str(tmp_path / "log")))
    broker: Broker | GivenBroker = request.getfixturevalue("broker")
    return KafkaLog(Connection(broker.bootstrap))


@pytest.fixture
def files(tmp_path: Path) -> SqliteLog:
    return SqliteLog(folder_place(str(tmp_path / "log")))
