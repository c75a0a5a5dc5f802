"""Who answers, predicted from features of the people who might: boosted trees over each point's candidates, nobody and others.

A point is a choice of one outcome: a candidate, nobody, or somebody else. Each outcome is a row of features; the trees give each row a
score, and the probabilities of a point's outcomes are their softmax, so they sum to 1 and a feature counts relative to the others'. This is
McFadden's conditional logit with trees for its utilities ("Conditional Logit Analysis of Qualitative Choice Behavior", 1974), fitted by
LightGBM (Ke et al., 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from beepgpt.errors import TooLittle
from beepgpt.training.cores import idle_cores
from beepgpt.training.points import Examples, Floats, Ints, OtherFeatures, Points, Predictions
from beepgpt.training.ranking_features import NEEDED, OUTCOMES, PART, FeatureRows, Flags, feature_rows

LEAST = 100
"""Answered examples, at least. With so few the trees know little, and calibration on the held-out share keeps them from overconfidence."""
HELD_OUT = 0.1
"""The last share of the examples: it decides how many trees are enough, and calibrates the scores."""
MANY = 20_000
"""Examples. With fewer, one held-out share is too little to calibrate on, since the rate of unanswered points changes weekly: the last
`SHARES` shares are held out one after the other, each predicted from all before it; smaller steps are taken; and the final trees are
fitted on all examples. With more examples this gained too little for the time it takes."""
SHARES = 3
SMALL_STEPS = 0.05
ROUNDS = 160
"""Trees, at most: each costs time at every prediction, and more of them gained a tenth of a point."""
PATIENCE = 20
"""Rounds without a gain on the held-out share after which fitting stops."""
TREES: dict[str, Any] = {
    "learning_rate": 0.15,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "min_sum_hessian_in_leaf": 1.0,
    "lambda_l2": 2.0,
    "feature_fraction": 0.7,
    "max_bin": 127,
    "verbose": -1,
    "deterministic": True,
    "force_row_wise": True,
}
SLOPE_WEIGHT, SHIFT_WEIGHT = 20.0, 5.0
"""How much it takes to move the calibration of silence from where it changes nothing: with few points it stays near."""
# The model


class SilenceCalibration(NamedTuple):
    """Turns the log-odds that nobody answers into calibrated ones: what the trees say of silence is too sure, of first messages most."""

    slope: float
    shift: float

    def calibrated(self, nobody: Floats) -> Floats:
        """The probabilities that nobody answers.

        >>> SilenceCalibration(0.5, 0.0).calibrated(np.array([0.2, 0.5, 0.9])).round(2)
        array([0.33, 0.5 , 0.75])
        """
        return np.asarray(expit(self.slope * logit(np.clip(nobody, 1e-9, 1 - 1e-9)) + self.shift), np.float64)


AS_IT_IS = SilenceCalibration(1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Ranker:
    """Trees that score each outcome, and the calibration of their scores."""

    trees: lgb.Booster
    features: tuple[str, ...]
    """Names of the candidates' features that it was fitted on."""
    sharpness: float
    """The factor of all scores."""
    shifts: tuple[float, float]
    """Added to the scores of nobody and of somebody else."""
    silence: tuple[SilenceCalibration, SilenceCalibration] = (AS_IT_IS, AS_IT_IS)
    """Of first messages, and of all others."""
    labels: None = None
    """It ranks any candidates, also people it never saw."""

    def predict(self, points: Points) -> Predictions:
        """Probabilities of each point's candidates, of nobody and of somebody else. Raises OtherFeatures."""
        if len(points) and points.feature_names != self.features:
            raise OtherFeatures(
                "the candidates have other features than those the model was trained on: make the examples again and train it again"
            )
        candidates, nobody, other = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
        for part in points.parts(PART):
            rows, _ = feature_rows(part)
            sizes = part.sizes + OUTCOMES
            ends = np.cumsum(sizes)
            p = softmax(_shifted(_scores(self.trees, rows), ends, self.sharpness, self.shifts), sizes)
            p = _with_silence(p, sizes, part.speakers, self.silence)
            nobody.append(p[ends - 2])
            other.append(p[ends - 1])
            candidates.append(np.delete(p, np.concatenate([ends - 2, ends - 1])))
        people = [points.people[user] for user in points.user]
        return Predictions(points.starts, people, np.concatenate(candidates), np.concatenate(nobody), np.concatenate(other))

    def state(self) -> dict[str, Any]:
        """The fields to save."""
        return {
            "trees": self.trees,
            "facts": list(self.features),
            "sharpness": self.sharpness,
            "shifts": list(self.shifts),
            "silence": [list(each) for each in self.silence],
        }


def ranker_from(state: dict[str, Any]) -> Ranker:
    """A ranker from its saved parts."""
    nobody, other = state["shifts"]
    first, later = (SilenceCalibration(*each) for each in state.get("silence", (AS_IT_IS, AS_IT_IS)))
    return Ranker(state["trees"], tuple(state["facts"]), state["sharpness"], (nobody, other), (first, later))


def _scores(trees: lgb.Booster, rows: FeatureRows) -> Floats:
    return np.asarray(trees.predict(rows, num_threads=1), np.float64)


