"""Processes that share a run: started together, stopped together, each reporting by lines of JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from beepgpt.errors import BeepGPTError, Interrupted

STOPPED = (0, 130, 143)
"""Exit statuses of a process that ended as it should: by itself, or because it was asked to."""


_REPORTING = threading.Lock()
"""Log lines come from several threads."""


class WorkerFailed(BeepGPTError):
    """A process of the run failed; the message is its own, or says how it was killed."""


def run_processes(commands: Sequence[Sequence[str]], on_report: Callable[[int, dict[str, Any]], None], keep: Sequence[int] = ()) -> None:
    """Runs all commands at once to their ends. `on_report` gets each line with its process's number; they share the open files `keep`.

    If one fails, the others are stopped: what they did is in their snapshots. Raises WorkerFailed or Interrupted.
    """
    # Sessions of their own: a terminal's Ctrl-C comes here alone, and is passed on once.
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=keep, start_new_session=True
        )
        for command in commands
    ]
    interrupted = False

    def stop_all() -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()

    def interrupt(number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        stop_all()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}

    def listen(number: int) -> str:
        process = processes[number]
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        with process.stdin, process.stdout, process.stderr, ThreadPoolExecutor(1) as reader:
            stderr = reader.submit(process.stderr.read)
            for line in process.stdout:
                with suppress(ValueError):  # half a line: the process was killed while it wrote it
                    on_report(number, json.loads(line))
            if process.wait() not in STOPPED:
                stop_all()
            return stderr.result().decode(errors="replace").strip()

    try:
        with ThreadPoolExecutor(len(processes)) as pool:
            messages = list(pool.map(listen, range(len(processes))))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    statuses = [process.returncode for process in processes]
    # A process that was stopped before it could listen for it, or that was asked twice, went without its account.
    if interrupted and any(status in (-signal.SIGTERM, 143) for status in statuses):
        raise Interrupted("interrupted at once: with --recovery the same command goes on from the last snapshot; without, it starts anew")
    failed = [
        message.removeprefix("beepgpt: ") or _killed(status)
        for status, message in zip(statuses, messages, strict=True)
        if status not in STOPPED and status != -signal.SIGTERM
    ]
    if failed or any(status not in (0, 130) for status in statuses):
        raise WorkerFailed(next(iter(failed), _killed(-signal.SIGTERM)))


def _killed(status: int) -> str:
    """How a process ended that wrote no message."""
    if status >= 0:
        return f"one of the run's processes ended with status {status}, and did not say why"
    name = signal.Signals(-status).name
    why = ": perhaps memory ran out, and fewer --workers need less" if -status == signal.SIGKILL else ""
    rest = "With --recovery, the same command goes on where it was; without, it starts anew"
    return f"one of the run's processes was killed ({name}){why}. {rest}"


def stop_with_parent() -> None:
    """Stops this process, as if it had been asked to, when the one that started it is gone, even while it has nothing to report."""

    def watch() -> None:
        os.read(0, 1)  # nothing ever comes: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def report(what: dict[str, Any]) -> None:
    """Writes a line to the process that started this one. If that is gone, this one stops as if it had been asked to."""
    try:
        with _REPORTING:
            sys.stdout.write(json.dumps(what) + "\n")
            sys.stdout.flush()
    except BrokenPipeError:
        os.kill(os.getpid(), signal.SIGTERM)
