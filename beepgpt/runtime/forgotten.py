"""The list of the forgotten: a file of salted hashes, which every reader of messages consults."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from beepgpt.config.settings import Settings
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.errors import BeepGPTError, cannot_write
from beepgpt.folders import replace_private
from beepgpt.locks import lock

VERSION = 1


class BadForgottenList(BeepGPTError):
    """The list of the forgotten can't be used; the message says what to do."""

    exit_status = 2


def forgotten_of(settings: Settings) -> Forgotten | None:
    """The list that the settings name, as it was when this process first asked; None if there is none. Raises BadForgottenList."""
    return _once(settings.run.forgotten)


@lru_cache
def _once(path: Path) -> Forgotten | None:
    return read_forgotten(path)


def read_forgotten(path: Path) -> Forgotten | None:
    """The list in a file as it is now; None if there is no file. Raises BadForgottenList, since without the list all would come back."""
    try:
        content = path.expanduser().read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadForgottenList(
            f"{path}: the list of the forgotten can't be read ({error.strerror}): check its permissions, or set run.forgotten"
        ) from error
    try:
        body = json.loads(content)
        if body["version"] != VERSION:
            raise BadForgottenList(f"{path}: was written by another version of beepgpt (version {body['version']}): use that one")
        return Forgotten(bytes.fromhex(body["salt"]), [str(each) for each in body["hashes"]])
    except (ValueError, TypeError, KeyError) as error:
        raise BadForgottenList(f"{path}: is no list of the forgotten ({error}): restore it from a backup, or set run.forgotten") from error


def new_list() -> Forgotten:
    """An empty list with a salt of its own."""
    return Forgotten(secrets.token_bytes(16))


def write_forgotten(path: Path, forgotten: Forgotten) -> None:
    """Write the list, whole or not at all, for its owner's eyes alone. Raises CannotWrite."""
    path = path.expanduser()
    body = {"version": VERSION, "salt": forgotten.salt.hex(), "hashes": sorted(forgotten.hashes)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_private(path, json.dumps(body, indent=1).encode())
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def locked_list(path: Path) -> Iterator[None]:
    """Inside the `with` block no other `beepgpt forget` changes the list. Raises BadForgottenList or CannotWrite."""
    path = path.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = lock(path.with_name(f"{path.name}.lock"), BadForgottenList(f"{path}: another beepgpt forget is at work: wait for it"))
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        os.close(held)


class ListWatch:
    """The list for a process that runs for ever: it reads it again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        self._seen: tuple[int, int] | None = (-1, -1)
        self._list: Forgotten | None = None

    def now(self) -> Forgotten | None:
        """The list as it is now. Raises BadForgottenList."""
        try:
            status = self._path.stat()
            seen: tuple[int, int] | None = (status.st_mtime_ns, status.st_ino)
        except OSError:
            seen = None
        if seen != self._seen:
            self._list, self._seen = read_forgotten(self._path), seen
        return self._list
