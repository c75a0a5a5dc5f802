"""What people would have been told, and how often rightly: predictions and outcomes of the past, gone through by the rules.

The rules are those that hold live; the time is each point's own, as if it had been scored at once. What happened later is looked at only
to judge an alert, never to give one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from beepgpt.alerts.decisions import DAY, SECOND, Alert, InMemoryHistory, Policy, PredictedConversation, Wishes, alerts_of, links_of
from beepgpt.conversations.events import micros

MAY_SEE = Callable[[str, str], bool]
"""Whether a person may see a channel."""
MATCHING = 12
"""Halvings in which a baseline's threshold is looked for."""


class PastOutcome(NamedTuple):
    """What happened after a point."""

    id: str
    conversation: str
    answer: tuple[str, ...]
    answer_ts: int | None
    settled_ts: int


def read_outcome(value: Mapping[str, Any]) -> PastOutcome:
    """As the scoring flow writes it. Raises KeyError, TypeError or ValueError."""
    answered = value.get("answer_ts")
    settled = value.get("settled_ts") or answered or value["prompt_ts"]
    answer = tuple(map(str, value["answer"]))
    return PastOutcome(
        str(value["id"]), str(value.get("conversation", "")), answer, None if answered is None else micros(answered), micros(settled)
    )


class RehearsalHistory:
    """What happened, put together so that alerts can be judged."""

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
                    key = (self.family(each), user)
                    self._spoke[key] = min(ts, self._spoke.get(key, ts))
        self.joins: dict[tuple[str, str], int] = {}
        """When somebody who had not spoken in a session and its threads answered there first."""
        for outcome in self.outcomes:
            if outcome.answer_ts is not None:
                for user in outcome.answer:
                    key = (self.family(outcome.conversation), user)
                    if self._spoke.get(key, outcome.answer_ts) >= outcome.answer_ts:
                        self.joins[key] = min(outcome.answer_ts, self.joins.get(key, outcome.answer_ts))

    def family(self, conversation: str) -> str:
        """A session together with its threads: the session's name, where it is known."""
        return self._session_of.get(conversation, conversation)

    def days(self) -> float:
        """How long it lasts."""
        return max((self.points[-1].prompt_ts - self.points[0].prompt_ts) / DAY, 1 / 24) if self.points else 0.0


@dataclass(frozen=True, slots=True)
class RehearsedAlert:
    """An alert that would have been given, and what came of it."""

    alert: Alert
    next: bool | None
    """Whether they were the next to answer; None: it isn't known."""
    joined: bool
    """Whether they first took part in that conversation, or its session and threads, within a day after."""


@dataclass(frozen=True)
class Rehearsed:
    """All of them under one policy."""

    name: str
    threshold: float | None
    given: list[RehearsedAlert]
    passed: Counter[str]
    joins: int
    announced: int
    days: float
    figures: dict[str, float | int | None] = field(default_factory=dict)

    @property
    def direct(self) -> list[RehearsedAlert]:
        """Those told at once."""
        return [each for each in self.given if each.alert.way == "direct"]


Rename = Callable[[PredictedConversation], Sequence[tuple[str, float]]]
"""Who is named in the place of a model's people, likeliest first."""


def rehearse(
    history: RehearsalHistory,
    policy: Policy,
    *,
    name: str = "the model",
    asked: Mapping[str, Wishes] | None = None,
    people: Rename | None = None,
    may_see: MAY_SEE = lambda user, channel: True,
) -> Rehearsed:
    """The alerts that would have been given, in order. `asked`: what people asked for; `people`: who is named, if not by the model."""
    memory = InMemoryHistory(asked=dict(asked or {}))
    passed: Counter[str] = Counter()
    given = []
    for point in history.points:
        shown = point if people is None else point._replace(people=tuple(people(point)), facts={})
        now = point.prompt_ts + SECOND
        for each in alerts_of(shown._replace(fresh=True), memory, policy, now):
            if not isinstance(each, Alert):
                passed[each.reason] += 1
            elif not may_see(each.user, point.channel):
                passed["not_a_member"] += 1
            else:
                memory.tell(each, now)
                given.append(_judged(each, now, history))
        memory.see(point)
    directly = [each for each in given if each.alert.way == "direct"]
    announced = {
        key
        for each in directly
        if each.joined
        for conversation in each.alert.point.conversations
        if (key := (history.family(conversation), each.alert.user)) in history.joins
    }
    threshold = policy.threshold if people is None else None
    told = Rehearsed(name, threshold, given, passed, len(history.joins), len(announced), history.days())
    told.figures.update(_figures(told))
    return told


def _judged(alert: Alert, now: int, history: RehearsalHistory) -> RehearsedAlert:
    outcomes = history.by_id.get(alert.point.id, ())
    answered = None if not outcomes else any(alert.user in each.answer for each in outcomes)
    joined = (history.joins.get((history.family(each), alert.user)) for each in alert.point.conversations)
    return RehearsedAlert(alert, answered, any(at is not None and now - SECOND < at <= now + DAY for at in joined))


def _figures(told: Rehearsed) -> dict[str, float | int | None]:
    direct = told.direct
    known = [each.next for each in direct if each.next is not None]
    people = {each.alert.user for each in direct}
    return {
        "alerts": len(direct),
        "listed": len(told.given) - len(direct),
        "people": len(people),
        "joined": share(sum(each.joined for each in direct), len(direct)),
        "next": share(sum(map(bool, known)), len(known)),
        "announced": share(told.announced, told.joins),
        "per_person_per_day": share(len(direct), len(people) * told.days),
    }


def share(some: float, all_of_it: float) -> float | None:
    """A part, rounded; None of nothing."""
    return round(some / all_of_it, 4) if all_of_it else None


# Baselines: one person for each point, who has not spoken in its window


def latest_other_author() -> Rename:
    """Whoever wrote last in the channel and isn't in the window; the later, the likelier."""
    wrote: dict[str, dict[str, int]] = defaultdict(dict)

    def named(point: PredictedConversation) -> list[tuple[str, float]]:
        here = wrote[point.channel]
        inside = {user for _, user in point.window}
        others = [(ts, user) for user, ts in here.items() if user not in inside]
        for ts, user in point.window:
            here[user] = max(ts, here.get(user, 0))
        if not others:
            return []
        ts, user = max(others)
        return [(user, 1.0 / (1.0 + max(point.prompt_ts - ts, 0) / (3600 * SECOND)))]

    return named


def most_frequent(history: RehearsalHistory) -> Rename:
    """Whoever answered most in the channel so far and isn't in the window, by their share of its answers."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    settled = iter([each for each in history.outcomes if each.answer])
    waiting: list[PastOutcome] = []

    def named(point: PredictedConversation) -> list[tuple[str, float]]:
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

    return named


def matched(history: RehearsalHistory, policy: Policy, wanted: int, name: str, rule: Callable[[], Rename], **how: Any) -> Rehearsed:
    """A baseline at the threshold at which it gives about as many alerts as the model does, and no more if that can be."""
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
