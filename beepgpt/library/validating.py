"""What a model is worth: the figures of `beepgpt validate`, as a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from beepgpt.errors import BadCommand
from beepgpt.figures import share_or_few
from beepgpt.library.tables import Tabular, table_of

if TYPE_CHECKING:
    import pyarrow as pa

    from beepgpt.training.points import Points, Predictions

Scores = Callable[["pa.Table"], Sequence[float]]
"""A model of somebody's own: from a row for each candidate to a number for each, the likeliest the greatest."""


@dataclass(frozen=True, slots=True, repr=False)
class Validation(Tabular):
    """A model's figures on a training set, beside other models and simple rules; `Model.validate` makes it.

    Each share has its 95 % interval, drawn by conversation, or says that there are too few to tell. Headlines are of the part `judge`;
    choose between models by the part `choose`.
    """

    figures: dict[str, Any]
    """The content of metrics.json, as `beepgpt validate` writes it."""

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A row for each number, as `--metrics` writes them: metric, part, kind, model, by, group, value, low, high, count."""
        from beepgpt.training.metrics_table import validation_rows

        return validation_rows(self.figures)

    def to_arrow(self) -> pa.Table:
        """The rows of `metrics` as a table of pyarrow. Raises MissingPackage if pyarrow isn't installed."""
        return table_of("metric", [orjson.dumps(each) for each in self.metrics])

    def __repr__(self) -> str:
        lines = [f"{self.figures['answered']:,} answered points from {self.figures['cut']} on, which neither fitted nor chose anything:"]
        for row in self.figures["rows"]["answered"]:
            hits = ", ".join(f"{name} {share_or_few(row['figures'][name])}" for name in ("hit@1", "hit@5"))
            lines.append(f"{row['name']}: {hits}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A model of somebody's own, among those that are validated."""

    scores: Scores

    def predict(self, points: Points) -> Predictions:
        """Its order of each point's candidates. Raises BadCommand if it gives no number for each."""
        import numpy as np

        from beepgpt.training.points import Predictions, candidate_rows

        rows = candidate_rows(points)
        found = np.asarray(self.scores(rows), np.float64)
        if found.shape != (len(rows),) or not np.isfinite(found).all():
            raise BadCommand(f"{name_of(self.scores)}: gives no number for each of {len(rows):,} candidates, but {found.shape} of them")
        return Predictions(points.starts, rows["user"].to_pylist(), found, None, None)


def name_of(scores: Scores) -> str:
    """What a model of somebody's own is called: the function's name."""
    return getattr(scores, "__name__", type(scores).__name__)
