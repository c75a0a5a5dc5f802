"""Features of candidates of many points at once, as NumPy columns: the same bytes as facts.py makes for each alone.

The only module of this room that may import NumPy, and of NumPy only what is exact on every machine: `+ - * /`, `floor` and `sqrt` element
by element, sums of integers, and what moves values about. No sums of floats, whose order differs between processors, and no `exp`, `log`
or `power`. tests/conversations/test_columns.py holds it to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from beepgpt.conversations.events import kept_json
from beepgpt.conversations.facts import DECAYED, SHARES, facts_of, word_weights
from beepgpt.conversations.features import ANSWERS_180D, BUCKETS, COUNTS, HOUR, QUERY_WORDS, ROW, Lineup, Person

FEW = 20
"""Candidates of a batch up to which one after the other is faster."""
_WIDTH = ROW.size // 8
_HOURS_AT = (COUNTS + 2) * 8
"""Where the hours stand in a row, in bytes."""


def facts_of_all(lineups: Sequence[Lineup]) -> list[bytes]:
    """Each point's columns as JSON."""
    people = [lineup.people() for lineup in lineups]
    if sum(map(len, people)) <= FEW:
        return [facts_of(lineup) for lineup in lineups]
    return _facts(lineups, people)


def _facts(lineups: Sequence[Lineup], chosen: Sequence[list[Person]]) -> list[bytes]:
    sizes = np.array([len(people) for people in chosen])
    point = np.repeat(np.arange(len(lineups)), sizes)
    packed = b"".join([person.row for people in chosen for person in people])
    doubles = np.frombuffer(packed, "<f8").reshape(-1, _WIDTH)
    integers = np.frombuffer(packed, "<i8").reshape(-1, _WIDTH)
    factors = np.frombuffer(b"".join([lineup.factors for lineup in lineups]), "<f8").reshape(-1, COUNTS + len(SHARES))[point]
    times = np.array([lineup.t for lineup in lineups])
    counts = doubles[:, :COUNTS]
    decayed, shares = _rounded(counts * factors[:, :COUNTS]), _rounded(counts[:, : len(SHARES)] * factors[:, COUNTS:])
    seen = integers[:, COUNTS]
    seen_hours = np.where(seen >= 0, _rounded((times[point] - seen) / HOUR * 1e4), -1.0)
    to_author = [
        person.authors.get(lineup.last, 0.0) if person.authors else 0.0
        for lineup, people in zip(lineups, chosen, strict=True)
        for person in people
    ]
    floats = {
        **{name: decayed[:, at].copy() for at, name in enumerate(DECAYED)},
        **{name: shares[:, at].copy() for at, name in enumerate(SHARES)},
        "seen_hours": seen_hours,
        "to_author": _rounded(np.array(to_author) * factors[:, ANSWERS_180D]),
        "hour_share": _hour_shares(packed, integers, (times // HOUR % 24)[point]),
        "closeness": _closeness(lineups, chosen, point, integers[:, COUNTS + 1]),
    }
    made, first = [], 0
    for lineup, people in zip(lineups, chosen, strict=True):
        after = first + len(people)
        others = [0] * (len(people) - len(lineup.near))
        of = {name: column[first:after] for name, column in floats.items()}
        columns = {
            "user": [person.user for person in people],
            "in_window": [place[0] for place in lineup.places] + others,
            "mentioned": [place[1] for place in lineup.places] + others,
            "spoke": [place[2] for place in lineup.places] + others,
            "answers_3d": of["answers_3d"],
            "answers_30d": of["answers_30d"],
            "answers_180d": of["answers_180d"],
            "share_3d": of["share_3d"],
            "share_30d": of["share_30d"],
            "share_180d": of["share_180d"],
            "first_7d": of["first_7d"],
            "first_60d": of["first_60d"],
            "posts_30d": of["posts_30d"],
            "seen_hours": of["seen_hours"],
            "to_author": of["to_author"],
            "hour_share": of["hour_share"],
            "closeness": of["closeness"],
        }
        made.append(kept_json(columns))
        first = after
    return made


def _rounded(values: np.ndarray) -> np.ndarray:
    """Values that include 1e4, in 4 decimals."""
    return np.floor(values + 0.5) / 1e4


def _hour_shares(packed: bytes, integers: np.ndarray, hour: np.ndarray) -> np.ndarray:
    """The share of posts within the hour before, this one and the next."""
    hours = np.frombuffer(packed, np.uint8)
    start = np.arange(len(integers)) * ROW.size + _HOURS_AT
    near = [hours[start + (hour + step) % 24].astype(np.int64) for step in (23, 0, 1)]
    return _rounded((near[0] + near[1] + near[2]) / integers[:, _WIDTH - 1] * 1e4)


def _closeness(lineups: Sequence[Lineup], chosen: Sequence[list[Person]], point: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """The cosine of each window's weighted words and those of the messages that each person answered before."""
    closeness = np.zeros(len(point))
    known = np.array([person.words is not None for people in chosen for person in people], bool)
    asked = np.array([len(lineup.buckets) > 0 for lineup in lineups])[point]
    rows = (known & asked).nonzero()[0]
    if not len(rows):
        return closeness
    buckets = np.zeros((len(lineups), QUERY_WORDS), np.int64)
    weights = np.zeros((len(lineups), QUERY_WORDS), np.int64)
    lengths = np.ones(len(lineups))
    for number, lineup in enumerate(lineups):
        if lineup.buckets:
            of_words, lengths[number] = word_weights(lineup)
            buckets[number, : len(of_words)] = lineup.buckets
            weights[number, : len(of_words)] = of_words
    people = list(chain.from_iterable(chosen))
    words = np.frombuffer(b"".join([people[row].words or b"" for row in rows.tolist()]), np.uint8)
    of = point[rows]
    start = np.arange(len(rows)) * BUCKETS
    close = (words[start[:, None] + buckets[of]] * weights[of]).sum(axis=1, dtype=np.int64)
    told = close > 0
    rows, of, close = rows[told], of[told], close[told]
    closeness[rows] = _rounded(close / (lengths[of] * np.sqrt(norms[rows])) * 1e4)
    return closeness