def _shifted(scores: Floats, ends: Ints, sharpness: float, shifts: tuple[float, float]) -> Floats:
    """Calibrated scores, whose softmax is a probability. `ends`: the row after each point's last."""
    shifted = scores * sharpness
    shifted[ends - 2] += shifts[0]
    shifted[ends - 1] += shifts[1]
    return shifted


def _with_silence(p: Floats, sizes: Ints, speakers: Ints, silence: tuple[SilenceCalibration, SilenceCalibration]) -> Floats:
    """Probabilities of each point's rows, once that of nobody is calibrated: the others keep their proportions."""
    at = np.cumsum(sizes) - 2
    before = p[at]
    nobody = np.where(speakers == 1, silence[0].calibrated(before), silence[1].calibrated(before))
    found = p * np.repeat((1 - nobody) / np.maximum(1 - before, 1e-12), sizes)
    found[at] = nobody
    return found


def softmax(scores: Floats, sizes: Ints) -> Floats:
    """Probabilities of each point's rows; `sizes`: rows of each point.

    >>> softmax(np.array([0.0, 0.0, 5.0]), np.array([2, 1]))
    array([0.5, 0.5, 1. ])
    """
    first = np.cumsum(sizes) - sizes
    p: Floats = scores - np.repeat(np.maximum.reduceat(scores, first), sizes)
    np.exp(p, out=p)
    p /= np.repeat(np.add.reduceat(p, first), sizes)
    return p


# Fitting

FitProgress = Callable[[int, int], None]
"""Called with the rounds done, and the most there may be."""


def fit_ranker(
    examples: Examples,
    *,
    seed: int = 1,
    threads: int = 0,
    rounds: int = ROUNDS,
    progress: FitProgress = lambda *_: None,
    **more: Any,
) -> tuple[Ranker, dict[str, Any]]:
    """Fit a ranker; returns it and figures of its fit. Everything, calibration too, is fitted on `examples` alone.

    `threads`: 0 for as many as processors are idle; the result is the same. Raises TooLittle, OtherFeatures.
    """
    # A limit of the library's, and no setting of its: settings stand in the model's file, which would be another on a busy machine.
    with threadpool_limits(idle_cores() if threads == 0 else None, user_api="openmp"):
        return _fit_ranker(examples, seed, threads, rounds, progress, **more)


def _fit_ranker(
    examples: Examples, seed: int, threads: int, rounds: int, progress: FitProgress, **more: Any
) -> tuple[Ranker, dict[str, Any]]:
    answered = sum(bool(answer) for answer in examples.answers)
    if answered < LEAST:
        raise TooLittle(
            f"the training side has {answered:,} answered examples, and a model needs {LEAST:,}: take more history, or a later cut"
        )
    if missing := NEEDED - set(examples.points.feature_names):
        raise OtherFeatures(f"the examples have no feature {min(missing)} of their candidates: make them again, with candidates")
    ordered = examples.by_settled()
    are_few = len(ordered) < MANY
    steps = {"learning_rate": SMALL_STEPS} if are_few else {}
    fitting = Fitting({**TREES, **steps, "seed": seed, "num_threads": threads, **more}, rounds)
    shares = SHARES if are_few else 1
    ends = [int(len(ordered) * (1 - HELD_OUT * share)) for share in range(shares, 0, -1)] + [len(ordered)]
    held_out, scores, trees_of = [], [], []
    for share, (cut, end) in enumerate(pairwise(ends)):
        early, late = ordered.at(np.arange(cut)), choices_of(ordered.at(np.arange(cut, end)))

        def part_done(done: int, most: int, share: int = share) -> None:
            progress(share * most + done, shares * most)

        trees = fitting.fit_with_early_stopping(early, late, part_done)
        held_out.append(late)
        scores.append(np.concatenate([_scores(trees, rows) for rows in late.rows]))
        trees_of.append(trees.best_iteration)
    judge, judged_scores = together(held_out), np.concatenate(scores)
    if are_few:
        trees = fitting.fit_rounds(ordered, round(float(np.median(trees_of))))
    sharpness, shifts = _calibrated(judge, judged_scores)
    p = softmax(_shifted(judged_scores, judge.ends, sharpness, shifts), judge.sizes)
    speakers = ordered.points.speakers[ends[0] :]
    silence = _silence_calibrated(p[judge.ends - 2], judge.came[judge.ends - 2], speakers == 1)
    ranker = Ranker(trees, examples.points.feature_names, sharpness, shifts, silence)
    fit = {
        "rounds": trees.num_trees() if are_few else trees.best_iteration,
        "stopped_and_calibrated_on": {  # no figure of later days: those are of `beepgpt validate`
            "points": len(judge.sizes),
            "log_loss": round(judge.loss(judged_scores), 5),
            "log_loss_calibrated": round(judge.loss_of(_with_silence(p, judge.sizes, speakers, silence)), 5),
        },
    }
    return ranker, fit


