"""A folder that remembers a run: what it was, and where the engine's snapshots of it are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax.recovery import (
    InconsistentPartitionsError,
    MissingPartitionsError,
    NoPartitionsError,
    RecoveryConfig,
    init_db_dir,
)

from beepgpt.errors import BeepGPTError
from beepgpt.locks import lock as take_lock

NOTE = "run.json"
LOCK = "lock"
STORE_ERRORS = (InconsistentPartitionsError, MissingPartitionsError, NoPartitionsError)


class BadRecovery(BeepGPTError):
    """A recovery folder can't be used, or is of another run; the message says why, and what to do."""


@dataclass(frozen=True)
class RecoveryFolder:
    """A run's memory on disk."""

    path: Path
    note: dict[str, Any]
    """What the run is, as it was first started: settings, source, destination, time of the start."""
    is_new: bool
    """Whether this is the first start."""
    lock: int | None
    """The open file that keeps other runs out, for as long as any process has it open."""

    @property
    def ended(self) -> dict[str, Any] | None:
        """The closing report, if the run has ended."""
        return self.note.get("ended")

    @property
    def spoilt(self) -> str | None:
        """Why the run can't go on, if it was found out."""
        return self.note.get("spoilt")

    def has_store(self, part: int) -> bool:
        """Whether one process's store was made: from then on there may be snapshots to go on from."""
        return self._store(part).exists()

    def store(self, part: int) -> RecoveryConfig:
        """The engine's store of one process."""
        folder = self._store(part)
        if not folder.exists():
            made = self.path / f"making-{part}"
            with self.told():
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
                init_db_dir(made, 1)  # type: ignore[no-untyped-call]
                made.rename(folder)  # a store that was half made when the process died is not a store
        return RecoveryConfig(folder, timedelta(seconds=0))  # type: ignore[no-untyped-call]

    @contextmanager
    def told(self) -> Iterator[None]:
        """What goes wrong with the store in here is a BadRecovery; all else passes."""
        try:
            yield
        except OSError as error:
            raise _unusable(self.path, error) from error
        except BaseException as error:  # the engine panics, which is no Exception
            said = " ".join(_said(error))
            quoted = re.findall(r'Some\("([^"]*)"\)', said)
            is_store = isinstance(error, STORE_ERRORS) or "sqlite" in said.lower()
            if is_store and re.search(r"(?i)DiskFull|disk I/O|disk is full", said):
                raise BadRecovery(f"{self.path}: the disk is full: free some space, and the same command goes on where it was") from error
            if is_store:
                raise BadRecovery(
                    f"{self.path}: its store is damaged: delete it and start anew ({quoted[-1] if quoted else said})"
                ) from error
            raise

    def spoil(self, why: str) -> None:
        """Notes that the run can't go on, in whatever state its processes are."""
        _write(self.path, {**self.note, "spoilt": why})

    def end(self, report: dict[str, Any]) -> None:
        """Notes that the run has ended, so that nothing is done twice."""
        _write(self.path, {**self.note, "ended": report})

    def _store(self, part: int) -> Path:
        return self.path / f"worker-{part}"


def open_recovery(path: Path, run: dict[str, Any], first: dict[str, Any], *, shared: bool = False) -> RecoveryFolder:
    """The memory of this run, made if it is new. `run` must be the same in every start; `first` is noted at the first one only.

    `shared`: a process that started this one has the folder locked. Raises BadRecovery if the folder is another run's, or in use.
    """
    in_use = f"{path}: another run is using it now: wait until that is over, or name another"
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {each.name for each in path.iterdir()}
        if NOTE not in names and names - {LOCK, f"{NOTE}.new"}:
            raise BadRecovery(f"{path}: is not empty, and no recovery folder: name another")
        lock = None if shared else take_lock(path / LOCK, BadRecovery(in_use))
        note = json.loads((path / NOTE).read_text("utf-8")) if (path / NOTE).exists() else None
    except OSError as error:
        raise _unusable(path, error) from error
    except ValueError as error:
        raise BadRecovery(f"{path / NOTE}: can't be read ({error}): delete {path} and start anew, or name another") from error
    is_new = note is None
    if note is None:
        _write(path, note := {**run, **first})
    if not isinstance(note, dict):
        raise BadRecovery(f"{path / NOTE}: is no run's note: delete {path} and start anew, or name another")
    if different := [name for name in run if note.get(name) != run[name]]:
        was = ", ".join(f"{name} was {_told(note.get(name))} and is {_told(run[name])}" for name in different)
        raise BadRecovery(f"{path}: is the memory of another run ({was}): give what was given then, or delete it and start anew")
    return RecoveryFolder(path, note, is_new, lock)


def _said(error: BaseException | None) -> Iterator[str]:
    """The words of an error and its causes, a line each."""
    while error is not None:
        yield str(error).partition("\n")[0]
        error = error.__cause__ or error.__context__


def _told(value: object) -> str:
    return "not given" if value is None else repr(value)


def _unusable(path: Path, error: Exception) -> BadRecovery:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return BadRecovery(f"{path}: can't be used as a recovery folder ({reason}): mend that, or name another")


def _write(path: Path, note: dict[str, Any]) -> None:
    new = path / f"{NOTE}.new"
    try:
        new.write_text(json.dumps(note, indent=1), "utf-8")
        new.replace(path / NOTE)
    except OSError as error:
        raise _unusable(path, error) from error
