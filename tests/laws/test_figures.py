"""Law 8: figures don't flatter. No headline uses a point on which the model was fitted, or by which anything was chosen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beepgpt.alerts.decisions import Policy
from beepgpt.alerts.predictions import read_prediction
from beepgpt.alerts.rehearsal import RehearsalHistory, read_outcome
from beepgpt.alerts.replay import Replay
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.outcomes import RollingMetrics
from beepgpt.conversations.rules import DAY, HOUR, MINUTE
from beepgpt.training.formats import microseconds
from beepgpt.training.metrics import Outcomes, outcomes_of
from beepgpt.training.models import load_model, save_model
from beepgpt.training.outcomes import figures_by_model
from beepgpt.training.parts import Part, Parts, parts_of
from beepgpt.training.points import Examples, Predictions, read_examples
from beepgpt.training.runs import FILE, ValidationRun, read_run, run_bytes, side_by_side
from beepgpt.training.text import fit_text
from beepgpt.training.validation import validate_models
from tests.support.alerts import NOON, outcome, prediction
from tests.support.prepare import vouch_for
from tests.support.training import training_set
from tests.training.test_training_metrics import examples_with

PARTS = Parts(NOON + 20 * HOUR, NOON + 40 * HOUR)
POLICY = Policy(threshold=0.5, list_from=0.2, per_hour=3, opted_in=True)
HEADLINE = ("judged_from", "answered", "first_replies", "alerts", "calibration")
PEOPLE = ("bo", "cy", "di")

cases = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(PEOPLE), st.sampled_from([0.1, 0.3, 0.6, 0.9]), st.sampled_from([*PEOPLE, None])),
    max_size=40,
)
"""Hours, who is named, how likely, and who answers; None: nobody."""
UNKNOWN = ("superseded", "merged", "elsewhere", "censored")
Case = list[tuple[int, str, float, str | None]]


def told(case: Case, *, marked: bool = True, models: int = 1) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predictions and outcomes. `marked`: they name their part of time."""
    predictions, outcomes = [], []
    for number, (hours, user, p, answer) in enumerate(case):
        at = NOON + hours * HOUR + number * MINUTE // 100
        point = prediction(at, people={user: p}, part=PARTS.of(at), model=f"m{number % models}", id=f"{number}")
        happened = outcome(point, MINUTE, *([answer] if answer else []))
        ranks = [1] if answer == user else []
        happened |= {"rank": ranks[0] if ranks else None, "speakers": 1, "model": point["model"], "people": point["people"]}
        for each in (point, happened) if not marked else ():
            del each["part"]
        predictions.append(point)
        outcomes.append(happened)
    return predictions, outcomes


def spoiled(case: Case, judged: bool) -> Case:
    """With other people and answers in the part that judges, or in the others."""
    turned = dict(zip((*PEOPLE, None), ("cy", None, "bo", "di"), strict=True))
    return [
        (hours, turned[user] or "di", 0.95, turned[answer]) if (PARTS.of(NOON + hours * HOUR) == "judge") == judged else each
        for each in case
        for hours, user, _, answer in [each]
    ]


def headline(case: Case, **how: Any) -> list[dict[str, Any]]:
    """What `beepgpt outcomes` says of each model."""
    marked = how.get("marked", True)
    found = figures_by_model(told(case, **how)[1], lambda model: 0.5, None if marked else {f"m{number}": PARTS for number in range(3)})
    return [{name: each[name] for name in HEADLINE} for each in sorted(found, key=lambda each: str(each["model"]))]


@pytest.mark.parametrize("how", [{}, {"models": 3}, {"marked": False}])
@given(case=cases)
def test_what_happened_before_a_model_is_judged_changes_no_figure_of_outcomes(case: Case, how: dict[str, Any]):
    """Of one model or several; marked, or by the model's card."""
    assert headline(spoiled(case, judged=False), **how) == headline(case, **how)


@given(case=cases)
def test_outcomes_that_name_no_part_judge_nothing(case: Case):
    """They may be of points that the model was fitted on."""
    for found in figures_by_model(told(case, marked=False)[1], lambda model: 0.5):
        assert found["parts"] == {"unmarked": len(case)}
        assert (found["judged_from"], found["answered"], found["calibration"], found["alerts"]["given"]) == (None, {}, [], 0)


@given(case=cases)
def test_what_a_run_tells_of_the_last_outcomes_is_of_those_that_judge(case: Case):
    """A run that is asked to score the past, too."""
    lately, judged = RollingMetrics(0.5), RollingMetrics(0.5)
    for each in told(case)[1]:
        lately.add(each)
        if each["part"] == "judge":
            judged.add(each)

    assert (lately.figures(), lately.counts) == (judged.figures(), judged.counts)


