"""Scoring on a real broker and through kills: it starts warm, goes on where it was, and says what the batch says."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection, create_topics
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.conversations.rules import SECOND
from beepgpt.simulation.workspace import Plan, live_records
from tests.support import beep, histories, program
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import (
    KEPT,
    Running,
    Topics,
    address,
    heartbeat_at,
    messages_of,
    new_topics,
    put,
    report_in,
    started,
    stream_of,
)
from tests.support.ports import free_ports
from tests.support.scoring import assert_served_as_trained, save
from tests.support.speed import slowness, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PLAN = Plan(
    seed=12, messages=400, days=6, channels=6, people=12, heartbeat_every=1_800,
    edits=0.1, deletions=0.05, reactions=0.2, duplicates=0.05, too_late=0.01, broken=0.01,
)  # fmt: skip


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "local")


def scored_topics(connection: Connection, topics: Topics) -> tuple[str, str]:
    """Topics of predictions and outcomes beside the topics of a test."""
    names = (f"{topics.events}.predictions", f"{topics.events}.outcomes")
    create_topics(connection, [TopicSpec(name, 2, KEPT) for name in names])
    return names


def on_topic(connection: Connection, topic: str, kind: str) -> list[dict[str, Any]]:
    """The records of a kind."""
    found = []
    for _, record in kafka.records_of(connection, topic):
        if record.value is None:
            continue
        body = json.loads(record.value)
        key = body["id"] if "conversations" in body else body.get("conversation") or f"{body['channel']}:{body['ts']}"
        assert (record.key or b"").decode() == key
        if dict(record.headers)["kind"] == kind.encode():
            found.append(body)
    return found


def by_id(bodies: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Each once; what was sent again is the same."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for each in bodies:
        assert found.setdefault((each["id"], each.get("conversation", "")), each) == each
    return found


def test_topics_and_files_give_the_same_and_law_5_holds(connection: Connection, tmp_path: Path, model: Path):
    """From 3 partitions by 2 processes, and from a file by one: the same predictions and outcomes, and every example among them."""
    stream = stream_of(PLAN)
    topics = new_topics(connection, 3)
    predictions, outcomes = scored_topics(connection, topics)
    put(topics, stream.messages(3))
    source = tmp_path / "events.jsonl"
    source.write_bytes(b"".join(line.replace(b"\n", b" ") + b"\n" for line in stream.lines))
    files = ["--to", tmp_path / "predictions.jsonl", "--outcomes", tmp_path / "outcomes.jsonl"]
    common = ["--model", model, "--with-candidates", "--no-progress", "--report", tmp_path / "report.json"]
    beep(
        "score",
        topics.source(),
        "--to",
        address(connection, predictions),
        "--outcomes",
        address(connection, outcomes),
        "--workers",
        2,
        *common,
    )
    on_broker = report_in(tmp_path / "report.json")
    beep("score", source, *files, *common)
    of_file = report_in(tmp_path / "report.json")

    made = on_topic(connection, predictions, "prediction")
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_bytes().splitlines()]
    assert len(made) == len(lines)
    assert by_id(made) == by_id(lines)
    ends = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_bytes().splitlines()]
    assert by_id(on_topic(connection, outcomes, "outcome")) == by_id(ends)
    assert_served_as_trained(stream.run.examples, made)
    gone = [json.loads(line) for line in (tmp_path / "predictions.deletions.jsonl").read_bytes().splitlines()]
    assert sorted(map(json.dumps, on_topic(connection, predictions, "deletion"))) == sorted(map(json.dumps, gone))
    assert on_broker["account"]["points"] == of_file["account"]["points"]
    assert (on_broker["does_not_add_up"], of_file["does_not_add_up"]) == ([], [])


def score(topics: Topics, folder: Path, model: Path, predictions: str, outcomes: str, *arguments: object) -> Any:
    """A process that follows."""
    port = free_ports()
    command = program(
        "score", topics.source(follow="true"), "--model", model, "--to", address(topics.connection, predictions),
        "--outcomes", address(topics.connection, outcomes), "--metrics-port", port, "--recovery", folder / "memory",
        "--report", folder / "report.json", "--log-level", "info", "--snapshot-every", "500ms", *arguments,
    )  # fmt: skip
    return started(command, folder, topics.settings, port, 1)


def live(*said: tuple[str, str]) -> list[OutgoingRecord]:
    """A root of now for each who says something, a tenth of a second after the other, and the heartbeat by which they are released."""
    now = int(time.time() * 1e6)
    records = [("C0", histories.post("C0", now + number * SECOND // 10, user, text).line) for number, (user, text) in enumerate(said)]
    return list(messages_of([*records, (None, heartbeat_at(now + 11 * SECOND // 2))], 1))


def texts(connection: Connection, topic: str) -> list[str]:
    """The newest message of each prediction's prompt; partitions have no order among them."""
    return sorted(each["prompt"].split("\n\n###")[0].split("\n\n")[-1] for each in on_topic(connection, topic, "prediction"))


