"""A model's predictions: who may answer each point, with probabilities, and the probability that nobody does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from beepgpt.errors import BeepGPTError
from beepgpt.training.points import Floats, Ints, Points


class TooLittle(BeepGPTError):
    """Too few examples to learn from; the message says what is missing."""

    exit_status = 2


class OtherFeatures(BeepGPTError):
    """The points have other features than those a model was fitted on; the message says what to do."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Prediction:
    """Probabilities of one point's outcomes; they sum to 1."""

    people: list[tuple[str, float]]
    """Sorted by probability, largest first."""
    nobody: float
    other: float
    """Of anybody else."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions as columns. The people of point i are rows `starts[i]` to `starts[i + 1]` of `people` and `p`."""

    starts: Ints
    people: list[str]
    p: Floats
    """Probabilities; any increasing score if `nobody` is None."""
    nobody: Floats | None
    other: Floats | None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def are_probabilities(self) -> bool:
        """Whether `p` holds probabilities, and not just scores to rank by."""
        return self.nobody is not None

    def of(self, point: int) -> Prediction:
        """The prediction of one point. Raises ValueError if these are no probabilities."""
        if self.nobody is None or self.other is None:
            raise ValueError("an order of people is no prediction")
        first, end = int(self.starts[point]), int(self.starts[point + 1])
        order = first + np.argsort(-self.p[first:end], kind="stable")
        return Prediction([(self.people[row], float(self.p[row])) for row in order], float(self.nobody[point]), float(self.other[point]))


class Model(Protocol):
    """Predicts who answers."""

    def predict(self, points: Points) -> Predictions:
        """Probabilities of people, of nobody and of somebody else for each point."""
