"""Folders that this process makes. Those that are empty when it ends, as where its command failed, are removed again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_made: list[Path] = []


def make_folder(path: Path) -> None:
    """Make a folder with those above it, as far as they are missing. Raises OSError."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    _made.extend(reversed(missing))


def remove_empty() -> None:
    """Remove what `make_folder` made and nobody has put anything into."""
    while _made:
        with suppress(OSError):
            _made.pop().rmdir()
