"""A copy of a data folder, made while all of it runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from beepgpt.errors import CannotWrite
from beepgpt.folders import make_folder, move_into_place, write_private
from beepgpt.up.folder import DataFolder

SQLITE_FILE = b"SQLite format 3\0"
"""How each begins."""
TEMPORARY = ("-wal", "-shm", "-journal", ".new", ".lock", "/lock")
"""Endings of paths of files that are no part of a copy: what is in the first three, SQLite copies with its file."""
BUSY = 30.0
"""Seconds for which another process may keep a file locked; its transactions are short."""


def back_up(data: DataFolder, to: Path) -> dict[str, int]:
    """Copy a data folder to a new one, whole or not at all; returns how many files and bytes it has.

    Whoever reads a log is copied before the log: a copy in which a reader is behind goes on as after a kill, and one in which it is ahead
    would not. Each file of SQLite is copied by SQLite, as it stands at one moment, and is looked through. Raises CannotWrite.
    """
    making = to.with_name(f"{to.name}.new")
    size = count = 0
    generation = data.generation
    try:
        shutil.rmtree(making, ignore_errors=True)
        for path in _in_order(data):
            copy = making / path.relative_to(data.path)
            make_folder(copy.parent)
            with suppress(FileNotFoundError):  # a temporary file, or a model that another one has replaced since
                _copy(path, copy)
                size, count = size + copy.stat().st_size, count + 1
        os.sync()
        if data.generation != generation:
            raise OSError("a new generation of its log has become the live one meanwhile")
        move_into_place(making, to)
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(making, ignore_errors=True)
        raise CannotWrite(f"--to {to}: no copy was made ({error}): see to that, and give the same command again") from error
    return {"files": count, "bytes": size}


def _in_order(data: DataFolder) -> Iterator[Path]:
    """The files: the states of readers, then the models and pages, then the log. What names a model is before it.

    What is built of a next generation is none of them: it is no whole.
    """
    readers, log = {data.alerts.name, data.recovery("").name}, "log"

    def rank(path: Path) -> tuple[int, int, Path]:
        inside = path.relative_to(data.path)
        return 0 if inside.parts[0] in readers else 2 if inside.parts[0] == log else 1, len(inside.parts), inside

    def is_of_next(path: Path) -> bool:
        return any(f"{data.next.suffix}." in f"{part}." for part in path.relative_to(data.path).parts)

    found = (each for each in data.path.rglob("*") if each.is_file() and not str(each).endswith(TEMPORARY) and not is_of_next(each))
    return iter(sorted(found, key=rank))


def _copy(path: Path, copy: Path) -> None:
    with path.open("rb") as file:
        is_database = file.read(len(SQLITE_FILE)) == SQLITE_FILE
    if not is_database:
        shutil.copy2(path, copy)  # with its time: of two models the newer one counts
        copy.chmod(0o600)
        return
    write_private(copy, b"")
    with closing(sqlite3.connect(path, timeout=BUSY)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        (found,) = target.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"{path}: {found}")
