"""Who answers, predicted from features of the people who might: boosted trees over each point's candidates, nobody and others.

A point is a choice of one outcome: a candidate, nobody, or somebody else. Each outcome is a row of features; the trees give each row a
score, and the probabilities of a point's outcomes are their softmax, so they sum to 1 and a feature counts relative to the others'. This is
McFadden's conditional logit with trees for its utilities ("Conditional Logit Analysis of Qualitative Choice Behavior", 1974), fitted by
LightGBM (Ke et al., 2017).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from beepgpt.conversations.features import DAY, HOUR
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX
from beepgpt.training.points import Examples, Floats, Ints, Points
from beepgpt.training.predictions import OtherFeatures, Predictions, TooLittle

FeatureRows = NDArray[np.float32]
FittedArrays = dict[str, NDArray[Any]]
"""Arrays by feature name: `(points, candidates)`, or `(points,)`."""
Flags = NDArray[np.bool_]

OF_MOST = ("answers_180d", "first_7d", "first_60d", "hour_share", "closeness")
RANKED = ("posts_30d", "seen_hours")
OF_ALL = ("first_60d", "to_author", "closeness")
"""Features also taken relative to the point's other candidates: as a share of the largest, as a rank, as a share of the sum.
Others gained little on the tuning period and are left out (docs/experiments.md), since each costs time at every prediction."""
NEEDED = frozenset(
    {
        *OF_MOST,
        *RANKED,
        *OF_ALL,
        "in_window",
        "mentioned",
        *(f"{what}_{half_life}" for what in ("answers", "share") for half_life in ("3d", "30d", "180d")),
    }
)
"""Features that a model needs; others are used where the examples have them."""
OUTCOMES = 2
"""Rows of a point after those of its candidates: nobody, and somebody else."""
PART = 2_000
"""Points whose rows are made at a time."""
MINUTE = 60_000_000
NEVER = 1e6
"""Hours since somebody was seen who never was."""
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
SKIMMED = 400
"""Characters of the newest message that are searched for thanks."""
THANKS = re.compile(
    r"\b(thanks|thank you|thx|cheers|perfect|awesome|great|got it|makes sense|worked|works|solved|appreciate)", re.IGNORECASE
)


# Features


def feature_rows(points: Points) -> tuple[FeatureRows, list[str]]:
    """The rows of all points, and the names of their columns: a row for each candidate, one for nobody, one for somebody else."""
    sizes = points.sizes
    width = max(int(sizes.max(initial=0)), 1)
    inside = np.arange(width) < sizes[:, None]
    features = np.zeros((len(points), width, len(points.feature_names)), np.float32)
    features[inside] = points.features
    given = {name: features[:, :, place] for place, name in enumerate(points.feature_names)}
    seen = given["seen_hours"]
    seen[~inside | (seen < 0)] = NEVER  # also where a point has fewer candidates than `width`
    windows = _windows(points, width)
    columns = {**given, **_compared(given, inside), **_proportions(given), **windows.people}
    whole = {**_channel(given), **windows.point, **_prompts(points), **_time(points)}
    whole["candidates"] = sizes
    whole["speakers"] = points.speakers
    whole["others_in_window"] = (given["in_window"] > 0).sum(axis=1)
    whole["named_in_newest"] = (given["mentioned"] == 1).sum(axis=1)
    whole["answers_to_author"] = _sum(given["to_author"])
    names = [*columns, *whole, "nobody", "somebody_else"]
    rows = np.full((len(points), width + OUTCOMES, len(names)), np.nan, np.float32)
    for place, values in enumerate(columns.values()):
        rows[:, :width, place] = values
    for place, values in enumerate(whole.values(), start=len(columns)):
        rows[:, :, place] = values[:, None]
    rows[:, :, -OUTCOMES:] = 0.0
    rows[:, width, -2] = 1.0
    rows[:, width + 1, -1] = 1.0
    kept = np.concatenate([inside, np.ones((len(points), OUTCOMES), np.bool_)], axis=1)
    return rows[kept], names


def _compared(given: FittedArrays, inside: Flags) -> FittedArrays:
    """Features relative to the point's other candidates."""
    found: FittedArrays = {"place": np.broadcast_to(np.arange(inside.shape[1], dtype=np.float32), inside.shape)}
    for name in OF_MOST:
        found[f"{name}_of_most"] = given[name] / np.maximum(given[name].max(axis=1, keepdims=True), 1e-4)
    for name in RANKED:
        found[f"{name}_rank"] = _rank(-given[name] if name == "seen_hours" else given[name], inside)
    for name in OF_ALL:
        found[f"{name}_of_all"] = given[name] / np.maximum(_sum(given[name])[:, None], 1e-4)
    return found