def test_it_starts_warm_and_goes_on_after_a_stop(connection: Connection, tmp_path: Path, model: Path):
    """History is gone through without a prediction; what is said from then on has one, also what was said while nothing ran."""
    stream = stream_of(PLAN)
    topics = new_topics(connection)
    predictions, outcomes = scored_topics(connection, topics)
    put(topics, stream.messages(1))
    with score(topics, tmp_path, model, predictions, outcomes) as run:
        run.wait_until_ready()
        run.wait_until_read(len(stream.messages(1)))
        put(topics, live(("ana", "Is it red?"), ("bo", "Not any more")))
        wait_until(lambda: run.figure("beepgpt_predictions_total") >= 3, "all is predicted")
        assert run.figure("beepgpt_outcomes_total") >= 1
        assert run.stop() == 0, run.said
    assert texts(connection, predictions) == ["Is it red?", "Not any more", "Not any more"]
    (answered,) = [each for each in on_topic(connection, outcomes, "outcome") if each["how"] == "answered"]
    assert answered["answer"] == ["bo"]
    put(topics, live(("cy", "And now?")))
    with score(topics, tmp_path, model, predictions, outcomes) as run:
        wait_until(
            lambda: texts(connection, predictions) == ["And now?", "And now?", "Is it red?", "Not any more", "Not any more"],
            "what was said meanwhile is predicted",
        )
        assert run.stop() == 0, run.said
    report = report_in(tmp_path / "report.json")
    assert report["does_not_add_up"] == []
    assert report["account"]["points"]["scored"] == 5
    assert report["account"]["points"]["before_start"] > 100


def test_kills_lose_nothing_and_change_nothing(connection: Connection, tmp_path: Path, model: Path):
    """Killed three times while a rehearsal is followed: all predictions and outcomes of the batch are there, and nothing else."""
    stream = stream_of(PLAN)
    topics = new_topics(connection)
    predictions, outcomes = scored_topics(connection, topics)
    source = tmp_path / "events.jsonl"
    source.write_bytes(b"".join(line.replace(b"\n", b" ") + b"\n" for line in stream.lines))
    files = ["--to", tmp_path / "predictions.jsonl", "--outcomes", tmp_path / "outcomes.jsonl"]
    beep("score", source, "--model", model, "--no-progress", *files)
    messages = stream.messages(1)
    steps = 3
    rehearsal = {"BEEPGPT_SCORING__CLOCK": "log"}

    def follow() -> Any:
        port = free_ports()
        command = program(
            "score", topics.source(follow="true"), "--model", model, "--to", address(connection, predictions), "--outcomes",
            address(connection, outcomes), "--metrics-port", port, "--recovery", tmp_path / "memory", "--snapshot-every", "200ms",
        )  # fmt: skip
        return started(command, tmp_path, {**topics.settings, **rehearsal}, port, 1)

    for step in range(steps):
        with follow() as run:
            run.wait_until_ready()
            put(topics, messages[step * len(messages) // steps : (step + 1) * len(messages) // steps])
            time.sleep(random.Random(step).uniform(0.2, 1.5))
            run.kill()
    expected = by_id([json.loads(line) for line in (tmp_path / "predictions.jsonl").read_bytes().splitlines()])
    ends = by_id([json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_bytes().splitlines()])
    with follow() as run:
        run.wait_until_ready()  # all may be there already, and who is asked to stop before that just ends
        wait_until(lambda: len(by_id(on_topic(connection, outcomes, "outcome"))) >= len(ends), "all outcomes are there")
        assert run.stop() == 0, run.said

    assert by_id(on_topic(connection, predictions, "prediction")) == expected
    assert by_id(on_topic(connection, outcomes, "outcome")) == ends


def test_a_file_has_each_line_once_through_kills(tmp_path: Path, model: Path):
    """`kill -9` at random moments, and the same command again: the same lines as a run that nobody kills, each once."""
    source = tmp_path / "events.jsonl"
    plan = Plan(seed=3, messages=2_500, days=20, channels=8, people=12)
    source.write_bytes(b"".join(line.replace(b"\n", b" ") + b"\n" for line in live_records(plan)))

    def command(folder: Path, *more: object) -> list[str]:
        files = ("--to", folder / "predictions.jsonl", "--outcomes", folder / "outcomes.jsonl", "--report", folder / "report.json")
        return program("score", source, "--model", model, "--snapshot-every", "50ms", *files, *more)

    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    with started(command(tmp_path / "whole"), tmp_path / "whole", {}) as run:
        assert run.process.wait(200 * slowness()) == 0, run.said
    kills = 0
    while True:
        with started(command(tmp_path / "killed", "--recovery", tmp_path / "memory"), tmp_path / "killed", {}) as run:
            if kills < 2:
                kills += killed_at_work(run, tmp_path / "killed" / "predictions.jsonl", 400_000 * (kills + 1))
                continue
            assert run.process.wait(200 * slowness()) == 0, run.said
            break

    for name in ("predictions.jsonl", "outcomes.jsonl", "predictions.deletions.jsonl"):
        assert sorted((tmp_path / "killed" / name).read_bytes().splitlines()) == sorted(
            (tmp_path / "whole" / name).read_bytes().splitlines()
        )
    assert report_in(tmp_path / "killed" / "report.json")["account"] == report_in(tmp_path / "whole" / "report.json")["account"]


def killed_at_work(run: Running, path: Path, size: int) -> int:
    """Kills it as soon as so many bytes are written."""
    wait_until(lambda: run.process.poll() is not None or (path.exists() and path.stat().st_size >= size), "something is written")
    assert run.process.poll() is None, run.said
    run.kill()
    return 1
