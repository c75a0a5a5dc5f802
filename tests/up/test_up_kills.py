"""A life of `beepgpt up` in which all that it runs is killed, again and again, also while it builds its next generation."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from beepgpt.connectors.log import LogFailed
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.simulation.people import SimulatedWorkspace
from beepgpt.simulation.slack.server import SlackServer
from beepgpt.simulation.workspace import write_export
from beepgpt.up.folder import DataFolder
from beepgpt.up.plan import ORDER
from tests.support import program
from tests.support.kafka import Running, started
from tests.support.speed import slowness, wait_until
from tests.support.up import plan, settings_of, values_on, wait_until_live, workspace

pytestmark = [pytest.mark.proof, pytest.mark.timeout(5_400)]
BUILDERS = ("next history", "next ingest", "next examples", "next retrain", "next score")
"""What builds the next generation, in its order."""


@dataclass
class Life:
    """A workspace, and the `up` that follows it."""

    folder: Path
    server: SlackServer
    simulated: SimulatedWorkspace
    dice: random.Random
    said: set[str] = field(default_factory=set)
    scored: set[str] = field(default_factory=set)
    """What of it was seen among predictions: those of a generation go with it."""
    killed: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    rebuilds: bool = False
    """Whether the last start asked for a rebuild."""
    stack: ExitStack = field(default_factory=ExitStack)
    run: Running = field(init=False)

    @property
    def data(self) -> DataFolder:
        """Its folder."""
        return DataFolder(self.folder / "live")

    def start(self, *more: str) -> None:
        """Start it, after the one before has ended: by itself, or killed."""
        if self.starts and self.dice.random() < 0.5:
            self.stop()
        self.stack.close()
        self.starts, self.rebuilds = self.starts + 1, "--rebuild" in more
        command = program("up", "--data", self.data.path, *more)
        self.run = self.stack.enter_context(started(command, self.folder / f"run {self.starts}", settings_of(self.server)))

    def stop(self) -> None:
        """End it in order, as it ends while all of its commands run, and none waits to be started again."""
        wait_until(lambda: set(ORDER) <= self.children.keys(), "all commands run", 300, said=lambda: self.run.said)
        assert self.run.stop() == 0, self.run.said

    def rebuild(self) -> None:
        """Start it with a rebuild, unless one is on its way."""
        if self.is_over:
            self.start("--rebuild", "--history", f"{60 + self.data.generation}d")

    @property
    def is_over(self) -> bool:
        """Whether no rebuild is on its way."""
        return not self.rebuilds or any(each in self.run.said for each in ("The rebuild failed", "The log is in order"))

    @property
    def children(self) -> dict[str, int]:
        """The processes that it started, by what each does."""
        found, ahead = {}, f".{self.data.next.generation}"
        for pid in self.run.workers():
            with suppress(OSError, ValueError):  # it may end meanwhile
                words = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
                name = words[words.index("beepgpt.commands.up_child") + 1]
                found[f"next {name}" if any(each.partition("?")[0].endswith(ahead) for each in words) else name] = pid
        return found

    def kill(self, name: str) -> bool:
        """Kill a process once it is there; False: a rebuild was over before."""
        is_builder = name in BUILDERS
        wait_until(lambda: name in self.children or (is_builder and self.is_over), f"{name} runs", 300, said=lambda: self.run.said)
        with suppress(KeyError, ProcessLookupError):
            os.kill(self.children[name], signal.SIGKILL)
            self.killed[name] += 1
            return True
        return False

    def talk(self) -> None:
        """A question, an answer now and then; and a look at what is scored by now."""
        number = len(self.said)
        channel, (asks, answers) = self.simulated.channel(number % 3).id, self.dice.sample(self.simulated.people, 2)
        self.said.add(question := f"Question {number}: who knows?")
        ts = self.server.workspace.post(channel, asks.id, question)
        if number % 2:
            self.said.add(answer := f"Answer {number}: it is mended.")
            self.server.workspace.post(channel, answers.id, answer, thread_ts=ts)
        self.look()
        time.sleep(self.dice.random())

    def look(self) -> set[str]:
        """What was said and is not scored yet."""
        with suppress(LogFailed):  # a generation may go meanwhile
            predictions = json.dumps(values_on(SqliteLog(self.data.log), self.data.topic_name("predictions")))
            self.scored |= {each for each in self.said if each in predictions}
        return self.said - self.scored


def test_nothing_is_lost_and_nobody_is_alerted_twice_through_100_kills(tmp_path: Path):
    """Everything that was said stands on the log once, none of it late, and is scored; each alert is one direct message.

    A fifth of the kills meets what builds a next generation, a second start among them, and others come while it is built.
    """
    of, dice = plan(), random.Random(4)
    simulated = SimulatedWorkspace(of)
    write_export(of, export := tmp_path / "acme.zip")
    with workspace(simulated) as (server, people):
        server.workspace.load_export(export)
        life = Life(tmp_path, server, simulated, dice)
        with life.stack:
            life.start("--export", str(export))
            wait_until_live(life.run, life.data.path)
            for builder in BUILDERS * 4:
                if dice.random() < 0.5:
                    life.rebuild()
                for name in dice.sample(ORDER, len(ORDER)):
                    life.talk()
                    life.kill(name)
                life.rebuild()
                while not life.kill(builder):
                    life.rebuild()
            while life.data.generation == 1 or not life.is_over:
                life.rebuild()
                life.talk()
            wait_until(lambda: not life.look(), "all of it is scored", 200, said=lambda: f"{sorted(life.look())} {life.run.said}")
            time.sleep(10 * slowness())  # whoever is to be alerted is
            life.stop()
        messages = [(each.id, json.dumps(sent["blocks"])) for each in simulated.people for sent in people.sent_to(each.id)]

    assert life.killed.total() >= 100 and life.killed.keys() == {*ORDER, *BUILDERS} and life.data.generation > 1
    log = SqliteLog(life.data.log)
    events = Counter(each["event"].get("text") for each in values_on(log, life.data.topic_name("events")) if "event" in each)
    assert {each: events[each] for each in life.said if events[each] != 1} == {}
    assert values_on(log, "slack.late") == values_on(log, "slack.dead-letters") == []
    alerts = Counter((each["user"], each["conversation"]) for each in values_on(log, "slack.alerts"))
    assert alerts and set(alerts.values()) == {1}
    assert messages and max(Counter(messages).values()) == 1
