"""A life of `beepgpt up` in which its commands are killed at random moments."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.simulation.people import SimulatedWorkspace
from beepgpt.simulation.slack.server import SlackServer
from beepgpt.simulation.workspace import write_export
from beepgpt.up.plan import ORDER
from tests.support import program
from tests.support.kafka import Running, started
from tests.support.speed import slowness, wait_until
from tests.support.up import children_of, kill, plan, settings_of, values_on, wait_until_live, workspace

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1_800)]
KILLS = 20


def talk(server: SlackServer, simulated: SimulatedWorkspace, run: Running, dice: random.Random) -> set[str]:
    """Posts, threads and kills at random; returns what was said."""
    said: set[str] = set()
    for number in range(KILLS * 10):
        channel, (asks, answers) = simulated.channel(number % 3).id, dice.sample(simulated.people, 2)
        said.add(question := f"Question {number}: who knows?")
        ts = server.workspace.post(channel, asks.id, question)
        if number % 2:
            said.add(answer := f"Answer {number}: it is mended.")
            server.workspace.post(channel, answers.id, answer, thread_ts=ts)
        if number % 10 == 9 and (running := sorted(set(ORDER) & set(children_of(run)))):
            kill(run, dice.choice(running))
        time.sleep(dice.random())
    return said


def test_nothing_is_lost_and_nobody_is_alerted_twice(tmp_path: Path):
    """Everything that was said stands on the log once, none of it late, and is scored; each alert is one direct message."""
    of = plan()
    simulated, data = SimulatedWorkspace(of), tmp_path / "live"
    write_export(of, export := tmp_path / "acme.zip")
    command = program("up", "--data", data, "--export", export)
    with workspace(simulated) as (server, people), started(command, tmp_path / "run", settings_of(server)) as run:
        wait_until_live(run, data)
        said = talk(server, simulated, run, random.Random(4))
        log = SqliteLog(f"sqlite://{data / 'log'}")

        def unscored() -> set[str]:
            predictions = json.dumps(values_on(log, "slack.predictions"))
            return {each for each in said if each not in predictions}

        wait_until(lambda: not unscored(), "all of it is scored", 120, said=lambda: f"{sorted(unscored())} {run.said}")
        time.sleep(10 * slowness())  # whoever is to be alerted is
        assert run.stop() == 0, run.said
        messages = [(each.id, json.dumps(sent["blocks"])) for each in simulated.people for sent in people.sent_to(each.id)]

    events = Counter(each["event"].get("text") for each in values_on(log, "slack.events") if "event" in each)
    assert {each: events[each] for each in said if events[each] != 1} == {}
    assert values_on(log, "slack.late") == values_on(log, "slack.dead-letters") == []
    alerts = Counter((each["user"], each["conversation"]) for each in values_on(log, "slack.alerts"))
    assert alerts and set(alerts.values()) == {1}
    assert messages and max(Counter(messages).values()) == 1
