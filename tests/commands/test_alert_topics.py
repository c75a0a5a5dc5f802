"""`beepgpt alert` from topics of either log: what their events tell of who answered, and topics that were made again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from beepgpt.alerts.reading import read_in_order
from beepgpt.alerts.store import AlertStore
from beepgpt.clock import now_us
from beepgpt.commands.alert_sources import source_of
from beepgpt.config.settings import read_settings
from beepgpt.connectors.log import Log, OutgoingRecord, TopicSpec
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY, SECOND
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from tests.support import program, run_program
from tests.support.alerts import Clock, Office, prediction
from tests.support.kafka import KEPT, started
from tests.support.logs import set_retention, write_to
from tests.support.slack_web_api import TOKEN
from tests.support.speed import slowness, wait_until

NAMES = ("predictions", "interactions", "events")


class AlertTopics:
    """Topics of one test, and the command that reads them."""

    def __init__(self, log: Log, folder: Path, slack: AlertedWorkspace) -> None:
        self.log, self.folder = log, folder
        name = f"test-{uuid4().hex[:12]}"
        self.topics = {each: f"{name}.{each}" for each in NAMES}
        self.settings = {
            "BEEPGPT_ALERTS__STORE": str(folder / "alerts.sqlite"),
            "BEEPGPT_ALERTS__QUIET": "",
            "BEEPGPT_SLACK__BOT_TOKEN": TOKEN,
            "BEEPGPT_SLACK__BASE_URL": slack.url,
        }
        self.make(*NAMES)

    def make(self, *names: str) -> None:
        """Make topics, and those again that are there."""
        wanted = [self.topics[name] for name in names]
        for each in self.log.topics(wanted):
            self.log.delete(each)
        wait_until(lambda: not self.log.topics(wanted), "the topics are deleted")
        self.log.create([TopicSpec(each, 2, KEPT) for each in wanted])

    def put(self, name: str, *values: Any) -> None:
        """Write records of one key."""
        write_to(self.log, self.topics[name], *(OutgoingRecord(b"C1", json.dumps(each).encode()) for each in values))

    def command(self, *names: str, query: str = "") -> tuple[str, ...]:
        """The command, with some of its sources."""
        flags = {"interactions": "--interactions", "events": "--deletions"}
        places = {each: f"{self.log.place}/{topic}{query}" for each, topic in self.topics.items()}
        given = [part for name in names for part in (flags[name], places[name])]
        return ("alert", places["predictions"], *given, "--threshold", "0.5")

    def run(self, *names: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Read the topics to their ends."""
        return run_program(*self.command(*names), env=self.settings | more)


@pytest.fixture
def topics(log: Log, tmp_path: Path, slack: AlertedWorkspace) -> AlertTopics:
    return AlertTopics(log, tmp_path, slack)


def opting(user: str, how: str = "opt_in") -> dict[str, Any]:
    return {"type": "block_actions", "user": {"id": user}, "actions": [{"action_id": how}]}


@pytest.mark.parametrize("in_thread", [True, False])
def test_who_has_just_answered_is_not_alerted(topics: AlertTopics, slack: AlertedWorkspace, in_thread: bool):
    """Their answer is on slack.events before the point is predicted; a run that reads it keeps it for the next one."""
    at = now_us() - 2 * SECOND
    root = {"type": "message", "channel": "C1", "user": "ana", "text": "Is it red?", "ts": ts_text(at)}
    thread = {"thread_ts": ts_text(at)} if in_thread else {}
    topics.put("events", root, {**root, **thread, "user": "bo", "text": "No", "ts": ts_text(at + SECOND)})
    done = [topics.run("events", BEEPGPT_ALERTS__OPTED_IN="true")]
    topics.put("predictions", prediction(at, people={"bo": 0.9, "cy": 0.8}))
    done += [topics.run(BEEPGPT_ALERTS__OPTED_IN="true")]

    assert [each.returncode for each in done] == [0, 0], [each.stderr for each in done]
    assert (len(slack.sent_to("bo")), len(slack.sent_to("cy"))) == (0, 1)


def test_an_answer_that_comes_while_predictions_are_read_counts(files: SqliteLog, tmp_path: Path, slack: AlertedWorkspace):
    """It stands on slack.events before the prediction that it releases stands on its topic: events are read once more before sending."""
    topics, at = AlertTopics(files, tmp_path, slack), now_us() - SECOND
    office = Office(tmp_path, slack, clock=Clock(at + SECOND))
    office.opt_in("bo", "cy")
    topics.put("predictions", prediction(at, people={"bo": 0.9, "cy": 0.8}))

    def answer(records: Sequence[bytes], now: int) -> None:
        topics.put("events", {"type": "message", "channel": "C1", "user": "bo", "text": "No", "ts": ts_text(at + 1)})

    how = (read_settings(environ={}), office.decider, office.decider.apply_record)
    places = {name: f"{files.place}/{topic}?follow=true" for name, topic in topics.topics.items()}
    sources = [
        source_of("deletions", places["events"], *how, None, lambda: False),
        source_of("predictions", places["predictions"], *how, answer, lambda: False),
    ]
    assert read_in_order(sources)
    office.work()

    assert (len(slack.sent_to("bo")), len(slack.sent_to("cy"))) == (0, 1)
    assert office.counts["refused:participant"] == 1


