"""The rules: who is alerted to which conversation. Plain functions of values; the time is an argument, and history is a Protocol.

A person is alerted if they opted in, are likely enough to answer (or asked for the topic), and neither wrote in the conversation nor muted
its channel: once a message, and once a session together with its threads. A direct message is sent at most so many times an hour, and
never in the person's quiet hours. Alerts that are less likely, or over those limits, are listed in App Home only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from beepgpt.alerts.predictions import PredictedConversation, is_root_alone, keys_of, newest_text, shortened
from beepgpt.conversations.rules import HOUR, MINUTE
from beepgpt.figures import percent

AlertRoute = Literal["direct", "list"]
"""`direct`: a direct message; `list`: shown in App Home or a daily digest, without a notification."""
OF_POINTS = ("not_fresh", "too_old", "deleted", "root_alone")
"""Reasons for which nobody is alerted to a point, whoever they are: it is counted, and no person."""
AlertKind = Literal["answer", "topic"]
"""Why somebody is alerted: they are likely to answer, or asked for the topic."""
QuietHours = tuple[int, int]
"""Minutes of the local day: from, to. Where both are the same, no hour is quiet."""
NO_QUIET_HOURS: QuietHours = (0, 0)


# Policy and preferences


@dataclass(frozen=True, slots=True)
class Policy:
    """The defaults, for everybody who set no preference of their own."""

    threshold: float
    """The least probability for a direct message."""
    list_from: float | None = None
    """The least probability for the list; None: less likely alerts are dropped."""
    per_hour: int = 3
    """Direct messages to one person within an hour, at most."""
    quiet: QuietHours = NO_QUIET_HOURS
    zone: str = "UTC"
    max_age: int = 10 * MINUTE
    """Microseconds after its newest message for which a point may still cause alerts."""
    opted_in: bool = False
    not_before: int = 0
    """Points whose newest message is older are too old, microseconds: who was alerted to them is not known."""
    topic_from: float = 0.5
    """The least closeness of a text to a topic that somebody asked for."""
    session_gap: int = 10 * MINUTE
    """Microseconds of silence after which a channel's session is over: as the points were made."""
    thresholds: Callable[[str], float] | None = None
    """The threshold of each model's predictions, by its name; None: `threshold` holds for all."""

    def of(self, model: str) -> Policy:
        """The policy for predictions of a model."""
        return self if self.thresholds is None else replace(self, threshold=self.thresholds(model))

    @property
    def least(self) -> float:
        """The least probability that alerts anybody, by a message or in the list."""
        return self.threshold if self.list_from is None else min(self.threshold, self.list_from)


@dataclass(frozen=True, slots=True)
class Preferences:
    """One person's preferences; None: as the policy says."""

    opted_in: bool | None = None
    threshold: float | None = None
    per_hour: int | None = None
    quiet: QuietHours | None = None
    zone: str | None = None
    muted: frozenset[str] = frozenset()


class VerdictHistory(Protocol):
    """What the rules need to know of preferences and of earlier points, for a person and a point whose keys are known."""

    def preferences(self, user: str) -> Preferences: ...
    def took_part(self, user: str, conversations: Sequence[str], session_gap: int) -> bool: ...
    def was_alerted(self, user: str, keys: Sequence[str]) -> bool: ...
    def direct_alerts(self, user: str, since: int) -> int: ...
    def is_deleted(self, channel: str, ts: int) -> bool: ...


class AlertHistory(VerdictHistory, Protocol):
    """And for all who are alerted to a point."""

    def topics(self) -> Collection[tuple[str, str]]: ...
    def session_of(self, thread: str) -> str | None: ...


# The rules


class AlertVerdict(NamedTuple):
    """How somebody is alerted (None: not at all), and the rule that decided it."""

    route: AlertRoute | None
    reason: str


class Alert(NamedTuple):
    """A decision to alert a person to a point."""

    id: str
    user: str
    kind: AlertKind
    way: AlertRoute
    reason: str
    p: float
    """The probability that they answer; for a topic, its closeness."""
    why: str
    """The explanation that the person sees, one line."""
    point: PredictedConversation
    keys: tuple[str, ...]


