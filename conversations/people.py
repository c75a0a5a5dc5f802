"""What a channel knows about its people, point in time: the facts beside each candidate (DESIGN.md §8).

All of it changes on events and never on reads, comes from this channel alone, and is plain integers and floats in a fixed order. Decayed
counts are kept by forward decay (Cormode et al., "Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE 2009): an event
at t adds 2^((t - landmark) / half_life), and a reader divides by today's weight, so that nothing is touched between events.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any
from zlib import crc32

DAY = 86_400_000_000
HOUR = 3_600_000_000

ANSWERS_3D, ANSWERS_30D, ANSWERS_180D, FIRST_7D, FIRST_60D, POSTS_30D = range(6)
HALF_LIVES = (3 * DAY, 30 * DAY, 180 * DAY, 7 * DAY, 60 * DAY, 30 * DAY)
"""Microseconds, one for each decayed count above."""
COUNTS = len(HALF_LIVES)
SPAN = 512
"""Half-lives between two landmarks: 2^512 squared still fits in a double. Rescaling by a power of two is exact."""

BUCKETS = 1024
"""Words are hashed by crc32 into so many buckets: a vocabulary that was fitted later would leak."""
QUERY_WORDS = 24
AUTHORS_KEPT = 32
"""For how many authors a person's answers are counted one by one."""

_WORD = re.compile(r"\w{2,}")

Columns = dict[str, list[Any]]


class Person:
    """One person in one channel."""

    __slots__ = ("answered", "authors", "counts", "hours", "seen", "words", "words_norm")

    def __init__(self) -> None:
        self.seen = 0
        """Time of the last post."""
        self.counts = [0.0] * COUNTS
        self.hours = bytearray(24)
        """Posts by hour of the day (UTC), all halved whenever one would pass 255."""
        self.authors: dict[str, float] | None = None
        """Answers to each author, weighted as ANSWERS_180D."""
        self.words: bytearray | None = None
        """How often each bucket stood in a message they answered; all halved whenever one would pass 255."""
        self.words_norm = 0
        """Sum of the squares of `words`."""


