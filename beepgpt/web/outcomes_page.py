"""The page of outcomes: what became of predictions, by model. It needs nothing else: no script, no network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from beepgpt.web.pages import rendered
from beepgpt.web.plots import FIRST, SECOND, Plot, diagonal, plot


def outcomes_page(found: Mapping[str, Any]) -> str:
    """The page of what `beepgpt outcomes --report` writes."""
    plots = [[each for each in (_weeks(model, found["promised"]), _calibration(model)) if each] for model in found["models"]]
    return rendered("outcomes.html", found=found, plots=plots)


def _weeks(model: Mapping[str, Any], promised: Mapping[str, Mapping[str, float]]) -> Plot | None:
    weeks = model["weeks"]

    def draw(axes: Axes) -> None:
        for what, colour in (("hit@5", SECOND), ("hit@1", FIRST)):
            axes.plot(range(len(weeks)), [100 * week[what] for week in weeks], color=colour, marker="o", markersize=3, label=what)
            if what in promised:
                axes.axhspan(100 * promised[what]["low"], 100 * promised[what]["high"], color=colour, alpha=0.15, linewidth=0)
        every = max(len(weeks) // 8, 1)
        axes.set_xticks(range(0, len(weeks), every), [week["week"] for week in weeks[::every]], rotation=60, ha="right")
        axes.set(ylim=(0, 100))
        axes.legend()

    words = "Answered points, by the week of the point; the bands are what validation found."
    return plot("Hits by week", words, draw, up="hits, %") if weeks else None


def _calibration(model: Mapping[str, Any]) -> Plot | None:
    rows = model["calibration"]

    def draw(axes: Axes) -> None:
        diagonal(axes, 1)
        axes.plot([row["said"] for row in rows], [row["came"] for row in rows], color=FIRST, marker="o", markersize=4)

    words = "Probabilities of people, by tenths. On the dotted line, they are what came true."
    return plot("Calibration", words, draw, across="predicted", up="came true") if rows else None
