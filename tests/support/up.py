"""`beepgpt up` beside the tests' Slack: its workspace, its settings, its commands, and what it wrote."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from beepgpt.clock import now_us
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.rules import DAY
from beepgpt.simulation.people import SimulatedWorkspace
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from beepgpt.simulation.slack.server import SlackServer
from beepgpt.simulation.slack.whole import one_slack
from beepgpt.simulation.slack.workspace import TEAM
from beepgpt.simulation.workspace import Plan
from tests.support.kafka import Running
from tests.support.speed import wait_until

DAYS = 30


def plan() -> Plan:
    """A workspace whose history ends an hour ago."""
    return Plan(seed=7, messages=1_500, channels=3, people=14, days=DAYS, start=now_us() - DAYS * DAY - 3_600_000_000, private=0)


@contextmanager
def workspace(simulated: SimulatedWorkspace) -> Iterator[tuple[SlackServer, AlertedWorkspace]]:
    """A Slack with the people and channels of a simulated workspace, nothing said in it yet, and all have opted in."""
    with one_slack() as (server, people):
        for each in simulated.people:
            people.user(each.id, team_id=TEAM)
        for channel in map(simulated.channel, range(simulated.plan.channels)):
            people.channel(channel.id, *(each.id for each in simulated.people))
            server.workspace.add_channel(channel.id)
        yield server, people


def settings_of(server: SlackServer) -> dict[str, str]:
    """Variables for `up`: quick heartbeats, no quiet hours, alerts that come easily, and none that is dropped."""
    return server.settings | {
        "BEEPGPT_CONVERSATIONS__WORKSPACE": "acme",
        "BEEPGPT_SLACK__DELAY": "1s",
        "BEEPGPT_SLACK__CALLS_PER_MINUTE": "100000",
        "BEEPGPT_ALERTS__QUIET": "",
        "BEEPGPT_ALERTS__LIST_FROM": "",
        "BEEPGPT_ALERTS__OPTED_IN": "true",
        "BEEPGPT_ALERTS__THRESHOLD": "0.001",  # whoever the model thinks of, at whatever time of day this runs
        "BEEPGPT_RUN__SNAPSHOT_EVERY": "1s",
        "BEEPGPT_SCORING__DEADLINE": "2m",  # of a machine that does much else
    }


def children_of(run: Running) -> dict[str, int]:
    """The processes that it started, by the command that each runs."""
    found = {}
    for pid in run.workers():
        with suppress(OSError, ValueError):  # it may end meanwhile
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            found[words[words.index("beepgpt.commands.up_child") + 1]] = pid
    return found


def kill(run: Running, name: str) -> None:
    """`kill -9` of a command."""
    os.kill(children_of(run)[name], signal.SIGKILL)
    wait_until(lambda: f"{name} was killed (SIGKILL)" in run.said, f"{name} is missed", said=lambda: run.said)


def wait_until_back(run: Running, name: str) -> None:
    """Return once a command that ended runs again."""
    wait_until(lambda: name in children_of(run), f"{name} is back", said=lambda: run.said)


def page_of(run: Running) -> str:
    """The page of what runs, opened with its printed address."""
    found = re.search(r"What runs, and how well: (http://127.0.0.1:\d+/)(\?token=\S+)", run.said)
    assert found is not None, run.said
    with urllib.request.urlopen(found[1] + found[2], timeout=10) as welcome:
        cookie = welcome.headers["Set-Cookie"].partition(";")[0]
    with urllib.request.urlopen(urllib.request.Request(found[1], headers={"Cookie": cookie}), timeout=10) as answer:
        return str(answer.read().decode())


def values_on(log: SqliteLog, topic: str) -> list[dict[str, Any]]:
    """The records of a topic; tombstones are left out."""
    return [json.loads(record.value) for _, record in log.records(topic) if record.value is not None]


def wait_until_live(run: Running, data: Path) -> None:
    """Return once what is said is scored, and people are alerted."""
    wait_until(lambda: "alert" in children_of(run), "the model is there", 200, said=lambda: run.said)
    wait_until(lambda: "alerts.sqlite: is a new store" in run.said, "alert has begun", said=lambda: run.said)
    wait_until((data / "state" / "score" / "run.json").exists, "score has begun", said=lambda: run.said)
