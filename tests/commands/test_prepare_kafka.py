"""A training set of a topic of examples, on a real broker."""

from __future__ import annotations

from uuid import uuid4

import pytest

from beepgpt.connectors.kafka import Connection, Writer, create_topics
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.conversations.events import ts_text
from tests.support import at, beep
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT, address
from tests.support.prepare import FIRST, LAST, Example, Set, example, line_of, write

CUT = ts_text(at(100))


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


def put(connection: Connection, topic: str, messages: list[OutgoingRecord]) -> None:
    """Onto a topic, in order."""
    with Writer(connection, topic) as writer:
        writer.send(messages)
        writer.flush()


def message(body: Example, partition: int, *, tombstone: bool = False) -> OutgoingRecord:
    """An example under its id, or what takes it back."""
    return OutgoingRecord(body["id"].encode(), None if tombstone else line_of(body), (), partition, 1_700_000_000_000)


@pytest.mark.slow
def test_a_topic_gives_the_same_set_as_a_file(tmp_path, connection):
    """Byte for byte: the last word of a key counts, tombstones take back, in whichever partition."""
    topic = f"test-{uuid4().hex[:12]}.labeled"
    create_topics(connection, [TopicSpec(topic, 2, KEPT)])
    gone, back, elsewhere = (example(name, "ana", minute=minute) for minute, name in enumerate(("gone", "back", "elsewhere"), start=10))
    weak = example("twice", "ana", minute=20, signal="weak")
    put(
        connection,
        topic,
        [
            message(FIRST, 0), message(gone, 0), message(gone, 0, tombstone=True),
            message(back, 1), message(back, 1, tombstone=True), message(back, 1),
            message(elsewhere, 0), message(elsewhere, 1, tombstone=True),
            message(weak, 1), message(weak | {"signal": "strong"}, 1), message(LAST, 1),
        ],
    )  # fmt: skip
    lines = [FIRST, gone, elsewhere, back, back, weak, weak | {"signal": "strong"}, LAST]
    source = write(tmp_path / "made.jsonl", lines)
    write(tmp_path / "made.retractions.jsonl", [{"id": each["id"], "retracted_ts": "1"} for each in (gone, elsewhere)])
    for of, to in ((source, "file"), (address(connection, topic), "topic")):
        beep("prepare", of, "--to", tmp_path / to, "--cut", CUT, "--min-answers", 1)

    assert Set(tmp_path / "topic").files == Set(tmp_path / "file").files
    assert [prompt for prompt, _ in Set(tmp_path / "topic").rows("train")] == ["first", "back", "twice"]
    assert Set(tmp_path / "topic").left_out == {"replaced": 2, "retracted": 2}
