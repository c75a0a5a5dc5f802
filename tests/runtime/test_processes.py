"""The processes of a run that has several."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from beepgpt.runtime import running
from beepgpt.runtime.running import WorkerFailed, run_processes


@dataclass
class Late:
    """A task that takes so long to be written that its process has ended before."""

    seconds: float

    def __reduce__(self) -> tuple[Any, ...]:
        time.sleep(self.seconds)
        return Late, (0.0,)

    def __call__(self) -> None:
        raise AssertionError("it was started")


def test_a_process_that_ends_before_its_task_comes_says_why_itself(monkeypatch: pytest.MonkeyPatch):
    """And not that nobody listened."""
    monkeypatch.setattr(running, "WORKER", "beepgpt.commands.nobody")

    with pytest.raises(WorkerFailed, match=r"No module named beepgpt\.commands\.nobody"):
        run_processes("examples", [Late(1.0)], lambda number, line: None)
