"""Labels from topic to topic: under the same ids, retractions behind them, followed for as long as one likes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from beepgpt.commands.example_source import input_of
from beepgpt.commands.label import run_label
from beepgpt.commands.labeling import LabelJob
from beepgpt.config.settings import read_settings
from beepgpt.connectors.kafka import Connection, Writer, create_topics, records_of
from beepgpt.connectors.log import NoTopic, OutgoingRecord, Record, TopicSpec
from beepgpt.conversations.shard import OtherState
from beepgpt.errors import BadCommand
from beepgpt.runtime.destinations import destination_of
from tests.support import program
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT, Running, address, report_in, started
from tests.support.labeling import Labels, asked_about, made_examples, prompts_of, read, write
from tests.support.openai_model import by_hash
from tests.support.openai_script import digest
from tests.support.openai_server import Server, serving
from tests.support.speed import wait_until


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@dataclass(frozen=True)
class Places:
    """Topics of one test, and how a run is told of them."""

    connection: Connection
    folder: Path
    examples: str
    labeled: str
    letters: str

    def settings(self, server: Server | None, **more: object) -> dict[str, str]:
        places = {"kafka__dead_letter_topic": self.letters, "store": self.folder / "answers.sqlite"}
        told = Labels(self.folder / "other", []).variables(server, **places | more)
        return told if server is not None else told | {"BEEPGPT_LABELING__LABELER": "rules"}

    def run(self, source: str, to: str, server: Server | None, **more: object) -> dict[str, Any]:
        settings = read_settings(environ=self.settings(server, **more))
        report, status = run_label(LabelJob(input_of(source), destination_of(to, settings), settings), yes=False, force=True)
        assert report["does_not_add_up"] == []
        return report | {"status": status}

    @property
    def source(self) -> str:
        return address(self.connection, self.examples)

    @property
    def to(self) -> str:
        return address(self.connection, self.labeled)

    def put(self, messages: Sequence[OutgoingRecord]) -> None:
        with Writer(self.connection, self.examples) as writer:
            writer.send(messages)

    def there(self) -> dict[str, list[Record]]:
        """All that stands on the topic of labeled examples, by key."""
        found: dict[str, list[Record]] = {}
        for _, record in records_of(self.connection, self.labeled):
            found.setdefault((record.key or b"").decode(), []).append(record)
        return found


@pytest.fixture
def places(connection: Connection, tmp_path: Path) -> Places:
    name = f"test-{uuid4().hex[:12]}"
    made = Places(connection, tmp_path, f"{name}.examples", f"{name}.labeled", f"{name}.dead-letters")
    specs = [TopicSpec(made.examples, 3, KEPT), TopicSpec(made.labeled, 2, KEPT), TopicSpec(made.letters, 1, KEPT)]
    create_topics(connection, specs)
    return made


def messages(lines: Sequence[bytes]) -> list[OutgoingRecord]:
    return [OutgoingRecord(json.loads(line)["id"].encode(), line) for line in lines]


def tombstone(example: dict[str, Any]) -> OutgoingRecord:
    return OutgoingRecord(example["id"].encode(), None, [("retracted_ts", b"1706702400.000000")])


def assert_labeled(records: list[Record]):
    """As the server's rule says, and the same each time it was sent."""
    assert len({each.value for each in records}) == 1
    example = json.loads(records[-1].value or b"")
    assert not example["answer"] or example["signal"] == ("strong" if by_hash(example["prompt"]) >= 0.5 else "weak")


def test_a_topic_is_labeled_to_another_one(places: Places, server: Server):
    """What is retracted later in the topic is never sent to anybody, nor passed on as a silence; its tombstone goes along."""
    lines = made_examples()[:200]
    silence = next(each for each in map(json.loads, lines) if not each["answer"])
    gone = [*asked_about(lines)[:6], silence]
    places.put([*messages(lines), *map(tombstone, gone), OutgoingRecord(b"C1", b"oops")])
    report = places.run(places.source, places.to, server)

    there = places.there()
    assert set(there) == {json.loads(line)["id"] for line in lines}
    for name, records in there.items():
        if name in {each["id"] for each in gone}:
            assert [(each.value, dict(each.headers)) for each in records] == [(None, {"retracted_ts": b"1706702400.000000"})]
        else:
            assert_labeled(records)
    kept = {each["prompt"] for each in asked_about(lines) if each not in gone}
    assert set(server.record.answered) == set(map(digest, kept))
    assert report["account"] | {"labeled": 0} == {
        "read": 208, "labeled": 0, "by_hand": 0, "silent": 199 - len(asked_about(lines)), "dead_letters": {"not_json": 1},
        "retracted": 7, "retractions": 7, "waiting": 0, "adds_up": True,
    }  # fmt: skip
    (letter,) = (record for _, record in records_of(places.connection, places.letters))
    assert (letter.key, letter.value, dict(letter.headers)["reason"]) == (b"C1", b"oops", b"not_json")