class PassedOver(NamedTuple):
    """A person who was likely enough and is not alerted (empty: nobody is), and the rule that decided it."""

    user: str
    reason: str


Closeness = Callable[[str, str], float]
"""How close a text (second) is to a topic in words (first), from 0 to 1."""


def decide(
    point: PredictedConversation, history: AlertHistory, policy: Policy, now: int, closeness: Closeness | None = None
) -> Iterator[Alert | PassedOver]:
    """Decide who is alerted to a point at `now`, and yield who was likely enough and is not, with the reason.

    The caller records each alert in the history before taking the next: a person comes twice if they asked for the topic, too.
    """
    if reason := stale_reason(point, history, policy, now):
        yield PassedOver("", reason)
        return
    keys = keys_of(point, history.session_of)
    policy = policy.of(point.model)
    least = policy.least
    for user, p in point.people:
        if p < least and ((own := history.preferences(user).threshold) is None or p < own):
            continue  # most candidates: whatever the other rules say, nothing comes of them
        verdict = verdict_for(user, p, point, keys, history, policy, now)
        if verdict.route is not None:
            why = explanation(point, user, p)
            yield Alert(alert_id(user, "answer", point), user, "answer", verdict.route, verdict.reason, p, why, point, keys)
        elif p >= least and verdict.reason != "not_opted_in":
            yield PassedOver(user, verdict.reason)
    if closeness is None:
        return
    text = newest_text(point.prompt)
    for user, words in history.topics():
        close = closeness(words, text)
        if close < policy.topic_from:
            continue
        # A topic that somebody asked for counts as certain: their threshold is about predictions.
        verdict = verdict_for(user, 1.0, point, keys, history, policy, now)
        if verdict.route is not None:
            why = f"You asked to be told about “{shortened(words, 80)}”"
            yield Alert(alert_id(user, "topic", point), user, "topic", verdict.route, verdict.reason, close, why, point, keys)
        elif verdict.reason != "not_opted_in":
            yield PassedOver(user, verdict.reason)


def stale_reason(point: PredictedConversation, history: VerdictHistory, policy: Policy, now: int) -> str:
    """Why nobody is alerted to a point; empty if somebody may be."""
    if not point.fresh:
        return "not_fresh"
    if now - point.newest_at > policy.max_age or point.newest_at < policy.not_before:
        return "too_old"
    if any(history.is_deleted(point.channel, ts) for ts, _ in point.window):
        return "deleted"
    return "root_alone" if is_root_alone(point) else ""


def verdict_for(
    user: str, p: float, point: PredictedConversation, keys: Sequence[str], history: VerdictHistory, policy: Policy, now: int
) -> AlertVerdict:
    """Apply the rules to one person and one point. Membership in the channel is checked later, just before delivery."""
    if refused := exclusion_reason(user, point, keys, history, policy):
        return AlertVerdict(None, refused)
    is_quiet = in_quiet_hours(now, history.preferences(user), policy)
    return verdict_unless_excluded(user, p, keys, history, policy, now, is_quiet=is_quiet)


def verdict_unless_excluded(
    user: str, p: float, keys: Sequence[str], history: VerdictHistory, policy: Policy, now: int, *, is_quiet: bool
) -> AlertVerdict:
    """Apply the rules that hang on how likely a person is and on earlier alerts. `is_quiet`: whether `now` is in their quiet hours."""
    verdict = route_for(p, history.preferences(user), policy, history.direct_alerts(user, now - HOUR), is_quiet=is_quiet)
    if verdict.route is not None and history.was_alerted(user, keys):
        return AlertVerdict(None, "told_before")
    return verdict


def exclusion_reason(user: str, point: PredictedConversation, keys: Sequence[str], history: VerdictHistory, policy: Policy) -> str:
    """Why a person is never alerted to a point, however likely they are; empty if they may be.

    `keys`: the conversations, and what counts as one with them, in which the person must not have written.
    """
    preferences = history.preferences(user)
    if not (policy.opted_in if preferences.opted_in is None else preferences.opted_in):
        return "not_opted_in"
    if user == point.author:
        return "author"
    if any(user == each for _, each in point.window) or history.took_part(user, keys, policy.session_gap):
        return "participant"
    if point.channel in preferences.muted:
        return "muted"
    return ""


