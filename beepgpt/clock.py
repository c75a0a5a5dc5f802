"""What time it is where the workspace is: the machine's time, or a simulated one that passes faster.

Nothing that makes examples reads it. Timeouts, pauses and rates of calls are the machine's, by `time.monotonic`.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import orjson

from beepgpt.folders import replace_private

VARIABLE = "BEEPGPT_CLOCK"
"""Names the file of a simulated clock; all processes of a simulation have it."""


@dataclass(frozen=True)
class SimulatedClock:
    """A clock that stands until it is started, and then passes faster than the machine's.

    >>> SimulatedClock(begins=1_000.0, rate=600.0, since=None).at(7.0), SimulatedClock(1_000.0, 600.0, since=5.0).at(7.0)
    (1000.0, 2200.0)
    """

    begins: float
    """Seconds since 1970."""
    rate: float
    """Its seconds in one of the machine's."""
    since: float | None
    """When it was started, by the machine's monotonic clock, which all processes share; None: it stands."""

    def at(self, monotonic: float) -> float:
        """Its time, seconds since 1970."""
        return self.begins if self.since is None else self.begins + self.rate * (monotonic - self.since)

    def write(self, path: Path) -> None:
        """Let the processes that BEEPGPT_CLOCK names this file to have it."""
        replace_private(path, orjson.dumps(asdict(self)))

    def started(self) -> SimulatedClock:
        """The same clock, started now."""
        return replace(self, since=time.monotonic())


_started: dict[str, SimulatedClock] = {}
"""Clocks that were started, by their files: these are not read again."""


def now() -> float:
    """Seconds since 1970."""
    clock = _simulated()
    return time.time() if clock is None else clock.at(time.monotonic())


def now_us() -> int:
    """Microseconds since 1970."""
    return round(now() * 1e6)


def now_utc() -> datetime:
    """The moment as a datetime."""
    return datetime.fromtimestamp(now(), UTC)


def is_simulated() -> bool:
    """Whether it isn't the machine's time."""
    return VARIABLE in os.environ


def passing(seconds: float) -> float:
    """How many of its seconds pass in so many of the machine's."""
    clock = _simulated()
    return seconds if clock is None else seconds * clock.rate


def _simulated() -> SimulatedClock | None:
    place = os.environ.get(VARIABLE)
    if place is None:
        return None
    if (found := _started.get(place)) is None:
        found = SimulatedClock(**orjson.loads(Path(place).read_bytes()))
        if found.since is not None:
            _started[place] = found
    return found
