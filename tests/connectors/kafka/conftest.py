"""A connection to the real broker, and an empty topic."""

import pytest

from beepgpt.connectors.kafka import Connection
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka_records import new_topic


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


@pytest.fixture
def topic(connection: Connection) -> str:
    """An empty topic with three partitions."""
    return new_topic(connection)
