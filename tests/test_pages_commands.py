"""Every command that a page says to type is run: here, or by the test that the page names beside it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from beepgpt.simulation.workspace import Plan, write_export
from tests.support import run_program

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("**/*.md"))]
HERE = "run by tests/test_pages_commands.py"
BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(?:sh|shell|bash|console)?\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """What is to be typed into a shell and holds a command of ours, each with the remark above it."""
    found = BLOCK.findall(page.read_text("utf-8"))
    return [(remark, block) for remark, block in found if re.search(r"^beepgpt ", block, re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_run_or_its_test_is_named(page: Path):
    """The tests that are named are there."""
    for remark, block in blocks_of(page):
        tests = re.findall(r"tests/[\w/]+\.py", remark)
        assert tests and remark.startswith(("run by", "not run here: ")), block
        assert [each for each in tests if not (ROOT / each).is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("names", [("README.md",), ("docs/guides/export.md", "docs/laws.md")], ids=" ".join)
def test_the_commands_of_a_page_work_one_after_the_other(tmp_path: Path, names: tuple[str, ...]):
    """On a simulated workspace of the name that the page gives to yours, in an empty folder."""
    blocks = [block for name in names for remark, block in blocks_of(ROOT / name) if remark == HERE]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    exports = {word for line in lines for word in shlex.split(line, comments=True) if word.endswith(".zip")}
    for export in exports:
        write_export(Plan(seed=7, messages=1_500, channels=5, people=25, days=40), tmp_path / export)

    assert lines and exports
    for line in lines:
        _, *words = shlex.split(line, comments=True)
        done = run_program(*words, cwd=tmp_path)
        assert done.returncode == 0, (line, done.stderr)