def _rank(feature: NDArray[Any], inside: Flags) -> FeatureRows:
    """For each candidate, how many others have a larger value."""
    values = np.ascontiguousarray(np.where(inside, feature, -np.inf))
    more = values[:, None, :] > values[:, :, None]
    rank: FeatureRows = more.view(np.uint8).sum(axis=2, dtype=np.uint16).astype(np.float32)
    return rank


def _sum(feature: NDArray[Any]) -> Floats:
    """The sum over a point's candidates, exact: features have 4 decimals, and a float sum would depend on the padding."""
    exact: Floats = np.rint(feature.astype(np.float64) * 1e4).sum(axis=1) / 1e4
    return exact


def _proportions(given: FittedArrays) -> FittedArrays:
    """Ratios between a candidate's own features."""
    lately, long = given["answers_30d"], np.maximum(given["answers_180d"], 0.05)
    return {
        "first_share": given["first_60d"] / long,
        "answer_share": lately / np.maximum(given["posts_30d"], 0.05),
        "months_share": lately / long,
    }


def _channel(given: FittedArrays) -> FittedArrays:
    """The channel's activity, as far as its candidates' features show it."""
    found: FittedArrays = {}
    for half_life in ("3d", "30d", "180d"):
        share = given[f"share_{half_life}"]
        found[f"channel_{half_life}"] = np.where(share > 0.001, given[f"answers_{half_life}"] / np.maximum(share, 1e-4), 0).max(axis=1)
    share = given["share_30d"]
    found["most_share"] = share.max(axis=1)
    found["sum_share"] = _sum(share)
    found["most_first"] = given["first_60d"].max(axis=1)
    found["least_seen"] = given["seen_hours"].min(axis=1)
    return found


@dataclass(frozen=True, slots=True)
class Windows:
    """Features of the windows: `(points,)` and `(points, candidates)`."""

    point: FittedArrays
    people: FittedArrays


def _windows(points: Points, width: int) -> Windows:
    posts, ago = np.zeros((len(points), width), np.float32), np.full((len(points), width), np.nan, np.float32)
    whole = np.full((len(points), 5), np.nan)
    for point, (users, times) in enumerate(zip(points.window_user, points.window_ts, strict=True)):
        now, people = times[-1], set(users)
        pause = (now - times[-2]) / MINUTE if len(times) > 1 else np.nan
        whole[point] = len(users), len(people), pause, (now - times[0]) / MINUTE, (points.prompt_ts[point] - now) / MINUTE
        row = points.starts[point]
        for place in range(min(len(people) - 1, int(points.starts[point + 1] - row))):  # who spoke stands before the other candidates
            person = points.people[points.user[row + place]]
            if person in people:
                posts[point, place] = users.count(person)
                ago[point, place] = (now - times[len(users) - 1 - users[::-1].index(person)]) / MINUTE
    names = ("window", "people_in_window", "pause", "span", "age")
    return Windows({name: whole[:, place] for place, name in enumerate(names)}, {"posts_in_window": posts, "ago_in_window": ago})


