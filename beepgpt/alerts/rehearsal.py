"""Rehearsal: replay past predictions with alerts, and judge the alerts by outcomes.

The rules are the live ones; each point is decided on at its own time, as if it had been scored at once. What happened later only judges
alerts, and never decides on one.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson

from beepgpt.alerts.decisions import Alert, Policy, Preferences, decide
from beepgpt.alerts.predictions import NoPrediction, PredictedConversation, links_of, participation, read_prediction, record_kind
from beepgpt.conversations.events import micros
from beepgpt.conversations.rules import DAY, SECOND


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
    answer: tuple[str, ...]
    answer_ts: int | None
    settled_ts: int


def read_outcome(value: Mapping[str, Any]) -> PastOutcome:
    """Read an outcome as the scoring flow writes it. Raises KeyError, TypeError or ValueError."""
    answered = value.get("answer_ts")
    settled = value.get("settled_ts") or answered or value["prompt_ts"]
    answer = tuple(map(str, value["answer"]))
    return PastOutcome(
        str(value["id"]), str(value.get("conversation", "")), answer, None if answered is None else micros(answered), micros(settled)
    )


class RehearsalHistory:
    """Points and outcomes, indexed so that alerts can be judged."""

    def __init__(self, points: Sequence[PredictedConversation], outcomes: Iterable[PastOutcome]) -> None:
        self.points = sorted(points, key=lambda point: (point.prompt_ts, point.id))
        self.outcomes = sorted(outcomes, key=lambda outcome: (outcome.settled_ts, outcome.id))
        self.by_id: dict[str, list[PastOutcome]] = defaultdict(list)
        for outcome in self.outcomes:
            self.by_id[outcome.id].append(outcome)
        self._session_of: dict[str, str] = {}
        for point in self.points:
            self._session_of.update(links_of(point))
        self._spoke: dict[tuple[str, str], int] = {}
        for point in self.points:
            for ts, user in point.window:
                for each in point.conversations:
                    key = (self.session_name(each), user)
                    self._spoke[key] = min(ts, self._spoke.get(key, ts))
        self.joins: dict[tuple[str, str], int] = {}
        """When each person, by session with its threads, first took part in it: by answering, without having spoken there before."""
        for outcome in self.outcomes:
            if outcome.answer_ts is not None:
                for user in outcome.answer:
                    key = (self.session_name(outcome.conversation), user)
                    if self._spoke.get(key, outcome.answer_ts) >= outcome.answer_ts:
                        self.joins[key] = min(outcome.answer_ts, self.joins.get(key, outcome.answer_ts))

    def session_name(self, conversation: str) -> str:
        """A name for a session together with its threads: the session's, where it is known."""
        return self._session_of.get(conversation, conversation)

    def days(self) -> float:
        """Days from the first point to the last; at least an hour."""
        return max((self.points[-1].prompt_ts - self.points[0].prompt_ts) / DAY, 1 / 24) if self.points else 0.0


@dataclass(frozen=True, slots=True)
class RehearsedAlert:
    """An alert that would have been delivered, and what became of it."""

    alert: Alert
    next: bool | None
    """Whether the person was the next to answer; None: it isn't known."""
    joined: bool
    """Whether the person took part in the conversation, or its session and threads, for the first time within a day after."""


@dataclass(frozen=True)
class Rehearsed:
    """The alerts of one policy, and their figures."""

    name: str
    threshold: float | None
    alerts: list[RehearsedAlert]
    passed: Counter[str]
    joins: int
    """People who joined a conversation, alerted or not."""
    covered: int
    """Of those, the ones who had been alerted to it first."""
    days: float
    figures: dict[str, float | int | None] = field(default_factory=dict)

    @property
    def direct(self) -> list[RehearsedAlert]:
        """Those that would have been direct messages."""
        return [each for each in self.alerts if each.alert.way == "direct"]


def rehearse(
    history: RehearsalHistory,
    policy: Policy,
    *,
    name: str = "the model",
    asked: Mapping[str, Preferences] | None = None,
    people: Baseline | None = None,
    may_see: MaySee = lambda user, channel: True,
) -> Rehearsed:
    """Replay the points in order. `asked`: people's preferences; `people`: a baseline in the place of the model."""
    known = InMemoryHistory(asked=dict(asked or {}))
    passed: Counter[str] = Counter()
    alerts = []
    for point in history.points:
        shown = point if people is None else point._replace(people=tuple(people(point)), features={})
        now = point.prompt_ts + SECOND
        for each in decide(shown._replace(fresh=True), known, policy, now):
            if not isinstance(each, Alert):
                passed[each.reason] += 1
            elif not may_see(each.user, point.channel):
                passed["not_a_member"] += 1
            else:
                known.record_alert(each, now)
                alerts.append(_judged(each, now, history))
        known.record_point(point)
    directly = [each for each in alerts if each.alert.way == "direct"]
    covered = {
        key
        for each in directly
        if each.joined
        for conversation in each.alert.point.conversations
        if (key := (history.session_name(conversation), each.alert.user)) in history.joins
    }
    threshold = policy.threshold if people is None else None
    found = Rehearsed(name, threshold, alerts, passed, len(history.joins), len(covered), history.days())
    found.figures.update(_figures(found))
    return found


def _judged(alert: Alert, now: int, history: RehearsalHistory) -> RehearsedAlert:
    outcomes = history.by_id.get(alert.point.id, ())
    answered = None if not outcomes else any(alert.user in each.answer for each in outcomes)
    joined = (history.joins.get((history.session_name(each), alert.user)) for each in alert.point.conversations)
    return RehearsedAlert(alert, answered, any(at is not None and now - SECOND < at <= now + DAY for at in joined))


def _figures(found: Rehearsed) -> dict[str, float | int | None]:
    direct = found.direct
    known = [each.next for each in direct if each.next is not None]
    people = {each.alert.user for each in direct}
    return {
        "alerts": len(direct),
        "listed": len(found.alerts) - len(direct),
        "people": len(people),
        "joined": share(sum(each.joined for each in direct), len(direct)),
        "next": share(sum(map(bool, known)), len(known)),
        "announced": share(found.covered, found.joins),
        "per_person_per_day": share(len(direct), len(people) * found.days),
    }


def share(part: float, whole: float) -> float | None:
    """A ratio with 4 decimals; None if the whole is zero."""
    return round(part / whole, 4) if whole else None


def read_history(records: Iterable[tuple[str, bytes]], tombstones: Collection[bytes] = ()) -> tuple[RehearsalHistory, list[str]]:
    """Read predictions and outcomes from JSON records with their places. Returns them, and the places of records that are neither.

    `tombstones`: ids of predictions that are gone, filled in while the records are read.
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
    return RehearsalHistory(list(points.values()), outcomes), unreadable


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
    history: RehearsalHistory, policy: Policy, wanted: int, name: str, rule: Callable[[], Baseline], **how: Any
) -> Rehearsed:
    """Rehearse a baseline at the threshold at which it gives about `wanted` alerts, and no more than that if it can."""
    low, high = 0.0, 1.0
    best: Rehearsed | None = None
    for _ in range(MATCHING):
        middle = (low + high) / 2
        found = rehearse(history, replace(policy, threshold=middle, list_from=None), name=name, people=rule(), **how)
        if len(found.direct) > wanted:
            low = middle
        else:
            high, best = middle, found
    return best or found
