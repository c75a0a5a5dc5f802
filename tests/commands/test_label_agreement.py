"""`beepgpt label` refuses a labeler that is not known to be better than always saying the same, before the first label."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beepgpt.labeling.agreement import NoBetterThanChance
from tests.support import run_program
from tests.support.labeling import Labels, few_shots_in, made_examples, write
from tests.support.openai_model import by_hash
from tests.support.openai_server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    """A provider that answers by a hash of the prompt."""
    with serving() as server:
        yield server


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    """Examples that are to be labeled, and a place for few-shots."""
    return Labels(tmp_path / "run", made_examples(200, seed=5))


def few_shots_by(rule: Callable[[str], bool], folder: Path, count: int = 30) -> list[str]:
    """As many strong as weak few-shots of other examples, labeled by a rule; their prompts."""
    examples = {each["prompt"]: each for each in map(json.loads, made_examples(700, seed=6)) if each["answer"]}
    folder.mkdir(parents=True)
    chosen: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for prompt, each in examples.items():
        chosen[rule(prompt)].append(each)
    for name, signal, is_strong in (("pos", "strong", True), ("neg", "weak", False)):
        some = chosen[is_strong][:count]
        assert len(some) == count
        write(folder / f"examples_{name}.jsonl", (json.dumps({**each, "signal": signal}).encode() for each in some))
    return [each["prompt"] for part in chosen.values() for each in part[:count]]


def test_a_local_labeler_at_chance_writes_nothing(labels: Labels):
    """Few-shots labeled by the toss of a coin: exit 1, what would help, and that no labels are needed; --force labels all the same."""
    few_shots_in(labels.folder / "few-shots", made_examples(700, seed=6), 60)
    command = ("label", labels.source, "--to", labels.to, "--few-shots", labels.folder / "few-shots")
    done = run_program(*command)

    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "always saying the same would get 50 %" in said and "none is written" in said
    assert "beepgpt review SOURCE" in said and "A local model needs no labels" in said
    assert not labels.to.exists()
    assert run_program(*command, "--force").returncode == 0
    labels.check(rule=lambda shown: next(each["signal"] == "strong" for each in labels.labeled if each["prompt"] == shown))


def test_a_local_labeler_that_has_learned_something_labels(labels: Labels):
    """Questions are strong: it learns that."""
    few_shots_by(lambda prompt: "?" in prompt, labels.folder / "few-shots")

    assert labels.run(force=False)["status"] == 0
    assert labels.labeled


def test_rules_are_held_against_few_shots(labels: Labels, capsys: pytest.CaptureFixture[str]):
    """Without any nobody knows how right they are, and it says so; with some that don't agree, nothing is written."""
    assert labels.run(labeler="rules", force=False)["status"] == 0
    assert "How often --labeler rules is right is not known" in " ".join(capsys.readouterr().err.split())

    few_shots_in(labels.folder / "few-shots", made_examples(700, seed=6), 60)
    with pytest.raises(NoBetterThanChance, match="--labeler local or provider"):
        labels.run(labeler="rules", force=False)


def test_a_provider_is_tried_before_it_is_paid(server: Server, labels: Labels):
    """By a request for each few-shot, which shows none of its half; at chance nothing else is asked, and a second try asks nothing."""
    few_shots_by(lambda prompt: len(prompt) % 2 == 0, labels.folder / "few-shots")
    for requests in (60, 0):
        before = len(server.record.asked)
        with pytest.raises(NoBetterThanChance, match="The provider labeler is not known to be better"):
            labels.run(server, force=False)
        assert len(server.record.asked) - before == requests
    assert not labels.to.exists()


def test_a_provider_that_agrees_labels(server: Server, labels: Labels):
    """What it was tried on is in the account of requests, and in the estimate before it."""
    few_shots_by(lambda prompt: by_hash(prompt) >= 0.5, labels.folder / "few-shots")
    report = labels.run(server, force=False)

    assert report["status"] == 0
    labels.check()
    assert report["provider"]["requests"] == report["estimate"]["requests"] == len(server.record.asked)
    assert len(server.record.asked) == 60 + len({each["prompt"] for each in labels.labeled if each["answer"]})
