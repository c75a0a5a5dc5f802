"""The workspace's time: the machine's, or a simulated one that all processes of a simulation share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beepgpt import clock

PRINTED = """
from beepgpt import clock
print(clock.now(), clock.now_us(), clock.now_utc().timestamp(), clock.passing(2), int(clock.is_simulated()))
"""


def read_elsewhere(**env: str) -> list[float]:
    """What another process reads."""
    done = subprocess.run([sys.executable, "-c", PRINTED], env=os.environ | env, capture_output=True, text=True, check=True)
    return [float(each) for each in done.stdout.split()]


def test_it_is_the_machine_s_time():
    """Without a simulated clock."""
    now, micros, moment, passing, is_simulated = read_elsewhere()

    assert abs(time.time() - now) < 60 and abs(micros / 1e6 - now) < 60 and abs(moment - now) < 60
    assert (passing, is_simulated) == (2.0, 0.0)


def test_a_simulated_clock_stands_until_it_is_started_and_is_then_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A process that read it while it stood hears of the start."""
    file = tmp_path / "clock.json"
    stands = clock.SimulatedClock(begins=1e9, rate=600.0, since=None)
    stands.write(file)
    monkeypatch.setenv(clock.VARIABLE, str(file))
    assert clock.now() == 1e9 and clock.now_us() == 10**15 and clock.passing(2) == 1_200
    assert read_elsewhere(BEEPGPT_CLOCK=str(file)) == [1e9, 1e15, 1e9, 1_200.0, 1.0]

    stands.started().write(file)
    before = clock.now()
    elsewhere = read_elsewhere(BEEPGPT_CLOCK=str(file))[0]
    assert 1e9 < before < before + 600 * 0.01 < elsewhere < clock.now(), "another process takes a hundredth of a second and more"
