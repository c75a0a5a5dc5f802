"""docs/privacy.md promises what a test holds, of every kind of file and topic."""

import ast
import re
from pathlib import Path

from beepgpt.commands.topics import BESIDE, DEAD_LETTERS, KINDS, PREFIX
from beepgpt.config.settings import read_settings
from beepgpt.conversations.rules import DAY
from beepgpt.forgetting.kinds import FILES, FOLDERS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "privacy.md").read_text("utf-8")
NOTHING_OF_PEOPLE = {
    "lock",
    "SQLite's own log",
    "unfinished file",
    "unfinished files",
    "unfinished table",
    "mark of a run",
    "note of up",
    "document",
    "text",
}
"""Kinds that hold nothing by themselves, or whatever their command writes."""
CALLED = {"Slack export": "exports", "records": "events", "table": "tables", "answers of a provider": "a provider's answers"}
"""Kinds by their names on the page, where these are others."""


def rows_of(heading: str) -> list[list[str]]:
    """The rows of the table below a heading."""
    lines = PAGE.partition(f"\n{heading}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]


def test_each_row_of_the_page_names_a_test_that_exists():
    """In the file that it links."""
    rows = rows_of("## What is kept where")
    assert len(rows) == 16
    for row in rows:
        found = re.fullmatch(r"\[test\]\(\.\./(tests/[^)]+)\) `(test_\w+)`", row[-1])
        assert found is not None, row[0]
        tree = ast.parse((ROOT / found[1]).read_text("utf-8"))
        assert found[2] in {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}, row[0]


def test_topics_are_kept_as_long_as_the_page_says():
    """As `beepgpt topics` makes them; of a topic that other tools made, its own settings hold."""
    days = {name: int(kind["retention.ms"]) // 86_400_000 for name, kind in KINDS.items() if int(kind.get("retention.ms", -1)) > 0}
    kept = {name: row[3] for row in rows_of("## What is kept where") for name in re.findall(rf"`{PREFIX}[.]([a-z-]+)`", row[1])}

    assert KINDS["events"]["retention.ms"] == "-1" and kept["events"] == "until forgotten"
    assert days["interactions"] == 7 and kept["interactions"].startswith("a week")
    assert days["outcomes"] == days["alerts"] == 90 and kept["outcomes"].startswith("on topics 90 days")
    assert DEAD_LETTERS["cleanup.policy"] == "delete" and kept["late"].startswith("30 days (`run.rejects_kept`)")
    settings = read_settings(environ={})
    assert settings.run.rejects_kept == 30 * DAY and settings.rules.remember == 400 * DAY and "400 days" in kept["examples"]
    assert settings.scoring.kept == 90 * DAY and kept["predictions"].startswith("on topics 90 days (`scoring.kept`)")
    assert "compact" in KINDS["examples"]["cleanup.policy"] and "compact" in KINDS["labeled"]["cleanup.policy"]


def test_the_page_has_every_kind_of_file_and_topic():
    """Those that are registered, and those that `beepgpt topics` makes; uninstalling names all topics, too."""
    text = PAGE.lower()
    kinds = {CALLED.get(kind.name, kind.name).lower() for kind in (*FILES, *FOLDERS) if kind.name not in NOTHING_OF_PEOPLE}
    topics = {f"{PREFIX}.{kind}" for kind in (*KINDS, *BESIDE)}

    assert {kind for kind in kinds if kind not in text} == set()
    assert {topic for topic in topics if f"`{topic}`" not in PAGE.partition("## Uninstalling")[2]} == set()


def test_the_app_promises_what_the_page_does():
    """Both manifests say what becomes of deleted messages, and that people can be forgotten."""
    for name in ("slack-app.yaml", "slack-app-private.yaml"):
        described = " ".join((ROOT / "config" / name).read_text("utf-8").split())
        assert "retracts what it made of a message when that is deleted" in described and "can be made to forget a person" in described, (
            name
        )
