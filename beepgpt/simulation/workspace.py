"""A made-up workspace of any size: its live stream, its export, and who would have answered what."""

from __future__ import annotations

import json
import zipfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import accumulate, chain
from json.encoder import encode_basestring_ascii as quoted
from math import isqrt
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from beepgpt.simulation import words

T = TypeVar("T")

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR

TOPICS = tuple(words.TOPICS)

# Random.seed, .random and .getrandbits give the same on every machine. Of the arithmetic, only what IEEE 754 makes exact is used:
# no log, exp or pow, whose last bits differ between C libraries, and no sum() of floats, which Python 3.12 made more exact.
# So distributions are tables of evenly spaced quantiles.
Quantiles = tuple[float, ...]
EXPONENTIAL: Quantiles = (0, 0.06, 0.13, 0.21, 0.29, 0.37, 0.47, 0.57, 0.69, 0.83, 0.98, 1.16, 1.39, 1.67, 2.08, 2.77, 5.5)
SESSION_GAP: Quantiles = (3, 10, 20, 40, 75, 130, 220, 360, 590)
FIRST_REPLY: Quantiles = (8, 30, 60, 110, 200, 400, 900, 2400, 6000)
NEXT_REPLY: Quantiles = (4, 12, 25, 50, 90, 180, 400, 1200, 4000)
EDIT_DELAY: Quantiles = (2, 8, 15, 30, 60, 150, 600, 3600, 40000)
REACTION_DELAY: Quantiles = (2, 10, 30, 80, 200, 600, 2500, 9000, 60000)

SESSION_GOES_ON = 0.55
THREAD_STARTS = {"question": 0.6, "remark": 0.25}
THREAD_GOES_ON = 0.66
LONGEST_THREAD = 20
NEXT_DAY = 0.06
"""Share of replies that come a day or two later."""
BURST = 4.8
"""Posts by people in one session and its threads, on average."""

HABIT = 0.6
"""How often it is one of the last speakers who answers, if there are others than the author."""
PLACES = (0.7, 0.2, 0.1)
"""Which of them, newest first."""
KNOWS = (1.0, 0.5, 0.25)
KNOWS_LITTLE = 0.03
OFF_TOPIC = 0.1

# Hours of a working day, in the person's time zone.
BY_HOUR = (1, 1, 1, 1, 1, 2, 5, 15, 50, 90, 100, 95, 60, 80, 95, 90, 80, 55, 30, 20, 15, 10, 5, 2)
WEEKEND = 0.08
OFFICES = (
    ("America/New_York", "Eastern Standard Time", -5, 6),
    ("America/Los_Angeles", "Pacific Standard Time", -8, 3),
    ("Europe/Berlin", "Central European Time", 1, 3),
    ("Europe/London", "Greenwich Mean Time", 0, 2),
    ("Asia/Tokyo", "Japan Standard Time", 9, 1),
)
OFFICE_SEATS = tuple(office for office in OFFICES for _ in range(office[3]))

POSTED = ("", "thread_broadcast", "me_message", "file_share")
BOT_FORMS = ("bot_message", "app", "slackbot")
KIND_OF_FORM = {
    **dict.fromkeys(POSTED, "post"),
    **dict.fromkeys(BOT_FORMS, "bot"),
    "no_author": "no_author",
    "channel_join": "join",
    "channel_topic": "topic",
}
EVENT_KINDS = ("post", "edit", "delete", "react")
"""Kinds of `planted` that become events; the others of a history are `bot`, `no_author`, `join`, `topic` and `unfurl`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to make up; shares are of posts by people unless they say otherwise, and 0 leaves a thing out."""

    seed: int = 0
    messages: int = 10_000
    """Posts by people, exactly."""
    days: float = 30.0
    start: int | datetime = datetime(2024, 1, 1, tzinfo=UTC)
    """Microseconds since 1970, or an aware datetime."""
    channels: int = 20
    people: int = 60

    edits: float = 0.06
    deletions: float = 0.02
    reactions: float = 0.15
    """Reactions for each post, on average."""
    unfurls: float = 0.7
    """Share of posts with a link that Slack unfurls."""
    bots: float = 0.05
    no_author: float = 0.02
    joins: float = 0.02
    """Joins and topic changes."""
    broadcasts: float = 0.03
    """Share of replies that are sent to the channel, too."""
    files: float = 0.02
    me: float = 0.003
    links: float = 0.05
    code: float = 0.03
    mentions: float = 0.05
    private: float = 0.15
    """Share of channels."""
    blocks: bool = False
    """Whether messages carry their text again as rich text, as most of Slack's do."""

    duplicates: float = 0.01
    """Share of events that arrive twice."""
    disorder: float = 2.0
    """Seconds by which a record's arrival is put off, at most; not over `lateness`, so that nothing is late by it."""
    too_late: float = 0.0005
    """Share of records that arrive 2 to 20 minutes after their time."""
    broken: float = 0.001
    """Broken records for each record."""
    heartbeat_every: float | None = None
    """Seconds; beware, a year of seconds is 31 million records."""
    lateness: float = 5.0

    time_zone: str = "America/New_York"
    """By whose midnights the export's day files are cut."""

    def __post_init__(self) -> None:
        """Refuse what can't be made."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and value < 0 and each.name not in ("seed", "start"):
                raise ValueError(f"{each.name} must not be negative: {value}")
        if not (1 <= self.channels <= 1 << 20 and 1 <= self.people <= 1 << 20 and self.days > 0):
            raise ValueError("channels and people must be from 1 to 1,048,576, and days more than 0")
        if self.disorder > self.lateness:
            raise ValueError(f"disorder must not be over lateness: {self.disorder} > {self.lateness}")
        if self.heartbeat_every == 0:
            raise ValueError("heartbeat_every must be None or more than 0")

    @property
    def start_us(self) -> int:
        """The start in microseconds since 1970."""
        if isinstance(self.start, int):
            return self.start
        if self.start.tzinfo is None:
            raise ValueError("start must be an aware datetime")
        since = self.start - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86400 + since.seconds) * SECOND + since.microseconds

    @property
    def end_us(self) -> int:
        """The end in microseconds since 1970; everything happens before it."""
        return self.start_us + int(self.days * DAY)


def unchanged(plan: Plan) -> Plan:
    """The same conversations without edits, deletions, reactions and unfurls: its export tells all that the live stream does."""
    return replace(plan, edits=0.0, deletions=0.0, reactions=0.0, unfurls=0.0)


def undisturbed(plan: Plan) -> Plan:
    """The same history, delivered in order, once, and whole."""
    return replace(plan, duplicates=0.0, disorder=0.0, too_late=0.0, broken=0.0)


@dataclass(frozen=True, slots=True)
class Truth:
    """Who would post next after `ts` in its conversation, if anybody but the author does: the ten likeliest, likeliest first."""

    channel: str
    ts: str
    topic: str
    responders: tuple[tuple[str, float], ...]


def live_records(plan: Plan, planted: Counter[str] | None = None) -> Iterator[bytes]:
    """Kafka values in order of arrival, as Slack's Events API would have sent them.

    >>> records = list(live_records(undisturbed(Plan(messages=1, bots=0, no_author=0, joins=0))))
    >>> len(records), json.loads(records[0])["event"]["type"]
    (1, 'message')
    """
    return (value for _, value in keyed_records(plan, planted))


def keyed_records(plan: Plan, planted: Counter[str] | None = None) -> Iterator[tuple[str | None, bytes]]:
    """Kafka keys and values in order of arrival; a heartbeat has no key and belongs in every partition.

    `planted` counts what was made. `records` is the sum of `post`, `edit`, `delete`, `react`, `unfurl`, `bot`, `no_author`,
    `join`, `topic`, `duplicate`, `broken` and `heartbeat`; `root`, `reply`, `broadcast`, `file`, `private`, `tombstone`,
    `unreact`, `delayed`, `late` and `broken: …` are among them. `late` is what the channels' clocks call so.
    """
    world = _World(plan)
    return _deliver(world, _records(world), Counter() if planted is None else planted)


def truth(plan: Plan) -> Iterator[Truth]:
    """For each post by a person that somebody else could answer, in time order: who would, and how likely."""
    world = _World(plan, keeps_truth=True)
    for _, t, channel, kind, post, _ in _history(world, range(plan.channels)):
        if kind == "post" and post.truth:
            yield Truth(channel.id, _ts(t), TOPICS[post.topic], tuple((world.people[who].id, p) for who, p in post.truth))


def names(plan: Plan) -> dict[str, str]:
    """The people's names by their ids."""
    return {person.id: " ".join(_called(index)) for index, person in enumerate(_World(plan).people)}


