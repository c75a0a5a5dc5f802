"""A pair of model and threshold is swapped while it is used: score and alert follow it together, without a restart."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from beepgpt.connectors.kafka import Connection, OutgoingRecord, TopicSpec, Writer, create_topics, records_of
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import SECOND
from beepgpt.runtime.clock import now_us
from tests.support import program
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT, address, free_block, heartbeat_at, started
from tests.support.speed import wait_until
from tests.test_from_slack_to_slack import history
from tests.training.test_live import pair


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_score_and_alert_follow_a_pair(broker: Broker | GivenBroker, tmp_path: Path):
    """By the first pair nobody is likely enough, by the second everybody is: no prediction is judged by the other one's threshold."""
    connection, name = Connection(broker.bootstrap), f"test-{uuid4().hex[:12]}"
    topics = {each: f"{name}.{each}" for each in ("events", "predictions")}
    create_topics(connection, [TopicSpec(each, 1, KEPT) for each in topics.values()])
    (tmp_path / "users.json").write_text(json.dumps([{"id": user, "tz": "Etc/UTC"} for user in ("UANA", "UBO", "UCY", "UED")]))
    (tmp_path / "channels.json").write_text(json.dumps([{"id": "C1", "name": "c1", "members": ["UANA", "UBO", "UCY", "UED"]}]))
    writer = Writer(connection, topics["events"])
    writer.send(OutgoingRecord(b"C1", json.dumps(each).encode()) for each in history())
    writer.flush()
    live, alerts, port = tmp_path / "live", tmp_path / "alerts.jsonl", free_block(1)
    first = pair(live, 1, 0.99)
    follow = {each: address(connection, topic) + "?follow=true" for each, topic in topics.items()}
    score = program("score", follow["events"], "--model", live, "--to", address(connection, topics["predictions"]), "--metrics-port", port)
    alert = program("alert", follow["predictions"], "--model", live, "--members", tmp_path, "--to", alerts)
    settings = {
        "BEEPGPT_ALERTS__STORE": str(tmp_path / "alerts.sqlite"),
        "BEEPGPT_ALERTS__QUIET": "",
        "BEEPGPT_ALERTS__LIST_FROM": "",
        "BEEPGPT_ALERTS__OPTED_IN": "true",
        "BEEPGPT_SCORING__WATCH": "100ms",
    }

    def ask() -> str:
        """Ana asks something; its time."""
        ts = ts_text(now_us())
        body = {"type": "message", "channel": "C1", "user": "UANA", "text": "Why is the build red again?", "ts": ts}
        writer.send([OutgoingRecord(b"C1", json.dumps(body).encode()), OutgoingRecord(None, heartbeat_at(now_us() + 6 * SECOND), (), 0)])
        writer.flush()
        return ts

    def predicted() -> dict[str, str]:
        """The model of each prediction, by its newest message."""
        values: list[dict[str, Any]] = [json.loads(each.value) for _, each in records_of(connection, topics["predictions"]) if each.value]
        return {each["window"][-1]["ts"]: each["model"] for each in values}

    with ExitStack() as stack:
        scoring = stack.enter_context(started(score, tmp_path / "score", settings, port, 1))
        stack.enter_context(started(alert, tmp_path / "alert", settings))
        scoring.wait_until_ready()
        before = ask()
        wait_until(lambda: before in predicted(), "the first question is scored", said=lambda: scoring.said)
        second = pair(live, 2, 0.01)
        wait_until(lambda: ask() and second.name in predicted().values(), "the second model is asked")
        wait_until(lambda: alerts.exists() and alerts.read_text().endswith("\n"), "somebody is alerted", said=lambda: str(predicted()))

    models = predicted()
    told = [json.loads(line) for line in alerts.read_text().splitlines()]
    assert models[before] == first.name and {each["model"] for each in told} == {second.name}
    assert all(models[each["message_ts"]] == second.name for each in told)
