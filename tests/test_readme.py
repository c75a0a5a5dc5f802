"""The README tells the truth."""

import re
from pathlib import Path

import pytest
import typer.main

from beepgpt.commands.app import app
from docs.fill_readme import README, blocks, fenced, picture

COMMANDS = README.parent / "docs" / "reference" / "commands.md"
TIMES = re.compile(r"[\d,.]+ (s|events/s|MB)\b")
"""What differs from run to run."""


@pytest.fixture(scope="module")
def printed() -> dict[str, tuple[str, str]]:
    return blocks()


def alike(text: str) -> list[str]:
    """The lines of a text, their times and white space aside."""
    return [" ".join(TIMES.sub("N \\1", line).split()) for line in text.splitlines()]


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
@pytest.mark.parametrize("name", ["demo", "example"])
def test_the_readme_shows_what_the_program_prints(printed, name):
    """`make readme` fills it in."""
    assert alike(fenced(name)) == alike(printed[name][1])


def test_the_picture_is_the_flow():
    """Drawn without a demo, which takes its time."""
    assert alike(fenced("picture")) == alike(picture())


def test_every_command_stands_in_the_table():
    """And every row of the table is a command."""
    table = re.findall(r"^\| `beepgpt ([\w-]+)", COMMANDS.read_text("utf-8"), re.MULTILINE)

    assert sorted(set(table)) == sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_file_that_is_linked_is_there():
    """Relative links lead somewhere."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text("utf-8"))

    assert [link for link in links if not Path(README.parent, link).exists()] == []
