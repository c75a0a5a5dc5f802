"""How often a labeler agrees with a person's few-shots that it has not seen, and whether that is more than always saying the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from beepgpt.conversations.signals import Signal
from beepgpt.errors import BeepGPTError
from beepgpt.labeling.labelers.labeled import Labeled

LEAST = 10
"""Examples of each signal without which nothing can be learned or measured; 25 to 50 are better."""
Z = 1.959964
"""Standard deviations of a 95 % interval."""


class NoBetterThanChance(BeepGPTError):
    """A labeler that is not known to be better than always saying the same; the message says what would help."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often a labeler is right about examples that it has not seen, nor any that share a conversation or a message."""

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
    gap: float | None = None
    """Expected calibration error; None: too few examples to measure it."""

    @property
    def is_at_chance(self) -> bool:
        """Whether always saying the same could be as good: its accuracy is inside the interval, or above it."""
        return self.low <= self.constant

    def __str__(self) -> str:
        """A sentence for people.

        >>> print(Accuracy("few-shot", 50, 0.82, 0.69, 0.902, 0.5))
        right about 82 % of 50 few-shot examples that it had not seen (95 % interval: 69 to 90 %); always saying the same would get 50 %
        """
        gap = "" if self.gap is None else f"; its probabilities are off by {100 * self.gap:.0f} points in the mean"
        return (
            f"right about {100 * self.right:.0f} % of {self.examples:,} {self.of} examples that it had not seen (95 % interval:"
            f" {100 * self.low:.0f} to {100 * self.high:.0f} %); always saying the same would get {100 * self.constant:.0f} %{gap}"
        )


def agreement(verdicts: Sequence[Signal], few_shots: Sequence[Labeled]) -> Accuracy:
    """How often verdicts are those of the few-shots; there must be one for each."""
    right = sum(verdict == each.signal for verdict, each in zip(verdicts, few_shots, strict=True)) / len(few_shots)
    counts = Counter(each.signal for each in few_shots)
    low, high = interval(right, len(set(groups_of(few_shots))))
    return Accuracy("few-shot", len(few_shots), right, low, high, max(counts.values()) / len(few_shots))


def are_enough(few_shots: Sequence[Labeled]) -> bool:
    """Whether there are enough of both signals to learn from, or to measure an agreement."""
    counts = Counter(each.signal for each in few_shots)
    return min(counts["strong"], counts["weak"]) >= LEAST


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count`: honest for small counts, and for shares of 0 and 1.

    >>> [round(each, 3) for each in interval(1.0, 20)]
    [0.839, 1.0]
    """
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)  # rounding must not leave it outside


def groups_of(examples: Sequence[Labeled]) -> list[int]:
    """A number for each example: the connected components of examples that share a conversation or a message.

    >>> groups_of([Labeled(str(place), "weak", tuple(shares)) for place, shares in enumerate(["ab", "c", "bd", "", ""])])
    [0, 1, 0, 2, 3]
    """
    parents = list(range(len(examples)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = place = parents[parents[place]]
        return place

    first: dict[str, int] = {}
    for place, each in enumerate(examples):
        for name in each.shares:
            one, other = root(first.setdefault(name, place)), root(place)
            parents[max(one, other)] = min(one, other)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(place), len(numbers)) for place in range(len(examples))]
