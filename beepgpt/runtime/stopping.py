"""Signals that stop work which has no flow to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from beepgpt.errors import Interrupted


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Raise Interrupted with this message where SIGINT or SIGTERM arrives; for the main thread."""

    def interrupt(number: int, _frame: object) -> None:
        raise Interrupted(message)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
