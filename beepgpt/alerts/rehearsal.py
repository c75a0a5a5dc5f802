"""Rehearsal: replay past predictions with alerts, and judge the alerts by outcomes.

The rules are the live ones; each point is decided on at its own time, as if it had been scored at once. What happened later only judges
alerts, and never decides on one. Figures are of the part of time that judges; what was fitted or chosen on is apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from typing import Any, NamedTuple

import numpy as np
import orjson

from beepgpt.alerts.decisions import Alert
from beepgpt.alerts.predictions import NoPrediction, PredictedConversation, keys_of, links_of, participation, read_prediction, record_kind
from beepgpt.conversations.events import micros
from beepgpt.conversations.outcomes import KNOWN
from beepgpt.conversations.rules import DAY
from beepgpt.training.intervals import Figure, share_of
from beepgpt.training.parts import UNMARKED, Parts, part_of
from beepgpt.training.points import Ints


class PastOutcome(NamedTuple):
    """What happened after a point. Times are microseconds since 1970."""

    id: str
    conversation: str
    how: str
    answer: tuple[str, ...]
    answer_ts: int | None
    settled_ts: int


def read_outcome(value: Mapping[str, Any]) -> PastOutcome:
    """Read an outcome as the scoring flow writes it. Raises KeyError, TypeError or ValueError."""
    answered = value.get("answer_ts")
    settled = value.get("settled_ts") or answered or value["prompt_ts"]
    answer = tuple(map(str, value["answer"]))
    conversation, at = str(value.get("conversation", "")), None if answered is None else micros(answered)
    return PastOutcome(str(value["id"]), conversation, str(value["how"]), answer, at, micros(settled))


EVERY_PART = frozenset({"fit", "choose", "judge", UNMARKED})


class RehearsalHistory:
    """Points and outcomes, indexed so that alerts can be judged."""

    def __init__(
        self, points: Sequence[PredictedConversation], outcomes: Iterable[PastOutcome], parts: Mapping[str, Parts | None] | None = None
    ) -> None:
        """`parts`: of models whose cards are at hand, for predictions that don't name theirs."""
        fresh = (point if point.fresh else point._replace(fresh=True) for point in points)
        self.points = sorted(fresh, key=lambda point: (point.prompt_ts, point.id))
        """In the order of time, each as if it had been scored at once."""
        self.outcomes = sorted(outcomes, key=lambda outcome: (outcome.settled_ts, outcome.id))
        self._parts = dict(parts or {})
        self.by_id: dict[str, list[PastOutcome]] = defaultdict(list)
        for outcome in self.outcomes:
            self.by_id[outcome.id].append(outcome)
        self._session_of: dict[str, str] = {}
        self.keys: list[tuple[str, ...]] = []
        """The keys of each point, by what was known before it."""
        self.spoke: dict[str, dict[str, int]] = defaultdict(dict)
        """The place of the first point at which each person took part in a conversation, by person and conversation."""
        for place, point in enumerate(self.points):
            self.keys.append(keys_of(point, self._session_of.get))
            for conversation, user in participation(point):
                self.spoke[user].setdefault(conversation, place)
            self._session_of.update(links_of(point))
        self.end = max([*(point.prompt_ts for point in self.points), *(outcome.settled_ts for outcome in self.outcomes)], default=0)
        """The time up to which it is known what happened."""
        reactors = {point.id for point in self.points if point.target == "reactors"}
        self.has_reactions = any(outcome.answer and outcome.id in reactors for outcome in self.outcomes)
        """Whether reactions have their times here: in an export they have none, and nobody knows who reacted after an alert."""
        self._joins_known: dict[tuple[str, int], tuple[dict[tuple[str, str], int], Ints]] = {}
        self.joins = self._joins()
        """When each person, by session with its threads, first posted there, where somebody else had begun it."""
        self.part_at = np.array([self.part_of(point) for point in self.points], str)
        """The part of each point."""
        self.models, self.model_at = np.unique(np.array([point.model for point in self.points], str), return_inverse=True)
        """The names of the models, and the place there of each point's."""

    def _joins(self) -> dict[tuple[str, str], int]:
        spoke: dict[tuple[str, str], int] = {}
        began: dict[str, tuple[int, str]] = {}
        targets = {point.id: point.target for point in self.points}

        def posted(conversation: str, user: str, ts: int) -> None:
            session = self.session_name(conversation)
            spoke[session, user] = min(ts, spoke.get((session, user), ts))
            began[session] = min((ts, user), began.get(session, (ts, user)))

        for point in self.points:
            for ts, user in point.window:
                for each in point.conversations:
                    posted(each, user, ts)
        for outcome in self.outcomes:
            # Of the other targets, an answer may be a reaction, which joins nothing: there the windows alone show who posted.
            if outcome.answer_ts is not None and targets.get(outcome.id, "next_user") == "next_user":
                for user in outcome.answer:
                    posted(outcome.conversation, user, outcome.answer_ts)
        return {(session, user): ts for (session, user), ts in spoke.items() if (ts, user) != began[session]}

    def joined_at(self, user: str, point: PredictedConversation) -> int | None:
        """When somebody first posted in a point's conversation, or its session and threads, within a day; None: they did not."""
        times = (self.joins.get((self.session_name(each), user)) for each in point.conversations)
        return min((ts for ts in times if ts is not None and point.prompt_ts < ts <= point.prompt_ts + DAY), default=None)

    def session_name(self, conversation: str) -> str:
        """A name for a session together with its threads: the session's, where it is known."""
        return self._session_of.get(conversation, conversation)

    def part_of(self, point: PredictedConversation) -> str:
        """The part of a point's model's time: as it says, else as the model's card does."""
        return part_of(point.part, self._parts.get(point.model), point.prompt_ts)

    @cached_property
    def parts(self) -> dict[str, list[PredictedConversation]]:
        """The points by their part, in the order of time."""
        found: dict[str, list[PredictedConversation]] = defaultdict(list)
        for point in self.points:
            found[self.part_of(point)].append(point)
        return dict(found)

    def days(self, part: str) -> float:
        """Days from the first point of a part to its last."""
        points = self.parts.get(part, [])
        return (points[-1].prompt_ts - points[0].prompt_ts) / DAY if points else 0.0

    def rate_days(self, part: str) -> float:
        """The days by which rates of a part are reckoned: at least one, since a few minutes tell nothing of a day."""
        return max(self.days(part), 1.0)

    @cached_property
    def joins_by_part(self) -> dict[str, dict[tuple[str, str], int]]:
        """The joins, by the part of the conversation's last point before them, each with when the day after that point is over.

        Nobody could be alerted to a join later than at that point. Joins before the conversation's first point are of no part.
        """
        points: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for point in self.points:
            for session in {self.session_name(each) for each in point.conversations}:
                points[session].append((point.prompt_ts, self.part_of(point)))
        found: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
        for (session, user), ts in self.joins.items():
            before = bisect_left(points[session], (ts, ""))
            if before:
                at, part = points[session][before - 1]
                found[part][session, user] = at + DAY
        return dict(found)

    def joins_known(self, part: str, by: int) -> tuple[dict[tuple[str, str], int], Ints]:
        """The joins of a part whose day is over by then, each with its place in their order, and a number for the session of each."""
        if (part, by) not in self._joins_known:
            joins = sorted(each for each, over in self.joins_by_part.get(part, {}).items() if over <= by)
            sessions = np.unique(np.array([session for session, _ in joins], str), return_inverse=True)[1]
            self._joins_known[part, by] = {each: place for place, each in enumerate(joins)}, sessions
        return self._joins_known[part, by]


