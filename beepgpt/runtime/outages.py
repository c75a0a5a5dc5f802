"""An outage of the brokers, as this process's log tells it: when it begins, each minute, and when it is over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from beepgpt.connectors import kafka

LOOK = 1.0
"""Seconds between two looks."""
SAID_EVERY = 60.0
"""Seconds between two lines while it lasts."""

log = logging.getLogger(__name__)


class OutageLog:
    """Logs what becomes of outages; `look` is called once a second."""

    def __init__(self, cost: Callable[[], Mapping[str, Any]], outages: kafka.Outages = kafka.OUTAGES) -> None:
        """`cost`: how much waits for the brokers; the last line has the most of each that waited, from the outage's beginning on."""
        self._cost, self._outages = cost, outages
        self._last: kafka.Outage | None = None
        self._most: dict[str, Any] = {}
        """What waited, at most."""
        self._longest = 0.0
        """Seconds, while it lasts."""
        self._said = 0.0
        """Seconds of the outage at its last line."""

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
            return
        self._longest = max(self._longest, outage.seconds)
        place = {"seconds": round(outage.seconds), "waiting": ", ".join(outage.waiting)}
        if before is None:
            since = datetime.fromtimestamp(time.time() - outage.seconds, UTC)
            log.warning("the brokers do not answer: waiting for them", extra={"since": f"{since:%H:%M:%S} UTC", **place})
            self._said = outage.seconds
        elif outage.seconds - self._said >= SAID_EVERY:
            log.warning("the brokers still do not answer", extra=place)
            self._said = outage.seconds


@contextmanager
def watching(cost: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """Inside the `with` block, log outages of the brokers, from a thread: the flow itself may be waiting for them."""
    over = threading.Event()
    outages = OutageLog(cost)

    def watch() -> None:
        while not over.wait(LOOK):
            outages.look()

    threading.Thread(target=watch, name="outages", daemon=True).start()
    try:
        yield
    finally:
        over.set()
