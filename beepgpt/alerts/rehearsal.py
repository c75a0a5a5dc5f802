"""Rehearsal: replay past predictions with alerts, and judge the alerts by outcomes.

The rules are the live ones; each point is decided on at its own time, as if it had been scored at once. What happened later only judges
alerts, and never decides on one. Figures are of the part of time that judges; what was fitted or chosen on is apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isnan
from typing import Any, NamedTuple

import numpy as np
import orjson

from beepgpt.alerts.decisions import Alert, Policy, Preferences, decide
from beepgpt.alerts.predictions import NoPrediction, PredictedConversation, links_of, participation, read_prediction, record_kind
from beepgpt.conversations.events import micros
from beepgpt.conversations.outcomes import KNOWN
from beepgpt.conversations.rules import DAY, SECOND
from beepgpt.training.intervals import Figure, share_of
from beepgpt.training.parts import Parts


@dataclass
class InMemoryHistory:
    """An `AlertHistory` in plain dictionaries. Points and alerts have to be recorded in time order."""

    asked: dict[str, Preferences] = field(default_factory=dict)
    asked_topics: list[tuple[str, str]] = field(default_factory=list)
    speakers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    sessions: dict[str, str] = field(default_factory=dict)
    alerted: set[tuple[str, str]] = field(default_factory=set)
    direct_times: dict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    deleted: set[tuple[str, int]] = field(default_factory=set)

    def preferences(self, user: str) -> Preferences:
        return self.asked.get(user, _NO_PREFERENCES)

    def topics(self) -> Collection[tuple[str, str]]:
        return self.asked_topics

    def took_part(self, user: str, conversations: Sequence[str]) -> bool:
        return any(user in self.speakers.get(each, ()) for each in conversations)

    def session_of(self, thread: str) -> str | None:
        return self.sessions.get(thread)

    def was_alerted(self, user: str, keys: Sequence[str]) -> bool:
        return any((user, key) in self.alerted for key in keys)

    def direct_alerts(self, user: str, since: int) -> int:
        """How many direct messages a person got after `since`; older ones are dropped."""
        times = self.direct_times[user]
        while times and times[0] <= since:
            times.popleft()
        return len(times)

    def is_deleted(self, channel: str, ts: int) -> bool:
        return (channel, ts) in self.deleted

    def record_point(self, point: PredictedConversation) -> None:
        """Note who wrote where, after the point was decided on."""
        for conversation, user in participation(point):
            self.speakers[conversation].add(user)
        self.sessions.update(links_of(point))

    def record_alert(self, alert: Alert, now: int) -> None:
        """Note that a person was alerted at `now`."""
        self.alerted.update((alert.user, key) for key in alert.keys)
        if alert.way == "direct":
            self.direct_times[alert.user].append(now)


_NO_PREFERENCES = Preferences()


MaySee = Callable[[str, str], bool]
"""Whether a person may see a channel."""
Baseline = Callable[[PredictedConversation], Sequence[tuple[str, float]]]
"""A baseline: whom it predicts for a point in the place of the model, likeliest first."""


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


UNMARKED = "unmarked"
"""The part of predictions that name none: they may be of points that the model was fitted on."""
EVERY_PART = frozenset({"fit", "choose", "judge", UNMARKED})


class RehearsalHistory:
    """Points and outcomes, indexed so that alerts can be judged."""

    def __init__(
        self, points: Sequence[PredictedConversation], outcomes: Iterable[PastOutcome], parts: Mapping[str, Parts | None] | None = None
    ) -> None:
        """`parts`: of models whose cards are at hand, for predictions that don't name theirs."""
        self.points = sorted(points, key=lambda point: (point.prompt_ts, point.id))
        self.outcomes = sorted(outcomes, key=lambda outcome: (outcome.settled_ts, outcome.id))
        self._parts = dict(parts or {})
        self.by_id: dict[str, list[PastOutcome]] = defaultdict(list)
        for outcome in self.outcomes:
            self.by_id[outcome.id].append(outcome)
        self._session_of: dict[str, str] = {}
        for point in self.points:
            self._session_of.update(links_of(point))
        self.end = max([*(point.prompt_ts for point in self.points), *(outcome.settled_ts for outcome in self.outcomes)], default=0)
        """The time up to which it is known what happened."""
        reactors = {point.id for point in self.points if point.target == "reactors"}
        self.has_reactions = any(outcome.answer and outcome.id in reactors for outcome in self.outcomes)
        """Whether reactions have their times here: in an export they have none, and nobody knows who reacted after an alert."""
        self.joins = self._joins()
        """When each person, by session with its threads, first posted there, where somebody else had begun it."""

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

    def session_name(self, conversation: str) -> str:
        """A name for a session together with its threads: the session's, where it is known."""
        return self._session_of.get(conversation, conversation)

    def part_of(self, point: PredictedConversation) -> str:
        """The part of a point's model's time: as it says, else as the model's card does."""
        parts = self._parts.get(point.model)
        return point.part or (None if parts is None else parts.of(point.prompt_ts)) or UNMARKED

    @cached_property
    def parts(self) -> dict[str, list[PredictedConversation]]:
        """The points by their part, in the order of time."""
        found: dict[str, list[PredictedConversation]] = defaultdict(list)
        for point in self.points:
            found[self.part_of(point)].append(point)
        return dict(found)

    def days(self, part: str) -> float:
        """Days from the first point of a part to its last; at least an hour."""
        points = self.parts.get(part, [])
        return max((points[-1].prompt_ts - points[0].prompt_ts) / DAY, 1 / 24) if points else 0.0

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

    def direct(self, part: str = "judge", until: int | None = None) -> list[RehearsedAlert]:
        """Those of a part that would have been direct messages. `until`: only those of whom all was known by then."""
        found = [each for each in self.alerts if each.alert.way == "direct" and each.part == part]
        return found if until is None else [each for each in found if each.known_at <= until]

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The figures of the part that judges."""
        return self.figures_of("judge")

    def figures_of(self, part: str, until: int | None = None) -> dict[str, Any]:
        """Counts and shares of a part's alerts; `intervals` has each share with its 95 % interval by conversation, where it has one."""
        history, direct = self.history, self.direct(part, until)
        people, days = {each.alert.user for each in direct}, history.days(part)
        known_by = history.end if until is None else min(until, history.end)
        joins = sorted(each for each, over in history.joins_by_part.get(part, {}).items() if over <= known_by)
        alerted = {
            (history.session_name(conversation), each.alert.user)
            for each in direct
            if each.joined
            for conversation in each.alert.point.conversations
        }
        covered = np.array([float(each in alerted) for each in joins])
        intervals = {
            "joined": self._share([(each, each.joined) for each in direct]),
            "next": self._share([(each, each.next) for each in direct]),
            "reacted": self._share([(each, each.reacted) for each in direct]),
            "announced": share_of(covered, np.ones(len(joins)), [session for session, _ in joins]),
        }
        return {
            "alerts": len(direct),
            "listed": sum(each.part == part and each.alert.way == "list" for each in self.alerts),
            "people": len(people),
            **{name: None if isnan(each.value) else round(each.value, 4) for name, each in intervals.items()},
            "per_person_per_day": share(len(direct), len(people) * days),
            "intervals": {name: each.as_json() for name, each in intervals.items()},
        }

    def _share(self, alerts: Sequence[tuple[RehearsedAlert, bool | None]]) -> Figure:
        known = [(each.alert.point, float(is_so)) for each, is_so in alerts if is_so is not None]
        sessions = [self.history.session_name(point.conversations[0]) for point, _ in known]
        return share_of(np.array([is_so for _, is_so in known]), np.ones(len(known)), sessions)


