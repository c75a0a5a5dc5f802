"""What a simulated workspace is made from: its size, its habits, what goes wrong on the way to Kafka; and repeatable draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from random import Random
from typing import TypeVar

from beepgpt.conversations.rules import DAY, SECOND

T = TypeVar("T")

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


def pick(choices: Sequence[T], draws: Random) -> T:
    """Draw one element, each equally likely."""
    return choices[int(draws.random() * len(choices))]


def quantile(table: Quantiles, draw: float) -> float:
    """Interpolate a table of evenly spaced quantiles at `draw`, from 0 to 1."""
    at = draw * (len(table) - 1)
    step = int(at)
    return table[step] + (table[step + 1] - table[step]) * (at - step)


def after_delay(t: int, table: Quantiles, draws: Random) -> int:
    """Add a delay to `t` (microseconds), drawn from a table of seconds."""
    return t + int(quantile(table, draws.random()) * SECOND)


def float_sum(parts: Iterable[float]) -> float:
    """Add floats from left to right: the same result in every version of Python."""
    total = 0.0
    for part in parts:
        total += part
    return total


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All parameters of a simulated workspace. Shares are of posts by people unless they say otherwise; 0 leaves a thing out."""

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
    reply_delay: float = 1.0
    """How many times as long people take to reply in a thread."""
    files: float = 0.02
    me: float = 0.003
    links: float = 0.05
    code: float = 0.03
    mentions: float = 0.05
    elsewhere: float = 0.0
    """Share of posts whose author or words stand elsewhere than usual: through an app, forwarded, in blocks alone, an upload or a comment
    on a file of 2017, or beside colons that are no emoji."""
    moves: float = 0.0
    """Share of channels that get another id once."""
    named_reactors: int = 0
    """How many people an export names of a reaction, at most; 0: all."""
    private: float = 0.15
    """Share of channels."""
    blocks: bool = False
    """Whether messages repeat their text as rich text blocks, as most of Slack's do."""

    duplicates: float = 0.01
    """Share of events that arrive twice."""
    disorder: float = 2.0
    """Greatest delay of a record in seconds; at most `lateness`, so that it makes nothing late."""
    too_late: float = 0.0005
    """Share of records that arrive 2 to 20 minutes after their time."""
    broken: float = 0.001
    """Unreadable records, per record."""
    heartbeat_every: float | None = None
    """Seconds between two heartbeats. Beware: one a second for a year is 31 million records."""
    lateness: float = 5.0

    time_zone: str = "America/New_York"
    """Time zone whose midnights cut the export's day files."""

    def __post_init__(self) -> None:
        """Raise ValueError for values that can't be simulated."""
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
    """The same plan without edits, deletions, reactions and unfurls: its export holds all that the live stream does."""
    return replace(plan, edits=0.0, deletions=0.0, reactions=0.0, unfurls=0.0)


def undisturbed(plan: Plan) -> Plan:
    """The same plan, delivered in order, without duplicates, late or broken records."""
    return replace(plan, duplicates=0.0, disorder=0.0, too_late=0.0, broken=0.0)
