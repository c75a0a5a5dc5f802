"""The people of a channel, point in time, and who of them may answer: what plain_columns.py makes the columns beside each candidate of.

They change on events and never on reads, come from this channel alone, and are plain integers and floats in a fixed order. Decayed
counts are kept by forward decay (Cormode et al., "Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE 2009): an event
at t adds 2^((t - landmark) / half_life), and a reader divides by today's weight, so that nothing is touched between events.

A person who posts becomes another `Person`: so a point keeps who was there and how they stood by references alone, and its columns can be
made later, of many points at once, or never.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from operator import mul
from struct import Struct
from typing import NamedTuple, Protocol
from zlib import crc32

from beepgpt.conversations.decay import DAY, SPAN, Decay
from beepgpt.conversations.snapshots import State

HOUR = 3_600_000_000

ANSWERS_3D, ANSWERS_30D, ANSWERS_180D, FIRST_7D, FIRST_60D, POSTS_30D = range(6)
HALF_LIVES = (3, 30, 180, 7, 60, 30)
"""Days, one for each decayed count above."""
COUNTS = len(HALF_LIVES)
ANSWER_COUNTS = (POSTS_30D, ANSWERS_3D, ANSWERS_30D, ANSWERS_180D)
"""What an answer adds to, and a first reply (below)."""
FIRST_COUNTS = (*ANSWER_COUNTS, FIRST_7D, FIRST_60D)
NOTHING_LEFT = 1e-180
"""What is left of a count after two landmarks, over 512 half-lives later: taken as 0, since its inverse would not fit in a double."""

BUCKETS = 1024
"""Words are hashed by crc32 into so many buckets: a vocabulary that was fitted later would leak."""
QUERY_WORDS = 24
AUTHORS_KEPT = 32
"""For how many authors a person's answers are counted one by one."""

MENTIONS_KEPT = 8
"""Mentions that count of one message: more people are a call to everybody."""
SPOKEN_KEPT = 8
"""The first so many who spoke in a conversation are candidates."""
SLACKBOT = "USLACKBOT"

_WORD = re.compile(r"\w{2,}")
_CODE = re.compile(r"```.*?```", re.DOTALL)
_MENTION = re.compile(r"<@([^<>|\s]+)(?:\|[^<>]*)?>")
_NUMBERS = tuple(range(BUCKETS))
"""One object for each bucket: a message's words then take a third of the memory."""
_HALVES = bytes([count >> 1 for count in range(256)])


class WindowMessage(Protocol):
    """A message of a window, as far as candidates depend on it."""

    @property
    def user(self) -> str: ...

    @property
    def bot(self) -> bool: ...

    @property
    def words(self) -> tuple[int, ...]: ...

    @property
    def mentions(self) -> tuple[str, ...]: ...


class PersonRow(NamedTuple):
    """A person's counts in one channel, as they are packed in a `Person`."""

    counts: list[float]
    seen: int
    """Time of the last post; -1: never."""
    words_norm: int
    """Sum of the squares of `words`."""
    hours: bytes
    """Posts by hour of the day (UTC), all halved whenever one would pass 255."""
    hours_sum: int
    """Their sum, 1 if there are none."""


ROW = Struct(f"<{COUNTS}d2q24sq")
"""A `PersonRow` in 96 bytes."""
FACTORS = Struct("<9d")
"""What a point's columns are multiplied by: its counts', and those of the first three as shares. They include 1e4."""
NO_ROW = ROW.pack(*[0.0] * COUNTS, -1, 0, bytes(24), 1)


class Person(State):
    """One person in one channel, at one time. Never changed: a post makes another one."""

    __slots__ = ("authors", "row", "user", "words")

    def __init__(self, user: str, row: bytes = NO_ROW, words: bytearray | None = None, authors: dict[str, float] | None = None) -> None:
        self.user = user
        self.row = row
        self.words = words
        """How often each bucket stood in a message they answered; all halved whenever one would pass 255."""
        self.authors = authors
        """Answers to each author, weighted as ANSWERS_180D."""


def unpacked(row: bytes) -> PersonRow:
    """A person's counts."""
    *counts, seen, words_norm, hours, hours_sum = ROW.unpack(row)
    return PersonRow(counts, seen, words_norm, hours, hours_sum)


Ranked = tuple[float, int, str, Person]
"""(-decayed posts, -time of the last post, person, and as they stand): ascending, the most active first."""