@dataclass(frozen=True, slots=True)
class RehearsedAlert:
    """An alert that would have been delivered, and what became of it."""

    alert: Alert
    part: str
    next: bool | None
    """Whether the person was the next to answer; None: it isn't known, or the predictions are of another target."""
    joined: bool | None
    """Whether the person posted in the conversation, or its session and threads, for the first time within a day; None: it isn't known."""
    known_at: int
    """When all of that is known, whatever it is, microseconds."""
    reacted: bool | None = None
    """Whether the person reacted within the horizon, which is no joining; None: it isn't known. Of the target `reactors` alone."""


@dataclass(frozen=True)
class Rehearsed:
    """The alerts of one policy, and their figures in the part that judges."""

    name: str
    threshold: float | None
    alerts: list[RehearsedAlert]
    passed: Counter[str]
    """Those who were passed over, in the part that judges."""
    history: RehearsalHistory
    kept_back: Counter[str] = field(default_factory=Counter)
    """Those in the part that judges who were likely enough for a direct message and got none, by the rule that decided it."""

    def direct(self, part: str = "judge", until: int | None = None) -> list[RehearsedAlert]:
        """Those of a part that would have been direct messages. `until`: only those of whom all was known by then."""
        found = [each for each in self.alerts if each.alert.way == "direct" and each.part == part]
        return found if until is None else [each for each in found if each.known_at <= until]

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The figures of the part that judges."""
        return self.figures_of("judge")

    def figures_of(self, part: str, until: int | None = None) -> dict[str, Any]:
        """Counts and shares of a part's alerts; `intervals` has each share with its 95 % interval by conversation, where it has one.

        `until`: only of alerts of whom all was known by then. How many a person gets a day is always of the whole part: nothing that
        came later changes it.
        """
        history, direct, whole = self.history, self.direct(part, until), self.direct(part)
        people = {each.alert.user for each in direct}
        known_by = history.end if until is None else min(until, history.end)
        joins, join_sessions = history.joins_known(part, known_by)
        covered = np.zeros(len(joins))
        for each in direct:
            for conversation in each.alert.point.conversations if each.joined else ():
                place = joins.get((history.session_name(conversation), each.alert.user))
                if place is not None:
                    covered[place] = 1.0
        intervals = {
            "joined": self._share([(each, each.joined) for each in direct]),
            "next": self._share([(each, each.next) for each in direct]),
            "reacted": self._share([(each, each.reacted) for each in direct]),
            "announced": share_of(covered, np.ones(len(joins)), join_sessions),
        }
        return {
            "alerts": len(direct),
            "listed": sum(each.part == part and each.alert.way == "list" for each in self.alerts),
            "people": len(people),
            **{name: None if isnan(each.value) else round(each.value, 4) for name, each in intervals.items()},
            "per_person_per_day": share(len(whole), len({each.alert.user for each in whole}) * history.rate_days(part)),
            "intervals": {name: each.as_json() for name, each in intervals.items()},
        }

    def _share(self, alerts: Sequence[tuple[RehearsedAlert, bool | None]]) -> Figure:
        known = [(self.history.session_name(each.alert.point.conversations[0]), is_so) for each, is_so in alerts if is_so is not None]
        return share_of(np.array([float(is_so) for _, is_so in known]), np.ones(len(known)), [session for session, _ in known])


def judged(alert: Alert, part: str, history: RehearsalHistory) -> RehearsedAlert:
    """An alert with what became of it."""
    at = alert.point.prompt_ts
    # Before the day is over only those who came at once are known: the last day's alerts would all be right.
    is_over = at + DAY <= history.end
    outcomes = [each for each in history.by_id.get(alert.point.id, ()) if is_over and each.how in KNOWN]
    answered = any(alert.user in each.answer for each in outcomes) if outcomes else None
    following = answered if alert.point.target == "next_user" else None
    reacted = answered if alert.point.target == "reactors" and history.has_reactions else None
    joined = history.joined_at(alert.user, alert.point) is not None if is_over else None
    return RehearsedAlert(alert, part, following, joined, at + DAY, reacted)


def share(part: float, whole: float) -> float | None:
    """A ratio with 4 decimals; None if the whole is zero."""
    return round(part / whole, 4) if whole else None


def read_history(
    records: Iterable[tuple[str, bytes]], tombstones: Collection[bytes] = (), parts: Mapping[str, Parts | None] | None = None
) -> tuple[RehearsalHistory, list[str]]:
    """Read predictions and outcomes from JSON records with their places. Returns them, and the places of records that are neither.

    `tombstones`: ids of predictions that are gone, filled in while the records are read. `parts`: as `RehearsalHistory` takes them.
    """
    points: dict[str, PredictedConversation] = {}
    outcomes: list[PastOutcome] = []
    unreadable: list[str] = []
    for place, record in records:
        try:
            value = orjson.loads(record)
            kind = record_kind(value)
            if kind == "prediction":
                point = read_prediction(value)
                points[point.id] = point
            elif kind == "outcome":
                outcomes.append(read_outcome(value))
            elif kind in ("no_object", "other"):
                unreadable.append(place)
        except (NoPrediction, ValueError, KeyError, TypeError):
            unreadable.append(place)
    for gone in tombstones:
        points.pop(gone.decode(errors="replace"), None)
    return RehearsalHistory(list(points.values()), outcomes, parts), unreadable
