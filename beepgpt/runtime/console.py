"""What a person sees of a run, on standard error: progress while it goes, the account when it is over."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
"""Names of files are shown as they are, whatever brackets and colons stand in them; long sentences are the terminal's to wrap."""
log = logging.getLogger("beepgpt")

PARTS = 10_000
"""A run's progress is told in so many parts of it."""


class _Rate(ProgressColumn):
    """Records a second, over the whole run."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        return Text(f"{task.fields['records'] / elapsed:,.0f}/s" if elapsed else "")


class Watched:
    """Progress of a run by one process or several."""

    def __init__(self, what: str, *, shown: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[records]:,} records"),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (shown and console.is_interactive),  # neither a file nor a dumb terminal can take a line back
        )
        self._task = self._bar.add_task(what, total=PARTS, records=0)
        self._records: dict[int, int] = {}
        self._done: dict[int, float] = {}

    def __enter__(self) -> Watched:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, part: int, parts: int, records: int, done: float) -> None:
        """Process `part` of `parts` has read so many records, this share of all."""
        self._records[part], self._done[part] = records, done
        completed = PARTS * sum(self._done.values()) / parts
        # Each process goes through the whole of a file, so the furthest one tells how many records there were.
        self._bar.update(self._task, completed=completed, records=sum(self._records.values()))


@contextmanager
def quiet_engine() -> Iterator[None]:
    """Keeps the engine's own last words off the terminal: an error of ours says better what to do. They are shown if another comes."""
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        terminal = os.dup(2)
        ours = os.fdopen(os.dup(2), "w")
        console.file = ours
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            console.file = None  # type: ignore[assignment]  # whatever standard error is by then
            ours.close()
            file.seek(0)
            if words := file.read().strip():
                log.debug("the engine said: %s", words.decode(errors="replace"))
