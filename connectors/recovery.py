"""A folder that remembers a run: what it was, and where the engine's snapshots of it are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax.recovery import RecoveryConfig, init_db_dir

NOTE = "run.json"


class BadRecovery(Exception):
    """A recovery folder is of another run; the message says which, and what to do."""


@dataclass(frozen=True)
class RecoveryFolder:
    """A run's memory on disk."""

    path: Path
    note: dict[str, Any]
    """What the run is, as it was first started: settings, source, destination, time of the start."""
    is_new: bool
    """Whether this is the first start."""

    @property
    def ended(self) -> dict[str, Any] | None:
        """The closing report, if the run has ended."""
        return self.note.get("ended")

    def store(self, part: int) -> RecoveryConfig:
        """The engine's store of one process."""
        folder = self.path / f"worker-{part}"
        if not folder.exists():
            made = self.path / f"making-{part}"
            made.mkdir(exist_ok=True)
            init_db_dir(made, 1)  # type: ignore[no-untyped-call]
            made.rename(folder)  # a store that was half made when the process died is not a store
        return RecoveryConfig(folder, timedelta(seconds=0))  # type: ignore[no-untyped-call]

    def end(self, report: dict[str, Any]) -> None:
        """Notes that the run has ended, so that nothing is done twice."""
        _write(self.path, {**self.note, "ended": report})


def open_recovery(path: Path, run: dict[str, Any], first: dict[str, Any]) -> RecoveryFolder:
    """The memory of this run, made if it is new. `run` must be the same in every start; `first` is noted at the first one only.

    Raises BadRecovery if the folder is another run's.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        note = json.loads((path / NOTE).read_text("utf-8")) if (path / NOTE).exists() else None
    except (OSError, ValueError) as error:
        raise BadRecovery(f"{path}: can't be used as a recovery folder ({error}): delete it, or name another") from error
    is_new = note is None
    if note is None:
        if any(path.iterdir()):
            raise BadRecovery(f"{path}: is not empty, and no recovery folder: name another")
        _write(path, note := {**run, **first})
    if different := [name for name in run if note.get(name) != run[name]]:
        was = ", ".join(f"{name} was {note.get(name)!r} and is {run[name]!r}" for name in different)
        raise BadRecovery(f"{path}: is the memory of another run ({was}): give what was given then, or delete it and start anew")
    return RecoveryFolder(path, note, is_new)


def _write(path: Path, note: dict[str, Any]) -> None:
    new = path / f"{NOTE}.new"
    new.write_text(json.dumps(note, indent=1), "utf-8")
    new.replace(path / NOTE)
