"""The local model: what it looks at, what it learns, and that it says the same of a point alone and among others."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from beepgpt.conversations.rules import Rules
from beepgpt.simulation.workspace import Plan, live_records
from beepgpt.training import ranking
from beepgpt.training.points import Examples, examples_of, points_of
from beepgpt.training.ranking import (
    AS_IT_IS,
    FitProgress,
    Fitting,
    Ranker,
    SilenceCalibration,
    TreeTargets,
    _silence_calibrated,
    fit_ranker,
    targets,
)
from beepgpt.training.ranking_features import NEVER, OUTCOMES, feature_rows
from tests.support import run_of

Told = dict[str, Any]
pytestmark = pytest.mark.xdist_group("ranking")  # one worker makes the examples and fits the ranker, once


@cache
def told() -> list[Told]:
    """The examples of a simulated workspace, in the order in which they were settled."""
    run = run_of(live_records(Plan(seed=5, messages=3_000, channels=4, people=30, days=40)), Rules(bots="context"))
    return sorted(map(json.loads, run.examples), key=lambda each: (each["settled_ts"], each["id"]))


@cache
def examples() -> Examples:
    return examples_of(told())


@cache
def ranker() -> Ranker:
    """Few trees: enough to tell a fact from chance."""
    fitted, _ = fit_ranker(examples(), rounds=20, min_data_in_leaf=20)
    return fitted


def test_a_point_has_rows_for_its_candidates_for_nobody_and_for_somebody_else():
    """And the facts stand in the candidates' rows as they are, but that who was never seen was seen long ago."""
    points = examples().points
    rows, names = feature_rows(points)
    ends = np.cumsum(points.sizes + OUTCOMES)

    assert len(rows) == ends[-1] == len(points.user) + OUTCOMES * len(points)
    people = np.delete(rows, np.concatenate([ends - 2, ends - 1]), axis=0)
    assert np.array_equal(
        people[:, [names.index(fact) for fact in points.feature_names]], np.where(points.features < 0, NEVER, points.features)
    )
    assert (rows[ends - 2, names.index("nobody")] == 1).all()
    assert (rows[ends - 1, names.index("somebody_else")] == 1).all()
    assert np.isnan(rows[ends - 1, names.index("place")]).all()


def test_what_came_true_sums_to_one():
    """A candidate, nobody, somebody else; several answers share it."""
    point = told()[-1]
    people = point["candidates"]["user"]
    came = {
        name: targets(examples_of([{**point, "answer": answer}])).tolist()
        for name, answer in {"one": [people[1]], "nobody": [], "other": ["somebody"], "two": [people[0], "somebody"]}.items()
    }

    assert all(sum(each) == 1 for each in came.values())
    assert came["one"][1] == came["nobody"][-2] == came["other"][-1] == 1
    assert came["two"][0] == came["two"][-1] == 0.5


def test_nothing_is_read_that_was_known_later():
    """Points of examples without their outcomes are the same points."""
    later = ("id", "settled_ts", "answer_ts", "answer")
    blind = points_of([{name: value for name, value in each.items() if name not in later} for each in told()])

    assert np.array_equal(feature_rows(blind)[0], feature_rows(examples().points)[0], equal_nan=True)


@given(st.data())
@settings(max_examples=25)
def test_a_point_is_predicted_the_same_alone_and_among_others(data: st.DataObject):
    """Bit by bit: neither the neighbors nor their number of candidates change anything."""
    chosen = data.draw(st.lists(st.integers(0, len(told()) - 1), min_size=1, max_size=12))
    points = points_of([told()[each] for each in chosen])
    together, rows = ranker().predict(points), np.split(feature_rows(points)[0], np.cumsum(points.sizes + OUTCOMES)[:-1])

    for place, each in enumerate(chosen):
        alone = points_of([told()[each]])
        assert np.array_equal(feature_rows(alone)[0], rows[place], equal_nan=True)
        assert ranker().predict(alone).of(0) == together.of(place)


