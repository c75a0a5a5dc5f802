"""All of it in its order: topics, the history, what runs for ever, a first model, and each night what a night is for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from signal import SIGTERM

from beepgpt import clock
from beepgpt.connectors.log import SQLITE
from beepgpt.figures import counted
from beepgpt.runtime.console import print_event
from beepgpt.runtime.places import log_of
from beepgpt.runtime.running import STOPPED
from beepgpt.runtime.workers import Stop
from beepgpt.training.parts import LEAST_ANSWERED
from beepgpt.up.children import Service, ended
from beepgpt.up.enough import ExamplesSoFar
from beepgpt.up.folder import FROM_SLACK, DataFolder, fingerprint_of
from beepgpt.up.generations import COLLECTED
from beepgpt.up.jobs import STOP_WITHIN, EndedJob, Jobs
from beepgpt.up.nights import next_night
from beepgpt.up.plan import ORDER, UpPlan

LOOK_EVERY = 2.0
"""Seconds between two looks at what is to be done."""
COUNT_EVERY = 20.0
"""Seconds between two counts of examples, as long as there is no model; then between two looks for outcomes."""
STEP = LEAST_ANSWERED // 10
"""Examples between two lines about how many there are."""
FIGURES_EVERY = 3_600.0
"""Seconds between two computations of the live figures."""
BEGINNING = 3.0
"""Seconds after which a history is begun once live events are collected: more than two clocks differ, and than it leaves out at its end."""
TRAINING = "training"
"""What a training is called where its lines are shown."""
FIRST_MODEL = "first model"
"""What making one of an export is called."""


class LiveRun:
    """A run of `beepgpt up`."""

    def __init__(self, plan: UpPlan, stop: Stop) -> None:
        """Raises BadCommand if the plan's history can't be the folder's."""
        self._fingerprint = FROM_SLACK if plan.since else "" if plan.export is None else fingerprint_of(plan.export)
        if not plan.rebuilds:
            plan.data.check_history(self._fingerprint)
        self.plan, self.stop = plan, stop
        self.services: dict[str, Service] = {}
        self.jobs = Jobs(stop)
        self.log = log_of(plan.settings, plan.data.log)
        self.so_far = ExamplesSoFar(self.log, plan.data.topic_name("examples"))
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

    @property
    def collected(self) -> str:
        """What is there for a first model."""
        is_read = self.plan.data.generation != COLLECTED
        return self.so_far.says if is_read else "what is said from now on, while what was said before is still read"

    # The beginning

    def _begin(self) -> None:
        plan, data = self.plan, self.plan.data
        data.clear_unused(self.log)
        if plan.since is not None and data.history is None:
            data.begin_collecting(plan.since)
        self._make_topics(data)
        if plan.rebuilds or data.generation == COLLECTED:
            self._bring_generation()
        else:
            data.clear_next()
            self._bring_history()
        self._start("ingest", "examples")
        history = plan.export if plan.since is None else data.fetched
        if not data.has_model and history is not None and not plan.rebuilds:
            made = self.jobs.attempt(
                FIRST_MODEL, self.plan.env, "try", history, "--to", data.first, "--pages-only", "--include", plan.include
            )
            if made.status == 0:
                data.adopt_first()
            else:
                then = "what is said from now on is collected, until there is enough for one; more history comes in with --rebuild"
                self._say_no_model(made, then)

    def _make_topics(self, data: DataFolder) -> None:
        """Make those that are missing, and clean those that nobody has open of what they keep no longer."""
        self.jobs.must("topics", self.plan.env, *self._topics_of(data), is_shown=False)

    def _topics_of(self, data: DataFolder) -> Sequence[object]:
        one = ("--partitions", 1) if data.log.startswith(SQLITE) else ()
        return "topics", data.log, *one, "--generation", data.generation

    def _bring_history(self) -> None:
        """Put an export on the log, before anything live: behind live events all of it would be late."""
        data, export = self.plan.data, self.plan.export
        if data.history is not None:
            return
        if export is not None and not self.stop():
            data.note(begun=self._fingerprint)
            self.jobs.must("history", self.plan.env, "ingest", export, "--to", data.topic("events"), "--include", self.plan.include)
        if not self.stop():
            data.note(history=self._fingerprint)

    # The next generation

    def _bring_generation(self) -> None:
        """Read a history while the log as it is goes on, then write the next generation of it, in the order of time, and swap it in.

        What is said while it is written, Slack sends again, or has in its histories.
        """
        plan, data = self.plan, self.plan.data
        history = plan.export
        if plan.since is not None:
            history = data.next.fetched
            self._start(*self._usable())
            if data.generation == COLLECTED:
                self._wait_for_beginning()
            self.jobs.must("history", self.plan.env, "history", "--to", history, "--since", plan.since, "--include", plan.include)
            self._stop_services()
        if not self.stop():
            data.begin_next(self.log)
            self._make_topics(data.next)
        if not self.stop():
            merged = () if history is None else ("--with", history)
            how = ("--to", data.next.topic("events"), "--include", plan.include, "--scratch", data.path)
            self.jobs.must("generation", self.plan.env, "ingest", data.topic("events"), *merged, *how)
        if not self.stop():
            data.swap(history=self._fingerprint or data.history or "", rules=asdict(plan.settings.rules))
            self.so_far = ExamplesSoFar(self.log, data.topic_name("examples"))
            data.clear_unused(self.log)
            print_event(f"The log is in order, with its history: all else is made of {data.topic('events')} from now on.")

    def _usable(self) -> Sequence[str]:
        """The commands that can run on the live generation meanwhile."""
        if self.plan.data.generation == COLLECTED or self.plan.is_changed:
            return ("ingest",)
        return ORDER if self.plan.data.has_model else ("ingest", "examples")

    def _wait_for_beginning(self) -> None:
        """Return once the live log has begun, and a history that is read from now on surely ends behind its beginning."""
        events = self.plan.data.topic_name("events")
        began: float | None = None
        while not self.stop() and (began is None or time.monotonic() < began + BEGINNING):
            if began is None and any(begin < end for begin, end in self.log.bounds(events).values()):
                began = time.monotonic()
                print_event("What is said from now on is collected; what was said before is read meanwhile, then both become one log.")
            time.sleep(STOP_WITHIN)

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
        return self.jobs.attempt(TRAINING, self.plan.env, "retrain", data.topic("examples"), "--model", data.model, *flags)

    def _look_at_outcomes(self) -> None:
        """Once there is an outcome, compute how well predictions do, as a page and as figures, from time to time."""
        data = self.plan.data
        if any(begin < end for begin, end in self.log.bounds(data.topic_name("outcomes")).values()):
            shown = ("--model", data.model, "--to", data.outcomes_page, "--report", data.outcomes_report)
            arguments = ("outcomes", data.topic("outcomes"), *shown)
            self._every("figures", FIGURES_EVERY, lambda: self.jobs.attempt("figures", self.plan.env, *arguments, is_shown=False))

    def _pass_night(self) -> None:
        """Train anew, compute the figures, and clean the topics that nobody has open of what they keep no longer."""
        self._has_tried = False
        if self.plan.data.has_model:
            self._retrain()
        self.jobs.attempt("topics", self.plan.env, *self._topics_of(self.plan.data), is_shown=False)
        self._next.pop("figures", None)
        self.night = self._next_night()

    def _next_night(self) -> datetime:
        return next_night(clock.now_utc(), self.plan.night, self.plan.settings.alerts.zone)

    # The end

    def _end(self) -> int:
        """Stop all in order; returns the exit status: 0 if each ended as it should."""
        found = self._stop_services()
        in_order = all(status in (None, *STOPPED, -SIGTERM) for status in found.values())
        if in_order and not clock.is_simulated():
            print_event(f"Stopped; the same command goes on where this one was. All of it is in {self.plan.data.path}.")
        return 0 if in_order else 1

    def _stop_services(self) -> Mapping[str, int | None]:
        """Stop what runs for ever, in order; returns how each ended."""
        found = {}
        for name in ORDER:
            if (service := self.services.pop(name, None)) is not None:
                found[name] = status = service.stop()
                again = f", after {counted(service.starts - 1, 'restart')}" if service.starts > 1 else ""
                print_event(f"{name} {ended(status)}{again}.", command=name, status=status, starts=service.starts)
        return found
