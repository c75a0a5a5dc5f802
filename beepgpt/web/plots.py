"""Plots as SVG that stands in a page: text in the page's font, lines in the page's ink, the same bytes for the same values."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"
"""A colour that nothing else has: it becomes the page's own, so that a plot can be read in the light and in the dark."""
FIRST, SECOND = "#3b82c4", "#d9822b"
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


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture, with a sentence that says what it shows."""

    title: str
    words: str
    svg: str


def plot(title: str, words: str, draw: Callable[[Axes], None], *, across: str = "", up: str = "") -> Plot:
    """Draw on axes that are labeled `across` and `up`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel=across, ylabel=up)
        draw(axes)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return Plot(title, words, text[text.index("<svg") :].replace(INK, "currentColor"))


def diagonal(axes: Axes, end: float) -> None:
    """The dotted line on which a probability is what came true, and limits from 0 to `end`."""
    axes.plot([0, end], [0, end], color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, end), ylim=(0, end))


def ranged_line(axes: Axes, across: Sequence[float], figures: Sequence[Mapping[str, Any]], **look: Any) -> None:
    """Figures in per cent, each with its interval; what lies at the edge is drawn whole."""
    middle = [100 * each["value"] for each in figures]
    below = [100 * max(each["value"] - each["low"], 0) for each in figures]
    above = [100 * max(each["high"] - each["value"], 0) for each in figures]
    axes.errorbar(across, middle, [below, above], marker="o", markersize=4, capsize=2, clip_on=False, **look)
