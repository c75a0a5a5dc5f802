"""The page of a validation: what a model is worth. It needs nothing else: no script, no network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from beepgpt.training.validation import ShownExample
from beepgpt.web.pages import rendered
from beepgpt.web.plots import FIRST, SECOND, Plot, diagonal, plot, ranged_line

KINDS = (
    ("first_replies", "First replies", "Answered points where one person had spoken so far: the case that alerts are for."),
    ("answered", "All that was answered", "Who spoke next, if it was somebody else."),
    ("first_messages", "First messages, silences among them", "Nobody is one of the outcomes that are ranked."),
    ("all", "All points, silences among them", "Nobody is one of the outcomes that are ranked."),
)
"""Kinds of points: the name in metrics.json, the title, and a sentence that says which they are."""
HEADS = {
    "hit@1": "hit@1, %",
    "hit@3": "hit@3, %",
    "hit@5": "hit@5, %",
    "mrr": "mean reciprocal rank",
    "log_loss": "log loss, nats",
    "calibration_error": "calibration error, points",
}
"""The head of each figure's column, with its unit."""


def report_page(found: Mapping[str, Any], shown: Sequence[ShownExample]) -> str:
    """The page of what metrics.json holds, with examples."""
    return rendered("report.html", found=found, kinds=KINDS, heads=HEADS, plots=plots_of(found), shown=shown)


def plots_of(found: Mapping[str, Any]) -> list[Plot]:
    """The five plots; those that there is nothing to show for are left out."""
    groups = found["groups"]
    drawn = (
        _calibration(found["calibration"]),
        _precision_recall(found["alerts"]),
        _groups(groups["people_seen"], "Hits by people seen", "How often the answerer had answered in the training part."),
        _groups(groups["length"], "Hits by conversation length", "Messages in the window."),
        _groups(groups["month"], "Hits over time", "Months after the cut: a model that grows stale would fall.", turned=True),
    )
    return [each for each in drawn if each is not None]


def _calibration(table: Sequence[Mapping[str, Any]]) -> Plot | None:
    rows = [row for row in table if row["came"]["value"] is not None]

    def draw(axes: Axes) -> None:
        diagonal(axes, 100)
        ranged_line(axes, [100 * row["said"] for row in rows], [row["came"] for row in rows], color=FIRST, linewidth=1.4)

    words = "Probabilities of people, by tenths. On the dotted line, they are what came true."
    return plot("Calibration", words, draw, across="predicted, %", up="came true, %") if rows else None


def _precision_recall(alerts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Plot | None:
    lines = {
        (label, colour): [
            (100 * row["recall"]["value"], 100 * row["precision"]["value"])
            for row in alerts[kind]
            if row["precision"]["value"] is not None and row["recall"]["value"] is not None
        ]
        for kind, label, colour in (("all", "all points", FIRST), ("first_messages", "first messages", SECOND))
    }

    def draw(axes: Axes) -> None:
        for (label, colour), points in lines.items():
            recall, precision = zip(*points, strict=True) if points else ((), ())
            axes.plot(recall, precision, color=colour, marker="o", markersize=3, label=label, clip_on=False)
        axes.set(xlim=(0, None), ylim=(0, 100))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

    words = "Each dot is a threshold, from 0.05 at the right to 0.95 at the left."
    return plot("Precision and recall", words, draw, across="answers alerted to, %", up="alerts right, %") if any(lines.values()) else None


def _groups(groups: Mapping[str, Mapping[str, Any]], title: str, words: str, *, turned: bool = False) -> Plot | None:
    def draw(axes: Axes) -> None:
        for what, colour in (("hit@5", SECOND), ("hit@1", FIRST)):
            ranged_line(axes, range(len(groups)), [group[what] for group in groups.values()], color=colour, label=what)
        axes.set_xticks(range(len(groups)), list(groups), rotation=60 if turned else 0, ha="right" if turned else "center")
        axes.set(ylim=(0, 100))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above the axes, where no interval is hidden by it

    return plot(title, words, draw, up="hits, %") if groups else None
