"""Asking a process to stop, and asking again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ASKED_TWICE = """
import os, signal, time
from beepgpt.runtime import logs
from beepgpt.runtime.workers import Stop
logs.configure("info", "{form}", whole=True)
Stop().listen()
for _ in range(2):
    os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""
SAID = "asked twice, so it ends at once: the same command goes on from the last snapshot, and begins again where there is none"


@pytest.mark.parametrize("form", ["text", "json"])
def test_who_is_asked_twice_says_that_it_ends_at_once(form: str):
    """And what that means; in a log of JSON as an event."""
    done = subprocess.run([sys.executable, "-c", ASKED_TWICE.format(form=form)], capture_output=True, text=True, check=False)

    assert done.returncode == 130
    assert (done.stderr == f"beepgpt: {SAID}\n") if form == "text" else (json.loads(done.stderr)["message"] == SAID)
