"""Plants mutations in copies of the code, and runs tests against each."""

from __future__ import annotations

import atexit
import compileall
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.mutations.mutation import Mutation

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "beepgpt",
    "config",
    "connectors",
    "dataflows",
    "docs",
    "tests",
    "benchmarks",
    "examples",
    "notebooks",
    "pyproject.toml",
    "setup.py",
    "Makefile",
    "README.md",
)


NOTHING = Mutation("nothing", "nothing", (), (), ())


@dataclass(frozen=True)
class Outcome:
    """What the tests said to a mutation."""

    mutation: Mutation
    failed: tuple[str, ...]
    """Tests that failed, the first first."""
    said: str
    """The end of what pytest printed."""


_making = threading.Lock()


@cache
def _compiled_copy() -> Path:
    """A copy of the code with its bytecode, made once in a process: each mutation is planted in a copy of it, and starts fast."""
    folder = Path(tempfile.mkdtemp(prefix="beepgpt-planting-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, folder / name)
    compileall.compile_dir(folder, quiet=2)
    return folder


@contextmanager
def planted(mutation: Mutation | None) -> Iterator[Path]:
    """A copy of the code with the mutation in it. Raises ValueError if what it replaces is not there exactly once."""
    with _making:
        source = _compiled_copy()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(source, copy, symlinks=True)
        if (ROOT.parent / "shared").is_dir():
            (Path(folder) / "shared").symlink_to(ROOT.parent / "shared")
        for old, new in mutation.edits if mutation else ():
            holding = [copy / file for file in mutation.files if old in (copy / file).read_text("utf-8")] if mutation else []
            if len(holding) != 1 or (text := holding[0].read_text("utf-8")).count(old) != 1:
                raise ValueError(f"what a mutation replaces must stand there once: {old!r}")
            holding[0].write_text(text.replace(old, new), "utf-8")
        yield copy


def run_tests(mutation: Mutation | None, tests: Sequence[str], *, stop_at_first: bool = True, seconds: float = 600) -> Outcome:
    """Runs these tests against a mutation, the same histories in every run. Raises ValueError if they can't be run: nobody looked then."""
    with planted(mutation) as copy:
        environment = {**os.environ, "HYPOTHESIS_PROFILE": "planted", "PYTHONDONTWRITEBYTECODE": "1"}
        flags = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "-rfE", "--tb=no", *(["-x"] if stop_at_first else [])]
        command = [sys.executable, "-m", "pytest", *flags, *tests]
        try:
            done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return Outcome(mutation or NOTHING, ("(it never ended)",), f"not done after {seconds:.0f} s")
    failed = tuple(re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE))
    if done.returncode and not failed:
        raise ValueError(f"pytest ended with status {done.returncode}, and no test failed:\n{done.stdout[-1500:]}{done.stderr[-500:]}")
    return Outcome(mutation or NOTHING, failed, done.stdout[-1500:] + done.stderr[-500:])
