"""Steps of a command that makes several things in one folder: each is done once, and again when what it is made from has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import orjson

from beepgpt import __version__
from beepgpt.connectors.files import jsonl
from beepgpt.runtime.console import console

STEPS = "steps.json"
"""What became of the steps, beside what they made."""


class Steps:
    """The steps of a command, in their order.

    One that changed makes those after it run anew. One whose files changed is done again alone: it makes the same as before.
    """

    def __init__(self, folder: Path, count: int) -> None:
        """`count`: how many there are, for what is shown."""
        self._path = folder / STEPS
        self._count = count
        self._kept: dict[str, Any] = {}
        self._done: dict[str, Any] = {}
        self._key = __version__
        with suppress(OSError, orjson.JSONDecodeError):
            self._kept = orjson.loads(self._path.read_bytes())
        if not self._path.exists():
            jsonl.write_file(self._path, b"{}\n")  # so that the folder is known, however soon the command is stopped

    def run(
        self,
        name: str,
        made_from: object,
        outputs: Sequence[Path],
        work: Callable[[], Mapping[str, Any]],
        says: Callable[[Mapping[str, Any]], str],
    ) -> Mapping[str, Any]:
        """Do a step, if need be; returns what `work` returned, which must be JSON, now or the last time.

        `made_from`: what the step depends on beside the steps before, as JSON; `outputs`: the files that it makes; `says`: a line about it.
        """
        self._key = sha256(orjson.dumps([self._key, name, made_from])).hexdigest()
        kept = self._kept.get(name, {})
        is_new = kept.get("key") != self._key or kept.get("files") != [_state_of(each) for each in outputs]
        began = time.monotonic()
        value = work() if is_new else kept["value"]
        took = f"{time.monotonic() - began:,.0f} s" if is_new else "up to date"
        self._done[name] = {"key": self._key, "files": [_state_of(each) for each in outputs], "value": value}
        jsonl.write_file(self._path, orjson.dumps(self._done, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        console.print(f"{len(self._done)}/{self._count} {name}: {says(value)} ({took})")
        return value


def _state_of(path: Path) -> list[int] | None:
    """By which a file is known to be unchanged: its size and the time it was written; None if it is missing."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def contents_of(path: Path) -> str | list[list[Any]]:
    """What tells whether a source is still the same: of a file a hash, of a folder the sizes and times of all its files."""
    if path.is_dir():
        return [[str(each.relative_to(path)), _state_of(each)] for each in sorted(path.rglob("*")) if each.is_file()]
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