def rehearse(
    history: RehearsalHistory,
    policy: Policy,
    *,
    name: str = "the model",
    asked: Mapping[str, Preferences] | None = None,
    people: Baseline | None = None,
    may_see: MaySee = lambda user, channel: True,
    parts: Collection[str] = EVERY_PART,
    on_end: Callable[[], None] = lambda: None,
) -> Rehearsed:
    """Replay the points in order. `asked`: people's preferences; `people`: a baseline in the place of the model.

    `parts`: where alerts are decided on; points of the others only tell who took part. `on_end`: called when it is done.
    """
    known = InMemoryHistory(asked=dict(asked or {}))
    passed: Counter[str] = Counter()
    alerts = []
    for point in history.points:
        part = history.part_of(point)
        shown = point if people is None else point._replace(people=tuple(people(point)), features={})
        now = point.prompt_ts + SECOND
        for each in decide(shown._replace(fresh=True), known, policy, now) if part in parts else ():
            if not isinstance(each, Alert):
                passed[each.reason] += part == "judge"
            elif not may_see(each.user, point.channel):
                passed["not_a_member"] += part == "judge"
            else:
                known.record_alert(each, now)
                alerts.append(_judged(each, part, history))
        known.record_point(point)
    on_end()
    return Rehearsed(name, policy.threshold if people is None else None, alerts, +passed, history)


