"""A pair of model and threshold is swapped while it is used: `score` and `alert` go on with it together, without a restart."""

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from beepgpt.clock import now_us
from beepgpt.commands.rehearse import keep
from beepgpt.connectors.kafka import Connection, Writer, create_topics, records_of
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import SECOND
from beepgpt.training.live import name_of
from tests.support import program
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT, address, heartbeat_at, page, started
from tests.support.ports import free_ports
from tests.support.scoring import save
from tests.support.speed import wait_until
from tests.test_from_slack_to_slack import history
from tests.training.test_live import pair

PEOPLE = ("UANA", "UBO", "UCY", "UED")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_score_and_alert_follow_a_pair(broker: Broker | GivenBroker, tmp_path: Path):
    """By the first pair nobody is likely enough, by the second everybody is. Questions come all the time: no prediction of the first model
    alerts anybody, and the very first one of the second does. Then a rehearsal writes a threshold, which is followed, too."""
    connection, name = Connection(broker.bootstrap), f"test-{uuid4().hex[:12]}"
    topics = {each: f"{name}.{each}" for each in ("events", "predictions")}
    create_topics(connection, [TopicSpec(each, 1, KEPT) for each in topics.values()])
    (tmp_path / "users.json").write_text(json.dumps([{"id": user, "tz": "Etc/UTC"} for user in PEOPLE]))
    (tmp_path / "channels.json").write_text(json.dumps([{"id": "C1", "name": "c1", "members": PEOPLE}]))
    writer = Writer(connection, topics["events"])
    writer.send(OutgoingRecord(b"C1", json.dumps(each).encode()) for each in history())
    writer.flush()
    live, alerts, port = tmp_path / "live", tmp_path / "alerts.jsonl", free_ports(2)
    first = pair(live, 1, 0.99)
    follow = {each: address(connection, topic) + "?follow=true" for each, topic in topics.items()}
    score = program("score", follow["events"], "--model", live, "--to", address(connection, topics["predictions"]), "--metrics-port", port)
    alert = program("alert", follow["predictions"], "--model", live, "--members", tmp_path, "--to", alerts, "--metrics-port", port + 1)
    settings = {
        "BEEPGPT_ALERTS__STORE": str(tmp_path / "alerts.sqlite"),
        "BEEPGPT_ALERTS__QUIET": "",
        "BEEPGPT_ALERTS__LIST_FROM": "",
        "BEEPGPT_ALERTS__OPTED_IN": "true",
        "BEEPGPT_SCORING__WATCH": "100ms",
    }

    def ask() -> str:
        """Ana asks something; its time. A heartbeat is ahead by more than the lateness, so the next question may come a second later."""
        time.sleep(1.2)
        ts = ts_text(now_us())
        body = {"type": "message", "channel": "C1", "user": "UANA", "text": "Why is the build red again?", "ts": ts}
        writer.send([OutgoingRecord(b"C1", json.dumps(body).encode()), OutgoingRecord(None, heartbeat_at(now_us() + 6 * SECOND), (), 0)])
        writer.flush()
        return ts

    def predicted() -> list[dict[str, Any]]:
        """All predictions, in their order."""
        return [json.loads(each.value) for _, each in records_of(connection, topics["predictions"]) if each.value]

    def in_use(of: int = 1) -> str:
        (line,) = (each for each in page(port + of, "/metrics")[1].splitlines() if each.startswith("beepgpt_build_info"))
        return line

    with ExitStack() as stack:
        scoring = stack.enter_context(started(score, tmp_path / "score", settings, port, 1))
        alerting = stack.enter_context(started(alert, tmp_path / "alert", settings, port + 1, 1))
        for run in (scoring, alerting):
            run.wait_until_ready()
        before = {ask() for _ in range(3)}
        wait_until(lambda: before <= {each["window"][-1]["ts"] for each in predicted()}, "they are scored", said=lambda: scoring.said)
        assert f'model="{first.name}",threshold="0.99"' in in_use()
        second = pair(live, 2, 0.01)
        wait_until(lambda: ask() and second.name in {each["model"] for each in predicted()}, "the second model is asked")
        wait_until(lambda: alerts.exists() and alerts.read_text().endswith("\n"), "somebody is alerted", said=lambda: alerting.said)
        assert f'model="{second.name}",threshold="0.01"' in in_use()
        assert f'model="{second.name}",' in in_use(0) and 'threshold="0.01"' in in_use(0)
        keep({"threshold": 0.02, "why": "…"}, second, [second.name], stays=True)
        wait_until(lambda: 'threshold="0.02"' in in_use(), "a rehearsal's threshold is taken", said=in_use)
        both = ((scoring, "its figures"), (alerting, "alerts"))
        lines = [
            ("on: model {} with threshold 1 % for {}, in place of {} with 99 %", second.name, first.name),
            ("on: model {} with threshold 2 % for {}, in place of {} with 1 %", second.name, second.name),
        ]
        said = [(run, line.format(now, what, was)) for run, what in both for line, now, was in lines]
        wait_until(lambda: all(run.said.count(line) == 1 for run, line in said), "both say so", said=lambda: alerting.said)
        save(live, seed=3)
        waits = f"the model {name_of(live)} there has no threshold yet: going on with {second.name}"
        wait_until(lambda: all(run.said.count(waits) == 1 for run, _ in both), "both warn of a newer model", said=lambda: alerting.said)

    found = predicted()
    models = [each["model"] for each in found]
    change = models.index(second.name)
    assert change >= 3 and set(models[:change]) == {first.name} and set(models[change:]) == {second.name}
    alerted = [json.loads(line) for line in alerts.read_text().splitlines()]
    assert {each["prediction"] for each in alerted} == {found[change]["id"]}, "others of that conversation alert nobody anew"
    likely = {each["user"] for each in found[change]["people"] if each["p"] >= 0.01 and each["user"] != "UANA"}
    assert {each["user"] for each in alerted} == likely and likely
    assert {each["model"] for each in alerted} == {second.name}
