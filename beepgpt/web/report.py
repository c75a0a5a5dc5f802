"""What was found, as one page that needs nothing else: no script, no network, light and dark."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from beepgpt.training.validation import ShownExample

INK = "#010203"
"""A colour that nothing else has: it becomes the page's own, so that a plot can be read in the light and in the dark."""
OURS, THEIRS, THIRD = "#3b82c4", "#d9822b", "#8a63d2"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, and in the page's own font
    "svg.hashsalt": "beepgpt",  # the same bytes each time
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
}
KINDS = (
    ("first_replies", "First replies", "Answered points where one person had spoken so far: the case that alerts are for."),
    ("answered", "All that was answered", "Who spoke next, if it was somebody else."),
    ("first_messages", "First messages, silences among them", "Nobody is one of the outcomes that are ranked."),
    ("all", "All points, silences among them", "Nobody is one of the outcomes that are ranked."),
)

HEADS = {
    "hit@1": "hit@1, %",
    "hit@3": "hit@3, %",
    "hit@5": "hit@5, %",
    "mrr": "mean reciprocal rank",
    "log_loss": "log loss, nats",
    "calibration_error": "chances off by, points",
}
"""How a column is headed, with its unit."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture, with a sentence that says what it shows."""

    title: str
    words: str
    svg: str


def report_page(found: Mapping[str, Any], shown: Sequence[ShownExample]) -> str:
    """`found`: what metrics.json holds. All that anybody wrote is escaped."""
    pages = Environment(loader=PackageLoader("beepgpt.web", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    pages.filters["figure"] = told
    page: str = pages.get_template("report.html").render(found=found, kinds=KINDS, heads=HEADS, plots=plots_of(found), shown=shown)
    return page


SHARES = ("hit@", "precision", "recall", "came", "calibration")


def told(value: Mapping[str, Any] | None, name: str) -> str:
    """A figure and its range: shares in per cent.

    >>> told({"value": 0.3214, "low": 0.3, "high": 0.34, "count": 9}, "hit@1")
    '32.1 (30.0–34.0)'
    """
    if value is None or value["value"] is None:
        return "–"
    scale, digits = (100, 1) if name.startswith(SHARES) else (1, 3)
    number, low, high = (f"{value[part] * scale:.{digits}f}" for part in ("value", "low", "high"))
    return f"{number} ({low}–{high})"


def plots_of(found: Mapping[str, Any]) -> list[Plot]:
    """The five pictures; those that there is nothing to show for are left out."""
    drawn = [
        _calibration(found["calibration"]),
        _precision_recall(found["alerts"]),
        _groups(found["groups"]["people_seen"], "Hits by people seen", "How often the answerer had answered in the training part."),
        _groups(found["groups"]["length"], "Hits by conversation length", "Messages in the window."),
        _groups(found["groups"]["month"], "Hits over time", "Months after the cut: a model that grows stale would fall.", turned=True),
    ]
    return [plot for plot in drawn if plot is not None]


def _calibration(table: Sequence[Mapping[str, Any]]) -> Plot | None:
    rows = [row for row in table if row["came"]["value"] is not None]
    if not rows:
        return None
    with mpl.rc_context(STYLE):
        canvas, axes = canvas_of("what was said, %", "what came true, %")
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":")
        ranged_line(axes, [100 * row["said"] for row in rows], [row["came"] for row in rows], color=OURS, linewidth=1.4)
        axes.set(xlim=(0, 100), ylim=(0, 100))
        return Plot("Calibration", "Chances of people, by tenths. On the dotted line, every chance says what it means.", svg_of(canvas))


def _precision_recall(alerts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Plot | None:
    named = {"all": ("all points", OURS), "first_messages": ("first messages", THEIRS)}
    with mpl.rc_context(STYLE):
        canvas, axes = canvas_of("answers announced, %", "alerts right, %")
        drawn = False
        for kind, (label, colour) in named.items():
            rows = [row for row in alerts[kind] if row["precision"]["value"] is not None and row["recall"]["value"] is not None]
            recall, precision = [100 * row["recall"]["value"] for row in rows], [100 * row["precision"]["value"] for row in rows]
            axes.plot(recall, precision, color=colour, marker="o", markersize=3, label=label, clip_on=False)
            drawn = drawn or bool(rows)
        axes.set(xlim=(0, None), ylim=(0, 100))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        if not drawn:
            return None
        return Plot("Precision and recall", "Each dot is a threshold, from 0.05 at the right to 0.95 at the left.", svg_of(canvas))


def _groups(groups: Mapping[str, Mapping[str, Any]], title: str, words: str, *, turned: bool = False) -> Plot | None:
    if not groups:
        return None
    with mpl.rc_context(STYLE):
        canvas, axes = canvas_of("", "hits, %")
        for what, colour in (("hit@5", THEIRS), ("hit@1", OURS)):
            ranged_line(axes, range(len(groups)), [group[what] for group in groups.values()], color=colour, label=what)
        axes.set_xticks(range(len(groups)), list(groups), rotation=60 if turned else 0, ha="right" if turned else "center")
        axes.set(ylim=(0, 100))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above the axes, where no range is hidden by it
        return Plot(title, words, svg_of(canvas))


def ranged_line(axes: Axes, across: Sequence[float], figures: Sequence[Mapping[str, Any]], **look: Any) -> None:
    """Figures in per cent, each with its range; what lies at the edge is drawn whole."""
    middle = [100 * each["value"] for each in figures]
    below = [100 * max(each["value"] - each["low"], 0) for each in figures]
    above = [100 * max(each["high"] - each["value"], 0) for each in figures]
    axes.errorbar(across, middle, [below, above], marker="o", markersize=4, capsize=2, clip_on=False, **look)


def canvas_of(across: str, up: str) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(5.2, 3.4), layout="constrained")
    axes = canvas.add_subplot()
    axes.set(xlabel=across, ylabel=up)
    return canvas, axes


def svg_of(canvas: Canvas) -> str:
    written = io.StringIO()
    canvas.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
