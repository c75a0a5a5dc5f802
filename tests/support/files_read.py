"""A plugin of pytest: notes which files of the product and the tests a run reads, so that `make proof` knows when its result is stale."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system")
"""Events of Python's auditing after which other processes read files, too."""

opened: set[str] = set()
started: list[str] = []


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """A hook of `sys.addaudithook`."""
    if event == "open" and isinstance(arguments[0], str):
        opened.add(arguments[0])
    elif event in STARTS:
        started.append(event)


sys.addaudithook(note)


def pytest_sessionfinish() -> None:
    """Writes the paths below the root, sorted, to the file that is asked for; null if a process was started, which may read any."""
    modules = {path for module in list(sys.modules.values()) if (path := getattr(module, "__file__", None))}
    files = map(Path.resolve, map(Path, opened | modules))
    below = {str(path.relative_to(ROOT)) for path in files if path.is_relative_to(ROOT)}
    Path(os.environ["FILES_READ"]).write_text(json.dumps(None if started else sorted(below)), "utf-8")