def expected_topic_people(plan: Plan) -> dict[str, tuple[str, ...]]:
    """For each topic, the people who know it, best and most active first."""
    people = _World(plan).people
    known = {}
    for topic, name in enumerate(TOPICS):
        knowing = [person for person in people if person.knows[topic] > KNOWS_LITTLE]
        known[name] = tuple(person.id for person in sorted(knowing, key=lambda person: -person.knows[topic] * person.activity))
    return known


# The world: people and channels, and when they are awake.


@dataclass(slots=True)
class _Person:
    """Somebody who posts."""

    id: str
    activity: float
    knows: tuple[float, ...]
    """How well, by topic."""
    office: tuple[str, str, int, int]
    awake: tuple[float, ...]
    """By hour of the week in UTC, Monday first."""


@dataclass(slots=True)
class _Channel:
    """A channel, and how far its history has been told."""

    index: int
    id: str
    name: str
    private: bool
    topics: tuple[int, ...]
    left: int
    """Posts by people that are still to come."""
    passed: float = 0.0
    """Share of the workspace's activity that has gone by."""
    bursts: int = 0
    acts: int = 0
    last: int = 0
    members: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class _Post:
    """A message, as it stands."""

    t: int
    user: int
    """Its author's index; -1 for nobody and for bots."""
    text: str
    root: _Post | None
    form: str
    key: int
    """128 bits for its ids."""
    topic: int
    edited: int = 0
    unfurled: bool = False
    gone: bool = False
    doomed: bool = False
    """To be deleted at some time."""
    shielded: int = 0
    """A deletion comes after this time."""
    replies: list[_Post] = field(default_factory=list)
    reactions: list[tuple[str, int]] = field(default_factory=list)
    truth: tuple[tuple[int, float], ...] = ()


# When, which channel, its number there, what, to which message, with what: the text of an edit, or the reaction and who reacts.
_Act = tuple[int, int, int, str, _Post, tuple[str, int]]
# The same told in order: the time it was planned for, the time it has (no two of a channel are the same), …
_Told = tuple[int, int, _Channel, str, _Post, tuple[str, int]]
_NOTHING = ("", -1)
_NO_POST = _Post(0, -1, "", None, "", 0, 0)


class _World:
    """All that a plan decides before anybody speaks."""

    def __init__(self, plan: Plan, *, keeps_truth: bool = False) -> None:
        """Draw the people, then the channels."""
        self.plan = plan
        self.keeps_truth = keeps_truth
        self.start = plan.start_us
        self.end = plan.end_us
        self.team = _name("T", plan.seed, 0)
        self.random = Random()
        self.trouble = Random()
        draws = Random(f"{plan.seed}:people")
        awake = _awake()
        self.people = [_person(plan, index, draws, awake) for index in range(plan.people)]
        self.hours = _hours(self)
        self.texts = {
            kind: words.sentences(templates)
            for kind, templates in (
                ("question", words.QUESTIONS),
                ("answer", words.ANSWERS),
                ("remark", words.REMARKS),
                ("thanks", words.THANKS),
            )
        }
        self.by_topic = [list(accumulate(p.activity * p.knows[topic] for p in self.people)) for topic in range(len(TOPICS))]
        # Channels get smaller with their rank, and add up exactly.
        sizes = list(accumulate(1 / (index + 3) for index in range(plan.channels)))
        self.shares = [0, *(int(plan.messages * size / sizes[-1]) for size in sizes[:-1]), plan.messages]
        self.weights: dict[tuple[int, int, int], list[float]] = {}

    def channel(self, index: int) -> _Channel:
        """A channel at the beginning of its history; the first is about everything, the others about one or two topics."""
        plan = self.plan
        draws = Random(f"{plan.seed}:channel:{index}")
        left = self.shares[index + 1] - self.shares[index]
        private = index > 0 and draws.random() < plan.private
        main = (index - 1) % len(TOPICS)
        topics = (main, main, main, _pick(range(len(TOPICS)), draws)) if index else tuple(range(len(TOPICS)))
        return _Channel(index, _name("C", plan.seed, index), _channel_name(index), private, topics, left)

    def members(self, channel: _Channel) -> tuple[int, ...]:
        """The people of a channel: those who know its topics, and passers-by."""
        if not channel.members:
            draws = Random(f"{self.plan.seed}:members:{channel.index}")
            size = min(len(self.people), 6 + min(isqrt(channel.left), 300))
            chosen: dict[int, None] = {}
            for _ in range(4 * size):
                if len(chosen) == size:
                    break
                if draws.random() < 0.6:
                    knowing = self.by_topic[_pick(channel.topics, draws)]
                    chosen[bisect_right(knowing, draws.random() * knowing[-1], 0, len(knowing) - 1)] = None
                else:
                    chosen[int(draws.random() * len(self.people))] = None
            for index in range(size - len(chosen)):
                chosen[index] = None
            channel.members = tuple(sorted(chosen))
        return channel.members

    def answering(self, channel: _Channel, topic: int, t: int) -> list[float]:
        """Cumulative weights of a channel's members: activity x knowledge x awake; topic -1 asks, and needs no knowledge."""
        hour = _hour_of_week(t)
        weights = self.weights.get((channel.index, topic, hour))
        if weights is None:
            people = self.people
            members = self.members(channel)
            if topic < 0:
                weights = list(accumulate([people[who].activity * people[who].awake[hour] for who in members]))
            else:
                weights = list(accumulate([(p := people[who]).activity * p.knows[topic] * p.awake[hour] for who in members]))
            if len(self.weights) >= 2000:
                self.weights.clear()
            self.weights[channel.index, topic, hour] = weights
        return weights

    def time_of(self, passed: float) -> int:
        """When this share of the workspace's activity has gone by."""
        hours = self.hours
        at = passed * hours[-1]
        slot = bisect_right(hours, at, 1, len(hours) - 1) - 1
        part = (at - hours[slot]) / (hours[slot + 1] - hours[slot])
        begins = self.start + slot * HOUR
        return min(begins + int(part * (min(begins + HOUR, self.end) - begins)), self.end - 1)


