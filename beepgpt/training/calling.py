"""How a model is asked about points: in this process, or by calls to a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from beepgpt.conversations.outcomes import Probabilities
from beepgpt.errors import BeepGPTError


class CannotScore(BeepGPTError):
    """A model can't be asked about some points, though it may be about others. The message says why, and quotes nobody."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason`: for counts."""
        super().__init__(message)
        self.reason = reason


class ScoringModel(Protocol):
    """A model, or the newer one that has taken its place."""

    def predict(self, points: Sequence[Mapping[str, Any]]) -> tuple[str, list[Probabilities]]:
        """The name of the model that was asked, and its probabilities for each point. Raises CannotScore; all other errors stop the run."""

    def validated(self, model: str) -> Mapping[str, float]:
        """Lower ends of the intervals of `hit@1` and `hit@5` in the model's validation; empty where they are not known."""


ModelAnswer = tuple[str, Probabilities]
"""The model's name, and its probabilities for one point."""


class ModelCaller(Protocol):
    """Asks a model about points."""

    together: int
    """Points in one call."""
    ahead: int
    """Points that may be under way at a time."""

    def ask(self, points: Sequence[Mapping[str, Any]], dues: Sequence[float | None]) -> Sequence[Future[ModelAnswer]]:
        """An answer for each point, now or later. `dues`: until when each is wanted, seconds since 1970."""


class LocalModel:
    """A model in this process, asked about many points in a call: one by one they take ten times as long."""

    def __init__(self, predictor: ScoringModel, together: int = 100) -> None:
        self._predictor = predictor
        self.together = self.ahead = together

    def ask(self, points: Sequence[Mapping[str, Any]], dues: Sequence[float | None]) -> Sequence[Future[ModelAnswer]]:
        futures: list[Future[ModelAnswer]] = [Future() for _ in points]
        try:
            name, probabilities = self._predictor.predict(points)
        except CannotScore as error:
            for future in futures:
                future.set_exception(error)
            return futures
        for future, each in zip(futures, probabilities, strict=True):
            future.set_result((name, each))
        return futures


class RemoteCaller:
    """A model on a server, asked about one point a call, by many calls at a time."""

    def __init__(self, submit: Callable[[Mapping[str, Any], float | None], Future[ModelAnswer]], concurrency: int) -> None:
        """`submit` asks about a point, within so many seconds from now on."""
        self._submit = submit
        self.together, self.ahead = 1, concurrency

    def ask(self, points: Sequence[Mapping[str, Any]], dues: Sequence[float | None]) -> Sequence[Future[ModelAnswer]]:
        now = time.time()
        return [self._submit(point, None if due is None else max(due - now, 0.0)) for point, due in zip(points, dues, strict=True)]
