"""The people and channels of a simulated workspace: who knows what, who is a member where, and who is awake when."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import isqrt
from random import Random

from beepgpt.conversations.rules import HOUR
from beepgpt.simulation import words
from beepgpt.simulation.plan import Plan, float_sum, pick

TOPICS = tuple(words.TOPICS)
KNOWS = (1.0, 0.5, 0.25)
KNOWS_LITTLE = 0.03

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


@dataclass(slots=True)
class SimulatedPerson:
    """A person who posts."""

    id: str
    activity: float
    knows: tuple[float, ...]
    """How well the person knows each topic, 0 to 1."""
    office: tuple[str, str, int, int]
    awake: tuple[float, ...]
    """Activity by hour of the week in UTC, Monday first."""


@dataclass(slots=True)
class SimulatedChannel:
    """A channel, and how far its history has been simulated."""

    index: int
    id: str
    name: str
    private: bool
    topics: tuple[int, ...]
    left: int
    """Posts by people still to be simulated."""
    passed: float = 0.0
    """Share of the workspace's activity that has passed."""
    bursts: int = 0
    acts: int = 0
    last: int = 0
    members: tuple[int, ...] = ()
    moves_at: float | None = None
    """Share of the workspace's activity after which it gets its new id; None: it keeps its own."""
    new_id: str = ""


class SimulatedWorkspace:
    """People, channel sizes and activity by hour, as drawn from a plan before the first message."""

    def __init__(self, plan: Plan, *, keeps_truth: bool = False) -> None:
        """Draw the people and their activity; with `keeps_truth`, posts carry who would answer them."""
        self.plan = plan
        self.keeps_truth = keeps_truth
        self.start = plan.start_us
        self.end = plan.end_us
        self.team = slack_id("T", plan.seed, 0)
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

    def channel(self, index: int) -> SimulatedChannel:
        """Build a channel at the beginning of its history; the first is about all topics, the others about one or two."""
        plan = self.plan
        draws = Random(f"{plan.seed}:channel:{index}")
        left = self.shares[index + 1] - self.shares[index]
        private = index > 0 and draws.random() < plan.private
        main = (index - 1) % len(TOPICS)
        topics = (main, main, main, pick(range(len(TOPICS)), draws)) if index else tuple(range(len(TOPICS)))
        channel = SimulatedChannel(index, slack_id("C", plan.seed, index), _channel_name(index), private, topics, left)
        if plan.moves and draws.random() < plan.moves:
            channel.moves_at, channel.new_id = 0.2 + 0.6 * draws.random(), slack_id("C", plan.seed, (1 << 22) + index)
        return channel

    def members(self, channel: SimulatedChannel) -> tuple[int, ...]:
        """Draw a channel's members (indexes of people): those who know its topics, and passers-by."""
        if not channel.members:
            draws = Random(f"{self.plan.seed}:members:{channel.index}")
            size = min(len(self.people), 6 + min(isqrt(channel.left), 300))
            chosen: dict[int, None] = {}
            for _ in range(4 * size):
                if len(chosen) == size:
                    break
                if draws.random() < 0.6:
                    knowing = self.by_topic[pick(channel.topics, draws)]
                    chosen[bisect_right(knowing, draws.random() * knowing[-1], 0, len(knowing) - 1)] = None
                else:
                    chosen[int(draws.random() * len(self.people))] = None
            for index in range(size - len(chosen)):
                chosen[index] = None
            channel.members = tuple(sorted(chosen))
        return channel.members

    def answering(self, channel: SimulatedChannel, topic: int, t: int) -> list[float]:
        """Cumulative weights of a channel's members at a time: activity x knowledge x awake; without knowledge for topic -1."""
        hour = hour_of_week(t)
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
        """The time (microseconds) by which this share of the workspace's activity has passed."""
        hours = self.hours
        at = passed * hours[-1]
        slot = bisect_right(hours, at, 1, len(hours) - 1) - 1
        part = (at - hours[slot]) / (hours[slot + 1] - hours[slot])
        begins = self.start + slot * HOUR
        return min(begins + int(part * (min(begins + HOUR, self.end) - begins)), self.end - 1)


def slack_id(letter: str, seed: int, index: int) -> str:
    """Make a Slack id, different for each index.

    >>> slack_id("U", 0, 0), slack_id("U", 0, 1)
    ('U8DH204E3EU', 'UR1SV4LO15B')
    """
    # An odd factor permutes the 2^50 ids.
    rest = (index * 0x2545F4914F6CD + 0x1B2D5E96A3 + seed * 0x9E3779B97F4A7 + ord(letter) * 0x3C6EF372FE94F) % (1 << 50)
    return letter + "".join("0123456789ABCDEFGHIJKLMNOPQRSTUV"[rest >> shift & 31] for shift in range(45, -5, -5))


def _channel_name(index: int) -> str:
    """Name a channel: `general`, then the topics, then the topics with a suffix."""
    if index == 0:
        return "general"
    round_, topic = divmod(index - 1, len(TOPICS))
    if round_ == 0:
        return TOPICS[topic]
    suffix = words.SUFFIXES[round_ - 1] if round_ <= len(words.SUFFIXES) else str(round_)
    return f"{TOPICS[topic]}-{suffix}"


def person_name(index: int) -> tuple[str, str]:
    """A person's first and last name."""
    last = words.LAST_NAMES[(7 * index + index // len(words.FIRST_NAMES)) % len(words.LAST_NAMES)]
    return words.FIRST_NAMES[index % len(words.FIRST_NAMES)], last


def _person(plan: Plan, index: int, draws: Random, awake: dict[int, tuple[float, ...]]) -> SimulatedPerson:
    """Draw a person: the first are the most active, and every topic has an expert."""
    knows = [KNOWS_LITTLE] * len(TOPICS)
    for degree in KNOWS[: 1 + int(draws.random() * len(KNOWS))][::-1]:
        topic = index % len(TOPICS) if degree == 1.0 else int(draws.random() * len(TOPICS))
        knows[topic] = max(knows[topic], degree)
    office = pick(OFFICE_SEATS, draws)
    early = int(draws.random() * 3) - 1
    activity = (0.5 + draws.random()) / (index % 997 + 5)
    return SimulatedPerson(slack_id("U", plan.seed, index), activity, tuple(knows), office, awake[office[2] + early])


def _awake() -> dict[int, tuple[float, ...]]:
    """Activity by hour of the week in UTC, for each offset from UTC in hours."""
    week = [BY_HOUR[hour % 24] * (1.0 if hour < 120 else WEEKEND) for hour in range(168)]
    return {offset: tuple(week[(hour + offset) % 168] for hour in range(168)) for offset in range(-12, 14)}


def hour_of_week(t: int) -> int:
    """Hours since Monday 00:00 UTC, of a time in microseconds."""
    # 1970 began on a Thursday.
    return (t // HOUR + 72) % 168


def _hours(workspace: SimulatedWorkspace) -> list[float]:
    """Cumulative activity of the whole workspace, one entry an hour, from the start to the end."""
    weeks: dict[tuple[float, ...], float] = {}
    for person in workspace.people:
        weeks[person.awake] = weeks.get(person.awake, 0.0) + person.activity
    week = [float_sum(weight * awake[hour] for awake, weight in weeks.items()) for hour in range(168)]
    slots = -(-(workspace.end - workspace.start) // HOUR)
    parts = [week[hour_of_week(workspace.start + slot * HOUR)] for slot in range(slots)]
    parts[-1] *= (workspace.end - workspace.start - (slots - 1) * HOUR) / HOUR
    return [0.0, *accumulate(parts)]
