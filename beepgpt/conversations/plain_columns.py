"""Features of candidates, the columns beside them, computed for one point: columns.py makes the same bytes of many points at once."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import chain
from operator import itemgetter, mul
from struct import pack
from typing import Any

from beepgpt.conversations.events import kept_json
from beepgpt.conversations.features import ANSWERS_180D, FACTORS, HOUR, Lineup, Person, unpacked

WEIGHT = 1 << 20
"""Weight of a word that was never said before. Integers, because sums of floats differ between Pythons."""

Columns = dict[str, list[Any]]
"""Features of candidates, a column each. `user`: ids. `in_window`: how many messages back they last spoke, 2 for the message before the
newest, 0 for not at all. `mentioned`: how many messages back they were last named by Slack's `<@…>`, 1 for the newest, 0 for not at all.
`spoke`: their place among the first eight who spoke in the conversation, 1 for who began it, 0 for none of them (and where all of a channel
is one). `answers_*`, `first_*`, `posts_*`: counts by half-life. `share_*`: of all answers in the channel. `seen_hours`:
since their last post in the channel, -1 for never (or no longer known). `to_author`: answers to the last author, half-life 180 days.
`hour_share`: of their posts, within the hour of the day before, this one and the next (UTC). `closeness`: cosine-like, of the window's
words to those they answered before."""

DECAYED = ("answers_3d", "answers_30d", "answers_180d", "first_7d", "first_60d", "posts_30d")
"""Columns of the decayed counts, in the order in which they are kept."""
SHARES = ("share_3d", "share_30d", "share_180d")


def word_weights(lineup: Lineup) -> tuple[list[int], float]:
    """The weights of a window's words, by how rare they are in the channel, and their length."""
    weights = [WEIGHT // (1 + said) for said in lineup.common]
    return weights, math.sqrt(sum(map(mul, weights, weights)))


def columns_of(lineup: Lineup) -> Columns:
    """The features of a point's candidates.

    `int(… + 0.5)` rounds as round() does but for ties, in a fifth of its time: wherever it stands, all is positive or 0.
    """
    people, t, last = lineup.people(), lineup.t, lineup.last
    rows = [unpacked(person.row) for person in people]
    factors = FACTORS.unpack(lineup.factors)
    others = [0] * (len(people) - len(lineup.near))
    decayed = {name: [int(row.counts[at] * factors[at] + 0.5) / 1e4 for row in rows] for at, name in enumerate(DECAYED)}
    shares = {name: [int(row.counts[at] * factors[at + 6] + 0.5) / 1e4 for row in rows] for at, name in enumerate(SHARES)}
    to_author = factors[ANSWERS_180D]
    hour = t // HOUR % 24
    before, after = (hour - 1) % 24, (hour + 1) % 24
    return {
        "user": [person.user for person in people],
        "in_window": [place[0] for place in lineup.places] + others,
        "mentioned": [place[1] for place in lineup.places] + others,
        "spoke": [place[2] for place in lineup.places] + others,
        "answers_3d": decayed["answers_3d"],
        "answers_30d": decayed["answers_30d"],
        "answers_180d": decayed["answers_180d"],
        **shares,
        "first_7d": decayed["first_7d"],
        "first_60d": decayed["first_60d"],
        "posts_30d": decayed["posts_30d"],
        "seen_hours": [int((t - row.seen) / HOUR * 1e4 + 0.5) / 1e4 if row.seen >= 0 else -1.0 for row in rows],
        "to_author": [int(person.authors.get(last, 0.0) * to_author + 0.5) / 1e4 if person.authors else 0.0 for person in people],
        "hour_share": [int((row.hours[before] + row.hours[hour] + row.hours[after]) / row.hours_sum * 1e4 + 0.5) / 1e4 for row in rows],
        "closeness": _closeness(lineup, people, [row.words_norm for row in rows]),
    }


def _closeness(lineup: Lineup, people: list[Person], norms: list[int]) -> list[float]:
    """The cosine of the window's weighted words and those of the messages that each answered before, in 4 decimals."""
    buckets = lineup.buckets
    if not buckets:
        return [0.0] * len(people)
    weights, length = word_weights(lineup)
    take = itemgetter(*buckets, buckets[0])  # of one alone it would make no tuple; the last one has no weight
    closes = [0 if person.words is None else sum(map(mul, take(person.words), weights)) for person in people]
    return [int(close / (length * math.sqrt(norm)) * 1e4 + 0.5) / 1e4 if close else 0.0 for close, norm in zip(closes, norms, strict=True)]


def columns_json(lineup: Lineup) -> bytes:
    """A point's columns as JSON."""
    return kept_json(columns_of(lineup))


def columns_packed(lineup: Lineup) -> bytes:
    """A point's columns, packed."""
    users, *numbers = columns_of(lineup).values()
    return packed(users, doubles([*chain.from_iterable(numbers)]))


def packed(users: list[str], numbers: bytes) -> bytes:
    """Columns for a table, which needs no JSON of numbers: the ids as JSON, a line's end, and one column after the other as doubles."""
    return kept_json({"user": users}) + b"\n" + numbers


def doubles(values: Collection[float]) -> bytes:
    """Numbers as they are packed."""
    return pack(f"<{len(values)}d", *values)
