"""The terminal: a run's progress on standard error."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from beepgpt.errors import CONTROLS


def _closed(_: Console) -> None:
    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


Console.on_broken_pipe = _closed  # type: ignore[assignment,method-assign]  # also of typer's own, for help: the command line ends as other tools do


class _Terminal(Console):
    """A console that shows control characters, and does not obey them; where it is no terminal, tables aren't padded."""

    def print(self, *objects: Any, **how: Any) -> None:
        table = objects[0] if objects and isinstance(objects[0], Table) and not self.is_terminal else None
        if table is not None and not self.stderr:
            self.file.write("".join(f"{line}\n" for line in tabbed(table)).translate(CONTROLS))  # Rich would make spaces of the tabs
            return
        if table is not None:
            lines = self.render_lines(table, self.options.update(width=WIDEST), pad=False)
            objects = ("\n".join("".join(segment.text for segment in line).rstrip() for line in lines),)
        super().print(*(each.translate(CONTROLS) if isinstance(each, str) else each for each in objects), **how)


def tabbed(table: Table) -> Iterator[str]:
    """The lines of a table for other programs: its title, its head if it shows one, and a line for each row, a tab between its cells."""
    if table.title:
        yield str(table.title)
    if table.show_header:
        yield "\t".join(str(column.header) for column in table.columns)
    for row in zip(*(column.cells for column in table.columns), strict=True):
        yield "\t".join(" ".join(str(cell).split()) for cell in row).rstrip("\t")


NOTEBOOK = "JPY_PARENT_PID"
"""A variable of the environment of Jupyter's kernels, and of what they run."""

console = _Terminal(
    stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True, force_interactive=False if NOTEBOOK in os.environ else None
)
"""Names of files are shown as they are, whatever brackets and colons stand in them; long sentences are the terminal's to wrap.
In a notebook, `!beepgpt` has a terminal, on which nothing can be drawn twice: each picture of what moves would stay."""
results = _Terminal(markup=False, emoji=False, highlight=False, soft_wrap=True)
"""Standard output, for what a command was asked for: the rest goes beside it, so that `| less` and `> file` work."""
log = logging.getLogger("beepgpt")
printed = logging.getLogger("beepgpt.console")
"""What is printed, where the log is JSON: at any level."""

STEPS = 10_000
"""The progress bar's steps."""
WIDEST = 100_000
"""Columns of what is no terminal."""


class _Rate(ProgressColumn):
    """A progress bar's column: records a second, over the whole run."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        return Text(f"{task.fields['records'] / elapsed:,.0f}/s" if elapsed else "")


class Watched:
    """The progress bar of a run by one worker or several."""

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
        self._task = self._bar.add_task(what, total=STEPS, records=0)
        self._records: dict[int, int] = {}
        self._done: dict[int, float] = {}

    def __enter__(self) -> Watched:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, number: int, workers: int, records: int, done: float) -> None:
        """Show that worker `number` of so many has read `records` records, the share `done` of its input."""
        self._records[number], self._done[number] = records, done
        completed = STEPS * sum(self._done.values()) / workers
        # Each process goes through the whole of a file, so the counts add up to more than its records.
        self._bar.update(self._task, completed=completed, records=sum(self._records.values()))


class EventStream(io.TextIOBase):
    """Standard error of a process whose log is JSON: each text that is written there becomes an event of the log."""

    encoding = "utf-8"

    def __init__(self, beneath: TextIO) -> None:
        """`beneath`: where the log's lines go."""
        self.beneath = beneath
        self._here = threading.local()

    def write(self, text: str) -> int:
        self._here.text = getattr(self._here, "text", "") + text
        if self._here.text.endswith("\n"):
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Log what this thread wrote so far."""
        text, self._here.text = getattr(self._here, "text", "").strip("\n"), ""
        if not text.strip():
            return
        if getattr(self._here, "is_busy", False):  # the log itself could not write its line
            self.beneath.write(json.dumps({"level": "ERROR", "logger": printed.name, "message": text}) + "\n")
            return
        self._here.is_busy = True
        try:
            printed.info("%s", text)
        finally:
            self._here.is_busy = False

    def report_failure(self, message: str, status: int) -> None:
        """Log the message with which the process ends."""
        self.flush()
        printed.error("%s", message, extra={"status": status})

    def fileno(self) -> int:
        return self.beneath.fileno()

    def writable(self) -> bool:
        return True


def says_events() -> bool:
    """Whether what is printed becomes events of the log."""
    return isinstance(console.file, EventStream)


def print_event(message: str, **fields: Any) -> None:
    """Print a line about what happened; where the log is JSON, it is an event with these fields."""
    if says_events():
        printed.info("%s", message, extra=fields)
    else:
        console.print(message)


@contextmanager
def time_left(what: str, runs: int, every: float = 60.0) -> Iterator[Callable[[], None]]:
    """Show how much of a long piece of work is done, and about how long the rest takes; yields what is called after each of its `runs`.

    On a terminal it is a line that changes; elsewhere a line is written every so many seconds.
    """
    began = last = time.monotonic()
    done = 0
    with console.status(what) as status:

        def after_run() -> None:
            nonlocal done, last
            done, now = done + 1, time.monotonic()
            said = f"{what}: {done} of {runs} times, about {duration((now - began) / done * (runs - done))} left"
            status.update(said)
            if done < runs and now - last >= every and not console.is_interactive:
                console.print(said)
                last = now

        yield after_run


def duration(seconds: float) -> str:
    """A duration, roughly.

    >>> duration(7.4), duration(89.9), duration(1000)
    ('7 s', '90 s', '17 min')
    """
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@contextmanager
def quiet_engine() -> Iterator[None]:
    """Keep the engine's own messages off the terminal inside the `with` block, since ours are clearer; they are logged at debug level."""
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        terminal = os.dup(2)
        ours = os.fdopen(os.dup(2), "w")
        console.file = EventStream(ours) if says_events() else ours  # type: ignore[assignment]  # writing is all that it is for
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
            if output := file.read().strip():
                log.debug("the engine wrote: %s", output.decode(errors="replace"))
