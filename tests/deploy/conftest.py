"""What the tests of deploying share: a broker without topics of ours, and an export."""

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from beepgpt.connectors.kafka import Connection, describe_topics
from beepgpt.simulation.workspace import Plan, write_export
from tests.support.broker import Broker
from tests.support.speed import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient


@pytest.fixture
def connection(mortal_broker: Broker) -> Iterator[Connection]:
    """A broker without topics of ours, before and after; one that somebody else runs is not touched."""
    connection = Connection(mortal_broker.bootstrap)

    def forget_ours() -> None:
        admin = KafkaAdminClient(bootstrap_servers=connection.bootstrap)
        admin.delete_topics([name for name in describe_topics(connection) if name.startswith("slack.")])
        admin.close()
        wait_until(lambda: not any(name.startswith("slack.") for name in describe_topics(connection)), "topics are deleted")

    forget_ours()
    yield connection
    forget_ours()
    gc.collect()


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "export.zip"
    write_export(Plan(messages=2_000, days=7, channels=12, people=30), path)
    return path
