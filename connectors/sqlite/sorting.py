"""Sorts any number of rows by time: an external sort in a temporary SQLite file."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from beepgpt.errors import CannotWrite

CACHE_KB = 64 * 1024
"""Kilobytes of memory for the whole sort."""

SorterRow = tuple[int, bytes, bytes, bytes]
"""Time, rank within one time, record, and a note that is returned with it."""


class Sorter:
    """Takes rows in any order, and returns them by time, then rank, then record.

    >>> with Sorter() as sorter:
    ...     sorter.add([(2, b"", b"b", b"note"), (1, b"", b"a", b""), (2, b"", b"a", b"")])
    ...     [(time, record) for time, _, record, _ in sorter.rows()]
    [(1, b'a'), (2, b'a'), (2, b'b')]
    """

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` holds the file, which has no name once it is open: it is gone when this process ends. Raises CannotWrite."""
        self.folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._count = 0
        with self._translating():
            file, path = tempfile.mkstemp(prefix="beepgpt-sorting-", dir=self.folder)
            os.close(file)
            self._base = sqlite3.connect(path, isolation_level=None)
            try:
                self._base.execute("PRAGMA journal_mode = OFF")  # a temporary file needs no rollback
                self._base.execute("PRAGMA synchronous = OFF")
                self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._base.execute(f"PRAGMA cache_size = -{CACHE_KB}")
                self._base.execute("CREATE TABLE held (time INTEGER, rank BLOB, record BLOB, note BLOB)")
                self._base.execute("CREATE INDEX by_time ON held (time, rank)")
            finally:
                os.unlink(path)

    def add(self, rows: Iterable[SorterRow]) -> None:
        """Add rows; about a thousand a call is fastest."""
        with self._translating():
            self._base.execute("BEGIN")
            self._count += self._base.executemany("INSERT INTO held VALUES (?, ?, ?, ?)", rows).rowcount
            self._base.execute("COMMIT")

    def __len__(self) -> int:
        return self._count

    def rows(self) -> Iterator[SorterRow]:
        """All rows in order; may be called again."""
        with self._translating():
            yield from self._base.execute("SELECT time, rank, record, note FROM held ORDER BY time, rank, record")

    def close(self) -> None:
        """Close the file, which is then gone."""
        self._base.close()

    def __enter__(self) -> Sorter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CannotWrite(
                f"{self.folder}: can't be sorted in ({error}): free some space there (ingest takes another folder: --scratch)"
            ) from error
