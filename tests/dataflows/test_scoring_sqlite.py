"""Scoring into topics in a folder: one run at a time, and the next one goes on where a killed one was."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from beepgpt.connectors.log import OutgoingRecord, TopicSpec, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.rules import SECOND
from tests.support import histories, program, run_program
from tests.support.kafka import KEPT, Running, Topics, address, heartbeat_at, messages_of, new_topics, put, started
from tests.support.ports import free_ports
from tests.support.scoring import save
from tests.support.speed import wait_until


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "local")


def log_with_topics(folder: Path) -> tuple[SqliteLog, Topics]:
    """A log with topics of two partitions for all that a score reads and writes."""
    log = SqliteLog(folder_place(str(folder)))
    log.create([TopicSpec(name, 2, KEPT) for name in ("predictions", "outcomes", "others")])
    return log, new_topics(log, 2)


def outputs(log: SqliteLog, predictions: str = "predictions", outcomes: str = "outcomes") -> tuple[str, ...]:
    return ("--to", address(log, predictions), "--outcomes", address(log, outcomes))


@contextmanager
def scoring(topics: Topics, folder: Path, model: Path, workers: int) -> Iterator[Running]:
    """A run that follows the events, once it reads."""
    port = free_ports(workers)
    command = program(
        "score", topics.source(follow="true"), "--model", model, *outputs(topics.connection), "--workers", workers,
        "--recovery", folder / "memory", "--metrics-port", port, "--snapshot-every", "200ms",
    )  # fmt: skip
    with started(command, folder, topics.settings, port, workers) as run:
        run.wait_until_ready()
        yield run


def questions(*texts: str) -> list[OutgoingRecord]:
    """A message of now for each, and the heartbeats by which they are released."""
    now = int(time.time() * 1e6)
    records = [("C0", histories.post("C0", now + number * SECOND // 10, "ana", text).line) for number, text in enumerate(texts)]
    return list(messages_of([*records, (None, heartbeat_at(now + 11 * SECOND // 2))], 2))


def asked(log: SqliteLog) -> Counter[str]:
    """How often the newest message of each prediction stands there."""
    bodies = [json.loads(record.value) for _, record in log.records("predictions") if record.value is not None]
    return Counter(each["prompt"].split("\n\n###")[0].split("\n\n")[-1] for each in bodies if "prompt" in each)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_second_score_to_a_topic_is_refused(tmp_path: Path, model: Path, workers: int):
    """Of its predictions or its outcomes, by one process or by several; after a kill -9 the first one goes on when it is started again."""
    log, topics = log_with_topics(tmp_path / "log")
    with scoring(topics, tmp_path, model, workers) as run:
        put(topics, questions("Is it red?"))
        wait_until(lambda: asked(log)["Is it red?"] == 1, "it is predicted")
        for more in (1, 2):
            for name, to in (("predictions", outputs(log, outcomes="others")), ("outcomes", outputs(log, predictions="others"))):
                second = run_program("score", topics.source(), "--model", model, *to, "--workers", more)
                assert second.returncode == 1 and f"beepgpt: {name}: another process writes to this topic" in second.stderr
        run.kill()
    put(topics, questions("And now?"))
    with scoring(topics, tmp_path, model, workers) as run:
        wait_until(lambda: asked(log)["And now?"] >= 1, "what was said meanwhile is predicted")
        assert run.stop() == 0, run.said

    assert set(asked(log)) == {"Is it red?", "And now?"}


def test_the_next_command_has_all_that_alerts_read(tmp_path: Path, model: Path):
    """Who opted in, what was deleted and who answered, and what became of the predictions; a file of events can't be followed."""
    log, topics = log_with_topics(tmp_path / "log")
    put(topics, questions("Is it red?"))
    file = tmp_path / "events.jsonl"
    file.write_bytes(histories.post("C0", 1_700_000_000_000_000, "ana", "Is it red?").line + b"\n")
    expected = {"--interactions": "slack.interactions", "--deletions": topics.events, "--outcomes": "outcomes"}
    for source, to, flags in (
        (topics.source(), outputs(log), expected),
        (file, ("--to", address(log, "others")), {"--interactions": "slack.interactions"}),
    ):
        done = run_program("score", source, "--model", model, *to, "--since", "1970-01-01T00:00:00Z", env=topics.settings)
        assert done.returncode == 0, done.stderr
        (line,) = (each for each in done.stderr.splitlines() if each.startswith("next: "))
        words = [word for flag, topic in flags.items() for word in (flag, f"{address(log, topic)}?follow=true")]
        assert shlex.split(line)[1:] == ["beepgpt", "alert", f"{to[1]}?follow=true", "--model", str(model), *words]
