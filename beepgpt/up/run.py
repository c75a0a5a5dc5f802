"""All of it in its order: topics, the history, what runs for ever, a first model, and each night what a night is for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from datetime import time as clock_time
from functools import partial
from pathlib import Path
from signal import SIGTERM
from typing import NamedTuple

from beepgpt import clock
from beepgpt.config.settings import Settings
from beepgpt.errors import RunStopped, TooLittle
from beepgpt.figures import counted
from beepgpt.runtime.console import print_event
from beepgpt.runtime.places import log_of
from beepgpt.runtime.running import STOPPED
from beepgpt.runtime.workers import Stop
from beepgpt.training.parts import LEAST_ANSWERED
from beepgpt.up.children import Child, Service, ended, why_ended
from beepgpt.up.enough import ExamplesSoFar
from beepgpt.up.folder import FROM_SLACK, DataFolder, fingerprint_of
from beepgpt.up.nights import next_night

STOP_WITHIN = 0.2
"""Seconds between two looks at whether to stop."""
LOOK_EVERY = 2.0
"""Seconds between two looks at what is to be done."""
COUNT_EVERY = 20.0
"""Seconds between two counts of examples, as long as there is no model; then between two looks for outcomes."""
STEP = LEAST_ANSWERED // 10
"""Examples between two lines about how many there are."""
FIGURES_EVERY = 3_600.0
"""Seconds between two computations of the live figures."""
ORDER = ("ingest", "examples", "score", "alert")
"""What runs for ever, in the order in which it is stopped: who writes, before who reads it."""


TRAINING = "training"
"""What a training is called where its lines are shown."""


@dataclass(frozen=True)
class UpPlan:
    """What an `up` is to do."""

    data: DataFolder
    settings: Settings
    config: Path | None
    """The file of settings, if one was named; the commands read the same."""
    export: Path | None
    """The history of the first start, or where it is put."""
    since: str | None
    """How far back it is read from Slack, into `export`; None: an export is given, or nothing."""
    include: str
    night: clock_time

    @property
    def env(self) -> dict[str, str]:
        """The environment of the commands."""
        named = {} if self.config is None else {"BEEPGPT_CONFIG": str(self.config.resolve())}
        ours = {"BEEPGPT_ALERTS__STORE": str(self.data.alerts), "BEEPGPT_SLACK__INTERACTIONS_TOPIC": "slack.interactions"}
        return {**os.environ, **named, **ours}

    def arguments(self, name: str, port: int) -> Sequence[object]:
        """Of a command that runs for ever: as people run it by hand, with its metrics at `port`."""
        data = self.data
        events, metrics = data.topic("events", follow=True), ("--metrics-port", port)
        match name:
            case "ingest":
                return "ingest", "slack", "--to", data.topic("events"), "--include", self.include, *metrics
            case "examples":
                return "examples", events, "--to", data.topic("examples"), "--recovery", data.recovery("examples"), *metrics
            case "score":
                to = ("--to", data.topic("predictions"), "--outcomes", data.topic("outcomes"))
                return "score", events, "--model", data.model, *to, "--recovery", data.recovery("score"), *metrics
        read = {each: data.topic(each, follow=True) for each in ("predictions", "interactions", "outcomes")}
        also = ("--interactions", read["interactions"], "--outcomes", read["outcomes"], "--deletions", events)
        return "alert", read["predictions"], *also, "--model", data.model, "--to", data.topic("alerts"), *metrics


FIRST_MODEL = "first model"
"""What making one of an export is called."""
NO_FAULTS = (None, *STOPPED, -SIGTERM, TooLittle.exit_status)
"""How a command that ends by itself may end: it was not started, was done, was asked to end, or there is too little yet."""


class EndedJob(NamedTuple):
    """A command that ended by itself."""

    at: float
    """Seconds since 1970."""
    command: str
    status: int | None
    """None: it was not started."""
    words: Sequence[str]
    """What it said last."""

    @property
    def how(self) -> str:
        """How it ended, in words."""
        return f"beepgpt {self.command} {why_ended(self.status, self.words)}"

    @property
    def fault(self) -> str:
        """How it ended, if something is wrong; else nothing."""
        return "" if self.status in NO_FAULTS else self.how


class LiveRun:
    """A run of `beepgpt up`."""

    def __init__(self, plan: UpPlan, stop: Stop) -> None:
        """Raises BadCommand if the plan's history can't be the folder's."""
        self._fingerprint = "" if plan.export is None else FROM_SLACK if plan.since else fingerprint_of(plan.export)
        plan.data.check_history(self._fingerprint)
        self.plan, self.stop = plan, stop
        self.services: dict[str, Service] = {}
        self.jobs: dict[str, EndedJob] = {}
        """How each command that ends by itself last ended."""
        self.job = ""
        """Which one runs now."""
        self.so_far = ExamplesSoFar(log_of(plan.settings, plan.data.log), "slack.examples")
        self.night = self._next_night()
        self._next: dict[str, float] = {}
        self._has_tried = False
        self._said = -1
        """Steps of examples that were there when their number was said last."""

    def run(self) -> int:
        """Do all of it until somebody asks to stop; returns the exit status. Raises RunStopped where a first step failed."""
        try:
            self._begin()
            while not self.stop():
                self._every("look", LOOK_EVERY, self._look)
                time.sleep(STOP_WITHIN)
        finally:
            status = self._end()
        return status

    # The beginning

    def _begin(self) -> None:
        data = self.plan.data
        self._must("topics", "topics", data.log, "--partitions", 1, is_shown=False)
        self._bring_history()
        self._start("ingest", "examples")
        if not data.has_model and self.plan.export is not None:
            made = self._try(FIRST_MODEL, "try", self.plan.export, "--to", data.first, "--pages-only", "--include", self.plan.include)
            if made.status == 0:
                data.adopt_first()
            else:
                then = "what is said from now on is collected, until there is enough for one; more history would need a new folder"
                self._say_no_model(made, then)

    def _bring_history(self) -> None:
        """Put the history on the log, before anything live: behind live events all of it would be late."""
        data, export = self.plan.data, self.plan.export
        if data.history is not None:
            return
        if self.plan.since is not None:
            self._must("history", "history", "--to", data.fetched, "--since", self.plan.since, "--include", self.plan.include)
        if export is not None and not self.stop():
            data.note(begun=self._fingerprint)
            self._must("history", "ingest", export, "--to", data.topic("events"), "--include", self.plan.include)
        if not self.stop():
            data.note(history=self._fingerprint)

    def _must(self, name: str, *arguments: object, is_shown: bool = True) -> None:
        """Run a command to its end, without which nothing goes on: somebody else may have ended it. Raises RunStopped."""
        job = self._once(name, *arguments, is_shown=is_shown)
        if job.status and not self.stop():
            raise RunStopped(f"{name}: {job.how}")

    def _try(self, name: str, *arguments: object, is_shown: bool = True) -> EndedJob:
        """Run a command to its end, without which the rest goes on; a fault is reported."""
        job = self._once(name, *arguments, is_shown=is_shown)
        if job.fault and not self.stop():
            print_event(f"{name}: {job.fault}", command=job.command, status=job.status)
        return job

    # What goes on for ever

    def _start(self, *names: str) -> None:
        for name in names:
            if name not in self.services and not self.stop():
                self.services[name] = Service(name, partial(self.plan.arguments, name), self.plan.env)

    def _look(self) -> None:
        if not self.plan.data.has_model:
            self._every("count", COUNT_EVERY, self._collect)
        else:
            if "score" not in self.services:
                print_event("There is a model: what is said from now on is scored, and people are alerted.")
                self.plan.data.clear_first()
            self._start("score", "alert")
            self._every("outcomes", COUNT_EVERY, self._look_at_outcomes)
        if clock.now_utc() >= self.night:
            self._pass_night()

    def _every(self, name: str, seconds: float, act: Callable[[], object]) -> None:
        if time.monotonic() >= self._next.get(name, 0.0):
            act()
            self._next[name] = time.monotonic() + seconds

    def _collect(self) -> None:
        """Count the examples; once they are enough, make the first model of them. Where that fails, the next night tries again."""
        self.so_far.look()
        if self.so_far.are_enough and not self._has_tried:
            self._has_tried = True
            made = self._retrain("--since", self.so_far.judged_for)
            if not self.plan.data.has_model:
                self._say_no_model(made, "the next night tries again")
        elif not self.so_far.are_enough and self.so_far.count // STEP != self._said:
            self._said = self.so_far.count // STEP
            print_event(f"Collecting: {self.so_far.says}.")

    def _say_no_model(self, job: EndedJob, then: str) -> None:
        """Say that a job made no first model, for a fault or since there is too little, and what comes `then`."""
        if not self.stop():
            print_event(f"{'The first model could not be made' if job.fault else 'There is no model yet'}: {then}.")

    def _retrain(self, *flags: object) -> EndedJob:
        data = self.plan.data
        return self._try(TRAINING, "retrain", data.topic("examples"), "--model", data.model, *flags)

    def _look_at_outcomes(self) -> None:
        """Once there is an outcome, compute how well predictions do, as a page and as figures, from time to time."""
        data = self.plan.data
        if any(begin < end for begin, end in self.so_far.log.bounds("slack.outcomes").values()):
            shown = ("--model", data.model, "--to", data.outcomes_page, "--report", data.outcomes_report)
            arguments = ("outcomes", data.topic("outcomes"), *shown)
            self._every("figures", FIGURES_EVERY, lambda: self._try("figures", *arguments, is_shown=False))

    def _pass_night(self) -> None:
        """Train anew, compute the figures, and clean the topics that nobody has open of what they keep no longer."""
        self._has_tried = False
        if self.plan.data.has_model:
            self._retrain()
        self._try("topics", "topics", self.plan.data.log, "--partitions", 1, is_shown=False)
        self._next.pop("figures", None)
        self.night = self._next_night()

    def _next_night(self) -> datetime:
        return next_night(clock.now_utc(), self.plan.night, self.plan.settings.alerts.zone)

    def _once(self, name: str, *arguments: object, is_shown: bool = True) -> EndedJob:
        """Run a command to its end, or until somebody asks to stop; returns how it ended."""
        child = Child(name, self.plan.env, is_shown)
        self.job = name
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(child.run, arguments)
            while not running.done():
                if self.stop():
                    child.stop()
                wait([running], STOP_WITHIN)
        self.job = ""
        self.jobs[name] = job = EndedJob(clock.now(), str(arguments[0]), running.result(), list(child.words))
        return job

    # The end

    def _end(self) -> int:
        """Stop all in order; returns the exit status: 0 if each ended as it should."""
        found: Mapping[str, int | None] = {name: self.services[name].stop() for name in ORDER if name in self.services}
        for name, status in found.items():
            starts = self.services[name].starts
            again = f", after {counted(starts - 1, 'restart')}" if starts > 1 else ""
            print_event(f"{name} {ended(status)}{again}.", command=name, status=status, starts=starts)
        in_order = all(status in (None, *STOPPED, -SIGTERM) for status in found.values())
        if in_order and not clock.is_simulated():
            print_event(f"Stopped; the same command goes on where this one was. All of it is in {self.plan.data.path}.")
        return 0 if in_order else 1
