"""Simulated workspaces on a real broker, for several files of tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from beepgpt.connectors.kafka import Connection
from beepgpt.connectors.log import Log, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import Stream, Topics, new_topics, outcome_of, put, stream_of
from tests.support.kafka_flow import PLAN


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


@pytest.fixture(params=["kafka", "sqlite"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Connection | Log:
    """A connection to the broker, and a folder of topics."""
    if request.param == "sqlite":
        return SqliteLog(folder_place(str(tmp_path / "log")))
    connection: Connection = request.getfixturevalue("connection")
    return connection


@pytest.fixture(scope="session")
def stream() -> Stream:
    """A workspace's events as they arrive: late ones, copies and broken ones among them."""
    made = stream_of(PLAN)
    assert all(vars(outcome_of(made.run)).values()), "there is some of everything"
    return made


@pytest.fixture(scope="session")
def filled(broker: Broker | GivenBroker, stream: Stream) -> Topics:
    """The workspace on a topic with four partitions, to be replayed by several tests."""
    topics = new_topics(Connection(broker.bootstrap), 4)
    put(topics, stream.messages(4))
    return topics


@pytest.fixture
def outputs(filled: Topics) -> Topics:
    """The same with empty topics for what is made of it."""
    return new_topics(filled.connection, filled.partitions, events=filled.events)


@pytest.fixture(scope="session")
def silent() -> Stream:
    """A workspace without heartbeats, but for the one at its end."""
    return stream_of(replace(PLAN, heartbeat_every=None, messages=400))
