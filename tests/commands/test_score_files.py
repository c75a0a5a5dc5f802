"""`beepgpt score` on files: what is written beside the predictions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import run_program
from tests.support.scoring import save, workspace


def given(folder: Path) -> None:
    """Events in `in.jsonl`, and a model in `model`."""
    (folder / "in.jsonl").write_bytes(b"\n".join(workspace()) + b"\n")
    save(folder / "model")


def test_outcomes_stand_beside_the_predictions(tmp_path: Path):
    """Where nothing names their place; the same bytes as where something does, and `rehearse` finds them."""
    given(tmp_path)
    done = run_program("score", "in.jsonl", "--model", "model", "--to", "p.jsonl", "--report", "report.json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "p.outcomes.jsonl" in done.stderr
    account = json.loads((tmp_path / "report.json").read_bytes())
    outcomes = (tmp_path / "p.outcomes.jsonl").read_bytes()
    assert account["outcomes_to"] == "p.outcomes.jsonl"
    assert len(outcomes.splitlines()) == sum(count for how, count in account["account"]["outcomes"].items() if how != "unsettled") > 0

    named = run_program("score", "in.jsonl", "--model", "model", "--to", "again.jsonl", "--outcomes", "named.jsonl", cwd=tmp_path)
    assert named.returncode == 0, named.stderr
    assert (tmp_path / "named.jsonl").read_bytes() == outcomes
    assert not (tmp_path / "again.outcomes.jsonl").exists()

    rehearsed = run_program("rehearse", "p.jsonl", "--threshold", 0.3, "--to", "page.html", cwd=tmp_path)
    assert rehearsed.returncode == 0, rehearsed.stderr
    missing = run_program("rehearse", "again.jsonl", "--threshold", 0.3, "--to", "page.html", cwd=tmp_path)
    assert missing.returncode == 2 and "there is no outcome" in missing.stderr


def test_beside_standard_output_are_no_files(tmp_path: Path):
    """The account says that outcomes were not written."""
    given(tmp_path)
    done = run_program("score", "in.jsonl", "--model", "model", "--to", "-", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout and "not written (--outcomes)" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "model"]


@pytest.mark.parametrize(
    ("arguments", "status", "refused"),
    [
        (("in.jsonl", "--to", "p.jsonl", "--outcomes", "p.jsonl"), 2, "p.jsonl: would be written over another output, p.jsonl"),
        (("p.outcomes.jsonl", "--to", "p.jsonl"), 2, "p.outcomes.jsonl: would be written over SOURCE"),
        (("in.jsonl", "--to", "p.jsonl", "--report", "p.outcomes.jsonl"), 2, "p.outcomes.jsonl: would be written over another output"),
        (("in.jsonl", "--to", "taken.jsonl"), 1, "taken.outcomes.jsonl: is a folder"),
    ],
)
def test_nothing_is_written_over(tmp_path: Path, arguments: tuple[str, ...], status: int, refused: str):
    """Neither what is read nor another output, also where the outcomes' place was not named."""
    given(tmp_path)
    (tmp_path / "p.outcomes.jsonl").write_bytes((tmp_path / "in.jsonl").read_bytes())
    (tmp_path / "taken.outcomes.jsonl").mkdir()
    done = run_program("score", *arguments, "--model", "model", cwd=tmp_path)

    assert done.returncode == status
    assert refused in " ".join(done.stderr.split())
    assert (tmp_path / "p.outcomes.jsonl").read_bytes() == (tmp_path / "in.jsonl").read_bytes()
