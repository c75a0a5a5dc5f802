"""Commands that end by themselves, run one at a time: which one runs, what it says, and how each last ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from signal import SIGTERM
from typing import NamedTuple

from beepgpt import clock
from beepgpt.connectors.callbacks import never
from beepgpt.errors import RunStopped, TooLittle
from beepgpt.runtime.console import print_event
from beepgpt.runtime.running import STOPPED
from beepgpt.runtime.workers import Stop
from beepgpt.up.children import Child, why_ended

STOP_WITHIN = 0.2
"""Seconds between two looks at whether to stop."""
TRAINING = "training"
"""What a training is called where its lines are shown."""
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


class Jobs:
    """Runs commands to their ends, one at a time."""

    def __init__(self, stop: Stop) -> None:
        self.ended: dict[str, EndedJob] = {}
        """How each last ended, by its name."""
        self.name = ""
        """Which one runs now."""
        self.says = ""
        """What that said last."""
        self.part_of = ""
        """What it is a step of."""
        self._stop = stop

    @property
    def now(self) -> str:
        """What runs now, in words; empty: nothing."""
        return ": ".join(filter(None, (self.part_of, self.name, self.says.rstrip("."))))

    def must(self, name: str, env: Mapping[str, str], *arguments: object, is_shown: bool = True, until: Callable[[], bool] = never) -> None:
        """Run a command to its end, without which nothing goes on. Raises RunStopped, also where somebody asked to stop.

        `until`: it is asked to end once that is true.
        """
        job = self.run(name, env, *arguments, is_shown=is_shown, until=until)
        if job.status or self._stop():  # somebody else may have ended it, too
            raise RunStopped(f"{name}: {job.how}")

    def attempt(self, name: str, env: Mapping[str, str], *arguments: object, is_shown: bool = True) -> EndedJob:
        """Run a command to its end, without which the rest goes on; a fault is reported."""
        job = self.run(name, env, *arguments, is_shown=is_shown)
        if job.fault and not self._stop():
            print_event(f"{name}: {job.fault}", command=job.command, status=job.status)
        return job

    def run(
        self, name: str, env: Mapping[str, str], *arguments: object, is_shown: bool = True, until: Callable[[], bool] = never
    ) -> EndedJob:
        """Run a command to its end, or until somebody asks to stop; returns how it ended. `until`: see `must`."""
        child = Child(name, env, is_shown)
        self.name = name
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(child.run, arguments)
            while not running.done():
                if self._stop() or until():
                    child.stop()
                self.says = child.words[-1] if child.words and is_shown else ""
                wait([running], STOP_WITHIN)
        self.name = self.says = ""
        self.ended[name] = job = EndedJob(clock.now(), str(arguments[0]), running.result(), list(child.words))
        return job
