"""Pauses of delivery's stages: as long as Slack asks for, or longer and longer while it gives no answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from beepgpt.alerts.store import AlertStore
from beepgpt.errors import SlackBusy, SlackUnclear

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until a stage runs again after a call without an answer; doubled each time."""

log = logging.getLogger(__name__)


class Backoff:
    """Runs stages by name and pauses each on its own."""

    def __init__(self, store: AlertStore) -> None:
        self._store = store
        self._paused_until: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    def run(self, name: str, stage: Callable[[], bool]) -> bool:
        """Run a stage unless it is paused. Returns whether it did anything; SlackBusy and SlackUnclear pause it."""
        if time.monotonic() < self._paused_until.get(name, 0.0):
            return False
        try:
            done = stage()
        except SlackBusy as busy:
            self._paused_until[name] = time.monotonic() + busy.after
            self.note_busy(busy)
            return False
        except SlackUnclear as unclear:
            pause = self._pauses[name] = min(self._pauses.get(name, FIRST_PAUSE / 2) * 2, LONGEST_PAUSE)
            self._paused_until[name] = time.monotonic() + pause
            self._store.count("webhook_unclear" if name == "webhook" else "slack_unclear")
            log.warning("no answer, or none that says whether it was done", extra={"what": str(unclear), "seconds": pause})
            return False
        if done:
            self.reset(name)
        return done

    def reset(self, name: str) -> None:
        """A call of a stage got through: its next pause is the first again."""
        self._pauses.pop(name, None)

    def note_busy(self, busy: SlackBusy) -> None:
        """Count and log that Slack asked for a pause, unless it was not called at all."""
        if busy.was_asked:
            self._store.count("slack_busy")
            log.info("Slack asks us to wait", extra={"method": busy.method, "seconds": busy.after})
