"""`beepgpt forget` on all topics of a broker, and what `check`, `topics` and `alert` say then: the steps of docs/privacy.md."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from beepgpt.connectors.kafka import Connection, KafkaLog, Writer
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from tests.support import run_program
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT

pytestmark = pytest.mark.slow
PERSON, OTHER = "UQUOKKA01", "UOTHER001"


def written(log: KafkaLog, name: str) -> list[bytes]:
    """The values on a topic."""
    return [record.value or b"" for _, record in log.records(name)]


def test_all_of_ours_are_rewritten_and_keep_their_names(broker: Broker | GivenBroker, tmp_path: Path):
    """By the names and the prefix of the settings; somebody else's stays. `check` is content before and after, with the same settings."""
    at, log, prefix = f"kafka://{broker.bootstrap}", KafkaLog(Connection(broker.bootstrap)), f"test-{uuid4().hex[:12]}"
    kinds = ("events", "interactions", "alerts", "outcomes", "late", "bad", "events.2")
    events, *others = (f"{prefix}.{kind}" for kind in kinds)
    env = {
        "BEEPGPT_RUN__FORGOTTEN": str(tmp_path / "list.json"),
        "BEEPGPT_CLUSTER__SOURCE": f"{at}/{events}?follow=true",
        "BEEPGPT_SLACK__INTERACTIONS_TOPIC": f"{prefix}.interactions",
        "BEEPGPT_KAFKA__LATE_TOPIC": f"{prefix}.late",
        "BEEPGPT_KAFKA__DEAD_LETTER_TOPIC": f"{prefix}.bad",
    }

    def run(*command: object) -> str:
        done = run_program(*command, env=env, cwd=tmp_path)
        assert done.returncode in (0, 1, 2), done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def topics_found() -> str:
        done = run_program("check", "--json", env=env, cwd=tmp_path)
        (found,) = (each for each in json.loads(done.stdout) if each["check"] == "topics")
        return f"{found['is_ok']}: {found['found']}"

    assert topics_found().startswith(f"False: {events}, ")
    assert "9 topics" not in run("topics", at, "--prefix", prefix, "--partitions", "2") and topics_found().startswith("True: all 9 ")
    log.create([TopicSpec(name, 2, KEPT) for name in (others[-1], f"other-{prefix}.events")])
    for name in (events, *others, f"other-{prefix}.events"):
        with Writer(log.connection, name) as writer:
            for number, user in enumerate((PERSON, OTHER)):
                said = {"type": "message", "channel": "C1", "user": user, "text": "hi", "ts": f"170420000{number}.000100"}
                writer.send([OutgoingRecord(b"C1", json.dumps(said).encode())])

    forget = ("forget", "--user", PERSON, "--from", at, "--yes")
    beside = run(*forget)
    assert "topics that were looked into: " in beside and f"{prefix}.events.2" in beside and f"other-{prefix}" not in beside
    assert len(written(log, events)) == 2 and topics_found().startswith(f"False: beepgpt forget wrote {events}.")
    log.delete(events)
    assert f"--from {at}/{events}" in run("topics", at, "--prefix", prefix) and events not in log.topics()

    dropped = run(*forget, "--drop")
    assert f"put in its place from {events}." in dropped and "rewritten in its place" in dropped, dropped
    assert topics_found().startswith("True: all 9 ")
    for name in (events, *others):
        (value,) = written(log, name)
        assert json.loads(value)["user"] == OTHER
    assert len(written(log, f"other-{prefix}.events")) == 2
    assert "nothing was found in" in run(*forget)


def test_a_broker_that_does_not_answer_misses_nothing(tmp_path: Path):
    """It is said to be unreachable, in words, and its topics are not called missing."""
    done = run_program("check", "--broker", "kafka://127.0.0.1:1", "--json", env={"BEEPGPT_RUN__FORGOTTEN": str(tmp_path / "list.json")})
    (found,) = (each for each in json.loads(done.stdout) if each["check"] == "topics")

    assert done.returncode == 1 and found["is_ok"] is None
    assert "no answer from 127.0.0.1:1: check that the broker runs" in found["found"] and "KafkaTimeoutError" not in found["found"]


def test_a_name_that_is_no_id_finds_nothing_and_that_is_said(tmp_path: Path):
    """One place is one place."""
    (tmp_path / "events.jsonl").write_text('{"type":"message","channel":"C1","user":"U2","text":"hi","ts":"1704200000.000100"}\n')
    env = {"BEEPGPT_RUN__FORGOTTEN": str(tmp_path / "list.json")}
    done = run_program("forget", "--user", "nobody", "--from", tmp_path / "events.jsonl", env=env)
    said = " ".join(done.stderr.split())

    assert done.returncode == 0 and "nothing was found in 1 place " in said
    assert "nobody: doesn't look like an id, and nothing is found by a name: U024BE7LH is one of a person" in said
    theirs = run_program("forget", "--user", "U2", "--from", tmp_path / "events.jsonl", env=env)
    assert "found 1 in 1 place nothing was changed" in " ".join(theirs.stderr.split())
