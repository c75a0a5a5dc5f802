"""Who answers, told from the facts about the people who might: boosted trees over each point's candidates, nobody and others.

A point is a choice of one outcome: a candidate, nobody, or somebody else. Each outcome is a row of features; the trees give each row a
score, and the chances of a point's outcomes are their softmax, so that they sum to 1 and a fact counts by what stands beside it. That is
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
from beepgpt.training.predictions import OtherFacts, Predictions, TooLittle

FeatureRows = NDArray[np.float32]
FittedArrays = dict[str, NDArray[Any]]
"""Numbers by name: one for each candidate, in a table with a row a point, or one for each point."""
Flags = NDArray[np.bool_]

OF_MOST = ("answers_180d", "first_7d", "first_60d", "hour_share", "closeness")
RANKED = ("posts_30d", "seen_hours")
OF_ALL = ("first_60d", "to_author", "closeness")
"""Facts that are also told beside those of the point's other candidates: as a share of the most, by how many have more, as a share of all.
Those that gained little on the tuning period are left out (docs/experiments.md), since each takes its time with every prediction."""
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
"""Facts that a model can't do without; others are taken as they are."""
OUTCOMES = 2
"""Rows of a point after those of its candidates: nobody, and somebody else."""
PART = 2_000
"""Points whose features are made at once."""
MINUTE = 60_000_000
NEVER = 1e6
"""Hours."""
LEAST = 100
"""Answered examples. With so few the trees know little, and the held-out share sees to it that they don't pretend."""
HELD_OUT = 0.1
"""The last share of the examples: it says when there are trees enough, and fits what makes chances of the scores."""
MANY = 20_000
"""Examples. With fewer, one held-out share is too little to fit chances on, since how much goes unanswered changes from week to week: the
last `SHARES` shares are held out one after the other, each from all before it; smaller steps are taken; and the trees are at last fitted on
all examples. With so many it gained nothing that was worth the time."""
SHARES = 3
SMALL_STEPS = 0.05
ROUNDS = 160
"""At most: each tree takes its time with every prediction, and more of them gained a tenth of a point."""
PATIENCE = 20
"""Rounds without a gain on the held-out share after which it is enough."""
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
"""Characters of the newest message that are looked through for thanks."""
THANKS = re.compile(
    r"\b(thanks|thank you|thx|cheers|perfect|awesome|great|got it|makes sense|worked|works|solved|appreciate)", re.IGNORECASE
)


# Features


def features(points: Points) -> tuple[FeatureRows, list[str]]:
    """Rows of features, those of a point side by side: its candidates', nobody's, somebody else's."""
    sizes = points.sizes
    width = max(int(sizes.max(initial=0)), 1)
    inside = np.arange(width) < sizes[:, None]
    facts = np.zeros((len(points), width, len(points.names)), np.float32)
    facts[inside] = points.facts
    told = {name: facts[:, :, place] for place, name in enumerate(points.names)}
    seen = told["seen_hours"]
    seen[~inside | (seen < 0)] = NEVER  # where nobody stands, nobody was ever seen
    windows = _windows(points, width)
    columns = {**told, **_compared(told, inside), **_proportions(told), **windows.people}
    whole = {**_channel(told), **windows.point, **_prompts(points), **_time(points)}
    whole["candidates"] = sizes
    whole["speakers"] = points.speakers
    whole["others_in_window"] = (told["in_window"] > 0).sum(axis=1)
    whole["named_in_newest"] = (told["mentioned"] == 1).sum(axis=1)
    whole["answers_to_author"] = _sum(told["to_author"])
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


def _compared(told: FittedArrays, inside: Flags) -> FittedArrays:
    """Each fact beside the other candidates'."""
    found: FittedArrays = {"place": np.broadcast_to(np.arange(inside.shape[1], dtype=np.float32), inside.shape)}
    for name in OF_MOST:
        found[f"{name}_of_most"] = told[name] / np.maximum(told[name].max(axis=1, keepdims=True), 1e-4)
    for name in RANKED:
        found[f"{name}_rank"] = _rank(-told[name] if name == "seen_hours" else told[name], inside)
    for name in OF_ALL:
        found[f"{name}_of_all"] = told[name] / np.maximum(_sum(told[name])[:, None], 1e-4)
    return found


def _rank(fact: NDArray[Any], inside: Flags) -> FeatureRows:
    """How many candidates have more."""
    facts = np.ascontiguousarray(np.where(inside, fact, -np.inf))
    more = facts[:, None, :] > facts[:, :, None]
    rank: FeatureRows = more.view(np.uint8).sum(axis=2, dtype=np.uint16).astype(np.float32)
    return rank


def _sum(fact: NDArray[Any]) -> Floats:
    """Of all candidates, exactly: facts have 4 decimals, and a sum of floats would depend on how many empty places it runs over."""
    exact: Floats = np.rint(fact.astype(np.float64) * 1e4).sum(axis=1) / 1e4
    return exact


