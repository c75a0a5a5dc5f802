"""An outage of the brokers, in this process's log: its beginning, each minute, its end, and when all that it held up is read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from beepgpt.connectors import kafka

LOOK = 1.0
"""Seconds between two looks."""
SAID_EVERY = 60.0
"""Seconds between two lines while it lasts."""
STILL = 60.0
"""Seconds without a record after which nothing of an outage is expected any more, where no heartbeat says that all is there."""

log = logging.getLogger(__name__)


class Reached(NamedTuple):
    """How far a process has read."""

    records: int
    """Since it started."""
    behind: int
    """Records on the topics that it has not read, as last asked."""
    complete_until: int = 0
    """The time up to which heartbeats say that all was there to read, in each partition: microseconds; 0: there are none."""


class OutageLog:
    """Logs what becomes of outages; `look` is called once a second."""

    def __init__(
        self,
        cost: Callable[[], Mapping[str, Any]] = dict,
        reached: Callable[[], Reached] | None = None,
        outages: kafka.Outages = kafka.OUTAGES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Set up for one process.

        `cost`: how much waits for the brokers; the last line has the most of each that waited, from the outage's beginning on. `reached`:
        given by a process that reads topics. What an outage held up comes to them only after it, so how much that is can be counted
        once all of it is read. `clock`: seconds since 1970.
        """
        self._cost, self._reached, self._outages, self._clock = cost, reached, outages, clock
        self._last: kafka.Outage | None = None
        self._most: dict[str, Any] = {}
        """What waited, at most."""
        self._longest = 0.0
        """Seconds, while it lasts."""
        self._said = 0.0
        """Seconds of the outage at its last line."""
        self._read_before: int | None = None
        """Records that were read before the outage; None once those after it are counted."""
        self._over_at = 0.0
        self._newest = (0, 0.0)
        """Records read, and when the last of them was seen."""

    def look(self) -> None:
        """Log what has changed since the last look."""
        before, outage = self._last, self._outages.now()
        self._last = outage
        if before is not None or outage is not None:
            self._most |= {name: max(count, self._most.get(name, count)) for name, count in self._cost().items()}
        if outage is None:
            if before is not None:
                log.warning("the brokers answer again", extra={"seconds": round(self._longest), **self._most})
                self._longest, self._most = 0.0, {}
                self._over_at = self._clock()
                self._newest = (-1, 0.0)
            self._look_for_the_rest()
            return
        self._longest = max(self._longest, outage.seconds)
        place = {"seconds": round(outage.seconds), "waiting": ", ".join(outage.waiting)}
        if before is None:
            since = datetime.fromtimestamp(self._clock() - outage.seconds, UTC)
            log.warning("the brokers do not answer: waiting for them", extra={"since": f"{since:%H:%M:%S} UTC", **place})
            self._said = outage.seconds
            if self._reached is not None and self._read_before is None:
                self._read_before = self._reached().records
        elif outage.seconds - self._said >= SAID_EVERY:
            log.warning("the brokers still do not answer", extra=place)
            self._said = outage.seconds

    def _look_for_the_rest(self) -> None:
        """After an outage, log how many records came in with it, once all of them are read."""
        if self._reached is None or self._read_before is None:
            return
        now, reached = self._clock(), self._reached()
        if reached.records != self._newest[0]:
            self._newest = (reached.records, now)
        is_still = reached.behind == 0 and now - self._newest[1] >= STILL
        if reached.complete_until < self._over_at * 1_000_000 and not is_still:
            return
        took = {"records": reached.records - self._read_before, "seconds": round(self._newest[1] - self._over_at)}
        log.warning("all that the outage held up is read", extra=took)
        self._read_before = None


@contextmanager
def watching(cost: Callable[[], Mapping[str, Any]] = dict, reached: Callable[[], Reached] | None = None) -> Iterator[None]:
    """Inside the `with` block, log outages of the brokers, from a thread: the flow itself may be waiting for them."""
    over = threading.Event()
    outages = OutageLog(cost, reached)

    def watch() -> None:
        while not over.wait(LOOK):
            outages.look()

    threading.Thread(target=watch, name="outages", daemon=True).start()
    try:
        yield
    finally:
        over.set()
