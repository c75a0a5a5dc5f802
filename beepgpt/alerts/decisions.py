"""Who is told of which conversation: the rules, over plain values. The time is an argument, and what is known is asked for.

A person is told if they asked for it, are likely enough to answer (or asked for the topic), and neither wrote in the conversation nor
muted its channel; once a message, once a session together with its threads, so often an hour and not in their quiet hours. What is less
likely, or comes when nothing more may, is listed in silence.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from beepgpt.conversations.events import micros, ts_text
from beepgpt.errors import BeepGPTError

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SUFFIX = "\n\n###\n\n"
SEPARATOR = "\n\n"
EXCERPT = 300
"""Characters of a message that are shown, at most."""

AlertRoute = Literal["direct", "list"]
AlertKind = Literal["answer", "topic"]
Quiet = tuple[int, int]
"""Minutes of the local day: from, to. Where they are the same, no hour is quiet."""
NEVER: Quiet = (0, 0)


class NoPrediction(BeepGPTError):
    """What should be a prediction is none; the message names the field."""


# What is asked for


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for everybody who says nothing else."""

    threshold: float
    """Told at once from here on."""
    list_from: float | None = None
    """Listed in silence from here on; None: not."""
    per_hour: int = 3
    quiet: Quiet = NEVER
    zone: str = "UTC"
    max_age: int = 10 * MINUTE
    """Microseconds after its newest message that somebody may still be told of a point."""
    opted_in: bool = False
    topic_from: float = 0.5
    """How close a text has to be to a topic that somebody asked for."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one person asked for; None: as the policy says."""

    opted_in: bool | None = None
    threshold: float | None = None
    per_hour: int | None = None
    quiet: Quiet | None = None
    zone: str | None = None
    muted: frozenset[str] = frozenset()


# What is predicted


class PredictedConversation(NamedTuple):
    """A prediction, as far as alerts need it."""

    id: str
    channel: str
    conversations: tuple[str, ...]
    prompt_ts: int
    window: tuple[tuple[int, str], ...]
    """Time and author of each message, oldest first."""
    prompt: str
    fresh: bool
    model: str
    people: tuple[tuple[str, float], ...]
    """Likeliest first."""
    facts: Mapping[str, Sequence[Any]]
    """The candidates' columns, where the prediction has them."""

    @property
    def author(self) -> str:
        """Of the newest message."""
        return self.window[-1][1]

    @property
    def message(self) -> int:
        """The newest message's time, which is its name in the channel."""
        return self.window[-1][0]

    @property
    def told_of(self) -> int:
        """When what is new happened: an edit's point is as old as its message."""
        return min(self.prompt_ts, self.message)


