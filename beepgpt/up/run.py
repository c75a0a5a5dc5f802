"""All of it in its order: topics, the history, what runs for ever, a first model, and each night what a night is for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from signal import SIGTERM

from beepgpt import clock
from beepgpt.errors import BeepGPTError, RunStopped
from beepgpt.figures import about, counted
from beepgpt.runtime.console import print_event
from beepgpt.runtime.places import log_of
from beepgpt.runtime.running import STOPPED
from beepgpt.runtime.workers import Stop
from beepgpt.training.parts import LEAST_ANSWERED
from beepgpt.up.children import PATIENCE, Service, ended
from beepgpt.up.enough import ExamplesSoFar
from beepgpt.up.folder import FROM_SLACK, fingerprint_of
from beepgpt.up.generations import COLLECTED, rebuild_seconds
from beepgpt.up.jobs import STOP_WITHIN, TRAINING, EndedJob, Jobs
from beepgpt.up.nights import next_night
from beepgpt.up.plan import ORDER, UpPlan
from beepgpt.up.rebuilding import NextGeneration
from beepgpt.up.served import has_caught_up

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
REPORTED = 5.0
"""Seconds after which each command has said again how much it has left to read."""
FIRST_MODEL = "first model"
"""What making one of an export is called."""


class LiveRun:
    """A run of `beepgpt up`."""

    def __init__(self, plan: UpPlan, stop: Stop) -> None:
        """Raises BadCommand if the plan's history can't be the folder's."""
        self._fingerprint = FROM_SLACK if plan.since else "" if plan.export is None else fingerprint_of(plan.export)
        self._asked = [plan.since or self._fingerprint, plan.include] if plan.rebuilds else None
        is_done = plan.data.rebuilt == self._asked and not plan.is_changed
        self._rebuilds = plan.rebuilds and plan.data.history is not None and not is_done
        if not self._rebuilds:
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
        except RunStopped:
            if not self.stop():
                raise
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
        if data.history is None:
            data.note(rules=asdict(plan.settings.rules))  # nothing is made yet
        elif plan.rebuilds and not self._rebuilds:
            again = "Leave the flag out; one more start without it, and the next one with it makes all anew again"
            print_event(f"--rebuild: all is made of this history already, with these settings, and is not made again. {again}.")
        if not plan.rebuilds:
            data.note(rebuilt=None)
        if plan.since is not None and data.history is None:
            data.begin_collecting(plan.since)
        self.jobs.must("topics", plan.env, *plan.topics, is_shown=False)
        if data.generation == COLLECTED:
            self._bring_generation()
        elif self._rebuilds:
            self._rebuild()
        else:
            data.clear_next()
            self._bring_history()
        self._start("ingest", "examples")
        history = plan.export if plan.since is None else data.fetched
        if not data.has_model and history is not None and not self._rebuilds:
            how = ("--to", data.first, "--pages-only", "--include", plan.include)
            made = self.jobs.attempt(FIRST_MODEL, plan.env, "try", history, *how)
            if made.status == 0:
                data.adopt_first()
            else:
                then = "what is said from now on is collected, until there is enough for one; more history comes in with --rebuild"
                self._say_no_model(made, then)

    def _bring_history(self) -> None:
        """Put an export on the log, before anything live: behind live events all of it would be late."""
        data, export = self.plan.data, self.plan.export
        if data.history is not None:
            return
        if export is not None:
            data.note(begun=self._fingerprint)
            self.jobs.must("history", self.plan.env, "ingest", export, "--to", data.topic("events"), "--include", self.plan.include)
        data.note(history=self._fingerprint, rebuilt=self._asked)

    # The next generation

    def _rebuild(self) -> None:
        """Bring the next generation while what is usable of the live one goes on, and goes on after a fault, which is reported."""
        records = sum(end - begin for begin, end in self.log.bounds(self.plan.data.topic_name("events")).values())
        self.jobs.part_of = f"the next generation of all that is made, built beside the live one ({about(rebuild_seconds(records))})"
        print_event(f"It works on {self.jobs.part_of}. What runs goes on meanwhile.")
        try:
            self._bring_generation()
        except (BeepGPTError, OSError) as error:
            self.plan.data.clear_unused(self.log)
            if self.stop() or self.plan.former is None:
                raise
            why = str(error)
            others = {name: each for name, each in self.jobs.ended.items() if each.how not in why}
            self.jobs.ended = others | {"rebuild": EndedJob(clock.now(), "up --rebuild", 1, [why])}
            print_event(f"The rebuild failed: {why}. All goes on as it was; the same command tries again.")
            self._start(*self._usable())
        self.jobs.part_of = ""

    def _bring_generation(self) -> None:
        """Read a history, build the next generation of the log and what is made of it beside the live one, and let it take its place.

        What is said in the moments between, Slack sends again, or has in its histories.
        """
        plan, data, history = self.plan, self.plan.data, self.plan.export
        building = NextGeneration(plan, self.jobs, self.log)
        self._start(*self._usable())
        if plan.since is not None:
            history = data.next.fetched
            if data.generation == COLLECTED:
                self._wait_for_beginning()
            data.begin_reading(plan.since, plan.include)
            self.jobs.must("history", plan.env, "history", "--to", history, "--since", plan.since, "--include", plan.include)
        building.write_log(history)
        if data.generation != COLLECTED:
            building.build()
            self._wait_until_read(building)
        if self.stop():
            raise RunStopped("the next generation is not whole yet")
        self._stop_services()
        building.append_rest()
        data.swap(history=self._fingerprint or data.history or "", rules=asdict(plan.settings.rules), rebuilt=self._asked)
        self.so_far = ExamplesSoFar(self.log, data.topic_name("examples"))
        data.clear_unused(self.log)
        print_event(f"The log is in order, with its history: all goes on with {data.topic('events')} from now on.")

    def _usable(self) -> Sequence[str]:
        """The commands that can run on the live generation meanwhile."""
        if self.plan.data.generation == COLLECTED or self.plan.former is None:
            return ("ingest",)
        return ORDER if self.plan.data.has_model else ("ingest", "examples")

    def _wait_until_read(self, building: NextGeneration) -> None:
        """Return once all from before the next `score` began is read, or isn't for a while: it is for those that run now to alert to it."""
        until = time.monotonic() + 2 * PATIENCE
        readers = [service for name, service in self.services.items() if name != "ingest"]

        def wait_for(is_so: Callable[[], bool]) -> None:
            while not self.stop() and time.monotonic() < until and not is_so():
                time.sleep(STOP_WITHIN)

        if readers:
            wait_for(building.is_passed)
            reported = time.monotonic() + REPORTED
            wait_for(lambda: time.monotonic() >= reported)
            wait_for(lambda: all(has_caught_up(each.port) for each in readers))

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
        return self.jobs.attempt(TRAINING, self.plan.env, *self.plan.retraining, *flags)

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
        self.jobs.attempt("topics", self.plan.env, *self.plan.topics, is_shown=False)
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
