"""Predictions and what became of them: the bytes that they are written as, and how often they were right lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from beepgpt.conversations.events import ts_text
from beepgpt.conversations.points import PointSettled

DIGITS = 6
"""Of a chance: more would differ with the machine."""
LEAST = 0.02
"""Chances below this are not told with an outcome, as long as a few are: nine of ten candidates have less."""
FEW = 5
KNOWN = ("answered", "silent")
"""Ends that have an answer, if only that nobody gave one: of these there are examples, and figures are told."""

RankedPeople = Sequence[tuple[str, float]]


class Probabilities(NamedTuple):
    """What a model says of a point: chances of people, likeliest first, of nobody, and of somebody else."""

    people: RankedPeople
    nobody: float
    other: float


class PredictedPoint(NamedTuple):
    """A prediction that waits for its outcome."""

    identity: str
    speakers: int
    model: str
    said: bytes
    """Its people, nobody and other as JSON: a point may be open for a day, and as objects they would take six times the memory."""


def prediction_body(
    point: Mapping[str, Any], model: str, said: Probabilities, *, most: int, with_candidates: bool = False
) -> dict[str, Any]:
    """A point and what a model says of it, in the order of the keys in which it is written."""
    kept = {name: value for name, value in point.items() if with_candidates or name != "candidates"}
    return {**kept, "model": model, **said_body(said, most)}


def said_body(said: Probabilities, most: int) -> dict[str, Any]:
    """What a model says, rounded, so that the same model always says it in the same bytes.

    >>> said_body(Probabilities([("ana", 0.51234567), ("bo", 0.3)], 0.1, 0.08765433), most=1)
    {'people': [{'user': 'ana', 'p': 0.512346}], 'nobody': 0.1, 'other': 0.087654}
    """
    people = [{"user": user, "p": round(p, DIGITS)} for user, p in said.people[:most]]
    return {"people": people, "nobody": round(said.nobody, DIGITS), "other": round(said.other, DIGITS)}


def outcome_body(predicted: PredictedPoint, ended: PointSettled, spec: str) -> dict[str, Any]:
    """A prediction and what became of it in one of its conversations."""
    said = orjson.loads(predicted.said)
    people: list[dict[str, Any]] = said["people"]
    places = [place for place, each in enumerate(people, start=1) if each["user"] in ended.answer]
    is_known = ended.how in KNOWN
    told = [each for place, each in enumerate(people) if place < FEW or each["p"] >= LEAST]
    return {
        "id": predicted.identity,
        "spec": spec,
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
        "people": told if is_known else [],
        "nobody": said["nobody"],
        "other": said["other"],
    }


class Alerted(NamedTuple):
    """What telling everybody from a chance on would have come to."""

    given: int
    right: int
    expected: float
    """How many of them should be right by their own chances."""


def alerted(outcome: Mapping[str, Any], threshold: float) -> Alerted:
    """Of one outcome.

    >>> alerted({"people": [{"user": "ana", "p": 0.75}, {"user": "bo", "p": 0.125}], "answer": ["bo"]}, 0.1)
    Alerted(given=2, right=1, expected=0.875)
    """
    given = [each for each in outcome["people"] if each["p"] >= threshold]
    return Alerted(len(given), sum(each["user"] in outcome["answer"] for each in given), sum(each["p"] for each in given))


class RollingMetrics:
    """How a model did with the last outcomes whose answers are known.

    >>> lately = RollingMetrics(threshold=0.5)
    >>> lately.add({"how": "answered", "rank": 2, "people": [{"user": "ana", "p": 0.75}, {"user": "bo", "p": 0.125}], "answer": ["bo"]})
    >>> lately.figures()
    {'hit@1': 0.0, 'hit@5': 1.0, 'precision': 0.0, 'drift': 0.75}
    """

    KEPT = 1000

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.counts = {"answered": 0, "hit@1": 0, "hit@5": 0, "alerts": 0, "right": 0}
        """Of all outcomes so far."""
        self._ranks: deque[int] = deque(maxlen=self.KEPT)
        self._alerts: deque[Alerted] = deque(maxlen=self.KEPT)

    def add(self, outcome: Mapping[str, Any]) -> None:
        """One more; what has no answer says nothing."""
        if outcome["how"] not in KNOWN:
            return
        alerts = alerted(outcome, self.threshold)
        self._alerts.append(alerts)
        self.counts["alerts"] += alerts.given
        self.counts["right"] += alerts.right
        if outcome["how"] == "answered":
            rank = outcome["rank"] or 0
            self._ranks.append(rank)
            self.counts["answered"] += 1
            self.counts["hit@1"] += rank == 1
            self.counts["hit@5"] += 0 < rank <= 5

    @property
    def answered(self) -> int:
        """How many of them were answered."""
        return len(self._ranks)

    def figures(self) -> dict[str, float]:
        """Hits among the answered, the share of alerts that were right, and how much more of them was promised; of nothing, nothing."""
        found: dict[str, float] = {}
        ranks = list(self._ranks)
        if ranks:
            found["hit@1"] = _share(rank == 1 for rank in ranks)
            found["hit@5"] = _share(0 < rank <= 5 for rank in ranks)
        alerts = list(self._alerts)
        if given := sum(each.given for each in alerts):
            right = sum(each.right for each in alerts)
            found["precision"] = right / given
            found["drift"] = (sum(each.expected for each in alerts) - right) / given
        return found


def _share(hits: Iterable[bool]) -> float:
    told = list(hits)
    return sum(told) / len(told)
