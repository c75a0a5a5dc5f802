"""Metrics of predictions: hits, log loss, calibration, precision and recall of alerts, each with an interval by conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beepgpt.training.intervals import Bootstrap, Figure
from beepgpt.training.points import Examples, Floats, Ints, Predictions

BoolArray = NDArray[np.bool_]

LEAST_P = 1e-6
"""The least probability that log loss counts with: a 0 would be an infinite loss."""
BINS = 10
LEAST = 0.02
"""Probabilities below this are left out of the calibration table: nine of ten candidates have less."""
THRESHOLDS = tuple(step / 100 for step in range(5, 96, 5))
FEW = 30
"""Alerts that a threshold needs to be chosen: with fewer, its precision is luck."""
DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Predictions beside what happened, a row for each point."""

    conversation: list[str]
    prompt_ts: Ints
    speakers: Ints
    answered: BoolArray
    rank: Ints
    """Rank, from 1, of the likeliest person who answered; 0 if none of them was predicted."""
    rank_with_nobody: Ints
    """Rank of the outcome where nobody is ranked, too; 0 if it was somebody else. As `rank` where there are no probabilities."""
    scores: PointScores
    """Of all points."""
    scores_answered: PointScores
    """Of the answered points, given that somebody answers: probabilities without nobody's."""
    alerts: RankedAlerts

    def at(self, places: Ints) -> Outcomes:
        """The points at these indices, each once, in this order."""
        return Outcomes(
            [self.conversation[each] for each in places], self.prompt_ts[places], self.speakers[places], self.answered[places],
            self.rank[places], self.rank_with_nobody[places],
            self.scores.at(places), self.scores_answered.at(places), self.alerts.at(places),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PointScores:
    """How well probabilities did, a row for each point; NaN where there are none."""

    p_true: Floats
    """The probability of what happened; its mean over several answers."""
    likeliest: Floats
    """The probability of the likeliest outcome."""
    right: BoolArray
    """Whether that one came true."""

    def at(self, places: Ints) -> PointScores:
        """The points at these indices."""
        return PointScores(self.p_true[places], self.likeliest[places], self.right[places])


@dataclass(frozen=True, slots=True)
class RankedAlerts:
    """Everybody who might have been alerted to a point, and whether that would have been right."""

    point: Ints
    person: list[str]
    p: Floats
    right: BoolArray
    answers: Ints
    """How many people answered each point."""

    def at(self, places: Ints) -> RankedAlerts:
        """The points at these indices, each once, in this order."""
        new_place = np.full(len(self.answers), -1)
        new_place[places] = np.arange(len(places))
        point = new_place[self.point]
        rows = np.flatnonzero(point >= 0)
        rows = rows[np.argsort(point[rows], kind="stable")]
        return RankedAlerts(point[rows], [self.person[row] for row in rows], self.p[rows], self.right[rows], self.answers[places])


def outcomes_of(predictions: Predictions, examples: Examples) -> Outcomes:
    """Predictions with what happened."""
    count = len(examples)
    rank, with_nobody = np.zeros(count, np.int64), np.zeros(count, np.int64)
    scores, scores_answered = _no_scores(count), _no_scores(count)
    hit = np.zeros(len(predictions.people), np.bool_)
    for point, answer in enumerate(examples.answers):
        first, end = predictions.starts[point], predictions.starts[point + 1]
        p = predictions.p[first:end]
        hit[first:end] = right = np.array([person in answer for person in predictions.people[first:end]], np.bool_)
        rank[point] = with_nobody[point] = rank_of(p, right)
        if predictions.nobody is None or predictions.other is None:
            continue
        nobody, other = predictions.nobody[point], predictions.other[point]
        with_nobody[point] = rank_of(np.append(p, nobody), np.append(right, not answer))
        came = np.append(right, [False, False]) / max(len(answer), 1)
        came[-2], came[-1] = not answer, bool(answer) and 1 - right.sum() / len(answer)
        outcomes = np.concatenate([p, [nobody, other]])
        _score(scores, point, outcomes, came)
        if answer:
            somebody = np.delete(outcomes, -2)
            _score(scores_answered, point, somebody / max(somebody.sum(), LEAST_P), np.delete(came, -2))
    points = examples.points
    each = np.repeat(np.arange(count), np.diff(predictions.starts))
    alerts = RankedAlerts(each, predictions.people, predictions.p, hit, np.array([len(answer) for answer in examples.answers], np.int64))
    answered = alerts.answers > 0
    return Outcomes(points.conversation, points.prompt_ts, points.speakers, answered, rank, with_nobody, scores, scores_answered, alerts)


def _no_scores(count: int) -> PointScores:
    return PointScores(np.full(count, np.nan), np.full(count, np.nan), np.zeros(count, np.bool_))


def _score(scores: PointScores, point: int, p: Floats, came: Floats) -> None:
    best = int(np.argmax(p))
    scores.p_true[point] = (p * came).sum()
    scores.likeliest[point], scores.right[point] = p[best], came[best] > 0


def rank_of(p: Floats, right: BoolArray) -> int:
    """The rank, from 1, of the likeliest right one; of equals the first comes first. 0 if none is right.

    >>> rank_of(np.array([0.2, 0.5, 0.2]), np.array([False, False, True]))
    3
    """
    if not right.any():
        return 0
    best = int(np.argmax(np.where(right, p, -np.inf)))
    return int((p > p[best]).sum() + (p[:best] == p[best]).sum()) + 1


OutcomeFilter = Callable[[Outcomes], BoolArray]

KINDS: dict[str, OutcomeFilter] = {
    "all": lambda outcomes: np.ones(len(outcomes.rank), np.bool_),
    "answered": lambda outcomes: outcomes.answered,
    "first_replies": lambda outcomes: outcomes.answered & (outcomes.speakers == 1),
    "first_messages": lambda outcomes: outcomes.speakers == 1,
}
"""The points that figures are of: all; answered; answered where one person had spoken so far; all where one person had spoken so far.

Alerts are sent before anybody knows whether there will be an answer, so their figures are of the first kind and the last.
"""
IN_A_ROW = (300, 1_000)
"""Answers of which a live model's hits are held against its validation, at first and later on."""
WITH_SILENCES = ("all", "first_messages")


def hits(outcomes: Outcomes, kind: str, boot: Bootstrap) -> dict[str, Figure]:
    """hit@k and mean reciprocal rank. For kinds with silences, nobody is ranked, too. People who were not predicted are misses."""
    among = KINDS[kind](outcomes)
    rank = outcomes.rank_with_nobody if kind in WITH_SILENCES else outcomes.rank
    ones = among.astype(np.float64)
    found = {f"hit@{k}": boot.share(ones * ((rank > 0) & (rank <= k)), ones) for k in (1, 3, 5)}
    return found | {"mrr": boot.share(ones * np.where(rank > 0, 1 / np.maximum(rank, 1), 0.0), ones)}


def spread(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """How much the hits among so many answers in a row differ from row to row: their standard deviation, by count and figure.

    Times differ, and busy conversations come in runs, so it is more than chance alone; known where there are twice as many answers.
    """
    answered = np.flatnonzero(outcomes.answered)
    rank = outcomes.rank[answered[np.argsort(outcomes.prompt_ts[answered], kind="stable")]]
    found = {}
    for count in (each for each in IN_A_ROW if len(rank) >= 2 * each):
        sums = {f"hit@{k}": np.cumsum(np.concatenate([[0], (rank > 0) & (rank <= k)])) for k in (1, 5)}
        found[str(count)] = {name: float(((each[count:] - each[:-count]) / count).std()) for name, each in sums.items()}
    return found


def losses(outcomes: Outcomes, kind: str, boot: Bootstrap) -> dict[str, Figure]:
    """Log loss in nats, and the expected calibration error of the likeliest outcome, over tenths of its probability.

    Answered points are chosen by their outcome, so for them the probabilities given that somebody answers are judged.
    """
    among = KINDS[kind](outcomes)
    ones = among.astype(np.float64)
    scores = outcomes.scores if kind in WITH_SILENCES else outcomes.scores_answered
    p_true, likeliest = np.where(among, scores.p_true, 1.0), np.where(among, scores.likeliest, 0.0)
    bins = np.minimum((likeliest * BINS).astype(np.int64), BINS - 1)
    gaps = [ones * (bins == each).astype(np.float64) * (likeliest - scores.right) for each in range(BINS)]
    return {"log_loss": boot.mean(-ones * np.log(np.maximum(p_true, LEAST_P)), ones), "calibration_error": boot.gap(gaps, ones)}


def alerts_at(outcomes: Outcomes, threshold: float, kind: str, boot: Bootstrap) -> dict[str, Any]:
    """Precision, recall and volume, had everybody with a probability of at least `threshold` been alerted."""
    alerts = outcomes.alerts
    among = KINDS[kind](outcomes)
    given = (alerts.p >= threshold) & among[alerts.point]
    right = (given & alerts.right).astype(np.float64)
    ones = given.astype(np.float64)
    days = max((outcomes.prompt_ts.max() - outcomes.prompt_ts.min()) / DAY, 1.0) if len(outcomes.prompt_ts) else 1.0
    per_person = Counter(alerts.person[row] for row in np.flatnonzero(given))
    return {
        "threshold": threshold,
        "alerts": int(given.sum()),
        "precision": boot.share(right, ones, alerts.point),
        "recall": boot.share(right, (among * alerts.answers).astype(np.float64), alerts.point, np.arange(len(among))),
        "people": len(per_person),
        "per_person_per_day": len(per_person) and int(given.sum()) / len(per_person) / days,
        "most_for_one_per_day": max(per_person.values(), default=0) / days,
    }


def threshold_for(outcomes: Outcomes, precision: float) -> float | None:
    """The least threshold with this precision; None if there is none with `FEW` alerts or more.

    Alerts with equal probabilities are sent together or not at all.
    """
    order = np.argsort(-outcomes.alerts.p, kind="stable")
    p = outcomes.alerts.p[order]
    right = np.cumsum(outcomes.alerts.right[order])
    given = np.arange(1, len(p) + 1)
    last_of_equals = np.append(p[1:] < p[:-1], True) if len(p) else np.zeros(0, np.bool_)
    good = last_of_equals & (right >= precision * given) & (given >= FEW)
    return float(p[np.flatnonzero(good)[-1]]) if good.any() else None


def calibration(outcomes: Outcomes, boot: Bootstrap) -> list[dict[str, Any]]:
    """Reliability table in bins of 0.1: mean predicted probability (`said`), observed share (`came`)."""
    alerts = outcomes.alerts
    table = []
    for low in range(BINS):
        inside = (alerts.p >= max(low / BINS, LEAST)) & (alerts.p < (low + 1) / BINS if low + 1 < BINS else alerts.p <= 1.0 + 1e-9)
        ones = inside.astype(np.float64)
        mean = float(alerts.p[inside].mean()) if inside.any() else np.nan
        table.append({"from": low / BINS, "said": mean, "came": boot.share(ones * alerts.right, ones, alerts.point)})
    return table


def silences(nobody: Floats, outcomes: Outcomes, kind: str, boot: Bootstrap) -> dict[str, Any]:
    """How probable it was called that nobody answers, on average (`said`), and the share of points that nobody answered (`came`).

    `nobody`: the probability of it at each point.
    """
    among = KINDS[kind](outcomes)
    said = float(nobody[among].mean()) if among.any() else np.nan
    return {"said": said, "came": boot.share((among & ~outcomes.answered).astype(np.float64), among.astype(np.float64))}


def by_group(outcomes: Outcomes, groups: Sequence[str], kind: str, boot: Bootstrap) -> dict[str, dict[str, Figure]]:
    """hit@1 and hit@5 of each group of points, by name. `groups`: the group of each point."""
    among = KINDS[kind](outcomes)
    named = np.asarray(groups)
    found = {}
    for name in sorted(set(groups)):
        ones = (among & (named == name)).astype(np.float64)
        if ones.any():
            hit = {f"hit@{k}": ones * ((outcomes.rank > 0) & (outcomes.rank <= k)) for k in (1, 5)}
            found[name] = {what: boot.share(values, ones) for what, values in hit.items()}
    return found
