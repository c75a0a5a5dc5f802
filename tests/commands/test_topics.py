"""`beepgpt topics` and `beepgpt dead-letters`: topics as they should be, told as they are; letters, and what is none; on a real broker."""

from __future__ import annotations

import inspect
import re
from uuid import uuid4

import pytest

from beepgpt.commands.dead_letters import dead_letters
from beepgpt.commands.topics import BESIDE, COMPACTED, DEAD_LETTERS, FOR_EVER, KINDS, topics
from beepgpt.config.settings import read_settings
from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection, Writer, create_topics
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.errors import BadCommand
from tests.support.broker import Broker, GivenBroker

NOWHERE = "kafka://127.0.0.1:1"


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


@pytest.fixture
def name() -> str:
    return f"test-{uuid4().hex[:12]}"


def made(at: str, environ: dict[str, str] | None = None, *, partitions: int = 2, replicas: int = 1, prefix: str = "slack"):
    inspect.unwrap(topics)(at, read_settings(environ=environ or {}), partitions, replicas, prefix)


def shown(source: str):
    inspect.unwrap(dead_letters)(source, read_settings(environ={}), None, 1)


def folded(text: str) -> str:
    """What was printed, however wide the terminal is."""
    return " ".join(text.split())


# Topics


def test_a_topic_that_is_named_is_made_alone(connection, name):
    """With an events topic's settings and as many partitions as are asked for; what its name tells of its kind holds."""
    predictions = COMPACTED | {"cleanup.policy": "compact,delete", "retention.ms": "7776000000"}
    for each, wanted in ((f"{name}.events.2", FOR_EVER), (f"{name}.examples", COMPACTED), (f"{name}.predictions", predictions)):
        made(f"kafka://{connection.bootstrap}/{each}", partitions=3)
        assert kafka.topic_settings(connection, each, wanted) == wanted

    there = [topic for topic in kafka.describe_topics(connection).values() if topic.name.startswith(name)]
    assert sorted((topic.name, topic.partitions) for topic in there) == [
        (f"{name}.{kind}", 3) for kind in ("events.2", "examples", "predictions")
    ]


def test_what_is_there_is_told_as_it_is(connection, name, capsys):
    """Its own partitions and settings, not those that it should have; how they differ stands below."""
    create_topics(connection, [TopicSpec(name, 4, {"retention.ms": "1000"}, 1)])
    made(f"kafka://{connection.bootstrap}/{name}", partitions=12)
    said = folded("".join(capsys.readouterr()))

    assert re.search(rf"{name} is there 4 partitions, cleanup.policy=delete, retention.ms=1000,", said)
    assert f"{name}: has 4 partitions, not 12" in said and f"{name}: retention.ms is 1000, not -1" in said


def test_a_prefix_is_that_of_all_topics(connection, name, capsys):
    """Those of what could not be used as well, and a line tells how a flow finds them."""
    made(f"kafka://{connection.bootstrap}", prefix=name)
    said = "".join(capsys.readouterr())
    there = kafka.describe_topics(connection)

    assert {each for each in there if each.startswith(name)} == {f"{name}.{kind}" for kind in (*KINDS, *BESIDE)}
    finite = DEAD_LETTERS | {"retention.ms": str(30 * 24 * 3_600_000)}
    assert (
        kafka.topic_settings(connection, f"{name}.dead-letters", finite)
        == kafka.topic_settings(connection, f"{name}.late", finite)
        == finite
    )
    assert f"BEEPGPT_KAFKA__LATE_TOPIC={name}.late BEEPGPT_KAFKA__DEAD_LETTER_TOPIC={name}.dead-letters" in said


def test_a_topic_that_the_settings_name_keeps_its_name(connection, name, capsys):
    """It is made under that name, whatever the prefix, and needs no setting."""
    made(f"kafka://{connection.bootstrap}", {"BEEPGPT_KAFKA__LATE_TOPIC": f"{name}.tardy"}, prefix=name)
    said = "".join(capsys.readouterr())
    there = kafka.describe_topics(connection)

    assert f"{name}.tardy" in there and f"{name}.late" not in there
    assert "LATE_TOPIC" not in said and f"BEEPGPT_KAFKA__DEAD_LETTER_TOPIC={name}.dead-letters" in said


@pytest.mark.parametrize(
    ("at", "prefix", "said"),
    [
        (
            "localhost:9092",
            "slack",
            "PLACE localhost:9092: kafka://host:port or kafka://host:port/topic, or sqlite:///folder",
        ),
        (
            f"{NOWHERE}/slack.events?follow=true",
            "slack",
            "kafka://host:port or kafka://host:port/topic, or sqlite:///folder or sqlite:///folder/topic is expected",
        ),
        (
            "kafka://localhost",
            "slack",
            "PLACE kafka://localhost: 'localhost' is no host:port: write kafka://host:port or kafka://host:port/topic",
        ),
        (f"{NOWHERE}/a/b", "slack", "can't be a topic's name"),
        (f"{NOWHERE}/slack.events.2", "acme", "--prefix acme: PLACE names a topic, slack.events.2"),
    ],
)
def test_a_wrong_broker_is_told(at, prefix, said):
    """Before anybody is asked, with what is expected and nothing of from, to and follow."""
    with pytest.raises(BadCommand, match=re.escape(said)) as raised:
        made(at, prefix=prefix)
    assert "from=" not in str(raised.value)


# Dead letters


def test_letters_are_counted_by_reason(connection, name, capsys):
    """A record without a reason, which somebody put between them, does not keep them from being shown."""
    create_topics(connection, [TopicSpec(name, 1, {}, 1)])
    with Writer(connection, name) as writer:
        writer.send([OutgoingRecord(None, b"test")])
        writer.send(OutgoingRecord(None, b"oops", [("reason", b"not_json"), ("source", b"slack.events/3:17")]) for _ in range(2))
    shown(f"kafka://{connection.bootstrap}/{name}")
    said = folded("".join(capsys.readouterr()))

    assert "not_json 2 the last one at slack.events/3:17" in said and "3 dead letters in" in said


def test_a_topic_of_something_else_holds_no_letters(connection, name):
    """slack.events by mistake is refused, with what was expected; an empty topic has none."""
    create_topics(connection, [TopicSpec(name, 1, {}, 1)])
    shown(f"kafka://{connection.bootstrap}/{name}")
    with Writer(connection, name) as writer:
        writer.send(OutgoingRecord(b"C1", b"{}") for _ in range(3))

    with pytest.raises(BadCommand, match=r"none of its first 3 records has a header `reason`.*slack\.dead-letters or slack\.late"):
        shown(f"kafka://{connection.bootstrap}/{name}")
