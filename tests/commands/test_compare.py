"""Runs side by side: the same points, the same draws, differences with their intervals."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from beepgpt.training.metrics import outcomes_of
from beepgpt.training.points import Examples, Predictions
from beepgpt.training.runs import FILE, BadRun, ValidationRun, read_run, run_bytes, side_by_side
from tests.training.test_training_metrics import examples_with

ASKED = {"target": "next_user", "scope": "conversation"}


def said(*of_points: dict[str, float]) -> Predictions:
    """Chances of people and, under `-`, of nobody; the rest is somebody else's."""
    people = [[name for name in point if name != "-"] for point in of_points]
    p = [[point[name] for name in each] for point, each in zip(of_points, people, strict=True)]
    nobody = np.array([point.get("-", 0.0) for point in of_points])
    other = np.array([1 - sum(point.values()) for point in of_points])
    names = list(chain.from_iterable(people))
    return Predictions(np.cumsum([0, *map(len, people)]), names, np.array(list(chain.from_iterable(p))), nobody, other)


def written(folder: Path, name: str, predictions: Predictions, valid: Examples, asked: dict[str, str] = ASKED) -> ValidationRun:
    """A run, through its file."""
    (folder / name).mkdir()
    (folder / name / FILE).write_bytes(run_bytes(outcomes_of(predictions, valid), valid, asked))
    return read_run(folder / name, name)


VALID = examples_with(["bo"], ["cy"], [], ["bo"], ["dee"])
GOOD = said({"bo": 0.7, "cy": 0.1}, {"bo": 0.1, "cy": 0.6}, {"bo": 0.2, "-": 0.7}, {"bo": 0.6, "cy": 0.2}, {"bo": 0.3})
POOR = said({"bo": 0.3, "cy": 0.4}, {"bo": 0.1, "cy": 0.6}, {"bo": 0.5, "-": 0.3}, {"bo": 0.2, "cy": 0.5}, {"bo": 0.9})


def test_a_run_is_read_as_it_was_written(tmp_path: Path):
    """All but chances that are too small to matter."""
    before, after = outcomes_of(GOOD, VALID), written(tmp_path, "good", GOOD, VALID).outcomes

    assert after.conversation == before.conversation
    assert after.alerts.person == before.alerts.person
    for name in ("prompt_ts", "speakers", "answered", "rank", "rank_with_nobody"):
        assert np.array_equal(getattr(after, name), getattr(before, name)), name
    for part in ("scores", "scores_answered", "alerts"):
        for name in ("p_true", "likeliest", "right") if part != "alerts" else ("point", "p", "right", "answers"):
            assert np.array_equal(getattr(getattr(after, part), name), getattr(getattr(before, part), name), equal_nan=True), (part, name)


def test_a_difference_is_that_of_the_figures(tmp_path: Path):
    """The good one names two more of the four that were answered; and who is compared with itself differs in nothing."""
    poor, good = written(tmp_path, "poor", POOR, VALID), written(tmp_path, "good", GOOD, VALID)
    found = side_by_side([poor, good, replace(poor, name="again")])["kinds"]["answered"]["hit@1"]

    assert [each["figure"]["value"] for each in found] == [0.25, 0.75, 0.25]
    assert [each["difference"] and each["difference"]["value"] for each in found] == [None, 0.5, 0.0]
    assert found[2]["difference"]["low"] == found[2]["difference"]["high"] == 0.0


def test_intervals_are_paired(tmp_path: Path):
    """Two runs that are both unsure, and differ by the same in every conversation, have a difference that is sure."""
    valid = examples_with(*[["bo"] if point % 2 else ["cy"] for point in range(60)])
    sure, less = (said(*[{"bo": p if point % 2 else 0.1} for point in range(60)]) for p in (0.8, 0.4))
    found = side_by_side([written(tmp_path, "less", less, valid), written(tmp_path, "sure", sure, valid)])
    loss = found["kinds"]["answered"]["log_loss"]
    hit = found["kinds"]["answered"]["hit@1"]

    assert hit[0]["figure"]["low"] < 0.5 < hit[0]["figure"]["high"]
    assert hit[1]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "count": 60}
    assert loss[1]["difference"]["high"] < 0


def test_only_points_that_all_judged_count_in_whatever_order(tmp_path: Path):
    """And how many do not is told."""
    backwards = VALID.at(np.array([4, 2, 1, 0]))
    shuffled = said({"bo": 0.3}, {"bo": 0.2, "-": 0.7}, {"bo": 0.1, "cy": 0.6}, {"bo": 0.7, "cy": 0.1})
    found = side_by_side([written(tmp_path, "all", GOOD, VALID), written(tmp_path, "some", shuffled, backwards)])

    assert (found["points"], found["points_left_out"]) == (4, 1)
    assert all(each[1]["difference"]["value"] in (0, None) for kind in found["kinds"].values() for each in kind.values())


def test_what_was_asked_otherwise_is_refused(tmp_path: Path):
    """Another target, other answers, no point in common, no run at all: each says what to do."""
    one = written(tmp_path, "one", GOOD, VALID)
    reactors = written(tmp_path, "reactors", GOOD, VALID, {**ASKED, "target": "reactors"})
    relabeled = written(tmp_path, "relabeled", GOOD, examples_with(["bo"], [], [], ["bo"], ["dee"]))
    elsewhere = written(tmp_path, "elsewhere", GOOD, examples_with(*VALID.answers, conversations=[f"C2:{each}" for each in range(5)]))

    with pytest.raises(BadRun, match=r"reactors was asked target reactors and scope conversation, and .*one target next_user"):
        side_by_side([one, reactors])
    with pytest.raises(BadRun, match="differ in what happened at 1 of their points"):
        side_by_side([one, relabeled])
    with pytest.raises(BadRun, match="have no point in common: validate them on the same training set"):
        side_by_side([one, elsewhere])
    with pytest.raises(BadRun, match=r"is no run \(outcomes.parquet is missing\): beepgpt validate"):
        read_run(tmp_path, "none")