def rehearsed(case: Case, **how: Any) -> dict[str, Any]:
    """The headline of a rehearsal, and how often somebody was passed over."""
    predictions, outcomes = told(case, **how)
    parts = None if how.get("marked", True) else dict.fromkeys({each["model"] for each in predictions}, PARTS)
    found = Replay(RehearsalHistory(list(map(read_prediction, predictions)), map(read_outcome, outcomes), parts)).under(POLICY)
    return {**found.figures, "passed": dict(found.passed)}


@pytest.mark.parametrize("how", [{}, {"models": 3}, {"marked": False}])
@given(case=cases)
def test_what_happened_before_a_model_is_judged_changes_no_figure_of_a_rehearsal(case: Case, how: dict[str, Any]):
    """Each point is a conversation of its own, so that who was alerted before plays no part; the hourly limit is kept away from."""
    apart = [each for each in case if not 39 <= each[0] <= 40]
    assert rehearsed(spoiled(apart, judged=False), **how) == rehearsed(apart, **how)


def validated(name: str, case: Case) -> ValidationRun:
    """A validation's record, where each hour is a point."""
    of: dict[Part, tuple[Outcomes, Examples]] = {}
    parts: tuple[Part, ...] = ("choose", "judge")
    for part in parts:
        among = [each for each in case if PARTS.of(NOON + each[0] * HOUR) == part]
        answers = [[answer] if answer else [] for _, _, _, answer in among]
        valid = examples_with(*answers, conversations=[f"{part}:{place}" for place in range(len(among))])
        predicted = Predictions(
            np.arange(len(among) + 1), [user for _, user, _, _ in among], np.array([p for _, _, p, _ in among]),
            np.array([(1 - p) / 2 for _, _, p, _ in among]), np.array([(1 - p) / 2 for _, _, p, _ in among]),
        )  # fmt: skip
        of[part] = outcomes_of(predicted, valid), valid
    with TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_bytes(run_bytes(of, {}))
        return read_run(Path(folder), name)


