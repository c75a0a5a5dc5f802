"""What a model says of points: who may answer, how likely, and how likely it is that nobody does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from beepgpt.errors import BeepGPTError
from beepgpt.training.points import Floats, Ints, Points


class TooLittle(BeepGPTError):
    """There is not enough to learn from; the message says what is missing."""

    exit_status = 2


class OtherFacts(BeepGPTError):
    """The points have other facts than those a model was fitted on; the message says what to do."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one point. All of it sums to 1."""

    people: list[tuple[str, float]]
    """The likeliest first."""
    nobody: float
    other: float
    """Somebody who is none of `people`."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of points, as columns. The people of point i are rows `starts[i]` to `starts[i + 1]` of `people` and `p`."""

    starts: Ints
    people: list[str]
    p: Floats
    """The chance of each, or any number that grows with it if `nobody` is None."""
    nobody: Floats | None
    other: Floats | None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def are_chances(self) -> bool:
        """Whether it says how likely, and not just in which order."""
        return self.nobody is not None

    def of(self, point: int) -> Prediction:
        """One of them, for reading."""
        if self.nobody is None or self.other is None:
            raise ValueError("an order of people is no prediction")
        first, end = int(self.starts[point]), int(self.starts[point + 1])
        order = first + np.argsort(-self.p[first:end], kind="stable")
        return Prediction([(self.people[row], float(self.p[row])) for row in order], float(self.nobody[point]), float(self.other[point]))


class Model(Protocol):
    """What can say who answers."""

    def predict(self, points: Points) -> Predictions:
        """For each point, chances of people, of nobody and of somebody else."""
