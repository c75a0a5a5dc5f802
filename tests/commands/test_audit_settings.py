"""What made examples is remembered beside them, so that an audit needs no flags; and it suggests what there is to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beepgpt.commands.audit import next_command
from beepgpt.conversations.rules import HOUR, Rules
from beepgpt.runtime.made_by import recorded_rules, rules_beside
from beepgpt.simulation.workspace import Plan, write_export
from tests.support import run_program

PLAN = Plan(seed=5, messages=400, channels=3, people=12, days=20)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export, its examples with a horizon of 4 hours, and a training set of them."""
    folder = tmp_path_factory.mktemp("made")
    write_export(PLAN, folder / "acme.zip")
    for command in (
        "examples acme.zip --to e.jsonl --horizon 4h --workspace acme",
        "prepare e.jsonl --to set --format candidates,examples",
    ):
        done = run_program(*command.split(), cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_an_audit_knows_what_made_the_examples(made: Path):
    """Of a file and of a training set, without a flag; horizon and workspace are those of the run that made them."""
    for place in ("e.jsonl", "set"):
        recorded = recorded_rules(made / place)
        assert recorded is not None and recorded.workspace == "acme"
        found = recorded.with_others(Rules())
        assert found is not None and (found.horizon, found.workspace) == (4 * HOUR, "acme")
        done = run_program("audit", "acme.zip", place, cwd=made)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Checked by the settings that made them: horizon is 4 hours there, 1 day here." in done.stderr


def test_flags_that_contradict_it_are_refused(made: Path):
    """By name, with both values; and without the record the flags are needed, as ever."""
    done = run_program("audit", "acme.zip", "e.jsonl", "--horizon", "2h", cwd=made)
    assert done.returncode == 2 and "horizon is 4 hours there, 2 hours here. Leave these out" in done.stderr

    kept = rules_beside(made / "e.jsonl").read_bytes()
    rules_beside(made / "e.jsonl").unlink()
    try:
        assert run_program("audit", "acme.zip", "e.jsonl", cwd=made).returncode == 2
        given = run_program("audit", "acme.zip", "e.jsonl", "--horizon", "4h", "--workspace", "acme", cwd=made)
        assert given.returncode == 0, given.stdout
    finally:
        rules_beside(made / "e.jsonl").write_bytes(kept)


def test_the_next_command_replaces_nothing(made: Path, tmp_path: Path):
    """With a training set beside the examples it is `train`, without one `prepare`."""
    alone = tmp_path / "e.jsonl"
    alone.write_bytes((made / "e.jsonl").read_bytes())
    rules_beside(alone).write_bytes(rules_beside(made / "e.jsonl").read_bytes())
    says = [run_program("audit", made / "acme.zip", each, cwd=made).stderr for each in ("e.jsonl", "set", alone)]

    ends = [each.splitlines()[-1] for each in says]
    assert ends == ["next: beepgpt train set", "next: beepgpt train set", f"next: beepgpt prepare {alone} --to {tmp_path / 'set'}"]


def test_a_topic_of_examples_is_prepared():
    """It is no file with a place beside it; what bounded the audit bounds no training set."""
    topic = "sqlite:///srv/live/log/slack.examples"

    assert next_command(f"{topic}?to=2026-01-01T00:00:00Z") == ("prepare", topic, "--to", "set")


def test_rules_of_another_version_are_not_taken():
    """What their fingerprint is made of must be what this version makes of them."""
    from beepgpt.conversations.rules import shaping_settings
    from beepgpt.runtime.made_by import RecordedRules

    settings = json.loads(json.dumps(shaping_settings(Rules())))
    assert RecordedRules(None, settings).with_others(Rules(horizon=HOUR)) == Rules()
    assert RecordedRules(None, settings | {"example_version": 1}).with_others(Rules()) is None
    assert RecordedRules(None, settings | {"horizon": -1}).with_others(Rules()) is None
