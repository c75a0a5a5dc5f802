"""Features of candidates of many points at once, as NumPy columns: the same bytes as plain_columns.py makes for each alone.

The only module of this room that may import NumPy, and of NumPy only what is exact on every machine: `+ - * /`, `floor` and `sqrt` element
by element, sums of integers, and what moves values about. No sums of floats, whose order differs between processors, and no `exp`, `log`
or `power`. tests/conversations/test_columns.py holds it to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from beepgpt.conversations.events import kept_json
from beepgpt.conversations.features import ANSWERS_180D, BUCKETS, COUNTS, HOUR, ROW, Lineup, Person
from beepgpt.conversations.plain_columns import SHARES, WEIGHT, columns_json, columns_packed, doubles, packed
from beepgpt.conversations.record_fields import CANDIDATES

FEW = 20
"""Candidates of a batch up to which one after the other is faster."""
FLOATS = tuple(each.name for each in CANDIDATES if each.kind == "numbers")
"""The columns of floats, in their order; those of ids and integers stand before them."""
PLACES = tuple(each.name for each in CANDIDATES if each.kind == "integers")
SHARED = len(SHARES)
_WIDTH = ROW.size // 8
_HOURS_AT = (COUNTS + 2) * 8
"""Where the hours stand in a row, in bytes."""
_WEIGHTS = np.array([WEIGHT // (1 + said) for said in range(256)])
"""Weights of words by how often each had been said."""
_NO_WORDS = bytearray(BUCKETS)


def columns_of_all(lineups: Sequence[Lineup], *, are_packed: bool = False) -> list[bytes]:
    """Each point's columns as JSON, or packed."""
    people = [lineup.people() for lineup in lineups]
    if sum(map(len, people)) <= FEW:
        return [columns_packed(lineup) if are_packed else columns_json(lineup) for lineup in lineups]
    return _batched(lineups, people, are_packed=are_packed)


def _batched(lineups: Sequence[Lineup], chosen: Sequence[list[Person]], *, are_packed: bool = False) -> list[bytes]:
    floats = _floats(lineups, chosen)
    made, first = [], 0
    for lineup, people in zip(lineups, chosen, strict=True):
        after = first + len(people)
        others = [0] * (len(people) - len(lineup.near))
        users, some = [person.user for person in people], floats[:, first:after]
        places = {name: [place[at] for place in lineup.places] + others for at, name in enumerate(PLACES)}
        if are_packed:
            made.append(packed(users, doubles([*chain.from_iterable(places.values())]) + some.tobytes()))
        else:
            made.append(kept_json({"user": users, **places, **dict(zip(FLOATS, some, strict=True))}))
        first = after
    return made


def _floats(lineups: Sequence[Lineup], chosen: Sequence[list[Person]]) -> np.ndarray:
    """The columns of floats of all points, one after the other: a row for each column."""
    everyone = [person for people in chosen for person in people]
    numbers = {person: number for number, person in enumerate(dict.fromkeys(everyone))}
    """Most stand at many points: a batch is mostly of a few channels."""
    which = np.array([numbers[person] for person in everyone], np.int64)
    point = np.repeat(np.arange(len(lineups)), [len(people) for people in chosen])
    packed = b"".join([person.row for person in numbers])
    doubles = np.frombuffer(packed, "<f8").reshape(-1, _WIDTH).take(which, axis=0)
    integers = np.frombuffer(packed, "<i8").reshape(-1, _WIDTH).take(which, axis=0)
    factors = np.frombuffer(b"".join([lineup.factors for lineup in lineups]), "<f8").reshape(-1, COUNTS + SHARED).take(point, axis=0)
    times = np.array([lineup.t for lineup in lineups])
    seen = integers[:, COUNTS]
    asked = zip([lineup.last for lineup in lineups], chosen, strict=True)
    to_author = [person.authors.get(last, 0.0) if person.authors else 0.0 for last, people in asked for person in people]
    decayed = _rounded(doubles[:, :COUNTS] * factors[:, :COUNTS])
    floats = np.zeros((len(FLOATS), len(point)))
    floats[:3] = decayed[:, :3].T
    floats[3:6] = _rounded(doubles[:, :SHARED] * factors[:, COUNTS:]).T
    floats[6:9] = decayed[:, 3:].T
    floats[9] = np.where(seen >= 0, _rounded((times.take(point) - seen) / HOUR * 1e4), -1.0)
    floats[10] = _rounded(np.array(to_author) * factors[:, ANSWERS_180D])
    floats[11] = _hour_shares(packed, which, integers[:, _WIDTH - 1], (times // HOUR % 24).take(point))
    _fill_closeness(floats[12], lineups, point, [*numbers], which, integers[:, COUNTS + 1])
    return floats


def _rounded(values: np.ndarray) -> np.ndarray:
    """Values that include 1e4, in 4 decimals."""
    return np.floor(values + 0.5) / 1e4


def _hour_shares(packed: bytes, which: np.ndarray, posts: np.ndarray, hour: np.ndarray) -> np.ndarray:
    """The share of posts within the hour before, this one and the next."""
    hours = np.frombuffer(packed, np.uint8)
    start = which * ROW.size + _HOURS_AT
    near = [hours.take(start + (hour + step) % 24).astype(np.int64) for step in (23, 0, 1)]
    return _rounded((near[0] + near[1] + near[2]) / posts * 1e4)


def _fill_closeness(
    closeness: np.ndarray, lineups: Sequence[Lineup], point: np.ndarray, people: Sequence[Person], which: np.ndarray, norms: np.ndarray
) -> None:
    """The cosine of each window's weighted words and those of the messages that each person answered before; 0 stands there already.

    `people`: each once; `which`: who of them stands in each row.
    """
    start, tables = [], [_NO_WORDS]
    for person in people:
        if person.words is None:
            start.append(0)
        else:
            start.append(len(tables) * BUCKETS)
            tables.append(person.words)
    most = max([len(lineup.buckets) for lineup in lineups])
    buckets = np.array([[*lineup.buckets, *[-1] * (most - len(lineup.buckets))] for lineup in lineups], np.int64)
    common = np.frombuffer(b"".join([lineup.common.ljust(most) for lineup in lineups]), np.uint8).reshape(buckets.shape)
    weights = _WEIGHTS.take(common) * (buckets >= 0)
    places = buckets.take(point, axis=0) + np.array(start, np.int64).take(which).reshape(-1, 1)
    counts = np.frombuffer(b"".join(tables), np.uint8).take(places)
    close = (counts * weights.take(point, axis=0)).sum(axis=1, dtype=np.int64)
    lengths = np.sqrt((weights * weights).sum(axis=1, dtype=np.int64))
    rows = close.nonzero()[0]
    closeness[rows] = _rounded(close.take(rows) / (lengths.take(point.take(rows)) * np.sqrt(norms.take(rows))) * 1e4)