def _name(letter: str, seed: int, index: int) -> str:
    """A Slack id, different for each index.

    >>> _name("U", 0, 0), _name("U", 0, 1)
    ('U8DH204E3EU', 'UR1SV4LO15B')
    """
    # An odd factor permutes the 2^50 ids.
    rest = (index * 0x2545F4914F6CD + 0x1B2D5E96A3 + seed * 0x9E3779B97F4A7 + ord(letter) * 0x3C6EF372FE94F) % (1 << 50)
    return letter + "".join("0123456789ABCDEFGHIJKLMNOPQRSTUV"[rest >> shift & 31] for shift in range(45, -5, -5))


def _channel_name(index: int) -> str:
    """`general`, then the topics, then the topics with a suffix."""
    if index == 0:
        return "general"
    round_, topic = divmod(index - 1, len(TOPICS))
    if round_ == 0:
        return TOPICS[topic]
    suffix = words.SUFFIXES[round_ - 1] if round_ <= len(words.SUFFIXES) else str(round_)
    return f"{TOPICS[topic]}-{suffix}"


def _person(plan: Plan, index: int, draws: Random, awake: dict[int, tuple[float, ...]]) -> _Person:
    """One of the people: the first are the most active, and every topic has somebody."""
    knows = [KNOWS_LITTLE] * len(TOPICS)
    for degree in KNOWS[: 1 + int(draws.random() * len(KNOWS))][::-1]:
        topic = index % len(TOPICS) if degree == 1.0 else int(draws.random() * len(TOPICS))
        knows[topic] = max(knows[topic], degree)
    office = _pick(OFFICE_SEATS, draws)
    early = int(draws.random() * 3) - 1
    activity = (0.5 + draws.random()) / (index % 997 + 5)
    return _Person(_name("U", plan.seed, index), activity, tuple(knows), office, awake[office[2] + early])


def _awake() -> dict[int, tuple[float, ...]]:
    """For each offset from UTC in hours, how awake people are by hour of the week in UTC."""
    week = [BY_HOUR[hour % 24] * (1.0 if hour < 120 else WEEKEND) for hour in range(168)]
    return {offset: tuple(week[(hour + offset) % 168] for hour in range(168)) for offset in range(-12, 14)}