def read_point(value: Mapping[str, Any]) -> PredictedConversation:
    """A prediction as the scoring flow writes it. Raises NoPrediction."""
    try:
        window = tuple((micros(each["ts"]), str(each["user"])) for each in value["window"])
        if not window:
            raise NoPrediction("the window is empty")
        return PredictedConversation(
            id=str(value["id"]),
            channel=str(value["channel"]),
            conversations=tuple(map(str, value["conversations"])),
            prompt_ts=micros(value["prompt_ts"]),
            window=window,
            prompt=str(value["prompt"]),
            fresh=value.get("fresh", True) is True,
            model=str(value.get("model", "")),
            people=tuple((str(each["user"]), float(each["p"])) for each in value["people"]),
            facts=value.get("candidates") or {},
        )
    except NoPrediction:
        raise
    except KeyError as error:
        raise NoPrediction(f"it has no {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise NoPrediction(f"a field of it is of another kind ({type(error).__name__})") from error


def keys_of(point: PredictedConversation, session_of: Callable[[str], str | None]) -> tuple[str, ...]:
    """All by which a conversation counts as told of: itself, its session, the threads of the messages that are shown, and the message.

    Where a channel is one conversation, each hour of it counts as another.
    """
    keys = {f"{point.channel}:{point.message}": None}
    for each in point.conversations:
        if each.endswith(":channel"):
            keys[f"{each}:{point.message // HOUR}"] = None
            continue
        keys[each] = None
        if each.endswith(":thread") and (session := session_of(each)) is not None:
            keys[session] = None
    keys.update(dict.fromkeys(links_of(point)))
    return tuple(keys)


def is_root_alone(point: PredictedConversation) -> bool:
    """Whether this is the own thread of a root that stands in a session begun before, and nobody replied.

    The session has a point of its own for the same message. Who replies first in a thread is learned from threads that have a reply: those
    without are their session's silence (*merged*), so chances are far too high here.
    """
    own = f"{point.channel}:{ts_text(point.message)}:thread"
    return point.conversations == (own,) and len(point.window) == 1


def links_of(point: PredictedConversation) -> dict[str, str]:
    """The threads of which a session's window shows the roots, and that session."""
    links = {}
    for session in point.conversations:
        if session.endswith(":session"):
            for ts, _ in point.window:
                links[f"{point.channel}:{ts // SECOND}.{ts % SECOND:06d}:thread"] = session
    return links


# The rules


class AlertVerdict(NamedTuple):
    """Whether and how somebody is told, and what decided it."""

    way: AlertRoute | None
    reason: str


class AlertHistory(Protocol):
    """What has to be remembered between points."""

    def wishes(self, user: str) -> Wishes: ...
    def topics(self) -> Collection[tuple[str, str]]: ...
    def took_part(self, user: str, conversations: Sequence[str]) -> bool: ...
    def session_of(self, thread: str) -> str | None: ...
    def was_told(self, user: str, keys: Sequence[str]) -> bool: ...
    def told_directly(self, user: str, since: int) -> int: ...
    def is_deleted(self, channel: str, ts: int) -> bool: ...


def may_be_told(user: str, point: PredictedConversation, wishes: Wishes, policy: Policy) -> str:
    """Why somebody is never told of a point, however likely they are; empty if they may be."""
    if not (policy.opted_in if wishes.opted_in is None else wishes.opted_in):
        return "not_opted_in"
    if user == point.author:
        return "author"
    if any(user == each for _, each in point.window):
        return "participant"
    if point.channel in wishes.muted:
        return "muted"
    return ""


def how_told(user: str, p: float, wishes: Wishes, policy: Policy, told: int, now: int) -> AlertVerdict:
    """At once or in silence, for somebody who may be told and was told `told` times within the hour before `now`."""
    threshold = policy.threshold if wishes.threshold is None else wishes.threshold
    if p < threshold:
        if policy.list_from is None or p < policy.list_from:
            return AlertVerdict(None, "unlikely")
        return AlertVerdict("list", "less_likely")
    if is_quiet(now, policy.quiet if wishes.quiet is None else wishes.quiet, wishes.zone or policy.zone):
        return AlertVerdict("list", "quiet_hours")
    if told >= (policy.per_hour if wishes.per_hour is None else wishes.per_hour):
        return AlertVerdict("list", "hourly_limit")
    return AlertVerdict("direct", "likely")


def judge(
    user: str, p: float, point: PredictedConversation, keys: Sequence[str], known: AlertHistory, policy: Policy, now: int
) -> AlertVerdict:
    """What becomes of one person and one point. Being a member is asked for last, by whoever sends."""
    wishes = known.wishes(user)
    if refused := may_be_told(user, point, wishes, policy):
        return AlertVerdict(None, refused)
    if known.took_part(user, (*point.conversations, *keys)):
        return AlertVerdict(None, "participant")
    verdict = how_told(user, p, wishes, policy, known.told_directly(user, now - HOUR), now)
    if verdict.way is not None and known.was_told(user, keys):
        return AlertVerdict(None, "told_before")
    return verdict


class Alert(NamedTuple):
    """Somebody to tell, and why."""

    id: str
    user: str
    kind: AlertKind
    way: AlertRoute
    reason: str
    p: float
    why: str
    point: PredictedConversation
    keys: tuple[str, ...]


class Passed(NamedTuple):
    """Somebody who was likely enough and is not told, and what decided it."""

    user: str
    reason: str


Closeness = Callable[[str, str], float]
"""Of a text to what was asked for in words, from 0 to 1."""


def alerts_of(
    point: PredictedConversation, known: AlertHistory, policy: Policy, now: int, closeness: Closeness | None = None
) -> Iterator[Alert | Passed]:
    """Who is told of a point at `now`; whoever is likely enough and isn't told comes with the reason.

    What comes of it is to be remembered before the next is asked for: a person stands here twice if they asked for the topic, too.
    """
    stale = "" if point.fresh else "not_fresh"
    stale = stale or ("too_old" if now - point.told_of > policy.max_age else "")
    stale = stale or ("deleted" if any(known.is_deleted(point.channel, ts) for ts, _ in point.window) else "")
    stale = stale or ("root_alone" if is_root_alone(point) else "")
    if stale:
        yield Passed("", stale)
        return
    keys = keys_of(point, known.session_of)
    least = policy.threshold if policy.list_from is None else min(policy.threshold, policy.list_from)
    for user, p in point.people:
        verdict = judge(user, p, point, keys, known, policy, now)
        if verdict.way is not None:
            yield Alert(alert_id(user, "answer", point), user, "answer", verdict.way, verdict.reason, p, why(point, user, p), point, keys)
        elif p >= least and verdict.reason != "not_opted_in":
            yield Passed(user, verdict.reason)
    if closeness is None:
        return
    text = newest_text(point.prompt)
    for user, words in known.topics():
        close = closeness(words, text)
        if close < policy.topic_from:
            continue
        # What somebody asked for in words is as good as likely: their threshold is about guesses.
        verdict = judge(user, 1.0, point, keys, known, policy, now)
        if verdict.way is not None:
            told = f"You asked to be told about “{shortened(words, 80)}”"
            yield Alert(alert_id(user, "topic", point), user, "topic", verdict.way, verdict.reason, close, told, point, keys)
        elif verdict.reason != "not_opted_in":
            yield Passed(user, verdict.reason)


def alert_id(user: str, kind: AlertKind, point: PredictedConversation) -> str:
    """The same for the same person and point, however often it is come by.

    >>> point = read_point({"id": "1", "channel": "C", "conversations": [], "prompt_ts": "1700000000.0",
    ...     "window": [{"ts": "1700000000.0", "user": "ana"}], "prompt": "", "people": []})
    >>> alert_id("bo", "answer", point)
    '5d6926412b7afe70f88c9b38776fc343'
    """
    return hashlib.sha256("\n".join((user, kind, point.id)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def is_quiet(now: int, quiet: Quiet, zone: str) -> bool:
    """Whether it is in somebody's quiet hours, where they are; a time zone that isn't known is UTC.

    >>> at_ten_to_seven = 1_700_031_000_000_000
    >>> is_quiet(at_ten_to_seven, (22 * 60, 7 * 60), "UTC"), is_quiet(at_ten_to_seven, (22 * 60, 7 * 60), "Asia/Tokyo")
    (True, False)
    """
    begin, end = quiet
    minute = local_minute(now, zone)
    return begin <= minute < end if begin <= end else minute >= begin or minute < end


def local_time(now: int, zone: str) -> datetime:
    """The time where somebody is."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now)
    return moment.astimezone(_zone(zone) or UTC)


def local_minute(now: int, zone: str) -> int:
    """Minutes since midnight, where somebody is."""
    local = local_time(now, zone)
    return local.hour * 60 + local.minute


# In words


def why(point: PredictedConversation, user: str, p: float) -> str:
    """In one line: how likely, and what the model saw that speaks for it."""
    facts = _facts_of(point, user)
    reasons = []
    if (share := facts.get("share_30d", 0.0)) >= 0.05:
        reasons.append(f"{share:.0%} of this channel's recent answers are yours")
    if facts.get("to_author", 0.0) >= 1:
        reasons.append(f"you have answered this author about {round(facts['to_author'])} times")
    if facts.get("first_60d", 0.0) >= 1:
        reasons.append("you are often the first to answer here")
    if facts.get("closeness", 0.0) >= 0.15:
        reasons.append("it is in words that you have answered before")
    if not reasons and point.people:
        place = next((place for place, (each, _) in enumerate(point.people, 1) if each == user), 0)
        reasons.append(f"the likeliest of {len(point.people)} people" if place == 1 else f"place {place} of {len(point.people)} people")
    return f"{p:.0%} likely that you answer: {', '.join(reasons[:2])}"


def _facts_of(point: PredictedConversation, user: str) -> dict[str, float]:
    users = list(point.facts.get("user", ()))
    if user not in users:
        return {}
    row = users.index(user)
    return {name: values[row] for name, values in point.facts.items() if name != "user" and isinstance(values[row], int | float)}


def newest_text(prompt: str) -> str:
    """The last message of a prompt.

    >>> newest_text("Is it red?\\n\\nNot any more\\n\\n###\\n\\n")
    'Not any more'
    """
    return prompt.removesuffix(SUFFIX).rpartition(SEPARATOR)[2]


def texts_of(point: PredictedConversation) -> dict[int, str]:
    """What each message of the window says, by its time; nothing where the prompt leaves one out, since it doesn't say which."""
    texts = point.prompt.removesuffix(SUFFIX).split(SEPARATOR)
    return dict(zip((ts for ts, _ in point.window), texts, strict=True)) if len(texts) == len(point.window) else {}


def shortened(text: str, most: int = EXCERPT) -> str:
    """At most so many characters, cut at a word where there is one.

    >>> shortened("one two three", 9)
    'one two …'
    """
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    words = cut.rpartition(" ")[0]
    return (words if len(words) > most // 2 else cut).rstrip() + (" …" if len(words) > most // 2 else "…")


# A memory without a database: for rehearsals, and for tests


@dataclass
class InMemoryHistory:
    """All that has to be remembered, in plain dictionaries."""

    asked: dict[str, Wishes] = field(default_factory=dict)
    asked_topics: list[tuple[str, str]] = field(default_factory=list)
    speakers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    sessions: dict[str, str] = field(default_factory=dict)
    told: set[tuple[str, str]] = field(default_factory=set)
    directly: dict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    deleted: set[tuple[str, int]] = field(default_factory=set)

    def wishes(self, user: str) -> Wishes:
        """What they asked for."""
        return self.asked.get(user, _NOTHING_ASKED)

    def topics(self) -> Collection[tuple[str, str]]:
        """Who asked for what in words."""
        return self.asked_topics

    def took_part(self, user: str, conversations: Sequence[str]) -> bool:
        """Whether they were seen to write there."""
        return any(user in self.speakers.get(each, ()) for each in conversations)

    def session_of(self, thread: str) -> str | None:
        """Where a thread's root stands."""
        return self.sessions.get(thread)

    def was_told(self, user: str, keys: Sequence[str]) -> bool:
        """Whether they were told of any of it."""
        return any((user, key) in self.told for key in keys)

    def told_directly(self, user: str, since: int) -> int:
        """How often they were told at once, after `since`."""
        times = self.directly[user]
        while times and times[0] <= since:
            times.popleft()
        return len(times)

    def is_deleted(self, channel: str, ts: int) -> bool:
        """Whether a message is gone."""
        return (channel, ts) in self.deleted

    def see(self, point: PredictedConversation) -> None:
        """Who wrote where, once what is decided on the point is decided."""
        for each in point.conversations:
            self.speakers[each].update(user for _, user in point.window)
        self.sessions.update(links_of(point))

    def tell(self, alert: Alert, now: int) -> None:
        """That somebody is told."""
        self.told.update((alert.user, key) for key in alert.keys)
        if alert.way == "direct":
            self.directly[alert.user].append(now)


_NOTHING_ASKED = Wishes()
