"""What the terminal shows of a backfill: what is left, each minute, and at its end how much it was."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from beepgpt.figures import about
from beepgpt.ingest.slack.backfill import Backfill, histories
from beepgpt.runtime.console import console

SAID_EVERY = 60.0
"""Seconds between two lines."""


class CatchUpProgress:
    """Prints how a backfill goes; `look` is called often."""

    def __init__(self, backfill: Backfill, account: Counter[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._backfill, self._account, self._clock = backfill, account, clock
        self._began: float | None = None
        self._said = 0.0
        self._filled = self._vanished = 0
        self._is_checking = False

    def look(self) -> None:
        """Print what there is to say now."""
        now, gaps, threads = self._clock(), self._backfill.open_gaps, self._backfill.checks.left
        if gaps and self._backfill.is_starting:
            return  # more gaps are opened
        if gaps and (self._began is None or now - self._said >= SAID_EVERY):
            more = "" if self._began is None else "more "
            console.print(f"Catching up: the {histories(gaps, more)} to be read, {about(self._backfill.seconds_left())}.")
            if self._began is None:
                self._began, self._filled = now, self._account["filled"]
            self._said = now
        if not gaps and self._began is not None:
            filled = self._account["filled"] - self._filled
            were = "event was" if filled == 1 else "events were"
            console.print(f"Caught up in {now - self._began:,.1f} s: {filled:,} {were} filled in. {self._checks()}".rstrip())
            self._began, self._said, self._is_checking = None, now, threads > 0
            self._filled, self._vanished = self._account["filled"], self._account["vanished"]
        elif self._is_checking and not gaps and not threads:
            edits, deletions = self._account["filled"] - self._filled, self._account["vanished"] - self._vanished
            found = f"{edits:,} edit{'' if edits == 1 else 's'} and {deletions:,} deletion{'' if deletions == 1 else 's'}"
            console.print(f"All threads are looked through: {found} were found.")
            self._is_checking = False
        elif self._is_checking and not gaps and now - self._said >= SAID_EVERY:
            console.print(self._checks())
            self._said = now

    def _checks(self) -> str:
        checks = self._backfill.checks
        if not checks.left:
            return ""
        threads = "1 thread is" if checks.left == 1 else f"{checks.left:,} threads are"
        return f"{threads} still looked through for edits and deletions, {about(checks.seconds_left())}; events go on."
