"""How slow this machine is now, so that a test waits longer beside a load, and no longer than it must on a quiet one."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

REFERENCE = 0.055
"""Seconds that the work of `measured` takes on the two quiet cores on which the tests' time-outs were chosen."""
MOST = 20.0


def measured() -> float:
    """Seconds of the clock on the wall that a fixed piece of plain Python takes now: also what other programs take counts."""
    began = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number & 7
    return time.perf_counter() - began


@cache
def slowness() -> float:
    """How many times longer than on the reference machine things take: at least 1; the slowest of five looks a tenth of a second apart."""
    looks = []
    for _ in range(5):
        looks.append(measured() / REFERENCE)
        time.sleep(0.1)
    return min(max(1.0, *looks), MOST)


def wait_until(is_so: Callable[[], object], what: str, seconds: float = 60, *, said: Callable[[], str] = lambda: "") -> None:
    """Return as soon as `is_so()` is true. Fails after `seconds` of a quiet machine with what was waited for and what was `said`."""
    patience = seconds * slowness()
    until = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < until, f"not within {patience:.0f} s: {what} {said()}".rstrip()
        time.sleep(0.02)
