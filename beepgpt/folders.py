"""Folders that this process makes: those that are empty when it ends, as where its command failed, are removed again; files that are put
in place whole; and names.

Folders and files are for their owner alone, also where a program of the user's makes them, whose other files may not be.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from beepgpt.errors import cannot_write

UNFINISHED = ".replacing"
"""How the name of a file ends that a killed command leaves beside the one that it was replacing."""

UP_NOTE = "up.json"
"""The file by which a folder of `beepgpt up` is known."""

_made: list[Path] = []


def make_folder(path: Path) -> None:
    """Make a folder with those above it, as far as they are missing. Raises OSError."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_folder(each.parent)
    path.mkdir(exist_ok=True)
    _made.extend(reversed(missing))


def write_private(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read. Raises OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` at the end of the `with` block, with the same permissions. Raises CannotWrite."""
    new = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, new)
        move_into_place(new, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        new.unlink(missing_ok=True)


def replace_private(path: Path, content: bytes) -> None:
    """Put a file that nobody else may read in the place of an older one, whole or not at all. Raises OSError."""
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    move_into_place(new, path)


def move_into_place(new: Path, path: Path) -> None:
    """Give a file or folder its name, in place of an older file; the name is on the disk when it returns. Raises OSError."""
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


TABLE = ".parquet"
"""How the name of a table of examples ends: a file, or a folder of parts."""


def beside(examples: Path, what: str) -> Path:
    """The place beside a file or a table of records for what belongs to it.

    >>> beside(Path("acme/examples.jsonl"), "rules.json"), beside(Path("examples.parquet"), "retractions.jsonl")
    (PosixPath('acme/examples.rules.json'), PosixPath('examples.retractions.jsonl'))
    """
    return examples.with_name(f"{examples.name.removesuffix('.jsonl').removesuffix(TABLE)}.{what}")


def remove_empty() -> None:
    """Remove what `make_folder` made and nobody has put anything into."""
    while _made:
        with suppress(OSError):
            _made.pop().rmdir()
