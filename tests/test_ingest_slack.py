"""`beepgpt ingest slack`, from a local Slack over real sockets onto a real broker: nothing is lost, and nothing stands there twice."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from connectors import kafka
from connectors.kafka import Connection, Message, TopicSpec, Writer, create_topics, partition_of
from conversations.events import micros, ts_text
from tests.broker import Broker
from tests.kafka_support import KEPT, Running, address, free_block, started, wait_until
from tests.slack_server import BOT_USER, Server, serving
from tests.support import program

QUICK = {
    "BEEPGPT_SLACK__DELAY": "1s",
    "BEEPGPT_SLACK__CHECK": "1s",
    "BEEPGPT_SLACK__CALLS_PER_MINUTE": "100000",
    "BEEPGPT_RUN__LOG_LEVEL": "info",
}
"""Heartbeats and checks come sooner than they should."""


class Place:
    """Topics of one test, and what stands there."""

    def __init__(self, connection: Connection, partitions: int = 3) -> None:
        name = f"test-{uuid4().hex[:12]}"
        self.connection, self.partitions = connection, partitions
        self.events, self.interactions = f"{name}.events", f"{name}.interactions"
        create_topics(connection, [TopicSpec(self.events, partitions, KEPT), TopicSpec(self.interactions, 2, KEPT)])

    @property
    def to(self) -> str:
        return address(self.connection, self.events)

    def records(self) -> list[tuple[int, kafka.Record]]:
        return list(kafka.records_of(self.connection, self.events))

    def bodies(self) -> list[dict[str, Any]]:
        """All events, by partition, in their order there."""
        found = [json.loads(record.value or b"{}") for _, record in self.records()]
        return [each for each in found if each["type"] != "heartbeat"]

    def beats(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {number: [] for number in range(self.partitions)}
        for number, record in self.records():
            body = json.loads(record.value or b"{}")
            if body["type"] == "heartbeat":
                found[number].append(micros(body["at"]))
        return found

    def said(self) -> list[str]:
        """The texts of what was posted."""
        return [each["event"]["text"] for each in self.bodies() if "text" in each["event"] and "subtype" not in each["event"]]

    def wait_for(self, texts: list[str], seconds: float = 30) -> None:
        wait_until(lambda: len(self.said()) >= len(texts), f"{len(texts)} messages are on the topic", seconds)
        assert sorted(self.said()) == sorted(texts)

    def wait_for_beat(self, after: str | None = None) -> None:
        """Until every partition knows of that time."""
        at = 0 if after is None else micros(after)
        wait_until(lambda: all(beats and beats[-1] > at for beats in self.beats().values()), "heartbeats are there", 30)


@pytest.fixture
def place(broker: Broker) -> Place:
    return Place(Connection(broker.bootstrap))


@contextmanager
def ingesting(server: Server, place: Place, folder: Path, *arguments: object, **settings: str) -> Iterator[Running]:
    """The command, with a metrics port; killed if it still runs at the end."""
    port = free_block(1)
    command = program("ingest", "slack", "--to", place.to, "--metrics-port", port, *arguments)
    told = QUICK | server.settings | {"BEEPGPT_SLACK__INTERACTIONS_TOPIC": place.interactions}
    told |= {f"BEEPGPT_SLACK__{name.upper()}": value for name, value in settings.items()}
    with started(command, folder, told, port, 1) as run:
        yield run


def connected(run: Running) -> None:
    """It is connected, whether or not it misses something."""

    def is_so() -> bool:
        assert run.process.poll() is None, run.said
        return run.figure("beepgpt_slack_connected") == 1

    wait_until(is_so, "it is connected")


def test_what_is_said_is_on_the_topic_in_order_and_then_acknowledged(slack_server: Server, place: Place, tmp_path: Path):
    """Each event as Slack sent it and when it came, under its channel; heartbeats in every partition; a stop ends well."""
    slack = slack_server.workspace
    channels = [slack.add_channel(f"C{number}") for number in range(5)]
    with ingesting(slack_server, place, tmp_path, "--report", tmp_path / "report.json") as run:
        connected(run)
        texts = [f"message {number}" for number in range(60)]
        for number, text in enumerate(texts):
            ts = slack.post(channels[number % 5], f"U{number % 3}", text)
        place.wait_for(texts)
        run.wait_until_ready()
        place.wait_for_beat(ts)
        assert run.stop() == 0, run.said
    for number, record in place.records():
        body = json.loads(record.value or b"{}")
        if body["type"] == "event_callback":
            assert record.key == body["event"]["channel"].encode() and number == partition_of(record.key, place.partitions)
            assert body["event_id"] in slack_server.acknowledged and micros(body["received_at"]) >= micros(body["event"]["ts"])
            assert "token" not in body and body["team_id"] == "T0TEST"
    for channel in channels:
        times = [each["event"]["ts"] for each in place.bodies() if each["event"]["channel"] == channel]
        assert times == sorted(times)
    account = json.loads((tmp_path / "report.json").read_bytes())["account"]
    assert (account["arrived"], account["written"], account["adds_up"]) == (60, 60, True)