def route_for(p: float, preferences: Preferences, policy: Policy, sent: int, *, is_quiet: bool) -> AlertVerdict:
    """Choose direct message, list or nothing, for somebody who got `sent` direct messages within an hour."""
    threshold = policy.threshold if preferences.threshold is None else preferences.threshold
    if p < threshold:
        if policy.list_from is None or p < policy.list_from:
            return AlertVerdict(None, "unlikely")
        return AlertVerdict("list", "less_likely")
    if is_quiet:
        return AlertVerdict("list", "quiet_hours")
    if sent >= (policy.per_hour if preferences.per_hour is None else preferences.per_hour):
        return AlertVerdict("list", "hourly_limit")
    return AlertVerdict("direct", "likely")


def alert_id(user: str, kind: AlertKind, point: PredictedConversation) -> str:
    """A deterministic id: the same for the same person, kind and point, in every run.

    >>> from beepgpt.alerts.predictions import read_prediction
    >>> point = read_prediction({"id": "1", "channel": "C", "conversations": [], "prompt_ts": "1700000000.0",
    ...     "window": [{"ts": "1700000000.0", "user": "ana"}], "prompt": "", "people": []})
    >>> alert_id("bo", "answer", point)
    '5d6926412b7afe70f88c9b38776fc343'
    """
    return hashlib.sha256("\n".join((user, kind, point.id)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


# Local time


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def in_quiet_hours(now: int, preferences: Preferences, policy: Policy) -> bool:
    """Whether `now` is within a person's quiet hours: their own, or the policy's."""
    return is_quiet(now, policy.quiet if preferences.quiet is None else preferences.quiet, preferences.zone or policy.zone)


def is_quiet(now: int, quiet: QuietHours, zone: str) -> bool:
    """Whether `now` (microseconds) is within quiet hours in a time zone; an unknown zone counts as UTC.

    >>> at_ten_to_seven = 1_700_031_000_000_000
    >>> is_quiet(at_ten_to_seven, (22 * 60, 7 * 60), "UTC"), is_quiet(at_ten_to_seven, (22 * 60, 7 * 60), "Asia/Tokyo")
    (True, False)
    """
    begin, end = quiet
    if begin == end:
        return False
    minute = local_minute(now, zone)
    return begin <= minute < end if begin <= end else minute >= begin or minute < end


def local_time(now: int, zone: str) -> datetime:
    """`now` (microseconds) in a time zone; an unknown zone counts as UTC."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now)
    return moment.astimezone(_zone(zone) or UTC)


def local_minute(now: int, zone: str) -> int:
    """Minutes since midnight in a time zone."""
    local = local_time(now, zone)
    return local.hour * 60 + local.minute


# The explanation in an alert


def explanation(point: PredictedConversation, user: str, p: float) -> str:
    """One line: how likely the person is to answer, and the features that speak for it."""
    features = _features_of(point, user)
    reasons = []
    if (share := features.get("share_30d", 0.0)) >= 0.05:
        reasons.append(f"{percent(share)} of this channel's recent answers are yours")
    if features.get("to_author", 0.0) >= 1:
        reasons.append(f"you have answered this author about {round(features['to_author'])} times")
    if features.get("first_60d", 0.0) >= 1:
        reasons.append("you are often the first to answer here")
    if features.get("closeness", 0.0) >= 0.15:
        reasons.append("it is in words that you have answered before")
    if not reasons and point.people:
        place = next((place for place, (each, _) in enumerate(point.people, 1) if each == user), 0)
        reasons.append(
            f"the likeliest of {len(point.people)} who may answer" if place == 1 else f"place {place} of {len(point.people)} who may answer"
        )
    return f"{percent(p)} likely that you answer: {', '.join(reasons[:2])}"


def _features_of(point: PredictedConversation, user: str) -> dict[str, float]:
    users = list(point.features.get("user", ()))
    if user not in users:
        return {}
    row = users.index(user)
    return {name: values[row] for name, values in point.features.items() if name != "user" and isinstance(values[row], int | float)}