def _judged(alert: Alert, part: str, history: RehearsalHistory) -> RehearsedAlert:
    at = alert.point.prompt_ts
    # Before the day is over only those who came at once are known: the last day's alerts would all be right.
    is_over = at + DAY <= history.end
    outcomes = [each for each in history.by_id.get(alert.point.id, ()) if is_over and each.how in KNOWN]
    answered = any(alert.user in each.answer for each in outcomes) if outcomes else None
    following = answered if alert.point.target == "next_user" else None
    reacted = answered if alert.point.target == "reactors" and history.has_reactions else None
    times = (history.joins.get((history.session_name(each), alert.user)) for each in alert.point.conversations)
    joined_at = min((ts for ts in times if ts is not None and at < ts <= at + DAY), default=None)
    joined = joined_at is not None if is_over else None
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


MATCHING = 12
"""Halvings of the interval in which a baseline's threshold is searched."""


def latest_other_author() -> Baseline:
    """Predict the latest author in the channel who isn't in the window; the later, the likelier."""
    wrote: dict[str, dict[str, int]] = defaultdict(dict)

    def predicted(point: PredictedConversation) -> list[tuple[str, float]]:
        here = wrote[point.channel]
        inside = {user for _, user in point.window}
        others = [(ts, user) for user, ts in here.items() if user not in inside]
        for ts, user in point.window:
            here[user] = max(ts, here.get(user, 0))
        if not others:
            return []
        ts, user = max(others)
        return [(user, 1.0 / (1.0 + max(point.prompt_ts - ts, 0) / (3600 * SECOND)))]

    return predicted


def most_frequent(history: RehearsalHistory) -> Baseline:
    """Predict the person who answered most in the channel so far and isn't in the window, by their share of its answers."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    settled = iter([each for each in history.outcomes if each.answer])
    waiting: list[PastOutcome] = []

    def predicted(point: PredictedConversation) -> list[tuple[str, float]]:
        while True:
            outcome = waiting.pop() if waiting else next(settled, None)
            if outcome is None:
                break
            if outcome.settled_ts > point.prompt_ts:
                waiting.append(outcome)
                break
            counts[outcome.conversation.partition(":")[0]].update(outcome.answer)
        here = counts[point.channel]
        inside = {user for _, user in point.window}
        best = min(((-count, user) for user, count in here.items() if user not in inside), default=None)
        return [] if best is None else [(best[1], -best[0] / here.total())]

    return predicted


def rehearse_matched(
    history: RehearsalHistory, policy: Policy, wanted: int, name: str, rule: Callable[[RehearsalHistory], Baseline], **how: Any
) -> Rehearsed:
    """Rehearse a baseline at the threshold at which it gives about `wanted` alerts, and no more than that if it can."""
    low, high = 0.0, 1.0
    best: Rehearsed | None = None
    for _ in range(MATCHING):
        middle = (low + high) / 2
        found = rehearse(history, replace(policy, threshold=middle, list_from=None), name=name, people=rule(history), **how)
        if len(found.direct()) > wanted:
            low = middle
        else:
            high, best = middle, found
    return best or found