def test_all_chances_sum_to_one():
    """Of candidates, nobody, and somebody else; also where there is no candidate at all."""
    empty = {**told()[0], "candidates": {"user": [], **{fact: [] for fact in examples().points.feature_names}}}
    said = ranker().predict(points_of([*told()[:200], empty]))
    assert said.nobody is not None
    assert said.other is not None

    sums = [said.p[said.starts[point] : said.starts[point + 1]].sum() for point in range(len(said))] + said.nobody + said.other
    assert sums == pytest.approx(np.ones(len(said)))
    assert said.of(200).people == []


@given(st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_names_mean_nothing(random: Any):
    """With all people renamed the features are the same: it ranks whoever stands there, also people it never saw."""
    people = sorted(
        {person for each in told()[:100] for person in each["candidates"]["user"]} | {m["user"] for e in told()[:100] for m in e["window"]}
    )
    renamed = dict(zip(people, random.sample([f"X{number}" for number in range(len(people))], len(people)), strict=True))
    others = [
        {
            **each,
            "window": [{**message, "user": renamed[message["user"]]} for message in each["window"]],
            "candidates": {**each["candidates"], "user": [renamed[person] for person in each["candidates"]["user"]]},
        }
        for each in told()[:100]
    ]

    assert np.array_equal(feature_rows(points_of(others))[0], feature_rows(points_of(told()[:100]))[0], equal_nan=True)


def test_it_learns():
    """On what it was fitted on, the likeliest person answers more often than whoever spoke last; and it says as much."""
    said = ranker().predict(examples().points)
    answered = [point for point, answer in enumerate(examples().answers) if answer]
    ours = sum(said.of(point).people[:1] != [] and said.of(point).people[0][0] in examples().answers[point] for point in answered)
    latest = sum(examples().points.candidates(point)[:1] == examples().answers[point] for point in answered)

    assert ours > latest * 1.05


@pytest.mark.slow
def test_the_threads_are_those_that_are_idle_and_the_models_file_does_not_tell(monkeypatch: pytest.MonkeyPatch):
    """All that the trees take is within the limit, and the trees and their settings are the same whatever was idle."""
    fitted = {}
    for idle in (1, 2):
        seen: set[int] = set()
        monkeypatch.setattr(ranking, "idle_cores", lambda idle=idle: idle)
        found, _ = fit_ranker(
            examples(),
            rounds=2,
            min_data_in_leaf=20,
            progress=lambda *_, seen=seen: seen.update(each["num_threads"] for each in threadpool_info() if each["user_api"] == "openmp"),
        )
        fitted[idle], limit = found.trees.model_to_string(), seen
        assert limit == {idle}
    assert fitted[1] == fitted[2]


def test_the_same_examples_give_the_same_model():
    """Seeded and deterministic: the trees are equal as text."""
    again, _ = fit_ranker(examples(), rounds=20, min_data_in_leaf=20)

    assert again.trees.model_to_string() == ranker().trees.model_to_string()
    assert (again.sharpness, again.shifts, again.silence) == (ranker().sharpness, ranker().shifts, ranker().silence)


@pytest.mark.parametrize("count", [600, 1_200])
def test_no_tree_has_seen_the_share_that_stops_and_calibrates_it(monkeypatch: pytest.MonkeyPatch, count: int):
    """Each held-out share is settled after all that its trees were fitted on, and no two shares hold the same example."""
    made: list[Examples] = []
    fitted: list[tuple[Examples, Examples]] = []
    choices, fit = ranking.choices_of, Fitting.fit_with_early_stopping

    def noting(examples: Examples) -> TreeTargets:
        made.append(examples)
        return choices(examples)

    def fit_noted(self: Fitting, early: Examples, late: TreeTargets, progress: FitProgress) -> Any:
        fitted.append((early, made[-1]))
        assert len(late.sizes) == len(made[-1])
        return fit(self, early, late, progress)

    monkeypatch.setattr(ranking, "choices_of", noting)
    monkeypatch.setattr(Fitting, "fit_with_early_stopping", fit_noted)
    chosen = examples_of(told()[:count])
    fit_ranker(chosen, rounds=3, min_data_in_leaf=20)

    held_out = [place for _, late in fitted for place in places_in(late)]
    assert len(set(held_out)) == len(held_out) > 0
    for early, late in fitted:
        assert not set(places_in(early)) & set(places_in(late))
        assert max(early.settled_ts) <= min(late.settled_ts)
        assert len(early) > 3 * len(late)


def test_it_is_calibrated_on_scores_of_trees_that_had_not_seen_the_answers(monkeypatch: pytest.MonkeyPatch):
    """Each held-out share is scored by the trees that were fitted before it, and not by the final ones: those know its answers."""
    scored: list[Any] = []
    calibrated: list[Any] = []
    fit, calibrate = Fitting.fit_with_early_stopping, ranking._calibrated

    def fit_noted(self: Fitting, early: Examples, late: TreeTargets, progress: FitProgress) -> Any:
        trees = fit(self, early, late, progress)
        scored.extend(trees.predict(rows, num_threads=1) for rows in late.rows)
        return trees

    def calibrate_noted(held_out: TreeTargets, scores: Any) -> Any:
        calibrated.append(scores)
        return calibrate(held_out, scores)

    monkeypatch.setattr(Fitting, "fit_with_early_stopping", fit_noted)
    monkeypatch.setattr(ranking, "_calibrated", calibrate_noted)
    fit_ranker(examples_of(told()[:600]), rounds=3, min_data_in_leaf=20)

    assert (len(scored), len(calibrated)) == (3, 1)
    assert np.array_equal(calibrated[0], np.concatenate(scored))


def places_in(examples: Examples) -> list[tuple[str, int]]:
    """Each example's conversation and time."""
    return list(zip(examples.points.conversation, map(int, examples.points.prompt_ts), strict=True))


def test_silence_is_calibrated_apart_for_first_messages_and_for_others():
    """Where nobody is said to be twice as sure as came true, half of the log-odds is left; and a person keeps their share of the rest."""
    random = np.random.default_rng(3)
    odds = random.normal(0.0, 2.0, 20_000)
    is_first = np.arange(20_000) % 2 == 0
    came = (random.random(20_000) < 1 / (1 + np.exp(-np.where(is_first, odds / 2, odds)))).astype(float)
    first, others = _silence_calibrated(1 / (1 + np.exp(-odds)), came, is_first)

    assert (first.slope, first.shift, others.slope, others.shift) == pytest.approx((0.5, 0.0, 1.0, 0.0), abs=0.05)

    some = points_of(told()[:300])
    assert {1} < set(some.speakers.tolist())
    plain, half = (
        replace(ranker(), silence=each).predict(some) for each in ((AS_IT_IS, AS_IT_IS), (SilenceCalibration(0.5, 0.0), AS_IT_IS))
    )
    assert plain.nobody is not None
    assert half.nobody is not None
    expected = np.where(some.speakers == 1, SilenceCalibration(0.5, 0.0).calibrated(plain.nobody), plain.nobody)
    assert half.nobody == pytest.approx(expected)
    rest = np.repeat((1 - expected) / (1 - plain.nobody), some.sizes)
    assert half.p == pytest.approx(plain.p * rest)


def test_few_silences_change_little():
    """Three points that were sure and wrong move the calibration a little; no points leave it as it is."""
    found, nothing = _silence_calibrated(np.full(3, 0.7), np.zeros(3), np.ones(3, bool))

    assert nothing == AS_IT_IS
    assert 0.85 < found.slope < 1
    assert -0.5 < found.shift < 0
