"""Brokers that don't answer: since when, what waits for them, and whether to go on waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from beepgpt.connectors.callbacks import never
from beepgpt.connectors.kafka.connection import Connection, NoBroker, translated

SILENT = 10.0
"""Seconds without an answer after which brokers count as away."""
LOOK = 0.5
"""Seconds between two looks of somebody who waits."""
LONGEST_PAUSE = 10.0
"""Seconds between two tries to connect, at most."""
STOP_PATIENCE = 10.0
"""Seconds that a process which was asked to stop still waits for brokers."""
LONGEST_MS = 2**31 - 1
"""Milliseconds that kafka-python takes for "for ever": 24 days."""


def milliseconds(seconds: float) -> int:
    """Seconds for kafka-python's settings; infinity is its longest.

    >>> milliseconds(1.5), milliseconds(float("inf"))
    (1500, 2147483647)
    """
    return LONGEST_MS if seconds > LONGEST_MS / 1000 else int(seconds * 1000)


@dataclass(frozen=True)
class Outage:
    """Brokers that don't answer."""

    since: float
    """When the first unanswered request was made, by the clock of `Outages`."""
    seconds: float
    waiting: tuple[str, ...]
    """What waits, such as `reading slack.events`."""

    def __str__(self) -> str:
        return f"no answer from the brokers for {self.seconds:.0f} seconds ({', '.join(self.waiting)})"


class Outages:
    """Who waits for an answer of the brokers, and since when. Clients report to it from any thread.

    >>> now = 0.0
    >>> outages = Outages(clock=lambda: now)
    >>> outages.asked("reading slack.events")
    >>> now = 12.0
    >>> print(outages.now())
    no answer from the brokers for 12 seconds (reading slack.events)
    >>> outages.answered("reading slack.events")
    >>> outages.now()
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, tuple[float, Callable[[], bool]]] = {}
        self._lock = threading.Lock()

    def asked(self, who: str, has_answer: Callable[[], bool] = never) -> None:
        """`who` waits for an answer; if it waited already, it does so since then.

        `has_answer`: whether one came that nobody has looked at yet; the wait begins anew then.
        """
        with self._lock:
            self._since.setdefault(who, (self._clock(), has_answer))

    def answered(self, who: str) -> None:
        """`who` got an answer, or waits no longer."""
        with self._lock:
            self._since.pop(who, None)

    def now(self) -> Outage | None:
        """The outage at this moment; None while nobody has waited for SILENT seconds."""
        with self._lock:
            at = self._clock()
            for who, (_, has_answer) in list(self._since.items()):
                if has_answer():
                    self._since[who] = (at, has_answer)
            waiting = {who: since for who, (since, _) in self._since.items() if at - since >= SILENT}
        if not waiting:
            return None
        since = min(waiting.values())
        return Outage(since, at - since, tuple(sorted(waiting)))


OUTAGES = Outages()
"""Those of this process: all its clients report here, and its health is read from it."""


def started(
    client: Callable[..., Any], options: dict[str, Any], where: str, connection: Connection, patience: float, stopping: Callable[[], bool]
) -> Any:
    """Make one of kafka-python's clients, trying again with growing pauses while no broker answers. Raises LogFailed."""
    began = time.monotonic()
    tried = 0.0
    for seconds in looks(patience, stopping, LONGEST_PAUSE):
        tried = time.monotonic()
        try:
            with translated(where, connection):
                return client(**options | {"bootstrap_timeout_ms": max(milliseconds(seconds), 100)})
        except NoBroker:
            if time.monotonic() - began >= patience:
                raise
        time.sleep(max(seconds - (time.monotonic() - tried), 0))
    with translated(where, connection):
        return client(**options | {"bootstrap_timeout_ms": 100})


def looks(patience: float, stopping: Callable[[], bool] = never, pause: float = LOOK) -> Iterator[float]:
    """Yield seconds to wait, as long as there is patience; `stopping` is asked before each.

    A process that is asked to stop waits STOP_PATIENCE seconds more at most. `pause`: the longest wait; they grow up to it.
    """
    began = time.monotonic()
    until, each, was_asked = began + patience, min(pause, LOOK), False
    while True:
        if not was_asked and stopping():
            was_asked, until = True, min(until, time.monotonic() + STOP_PATIENCE)
        left = until - time.monotonic()
        if left <= 0:
            return
        yield min(each, left)
        each = min(each * 1.5, pause)