class Lineup(State):
    """Who may answer at a point, and all that their columns are made of, as it stood then."""

    __slots__ = ("buckets", "common", "factors", "last", "likely", "most", "near", "places", "t")

    def __init__(
        self,
        t: int,
        last: str,
        most: int,
        near: list[Person],
        places: list[tuple[int, int, int]],
        likely: list[Ranked],
        factors: bytes,
        buckets: tuple[int, ...],
        common: bytes,
    ) -> None:
        self.t = t
        self.last = last
        """The author of the newest message."""
        self.most = most
        """So many candidates at most."""
        self.near = near
        """Who is near: in the window, named there, or in the conversation."""
        self.places = places
        """Of each of them, 0 for none: how many messages back they last spoke, and were last named, and their place among who spoke."""
        self.likely = likely
        """The most active of the channel, enough to fill up with. Some may be near."""
        self.factors = factors
        self.buckets = buckets
        """The window's words, the newest message's first."""
        self.common = common
        """How often each of them had been said in the channel."""

    def people(self) -> list[Person]:
        """The candidates, in order."""
        chosen, most = self.near, self.most
        if len(chosen) < most:
            names = {person.user for person in chosen}
            names.add(self.last)
            chosen = [*chosen, *[person for _, _, user, person in self.likely if user not in names]]
            del chosen[most:]
        return chosen


