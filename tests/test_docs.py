"""The glossary has what a user meets, and the pages' links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

import beepgpt
from beepgpt.alerts import delivery
from beepgpt.commands.app import COMMANDS
from beepgpt.commands.topics import BESIDE, KINDS, PREFIX, flow_topics, names_beside, spec_of
from beepgpt.config.settings import read_settings
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import POINT_ENDS, Account
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import run_through

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def missing(words: set[str]) -> set[str]:
    """Those that the glossary doesn't have in backticks."""
    return words - set(re.findall(r"`([^`\n]+)`", (ROOT / "docs" / "glossary.md").read_text("utf-8")))


def test_the_glossary_has_the_rows_of_the_account():
    """As the report writes them."""
    assert missing({*Account().as_json()["events"], *POINT_ENDS, "open"}) == set()


def test_the_glossary_has_the_keys_of_an_example():
    """Those of its candidates, too."""
    said = [
        b'{"type": "message", "channel": "C1", "user": "ana", "text": "Is the build red?", "ts": "1690360240.229079"}',
        b'{"type": "message", "channel": "C1", "user": "bo", "text": "Not any more", "ts": "1690360253.041239"}',
    ]
    (line,) = run_through(said, Rules(), load_encoding("o200k_base")).examples
    example = orjson.loads(line)

    assert missing({*example, *example["candidates"]}) == set()


def test_the_glossary_has_the_keys_of_an_alert():
    """All that others get of it."""
    row = dict.fromkeys(["id", "user", "kind", "way", "reason", "prediction", "conversation", "channel", "permalink", "model", "why"], "")
    value = delivery.alert_body({**row, "ts": 0, "prompt_ts": 0, "p": 0.5, "made_at": 0})

    assert missing(set(value)) == set()


def test_the_glossary_has_the_topics():
    """All that `beepgpt topics` makes."""
    assert missing({f"{PREFIX}.{kind}" for kind in (*KINDS, *BESIDE)}) == set()


def test_the_page_of_topics_has_each_with_how_long_it_keeps_records():
    """As `beepgpt topics` makes them."""
    settings = read_settings(environ={})
    kept = dict(
        re.findall(
            r"^\| `(slack\.[\w-]+)` \|.*\| ([^|]*) \|$", (ROOT / "docs" / "reference" / "topics.md").read_text("utf-8"), re.MULTILINE
        )
    )
    beside = names_beside(PREFIX, settings)
    specs = {name: spec_of(name, 12, -1, beside, settings) for name in flow_topics(PREFIX, 1, beside)}

    assert kept.keys() == specs.keys()
    for name, spec in specs.items():
        days = int(spec.settings.get("retention.ms", -1)) // 86_400_000
        assert (f"{days} days" in kept[name]) == (days > 0), name
        assert ("newest of each id" in kept[name]) == ("compact" in spec.settings["cleanup.policy"]), name


def test_the_glossary_has_the_metrics():
    """Every family that a process serves."""
    code = "".join(path.read_text("utf-8") for path in (ROOT / "beepgpt").glob("*/**/*.py"))
    families = set(re.findall(r'"(beepgpt_[a-z]+_[a-z_]+)"', code))

    assert len(families) > 50
    assert missing(families) == set()


@pytest.mark.slow
def test_the_site_is_built(tmp_path: Path):
    """Every page stands in its contents, no link leads nowhere, and every command's help is there."""
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    commands = (tmp_path / "reference" / "commands.html").read_text("utf-8")
    assert [name for group in COMMANDS.values() for name in group if f'id="beepgpt-{name}"' not in commands] == []
    for notebook in ROOT.glob("notebooks/*.ipynb"):
        page = (tmp_path / "notebooks" / f"{notebook.stem}.html").read_text("utf-8")
        assert page.count("data:image/png") == notebook.read_text("utf-8").count('"image/png"') > 0, "with its pictures"
    names = (tmp_path / "reference" / "python.html").read_text("utf-8")
    assert [name for name in beepgpt.__all__ if f'id="beepgpt.{name}"' not in names] == []
    assert "<blockquote>" not in names and names.count("&gt;&gt;&gt;") > 30, "examples are blocks of code"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    """Files that a page links to are there, and so are the headings within them."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]*)\)", page.read_text("utf-8")):
        name, _, heading = target.partition("#")
        there = page if not name else page.parent / name
        assert there.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target