def _prompts(points: Points) -> FittedArrays:
    """Lengths and question marks, which work in every language, and thanks in English."""
    found = np.zeros((len(points), 4))
    for point, prompt in enumerate(points.prompt):
        last = prompt.removesuffix(SUFFIX).rpartition(SEPARATOR)[2]
        found[point] = len(prompt), len(last), "?" in last, THANKS.search(last[:SKIMMED]) is not None
    return {name: found[:, place] for place, name in enumerate(("length", "last_length", "asks", "thanks"))}


def _time(points: Points) -> FittedArrays:
    """Hour of the day and day of the week, UTC."""
    return {"hour": points.prompt_ts % DAY / HOUR, "weekday": (points.prompt_ts // DAY + 3) % 7}


# The model


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
    labels: None = None
    """It ranks any candidates, also people it never saw."""

    def predict(self, points: Points) -> Predictions:
        """Probabilities of each point's candidates, of nobody and of somebody else. Raises OtherFeatures."""
        if len(points) and points.feature_names != self.features:
            raise OtherFeatures(
                "the candidates have other features than those the model was trained on: make the examples again and train it anew"
            )
        candidates, nobody, other = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
        for part in points.parts(PART):
            rows, _ = feature_rows(part)
            sizes = part.sizes + OUTCOMES
            ends = np.cumsum(sizes)
            p = softmax(self.shifted(self.scores(rows), ends), sizes)
            nobody.append(p[ends - 2])
            other.append(p[ends - 1])
            candidates.append(np.delete(p, np.concatenate([ends - 2, ends - 1])))
        people = [points.people[user] for user in points.user]
        return Predictions(points.starts, people, np.concatenate(candidates), np.concatenate(nobody), np.concatenate(other))

    def scores(self, rows: FeatureRows) -> Floats:
        """The trees' raw scores of rows."""
        return _scores(self.trees, rows)

    def shifted(self, scores: Floats, ends: Ints) -> Floats:
        """Calibrated scores, whose softmax is a probability. `ends`: the row after each point's last."""
        return _shifted(scores, ends, self.sharpness, self.shifts)

    def state(self) -> dict[str, Any]:
        """Its parts, for saving."""
        return {"trees": self.trees, "facts": list(self.features), "sharpness": self.sharpness, "shifts": list(self.shifts)}


def ranker_from(state: dict[str, Any]) -> Ranker:
    """A ranker from its saved parts."""
    nobody, other = state["shifts"]
    return Ranker(state["trees"], tuple(state["facts"]), state["sharpness"], (nobody, other))


def _scores(trees: lgb.Booster, rows: FeatureRows) -> Floats:
    return np.asarray(trees.predict(rows, num_threads=1), np.float64)


def _shifted(scores: Floats, ends: Ints, sharpness: float, shifts: tuple[float, float]) -> Floats:
    shifted = scores * sharpness
    shifted[ends - 2] += shifts[0]
    shifted[ends - 1] += shifts[1]
    return shifted


def softmax(scores: Floats, sizes: Ints) -> Floats:
    """Probabilities of each point's rows; `sizes`: rows of each point.

    >>> softmax(np.array([0.0, 0.0, 5.0]), np.array([2, 1]))
    array([0.5, 0.5, 1. ])
    """
    first = np.cumsum(sizes) - sizes
    grown = np.exp(scores - np.repeat(np.maximum.reduceat(scores, first), sizes))
    p: Floats = grown / np.repeat(np.add.reduceat(grown, first), sizes)
    return p


# Fitting

FitProgress = Callable[[int, int], None]
"""Called with the rounds done, and the most there may be."""


def _nothing(*_: object) -> None:
    return None


def fit_ranker(
    examples: Examples, *, seed: int = 1, threads: int = 0, rounds: int = ROUNDS, progress: FitProgress = _nothing, **more: Any
) -> tuple[Ranker, dict[str, Any]]:
    """A ranker, and figures of its fit. Everything, calibration too, is fitted on `examples` alone.

    `threads`: 0 for as many as there are processors; the result is the same. Raises TooLittle, OtherFeatures.
    """
    answered = sum(bool(answer) for answer in examples.answers)
    if answered < LEAST:
        raise TooLittle(
            f"the training part has {answered:,} answered examples, and a model needs {LEAST:,}: take more history, or a later --cut"
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
        trees = fitting.until_enough(early, late, partial(_part_done, progress, share, shares))
        held_out.append(late)
        scores.append(np.concatenate([_scores(trees, rows) for rows in late.rows]))
        trees_of.append(trees.best_iteration)
    judge, judged_scores = together(held_out), np.concatenate(scores)
    if are_few:
        trees = fitting.so_many(ordered, round(float(np.median(trees_of))))
    sharpness, shifts = _calibrated(judge, judged_scores)
    ranker = Ranker(trees, examples.points.feature_names, sharpness, shifts)
    fit = {
        "rounds": trees.num_trees() if are_few else trees.best_iteration,
        "held_out": len(judge.sizes),
        "log_loss": round(judge.loss(judged_scores), 5),
        "log_loss_calibrated": round(judge.loss(ranker.shifted(judged_scores, judge.ends)), 5),
    }
    return ranker, fit


def _part_done(progress: FitProgress, done: int, parts: int, now: int, most: int) -> None:
    progress(done * most + now, parts * most)


@dataclass(frozen=True, slots=True)
class Fitting:
    """LightGBM's settings, and the two ways of fitting with them."""

    settings: dict[str, Any]
    rounds: int
    """At most."""

    def until_enough(self, early: Examples, late: TreeTargets, progress: FitProgress) -> lgb.Booster:
        """Trees fitted on the early examples; early stopping on the late ones."""
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

    def so_many(self, examples: Examples, rounds: int) -> lgb.Booster:
        """`rounds` trees fitted on all examples."""
        data, objective = self._data(examples)
        return lgb.train({**self.settings, "objective": objective}, data, rounds)

    def _data(self, examples: Examples) -> tuple[lgb.Dataset, Callable[[Floats, lgb.Dataset], tuple[Floats, Floats]]]:
        fitted = choices_of(examples)
        data = lgb.Dataset(fitted.rows, fitted.came, feature_name=fitted.names, params=self.settings)
        data.construct()
        fitted.rows.clear()  # LightGBM keeps them in a quarter of the memory

        def listwise(scores: Floats, _: lgb.Dataset) -> tuple[Floats, Floats]:
            p = softmax(scores, fitted.sizes)
            return p - fitted.came, np.maximum(p * (1 - p), 1e-6)

        return data, listwise


@dataclass(frozen=True, slots=True)
class TreeTargets:
    """Rows and what came true of each: the input of fitting."""

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
        p = softmax(scores, self.sizes)
        return float(-(self.came * np.log(np.maximum(p, 1e-12))).sum() / len(self.sizes))


def choices_of(examples: Examples) -> TreeTargets:
    """Examples as rows and targets."""
    made = [feature_rows(part) for part in examples.points.parts(PART)]
    return TreeTargets([rows for rows, _ in made], made[0][1], examples.points.sizes + OUTCOMES, targets(examples))


def together(parts: Sequence[TreeTargets]) -> TreeTargets:
    """Several as one, without the rows themselves."""
    sizes, came = np.concatenate([part.sizes for part in parts]), np.concatenate([part.came for part in parts])
    return TreeTargets([], parts[0].names, sizes, came)


def _calibrated(held_out: TreeTargets, scores: Floats) -> tuple[float, tuple[float, float]]:
    """The sharpness and the shifts that minimise the held-out log loss."""

    def loss(given: Floats) -> float:
        return held_out.loss(_shifted(scores, held_out.ends, float(np.exp(given[0])), (given[1], given[2])))

    found = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7, "maxiter": 400})
    return float(np.exp(found.x[0])), (float(found.x[1]), float(found.x[2]))


def targets(examples: Examples) -> Floats:
    """What came true of each row: they sum to 1 for each point, split evenly among those who answered."""
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
