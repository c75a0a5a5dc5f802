"""Features of the people of a channel, point in time: the columns beside each candidate.

They change on events and never on reads, come from this channel alone, and are plain integers and floats in a fixed order. Decayed
counts are kept by forward decay (Cormode et al., "Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE 2009): an event
at t adds 2^((t - landmark) / half_life), and a reader divides by today's weight, so that nothing is touched between events.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from operator import itemgetter, mul
from typing import Any, NamedTuple
from zlib import crc32

from beepgpt.conversations.decay import DAY, SPAN, Decay
from beepgpt.conversations.snapshots import State

HOUR = 3_600_000_000

ANSWERS_3D, ANSWERS_30D, ANSWERS_180D, FIRST_7D, FIRST_60D, POSTS_30D = range(6)
HALF_LIVES = (3, 30, 180, 7, 60, 30)
"""Days, one for each decayed count above."""
COUNTS = len(HALF_LIVES)
NOTHING_LEFT = 1e-180
"""What is left of a count after two landmarks, over 512 half-lives later: taken as 0, since its inverse would not fit in a double."""

BUCKETS = 1024
"""Words are hashed by crc32 into so many buckets: a vocabulary that was fitted later would leak."""
QUERY_WORDS = 24
AUTHORS_KEPT = 32
"""For how many authors a person's answers are counted one by one."""

WEIGHT = 1 << 20
"""Weight of a word that was never said before. Integers, because sums of floats differ between Pythons."""

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

Columns = dict[str, list[Any]]
"""Features of candidates, a column each. `user`: ids. `in_window`: how many messages back they last spoke, 2 for the message before the
newest, 0 for not at all. `mentioned`: how many messages back they were last named by Slack's `<@…>`, 1 for the newest, 0 for not at all.
`spoke`: their place among the first eight who spoke in the conversation, 1 for who began it, 0 for none of them (and where all of a channel
is one). `answers_*`, `first_*`, `posts_*`: counts by half-life. `share_*`: of all answers in the channel. `seen_hours`:
since their last post in the channel, -1 for never (or no longer known). `to_author`: answers to the last author, half-life 180 days.
`hour_share`: of their posts, within the hour of the day before, this one and the next (UTC). `closeness`: cosine-like, of the window's
words to those they answered before."""

Query = tuple[Callable[[bytearray], tuple[int, ...]], list[int], float] | None
"""A window's words: a getter of their counts in a person's `words`, their weights, and the length of the weights; None without words."""


class MessageCues(NamedTuple):
    """A message of a window, as far as candidates depend on it."""

    author: str
    bot: bool = False
    words: tuple[int, ...] = ()
    mentions: tuple[str, ...] = ()


class WindowPeople(NamedTuple):
    """Positions of people in the window and conversation."""

    last: str
    """The author of the newest message."""
    spoke_back: dict[str, int]
    """How many messages back each of the others last spoke."""
    named_back: dict[str, int]
    """How many messages back each was last named."""
    began: dict[str, int]
    """The position of each among the first who spoke in the conversation, from 1."""


class Person(State):
    """One person's counts in one channel, from which features are computed."""

    __slots__ = ("authors", "counts", "hours", "hours_sum", "seen", "words", "words_norm")

    def __init__(self) -> None:
        self.seen = -1
        """Time of the last post."""
        self.counts = [0.0] * COUNTS
        self.hours = bytearray(24)
        """Posts by hour of the day (UTC), all halved whenever one would pass 255."""
        self.hours_sum = 1
        """Their sum, 1 if there are none."""
        self.authors: dict[str, float] | None = None
        """Answers to each author, weighted as ANSWERS_180D."""
        self.words: bytearray | None = None
        """How often each bucket stood in a message they answered; all halved whenever one would pass 255."""
        self.words_norm = 0
        """Sum of the squares of `words`."""


