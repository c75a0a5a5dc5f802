"""Writes records to a topic's file: what comes while a batch is committed is the next batch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from beepgpt import clock
from beepgpt.connectors.log.errors import NotDelivered
from beepgpt.connectors.log.records import FittedRecord, OutgoingRecord, Placing
from beepgpt.connectors.log.sink import LogWriter
from beepgpt.connectors.sqlite import topic_files as files
from beepgpt.connectors.sqlite.cleaning import Cleaner

MAX_PENDING = 20_000
MAX_PENDING_BYTES = 64 * 2**20
WRITERS_PATIENCE = 600.0
"""Seconds to wait for others who write there: `forget` writes the whole file anew."""


class SqliteWriter(LogWriter):
    """Writes records to one topic in their order, each once unless the process dies.

    A thread commits: while it waits for the disk, the flow goes on, and all that comes in the meantime is on the disk with the next commit.
    """

    def __init__(self, path: Path, *, cuts: bool = False, mark: tuple[str, bytes] | None = None, alone: bool = True) -> None:
        """See `Log.writer`. Raises LogFailed if somebody else writes there."""
        self._path = path
        self._name = path.name.removesuffix(files.SUFFIX)
        self._lock: int | None = None
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        with files.translated(path, writes=True), ExitStack() as opened:
            if alone:
                self._lock = files.lock_writer(path)
                opened.callback(self._unlock)
            self._base = files.connect(path, WRITERS_PATIENCE)
            opened.callback(self._base.close)
            settings = files.settings_in(self._base)
            self._partitions = len(files.bounds_in(self._base))
            self._cleaner = Cleaner(path, self._fail) if files.removes(settings) else None
            opened.pop_all()
        self._needs_keys = "compact" in settings["cleanup.policy"]
        advice = "make a topic with a greater max.message.bytes"
        self._placing = Placing(self._name, int(settings["max.message.bytes"]), self._partitions, advice=advice, cuts=cuts, mark=mark)
        self._queue: list[FittedRecord] = []
        self._bytes = 0
        self._is_committing = False
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._unplaced = 0

    @property
    def most(self) -> int:
        """The most bytes that key and value of a record may have together, with headers of up to `HEADERS` bytes."""
        return self._placing.most

    def send(self, messages: Iterable[OutgoingRecord]) -> None:
        """Queue records for delivery. If one can't be delivered, this, a later `send` or `flush` raises NotDelivered."""
        fitted: list[FittedRecord] = []
        size = 0
        refused: NotDelivered | None = None
        try:
            for message in messages:
                each = self._placing.place(message)
                self._check_key(each)
                fitted.append(each)
                size += each.size
        except NotDelivered as error:
            refused = error
        with self._changed:
            self._raise_failure()
            if fitted:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
                    self._thread.start()
                self._queue += fitted
                self._bytes += size
                self._changed.notify_all()
            while (len(self._queue) > MAX_PENDING or self._bytes > MAX_PENDING_BYTES) and self._error is None:
                self._changed.wait()
            self._raise_failure()
        if refused is not None:
            raise refused

    def flush(self) -> None:
        """Wait until all records are on the disk. Raises NotDelivered if one can't be."""
        with self._changed:
            while (self._queue or self._is_committing) and self._error is None:
                self._changed.wait()
            self._raise_failure()

    def close(self) -> None:
        """Close the writer without waiting for deliveries: call `flush` first."""
        with self._changed:
            self._queue = []
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._cleaner is not None:
            self._cleaner.close()
            self._cleaner = None
        self._base.close()
        self._unlock()

    def _check_key(self, record: FittedRecord) -> None:
        """Raise NotDelivered for a record without a key where compaction goes by keys."""
        if record.key is None and self._needs_keys:
            raise NotDelivered(f"{self._name}: a record has no key, and compaction goes by keys: write it to a topic that is not compacted")

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise files.failure_of(self._error, self._path, writes=True) from self._error

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _run(self) -> None:
        """Commit what is queued, again and again; runs in a thread of its own."""
        while True:
            with self._changed:
                while not self._queue and not self._is_closing:
                    self._changed.wait()
                batch, self._queue, self._bytes = self._queue, [], 0
                if not batch:
                    return
                self._is_committing = True
                self._changed.notify_all()
            try:
                self._append(batch)
            except BaseException as error:  # whatever it is, nobody waits for this thread then
                self._fail(error)
            with self._changed:
                self._is_committing = False
                self._changed.notify_all()
                if self._error is not None:
                    return

    def _fail(self, error: BaseException) -> None:
        """Let this be what `send` and `flush` raise."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _append(self, batch: list[FittedRecord]) -> None:
        """Write records at the next offsets of their partitions, and move these on, in one transaction."""
        base, now = self._base, int(clock.now() * 1000)
        with files.transaction(base):
            after = {number: bound[1] for number, bound in files.bounds_in(base).items()}
            rows = []
            for value, key, headers, partition, timestamp, _ in batch:
                self._unplaced += partition is None
                number = self._unplaced % self._partitions if partition is None else partition
                offset = after[number]
                after[number] = offset + 1
                time_ms = now if timestamp is None else timestamp
                rows.append((number << files.BITS | offset, time_ms, key, files.pack_headers(headers), value))
            base.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
            base.executemany("UPDATE partitions SET next = ? WHERE number = ?", [(offset, number) for number, offset in after.items()])
