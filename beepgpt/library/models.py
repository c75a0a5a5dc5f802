"""Models: trained on a training set, kept in a folder, asked about points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from beepgpt.errors import BadCommand
from beepgpt.library.progress import shown_step
from beepgpt.library.records import Example, Point
from beepgpt.library.tables import records_of
from beepgpt.library.training_sets import TrainingSet
from beepgpt.library.validating import OwnModel, Scores, Validation, name_of
from beepgpt.packages import need
from beepgpt.training.folder import CARD, MODELS

if TYPE_CHECKING:
    from beepgpt.training.models import Trained
    from beepgpt.training.points import Prediction

NEEDED = ("lightgbm", "pyarrow", "sklearn", "skops", "threadpoolctl", "joblib")
BATCH = 1_000
"""Points that are predicted at a time."""


@dataclass(frozen=True, slots=True)
class Model:
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
    def load(cls, folder: str | Path) -> Model:
        """The model in a folder that `beepgpt train` or `beepgpt.train` made. No code in it is run. Raises BadModel, MissingPackage."""
        need("a model", NEEDED, "train")
        from beepgpt.training.models import load_model

        return cls(Path(folder), load_model(Path(folder)))

    @property
    def card(self) -> dict[str, Any]:
        """What it was trained on, with which versions and settings."""
        return dict(self._trained.card)

    def predict(self, points: Iterable[Point | Example]) -> list[Prediction]:
        """For each point, in order: `people`, pairs of id and probability, likeliest first; `nobody`; `other`, anybody else. They sum to 1.

        `points`: points or examples, in a list or as a table (pandas, polars, pyarrow). Of an example only what was known at its
        `prompt_ts` is read. They need candidates. Raises OtherFeatures, BadCommand, CannotRead.
        """
        from beepgpt.training.points import points_of

        given = list(records_of(points))
        if lacking := next((each for each in given if not each.candidates), None):
            raise BadCommand(f"point {lacking.id} has no candidates: make points and examples with candidates=True")
        found: list[Prediction] = []
        for first in range(0, len(given), BATCH):
            predicted = self._trained.model.predict(points_of([each.body for each in given[first : first + BATCH]]))
            found += [predicted.of(number) for number in range(len(predicted))]
        return found

    def validate(
        self, training_set: TrainingSet | str | Path, against: Iterable[Model | Scores] | None = None, *, precision: float = 0.5
    ) -> Validation:
        """The figures of `beepgpt validate`: what the model is worth on the set of its training, beside rules that need no training.

        `against`: other models, and functions that give a number for each row of a table as `TrainingSet.candidates` makes it, without
        `id` and `answered`: a model of your own, called by the function's name. If not given: `models/text` of the set, if it is there.
        Whoever answered and is no candidate is a miss of each. `precision`: of alerts, for which a threshold is looked for. Nothing is
        written. Raises BadCommand, BadTable, OtherFeatures.

        >>> import beepgpt, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> export = beepgpt.simulate(f"{folder}/workspace.zip", messages=400)
        >>> training_set = beepgpt.split(beepgpt.examples(export), f"{folder}/set")
        >>> def mine(rows):
        ...     return rows["answers_30d"].to_numpy()
        >>> found = beepgpt.train(training_set, threads=1).validate(training_set, against=[mine])
        >>> found.figures["points"], [row["name"] for row in found.figures["rows"]["answered"]][:2]
        (31, ['local', 'mine'])
        >>> found.to_arrow().column_names[:5]
        ['command', 'metric', 'part', 'kind', 'model']
        """
        from beepgpt.training.validation import validate_models

        folder = folder_of(training_set)
        text = folder / MODELS / "text"
        if against is None:
            against = [Model.load(text)] if (text / CARD).exists() and text.resolve() != self.folder.resolve() else []
        others: list[Trained] = []
        own: dict[str, OwnModel] = {}
        for each in against:
            if isinstance(each, Model):
                others.append(each._trained)
            else:
                own[name_of(each)] = OwnModel(each)
        return Validation(validate_models(folder, [self._trained, *others], precisions=[precision], own=own).figures)


def folder_of(training_set: TrainingSet | str | Path) -> Path:
    """The folder of a training set. Raises BadCommand if it is none."""
    return training_set.folder if isinstance(training_set, TrainingSet) else TrainingSet(Path(training_set)).folder


def train(
    training_set: TrainingSet | str | Path,
    to: str | Path | None = None,
    *,
    kind: Literal["local", "text"] = "local",
    seed: int = 1,
    threads: int = 0,
    status: Callable[[str], None] | None = None,
) -> Model:
    """Train a model on the training side of a set, on this machine.

    `kind`: `local` ranks candidates by their features, `text` goes by the prompt alone. `to`: its folder; `models/KIND` in the set's if not
    given. `threads`: 0 for as many as processors are idle; the model is the same. `status` is called with the current step, which a
    notebook and a terminal show if it isn't given. Raises TooLittle, BadTable, MissingPackage.

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
    >>> Model.load(model.folder).predict(made)[0] == first
    True
    """
    need("a model", NEEDED, "train")
    from beepgpt.training.models import train_here

    folder = folder_of(training_set)
    into = folder / MODELS / kind if to is None else Path(to)
    with shown_step(f"A {kind} model: {into}") if status is None else nullcontext(status) as show:
        train_here(folder, kind, into, seed=seed, threads=threads, status=show)
    return Model.load(into)
