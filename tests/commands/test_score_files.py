"""`beepgpt score` on files: what is written beside the predictions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beepgpt.commands.score import MEANING, print_scores
from beepgpt.conversations.events import micros
from beepgpt.training.folder import METRICS
from beepgpt.training.live import card_in, name_of
from beepgpt.training.models import read_card
from beepgpt.training.outcomes import figures_by_model
from beepgpt.training.parts import parts_of
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


def test_a_rehearsal_that_can_recommend_no_threshold_keeps_that_of_a_retrained_model(tmp_path: Path):
    """Too few answers to choose by: it goes on with what the model has from its candidate, and does not guess."""
    given(tmp_path)
    card = {name: value for name, value in card_in(tmp_path / "model").items() if name not in ("files", "labels")}
    figures_of = {"model": "cafe00000000", "fitted_until": "1700000000.000000"}
    kept = {"model": card, "threshold": {"threshold": 0.42}, "figures_of": figures_of}
    (tmp_path / "model" / METRICS).write_text(json.dumps(kept))
    score = run_program("score", "in.jsonl", "--model", "model", "--to", "p.jsonl", cwd=tmp_path)
    assert score.returncode == 0, score.stderr

    done = run_program("rehearse", "p.jsonl", "--model", "model", "--to", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Alerted from 42 % on, which the model keeps." in " ".join((tmp_path / "page.html").read_text().split())


@pytest.mark.slow
def test_several_workers_write_the_same_files(tmp_path: Path):
    """Predictions, deletions and outcomes, byte for byte."""
    given(tmp_path)
    for workers in (1, 2):
        to = ("--to", f"{workers}.jsonl", "--workers", workers)
        done = run_program("score", "in.jsonl", "--model", "model", *to, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    one, two = ([*tmp_path.glob(f"{workers}*.jsonl")] for workers in (1, 2))
    assert len(one) > 1 and {path.name[1:]: path.read_bytes() for path in one} == {path.name[1:]: path.read_bytes() for path in two}


def test_a_score_over_the_training_period_is_in_no_headline(tmp_path: Path):
    """History is scored from the time on that the model was not fitted on, and the run says so; where --since has it score all of it,
    each headline is the same: those of `outcomes`, and of the run's own last line, which has its intervals."""
    times = sorted(float(each["ts"]) for each in (json.loads(record).get("event", {}) for record in workspace()) if "ts" in each)
    choose_from, judge_from = (f"{times[len(times) * share // 10]:.6f}" for share in (4, 6))
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(workspace()) + b"\n")
    model = save(tmp_path / "model", parts={"choose_from": choose_from, "judge_from": judge_from})
    since = {"later": (), "all": ("--since", "1970-01-01T00:00:00Z")}
    parts, headlines, said = {}, {}, {}
    for name, more in since.items():
        done = run_program("score", "in.jsonl", "--model", "model", "--to", f"{name}.jsonl", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said[name] = " ".join(done.stderr.split())
        predictions = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_bytes().splitlines()]
        parts[name] = {each["part"] for each in predictions}
        assert (min(micros(each["prompt_ts"]) for each in predictions) < micros(choose_from)) == (name == "all")
        outcomes = map(json.loads, (tmp_path / f"{name}.outcomes.jsonl").read_bytes().splitlines())
        (figures,) = figures_by_model(outcomes, lambda model: 0.3, {name_of(model): parts_of(read_card(model))})
        headlines[name] = {what: figures[what] for what in ("judged_from", "judged", "answered", "first_replies", "alerts", "calibration")}

    assert parts == {"later": {"choose", "judge"}, "all": {"fit", "choose", "judge"}}
    assert ["are not scored" in said[name] for name in since] == [True, False]
    assert headlines["all"] == headlines["later"] and headlines["all"]["answered"]["hit@1"]["count"] > 20
    last = [said[name].partition(" at the end ")[2].partition("; the newest that judge ")[0] for name in since]
    of = headlines["all"]["answered"]["hit@1"]
    assert last[0] == last[1]
    assert f"hit@1 {100 * of['value']:.1f} % ({100 * of['low']:.1f}–{100 * of['high']:.1f}) of {of['count']}, hit@5" in last[0]


def test_nothing_scored_says_why_and_leads_to_no_rehearsal(tmp_path: Path):
    """Of events that are all older than what is to be scored, as of another workspace."""
    given(tmp_path)
    done = run_program("score", "in.jsonl", "--model", "model", "--to", "p.jsonl", "--since", "2100-01-01T00:00:00Z", cwd=tmp_path)
    said = " ".join(done.stderr.split())

    assert done.returncode == 0, done.stderr
    assert "Nothing was scored: " in said and "are scored with --since 1970-01-01T00:00:00Z." in said
    assert "rehearse" not in said
    assert "; the newest that judge" not in said


def test_figures_of_no_known_answer_are_none(capsys: pytest.CaptureFixture[str]):
    """Where a model has scored points whose answers nobody knows."""
    events = {"read": 1, "applied": 1, "ignored": {}, "rejected": {}, "duplicate": 0, "late": 0, "held": 0}
    points = {"made": 1, "scored": 1, "failed": {}, "scored_by": {"m": 1}} | dict.fromkeys(MEANING, 0)
    account = {"events": events, "points": points, "outcomes": {"unsettled": 1}, "channels": 1}
    figure = {"value": None, "low": None, "high": None, "count": 0}
    closing = {
        "account": account, "to": "p.jsonl", "outcomes_to": None, "model": "m", "threshold": 0.3, "does_not_add_up": [], "seconds": 1.0,
        "points_per_second": 1.0, "peak_memory_mb": 1.0, "lately": [{"m": {"intervals": {"hit@1": figure}}}],
    }  # fmt: skip
    print_scores(closing)
    said = " ".join(capsys.readouterr().err.split())

    assert "at the end no known answer judges model m yet" in said
    assert "; the newest" not in said


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
        (("in.jsonl", "--to", "taken.jsonl"), 2, "taken.outcomes.jsonl: is a folder"),
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
