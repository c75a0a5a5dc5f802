"""The whole of it, in processes of its own: what is said in Slack comes back to Slack, to whom it is for, and goes when it is deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from beepgpt.clock import now_us
from beepgpt.connectors.kafka import Connection, Writer, create_topics, records_of
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import MINUTE, SECOND
from beepgpt.simulation.slack.whole import one_slack
from beepgpt.simulation.slack.workspace import TEAM
from tests.support import program
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT, address, started
from tests.support.ports import free_ports
from tests.support.scoring import save
from tests.support.speed import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECRET = "Does anybody know why the build of the zeppelin is red?"
LEAST = 0.01


def history() -> Iterator[dict[str, Any]]:
    """Of the last hours: Ana asks, and Bo answers; once it was Cy, and once Ed."""
    begin = now_us() - 300 * MINUTE
    for number, who in enumerate(("UBO", "UCY", "UBO", "UED", "UBO", "UBO", "UBO")):
        at = begin + number * 30 * MINUTE
        yield {"type": "message", "channel": "C1", "user": "UANA", "text": "Why is the build red again?", "ts": ts_text(at)}
        yield {"type": "message", "channel": "C1", "user": who, "text": "The build is mended", "ts": ts_text(at + 40 * SECOND)}


def test_a_question_comes_to_who_will_answer_it_and_goes_with_its_message(broker: Broker | GivenBroker, tmp_path: Path):
    """Bo and Ed turn it on in App Home; Ana asks; Bo gets a letter, and neither Cy, who did not ask for any, nor Ed, who can't see the
    channel any more. She deletes her question, and nothing that Bo sees holds it."""
    connection, name = Connection(broker.bootstrap), f"test-{uuid4().hex[:12]}"
    topics = {each: f"{name}.{each}" for each in ("events", "interactions", "predictions", "outcomes")}
    create_topics(connection, [TopicSpec(each, 2, KEPT) for each in topics.values()])
    with Writer(connection, topics["events"]) as writer:
        writer.send(OutgoingRecord(b"C1", json.dumps(each).encode()) for each in history())
        writer.flush()

    def follow(topic: str) -> str:
        return address(connection, topics[topic]) + "?follow=true"

    def to(topic: str) -> str:
        return address(connection, topics[topic])

    model = save(tmp_path / "model")
    ports = free_ports(2)
    ingest = program("ingest", "slack", "--to", to("events"), "--metrics-port", ports)
    score = program("score", follow("events"), "--model", model, "--to", to("predictions"), "--outcomes", to("outcomes"))
    score = [*score, "--metrics-port", str(ports + 1)]
    alert = program("alert", follow("predictions"), "--interactions", follow("interactions"), "--outcomes", follow("outcomes"))
    alert = [*alert, "--deletions", follow("events"), "--threshold", str(LEAST)]
    with one_slack() as (server, people), ExitStack() as stack:
        for name in ("UANA", "UBO", "UCY"):
            people.user(name, team_id=TEAM)
        people.user("UED", team_id=TEAM, is_restricted=True)  # a guest, who was a member once
        people.channel("C1", "UANA", "UBO", "UCY")
        server.workspace.add_channel("C1")
        settings = server.settings | {
            "BEEPGPT_SLACK__INTERACTIONS_TOPIC": topics["interactions"],
            "BEEPGPT_SLACK__DELAY": "1s",
            "BEEPGPT_SLACK__CALLS_PER_MINUTE": "100000",
            "BEEPGPT_ALERTS__STORE": str(tmp_path / "alerts.sqlite"),
            "BEEPGPT_ALERTS__QUIET": "",
            "BEEPGPT_ALERTS__LIST_FROM": "",
        }
        runs = []
        for number, (command, port) in enumerate(((ingest, ports), (score, ports + 1), (alert, 0))):
            folder = tmp_path / str(number)
            folder.mkdir()
            runs.append(stack.enter_context(started(command, folder, settings, port, 1 if port else 0)))
        for run in runs[:2]:
            run.wait_until_ready()
        for user in ("UBO", "UED"):
            server.send_event({"type": "app_home_opened", "user": user, "tab": "home", "event_ts": server.workspace.now()})
            server.send_interaction({"type": "block_actions", "user": {"id": user}, "actions": [{"action_id": "opt_in", "value": "on"}]})
        wait_until(lambda: json.dumps(people.homes).count("Turn off") == 2, "both have turned it on")

        ts = server.workspace.post("C1", "UANA", SECRET)
        wait_until(lambda: bool(people.sent_to("UBO")), "Bo is told")
        (letter,) = people.sent_to("UBO")
        assert SECRET in json.dumps(letter["blocks"])
        wait_until(lambda: SECRET in json.dumps(people.homes["UBO"]), "it stands in his App Home")

        server.workspace.delete("C1", ts)
        wait_until(lambda: not people.sent_to("UBO"), "the letter is gone")
        wait_until(lambda: SECRET not in json.dumps(people.homes), "it is gone from App Home")
        assert [run.stop() for run in runs] == [0, 0, 0], [run.said for run in runs]

    found = [json.loads(record.value or b"{}") for _, record in records_of(connection, topics["predictions"])]
    likely = [each["user"] for point in found for each in point.get("people", ()) if each["p"] >= LEAST]
    assert {"UBO", "UCY", "UED"} <= set(likely), "or nobody would have been wrong to tell"
    assert {user: people.sent_to(user) for user in ("UANA", "UCY", "UED")} == {"UANA": [], "UCY": [], "UED": []}
    assert SECRET not in "".join(run.said for run in runs)