def _hour_of_week(t: int) -> int:
    """Hours since Monday 00:00 UTC; 1970 began on a Thursday."""
    return (t // HOUR + 72) % 168


def _hours(world: _World) -> list[float]:
    """Cumulative activity of the whole workspace, an hour a slot, from the start to the end."""
    weeks: dict[tuple[float, ...], float] = {}
    for person in world.people:
        weeks[person.awake] = weeks.get(person.awake, 0.0) + person.activity
    week = [_total(weight * awake[hour] for awake, weight in weeks.items()) for hour in range(168)]
    slots = -(-(world.end - world.start) // HOUR)
    parts = [week[_hour_of_week(world.start + slot * HOUR)] for slot in range(slots)]
    parts[-1] *= (world.end - world.start - (slots - 1) * HOUR) / HOUR
    return [0.0, *accumulate(parts)]


def _total(parts: Iterable[float]) -> float:
    """The sum, added from left to right in every version of Python."""
    total = 0.0
    for part in parts:
        total += part
    return total


def _pick(choices: Sequence[T], draws: Random) -> T:
    """One of a sequence."""
    return choices[int(draws.random() * len(choices))]


def _drawn(table: Quantiles, draw: float) -> float:
    """The value at a quantile from 0 to 1."""
    at = draw * (len(table) - 1)
    step = int(at)
    return table[step] + (table[step + 1] - table[step]) * (at - step)


def _after(t: int, table: Quantiles, draws: Random) -> int:
    """A time after `t` by a delay from a table of seconds."""
    return t + int(_drawn(table, draws.random()) * SECOND)


# The history: bursts of messages, what is done to them later, and all of it in order.


def _history(world: _World, indexes: range) -> Iterator[_Told]:
    """What happens in these channels, in order; messages are handed out as they stood before.

    Each burst is drawn from its own seed when its time comes, so a channel has the same history alone as among others,
    and what is held at a time is what the open bursts have still to say.
    """
    planned: list[_Act] = []
    channels: dict[int, _Channel] = {}
    for index in indexes:
        channel = world.channel(index)
        if channel.left:
            channels[index] = channel
            _plan_burst(world, channel, planned)
    while planned:
        at, index, _, kind, post, detail = heappop(planned)
        channel = channels[index]
        if kind == "burst":
            _burst(world, channel, at, planned)
            if channel.left:
                _plan_burst(world, channel, planned)
            continue
        t = channel.last = max(at, channel.last + 1)
        if kind == "post":
            post.t = t
            if post.root is not None:
                post.root.replies.append(post)
        yield at, t, channel, kind, post, detail
        _take_effect(kind, t, post, detail)


def _take_effect(kind: str, t: int, post: _Post, detail: tuple[str, int]) -> None:
    """Change the message."""
    if kind == "edit":
        post.text = detail[0]
        post.edited = t
    elif kind == "unfurl":
        post.unfurled = True
    elif kind == "delete":
        post.gone = True
        if post.root is not None:
            post.root.replies.remove(post)
    elif kind == "react":
        post.reactions.append(detail)
    elif kind == "unreact":
        post.reactions.remove(detail)


def _plan_burst(world: _World, channel: _Channel, planned: list[_Act]) -> None:
    """Put the channel's next burst at the least of the times that are left to it."""
    world.random.seed(_seed(world, channel, 0))
    wait = _drawn(EXPONENTIAL, world.random.random())
    channel.passed += (1 - channel.passed) * wait / (wait + max(channel.left / BURST, 1.0))
    heappush(planned, (world.time_of(channel.passed), channel.index, -1, "burst", _NO_POST, _NOTHING))


def _seed(world: _World, channel: _Channel, purpose: int) -> int:
    """A number for each burst of each channel of each plan."""
    return ((world.plan.seed & 0xFFFFFFFF) << 96) | (channel.index << 64) | (channel.bursts << 8) | purpose


class _Burst:
    """A session about one topic, and the threads that it opens."""

    __slots__ = ("acts", "channel", "draws", "members", "posts", "random", "topic", "world")

    def __init__(self, world: _World, channel: _Channel) -> None:
        """Choose what it is about."""
        self.world = world
        self.channel = channel
        self.draws = world.random
        self.random = world.random.random
        self.members = world.members(channel)
        self.topic = _pick(channel.topics, self.draws)
        self.posts: list[_Post] = []
        self.acts: list[tuple[int, str, _Post, tuple[str, int]]] = []

    def responder(self, author: int, t: int, spoke: list[int]) -> int:
        """Somebody who answers: by habit one of the last speakers, else by activity, knowledge and hour."""
        draw = self.random()
        others = [who for who in spoke if who != author]
        if draw < HABIT and others:
            return _by_place(others, draw / HABIT)
        if len(self.members) == 1:
            return author
        weights = self.world.answering(self.channel, self.topic, t)
        place = self.members.index(author)
        before = weights[place - 1] if place else 0.0
        own = weights[place] - before
        at = self.random() * (weights[-1] - own)
        if at >= before:
            at += own
        found = bisect_right(weights, at, 0, len(weights) - 1)
        if found == place:  # by rounding
            found += 1 if place + 1 < len(weights) else -1
        return self.members[found]

    def asker(self, t: int) -> int:
        """Somebody who begins to talk."""
        weights = self.world.answering(self.channel, -1, t)
        return self.members[bisect_right(weights, self.random() * weights[-1], 0, len(weights) - 1)]

    def post(self, t: int, user: int, kind: str, root: _Post | None, spoke: list[int]) -> _Post:
        """Say something; whoever answers chooses among `spoke` and the others."""
        plan = self.world.plan
        text = self.text(kind, user, spoke)
        form = ""
        draw = self.random()
        if draw < plan.files:
            form = "file_share"
        elif draw < plan.files + plan.me:
            form = "me_message"
        elif root is not None and 1 - draw < plan.broadcasts:
            form = "thread_broadcast"
        post = _Post(t, user, text, root, form, self.draws.getrandbits(128), self.topic)
        self.posts.append(post)
        self.acts.append((t, "post", post, _NOTHING))
        self.channel.left -= 1
        return post

    def text(self, kind: str, user: int, spoke: list[int]) -> str:
        """A sentence about the topic, at times about another, at times with markup."""
        random = self.random
        topic = self.topic
        draw = random()
        if draw < OFF_TOPIC:
            topic = int(draw / OFF_TOPIC * len(TOPICS))
        templates = self.world.texts[kind][topic]
        drawn = templates[int(random() * len(templates))]
        text = drawn.text % tuple([hole[int(random() * len(hole))] for hole in drawn.holes])
        draw = random()
        plan = self.world.plan
        if draw < plan.links + plan.code + plan.mentions + 0.03:
            return self.adorned(text, draw, user, spoke)
        return text

    def adorned(self, text: str, draw: float, user: int, spoke: list[int]) -> str:
        """A text with a link, code, a mention or an emoji."""
        plan = self.world.plan
        topic = TOPICS[self.topic]
        number = str(int(self.random() * 9000) + 100)
        if draw < plan.links:
            label = "" if self.random() < 0.4 else "|the notes"
            return f"{text} <https://wiki.example.com/{topic}/{number}?a=1&amp;b=2{label}>"
        if draw < plan.links + plan.code:
            return text + "\n" + _pick(words.CODE, self.draws).format(topic=topic, number=number)
        if draw < plan.links + plan.code + plan.mentions:
            if spoke and spoke[0] != user and self.random() < 0.7:
                return f"<@{self.world.people[spoke[0]].id}> {text}"
            return f"{text} (see <#{self.channel.id}|{self.channel.name}>)" if self.random() < 0.8 else f"<!here> {text}"
        return f"{text} {_pick(words.EMOJI, self.draws)}"

    def remember_truth(self, post: _Post, spoke: list[int]) -> None:
        """Keep the distribution that `responder` draws from."""
        if not self.world.keeps_truth or len(self.members) == 1:
            return
        weights = self.world.answering(self.channel, self.topic, post.t)
        single = [after - before for before, after in zip([0.0, *weights], weights, strict=False)]
        single[self.members.index(post.user)] = 0.0
        others = [who for who in spoke if who != post.user]
        total = _total(single)
        rest = (1 - HABIT if others else 1.0) / total
        chances = {who: weight * rest for who, weight in zip(self.members, single, strict=True) if weight}
        places = PLACES[: len(others)]
        for who, place in zip(others, places, strict=False):
            chances[who] += HABIT * place / _total(places)
        post.truth = tuple(sorted(chances.items(), key=lambda item: (-item[1], item[0]))[:10])

    def thread(self, root: _Post, kind: str, spoke: list[int]) -> None:
        """Replies to a root, if there are any."""
        random = self.random
        if random() >= THREAD_STARTS[kind]:
            return
        spoke = list(spoke)
        last = root
        t = root.t
        for number in range(LONGEST_THREAD):
            if not self.channel.left or (number and random() >= THREAD_GOES_ON):
                return
            same = random() < (0.2 if number else 0.07)
            user = last.user if same else self.responder(last.user, last.t, spoke)
            t = _after(t, NEXT_REPLY if number else FIRST_REPLY, self.draws)
            if random() < NEXT_DAY:
                t += DAY if random() < 0.7 else 2 * DAY
            if t >= self.world.end:
                return
            last = self.post(t, user, "thanks" if user == root.user else "answer", root, spoke)
            if not root.shielded:
                root.shielded = t
            _speak(spoke, user)
            self.remember_truth(last, spoke)

    def run(self, t: int) -> None:
        """The session's roots, each with its thread."""
        random = self.random
        spoke: list[int] = []
        user = self.asker(t)
        kind = "question" if random() < 0.6 else "remark"
        while True:
            root = self.post(t, user, kind, None, spoke)
            _speak(spoke, user)
            self.remember_truth(root, spoke)
            self.thread(root, kind if kind in THREAD_STARTS else "remark", spoke)
            t = _after(t, SESSION_GAP, self.draws)
            if not self.channel.left or t >= self.world.end or random() >= SESSION_GOES_ON:
                return
            if random() >= 0.35:
                user = self.responder(user, root.t, spoke)
                kind = "answer" if random() < 0.6 else "question"
            else:
                kind = "remark"


def _by_place(others: list[int], draw: float) -> int:
    """One of the last speakers, by `PLACES`."""
    places = PLACES[: len(others)]
    at = draw * _total(places)
    for who, place in zip(others, places, strict=False):
        at -= place
        if at < 0:
            return who
    return others[len(places) - 1]


def _speak(spoke: list[int], user: int) -> None:
    """Put the newest speaker first."""
    if user in spoke:
        spoke.remove(user)
    spoke.insert(0, user)
    del spoke[len(PLACES) + 1 :]


def _burst(world: _World, channel: _Channel, t: int, planned: list[_Act]) -> None:
    """Draw a burst and all that becomes of its messages."""
    world.random.seed(_seed(world, channel, 1))
    burst = _Burst(world, channel)
    burst.run(t)
    # Troubles have draws of their own: the conversations are the same without them.
    world.trouble.seed(_seed(world, channel, 2))
    trouble = _Trouble(burst)
    for post in burst.posts:
        trouble.interrupt(post)
    for post in burst.posts:
        trouble.change(post)
    for at, kind, post, detail in burst.acts:
        if at < world.end:
            channel.acts += 1
            heappush(planned, (at, channel.index, channel.acts, kind, post, detail))
    channel.bursts += 1


class _Trouble:
    """What bots, admins and second thoughts do to a burst."""

    __slots__ = ("acts", "burst", "draws", "plan", "random", "world")

    def __init__(self, burst: _Burst) -> None:
        """Add to the acts of this burst."""
        self.burst = burst
        self.world = burst.world
        self.plan = burst.world.plan
        self.acts = burst.acts
        self.draws = burst.world.trouble
        self.random = burst.world.trouble.random

    def interrupt(self, post: _Post) -> None:
        """Bots, joins, topic changes and messages without an author, soon after a post."""
        plan = self.plan
        if self.random() < plan.bots:
            text = _pick(words.BOT_TEXTS, self.draws).format(topic=TOPICS[post.topic], number=int(self.random() * 500))
            self.insert(post, _pick(BOT_FORMS, self.draws), -1, text, in_thread=0.25)
        if self.random() < plan.no_author:
            self.insert(post, "no_author", -1, self.burst.text("answer", -1, []) if self.random() < 0.9 else "", in_thread=0.6)
        if self.random() < plan.joins:
            user = _pick(self.burst.members, self.draws)
            name = f"<@{self.world.people[user].id}>"
            if self.random() < 0.8:
                self.insert(post, "channel_join", user, f"{name} has joined the channel", in_thread=0.0)
            else:
                self.insert(post, "channel_topic", user, f"{name} set the channel topic: {TOPICS[post.topic]}", in_thread=0.0)

    def insert(self, post: _Post, form: str, user: int, text: str, *, in_thread: float) -> None:
        """A message that is nobody's answer."""
        root = (post.root or post) if self.random() < in_thread else None
        t = post.t + SECOND + int(self.random() * 300 * SECOND)
        if root is not None and t < self.world.end:
            root.shielded = min(root.shielded or t, t)
        self.acts.append((t, "post", _Post(t, user, text, root, form, self.draws.getrandbits(128), post.topic), _NOTHING))

    def change(self, post: _Post) -> None:
        """Unfurl, edit, delete and react; nothing comes after the deletion."""
        plan = self.plan
        gone = self.world.end
        # The replies of a deleted root stay: they keep its tombstone standing.
        if self.random() < plan.deletions and not (post.root is not None and post.root.doomed):
            gone = _after(max(post.t, post.shielded) + SECOND, EDIT_DELAY, self.draws)
            post.doomed = True
            self.acts.append((gone, "delete", post, _NOTHING))
        if plan.unfurls and "<https" in post.text and self.random() < plan.unfurls:
            self.add(post.t + SECOND + int(self.random() * 2 * SECOND), gone, "unfurl", post, _NOTHING)
        if self.random() < plan.edits:
            self.edit(post, gone)
        if self.random() < plan.reactions / 2:
            self.react(post, gone)

    def add(self, t: int, gone: int, kind: str, post: _Post, detail: tuple[str, int]) -> None:
        """Do something to a message before it is gone, with room for times that are moved."""
        if t < gone - 1000:
            self.acts.append((t, kind, post, detail))

    def edit(self, post: _Post, gone: int) -> None:
        """Another text, once or twice."""
        t = _after(post.t, EDIT_DELAY, self.draws)
        text = post.text + _pick(words.SECOND_THOUGHTS, self.draws)
        self.add(t, gone, "edit", post, (text, -1))
        if self.random() < 0.15:
            self.add(_after(t, EDIT_DELAY, self.draws), gone, "edit", post, (text + _pick(words.SECOND_THOUGHTS, self.draws), -1))

    def react(self, post: _Post, gone: int) -> None:
        """Reactions by different people, two on average; one in ten is taken back."""
        seen = set()
        while True:
            t = _after(post.t, REACTION_DELAY, self.draws)
            weights = self.world.answering(self.burst.channel, post.topic, post.t)
            user = self.burst.members[bisect_right(weights, self.random() * weights[-1], 0, len(weights) - 1)]
            name = words.REACTIONS[int(self.random() * self.random() * len(words.REACTIONS))]
            if (name, user) not in seen:
                seen.add((name, user))
                self.add(t, gone, "react", post, (name, user))
                back = _after(t, EDIT_DELAY, self.draws)
                if self.random() < 0.1 and t < gone - 1000:
                    self.add(back, gone, "unreact", post, (name, user))
            if self.random() < 0.5:
                return


# What Slack sends.


def _ts(t: int) -> str:
    """Microseconds as Slack writes them.

    >>> _ts(1690360240229079)
    '1690360240.229079'
    """
    return f"{t // SECOND}.{t % SECOND:06d}"


def _uuid(key: int) -> str:
    """128 bits as a UUID."""
    text = f"{key:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _author(world: _World, post: _Post) -> str:
    """The fields that say who posted."""
    if post.form in POSTED:
        return f'"user":"{world.people[post.user].id}","client_msg_id":"{_uuid(post.key)}","team":"{world.team}"'
    if post.form == "bot_message":
        return f'"bot_id":"{_name("B", world.plan.seed, post.topic)}","username":"{TOPICS[post.topic]}-bot"'
    if post.form == "app":
        bot = _name("B", world.plan.seed, 100 + post.topic)
        return f'"user":"{_user_of(world, post)}","bot_id":"{bot}","bot_profile":{{"id":"{bot}","name":"{TOPICS[post.topic]}"}}'
    if post.form == "slackbot":
        return '"user":"USLACKBOT"'
    if post.form == "no_author":
        return '"user":""' if post.key & 1 else ""
    return f'"user":"{world.people[post.user].id}"'


SUBTYPES = {"": "", "app": "", "no_author": "", "slackbot": "slackbot_response"}
"""Of the forms that aren't named for theirs."""


def _file(world: _World, post: _Post) -> str:
    """The file of a `file_share`; its address carries what exports carry."""
    file = _name("F", world.plan.seed, post.key % (1 << 40))
    return (
        f'"files":[{{"id":"{file}","name":"notes.pdf","mimetype":"application/pdf","mode":"hosted","size":{post.key % 100000},'
        f'"url_private":"https://files.example.com/{file}/notes.pdf?token=xoxe-made-up-{post.key % 1000}"}}],'
        '"upload":false,"display_as_bot":false'
    )


def _body(world: _World, post: _Post) -> str:
    """The fields of a message that stay the same in all its appearances, without braces."""
    ts = _ts(post.t)
    text = quoted(post.text)
    body = f'"type":"message","ts":"{ts}","text":{text}'
    author = _author(world, post)
    if author:
        body = f"{body},{author}"
    if post.form:
        subtype = SUBTYPES.get(post.form, post.form)
        if subtype:
            body = f'{body},"subtype":"{subtype}"'
        if post.form == "file_share":
            body = f"{body},{_file(world, post)}"
    if world.plan.blocks:
        body = (
            f'{body},"blocks":[{{"type":"rich_text","block_id":"{post.key % 0xFFFFF:05x}","elements":'
            f'[{{"type":"rich_text_section","elements":[{{"type":"text","text":{text}}}]}}]}}]'
        )
    root = post.root
    if root is not None:
        body = f'{body},"thread_ts":"{_ts(root.t)}"'
        if root.user >= 0:
            body = f'{body},"parent_user_id":"{world.people[root.user].id}"'
    return body


def _bot_user(world: _World, topic: int) -> str:
    """The user behind a topic's app."""
    return _name("U", world.plan.seed, (1 << 21) + topic)


def _user_of(world: _World, post: _Post) -> str:
    """How a list of replies names an author."""
    if post.user >= 0:
        return world.people[post.user].id
    if post.form == "slackbot":
        return "USLACKBOT"
    if post.form == "app":
        return _bot_user(world, post.topic)
    return "" if post.form == "no_author" else _name("B", world.plan.seed, post.topic)


def _thread_fields(world: _World, root: _Post, *, replies: bool = False) -> str:
    """What Slack says about a thread on its root, once there are replies."""
    users = list(dict.fromkeys(_user_of(world, reply) for reply in root.replies))
    told = (
        f'"thread_ts":"{_ts(root.t)}","reply_count":{len(root.replies)},"reply_users_count":{len(users)},'
        f'"latest_reply":"{_ts(root.replies[-1].t)}","reply_users":{json.dumps(users[:5], separators=(",", ":"))}'
    )
    if replies:
        each = ",".join(f'{{"user":"{_user_of(world, reply)}","ts":"{_ts(reply.t)}"}}' for reply in root.replies)
        told = f'{told},"replies":[{each}]'
    return f'{told},"is_locked":false,"subscribed":false'


def _edited(world: _World, post: _Post, t: int) -> str:
    """Who edited last, and when: in whole seconds."""
    return f'"edited":{{"user":"{world.people[post.user].id}","ts":"{t // SECOND}.000000"}}'


def _message(world: _World, post: _Post) -> str:
    """A message as it stands, as it appears inside of other events."""
    body = _body(world, post)
    if post.edited:
        body = f"{body},{_edited(world, post, post.edited)}"
    if post.replies:
        body = f"{body},{_thread_fields(world, post)}"
    return body


def _tombstone(world: _World, root: _Post, *, replies: bool = False) -> str:
    """What is left of a deleted root."""
    return (
        f'"type":"message","subtype":"tombstone","text":"This message was deleted.","user":"USLACKBOT","hidden":true,'
        f'"ts":"{_ts(root.t)}","parent_user_id":"USLACKBOT",{_thread_fields(world, root, replies=replies)}'
    )


def _posted(world: _World, post: _Post) -> str:
    """A `message` event."""
    body = _body(world, post)
    if post.form == "thread_broadcast" and post.root is not None:
        body = f'{body},"root":{{{_tombstone(world, post.root) if post.root.gone else _message(world, post.root)}}}'
    return body


def _changed(world: _World, t: int, kind: str, post: _Post, detail: tuple[str, int]) -> str:
    """A `message_changed` or `message_deleted` event, for a message that stands as before."""
    previous = _message(world, post)
    ts = _ts(t)
    if kind == "delete" and not post.replies:
        changed = f'"subtype":"message_deleted","deleted_ts":"{_ts(post.t)}"'
    elif kind == "delete":
        changed = f'"subtype":"message_changed","message":{{{_tombstone(world, post)}}}'
    elif kind == "unfurl":
        attachment = '"attachments":[{"id":1,"title":"The notes","from_url":"https://wiki.example.com/"}]'
        changed = f'"subtype":"message_changed","message":{{{previous},{attachment}}}'
    else:
        after = replace(post, text=detail[0], edited=t)
        changed = f'"subtype":"message_changed","message":{{{_message(world, after)}}}'
    return f'"type":"message",{changed},"previous_message":{{{previous}}},"hidden":true,"ts":"{ts}"'


def _event(world: _World, t: int, channel: _Channel, kind: str, post: _Post, detail: tuple[str, int]) -> str:
    """The inner event."""
    if kind in ("react", "unreact"):
        name, user = detail
        return (
            f'{{"type":"{"reaction_added" if kind == "react" else "reaction_removed"}","user":"{world.people[user].id}",'
            f'"reaction":"{name}","item":{{"type":"message","channel":"{channel.id}","ts":"{_ts(post.t)}"}},'
            f'"item_user":"{world.people[post.user].id}","event_ts":"{_ts(t)}"}}'
        )
    inner = _posted(world, post) if kind == "post" else _changed(world, t, kind, post, detail)
    kind_of_channel = "group" if channel.private else "channel"
    return f'{{{inner},"channel":"{channel.id}","event_ts":"{_ts(t)}","channel_type":"{kind_of_channel}"}}'


def _traits(channel: _Channel, kind: str, post: _Post) -> list[str]:
    """What `planted` counts for a record; the first is its kind."""
    if kind == "unreact":
        return ["react", "unreact"]
    if kind == "delete":
        return ["delete", "tombstone"] if post.replies else ["delete"]
    if kind != "post":
        return [kind]
    traits = [KIND_OF_FORM[post.form]]
    if traits[0] == "post":
        traits.append("root" if post.root is None else "reply")
    if post.form == "thread_broadcast":
        traits.append("broadcast")
    elif post.form == "file_share":
        traits.append("file")
    if channel.private:
        traits.append("private")
    return traits


_Record = tuple[int, int, _Channel, list[str], str]


def _records(world: _World) -> Iterator[_Record]:
    """The inner events of the whole workspace, in order."""
    for at, t, channel, kind, post, detail in _history(world, range(world.plan.channels)):
        yield at, t, channel, _traits(channel, kind, post), _event(world, t, channel, kind, post, detail)


# The way from Slack to Kafka.


def _deliver(world: _World, records: Iterator[_Record], planted: Counter[str]) -> Iterator[tuple[str | None, bytes]]:
    """Envelopes in order of arrival, with all that goes wrong on the way."""
    delivery = _Delivery(world, planted)
    for at, t, channel, traits, inner in records:
        yield from delivery.beats(at)
        delivery.accept(t, channel, traits, inner)
        yield from delivery.arrived(at)
    yield from delivery.beats(world.end)
    yield from delivery.arrived(None)


class _Delivery:
    """Records on their way, and the clocks of those who read them."""

    def __init__(self, world: _World, planted: Counter[str]) -> None:
        """Nothing is on its way."""
        plan = world.plan
        self.world = world
        self.plan = plan
        self.planted = planted
        self.random = Random(f"{plan.seed}:delivery").random
        self.draws = Random(f"{plan.seed}:broken")
        self.disorder = int(plan.disorder * SECOND)
        self.lateness = int(plan.lateness * SECOND)
        self.every = int(plan.heartbeat_every * SECOND) if plan.heartbeat_every else 0
        self.next_beat = world.start + self.every
        self.accepted = 0
        self.sent = 0
        self.on_the_way: list[tuple[int, int, int, str | None, bytes]] = []
        self.clocks: dict[str, int] = {}
        self.beat = 0
        app = _name("A", plan.seed, 0)
        self.head = f'{{"token":"","team_id":"{world.team}","api_app_id":"{app}","type":"event_callback","event":'

    def accept(self, t: int, channel: _Channel, traits: list[str], inner: str) -> None:
        """Send a record off, once or twice, sooner or later."""
        plan = self.plan
        planted = self.planted
        for trait in traits:
            planted[trait] += 1
        self.accepted += 1
        value = (
            f'{self.head}{inner},"event_id":"Ev{channel.index:05X}{self.accepted:09X}","event_time":{t // SECOND},'
            '"is_ext_shared_channel":false}'
        ).encode()
        random = self.random
        if plan.too_late and random() < plan.too_late:
            planted["delayed"] += 1
            self.send(t + int((2 + random() * 18) * 60 * SECOND), t, channel.id, value)
        else:
            self.send(self.soon(t), t, channel.id, value)
            if plan.duplicates and random() < plan.duplicates and traits[0] in EVENT_KINDS:
                planted["duplicate"] += 1
                # Sent again by Slack, or found again when a gap was filled.
                self.send(self.soon(t), t, channel.id, value if random() < 0.7 else inner.encode())
        if plan.broken and random() < plan.broken:
            kind = BROKEN_KINDS[int(random() * len(BROKEN_KINDS))]
            if kind == "over 1 MiB" and random() < 0.95:
                kind = "empty"
            planted["broken"] += 1
            planted["broken: " + kind] += 1
            # No time of its own: it moves no clock.
            self.send(self.soon(t), -1, channel.id, broken_record(kind, self.draws))

    def soon(self, t: int) -> int:
        """An arrival within the disorder."""
        return t + int(self.random() * self.disorder) if self.disorder else t

    def send(self, arrival: int, t: int, key: str | None, value: bytes) -> None:
        """Put a record on its way; what leaves first arrives first at equal times."""
        self.sent += 1
        heappush(self.on_the_way, (arrival, self.sent, t, key, value))

    def beats(self, at: int) -> Iterator[tuple[str | None, bytes]]:
        """Heartbeats up to a time, sent when all before them must have arrived."""
        while self.every and self.next_beat <= at:
            value = f'{{"type":"heartbeat","at":"{_ts(self.next_beat)}"}}'.encode()
            self.planted["heartbeat"] += 1
            self.send(self.next_beat + self.disorder, self.next_beat, None, value)
            yield from self.arrived(self.next_beat)
            self.next_beat += self.every

    def arrived(self, at: int | None) -> Iterator[tuple[str | None, bytes]]:
        """What arrives before a time, or all that is left."""
        on_the_way = self.on_the_way
        while on_the_way and (at is None or on_the_way[0][0] < at):
            _, _, t, key, value = heappop(on_the_way)
            self.planted["records"] += 1
            if key is None:
                self.beat = t
            elif t >= 0:
                clock = max(self.clocks.get(key, 0), self.beat)
                if clock - t > self.lateness:
                    self.planted["late"] += 1
                self.clocks[key] = max(clock, t)
            yield key, value


# Broken records.

_BROKEN: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"<html><body>502 Bad Gateway</body></html>",
    "truncated JSON": b'{"type":"event_callback","event":{"type":"message","channel":"C024BE91L","ts":"1690360240.2290',
    "array": b'[{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"%ts"}]',
    "number": b"1690360240.229079",
    "string": b'"message"',
    "null": b"null",
    "NUL bytes": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"a\x00b","ts":"%ts"}\x00\x00',
    "invalid UTF-8": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"caf\xe9 \xff\xfe","ts":"%ts"}',
    "two objects": b'{"type":"message"}{"type":"message"}',
    "event is null": b'{"type":"event_callback","event_id":"Ev0","event":null}',
    "no channel": b'{"type":"message","user":"U1","text":"hi","ts":"%ts"}',
    "channel is a number": b'{"type":"message","channel":24,"user":"U1","text":"hi","ts":"%ts"}',
    "no ts": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi"}',
    "ts is a number": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":%ts}',
    "ts is NaN": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"NaN"}',
    "ts is negative": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"-%ts"}',
    "ts in the year 5138": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"99999999999.000000"}',
    "ts in the year 2286": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"9999999999.000000"}',
    "ts with 7 decimals": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"%ts7"}',
    "ts in other digits": '{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"١٦٩٠٣٦٠٢٤٠.٢٢٩٠٧٩"}'.encode(),
    "user is a list": b'{"type":"message","channel":"C024BE91L","user":["U1"],"text":"hi","ts":"%ts"}',
    "text is an object": b'{"type":"message","channel":"C024BE91L","user":"U1","text":{"text":"hi"},"ts":"%ts"}',
    "thread_ts is garbage": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","thread_ts":"p1690","ts":"%ts"}',
    "edit without a message": b'{"type":"message","subtype":"message_changed","channel":"C024BE91L","ts":"%ts","event_ts":"%ts"}',
    "reaction without an item": b'{"type":"reaction_added","user":"U1","reaction":"eyes","event_ts":"%ts"}',
    "deep nesting": b'{"event":' * 50_000,
    "over 1 MiB": b"",
}

