"""The recovery folder of a run: a note of what the run is, and the engine's recovery store of each worker."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from traceback import walk_tb
from typing import Any

from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import InconsistentPartitionsError, MissingPartitionsError, NoPartitionsError, RecoveryConfig, init_db_dir

from beepgpt.conversations.rules import in_words
from beepgpt.errors import BeepGPTError
from beepgpt.folders import move_into_place, replace_private
from beepgpt.locks import lock as take_lock

NOTE = "run.json"
LOCK = "lock"
STORE_ERRORS = (InconsistentPartitionsError, MissingPartitionsError, NoPartitionsError)

ENGINE = {"translated", "run"}
"""The functions between the engine and its caller."""
RESUMING = {"resume", "_resume", "restore", "build_part"}
"""The functions that take over a snapshot."""


class BadRecovery(BeepGPTError):
    """A recovery folder can't be used, or is another run's; the message says why, and what to do."""


@dataclass(frozen=True)
class RecoveryFolder:
    """A run's recovery folder."""

    path: Path
    note: dict[str, Any]
    """The run as it was first started: settings, source, destination, time of the start, state of its flow."""
    is_new: bool
    """Whether this is the first start."""
    lock: int | None
    """An open file: as long as any process has it open, other runs are kept out."""

    @property
    def ended(self) -> dict[str, Any] | None:
        """The closing report, if the run has ended."""
        return self.note.get("ended")

    @property
    def reports(self) -> list[dict[str, Any]] | None:
        """What the workers reported once they had read the whole input, so that only their files are left to put in order."""
        return self.note.get("reports")

    @property
    def why_unusable(self) -> str | None:
        """Why the run can't go on, if it can't."""
        return self.note.get("spoilt")

    def has_store(self, number: int) -> bool:
        """Whether a worker's store was made: from then on there may be snapshots to go on from."""
        return self._store(number).exists()

    def store(self, number: int) -> RecoveryConfig:
        """The engine's store of a worker, made if it is new."""
        folder = self._store(number)
        if not folder.exists():
            made = self.path / f"making-{number}"
            with self.translated():
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir(0o700)
                init_db_dir(made, 1)  # type: ignore[no-untyped-call]
                move_into_place(made, folder)  # a store that was half made when the process died is not a store
        return RecoveryConfig(folder, timedelta(seconds=0))  # type: ignore[no-untyped-call]

    @contextmanager
    def translated(self, *, resumes: bool = False) -> Iterator[None]:
        """Turn an error of the store raised inside the `with` block into a BadRecovery. `resumes`: a run goes on from the store."""
        try:
            yield
        except OSError as error:
            raise _unusable(self.path, error) from error
        except BaseException as error:  # the engine panics, which is no Exception
            message = " ".join(_messages(error))
            quoted = re.findall(r'Some\("([^"]*)"\)', message)
            is_store = isinstance(error, STORE_ERRORS) or "sqlite" in message.lower()
            if is_store and re.search(r"(?i)DiskFull|disk I/O|disk is full", message):
                raise BadRecovery(f"{self.path}: the disk is full: free some space, and the same command goes on where it was") from error
            if is_store:
                raise BadRecovery(
                    f"{self.path}: its store is damaged: delete it and start again ({quoted[-1] if quoted else message})"
                ) from error
            if resumes and _is_of_a_snapshot(error):
                raise BadRecovery(f"{self.path}: its store is damaged: delete it and start again ({message})") from error
            raise

    def mark_unusable(self, why: str) -> None:
        """Note that the run can't go on."""
        _write(self.path, {**self.note, "spoilt": why})

    def note_reports(self, reports: list[dict[str, Any]]) -> None:
        """Note that the whole input is read: no flow goes on from the snapshots any more."""
        self.note["reports"] = reports
        _write(self.path, self.note)

    def end(self, report: dict[str, Any]) -> None:
        """Note that the run has ended, so that nothing is done twice."""
        _write(self.path, {**self.note, "ended": report})

    def _store(self, number: int) -> Path:
        return self.path / f"worker-{number}"


