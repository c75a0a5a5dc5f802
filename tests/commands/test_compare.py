"""Runs side by side: the same points, the same draws, differences with their intervals."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from beepgpt.conversations.rules import HOUR, Rules, shaping_settings
from beepgpt.training.metrics import Outcomes, outcomes_of
from beepgpt.training.parts import Part
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


def written(
    folder: Path, name: str, predictions: Predictions, valid: Examples, asked: dict[str, str] = ASKED, judged: Predictions | None = None
) -> ValidationRun:
    """A run, through its file: points to choose by, and those of `LATER` that judge, if `judged` is of them."""
    (folder / name).mkdir()
    parts: dict[Part, tuple[Outcomes, Examples]] = {"choose": (outcomes_of(predictions, valid), valid)}
    if judged is not None:
        parts["judge"] = outcomes_of(judged, LATER), LATER
    (folder / name / FILE).write_bytes(run_bytes(parts, asked))
    return read_run(folder / name, name)


VALID = examples_with(["bo"], ["cy"], [], ["bo"], ["dee"])
LATER = examples_with(["bo"], ["bo"], ["cy"], [], conversations=[f"later:{each}" for each in range(4)])
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
    assert found[2]["difference"]["low"] is None, "four points are too few to tell"


@pytest.mark.parametrize(("best", "other"), [("good", "poor"), ("poor", "good")])
def test_the_best_is_chosen_by_the_points_to_choose_by_whatever_those_that_judge_say(tmp_path: Path, best: str, other: str):
    """Law 8: with the answers of those that judge turned round, the same one is chosen; its worth alone is of them."""
    right, wrong = (said({"bo": p, "cy": q}, {"bo": p}, {"bo": q, "cy": p}, {"bo": q}) for p, q in ((0.8, 0.1), (0.1, 0.8)))
    of = {"good": GOOD, "poor": POOR}
    found = []
    for turn, judged in enumerate([{best: right, other: wrong}, {best: wrong, other: right}]):
        folder = tmp_path / f"{turn}"
        folder.mkdir()
        found.append(side_by_side([written(folder, name, of[name], VALID, judged=later) for name, later in judged.items()]))

    assert [each["runs"][each["chosen"]["run"]]["name"] for each in found] == ["good", "good"]
    assert found[0]["kinds"] == found[1]["kinds"]
    assert [each["points"] for each in found] == [5, 5]
    assert [each["chosen"]["points"] for each in found] == [4, 4]
    worth = [each["chosen"]["kinds"]["answered"]["hit@1"]["value"] for each in found]
    assert worth == ([1.0, 0.33333] if best == "good" else [0.33333, 1.0])


def test_a_point_that_chooses_here_and_judges_there_does_neither(tmp_path: Path):
    """Its run has seen to it that it was chosen by these."""
    one = written(tmp_path, "one", GOOD, VALID)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / FILE).write_bytes(
        run_bytes(
            {
                "choose": (outcomes_of(GOOD, VALID).at(np.arange(3)), VALID.at(np.arange(3))),
                "judge": (outcomes_of(GOOD, VALID).at(np.arange(3, 5)), VALID.at(np.arange(3, 5))),
            },
            ASKED,
        )
    )
    found = side_by_side([one, read_run(tmp_path / "two", "two")])

    assert (found["points"], found["points_left_out"], found["chosen"]["points"], found["chosen"]["kinds"]) == (3, 2, 0, {})


def test_intervals_are_paired(tmp_path: Path):
    """Two runs that are both unsure, and differ by the same in every conversation, have a difference that is sure."""
    valid = examples_with(*[["bo"] if point % 2 else ["cy"] for point in range(60)])
    sure, less = (said(*[{"bo": p if point % 2 else 0.1} for point in range(60)]) for p in (0.8, 0.4))
    found = side_by_side([written(tmp_path, "less", less, valid), written(tmp_path, "sure", sure, valid)])
    loss = found["kinds"]["answered"]["log_loss"]
    hit = found["kinds"]["answered"]["hit@1"]

    assert hit[0]["figure"]["low"] < 0.5 < hit[0]["figure"]["high"]
    assert hit[1]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "count": 60, "conversations": 60}
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
    judging = tmp_path / "judging"
    judging.mkdir()
    (judging / FILE).write_bytes(run_bytes({"judge": (outcomes_of(GOOD, VALID), VALID)}, ASKED))
    elsewhere = written(tmp_path, "elsewhere", GOOD, examples_with(*VALID.answers, conversations=[f"C2:{each}" for each in range(5)]))

    with pytest.raises(BadRun, match=r"reactors was asked target reactors and scope conversation, and .*one target next_user"):
        side_by_side([one, reactors])
    with pytest.raises(BadRun, match="differ in what happened at 1 of their points"):
        side_by_side([one, relabeled])
    with pytest.raises(BadRun, match="have no point in common: validate them on the same training set"):
        side_by_side([one, elsewhere])
    with pytest.raises(BadRun, match="have no point to choose by in common: prepare the training set with a smaller --judge-share"):
        side_by_side([read_run(judging, "judging"), read_run(judging, "again")])
    with pytest.raises(BadRun, match=r"is no run \(outcomes.parquet is missing\): beepgpt validate"):
        read_run(tmp_path, "none")


def test_another_horizon_is_named(tmp_path: Path):
    """And not taken for other labels: the same points have other answers by it."""
    four_hours = examples_with([], ["cy"], [], ["bo"], ["dee"])
    runs = []
    for name, valid, rules in (("day", VALID, Rules()), ("hours", four_hours, Rules(horizon=4 * HOUR))):
        (tmp_path / name).mkdir()
        made_by = {"spec": rules.spec, "settings": shaping_settings(rules)}
        (tmp_path / name / FILE).write_bytes(run_bytes({"choose": (outcomes_of(GOOD, valid), valid)}, ASKED, made_by))
        runs.append(read_run(tmp_path / name, name))

    with pytest.raises(BadRun, match=r"other settings \(horizon is 4 hours there, 1 day here\)"):
        side_by_side(runs)
    with pytest.raises(BadRun, match="were they labeled otherwise"):
        side_by_side([replace(each, made_by={}) for each in runs])