@settings(max_examples=max(10, settings().max_examples // 4))
@given(case=cases, other=st.randoms())
def test_of_models_the_best_is_chosen_by_nothing_that_judges(case: Case, other: Random):
    """Whatever happened where they are judged, the same one is chosen, by the same figures."""
    case = [*case, (30, "bo", 0.6, "bo")]
    renamed = [(hours, other.choice(PEOPLE), other.choice([0.1, 0.6]), answer) for hours, _, _, answer in case]
    told = side_by_side([validated("one", case), validated("two", renamed)])
    turned = side_by_side([validated("one", spoiled_answers(case)), validated("two", spoiled_answers(renamed))])
    assert (told["kinds"], told["chosen"]["run"], told["points"]) == (turned["kinds"], turned["chosen"]["run"], turned["points"])
    alone = [each for each in case if PARTS.of(NOON + each[0] * HOUR) != "fit"]
    assert told["points"] + told["chosen"]["points"] == len(alone)


def spoiled_answers(case: Case) -> Case:
    """With other answers in the part that judges, whoever is named."""
    turned = dict(zip((*PEOPLE, None), ("cy", None, "bo", "di"), strict=True))
    return [(hours, user, p, turned[answer] if PARTS.of(NOON + hours * HOUR) == "judge" else answer) for hours, user, p, answer in case]


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set with a model of text."""
    folder = training_set(tmp_path_factory.mktemp("figures"), formats=("candidates",)).folder
    learned = fit_text(read_examples(folder / "candidates_train.parquet"), least=3)
    save_model(folder / "model", learned, {}, (folder / "manifest.json").read_bytes())
    return folder


def answers_turned(folder: Path, name: str, among: Callable[[int], bool]) -> None:
    """Rewrite a table of candidates: a stranger answered at the points whose time is `among` these."""
    table = pq.read_table(folder / name)
    answers = [
        ["stranger"] if among(at) else answer
        for at, answer in zip(microseconds(table["prompt_ts"]).to_pylist(), table["answer"].to_pylist(), strict=True)
    ]
    place = table.schema.get_field_index("answer")
    pq.write_table(table.set_column(place, "answer", pa.array(answers, table.schema.field(place).type)), folder / name)
    vouch_for(folder / name)


@pytest.mark.parametrize("part", ["fit", "choose", "judge"])
def test_validation_judges_by_nothing_but_what_judges(small_set: Path, tmp_path: Path, part: str):
    """What the model was fitted on and what chooses may have been answered by anybody; planted: what judges may not.

    A simple rule beside it learns from all that was known when judging began: from what chooses, too.
    """
    folder = shutil.copytree(small_set, tmp_path / "set")
    parts = parts_of(json.loads((folder / "manifest.json").read_bytes()))
    assert parts is not None
    figures, most_frequent = [], []
    for turned in (False, True):
        if turned:
            for name in ("candidates_train.parquet", "candidates_valid.parquet"):
                answers_turned(folder, name, lambda at: parts.of(at) == part)
        found = validate_models(folder, [load_model(folder / "model")], precisions=[0.5]).figures
        own = {kind: rows[0]["figures"] for kind, rows in found["rows"].items()}
        figures.append([found["points"], found["answered"], own, found["alerts"], found["calibration"]])
        most_frequent += [row["figures"] for row in found["rows"]["answered"] if row["name"] == "who answers most in the channel"]

    assert (figures[0] == figures[1]) == (part != "judge")
    assert len(most_frequent) == 2 and most_frequent[0] != most_frequent[1]


@pytest.mark.parametrize("part", ["fit", "choose", "judge"])
def test_a_model_beside_another_is_judged_and_chosen_by_the_same_parts(small_set: Path, tmp_path: Path, part: str):
    """`validate --against`: the other's figures are of what judges, and those to choose between them are of what chooses."""
    folder = shutil.copytree(small_set, tmp_path / "set")
    examples = read_examples(folder / "candidates_train.parquet")
    other = fit_text(examples.at(np.arange(len(examples) // 2)), least=1)
    save_model(folder / "other", other, {}, (folder / "manifest.json").read_bytes())
    parts = parts_of(json.loads((folder / "manifest.json").read_bytes()))
    assert parts is not None
    judged: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    for turned in (False, True):
        if turned:
            for name in ("candidates_train.parquet", "candidates_valid.parquet"):
                answers_turned(folder, name, lambda at: parts.of(at) == part)
        found = validate_models(folder, [load_model(folder / name) for name in ("model", "other")], precisions=[0.5]).figures
        for figures, rows in ((judged, found["rows"]), (chosen, found["choose"]["rows"])):
            figures.append({kind: [(row["name"], row["figures"]) for row in of[:2]] for kind, of in rows.items()})

    assert [name for name, _ in judged[0]["all"]] == ["model", "other"]
    assert judged[0]["all"][0][1] != judged[0]["all"][1][1]
    assert (judged[0] == judged[1], chosen[0] == chosen[1]) == (part != "judge", part != "choose")


def test_a_threshold_is_chosen_by_nothing_that_judges(small_set: Path, tmp_path: Path):
    """Whoever answers where it is judged, it is the same one, and so are its figures of before."""
    folder = shutil.copytree(small_set, tmp_path / "set")
    parts = parts_of(json.loads((folder / "manifest.json").read_bytes()))
    assert parts is not None
    chosen = []
    for turned in (False, True):
        if turned:
            answers_turned(folder, "candidates_valid.parquet", lambda at: parts.of(at) == "judge")
        found = validate_models(folder, [load_model(folder / "model")], precisions=[0.05]).figures["threshold"]
        chosen.append((found["threshold"], found["before"]))

    assert chosen[0] == chosen[1]


def test_an_answer_that_was_known_only_when_judging_began_chooses_nothing(small_set: Path, tmp_path: Path):
    """Its prompt is of the part that chooses, and whoever chose then did not know its answer: every third one here."""
    folder = shutil.copytree(small_set, tmp_path / "set")
    parts = parts_of(json.loads((folder / "manifest.json").read_bytes()))
    assert parts is not None and parts.judge_from is not None
    path = folder / "candidates_valid.parquet"
    table = pq.read_table(path)
    early = [each for each, at in enumerate(microseconds(table["prompt_ts"]).to_pylist()) if at < parts.judge_from]
    settled = microseconds(table["settled_ts"]).to_pylist()
    for place, row in enumerate(early):
        settled[row] = parts.judge_from - (place % 3 > 0)
    column = table.schema.get_field_index("settled_ts")
    pq.write_table(table.set_column(column, "settled_ts", pa.array(settled, table.schema.field(column).type)), path)
    vouch_for(path)
    found = validate_models(folder, [load_model(folder / "model")], precisions=[0.05]).figures
    known = len(early) - len(range(0, len(early), 3))

    assert (found["chosen_on"], found["choose"]["points"], found["points"]) == (known, known, len(table) - len(early))
    assert 0 < known < len(early)


def test_the_part_that_judges_does_count():
    """Planted: were figures of other points, the tests above would hold of nothing."""
    case: Case = [(50, "bo", 0.9, "bo"), (51, "bo", 0.9, "cy"), (3, "bo", 0.9, "bo")] * 10
    assert headline(case) != headline(spoiled(case, judged=True))
    assert rehearsed(case)["alerts"] > 0


def test_an_outcome_whose_answer_is_not_known_counts_nowhere():
    """Superseded, merged, elsewhere, and what the end of the input cut off: no alert is wrong by them."""
    points = [prediction(NOON + number * HOUR, people={"bo": 0.9}, id=str(number)) for number in range(4)]
    outcomes = [
        outcome(point, MINUTE, how=how) for point, how in zip(points, ("superseded", "merged", "elsewhere", "censored"), strict=True)
    ]
    found = Replay(RehearsalHistory(list(map(read_prediction, points)), map(read_outcome, outcomes))).under(POLICY)

    assert [(each.next, each.joined) for each in found.direct()] == [(None, None)] * 4
    assert (found.figures["joined"], found.figures["next"]) == (None, None)


def test_joined_is_posting():
    """Of another target, an answer may be a reaction: it joins nothing; the windows show who posted."""
    first = prediction(NOON, people={"bo": 0.9, "cy": 0.8}, target="interacting_users", id="1")
    window = [(NOON, "ana"), (NOON + HOUR, "cy")]
    second = prediction(NOON + HOUR, window=window, conversations=first["conversations"], people={}, target="interacting_users", id="2")
    outcomes = [outcome(first, DAY, "bo", "cy") | {"answer_ts": ts_text(NOON + MINUTE)}, outcome(second, DAY)]
    found = Replay(RehearsalHistory(list(map(read_prediction, [first, second])), map(read_outcome, outcomes))).under(POLICY)

    assert {each.alert.user: each.joined for each in found.direct()} == {"bo": False, "cy": True}


@pytest.mark.parametrize(("reacts", "reacted"), [("bo", {"bo": True, "cy": False}), (None, {"bo": None, "cy": None})])
def test_reacting_is_a_figure_of_its_own_where_times_are_known(reacts: str | None, reacted: dict[str, bool | None]):
    """It joins nothing, and is nobody's next answer; where no reaction has its time, nobody knows who reacted."""
    points = [prediction(NOON, people={"bo": 0.9, "cy": 0.8}, target="reactors", id="1")]
    outcomes = [outcome(points[0], DAY, *([reacts] if reacts else []))]
    found = Replay(RehearsalHistory(list(map(read_prediction, points)), map(read_outcome, outcomes))).under(POLICY)

    assert {each.alert.user: each.reacted for each in found.direct()} == reacted
    assert [(each.joined, each.next) for each in found.direct()] == [(False, None)] * 2
    assert (found.figures["joined"], found.figures["next"], found.figures["reacted"]) == (0.0, None, 0.5 if reacts else None)

    plain, later = prediction(NOON, people={"bo": 0.9}, id="2"), prediction(NOON + DAY, people={}, id="3")
    of_next = Replay(RehearsalHistory(list(map(read_prediction, [plain, later])), [read_outcome(outcome(plain, MINUTE, "bo"))])).under(
        POLICY
    )
    assert (of_next.figures["joined"], of_next.figures["next"], of_next.figures["reacted"]) == (1.0, 1.0, None)


def test_who_is_alerted_on_the_last_day_counts_nowhere_even_if_they_joined():
    """Nobody knows yet what the others will do: with those alone who have joined, the last day's alerts would all be right."""
    points = [prediction(NOON, people={"bo": 0.9}, id="1"), prediction(NOON + DAY - HOUR, people={"cy": 0.9, "di": 0.9}, id="2")]
    outcomes = [
        outcome(points[0], DAY),
        outcome(points[1], MINUTE, "di"),
        outcome(points[1], DAY, how="censored") | {"settled_ts": ts_text(NOON + DAY)},
    ]
    found = Replay(RehearsalHistory(list(map(read_prediction, points)), map(read_outcome, outcomes))).under(POLICY)

    assert {each.alert.user: each.joined for each in found.direct()} == {"bo": False, "cy": None, "di": None}
    assert [each.known_at for each in found.direct()] == [NOON + DAY, NOON + 2 * DAY - HOUR, NOON + 2 * DAY - HOUR]
    assert found.figures["announced"] is None, "di joined, but their day is not over"
