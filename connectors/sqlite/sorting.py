"""Rows in order of their time, whatever their number: an external sort, in a temporary SQLite file."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from beepgpt.errors import CannotWrite

CACHE_KB = 64 * 1024
"""Of memory for all of it."""

SorterRow = tuple[int, bytes, bytes, bytes]
"""Time, rank among those of one time, record, and a note that comes back with it."""


class Sorter:
    """Takes rows in any order, and gives them back by time, then rank, then record.

    >>> with Sorter() as sorter:
    ...     sorter.add([(2, b"", b"b", b"note"), (1, b"", b"a", b""), (2, b"", b"a", b"")])
    ...     [(time, record) for time, _, record, _ in sorter.rows()]
    [(1, b'a'), (2, b'a'), (2, b'b')]
    """

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` takes the file, which has no name there once it is open: it goes with this process, however that ends."""
        self.folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._count = 0
        with self._told():
            file, path = tempfile.mkstemp(prefix="beepgpt-sorting-", dir=self.folder)
            os.close(file)
            self._base = sqlite3.connect(path, isolation_level=None)
            try:
                self._base.execute("PRAGMA journal_mode = OFF")  # a file that is thrown away needs no way back
                self._base.execute("PRAGMA synchronous = OFF")
                self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._base.execute(f"PRAGMA cache_size = -{CACHE_KB}")
                self._base.execute("CREATE TABLE held (time INTEGER, rank BLOB, record BLOB, note BLOB)")
                self._base.execute("CREATE INDEX by_time ON held (time, rank)")
            finally:
                os.unlink(path)

    def add(self, rows: Iterable[SorterRow]) -> None:
        """More rows: best a thousand at a time."""
        with self._told():
            self._base.execute("BEGIN")
            self._count += self._base.executemany("INSERT INTO held VALUES (?, ?, ?, ?)", rows).rowcount
            self._base.execute("COMMIT")

    def __len__(self) -> int:
        return self._count

    def rows(self) -> Iterator[SorterRow]:
        """All of them in order; it may be asked again."""
        with self._told():
            yield from self._base.execute("SELECT time, rank, record, note FROM held ORDER BY time, rank, record")

    def close(self) -> None:
        """The file is gone."""
        self._base.close()

    def __enter__(self) -> Sorter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise CannotWrite(
                f"{self.folder}: can't be sorted in ({error}): free some space there, or name another folder with --scratch"
            ) from error
