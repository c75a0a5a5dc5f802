"""The pages of a validation and of outcomes, with their plots. They need nothing else: no script, no network, light and dark."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from operator import itemgetter
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from beepgpt.figures import right_of
from beepgpt.training.intervals import LEAST_COUNT
from beepgpt.training.outcomes import DONE
from beepgpt.training.validation import ShownExample
from beepgpt.web.naming import PageNames
from beepgpt.web.pages import ENDS, REASONS, bands, rendered
from beepgpt.web.verdict import caveat_of, counts_of, gains_of, how_chosen, joined, known_at_choosing, most_of, notes_of, says_of
from beepgpt.web.words import words_of

INK = "#010203"
"""A color that nothing else has: it becomes the page's own, so that a plot can be read in the light and in the dark."""
FIRST, SECOND = "#3b82c4", "#d9822b"
JOINED, OPEN = "#2f9e6b", "#9aa0a6"
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


def plot(
    title: str, words: str, draw: Callable[[Axes], None], *, across: str = "", up: str = "", size: tuple[float, float] = (4.4, 3.1)
) -> Plot:
    """Draw on axes that are labeled `across` and `up`; `size` is in inches."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel=across, ylabel=up)
        draw(axes)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return Plot(title, words, text[text.index("<svg") :].replace(INK, "currentColor"))


def diagonal(axes: Axes, end: float) -> None:
    """Draw the line of perfect calibration and set the limits, from 0 to `end`."""
    axes.plot([0, end], [0, end], color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, end), ylim=(0, end))


def ranged_line(axes: Axes, across: Sequence[float], figures: Sequence[Mapping[str, Any]], *, color: str, **look: Any) -> None:
    """Draw percentages with error bars, unclipped at the edge. Those of too little to tell are hollow, and the line passes them by."""
    known = [(at, each) for at, each in zip(across, figures, strict=True) if each["low"] is not None]
    if known:
        middle = [100 * each["value"] for _, each in known]
        below = [100 * (each["value"] - each["low"]) for _, each in known]
        above = [100 * (each["high"] - each["value"]) for _, each in known]
        axes.errorbar(
            [at for at, _ in known], middle, [below, above], color=color, marker="o", markersize=4, capsize=2, clip_on=False, **look
        )
    for at, each in zip(across, figures, strict=True):
        if each["low"] is None and each["value"] is not None:
            hollow(axes, at, 100 * each["value"], color)


def hollow(axes: Axes, at: float, high: float, color: str) -> None:
    """Draw a dot that tells little: of too few, or of a time that is not over. No line leads to it."""
    axes.plot([at], [high], color=color, marker="o", markersize=4, markerfacecolor="none", linestyle="none", clip_on=False)


KINDS = (
    ("first_replies", "First replies", "Answered moments at which one person had spoken so far: the case that alerts are for."),
    ("answered", "All that was answered", "Who spoke next, if it was somebody else."),
    ("first_messages", "First messages, including unanswered", "“Nobody” is ranked here, too, as if it were a person."),
    ("all", "All moments, including unanswered", "“Nobody” is ranked here, too, as if it were a person."),
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


def report_page(found: Mapping[str, Any], shown: Sequence[ShownExample], people: Iterable[str] = (), home: str = "") -> str:
    """The page of what metrics.json holds, with examples. `people`: names of those in the workspace, where names are shown.

    `home`: where the verdict stands, of which it is a part.
    """
    rows = found["rows"]["first_replies"]
    seen = [row for row in rows[1:] if row["figures"]["hit@5"]["value"] is not None]
    return rendered(
        "report.html",
        found=found,
        best=max(seen, key=lambda row: row["figures"]["hit@5"]["value"], default=None),
        ranges=bands([(f"the model, {row['name']}" if row is rows[0] else row["name"], row["figures"]["hit@5"]) for row in rows]),
        kinds=KINDS,
        heads=HEADS,
        plots=plots_of(found),
        shown=shown,
        people=PageNames(people),
        home=home,
        words=words_of(
            *("answer", "calibration error", "example", "first reply", "hit@k", "horizon", "interval", "local model", "log loss"),
            *("mean reciprocal rank", "parts of time", "point", "probability", "threshold", "too few to tell", "unanswered"),
        ),
    )


def named_in(example: ShownExample, names: Mapping[str, str]) -> ShownExample:
    """An example with names of people and of the channel in the place of ids."""
    people = [(names.get(user, user), p) for user, p in example.people]
    answer = [names.get(each, each) for each in example.answer]
    return replace(example, channel=names.get(example.channel, example.channel), answer=answer, people=people)


def plots_of(found: Mapping[str, Any]) -> list[Plot]:
    """The five plots; those that there is nothing to show for are left out."""
    groups = found["groups"]
    drawn = (
        _calibration(found["calibration"]),
        _precision_recall(found["alerts"]),
        _groups(groups["people_seen"], "Hits by people seen", "How often the answerer had answered in the part fit."),
        _groups(groups["length"], "Hits by conversation length", "Messages in the window."),
        _groups(groups["month"], "Hits by month", "A model that grows stale would fall.", turned=True, least=2),
    )
    return [each for each in drawn if each is not None]


def _calibration(table: Sequence[Mapping[str, Any]]) -> Plot | None:
    rows = [row for row in table if row["came"]["value"] is not None]

    def draw(axes: Axes) -> None:
        diagonal(axes, 100)
        ranged_line(axes, [100 * row["said"] for row in rows], [row["came"] for row in rows], color=FIRST, linewidth=1.4)

    words = "Probabilities of people, by tenths. On the dotted line, they came true just as often as predicted. Hollow: too few."
    return plot("Calibration", words, draw, across="predicted, %", up="came true, %") if rows else None


def _precision_recall(alerts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Plot | None:
    lines = {
        (label, color): [
            (100 * row["recall"]["value"], 100 * row["precision"]["value"])
            for row in alerts[kind]
            if row["precision"]["value"] is not None and row["recall"]["value"] is not None
        ]
        for kind, label, color in (("all", "all points", FIRST), ("first_messages", "first messages", SECOND))
    }

    def draw(axes: Axes) -> None:
        for (label, color), points in lines.items():
            recall, precision = zip(*points, strict=True) if points else ((), ())
            axes.plot(recall, precision, color=color, marker="o", markersize=3, label=label, clip_on=False)
        axes.set(xlim=(0, None), ylim=(0, 100))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

    words = "Each dot is a threshold, from 0.05 at the right to 0.95 at the left."
    if not any(lines.values()):
        return None
    return plot("Precision and recall", words, draw, across="answers by those named, %", up="answered next, % of those named")


def _groups(groups: Mapping[str, Mapping[str, Any]], title: str, words: str, *, turned: bool = False, least: int = 1) -> Plot | None:
    def draw(axes: Axes) -> None:
        for what, color in (("hit@5", SECOND), ("hit@1", FIRST)):
            ranged_line(axes, range(len(groups)), [group[what] for group in groups.values()], color=color, label=what)
        axes.set_xticks(range(len(groups)), list(groups), rotation=60 if turned else 0, ha="right" if turned else "center")
        axes.set(ylim=(0, 100))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above the axes, where no interval is hidden by it

    return plot(title, words, draw, up="hits, %") if len(groups) >= least else None


OTHER_PARTS = {
    "choose": "from the days by which thresholds and models are chosen",
    "fit": "from the time from which the model learned",
    "unmarked": "from before predictions named their part of the model's time",
}
"""The outcomes and predictions that judge nothing."""


def outcomes_page(found: Mapping[str, Any], home: str = "") -> str:
    """The page of what `beepgpt outcomes --report` writes; `home`: where the verdict stands, of which it is a part."""
    same = [is_same(each) for each in found["models"]]
    plots = [
        [each for each in (_weeks(model, same), _calibration(model["calibration"])) if each]
        for model, same in zip(found["models"], same, strict=True)
    ]
    words = words_of(
        "answer", "calibration", "first reply", "hit@k", "interval", "parts of time", "point", "probability", "too few to tell"
    )
    more = {"same": same, "home": home, "ends": ENDS}
    return rendered("outcomes.html", found=found, plots=plots, parts_of=OTHER_PARTS, done=DONE, words=words, **more)


def is_same(model: Mapping[str, Any]) -> bool:
    """Whether validation judged a model by the same points: then its figures say nothing more."""
    hits, answered = model["validation"].get("hits", {}), model["answered"]
    both = hits.keys() & answered.keys()
    return bool(both) and all(
        (hits[name]["value"], hits[name]["count"]) == (answered[name]["value"], answered[name]["count"]) for name in both
    )


def _weeks(model: Mapping[str, Any], same: bool) -> Plot | None:
    weeks, promised = model["weeks"], {} if same else model["validation"].get("hits", {})
    whole = are_whole(model)
    if sum(is_whole and week["part"] == "judge" for week, is_whole in zip(weeks, whole, strict=True)) < LEAST_WEEKS:
        return None
    parts_in = Counter(week["week"] for week in weeks)
    at = places_of([week["week"] for week in weeks])

    def draw(axes: Axes) -> None:
        for what, color in (("hit@5", SECOND), ("hit@1", FIRST)):
            hits = [100 * week[what] if week["answered"] >= LEAST_COUNT else math.nan for week in weeks]
            lines = [hit if is_whole else math.nan for hit, is_whole in zip(hits, whole, strict=True)]
            axes.plot(at, lines, color=color, marker="o", markersize=3, label=what)
            for place, hit, is_whole in zip(at, hits, whole, strict=True):
                if not is_whole:
                    hollow(axes, place, hit, color)
            if what in promised:
                axes.axhspan(100 * promised[what]["low"], 100 * promised[what]["high"], color=color, alpha=0.15, linewidth=0)
        for place, week in zip(at, weeks, strict=True):
            if week["part"] != "judge":
                half = 0.5 / parts_in[week["week"]]
                axes.axvspan(place - half, place + half, color=INK, alpha=0.12, linewidth=0)
        names = {round(number): max(week["week"], model["from"][:10]) for number, week in zip(at, weeks, strict=True)}
        every = max(math.ceil(len(names) / 8), 1)
        axes.set_xticks(list(names)[::every], list(names.values())[::every], rotation=60, ha="right")
        axes.set(ylim=(0, 100))
        axes.legend()

    bands_are = " The bands are what validation found." if promised else ""
    words = (
        f"Of all answers, by weeks that begin where judging does; each has {LEAST_COUNT} or more.{bands_are}"
        " Hollow dots are of weeks that are not whole. Shaded weeks judge nothing: in these the model learned, or its threshold was chosen."
    )
    return plot("Hits by week", words, draw, up="hits, %")


LEAST_WEEKS = 2
"""Whole weeks that judge, below which weeks show nothing."""


def are_whole(model: Mapping[str, Any]) -> list[bool]:
    """Of each of a model's weeks whether predictions are of all of it: the first and the last may be cut short.

    >>> days = {"from": "2024-02-14 12:00", "judged_from": "2024-02-15 08:00", "until": "2024-02-25 07:00"}
    >>> are_whole({**days, "weeks": [{"week": "2024-02-08"}, {"week": "2024-02-15"}, {"week": "2024-02-22"}]})
    [False, True, False]
    """
    first, last = (datetime.fromisoformat(model[name]) for name in ("from", "until"))
    at = [datetime.fromisoformat(week["week"] + (model["judged_from"] or model["from"])[10:]) for week in model["weeks"]]
    return [first <= begin and begin + timedelta(days=7) <= last for begin in at]


def places_of(weeks: Sequence[str]) -> list[float]:
    """Where weeks stand on an axis, by their first days: a week without any points has its place, and one of two parts is divided.

    >>> places_of(["2024-02-15", "2024-02-22", "2024-02-22", "2024-03-07"])
    [0.0, 0.75, 1.25, 3.0]
    """
    count, seen = Counter(weeks), Counter[str]()
    places = []
    for week in weeks:
        number = (date.fromisoformat(week) - date.fromisoformat(weeks[0])).days / 7
        places.append(number + (seen[week] + 0.5) / count[week] - 0.5)
        seen[week] += 1
    return places


def rehearsal_page(found: Mapping[str, Any], people: Iterable[str] = (), home: str = "") -> str:
    """The page of a rehearsal's figures and alerts. `people`: names of those in the workspace, where names are shown.

    `home`: where the verdict stands, of which it is a part.
    """
    words = words_of(
        *("alert", "answered next", "coverage", "interval", "joined", "listed", "parts of time", "point", "probability", "threshold"),
        "too few to tell",
    )
    known_then = known_at_choosing(found)
    return rendered(
        "rehearsal.html",
        found=found,
        says=says_of(found),
        caveat=caveat_of(found),
        joined=joined(found["figures"]["intervals"]["joined"], found["figures"]["alerts"]),
        notes=notes_of(found),
        chosen=how_chosen(found),
        counts=counts_of(found),
        known_then=known_then["intervals"]["joined"]["count"] if known_then else 0,
        right=right_of(found["figures"]["intervals"]["joined"]),
        gains=gains_of(found),
        most=most_of(found["people"], found["figures"]["alerts"]),
        plots=[each for each in (_tradeoff(found), _bars(found)) if each],
        parts_of=OTHER_PARTS,
        reasons=REASONS,
        people=PageNames(people),
        words=words,
        home=home,
    )


def _tradeoff(found: Mapping[str, Any]) -> Plot | None:
    rows = sorted((row for row in found["thresholds"] if row["joined"] is not None), key=itemgetter("alerts", "threshold"))
    chosen, days = found["threshold"], max(found["days"], 1.0)

    def draw(axes: Axes) -> None:
        across = [row["alerts"] / days for row in rows]
        ranged_line(axes, across, [row["intervals"]["joined"] for row in rows], color=FIRST, linewidth=1, elinewidth=0.8)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        places = {row["threshold"]: math.log(at) for row, at in zip(rows, across, strict=True)}
        far = (max(places.values()) - min(places.values())) / 20
        named: list[float] = []
        for row, at in sorted(zip(rows, across, strict=True), key=lambda pair: pair[0]["threshold"] != chosen):
            if all(abs(math.log(at) - each) > far for each in named):  # the names of neighbors would stand on each other
                named.append(math.log(at))
                weight = "bold" if row["threshold"] == chosen else "normal"
                above: Any = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom", "rotation": 90}
                axes.text(at, 1.03, row["name"], weight=weight, **above)
            if row["threshold"] == chosen:
                is_few = row["intervals"]["joined"]["low"] is None
                look: Any = {"color": SECOND, "markerfacecolor": "none" if is_few else SECOND}
                axes.plot([at], [100 * row["joined"]], marker="o", markersize=9, zorder=3, clip_on=False, **look)
        axes.set(ylim=(0, 100))

    words = "Each dot is a threshold, on the days that judge, with its probability above, where there is room; the big one is this page's."
    words += " Hollow dots are of too few alerts to tell."
    return plot("More often, or more rightly", words, draw, across="alerts a day, to everybody", up="joined, %") if rows else None


def _bars(found: Mapping[str, Any]) -> Plot | None:
    bars = found["bars"]

    def draw(axes: Axes) -> None:
        places, below = range(len(bars)), [0] * len(bars)
        for label, color, counts in (
            ("joined", JOINED, [bar["joined"] for bar in bars]),
            ("did not join", FIRST, [bar["alerts"] - bar["joined"] - bar["open"] for bar in bars]),
            ("too recent", OPEN, [bar["open"] for bar in bars]),
        ):
            if any(counts):
                axes.bar(places, counts, bottom=below, color=color, label=label)
            below = [before + count for before, count in zip(below, counts, strict=True)]
        every = max(math.ceil(len(bars) / 8), 1)
        axes.set_xticks(list(places)[::every], [bar["name"] for bar in bars][::every], rotation=60, ha="right")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)

    open_ones = sum(bar["open"] for bar in bars)
    words = f"Each bar is a {found['bars_are']} of those that judge: {sum(bar['alerts'] for bar in bars):,} alerts,"
    words += f" {sum(bar['joined'] for bar in bars):,} after which the person joined"
    words += f", {open_ones:,} too recent to judge." if open_ones else "."
    return plot(f"By {found['bars_are']}", words, draw, up="alerts") if bars else None
