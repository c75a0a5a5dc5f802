"""Long few-shots get a summary before labeling begins, in the program as it runs, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from beepgpt.conversations.tokens import SUFFIX
from beepgpt.errors import RunStopped
from tests.support.labeling import Labels, few_shots_in, made_examples
from tests.support.openai_script import Script
from tests.support.openai_server import Server, serving

SUMMARY = "who has the key?"
LONG = "the importer drops the last column of every sheet, write to ana@example.org\n\n" * 5 + "who knows why?" + SUFFIX


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.writer = lambda _: SUMMARY
        yield server


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    """Four few-shots, of which the first strong one is long."""
    labels = Labels(tmp_path / "labels", made_examples()[:40])
    few_shots_in(labels.folder / "few-shots", labels.lines)
    path = labels.folder / "few-shots" / "examples_pos.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines[0]["prompt"] = LONG
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    return labels


def strong(labels: Labels) -> list[dict[str, str]]:
    """The strong few-shots, as they stand in their file."""
    return [json.loads(line) for line in (labels.folder / "few-shots" / "examples_pos.jsonl").read_bytes().splitlines()]


def wishes(server: Server) -> list[str]:
    """What summaries were asked of, in order."""
    return [each.body["messages"][-1]["content"] for each in server.record.asked if "response_format" not in each.body]


def questions(server: Server) -> list[list[str]]:
    """What stands in each yes-or-no question."""
    return [[each["content"] for each in asked.body["messages"]] for asked in server.record.asked if "response_format" in asked.body]


def test_a_long_few_shot_is_summarised_once_and_its_summary_is_shown(server: Server, labels: Labels):
    """Redacted before it leaves, kept in its file, paid for in the account; all else stays, and a second run asks nothing."""
    before = strong(labels)
    report = labels.run(server, summarise=40, provider__model="gpt-4.1-mini")

    assert wishes(server) == [LONG.replace("ana@example.org", "[email]")]
    assert strong(labels) == [before[0] | {"summary": SUMMARY + SUFFIX}, before[1]]
    assert questions(server) and all(SUMMARY + SUFFIX in said for said in questions(server))
    assert not any("importer" in each for said in questions(server) for each in said)
    assert report["provider"]["requests"] == 1 + len(questions(server))
    assert report["provider"]["redacted"]["email"] >= 5
    labels.run(server, summarise=40, provider__model="gpt-4.1-mini")
    assert len(wishes(server)) == 1


def test_nothing_is_summarised_unless_that_is_asked_for(server: Server, labels: Labels):
    """The prompt stands in the requests."""
    labels.run(server)

    assert wishes(server) == []
    assert all(any("importer" in each for each in said) for said in questions(server))


def test_what_may_not_be_sent_is_not_summarised(server: Server, labels: Labels):
    """Few-shots of excluded channels stay where they are."""
    labels.run(server, summarise=40, provider__exclude_channels=strong(labels)[0]["channel"])

    assert wishes(server) == []


def test_a_summary_that_is_none_leaves_the_prompt(server: Server, labels: Labels, capsys: pytest.CaptureFixture[str]):
    """It is told of by its id, without its text."""
    server.writer = lambda _: "write to bo@example.org, who knows"
    before = strong(labels)
    labels.run(server, summarise=40)

    assert strong(labels) == before
    told = " ".join(capsys.readouterr().err.split())
    assert f"Few-shot {before[0]['id']} keeps its prompt: the summary mentions somebody" in told and "bo@" not in told


def test_a_run_that_goes_on_keeps_the_few_shots_that_it_began_with(server: Server, labels: Labels):
    """Other ones would be another question."""
    labels.run(server, recovery=True)
    labels.run(server, recovery=True, summarise=40)

    assert wishes(server) == []


def test_a_provider_that_fails_changes_nothing(labels: Labels):
    """The same command begins with the summaries."""
    before = strong(labels)
    with serving(script=Script(always="quota")) as server, pytest.raises(RunStopped, match="no few-shot has got its summary"):
        labels.run(server, summarise=40)

    assert strong(labels) == before
