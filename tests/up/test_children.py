"""Commands as processes: kept running, and heard."""

from __future__ import annotations

import os

from beepgpt.up.children import INTERRUPTED, NOT_STARTED, Child, Service, ended, growing_pauses
from tests.support.speed import wait_until


def test_pauses_grow_to_a_minute():
    """By doubling."""
    pauses = growing_pauses()

    assert [next(pauses) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_command_that_ends_is_started_again_and_its_last_words_are_kept(capfd):
    """With what it is wrong about, under its name."""
    service = Service("settings", lambda port: ("settings", "nothing-like-it", "--config", f"at-{port}.toml"), os.environ)
    wait_until(lambda: service.starts == 2, "it was started again")
    first = list(service.child.words)
    service.stop()

    assert any("nothing-like-it" in each or "at-" in each for each in first)
    said = capfd.readouterr().err
    why = f"ended with status 2, and said last: {first[-1].removeprefix('beepgpt: ')}"
    assert f"settings {why}. It is started again in 1 s." in said and f"settings: {first[0]}" in said


def test_a_command_that_is_stopped_as_it_starts_looks_like_no_fault(capfd):
    """It says that it was interrupted, which is news only where nobody asked for it."""
    child = Child("settings", os.environ)
    child._hear(INTERRUPTED)
    child.stop()
    child._hear(INTERRUPTED)

    assert list(child.words) == [INTERRUPTED] and capfd.readouterr().err.count(INTERRUPTED) == 1
    assert {ended(status) for status in (130, 143, -15)} == {"was stopped"}


def test_a_command_that_can_not_be_started_is_one_that_ended():
    """So it is tried again, as after all other ends."""
    child = Child("settings", os.environ)

    assert child.run(["x" * (1 << 22)]) == NOT_STARTED  # the system takes no argument of that length
    assert list(child.words) == ["it can't be started: Argument list too long"]
