"""Models: trained on a training set, kept in a folder, asked about points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from beepgpt.errors import BadCommand
from beepgpt.library.records import ExampleRecord, PointRecord
from beepgpt.library.training_sets import TrainingSet
from beepgpt.packages import need
from beepgpt.training.folder import MODELS

if TYPE_CHECKING:
    from beepgpt.training.models import Trained
    from beepgpt.training.points import Prediction

NEEDED = ("lightgbm", "pyarrow", "sklearn", "skops", "threadpoolctl", "joblib")
BATCH = 1_000
"""Points that are predicted at a time."""


def _quiet(step: str) -> None:
    """A callback for a step of the training."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model of this machine that predicts who answers: `beepgpt.train` makes one, `Model.load` reads one from its folder.

    >>> import beepgpt, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> made = beepgpt.examples(beepgpt.simulate(f"{folder}/workspace.zip", messages=400))
    >>> trained = beepgpt.train(beepgpt.split(made, f"{folder}/set"), threads=1)
    >>> model = beepgpt.Model.load(f"{folder}/set/models/local")
    >>> newest = made.kept()[-1:]
    >>> model.predict(newest) == trained.predict(newest), model.card["trained_on"]["examples"]
    (True, 247)
    """

    folder: Path
    _trained: Trained = field(repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> TrainedModel:
        """The model in a folder that `beepgpt train` or `beepgpt.train` made. No code in it is run. Raises BadModel, MissingPackage."""
        need("a model", NEEDED, "train")
        from beepgpt.training.models import load_model

        return cls(Path(folder), load_model(Path(folder)))

    @property
    def card(self) -> dict[str, Any]:
        """What it was trained on, with which versions and settings."""
        return dict(self._trained.card)

    def predict(self, points: Iterable[PointRecord | ExampleRecord]) -> list[Prediction]:
        """For each point, in order: `people`, pairs of id and probability, likeliest first; `nobody`; `other`, anybody else. They sum to 1.

        Of an example only what was known at its `prompt_ts` is read. The points need candidates. Raises OtherFeatures, BadCommand.
        """
        from beepgpt.training.points import points_of

        given = list(points)
        if lacking := next((each for each in given if not each.candidates), None):
            raise BadCommand(f"point {lacking.id} has no candidates: make points and examples with candidates=True")
        found: list[Prediction] = []
        for first in range(0, len(given), BATCH):
            predicted = self._trained.model.predict(points_of([each.body for each in given[first : first + BATCH]]))
            found += [predicted.of(number) for number in range(len(predicted))]
        return found


def train(
    training_set: TrainingSet | str | Path,
    to: str | Path | None = None,
    *,
    kind: Literal["local", "text"] = "local",
    seed: int = 1,
    threads: int = 0,
    status: Callable[[str], None] = _quiet,
) -> TrainedModel:
    """Train a model on the training side of a set, on this machine.

    `kind`: `local` ranks candidates by their features, `text` goes by the prompt alone. `to`: its folder; `models/KIND` in the set's if not
    given. `threads`: 0 for as many as processors are idle; the model is the same. `status` is called with the current step. Raises
    TooLittle, BadTable, MissingPackage.

    >>> from tempfile import mkdtemp
    >>> from beepgpt.library.examples import examples
    >>> from beepgpt.library.training_sets import split
    >>> from beepgpt.library.workspaces import simulate
    >>> folder = mkdtemp()
    >>> made = examples(simulate(f"{folder}/workspace.zip", messages=400))
    >>> model = train(split(made, f"{folder}/set"), threads=1)
    >>> first = model.predict(made)[0]
    >>> round(sum(p for _, p in first.people) + first.nobody + first.other, 6)
    1.0
    >>> TrainedModel.load(model.folder).predict(made)[0] == first
    True
    """
    need("a model", NEEDED, "train")
    from beepgpt.training.models import train_here

    folder = training_set.folder if isinstance(training_set, TrainingSet) else TrainingSet(Path(training_set)).folder
    into = folder / MODELS / kind if to is None else Path(to)
    train_here(folder, kind, into, seed=seed, threads=threads, status=status)
    return TrainedModel.load(into)
