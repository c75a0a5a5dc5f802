"""The step of a long call, shown where somebody looks on: in a notebook and on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EVERY = 0.5
"""Seconds between two changes of a notebook's line."""


@contextmanager
def shown_step(done: str) -> Iterator[Callable[[str], None]]:
    """Yields what shows a step: in a notebook as a line that changes, and in the end says what is `done`; on a terminal as commands do."""
    if is_notebook():
        line = _NotebookLine()
        yield line.step
        line.write(done)
        return
    from beepgpt.runtime.console import console

    with console.status("") as status:
        yield status.update


def is_notebook() -> bool:
    """Whether this program runs in a notebook, which can change what it has shown."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _NotebookLine:
    def __init__(self) -> None:
        import IPython.display

        show: Any = IPython.display.display
        self._line = show({"text/plain": ""}, raw=True, display_id=True)
        self._last = 0.0

    def step(self, text: str) -> None:
        """Show a step, if the last one has stood long enough to be read."""
        now = time.monotonic()
        if now - self._last >= EVERY:
            self._last = now
            self.write(text)

    def write(self, text: str) -> None:
        self._line.update({"text/plain": text}, raw=True)