@dataclass(frozen=True, slots=True)
class Fitting:
    """LightGBM's settings, and the two ways of fitting with them."""

    settings: dict[str, Any]
    rounds: int
    """At most."""

    def fit_with_early_stopping(self, early: Examples, late: TreeTargets, progress: FitProgress) -> lgb.Booster:
        """Fit trees on the early examples, with early stopping on the late ones."""
        data, objective = self._data(early)
        check = lgb.Dataset(late.rows, late.came, reference=data, params=self.settings)

        def log_loss(scores: Floats, _: lgb.Dataset) -> tuple[str, float, bool]:
            return "log_loss", late.loss(scores), False

        return lgb.train(
            {**self.settings, "objective": objective},
            data,
            self.rounds,
            valid_sets=[check],
            feval=log_loss,
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False), lambda now: progress(now.iteration + 1, self.rounds)],
        )

    def fit_rounds(self, examples: Examples, rounds: int) -> lgb.Booster:
        """Fit `rounds` trees on all examples."""
        data, objective = self._data(examples)
        return lgb.train({**self.settings, "objective": objective}, data, rounds)

    def _data(self, examples: Examples) -> tuple[lgb.Dataset, Callable[[Floats, lgb.Dataset], tuple[Floats, Floats]]]:
        fitted = choices_of(examples)
        data = lgb.Dataset(fitted.rows, fitted.came, feature_name=fitted.names, params=self.settings)
        data.construct()
        fitted.rows.clear()  # LightGBM keeps them in a quarter of the memory

        def listwise(scores: Floats, _: lgb.Dataset) -> tuple[Floats, Floats]:
            p = softmax(scores, fitted.sizes)
            curved = 1 - p
            curved *= p
            p -= fitted.came
            return p, np.maximum(curved, 1e-6, out=curved)

        return data, listwise


@dataclass(frozen=True, slots=True)
class TreeTargets:
    """The input of fitting: feature rows, and the target of each row, its share of the outcome."""

    rows: list[FeatureRows]
    names: list[str]
    sizes: Ints
    """Rows of each point."""
    came: Floats

    @property
    def ends(self) -> Ints:
        """For each point, the row after its last."""
        return np.cumsum(self.sizes)

    def loss(self, scores: Floats) -> float:
        """Mean log loss of a point, in nats."""
        return self.loss_of(softmax(scores, self.sizes))

    def loss_of(self, p: Floats) -> float:
        """The same, of probabilities."""
        return float(-(self.came * np.log(np.maximum(p, 1e-12))).sum() / len(self.sizes))


def choices_of(examples: Examples) -> TreeTargets:
    """Examples as rows and targets."""
    made = [feature_rows(part) for part in examples.points.parts(PART)]
    return TreeTargets([rows for rows, _ in made], made[0][1], examples.points.sizes + OUTCOMES, targets(examples))


def together(parts: Sequence[TreeTargets]) -> TreeTargets:
    """Concatenate sizes and targets; feature rows are dropped."""
    sizes, came = np.concatenate([part.sizes for part in parts]), np.concatenate([part.came for part in parts])
    return TreeTargets([], parts[0].names, sizes, came)


def _calibrated(held_out: TreeTargets, scores: Floats) -> tuple[float, tuple[float, float]]:
    """The sharpness and the shifts that minimize the held-out log loss."""

    def loss(given: Floats) -> float:
        return held_out.loss(_shifted(scores, held_out.ends, float(np.exp(given[0])), (given[1], given[2])))

    found = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7, "maxiter": 400})
    return float(np.exp(found.x[0])), (float(found.x[1]), float(found.x[2]))


def _silence_calibrated(nobody: Floats, was_silent: Floats, is_first: Flags) -> tuple[SilenceCalibration, SilenceCalibration]:
    """The calibrations of first messages and of others that minimize the held-out log loss of silence."""

    def fitted(which: Flags) -> SilenceCalibration:
        odds, came = logit(np.clip(nobody[which], 1e-9, 1 - 1e-9)), was_silent[which]

        def loss(given: Floats) -> float:
            scores = given[0] * odds + given[1]
            away = SLOPE_WEIGHT * (given[0] - 1) ** 2 + SHIFT_WEIGHT * given[1] ** 2
            return float((np.logaddexp(0, scores) - came * scores).sum() + away / 2)

        found = minimize(loss, np.array(AS_IT_IS), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-7, "maxiter": 400})
        return SilenceCalibration(float(found.x[0]), float(found.x[1]))

    return fitted(is_first), fitted(~is_first)


def targets(examples: Examples) -> Floats:
    """The target of each row, its share of the outcome: they sum to 1 for each point, split evenly among those who answered."""
    points = examples.points
    sizes = points.sizes + OUTCOMES
    ends = np.cumsum(sizes)
    places = {person: place for place, person in enumerate(points.people)}
    came = np.zeros(int(sizes.sum()))
    for point, answer in enumerate(examples.answers):
        if not answer:
            came[ends[point] - 2] = 1.0
            continue
        first = ends[point] - sizes[point]
        users = points.user[points.starts[point] : points.starts[point + 1]]
        for person in answer:
            found = np.flatnonzero(users == places.get(person, -1))
            came[first + found[0] if len(found) else ends[point] - 1] += 1 / len(answer)
    return came
