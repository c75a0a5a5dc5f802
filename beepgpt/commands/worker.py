"""One worker of a run that has several: a process that another one started, which says what it is to do."""

from __future__ import annotations

import pickle
import sys

from beepgpt.commands.starting import ASKED, begin


def main() -> None:
    """Do the task that stands in standard input, which stays open as long as who wrote it is there."""
    begin(ASKED[:1])  # it is asked to stop by the process that started it, and that one says so
    from beepgpt.commands.app import run_cleanly

    run_cleanly(do_task)


def do_task() -> None:
    """Read it, and do it."""
    pickle.load(sys.stdin.buffer)()


if __name__ == "__main__":
    main()
