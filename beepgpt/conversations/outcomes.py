"""Predictions and outcomes: their fields as written, and rolling metrics of how often predictions were right."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from beepgpt.conversations.account import EXAMPLE_ENDS
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.points import PointSettled

DIGITS = 6
"""Decimals of a probability: more would differ with the machine."""
LEAST = 0.02
"""People with a lower probability are left out of an outcome, beyond the first few: nine of ten candidates have less."""
FEW = 5
KNOWN = EXAMPLE_ENDS
"""How a point ends whose answer is known, be it that nobody answered: metrics are of these."""
RIGHT = (
    "Right is who answered next within the horizon (or who posted or reacted, where that is what was predicted), whatever a label says of"
    " the answer. Points whose answer nobody knows count nowhere."
)
"""The one definition of right, of validation and of outcomes. Alerts are judged by who joined (beepgpt/alerts/rehearsal.py)."""

RankedPeople = Sequence[tuple[str, float]]


class Probabilities(NamedTuple):
    """A model's prediction at a point: the probabilities of people, likeliest first, of nobody, and of somebody else."""

    people: RankedPeople
    nobody: float
    other: float


class PredictedPoint(NamedTuple):
    """A prediction that waits for its outcome."""

    identity: str
    speakers: int
    model: str
    predicted: bytes
    """`probabilities_body`, `target` and `part` as JSON: a point may be open for a day; as objects it would take six times the memory."""


def prediction_body(
    point: Mapping[str, Any], model: str, part: str | None, probabilities: Probabilities, *, most: int, with_candidates: bool = False
) -> dict[str, Any]:
    """A prediction as it is written: the point's fields, the model, the `part` of its time, and probabilities of at most `most` people."""
    kept = {name: value for name, value in point.items() if with_candidates or name != "candidates"}
    return {**kept, "model": model, "part": part, **probabilities_body(probabilities, most)}


def probabilities_body(probabilities: Probabilities, most: int) -> dict[str, Any]:
    """Probabilities as they are written: rounded, so that the same model always gives the same bytes.

    >>> probabilities_body(Probabilities([("ana", 0.51234567), ("bo", 0.3)], 0.1, 0.08765433), most=1)
    {'people': [{'user': 'ana', 'p': 0.512346}], 'nobody': 0.1, 'other': 0.087654}
    """
    people = [{"user": user, "p": round(p, DIGITS)} for user, p in probabilities.people[:most]]
    return {"people": people, "nobody": round(probabilities.nobody, DIGITS), "other": round(probabilities.other, DIGITS)}


def outcome_body(predicted: PredictedPoint, ended: PointSettled, spec: str) -> dict[str, Any]:
    """An outcome as it is written: a prediction, and how its point ended in one of its conversations."""
    probabilities = orjson.loads(predicted.predicted)
    people: list[dict[str, Any]] = probabilities["people"]
    places = [place for place, each in enumerate(people, start=1) if each["user"] in ended.answer]
    is_known = ended.how in KNOWN
    likely = [each for place, each in enumerate(people) if place < FEW or each["p"] >= LEAST]
    return {
        "id": predicted.identity,
        "spec": spec,
        "target": probabilities.get("target"),
        "channel": ended.channel,
        "conversation": ended.conversation,
        "speakers": predicted.speakers,
        "prompt_ts": ts_text(ended.prompt_ts),
        "settled_ts": ts_text(ended.settled_ts),
        "how": ended.how,
        "answer_ts": None if ended.answer_ts is None else ts_text(ended.answer_ts),
        "answer": list(ended.answer),
        "rank": places[0] if places else None,
        "p": people[places[0] - 1]["p"] if places else None,
        "model": predicted.model,
        "part": probabilities.get("part"),
        "people": likely if is_known else [],
        "nobody": probabilities["nobody"],
        "other": probabilities["other"],
    }


class AlertCounts(NamedTuple):
    """Alerts at one point, if everybody at or above a threshold were alerted."""

    given: int
    right: int
    """How many of them answered."""
    expected: float
    """How many of them should be right by their own probabilities."""