def open_recovery(path: Path, run: dict[str, Any], first: dict[str, Any], state: dict[str, Any], *, shared: bool = False) -> RecoveryFolder:
    """The recovery folder of this run, made if it is new. `run` must be the same in every start; `first` is noted at the first one only.

    `state` says how the flow's state is kept (its version, the ids of steps that have some): a step would begin with nothing, unnoticed,
    if the store had been written under other ids. `shared`: the process that started this one has the folder locked. Raises BadRecovery
    if the folder is another run's, was written with another `state`, or is in use.
    """
    in_use = f"{path}: another run is using it now: wait until that is over, or name another"
    try:
        path.mkdir(0o700, parents=True, exist_ok=True)
        _check_private(path)
        names = {each.name for each in path.iterdir()}
        if NOTE not in names and names - {LOCK, f"{NOTE}.new"}:
            raise BadRecovery(f"{path}: is not empty, and no recovery folder: name another")
        lock = None if shared else take_lock(path / LOCK, BadRecovery(in_use))
        note = json.loads((path / NOTE).read_text("utf-8")) if (path / NOTE).exists() else None
    except OSError as error:
        raise _unusable(path, error) from error
    except ValueError as error:
        raise BadRecovery(f"{path / NOTE}: can't be read ({error}): delete {path} and start again, or name another") from error
    is_new = note is None
    if note is None:
        _write(path, note := {**run, **first, **state})
    if not isinstance(note, dict):
        raise BadRecovery(f"{path / NOTE}: is not a run's note: delete {path} and start again, or name another")
    if any(note.get(name) != value for name, value in state.items()):
        raise BadRecovery(
            f"{path}: was written by an older version of beepgpt, or another one, which kept its state differently: delete it and run the"
            " same command again, which starts again"
        )
    if different := [name for name in run if note.get(name) != run[name]]:
        named = [name for name in different if name != "spec"] or different  # the spec says what its settings say
        was = ", ".join(f"{name} was {in_words(name, note.get(name))} and is {in_words(name, run[name])}" for name in named)
        raise BadRecovery(f"{path}: is the recovery folder of another run ({was}): give what was given then, or delete it and start again")
    return RecoveryFolder(path, note, is_new, lock)


def noted_in(path: Path, name: str) -> Any:
    """What the note of a run says; None without one that can be read."""
    try:
        return json.loads((path / NOTE).read_bytes()).get(name)
    except (OSError, ValueError, AttributeError):
        return None


def _check_private(path: Path) -> None:
    """Raise BadRecovery if anybody else may write the folder or a file in it: it holds pickles, which run code when they are read."""
    folder = path.resolve()  # a link leads there
    for each in (folder, *folder.rglob("*")):
        status = each.lstat()
        if stat.S_ISLNK(status.st_mode):
            continue
        if status.st_uid not in (0, os.geteuid()):
            raise BadRecovery(f"{each}: belongs to another user, who could run code by what he writes there: name another recovery folder")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            mode = f"mode {stat.S_IMODE(status.st_mode):o}"
            raise BadRecovery(
                f"{each}: others may write it ({mode}), and run code by what they write there: make sure that nobody did, and then"
                f" `chmod -R go-rwx {shlex.quote(str(path))}`"
            )


def _is_of_a_snapshot(error: BaseException) -> bool:
    """Whether a snapshot could not be read: by the engine, which has no frame of Python, or by what takes it over."""
    chain: list[BaseException] = []
    while (following := chain[-1].__cause__ or chain[-1].__context__ if chain else error) is not None:
        chain.append(following)
    if any(isinstance(each, BeepGPTError | OSError) or not isinstance(each, Exception) for each in chain):
        return False
    frames = [{frame.f_code.co_name for frame, _ in walk_tb(each.__traceback__)} for each in chain if type(each) is not BytewaxRuntimeError]
    return any(names <= ENGINE or names & RESUMING for names in frames)


def _messages(error: BaseException | None) -> Iterator[str]:
    """The first lines of the messages of an error and its causes."""
    while error is not None:
        yield str(error).partition("\n")[0]
        error = error.__cause__ or error.__context__


def _unusable(path: Path, error: Exception) -> BadRecovery:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return BadRecovery(f"{path}: can't be used as a recovery folder ({reason}): fix that, or name another")


def _write(path: Path, note: dict[str, Any]) -> None:
    try:
        replace_private(path / NOTE, json.dumps(note, indent=1).encode())
    except OSError as error:
        raise _unusable(path, error) from error
