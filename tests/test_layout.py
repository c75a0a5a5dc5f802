"""The tree shows the flow, imports run one way, and what the README tells to type exists."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "beepgpt"
UNREPEATABLE = {"asyncio", "multiprocessing", "numpy", "os", "random", "secrets", "socket", "subprocess"}
UNREPEATABLE |= {"tempfile", "threading", "time", "uuid"}
"""What gives another answer at another time, on another machine, or in another order."""


def modules(folder: str) -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imported(tree: ast.AST) -> Iterator[str]:
    """The top-level name of every module imported anywhere in the tree; relative ones stay at home."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def called(tree: ast.AST) -> Iterator[str]:
    """The last name of everything called: `now` for `datetime.now()`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id


@cache
def project() -> dict[str, Any]:
    tools: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    return tools


def test_conversations_are_the_same_at_any_time_and_place():
    """No clock, chance, environment, thread or NumPy; and no `hash()`, which differs by process."""
    for path in modules("conversations"):
        tree = parsed(path)

        assert not set(imported(tree)) & UNREPEATABLE, path.name
        assert not set(called(tree)) & {"now", "utcnow", "today", "hash", "id"}, path.name


@pytest.mark.parametrize(
    "code",
    ["import time", "from os import environ", "import os.path", "def f():\n    import random", "datetime.now()", "hash(1)"],
)
def test_the_check_would_notice(code: str):
    """What the two tests above look for is found wherever it stands."""
    tree = ast.parse(code)

    assert set(imported(tree)) & UNREPEATABLE or set(called(tree)) & {"now", "hash"}


def test_locks_name_no_registry():
    """Hashes tell what is installed; any mirror may bring it."""
    for lock in ROOT.glob("requirements*.lock"):
        assert not re.search(r"https?:|--(extra-)?index-url|--find-links", lock.read_text("utf-8")), lock.name


def typed_in_readme() -> list[str]:
    """Lines of the README's code blocks that are to be typed into a shell, continued lines joined."""
    text = (ROOT / "README.md").read_text("utf-8").replace("\\\n", " ")
    fences = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    typed = [block for language, block in fences if language in ("", "sh", "shell", "bash", "console")]
    return [re.sub(r"\s#.*", "", line).strip().removeprefix("$ ") for block in typed for line in block.splitlines()]


def test_the_readme_names_make_targets_that_exist():
    """Every `make x` works."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {target for line in typed_in_readme() for target in re.findall(r"(?:^|&& )make ([a-z]+)", line)}

    assert {"demo", "test"} <= named <= targets


def test_the_readme_names_commands_and_flags_that_exist():
    """Every `beepgpt x --y` is known to the command line."""
    named: dict[str, set[str]] = {}
    for line in typed_in_readme():
        for command, rest in re.findall(r"(?:^|[|&] ?|/)beepgpt ([a-z]+)([^|&]*)", line):
            named.setdefault(command, set()).update(re.findall(r"(?<=\s)--[a-z-]+", rest))

    assert named
    for command, flags in named.items():
        unknown = flags - set(re.findall(r"--[a-z-]+", help_of(command)))
        assert not unknown, f"beepgpt {command} knows no {unknown}"


def help_of(command: str) -> str:
    """What `beepgpt COMMAND --help` prints, wide enough that nothing is cut."""
    plain = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "GITHUB_ACTIONS")}
    run = [sys.executable, "-c", "from beepgpt.commands.app import main; main()", command, "--help"]
    done = subprocess.run(run, cwd=ROOT, env={**plain, "COLUMNS": "300", "NO_COLOR": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"beepgpt {command} is no command: {done.stderr}"
    return done.stdout
