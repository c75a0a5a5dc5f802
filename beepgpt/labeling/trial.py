"""A labeler tried on few-shots that it has not seen, before anything is labeled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from beepgpt.conversations.signals import Signal
from beepgpt.errors import RunStopped
from beepgpt.labeling.agreement import Accuracy, agreement, are_enough, groups_of
from beepgpt.labeling.asking import Asking, Budget, Estimate, counted, estimated
from beepgpt.labeling.few_shots import FewShot
from beepgpt.labeling.labelers.labeled import labeled_of
from beepgpt.labeling.questions import CannotGoOn, CannotLabel, Labeler


def accuracy_on(few_shots: Sequence[FewShot], labeler: Labeler) -> Accuracy | None:
    """The accuracy of a labeler that learned from no few-shot; None: there are too few to measure it."""
    examples = [labeled_of(each) for each in few_shots]
    if not are_enough(examples):
        return None
    return agreement([labeler.label(each.prompt).result().signal for each in examples], examples)


@dataclass(frozen=True)
class _Fold:
    """A half of the few-shots, and how it is asked about: shown the other half."""

    few_shots: Sequence[FewShot]
    asking: Asking


class LabelTrial:
    """A provider asked about the few-shots, each half of them by requests that show the other: at most one request for each."""

    def __init__(self, few_shots: Sequence[FewShot], asking_with: Callable[[Sequence[FewShot]], Asking]) -> None:
        """`few_shots`: those that may be sent; `asking_with`: how it is asked with some of them shown."""
        examples = [labeled_of(each) for each in few_shots]
        self._folds: list[_Fold] = []
        if are_enough(examples):
            halves: tuple[list[FewShot], list[FewShot]] = ([], [])
            for each, group in zip(few_shots, groups_of(examples), strict=True):
                halves[group % 2].append(each)
            self._folds = [_Fold(half, asking_with(other)) for half, other in (halves, halves[::-1])]

    def estimate(self, budget: Budget, is_known: Callable[[str], bool], at_once: int) -> Estimate:
        """The requests that it takes, and their cost. `is_known`: whether the answer to a request's id is known."""
        total = Estimate(cost=None if budget.price is None else 0.0, most=None if budget.price is None else 0.0)
        for fold in self._folds:
            prompts = (each.question.prompt for each in fold.few_shots)
            counts = counted(prompts, fold.asking, is_known, lambda examples: None)
            total = total.plus(estimated(fold.asking, budget, *counts, at_once=at_once, batch=False))
        return total

    def accuracy(self, labeler_of: Callable[[Asking], Labeler]) -> Accuracy | None:
        """How often it is right; None: there are too few few-shots. Those it gives no verdict on are left out. Raises RunStopped."""
        found = [pair for fold in self._folds for pair in self._verdicts(fold, labeler_of(fold.asking))]
        examples = [labeled_of(each) for each, _ in found]
        return agreement([signal for _, signal in found], examples) if are_enough(examples) else None

    def _verdicts(self, fold: _Fold, labeler: Labeler) -> Iterator[tuple[FewShot, Signal]]:
        asked = [(each, labeler.label(each.question.prompt)) for each in fold.few_shots]
        for each, verdict in asked:
            try:
                yield each, verdict.result().signal
            except CannotGoOn as error:
                raise RunStopped(str(error)) from error
            except CannotLabel:
                continue