def test_topics_and_files_go_together(places: Places, server: Server):
    """A file's retractions become tombstones, a topic's tombstones a file of retractions."""
    labels = Labels(places.folder / "work", made_examples()[:60])
    gone = asked_about(labels.lines)[0]
    told = {"id": gone["id"], "retracted_ts": "1706702400.000000"}
    write(labels.folder / "examples.retractions.jsonl", [json.dumps(told).encode()])
    places.run(str(labels.source), places.to, server)
    back = places.folder / "back.jsonl"
    places.run(places.to, str(back), server, store="")

    there = places.there()
    assert [each.value for each in there.pop(gone["id"])] == [None]
    assert sorted(back.read_bytes().splitlines()) == sorted(records[0].value or b"" for records in there.values())
    assert read(places.folder / "back.retractions.jsonl") == [told]


def test_what_can_not_be_is_told_first(places: Places, server: Server):
    """Before anything is sent or written."""
    lines = made_examples()[:20]
    places.put(messages(lines))
    with pytest.raises(BadCommand, match="is SOURCE"):
        places.run(places.source, places.source, server)
    with pytest.raises(NoTopic, match="nowhere"):
        places.run(places.source, address(places.connection, "nowhere"), server)
    with pytest.raises(BadCommand, match="--store FILE"):
        places.run(places.source, places.to, server, store="")
    with pytest.raises(BadCommand, match="--batch is for bounded input"):
        places.run(f"{places.source}?follow=true", places.to, server, batch=True)
    with Writer(places.connection, places.labeled) as writer:
        writer.send([OutgoingRecord(b"1", lines[0].replace(b'"spec":"', b'"spec":"0'))])
    with pytest.raises(OtherState, match="name another topic"):
        places.run(places.source, places.to, server)

    assert server.record.asked == []


def following(places: Places, *more: object) -> list[str]:
    return program(
        "label", f"{places.source}?follow=true", "--to", places.to, "--recovery", places.folder / "memory", "--snapshot-every", "200ms",
        "--report", places.folder / "report.json", *more,
    )  # fmt: skip


def wait_until_there(run: Running, places: Places, lines: Sequence[bytes]) -> None:
    ids = {json.loads(line)["id"] for line in lines}

    def is_there() -> bool:
        assert run.process.poll() is None, run.said
        return ids <= set(places.there())

    wait_until(is_there, "all of them are labeled")


@pytest.mark.slow
def test_a_topic_is_followed_through_a_kill_and_a_stop(places: Places, server: Server):
    """What comes is labeled when it comes; killed and stopped, it goes on where it was, and nothing is asked twice but by the kill."""
    first, second, third = made_examples()[:80], made_examples()[80:160], made_examples()[160:240]
    server.latency = 0.02
    settings = places.settings(server)
    with started(following(places), places.folder, settings) as run:
        places.put(messages(first))
        wait_until_there(run, places, first)
        places.put(messages(second))
        seen = len(server.record.asked)
        wait_until(lambda: len(server.record.asked) > seen, "some of the second part are asked about")
        run.kill()
    with started(following(places), places.folder, settings) as run:
        wait_until_there(run, places, second)
        gone = asked_about(first)[0]
        places.put([tombstone(gone)])
        wait_until(lambda: places.there()[gone["id"]][-1].value is None, "the tombstone is there")
        time.sleep(0.5)
        assert run.stop(signal.SIGTERM) == 0, run.said
    report = report_in(places.folder / "report.json")
    assert (report["ended"], report["account"]["waiting"], report["account"]["retractions"]) == (False, 0, 1)
    places.put(messages(third))
    with started(following(places), places.folder, settings) as run:
        wait_until_there(run, places, third)
        assert run.stop(signal.SIGINT) == 0, run.said

    for name, records in places.there().items():
        assert_labeled([each for each in records if each.value is not None])
        assert name == gone["id"] or records[-1].value is not None
    assert report_in(places.folder / "report.json")["account"]["read"] == 241
    assert server.record.paid_twice <= 16
    assert len(server.record.answered) == len(prompts_of([*first, *second, *third]))