def _proportions(told: FittedArrays) -> FittedArrays:
    """What a person's own facts say of each other."""
    lately, long = told["answers_30d"], np.maximum(told["answers_180d"], 0.05)
    return {
        "first_share": told["first_60d"] / long,
        "answer_share": lately / np.maximum(told["posts_30d"], 0.05),
        "months_share": lately / long,
    }


def _channel(told: FittedArrays) -> FittedArrays:
    """What the candidates' facts say of the channel."""
    found: FittedArrays = {}
    for half_life in ("3d", "30d", "180d"):
        share = told[f"share_{half_life}"]
        found[f"channel_{half_life}"] = np.where(share > 0.001, told[f"answers_{half_life}"] / np.maximum(share, 1e-4), 0).max(axis=1)
    share = told["share_30d"]
    found["most_share"] = share.max(axis=1)
    found["sum_share"] = _sum(share)
    found["most_first"] = told["first_60d"].max(axis=1)
    found["least_seen"] = told["seen_hours"].min(axis=1)
    return found


@dataclass(frozen=True, slots=True)
class Windows:
    """What the windows say, of each point and of each candidate."""

    point: FittedArrays
    people: FittedArrays


def _windows(points: Points, width: int) -> Windows:
    posts, ago = np.zeros((len(points), width), np.float32), np.full((len(points), width), np.nan, np.float32)
    told = np.full((len(points), 5), np.nan)
    for point, (users, times) in enumerate(zip(points.window_user, points.window_ts, strict=True)):
        now, people = times[-1], set(users)
        pause = (now - times[-2]) / MINUTE if len(times) > 1 else np.nan
        told[point] = len(users), len(people), pause, (now - times[0]) / MINUTE, (points.prompt_ts[point] - now) / MINUTE
        row = points.starts[point]
        for place in range(min(len(people) - 1, int(points.starts[point + 1] - row))):  # who spoke stands before the other candidates
            person = points.people[points.user[row + place]]
            if person in people:
                posts[point, place] = users.count(person)
                ago[point, place] = (now - times[len(users) - 1 - users[::-1].index(person)]) / MINUTE
    names = ("window", "people_in_window", "pause", "span", "age")
    return Windows({name: told[:, place] for place, name in enumerate(names)}, {"posts_in_window": posts, "ago_in_window": ago})


def _prompts(points: Points) -> FittedArrays:
    """What little of the text tells in every language, and thanks in one."""
    told = np.zeros((len(points), 4))
    for point, prompt in enumerate(points.prompt):
        last = prompt.removesuffix(SUFFIX).rpartition(SEPARATOR)[2]
        told[point] = len(prompt), len(last), "?" in last, THANKS.search(last[:SKIMMED]) is not None
    return {name: told[:, place] for place, name in enumerate(("length", "last_length", "asks", "thanks"))}


