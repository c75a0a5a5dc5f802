"""Cleans a topic while it is open: what compaction and retention remove, without waiting for what is written or read meanwhile."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from beepgpt.connectors.sqlite import topic_files as files

CLEAN_EVERY = 300.0
"""Seconds between two partitions that are cleaned; the first time it is all of them."""
ANEW_EVERY = 24 * 3_600.0
"""Seconds between two times that the file is written anew, if anything was removed."""
BUSY = 0.2
"""Seconds to wait for readers and writers, who wait as long; what is not done then is done the next time."""


class Cleaner:
    """Cleans a topic in a thread of its own, with a connection of its own, from now on until it is closed."""

    def __init__(self, path: Path, on_error: Callable[[Exception], None]) -> None:
        """`on_error` gets what ends the cleaning. Raises LogFailed, sqlite3.Error or OSError."""
        self._base = files.connect(path, BUSY)
        self._on_error = on_error
        self._is_closing = threading.Event()
        self._has_removed = True
        self._is_wal_due = True
        """So that what a run that was killed had removed is gone, too."""
        self._next_anew = time.monotonic() + ANEW_EVERY
        self._thread = threading.Thread(target=self._run, name="sqlite-cleaner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, in the midst of it, too."""
        self._is_closing.set()
        self._base.interrupt()
        self._thread.join()
        self._base.close()

    def _run(self) -> None:
        everything: list[int] = []
        due: list[int] = []
        while not self._is_closing.is_set():
            try:
                if not everything:
                    everything = list(files.bounds_in(self._base))
                    due = everything.copy()
                self._clean(due)
            except sqlite3.OperationalError as error:
                if not self._is_closing.is_set() and error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    self._on_error(error)
                    return
            except (sqlite3.Error, OSError) as error:
                self._on_error(error)
                return
            self._is_closing.wait(CLEAN_EVERY)
            if everything:
                everything.append(everything.pop(0))
                due += [] if everything[-1] in due else [everything[-1]]

    def _clean(self, due: list[int]) -> None:
        """Clean the partitions that are due, which leaves out those that are done."""
        while due:
            for count in files.clean(self._base, due[:1]):
                if count:
                    self._has_removed = self._is_wal_due = True
                if self._is_closing.is_set():
                    return
            del due[0]
        if self._has_removed and time.monotonic() >= self._next_anew:
            files.write_anew(self._base)
            self._next_anew = time.monotonic() + ANEW_EVERY
            self._has_removed, self._is_wal_due = False, True
        if self._is_wal_due:
            self._is_wal_due = not files.empty_wal(self._base)
