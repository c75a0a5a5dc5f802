"""Decay by half-lives of whole days, the same to the last bit on every machine.

`2.0 ** x` is the C library's `pow`, whose last bit differs between processors with and without fused multiply-add. Here a weight is a
product of entries of tables, one for each digit of the time. The tables are made of integers, and single IEEE products are the same
everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ldexp
from struct import Struct
from typing import Final

DAY: Final = 86_400_000_000
SPAN: Final = 512
"""Half-lives between two landmarks: 2^512 squared still fits in a double. Rescaling by a power of two is exact."""
DIGIT_BITS: Final = 9
"""Bits of a digit of the microseconds of a day. There are four digits; the first one goes up to 643."""
_LOW: Final = (1 << DIGIT_BITS) - 1
_ONE: Final = 1 << 160
"""1 in the integers that the tables are made of: with 160 bits after the point."""


def _exponential(x: int) -> int:
    """e^x, by its series."""
    term = total = _ONE
    count = 1
    while term:
        term = term * x // _ONE // count
        total += term
        count += 1
    return total


def _powers(root: int, count: int) -> list[float]:
    """The first powers of a number, from 1 on, each rounded to the nearest double."""
    power, powers = _ONE, []
    for _ in range(count):
        powers.append(power / _ONE)
        power = power * root // _ONE
    return powers


def _tables(days: int) -> tuple[list[float], list[list[float]]]:
    """For a half-life, the powers by the day within it, and by each digit of the time of day, the first one first."""
    ln2 = sum(_ONE // (k << k) for k in range(1, 161))
    by_digit = [
        _powers(_exponential(ln2 * (1 << digit * DIGIT_BITS) // (days * DAY)), (DAY >> 3 * DIGIT_BITS) + 1 if digit == 3 else _LOW + 1)
        for digit in (3, 2, 1, 0)
    ]
    return _powers(_exponential(ln2 // days), days), by_digit


class Decay:
    """Weights of an event for several half-lives, by forward decay: two to the power of its age, seen from a landmark before it.

    The landmark of a half-life moves on every `SPAN` half-lives since 1970, so that it depends on the time alone.
    """

    def __init__(self, days: Sequence[int]) -> None:
        """`days`: the half-lives."""
        tables = [_tables(each) for each in days]
        self._by_day = [(each, by_day) for each, (by_day, _) in zip(days, tables, strict=True)]
        self._row = Struct(f"<{len(days)}d")
        """A digit's powers of all half-lives. They lie side by side, since a lookup costs as much as a line of memory that isn't near."""
        self._by_digit = [
            b"".join([self._row.pack(*powers) for powers in zip(*[by_digit[place] for _, by_digit in tables], strict=True)])
            for place in range(4)
        ]
        self._last: tuple[int, list[float]] = -1, []
        """A time and its weights: a post's are asked for again by its points. Time and weights are put in place as one, for threads."""
        self._today: tuple[int, list[float]] = -1, []
        """A day and what all its times have in common: events come in the order of time."""

    def weights(self, t: int) -> list[float]:
        """2^((t - landmark) / half-life) for each half-life; `t` in microseconds. The list is the caller's to read alone.

        >>> Decay([1, 3, 2]).weights(3 * DAY), Decay([2]).weights(SPAN * 2 * DAY)
        ([8.0, 2.0, 2.8284271247461903], [1.0])
        """
        last, weights = self._last
        if t == last:
            return weights
        day, rest = divmod(t, DAY)
        known, today = self._today
        if day != known:
            today = [ldexp(by_day[day % days], day // days % SPAN) for days, by_day in self._by_day]
            self._today = day, today
        powers_at, size = self._row.unpack_from, self._row.size
        first, second, third, fourth = self._by_digit
        weights = [
            begun * by_first * by_second * by_third * by_fourth
            for begun, by_first, by_second, by_third, by_fourth in zip(
                today,
                powers_at(first, (rest >> 3 * DIGIT_BITS) * size),
                powers_at(second, (rest >> 2 * DIGIT_BITS & _LOW) * size),
                powers_at(third, (rest >> DIGIT_BITS & _LOW) * size),
                powers_at(fourth, (rest & _LOW) * size),
                strict=True,
            )
        ]
        self._last = t, weights
        return weights