BROKEN_KINDS: tuple[str, ...] = tuple(_BROKEN)


def broken_record(kind: str, draws: Random | None = None) -> bytes:
    """A record of this kind, which is to be rejected.

    >>> broken_record("no ts")
    b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi"}'
    """
    number = int((draws or Random(0)).random() * 1_000_000)
    ts = f"1690360240.{number:06d}".encode()
    if kind == "over 1 MiB":
        return b'{"type":"message","channel":"C024BE91L","user":"U1","ts":"%s","text":"%s"}' % (ts, b"long " * 220_000)
    return _BROKEN[kind].replace(b"%ts", ts)


# The export.


def write_export(plan: Plan, path: str | Path, *, folder_deep: bool = False) -> None:
    """Write the zip that Slack would give of the workspace at its end; `folder_deep` puts all of it one folder deeper."""
    world = _World(plan)
    within = "Made-up Workspace Slack export/" if folder_deep else ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        listed: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for index in range(plan.channels):
            channel = world.channel(index)
            listed[channel.private].append(_listed_channel(world, channel))
            if channel.left:
                for day, messages in _days(world, index):
                    _write(archive, f"{within}{channel.name}/{day}.json", messages)
        _write(archive, f"{within}channels.json", _array(listed[False]))
        _write(archive, f"{within}groups.json", _array(listed[True]))
        listed_people = chain((_listed_person(world, index) for index in range(plan.people)), _listed_bots(world))
        _write(archive, f"{within}users.json", _array(listed_people))
        _write(archive, f"{within}dms.json", "[]")


