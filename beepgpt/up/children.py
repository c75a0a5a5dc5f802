"""Commands as processes of their own: their lines are shown under their names, and what ends is started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from socket import create_server
from textwrap import shorten
from typing import Any

import backoff

from beepgpt import clock
from beepgpt.runtime.console import print_event, says_events
from beepgpt.runtime.logs import write_line

NEXT = "next: "
"""How a command says what to run next, which `up` does by itself."""
INTERRUPTED = "beepgpt: interrupted"
"""What a command says that is asked to end before it has begun."""
STOPPED = (130, 128 + signal.SIGTERM, -signal.SIGTERM)
"""The exit statuses of such a command."""
NOT_STARTED = 126
"""The exit status of a command that can't be started, as shells have it."""
LAST_LINES = 12
"""Lines of a process that are kept: what it said last."""
MOST_SAID = 240
"""Characters of the last words, where they stand in a sentence."""
LONGEST_PAUSE = 60.0
"""Seconds before a process that ends again and again is started once more; the first time it is one."""
STEADY = 120.0
"""Seconds after which a process has run well enough: the next pause is a short one again."""
PATIENCE = 60.0
"""Seconds in which a process ends that was asked to: it takes its last snapshot."""


@dataclass
class Child:
    """A command in a process of its own, which ends when this one does."""

    name: str
    env: Mapping[str, str]
    is_shown: bool = True
    """Whether its lines are shown; the last ones are kept in any case."""
    words: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    """What it said last."""
    _process: subprocess.Popen[str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def run(self, arguments: Sequence[object]) -> int | None:
        """Run the command to its end; returns its exit status, or None if it isn't started, since it was stopped before."""
        command = [sys.executable, "-m", "beepgpt.commands.up_child", *map(str, arguments)]
        with self._lock:
            if self._is_stopping.is_set():
                return None
            try:
                # A session of its own: a terminal's Ctrl-C comes to this process alone, which stops all in their order.
                self._process = process = subprocess.Popen(
                    command, env=dict(self.env), text=True, errors="replace", start_new_session=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
            except OSError as error:  # there is no memory for it, say
                self._hear(f"it can't be started: {error.strerror}")
                return NOT_STARTED
        assert process.stdin is not None and process.stdout is not None
        with process.stdin, process.stdout:
            for line in process.stdout:
                self._hear(line.rstrip("\n"))
            return process.wait()

    def stop(self, patience: float = PATIENCE) -> None:
        """Ask the process to end, and end it if it doesn't within `patience` seconds. No other is started from now on."""
        self._is_stopping.set()
        with self._lock:
            process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            self._hear(f"it did not end within {patience:.0f} s, and is killed")
            process.kill()
            process.wait()

    @property
    def is_stopping(self) -> threading.Event:
        """Set once it was asked to end."""
        return self._is_stopping

    def _hear(self, line: str) -> None:
        if line.startswith(NEXT) or (line == INTERRUPTED and self._is_stopping.is_set()):
            return
        self.words.append(line)
        if self.is_shown:
            write_line(line if says_events() else f"{self.name}: {line}")


class Service:
    """Keeps a command running: when its process ends, it is started again, after a pause that grows."""

    def __init__(self, name: str, arguments: Callable[[int], Sequence[object]], env: Mapping[str, str]) -> None:
        """`arguments`: those of the command, given the port at which it is to serve its metrics."""
        self.child = Child(name, env)
        self.port = 0
        self.starts = 0
        self.since = 0.0
        """When the process started, or ended, that is the last one: seconds since 1970."""
        self.status: int | None = None
        """How the last process ended; None: none has yet."""
        self.ends = 0
        """How often in a row it ended before it had run well enough."""
        self._why = ""
        self._arguments = arguments
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The command's name."""
        return self.child.name

    @property
    def fault(self) -> str:
        """How its process ended, and what it said last; empty: none has yet, or it has run well enough since."""
        if self.child.pid is not None and clock.now() - self.since >= clock.passing(STEADY):
            return ""
        return f"{self.ends} times in a row it {self._why}" if self.ends > 1 else self._why

    def stop(self) -> int | None:
        """End it; returns how its last process ended."""
        self.child.stop()
        self._thread.join()
        return self.status

    def _run(self) -> None:
        pauses = growing_pauses()
        while not self.child.is_stopping.is_set():
            self.port, self.since, began = free_port(), clock.now(), time.monotonic()
            self.starts += 1
            self.status = self.child.run(self._arguments(self.port))
            self.since = clock.now()
            if self.child.is_stopping.is_set():
                return
            if time.monotonic() - began >= STEADY:
                pauses, self.ends = growing_pauses(), 0
            self.ends += 1
            self._why, pause = why_ended(self.status, self.child.words), next(pauses)
            print_event(f"{self.name} {self._why}. It is started again in {pause:g} s.", command=self.name, status=self.status, pause=pause)
            self.child.is_stopping.wait(pause)


def growing_pauses() -> Iterator[float]:
    """Seconds: 1, 2, 4, … up to `LONGEST_PAUSE`."""
    pauses: Any = backoff.expo(max_value=LONGEST_PAUSE)
    pauses.send(None)
    return pauses  # type: ignore[no-any-return]


def ended(status: int | None) -> str:
    """How a process ended, in words.

    >>> ended(2), ended(-9), ended(130)
    ('ended with status 2', 'was killed (SIGKILL)', 'was stopped')
    """
    if status in STOPPED:
        return "was stopped"
    if status is not None and status < 0:
        return f"was killed ({signal.Signals(-status).name})"
    return f"ended with status {status}"


def why_ended(status: int | None, words: Sequence[str]) -> str:
    """How a process ended, and the last of its words, shortened.

    >>> why_ended(1, ["reading", "beepgpt: live: the disk is full: free some space"])
    'ended with status 1, and said last: live: the disk is full: free some space'
    """
    last = words[-1].removeprefix("beepgpt: ") if words else "nothing"
    return f"{ended(status)}, and said last: {shorten(last, MOST_SAID, placeholder=' …')}"


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
