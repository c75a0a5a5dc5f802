"""Processes that share a run: started together, told of by lines of JSON, stopped together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any


class PartFailed(Exception):
    """A process of the run failed; the message is its own last words."""


def run_parts(commands: Sequence[Sequence[str]], told: Callable[[int, dict[str, Any]], None]) -> list[int]:
    """Runs all commands at once to their ends, and passes on what each tells. Returns their exit statuses.

    If one fails, the others are told to stop: what they did is in their snapshots.
    """
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]

    def stop_all(number: int, _frame: object) -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, stop_all) for number in (signal.SIGINT, signal.SIGTERM)}

    def listen(part: int) -> str:
        process = processes[part]
        assert process.stdout is not None and process.stderr is not None
        words = ThreadPoolExecutor(1).submit(process.stderr.read)
        for line in process.stdout:
            told(part, json.loads(line))
        if process.wait() not in (0, 130):
            stop_all(signal.SIGTERM, None)
        return words.result().decode(errors="replace").strip()

    try:
        with ThreadPoolExecutor(len(processes)) as pool:
            last_words = list(pool.map(listen, range(len(processes))))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    failed = [words for process, words in zip(processes, last_words, strict=True) if process.returncode not in (0, 130)]
    if failed:
        raise PartFailed(next((words for words in failed if words), "a process of the run was killed"))
    return [process.returncode for process in processes]


def tell(what: dict[str, Any]) -> None:
    """A line to the process that started this one. If that is gone, this one stops as if it had been asked to."""
    try:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.kill(os.getpid(), signal.SIGTERM)