class People(State):
    """The people of one channel."""

    __slots__ = (
        "bots", "channel_words", "channel_words_seen", "factors", "factors_at",
        "kept", "landmarks", "next_span", "people", "ranked", "totals",
    )  # fmt: skip

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.people: dict[str, Person] = {}
        """The most recently seen last."""
        self.bots: dict[str, None] = {}
        """Bots that have posted here: they are no candidates when somebody names them."""
        self.ranked: list[Ranked] = []
        self.totals = [0.0] * COUNTS
        self.landmarks = [0] * COUNTS
        self.next_span = 0
        """When the first of the landmarks has to move on."""
        self.channel_words: bytearray | None = None
        """How often each bucket stood in any message of the channel, halved as above: frequent words weigh little."""
        self.channel_words_seen = 0
        self.factors = b""
        """The factors of a point at `factors_at`, the time of the last post: its points share them."""
        self.factors_at = -1

    def posted(self, user: str, t: int, words: Iterable[int], answered: str | None, first: bool, answered_words: Iterable[int]) -> None:
        """Count a post by `user` at `t`. If it answers somebody: `answered` is whom, `first` whether it is a first reply."""
        before = self.people.pop(user, None)
        if before is None:
            before = Person(user)
            if len(self.people) >= self.kept:
                self._forget(next(iter(self.people)))
            *counts, seen, norm, hours, _ = ROW.unpack(NO_ROW)
        else:
            *counts, seen, norm, hours, _ = ROW.unpack(before.row)
            del self.ranked[bisect_left(self.ranked, (-counts[POSTS_30D], -seen, user))]
        weights, totals = _DECAY.weights(t), self.totals
        added: tuple[int, ...] = (POSTS_30D,)
        answers, authors = before.words, before.authors
        if answered is not None:
            added = FIRST_COUNTS if first else ANSWER_COUNTS
            authors = _with_answer(authors, answered, weights[ANSWERS_180D])
            answers = bytearray(BUCKETS) if answers is None else answers[:]
            norm = _count_words(answers, answered_words, norm)
        for count in added:
            weight = weights[count]
            counts[count] += weight
            totals[count] += weight
        by_hour = bytearray(hours)
        _count_up(by_hour, t // HOUR % 24)
        row = ROW.pack(*counts, t, norm, by_hour, sum(by_hour))
        person = self.people[user] = Person(user, row, answers, authors)
        insort(self.ranked, (-counts[POSTS_30D], -t, user, person))
        if self.channel_words is None:
            self.channel_words = bytearray(BUCKETS)
        common = self.channel_words
        for bucket in words:
            if common[bucket] == 255:
                _halve(common)
            common[bucket] += 1
        self.channel_words_seen += 1
        self.factors, self.factors_at = self._factors(t), t

    def bot_posted(self, user: str) -> None:
        """Note that `user` is a bot."""
        self.bots[user] = None

    def candidates(self, t: int, window: Sequence[WindowMessage], most: int, spoken: Iterable[str] = ()) -> Lineup:
        """The people who may answer a window, `most` at most, as they stand at `t`.

        `window`: oldest first. `spoken`: who has spoken in the conversation, in the order of their first posts. The last author and bots
        are no candidates. A person who is named is one, even if they have never posted in the channel; where a bot has used their name, if
        they have posted themselves, too.
        """
        last = window[-1].user
        spoke: dict[str, int] = {}
        named: dict[str, int] = {}
        for back, message in enumerate(reversed(window), start=1):
            author = message.user
            if author != last and author not in spoke and not message.bot:
                spoke[author] = back
            for person in message.mentions:
                if person != last and person not in named:
                    named[person] = back
        began = {person: place for place, person in enumerate(islice(spoken, SPOKEN_KEPT), start=1)}
        people = self.people
        nearby = dict.fromkeys([*spoke, *[person for person in named if person not in self.bots or person in people], *began])
        nearby.pop(last, None)
        names = list(nearby)[:most]
        near = [people.get(user) or Person(user) for user in names]
        places = [(spoke.get(user, 0), named.get(user, 0), began.get(user, 0)) for user in names]
        likely = self.ranked[: most + 1] if len(names) < most else []  # of so many people, most - len(names) are neither near nor last
        buckets, common = self._query(window)
        factors = self.factors if t == self.factors_at else self._factors(t)
        return Lineup(t, last, most, near, places, likely, factors, buckets, common)

    def _query(self, window: Sequence[WindowMessage]) -> tuple[tuple[int, ...], bytes]:
        """The window's words, the newest message's first, and how common they are in the channel."""
        common = self.channel_words
        if common is None:
            return (), b""
        buckets = window[-1].words
        if len(buckets) < QUERY_WORDS and len(window) > 1:
            buckets = tuple(dict.fromkeys(chain.from_iterable([message.words for message in reversed(window)])))
        buckets = buckets[:QUERY_WORDS]
        return buckets, bytes(map(common.__getitem__, buckets))

    def _factors(self, t: int) -> bytes:
        shares = [1e4 / total if total > 0 else 0.0 for total in self.totals[: ANSWERS_180D + 1]]
        return FACTORS.pack(*[1e4 / weight for weight in _DECAY.weights(t)], *shares)

    def advance(self, t: int) -> None:
        """Move the landmarks of the decayed counts on, if it is time. Call it with each event's time, before the event takes effect.

        They lie a whole number of spans after 1970, so that they depend on that time alone.
        """
        if t < self.next_span:
            return
        spans_of = [SPAN * half_life * DAY for half_life in HALF_LIVES]
        self.next_span = min((t // span + 1) * span for span in spans_of)
        factors = []
        for count, span in enumerate(spans_of):
            spans = t // span - self.landmarks[count] // span
            factors.append(1.0 if spans == 0 else math.ldexp(1.0, -SPAN) if spans == 1 else 0.0)
            self.landmarks[count] = t // span * span
        self.totals = [_scaled(total, factor) for total, factor in zip(self.totals, factors, strict=True)]
        self.people = {user: _moved_on(person, factors) for user, person in self.people.items()}
        by_row = [(unpacked(person.row), user, person) for user, person in self.people.items()]
        self.ranked = sorted((-row.counts[POSTS_30D], -row.seen, user, person) for row, user, person in by_row)

    def _forget(self, user: str) -> None:
        row = unpacked(self.people.pop(user).row)
        del self.ranked[bisect_left(self.ranked, (-row.counts[POSTS_30D], -row.seen, user))]


_DECAY = Decay(HALF_LIVES)


def _moved_on(person: Person, factors: Sequence[float]) -> Person:
    """As seen from later landmarks."""
    counts, *rest = unpacked(person.row)
    authors = person.authors
    if authors is not None:
        authors = {author: _scaled(weight, factors[ANSWERS_180D]) for author, weight in authors.items()}
    return Person(person.user, ROW.pack(*map(_scaled, counts, factors), *rest), person.words, authors)


def _with_answer(authors: dict[str, float] | None, author: str, weight: float) -> dict[str, float]:
    """With one more answer to an author. The least answered goes, if they are too many."""
    authors = {} if authors is None else authors.copy()
    authors[author] = authors.get(author, 0.0) + weight
    if len(authors) > AUTHORS_KEPT:
        others = [(weight, other) for other, weight in authors.items() if other != author]
        del authors[min(others)[1]]
    return authors


def _count_words(counted: bytearray, words: Iterable[int], norm: int) -> int:
    """Count words, and return the sum of the squares."""
    for bucket in words:
        if counted[bucket] == 255:
            _halve(counted)
            norm = sum(map(mul, counted, counted))
        norm += 2 * counted[bucket] + 1
        counted[bucket] += 1
    return norm


def mentions_of(text: str) -> tuple[str, ...]:
    """The people that a raw text names by Slack's markup: each once, in order of appearance; not Slackbot, and nobody inside of code.

    >>> mentions_of("Ask <@U1> or <@U2|bo>, and not ```<@U3>```")
    ('U1', 'U2')
    """
    if "<@" not in text:
        return ()
    if "```" in text:
        text = _CODE.sub(" ", text)
    named = dict.fromkeys([person for person in _MENTION.findall(text) if person != SLACKBOT])
    return tuple(islice(named, MENTIONS_KEPT))


def words_of(cleaned: str) -> tuple[int, ...]:
    """The buckets of a text's words, each once, in order of appearance.

    >>> len(words_of("The deploy failed; the deploy is red"))
    5
    """
    return tuple(dict.fromkeys([_NUMBERS[crc32(word.encode()) % BUCKETS] for word in _WORD.findall(cleaned.lower()[:4000])]))


def _scaled(count: float, factor: float) -> float:
    if factor == 1.0:
        return count
    scaled = count * factor
    return scaled if scaled > NOTHING_LEFT else 0.0


def _count_up(counts: bytearray, place: int) -> None:
    if counts[place] == 255:
        _halve(counts)
    counts[place] += 1


def _halve(counts: bytearray) -> None:
    counts[:] = counts.translate(_HALVES)
