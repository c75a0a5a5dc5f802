"""Among which people a model was trained, as a sketch that names nobody: it tells whether a workspace is another one.

The sketch is a row of bits. Each person sets the bit that a hash of their id and of the training set names, and about a quarter of all bits
is set. So one stranger in four looks known, which is reckoned with, and of nobody can it be shown that they were there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from beepgpt.training.folder import checked
from beepgpt.training.formats import CANDIDATES_
from beepgpt.training.points import Points

SKETCH = "people.sketch"
"""The file of a model's folder that holds it."""
BITS_FOR_EACH = 3.476
"""Bits for each person, so that a quarter of them is set: 1 / -ln(3 / 4)."""
ENOUGH, FEWEST = 50, 10
"""People after whom the share of known ones is reported, if it is low; and the fewest of whom it is."""
MOST_POINTS = 200
"""Points after which it is reported, if there are `FEWEST` people by then."""
LIMIT = 0.15
"""The share of known people below which they are strangers. Of 50 people who post one after the other in the last fifth of a workspace's
time, at 20 starts, 0.68 and more were known in dd2030, and 0.36 and more among HubSpot's developers, most of whom were newcomers after a
year; in another workspace it is 0. Of #ubuntu, where people drop in, it is 0.1 to 0.56: there most are strangers indeed."""


def sketch_of(people: Iterable[str], salt: str) -> bytes:
    """The sketch of these people. `salt`: the hash of the training set's manifest."""
    everybody = set(people)
    sketch = bytearray(-(-int(BITS_FOR_EACH * len(everybody) + 1) // 8))
    for person in everybody:
        place = _place(person, salt, sketch)
        sketch[place // 8] |= 1 << place % 8
    return bytes(sketch)


def known_share(people: Iterable[str], sketch: bytes, salt: str) -> float:
    """The share of these people who were there, as far as the sketch tells: strangers who look known are taken off.

    >>> sketch = sketch_of(map(str, range(1000)), "")
    >>> known_share(map(str, range(1000)), sketch, "")
    1.0
    """
    places = [_place(person, salt, sketch) for person in people]
    look_known = sum(sketch[place // 8] >> place % 8 & 1 for place in places) / len(places)
    by_chance = int.from_bytes(sketch).bit_count() / (8 * len(sketch))
    return max((look_known - by_chance) / (1 - by_chance), 0.0)


def _place(person: str, salt: str, sketch: bytes | bytearray) -> int:
    return int.from_bytes(blake2b(person.encode(), key=salt.encode()[:64], digest_size=8).digest()) % (8 * len(sketch))


def people_of(points: Points) -> set[str]:
    """The people who might answer, or had their say, in these points."""
    return {*points.people, *(user for window in points.window_user for user in window)}


def people_in(table: Path) -> set[str]:
    """The people in a table of candidates; empty if there is none. Raises BadSet."""
    if not table.exists():
        return set()
    columns = pq.read_table(checked(table), columns=[f"{CANDIDATES_}user", "window_user"])
    return {user for name in columns.column_names for chunk in columns[name].chunks for user in chunk.flatten().unique().to_pylist()}


class StrangersCheck:
    """Looks at the people of the first points that a model is asked about, and tells once if they are strangers to it."""

    def __init__(self, folder: Path, salt: str, say: Callable[[str], None]) -> None:
        """`folder`: the model's; one without a sketch tells nothing. `salt`: the hash of its training set's manifest."""
        path = folder / SKETCH
        self._sketch = path.read_bytes() if path.is_file() else b""
        self._folder, self._salt, self._say = folder, salt, say
        self._seen: set[str] = set()
        self._points = 0
        self._is_over = not self._sketch

    def see(self, points: Iterable[Mapping[str, Any]]) -> None:
        """Look at points, as JSON has them."""
        for point in points:
            if self._is_over:
                return
            self._points += 1
            self.add([*point.get("candidates", {}).get("user", ()), *(message["user"] for message in point["window"])])

    def add(self, people: Iterable[str]) -> None:
        """Look at people, and report as soon as there are enough."""
        self._seen.update(people)
        if len(self._seen) >= ENOUGH or (self._points >= MOST_POINTS and len(self._seen) >= FEWEST):
            self.end()

    def end(self) -> None:
        """Report on the people seen so far, unless that was done, or there are too few."""
        if self._is_over or len(self._seen) < FEWEST:
            return
        self._is_over = True
        share = known_share(self._seen, self._sketch, self._salt)
        if share < LIMIT:
            self._say(
                f"{self._folder}: the people here are strangers to this model: of {len(self._seen)} it was trained among about {share:.0%}."
                " It is likely a model of another workspace, and what it predicts is not of this one: train one on this one's own examples"
            )