class People(State):
    """The people of one channel, and their features."""

    __slots__ = ("bots", "channel_words", "channel_words_seen", "kept", "landmarks", "people", "next_span", "ranked", "totals")

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.people: dict[str, Person] = {}
        """The most recently seen last."""
        self.bots: dict[str, None] = {}
        """Bots that have posted here: they are no candidates when somebody names them."""
        self.ranked: list[tuple[float, int, str]] = []
        """(-decayed posts, -time of the last post, person), ascending: the most active first."""
        self.totals = [0.0] * COUNTS
        self.landmarks = [0] * COUNTS
        self.next_span = 0
        """When the first of the landmarks has to move on."""
        self.channel_words: bytearray | None = None
        """How often each bucket stood in any message of the channel, halved as above: frequent words weigh little."""
        self.channel_words_seen = 0

    def posted(self, user: str, t: int, words: Iterable[int], answered: str | None, first: bool, answered_words: Iterable[int]) -> None:
        """Count a post by `user` at `t`. If it answers somebody: `answered` is whom, `first` whether it is a first reply."""
        person = self.people.pop(user, None)
        if person is None:
            person = Person()
            if len(self.people) >= self.kept:
                self._forget(next(iter(self.people)))
        else:
            self._unrank(user, person)
        self.people[user] = person
        weights = _weights(t)
        counts, totals = person.counts, self.totals
        added = [POSTS_30D]
        if answered is not None:
            added += [ANSWERS_3D, ANSWERS_30D, ANSWERS_180D]
            if first:
                added += [FIRST_7D, FIRST_60D]
            self._answered(person, answered, weights[ANSWERS_180D], answered_words)
        for count in added:
            counts[count] += weights[count]
            totals[count] += weights[count]
        person.seen = t
        _count_up(person.hours, t // HOUR % 24)
        person.hours_sum = sum(person.hours)
        insort(self.ranked, (-counts[POSTS_30D], -t, user))
        if self.channel_words is None:
            self.channel_words = bytearray(BUCKETS)
        common = self.channel_words
        for bucket in words:
            if common[bucket] == 255:
                _halve(common)
            common[bucket] += 1
        self.channel_words_seen += 1

    def bot_posted(self, user: str) -> None:
        """Note that `user` is a bot."""
        self.bots[user] = None

    def candidates(self, t: int, window: Sequence[MessageCues], most: int, spoken: Iterable[str] = ()) -> Columns:
        """The people who may answer a window, `most` at most, and their features at `t`, as columns.

        `window`: oldest first. `spoken`: who has spoken in the conversation, in the order of their first posts. The last author and bots
        are no candidates. A person who is named is one, even if they have never posted in the channel.
        """
        last = window[-1].author
        spoke_back: dict[str, int] = {}
        named_back: dict[str, int] = {}
        for back, cues in enumerate(reversed(window), start=1):
            if not cues.bot and cues.author != last:
                spoke_back.setdefault(cues.author, back)
            for person in cues.mentions:
                if person != last:
                    named_back.setdefault(person, back)
        began = {person: place for place, person in enumerate(islice(spoken, SPOKEN_KEPT), start=1)}
        nearby = dict.fromkeys([last, *spoke_back, *[person for person in named_back if person not in self.bots], *began])
        users = [user for user in nearby if user != last][:most]
        likely = self.ranked[: most - len(users) + len(nearby)]
        users += [user for _, _, user in likely if user not in nearby]
        del users[most:]
        return self._features(t, users, WindowPeople(last, spoke_back, named_back, began), self._query(window))

    def _features(self, t: int, users: list[str], around: WindowPeople, query: Query) -> Columns:
        last = around.last
        known = [self.people.get(user, _NOBODY) for user in users]
        counts = [person.counts for person in known]
        columns: Sequence[Sequence[float]] = list(zip(*counts, strict=True)) or [()] * COUNTS
        now = [1e4 / weight for weight in _weights(t)]
        share = [1e4 / total if total > 0 else 0.0 for total in self.totals]
        to_author = now[ANSWERS_180D]
        hour = t // HOUR % 24
        before, after = (hour - 1) % 24, (hour + 1) % 24
        return {
            "user": users,
            "in_window": [around.spoke_back.get(user, 0) for user in users],
            "mentioned": [around.named_back.get(user, 0) for user in users],
            "spoke": [around.began.get(user, 0) for user in users],
            "answers_3d": _rounded(columns[ANSWERS_3D], now[ANSWERS_3D]),
            "answers_30d": _rounded(columns[ANSWERS_30D], now[ANSWERS_30D]),
            "answers_180d": _rounded(columns[ANSWERS_180D], now[ANSWERS_180D]),
            "share_3d": _rounded(columns[ANSWERS_3D], share[ANSWERS_3D]),
            "share_30d": _rounded(columns[ANSWERS_30D], share[ANSWERS_30D]),
            "share_180d": _rounded(columns[ANSWERS_180D], share[ANSWERS_180D]),
            "first_7d": _rounded(columns[FIRST_7D], now[FIRST_7D]),
            "first_60d": _rounded(columns[FIRST_60D], now[FIRST_60D]),
            "posts_30d": _rounded(columns[POSTS_30D], now[POSTS_30D]),
            "seen_hours": [int((t - person.seen) / HOUR * 1e4 + 0.5) / 1e4 if person.seen >= 0 else -1.0 for person in known],
            "to_author": [
                int(person.authors[last] * to_author + 0.5) / 1e4 if person.authors and last in person.authors else 0.0 for person in known
            ],
            "hour_share": [
                int((person.hours[before] + person.hours[hour] + person.hours[after]) / person.hours_sum * 1e4 + 0.5) / 1e4
                for person in known
            ],
            "closeness": [closeness(person, query) for person in known],
        }

    def _query(self, window: Sequence[MessageCues]) -> Query:
        """The window's words, the newest message's first, weighted by how rare they are in the channel."""
        newest_first = chain.from_iterable([cues.words for cues in reversed(window)])
        buckets = tuple(islice(dict.fromkeys(newest_first), QUERY_WORDS))
        common = self.channel_words
        if not buckets or common is None:
            return None
        weights = [WEIGHT // (1 + common[bucket]) for bucket in buckets]
        take = itemgetter(*buckets) if len(buckets) > 1 else lambda counts: (counts[buckets[0]],)
        return take, weights, math.sqrt(sum(map(mul, weights, weights)))

    def _answered(self, person: Person, author: str, weight: float, answered_words: Iterable[int]) -> None:
        if person.authors is None:
            person.authors = {}
        authors = person.authors
        authors[author] = authors.get(author, 0.0) + weight
        if len(authors) > AUTHORS_KEPT:
            del authors[min(authors, key=lambda other: (authors[other], other) if other != author else (math.inf, other))]
        if person.words is None:
            person.words = bytearray(BUCKETS)
        counted = person.words
        for bucket in answered_words:
            if counted[bucket] == 255:
                _halve(counted)
                person.words_norm = sum(map(mul, counted, counted))
            person.words_norm += 2 * counted[bucket] + 1
            counted[bucket] += 1

    def advance(self, t: int) -> None:
        """Move the landmarks of the decayed counts on, if it is time. Call it with each event's time, before the event takes effect.

        They lie a whole number of spans after 1970, so that they depend on that time alone.
        """
        if t < self.next_span:
            return
        spans_of = [SPAN * half_life * DAY for half_life in HALF_LIVES]
        self.next_span = min((t // span + 1) * span for span in spans_of)
        for count, span in enumerate(spans_of):
            spans = t // span - self.landmarks[count] // span
            if spans == 0:
                continue
            factor = math.ldexp(1.0, -SPAN) if spans == 1 else 0.0
            self.landmarks[count] = t // span * span
            self.totals[count] = _scaled(self.totals[count], factor)
            for person in self.people.values():
                person.counts[count] = _scaled(person.counts[count], factor)
                if count == ANSWERS_180D and person.authors:
                    person.authors = {author: _scaled(weight, factor) for author, weight in person.authors.items()}
            if count == POSTS_30D:
                self.ranked = sorted((-person.counts[count], -person.seen, user) for user, person in self.people.items())

    def _unrank(self, user: str, person: Person) -> None:
        del self.ranked[bisect_left(self.ranked, (-person.counts[POSTS_30D], -person.seen, user))]

    def _forget(self, user: str) -> None:
        self._unrank(user, self.people.pop(user))


_NOBODY = Person()
_DECAY = Decay(HALF_LIVES[:POSTS_30D])


def _weights(t: int) -> list[float]:
    """What an event at `t` adds to each decayed count."""
    weights = _DECAY.weights(t)
    weights.append(weights[ANSWERS_30D])  # of POSTS_30D, which has the same half-life
    return weights


def _rounded(counts: Iterable[float], factor: float) -> list[float]:
    """Counts times `factor` in 4 decimals; the factor includes 1e4.

    `int(… + 0.5)` rounds as round() does but for ties, in a fifth of its time: here and wherever it stands, all is positive or 0.
    """
    return [int(count * factor + 0.5) / 1e4 for count in counts]


def closeness(person: Person, query: Query) -> float:
    """The cosine of the window's weighted words and those of the messages that this person answered before, in 4 decimals."""
    if query is None or person.words is None:
        return 0.0
    take, weights, length = query
    close: int = sum(map(mul, take(person.words), weights))
    return int(close / (length * math.sqrt(person.words_norm)) * 1e4 + 0.5) / 1e4 if close else 0.0


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
    scaled = count * factor
    return scaled if scaled > NOTHING_LEFT else 0.0


def _count_up(counts: bytearray, place: int) -> None:
    if counts[place] == 255:
        _halve(counts)
    counts[place] += 1


def _halve(counts: bytearray) -> None:
    counts[:] = counts.translate(_HALVES)