def _time(points: Points) -> FittedArrays:
    """Hour of the day and day of the week, UTC."""
    return {"hour": points.prompt_ts % DAY / HOUR, "weekday": (points.prompt_ts // DAY + 3) % 7}


# The model


@dataclass(frozen=True, slots=True)
class Ranker:
    """Trees that give each outcome a score, and what makes chances of the scores."""

    trees: lgb.Booster
    facts: tuple[str, ...]
    """Of the candidates, as it was fitted on them."""
    sharpness: float
    """By which scores are multiplied."""
    shifts: tuple[float, float]
    """What is added to the scores of nobody and of somebody else."""
    labels: None = None
    """It ranks whoever stands there, also people it never saw."""

    def predict(self, points: Points) -> Predictions:
        """Chances of each point's candidates, of nobody and of somebody else."""
        if len(points) and points.names != self.facts:
            raise OtherFacts(
                "the candidates have other facts than those the model was trained on: make the examples again and train it anew"
            )
        chances, nobody, other = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
        for part in points.parts(PART):
            rows, _ = features(part)
            sizes = part.sizes + OUTCOMES
            ends = np.cumsum(sizes)
            p = softmax(self.shifted(self.scores(rows), ends), sizes)
            nobody.append(p[ends - 2])
            other.append(p[ends - 1])
            chances.append(np.delete(p, np.concatenate([ends - 2, ends - 1])))
        people = [points.people[user] for user in points.user]
        return Predictions(points.starts, people, np.concatenate(chances), np.concatenate(nobody), np.concatenate(other))

    def scores(self, rows: FeatureRows) -> Floats:
        """What the trees say of rows."""
        return _scores(self.trees, rows)

    def shifted(self, scores: Floats, ends: Ints) -> Floats:
        """Scores of which chances can be made."""
        return _shifted(scores, ends, self.sharpness, self.shifts)

    def state(self) -> dict[str, Any]:
        """What is kept of it."""
        return {"trees": self.trees, "facts": list(self.facts), "sharpness": self.sharpness, "shifts": list(self.shifts)}


def ranker_from(state: dict[str, Any]) -> Ranker:
    """A ranker that was kept."""
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
    """Chances of each point's rows.

    >>> softmax(np.array([0.0, 0.0, 5.0]), np.array([2, 1]))
    array([0.5, 0.5, 1. ])
    """
    first = np.cumsum(sizes) - sizes
    grown = np.exp(scores - np.repeat(np.maximum.reduceat(scores, first), sizes))
    chances: Floats = grown / np.repeat(np.add.reduceat(grown, first), sizes)
    return chances


# Fitting

FitProgress = Callable[[int, int], None]
"""Is told how many rounds are done, and how many there are at most."""


def _nothing(*_: object) -> None:
    return None


def fit_ranker(
    examples: Examples, *, seed: int = 1, threads: int = 0, rounds: int = ROUNDS, progress: FitProgress = _nothing, **more: Any
) -> tuple[Ranker, dict[str, Any]]:
    """A ranker of the examples' points, and how it was fitted. `threads`: 0 for as many as there are; the result is the same.

    All that is fitted, chances too, is fitted on `examples` alone.
    """
    answered = sum(bool(answer) for answer in examples.answers)
    if answered < LEAST:
        raise TooLittle(
            f"the training part has {answered:,} answered examples, and a model needs {LEAST:,}: take more history, or a later --cut"
        )
    if missing := NEEDED - set(examples.points.names):
        raise OtherFacts(f"the examples have no fact {min(missing)} about their candidates: make them again, with candidates")
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
    judge, said = together(held_out), np.concatenate(scores)
    if are_few:
        trees = fitting.so_many(ordered, round(float(np.median(trees_of))))
    sharpness, shifts = _calibrated(judge, said)
    ranker = Ranker(trees, examples.points.names, sharpness, shifts)
    told = {
        "rounds": trees.num_trees() if are_few else trees.best_iteration,
        "held_out": len(judge.sizes),
        "log_loss": round(judge.loss(said), 5),
        "log_loss_calibrated": round(judge.loss(ranker.shifted(said, judge.ends)), 5),
    }
    return ranker, told


def _part_done(progress: FitProgress, done: int, parts: int, now: int, most: int) -> None:
    progress(done * most + now, parts * most)


@dataclass(frozen=True, slots=True)
class Fitting:
    """How trees are fitted."""

    settings: dict[str, Any]
    rounds: int
    """At most."""

    def until_enough(self, early: Examples, late: TreeTargets, progress: FitProgress) -> lgb.Booster:
        """Trees of the early examples, as many as help with the late ones."""
        data, objective = self._data(early)
        check = lgb.Dataset(late.rows, late.came, reference=data, params=self.settings)

        def surprise(scores: Floats, _: lgb.Dataset) -> tuple[str, float, bool]:
            return "log_loss", late.loss(scores), False

        return lgb.train(
            {**self.settings, "objective": objective},
            data,
            self.rounds,
            valid_sets=[check],
            feval=surprise,
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False), lambda now: progress(now.iteration + 1, self.rounds)],
        )

    def so_many(self, examples: Examples, rounds: int) -> lgb.Booster:
        """So many trees of all examples."""
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
    """What trees are fitted on."""

    rows: list[FeatureRows]
    names: list[str]
    sizes: Ints
    """Rows of each point."""
    came: Floats

    @property
    def ends(self) -> Ints:
        """The row after each point's last."""
        return np.cumsum(self.sizes)

    def loss(self, scores: Floats) -> float:
        """Log loss of a point, in nats."""
        p = softmax(scores, self.sizes)
        return float(-(self.came * np.log(np.maximum(p, 1e-12))).sum() / len(self.sizes))


def choices_of(examples: Examples) -> TreeTargets:
    """Examples as trees are fitted on them."""
    made = [features(part) for part in examples.points.parts(PART)]
    return TreeTargets([rows for rows, _ in made], made[0][1], examples.points.sizes + OUTCOMES, targets(examples))


def together(parts: Sequence[TreeTargets]) -> TreeTargets:
    """Several as one, without their rows."""
    sizes, came = np.concatenate([part.sizes for part in parts]), np.concatenate([part.came for part in parts])
    return TreeTargets([], parts[0].names, sizes, came)


def _calibrated(held_out: TreeTargets, scores: Floats) -> tuple[float, tuple[float, float]]:
    """The sharpness and the shifts that make the held-out outcomes likeliest."""

    def loss(given: Floats) -> float:
        return held_out.loss(_shifted(scores, held_out.ends, float(np.exp(given[0])), (given[1], given[2])))

    found = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7, "maxiter": 400})
    return float(np.exp(found.x[0])), (float(found.x[1]), float(found.x[2]))


def targets(examples: Examples) -> Floats:
    """What came true of each row: 1 in all for each point, shared by those who answered."""
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
