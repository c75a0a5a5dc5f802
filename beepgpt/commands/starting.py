"""What a process of ours does first: it makes its files private, and ends cleanly when it is asked to.

It imports next to nothing, so that even a signal that comes in the first half second finds it done.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from beepgpt.errors import CONTROLS

ASKED = (signal.SIGINT, signal.SIGTERM)
PRIVATE = 0o077
"""What nobody else may do with files and folders that we make: anything."""


def begin(asked: Sequence[int] = ASKED) -> None:
    """From now on, signals to stop end the process with status 130 and a message, until a command takes them over; files are private."""
    keep_private()
    for number in asked:
        signal.signal(number, lambda _number, _frame: fail("interrupted", 130))


def keep_private() -> None:
    """From now on, folders are made with mode 0700 and files with 0600, by whatever library; what exists stays as it is."""
    os.umask(PRIVATE | os.umask(PRIVATE))


def fail(message: str, status: int) -> None:
    """Print the message of a command that went wrong, and end with `status`."""
    ignore_signals()
    if (report := getattr(sys.stderr, "report_failure", None)) is not None:  # the log is JSON
        report(message, status)
    else:
        print(f"beepgpt: {message.translate(CONTROLS)}", file=sys.stderr)
    sys.exit(status)


def end_quietly() -> None:
    """End as other tools do when what reads their output, as `head`, has read enough: with the status of SIGPIPE, and no message."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for each in (1, 2):
        os.dup2(nowhere, each)
    sys.exit(128 + signal.SIGPIPE)


def flush_output() -> None:
    """Write what is left of the output; if nobody reads it any more, end quietly."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        end_quietly()


def ignore_signals() -> None:
    """The process ends already, with its own status."""
    for number in ASKED:
        signal.signal(number, signal.SIG_IGN)
