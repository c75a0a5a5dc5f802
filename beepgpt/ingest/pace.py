"""Writing at a pace: event time passes at a multiple of real time, with heartbeats in every partition."""

from __future__ import annotations

import time
from collections.abc import Callable

from beepgpt.connectors import kafka
from beepgpt.conversations.account import Account
from beepgpt.conversations.record_order import Span, TimedRecord, due_time, next_heartbeat
from beepgpt.ingest.write_plan import WritePlan
from beepgpt.runtime.pacing import TICK, heartbeat_step, pace_summary


class PacedWriting:
    """Holds records back until they are due, and adds heartbeats to every partition at fixed event times.

    Which heartbeats there are, and between which records, depends on the events and the pace alone. None is missing in any
    partition before a record that stands behind it in another: they are confirmed before more is sent.
    """

    def __init__(self, multiple: float, span: Span, writer: kafka.Writer, plan: WritePlan, account: Account) -> None:
        self._multiple = multiple
        self._span = span
        self._writer = writer
        self._plan = plan
        self._account = account
        self._step = heartbeat_step(multiple)
        self._covered = {each: max(span.first, plan.beats.get(each, 0)) for each in range(plan.partitions)}
        """Event time up to which each partition has its heartbeats."""
        self._beat = next_heartbeat(min(self._covered.values()), self._step)
        self._origin = max(self._covered.values())
        """The event time at which this start begins."""
        self._due = 0
        """The latest event time so far."""
        self._began: float | None = None

    def summary(self) -> str:
        """How many records it will write, and how long that will take."""
        return pace_summary(self._span, self._origin, self._multiple)

    def advance_to(self, item: TimedRecord, seq: int, is_missing: bool, send: Callable[[], None], stop: Callable[[], bool]) -> bool:
        """Write the heartbeats before a record, each when it is due, and sleep until the record is; False if asked to stop before."""
        self._due = max(self._due, due_time(item, self._plan.now) or 0)
        has_sent = False
        while self._span.in_order and self._beat <= self._due:
            if missing := [each for each, covered in self._covered.items() if covered < self._beat]:
                if not self._wait_until(self._beat, send, stop):
                    return False
                send()
                self._writer.send(self._plan.heartbeats(self._beat, seq - 1, missing))
                self._account.count("heartbeats_added")
                has_sent = True
            self._beat += self._step
        if has_sent:
            self._writer.flush()
        return not is_missing or self._wait_until(self._due, send, stop)

    def _wait_until(self, t: int, send: Callable[[], None], stop: Callable[[], bool]) -> bool:
        """Send what was collected, and sleep until event time `t` is due; False if asked to stop."""
        if self._began is None:  # passing over what was there already took some time, too
            self._began = time.monotonic()
        while (ahead := (t - self._origin) / 1e6 / self._multiple - (time.monotonic() - self._began)) > 0 and not stop():
            send()
            time.sleep(min(ahead, TICK))
        return not stop()