@pytest.mark.parametrize("everybody", ["true", "false"])
def test_that_nobody_can_opt_in_is_said_before_anything(files: SqliteLog, tmp_path: Path, slack: AlertedWorkspace, everybody: str):
    """With the flag that is missing, and how many get alerts as it is."""
    topics = AlertTopics(files, tmp_path, slack)
    without, with_it = (topics.run(*names, BEEPGPT_ALERTS__OPTED_IN=everybody) for names in ((), ("interactions",)))

    assert (without.returncode, with_it.returncode) == (0, 0), without.stderr + with_it.stderr
    who = "everybody gets alerts" if everybody == "true" else "0 people have turned alerts on"
    expected = f"Warning: without --interactions nobody can turn alerts on or off; {who}. Add --interactions"
    assert f"{expected} '{files.place}/slack.interactions?follow=true'." in without.stderr
    assert "Warning" not in with_it.stderr


def test_topics_that_were_made_again_are_read_from_their_beginning(topics: AlertTopics, slack: AlertedWorkspace):
    """As after `forget --drop`: who opted out stays out, nobody is alerted twice, and what is new alerts."""
    slack.channel("C2", "ana", "bo", "cy")
    at = now_us() - 2 * SECOND
    first, new = (prediction(at + each, people={"bo": 0.9, "cy": 0.8}, channel=f"C{each + 1}") for each in range(2))
    topics.put("interactions", opting("bo"), opting("cy"), opting("cy", "opt_out"))
    topics.put("predictions", prediction(at - SECOND, people={"di": 0.1}), first)
    done = [topics.run("interactions", "events")]
    topics.make(*NAMES)
    topics.put("interactions", opting("bo"))
    topics.put("predictions", first)
    done += [topics.run("interactions", "events")]
    assert len(slack.sent_to("bo")) == 1
    topics.put("predictions", new)
    done += [topics.run("interactions", "events")]

    assert [each.returncode for each in done] == [0] * 3, [each.stderr for each in done]
    said = [" ".join(each.stderr.split()) for each in done]
    assert [each.count("is read again from its beginning") for each in said] == [0, 3, 0]
    assert len(slack.sent_to("bo")) == 2 and not slack.sent_to("cy")
    with closing(AlertStore(topics.folder / "alerts.sqlite")) as store:
        assert store.preferences("bo").opted_in is True and store.preferences("cy").opted_in is False


def test_what_was_removed_before_it_was_read_is_named_and_left_behind(files: SqliteLog, tmp_path: Path, slack: AlertedWorkspace):
    """A store outlives what its topics keep: the run goes on with what is there."""
    topics = AlertTopics(files, tmp_path, slack)
    topic, now = topics.topics["interactions"], now_us()

    def put(at: int, value: dict[str, Any]) -> None:
        write_to(files, topic, OutgoingRecord(b"C1", json.dumps(value).encode(), (), None, at))

    put(now - DAY, opting("bo"))
    done = [topics.run("interactions")]
    set_retention(files, topic, 3_600_000)
    put(now - DAY, opting("bo", "opt_out"))
    put(now, opting("cy"))
    files.clean(topic)
    topics.put("predictions", prediction(now_us() - 2 * SECOND, people={"bo": 0.9, "cy": 0.8}))
    done += [topics.run("interactions") for _ in range(2)]

    assert [each.returncode for each in done] == [0] * 3, [each.stderr for each in done]
    assert ["not read yet are gone, or older than alerts.kept (1)" in " ".join(each.stderr.split()) for each in done] == [
        False,
        True,
        False,
    ]
    assert (len(slack.sent_to("bo")), len(slack.sent_to("cy"))) == (1, 1)


def test_a_topic_that_is_made_again_while_it_is_read_ends_the_run_and_costs_no_preferences(
    files: SqliteLog, tmp_path: Path, slack: AlertedWorkspace
):
    """What is said sends nobody to delete the store; the same command again goes on."""
    topics = AlertTopics(files, tmp_path, slack)
    topics.put("interactions", opting("bo"))
    command = program(*topics.command("interactions", query="?follow=true"))
    with started(command, tmp_path / "run", topics.settings) as process:
        wait_until((tmp_path / "alerts.sqlite").exists, "it runs", 30)
        topics.put("predictions", prediction(now_us(), people={"bo": 0.9}))
        wait_until(lambda: slack.sent_to("bo"), "bo is alerted")
        topics.make("interactions")
        assert process.process.wait(30 * slowness()) == 1
        said = " ".join(process.said.split())

    assert "made again" in said and "give the same command again" in said and "recovery store" not in said
    assert f"{tmp_path / 'alerts.sqlite'} keeps what people asked for" in said
    assert topics.run("interactions").returncode == 0