def count_alerts(outcome: Mapping[str, Any], threshold: float) -> AlertCounts:
    """The alerts that a threshold gives for one outcome.

    >>> count_alerts({"people": [{"user": "ana", "p": 0.75}, {"user": "bo", "p": 0.125}], "answer": ["bo"]}, 0.1)
    AlertCounts(given=2, right=1, expected=0.875)
    """
    given = [each for each in outcome["people"] if each["p"] >= threshold]
    return AlertCounts(len(given), sum(each["user"] in outcome["answer"] for each in given), sum(each["p"] for each in given))


class CountedRight(NamedTuple):
    """How many were right at one point, of how many, and its conversation."""

    right: int
    of: int
    conversation: str


class _CountedOutcome:
    """An outcome's alerts, counted once for each threshold that is asked for in turn."""

    __slots__ = ("_counted", "_outcome", "conversation")

    def __init__(self, outcome: Mapping[str, Any]) -> None:
        self.conversation: str = outcome["conversation"]
        self._outcome = {name: outcome[name] for name in ("people", "answer")}
        self._counted: tuple[float, AlertCounts] | None = None

    def at(self, threshold: float) -> AlertCounts:
        counted = self._counted
        if counted is None or counted[0] != threshold:
            self._counted = counted = threshold, count_alerts(self._outcome, threshold)
        return counted[1]


class RollingMetrics:
    """A model's metrics over the last 1,000 outcomes whose answers are known, and by which it may be judged.

    >>> lately = RollingMetrics(threshold=0.5)
    >>> people = [{"user": "ana", "p": 0.75}, {"user": "bo", "p": 0.125}]
    >>> lately.add({"conversation": "C1:1.0:thread", "how": "answered", "rank": 2, "people": people, "answer": ["bo"]})
    >>> lately.figures()
    {'hit@1': 0.0, 'hit@5': 1.0, 'precision': 0.0, 'drift': 0.75}
    """

    KEPT = 1000

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        """May change: then all of the last outcomes are counted by the new one, and `counts` goes on with it."""
        self.counts = {"answered": 0, "hit@1": 0, "hit@5": 0, "alerts": 0, "right": 0}
        """Of all outcomes so far."""
        self._ranks: deque[tuple[int, str]] = deque(maxlen=self.KEPT)
        self._alerts: deque[_CountedOutcome] = deque(maxlen=self.KEPT)

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Add an outcome; one whose answer isn't known is not counted, nor one of a point that the model was fitted or chosen on."""
        if outcome["how"] not in KNOWN or outcome.get("part") in ("fit", "choose"):
            return
        counted = _CountedOutcome(outcome)
        self._alerts.append(counted)
        alerts = counted.at(self.threshold)
        self.counts["alerts"] += alerts.given
        self.counts["right"] += alerts.right
        if outcome["how"] == "answered":
            rank = outcome["rank"] or 0
            self._ranks.append((rank, outcome["conversation"]))
            self.counts["answered"] += 1
            self.counts["hit@1"] += rank == 1
            self.counts["hit@5"] += 0 < rank <= 5

    @property
    def answered(self) -> int:
        """How many of these outcomes were answered."""
        return len(self._ranks)

    def figures(self) -> dict[str, float]:
        """Hits among the answered, precision of alerts, and drift: by how much the probabilities promised more. Without data, none."""
        shares = self.shares()
        found = {name: sum(each.right for each in rows) / of for name, rows in shares.items() if (of := sum(each.of for each in rows))}
        if "precision" in found:
            expected = sum(each.at(self.threshold).expected for each in list(self._alerts))
            found["drift"] = expected / sum(each.of for each in shares["precision"]) - found["precision"]
        return found

    def shares(self) -> dict[str, list[CountedRight]]:
        """What the hits and the precision are made of, an entry for each outcome: for intervals by conversation."""
        ranks = list(self._ranks)
        alerts = [(each.at(self.threshold), each.conversation) for each in list(self._alerts)]
        return {
            "hit@1": [CountedRight(int(rank == 1), 1, conversation) for rank, conversation in ranks],
            "hit@5": [CountedRight(int(0 < rank <= 5), 1, conversation) for rank, conversation in ranks],
            "precision": [CountedRight(each.right, each.given, conversation) for each, conversation in alerts],
        }
