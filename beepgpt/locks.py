"""Locks on files and folders, so that one process at a time works on them."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from beepgpt.errors import BeepGPTError


def lock(path: Path, in_use: BeepGPTError) -> int:
    """Locks a folder, or a file, which is made if it is missing. Returns the descriptor that holds the lock.

    The lock ends when the last process that has the descriptor open closes it or dies. Raises `in_use` if another process has the lock,
    and OSError if the file can't be opened.
    """
    # `filelock` does not show its descriptor, which workers inherit, and locks no folders.
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise in_use from None
    return descriptor


def take(file: int, in_use: BeepGPTError) -> None:
    """Lock an open file against other processes; this process loses the lock when it closes the file, or any other descriptor of it.

    Some network disks know no locks: there it does nothing. Raises `in_use` if another process has the lock, or OSError.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise in_use from None
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
