"""Draws from fixed distributions, with the same result on every machine and Python version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import TypeVar

from beepgpt.conversations.rules import SECOND

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