def _array(items: Iterable[Any]) -> str:
    """Values as a JSON array, a line each."""
    return "[" + ",\n".join(json.dumps(item) for item in items) + "]"


def _write(archive: zipfile.ZipFile, name: str, text: str) -> None:
    """Add a file that was made at no particular time."""
    info = zipfile.ZipInfo(name, date_time=(2024, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    archive.writestr(info, text)


def _days(world: _World, index: int) -> Iterator[tuple[str, str]]:
    """A channel's day files: the local date and the messages as they stand at the end."""
    zone = ZoneInfo(world.plan.time_zone)
    posts = [post for _, _, _, kind, post, _ in _history(world, range(index, index + 1)) if kind == "post"]
    day = ""
    messages: list[str] = []
    for post in posts:
        told = _exported(world, post)
        if told is None:
            continue
        date = datetime.fromtimestamp(post.t // SECOND, zone).strftime("%Y-%m-%d")
        if date != day and messages:
            yield day, "[" + ",\n".join(messages) + "]"
            messages = []
        day = date
        messages.append(told)
    if messages:
        yield day, "[" + ",\n".join(messages) + "]"


def _exported(world: _World, post: _Post) -> str | None:
    """A message at the end of time; nothing if it was deleted and left no thread."""
    if post.gone:
        return f"{{{_tombstone(world, post, replies=True)}}}" if post.replies else None
    told = _body(world, post)
    if post.edited:
        told = f"{told},{_edited(world, post, post.edited)}"
    if post.unfurled:
        told = f'{told},"attachments":[{{"id":1,"title":"The notes","from_url":"https://wiki.example.com/"}}]'
    if post.replies:
        told = f"{told},{_thread_fields(world, post, replies=True)}"
    if post.form == "thread_broadcast" and post.root is not None and (post.root.replies or not post.root.gone):
        told = f'{told},"root":{{{_tombstone(world, post.root) if post.root.gone else _message(world, post.root)}}}'
    if post.reactions:
        by_name: dict[str, list[str]] = {}
        for name, user in post.reactions:
            by_name.setdefault(name, []).append(world.people[user].id)
        reactions = [{"name": name, "users": users, "count": len(users)} for name, users in by_name.items()]
        told = f'{told},"reactions":{json.dumps(reactions, separators=(",", ":"))}'
    return f"{{{told}}}"


def _listed_channel(world: _World, channel: _Channel) -> dict[str, Any]:
    """An entry of channels.json or groups.json."""
    members = [world.people[who].id for who in world.members(channel)]
    purpose = {"value": ", ".join(dict.fromkeys(TOPICS[topic] for topic in channel.topics)), "creator": members[0], "last_set": 0}
    return {
        "id": channel.id,
        "name": channel.name,
        "created": world.start // SECOND,
        "creator": members[0],
        "is_archived": False,
        "is_general": channel.index == 0,
        "members": members,
        "topic": {"value": "", "creator": "", "last_set": 0},
        "purpose": purpose,
    }


def _called(index: int) -> tuple[str, str]:
    """A person's first and last name."""
    last = words.LAST_NAMES[(7 * index + index // len(words.FIRST_NAMES)) % len(words.LAST_NAMES)]
    return words.FIRST_NAMES[index % len(words.FIRST_NAMES)], last


def _listed_person(world: _World, index: int) -> dict[str, Any]:
    """An entry of users.json."""
    person = world.people[index]
    first, last = _called(index)
    zone, label, offset, _ = person.office
    return {
        "id": person.id,
        "team_id": world.team,
        "name": f"{first}.{last}.{index}".lower(),
        "deleted": False,
        "real_name": f"{first} {last}",
        "tz": zone,
        "tz_label": label,
        "tz_offset": offset * 3600,
        "profile": {"real_name": f"{first} {last}", "display_name": first.lower(), "team": world.team},
        "is_admin": index == 0,
        "is_bot": False,
        "updated": world.start // SECOND,
    }


def _listed_bots(world: _World) -> Iterator[dict[str, Any]]:
    """The entries of users.json for apps."""
    for topic, name in enumerate(TOPICS):
        yield {
            "id": _bot_user(world, topic),
            "team_id": world.team,
            "name": f"{name}-app",
            "deleted": False,
            "real_name": name,
            "profile": {"real_name": name, "bot_id": _name("B", world.plan.seed, 100 + topic), "team": world.team},
            "is_bot": True,
            "updated": world.start // SECOND,
        }