class People:
    """The people of one channel, the most recently seen last."""

    __slots__ = ("channel_words", "channel_words_seen", "kept", "landmarks", "people", "next_span", "ranked", "totals")

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.people: dict[str, Person] = {}
        self.ranked: list[tuple[float, int, str]] = []
        """(-decayed posts, -time of the last post, person), ascending: the most active first."""
        self.totals = [0.0] * COUNTS
        self.landmarks = [0] * COUNTS
        self.next_span = 0
        """When the first of the landmarks has to move on."""
        self.channel_words: bytearray | None = None
        """How often each bucket stood in any message of the channel, halved as above: what is said everywhere tells little."""
        self.channel_words_seen = 0

    def posted(self, user: str, t: int, words: Iterable[int], answers: str | None, first: bool, asked: Iterable[int]) -> None:
        """`user` posted at `t`. If that was an answer: to which author, whether the first reply, and the words of what was answered."""
        person = self.people.pop(user, None)
        if person is None:
            person = Person()
            if len(self.people) >= self.kept:
                self._forget(next(iter(self.people)))
        else:
            self._unrank(user, person)
        self.people[user] = person
        weights = self._weights(t)
        counts, totals = person.counts, self.totals
        added = [POSTS_30D]
        if answers is not None:
            added += [ANSWERS_3D, ANSWERS_30D, ANSWERS_180D]
            if first:
                added += [FIRST_7D, FIRST_60D]
            self._answered(person, answers, weights[ANSWERS_180D], asked)
        for count in added:
            counts[count] += weights[count]
            totals[count] += weights[count]
        person.seen = t
        _count_up(person.hours, t // HOUR % 24)
        insort(self.ranked, (-counts[POSTS_30D], -t, user))
        if self.channel_words is None:
            self.channel_words = bytearray(BUCKETS)
        for bucket in words:
            _count_up(self.channel_words, bucket)
        self.channel_words_seen += 1

    def candidates(self, t: int, window: Sequence[tuple[str, bool, tuple[int, ...]]], most: int) -> Columns:
        """At most `most` people who may answer a window, most likely named first, with their facts at `t`, as columns.

        `window`: (author, whether a bot, words), oldest first. Nobody who posted last and no bot is a candidate.
        """
        last = window[-1][0]
        place: dict[str, int] = {}
        for back, (author, bot, _) in enumerate(reversed(window), start=1):
            if not bot and author != last:
                place.setdefault(author, back)
        users = list(place)[:most]
        chosen = set(users)
        for _, _, user in self.ranked:
            if len(users) >= most:
                break
            if user != last and user not in chosen:
                users.append(user)
        return self._facts(t, users, place, last, self._query(window))

    def _facts(self, t: int, users: list[str], place: dict[str, int], last: str, query: list[tuple[int, float]]) -> Columns:
        columns: Columns = {name: [] for name in FACTS}
        columns["user"] = users
        (
            in_window, answers_3d, answers_30d, answers_180d, share_3d, share_30d, share_180d,
            first_7d, first_60d, posts_30d, seen_hours, to_author, hour_share, closeness,
        ) = (columns[name].append for name in FACTS[1:])  # fmt: skip
        now = [1 / weight for weight in self._weights(t)]
        scale = [1 / total if total > 0 else 0.0 for total in self.totals]
        hour = t // HOUR % 24
        before, after = (hour - 1) % 24, (hour + 1) % 24
        for user in users:
            in_window(place.get(user, 0))
            person = self.people.get(user, _NOBODY)
            c3, c30, c180, f7, f60, posts = person.counts
            answers_3d(int(c3 * now[0] * 1e4 + 0.5) / 1e4)
            answers_30d(int(c30 * now[1] * 1e4 + 0.5) / 1e4)
            answers_180d(int(c180 * now[2] * 1e4 + 0.5) / 1e4)
            share_3d(int(c3 * scale[0] * 1e4 + 0.5) / 1e4)
            share_30d(int(c30 * scale[1] * 1e4 + 0.5) / 1e4)
            share_180d(int(c180 * scale[2] * 1e4 + 0.5) / 1e4)
            first_7d(int(f7 * now[3] * 1e4 + 0.5) / 1e4)
            first_60d(int(f60 * now[4] * 1e4 + 0.5) / 1e4)
            posts_30d(int(posts * now[5] * 1e4 + 0.5) / 1e4)
            seen_hours(int((t - person.seen) / HOUR * 1e4 + 0.5) / 1e4 if person.seen else -1.0)
            authors = person.authors
            to_author(int(authors[last] * now[2] * 1e4 + 0.5) / 1e4 if authors and last in authors else 0.0)
            hours = person.hours
            around = hours[before] + hours[hour] + hours[after]
            hour_share(int(around / sum(hours) * 1e4 + 0.5) / 1e4 if around else 0.0)
            counted = person.words
            if counted is None or not query:
                closeness(0.0)
            else:
                close = 0.0
                for bucket, weight in query:
                    close += counted[bucket] * weight
                closeness(int(close / math.sqrt(person.words_norm or 1) * 1e4 + 0.5) / 1e4)
        return columns

    def _query(self, window: Sequence[tuple[str, bool, tuple[int, ...]]]) -> list[tuple[int, float]]:
        """The window's words, the newest message's first, weighted by how rare they are in the channel; of length one."""
        buckets = dict.fromkeys(bucket for _, _, words in reversed(window) for bucket in words)
        common = self.channel_words
        if not buckets or common is None:
            return []
        weights = [(bucket, 1 / (1 + common[bucket])) for bucket in islice(buckets, QUERY_WORDS)]
        length = math.sqrt(sum(weight * weight for _, weight in weights))
        return [(bucket, weight / length) for bucket, weight in weights]

    def _answered(self, person: Person, author: str, weight: float, asked: Iterable[int]) -> None:
        if person.authors is None:
            person.authors = {}
        authors = person.authors
        authors[author] = authors.get(author, 0.0) + weight
        if len(authors) > AUTHORS_KEPT:
            del authors[min(authors, key=lambda other: (authors[other], other) if other != author else (math.inf, other))]
        if person.words is None:
            person.words = bytearray(BUCKETS)
        counted = person.words
        for bucket in asked:
            if counted[bucket] == 255:
                _halve(counted)
                person.words_norm = sum(count * count for count in counted)
            person.words_norm += 2 * counted[bucket] + 1
            counted[bucket] += 1

    def _weights(self, t: int) -> list[float]:
        return [2.0 ** ((t - landmark) / half_life) for landmark, half_life in zip(self.landmarks, HALF_LIVES, strict=True)]

    def move_on(self, t: int) -> None:
        """To be called with each event's time. Landmarks lie a whole number of spans after 1970, so they depend on that time alone."""
        if t < self.next_span:
            return
        self.next_span = min((t // (SPAN * half_life) + 1) * SPAN * half_life for half_life in HALF_LIVES)
        for count, half_life in enumerate(HALF_LIVES):
            span = SPAN * half_life
            spans = t // span - self.landmarks[count] // span
            if spans == 0:
                continue
            factor = 2.0 ** (-SPAN * min(spans, 4))
            self.landmarks[count] = t // span * span
            self.totals[count] *= factor
            for person in self.people.values():
                person.counts[count] *= factor
                if count == ANSWERS_180D and person.authors:
                    person.authors = {author: weight * factor for author, weight in person.authors.items()}
            if count == POSTS_30D:
                self.ranked = sorted((-person.counts[count], -person.seen, user) for user, person in self.people.items())

    def _unrank(self, user: str, person: Person) -> None:
        del self.ranked[bisect_left(self.ranked, (-person.counts[POSTS_30D], -person.seen, user))]

    def _forget(self, user: str) -> None:
        self._unrank(user, self.people.pop(user))


FACTS = (
    "user",
    "in_window",
    "answers_3d",
    "answers_30d",
    "answers_180d",
    "share_3d",
    "share_30d",
    "share_180d",
    "first_7d",
    "first_60d",
    "posts_30d",
    "seen_hours",
    "to_author",
    "hour_share",
    "closeness",
)
"""The columns of `candidates`, in their order. `in_window`: how many messages back they last spoke, 2 for the message before the
newest, 0 for not at all. `answers_*`, `first_*`, `posts_*`: counts by half-life. `share_*`: of all answers in the channel. `seen_hours`:
since their last post in the channel, -1 for never (or no longer known). `to_author`: answers to the last author, half-life 180 days.
`hour_share`: of their posts, within the hour of the day before, this one and the next (UTC). `closeness`: cosine-like, of the window's
words to those they answered before."""

_NOBODY = Person()


def words_of(cleaned: str) -> tuple[int, ...]:
    """The buckets of a text's words, each once, in order of appearance.

    >>> len(words_of("The deploy failed; the deploy is red"))
    5
    """
    return tuple(dict.fromkeys([crc32(word.encode()) % BUCKETS for word in _WORD.findall(cleaned.lower()[:4000])]))


def _count_up(counts: bytearray, place: int) -> None:
    if counts[place] == 255:
        _halve(counts)
    counts[place] += 1


def _halve(counts: bytearray) -> None:
    counts[:] = bytes(count >> 1 for count in counts)
