"""The accuracy of a labeler, from cross-validated probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALIBRATED_FROM = 200
"""Examples from which on probabilities are calibrated, and their calibration is judged."""
Z = 1.959964
"""Standard deviations of a 95 % interval."""
BINS = 10


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often a classifier is right about examples that it has not seen, nor any that share a conversation or a message."""

    of: str
    """Which examples: `few-shot` or `labeled`."""
    examples: int
    right: float
    """The share of right verdicts."""
    low: float
    high: float
    """Its 95 % interval, counting examples that share something as one."""
    constant: float
    """The share of the more frequent signal: the accuracy of always giving it."""
    gap: float | None
    """Expected calibration error; None: too few examples to measure it."""

    def __str__(self) -> str:
        """A sentence for people.

        >>> print(Accuracy("few-shot", 50, 0.82, 0.69, 0.902, 0.5, None))
        right about 82 % of 50 few-shot examples that it had not seen (95 % interval: 69 to 90 %); always saying the same would get 50 %
        """
        gap = "" if self.gap is None else f"; its probabilities are off by {100 * self.gap:.0f} points in the mean"
        return (
            f"right about {100 * self.right:.0f} % of {self.examples:,} {self.of} examples that it had not seen (95 % interval:"
            f" {100 * self.low:.0f} to {100 * self.high:.0f} %); always saying the same would get {100 * self.constant:.0f} %{gap}"
        )


def accuracy_of(of: str, p: NDArray[np.float64], is_strong: NDArray[np.bool_], groups: NDArray[np.int32]) -> Accuracy:
    """The accuracy of probabilities `p` against the truth. `groups`: a number for each example, equal where they share something."""
    right = float(((p >= 0.5) == is_strong).mean())
    low, high = interval(right, len(set(groups.tolist())))
    share = float(is_strong.mean())
    return Accuracy(
        of, len(p), right, low, high, max(share, 1 - share), _calibration_error(p, is_strong) if len(p) >= CALIBRATED_FROM else None
    )


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count`: honest for small counts, and for shares of 0 and 1.

    >>> [round(each, 3) for each in interval(1.0, 20)]
    [0.839, 1.0]
    """
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)  # rounding must not leave it outside


def _calibration_error(p: NDArray[np.float64], is_strong: NDArray[np.bool_]) -> float:
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    members = [bins == each for each in range(BINS) if (bins == each).any()]
    return float(sum(abs(p[each].mean() - is_strong[each].mean()) * each.mean() for each in members))
