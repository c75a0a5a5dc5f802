"""What outcomes say, as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from jinja2 import Environment, StrictUndefined

from beepgpt.web.report import INK, OURS, STYLE, THEIRS, Plot, canvas_of, svg_of, told

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What became of predictions</title>
<style>
:root { color-scheme: light dark; --ink: #1c2430; --page: #fcfcfb; --dim: #5b6573; --line: #d9dde2 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --page: #14181d; --dim: #9aa4b0; --line: #323a44 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .8rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left }
figure { display: inline-block; margin: 1rem 1rem 1rem 0; max-width: 100% } figcaption, .dim { color: var(--dim) }
svg { max-width: 100%; height: auto }
</style>
</head>
<body>
<main>
<h1>What became of predictions</h1>
<p class="dim">{{ found.source }}. Shares in per cent, with 95 % intervals from conversations drawn again and again.</p>
{% for model in found.models %}
<section>
<h2>Model {{ model.model }}</h2>
<p>Points from {{ model["from"] }} to {{ model.until }} UTC: {% for how, times in model.outcomes.items() %}{{ how }} {{ times }}{{ ", " if not loop.last }}{% endfor %}.</p>
<table>
<thead><tr><th scope="col"></th><th scope="col">hit@1</th><th scope="col">hit@5</th></tr></thead>
<tbody>
<tr><th scope="row">all that was answered</th>{% for what in ("hit@1", "hit@5") %}<td>{{ model.answered.get(what) | figure(what) }}</td>{% endfor %}</tr>
<tr><th scope="row">first replies</th>{% for what in ("hit@1", "hit@5") %}<td>{{ model.first_replies.get(what) | figure(what) }}</td>{% endfor %}</tr>
{% if found.promised %}<tr><th scope="row">its validation, answered</th>{% for what in ("hit@1", "hit@5") %}<td>{{ found.promised.get(what) | figure(what) }}</td>{% endfor %}</tr>{% endif %}
</tbody>
</table>
{% if model.alerts.given %}<p>{{ model.alerts.right }} of {{ model.alerts.given }} people with a chance of at least {{ "%.2f" | format(model.alerts.threshold) }} answered:
{{ model.alerts.precision | figure("precision") }} %, where {{ "%.1f" | format(100 * model.alerts.promised) }} % was promised.</p>{% endif %}
{% for plot in plots[loop.index0] %}
<figure role="group" aria-label="{{ plot.title }}">{{ plot.svg | safe }}<figcaption>{{ plot.words }}</figcaption></figure>
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""


def page_of(found: Mapping[str, Any]) -> str:
    """`found`: what `beepgpt outcomes --report` writes."""
    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    pages.filters["figure"] = told
    plots = [[plot for plot in (_weeks(each, found["promised"]), _calibration(each)) if plot] for each in found["models"]]
    return pages.from_string(PAGE).render(found=found, plots=plots)


def _weeks(model: Mapping[str, Any], promised: Mapping[str, Mapping[str, float]]) -> Plot | None:
    weeks = model["weeks"]
    if not weeks:
        return None
    with mpl.rc_context(STYLE):
        canvas, axes = canvas_of("", "hits, %")
        for what, colour in (("hit@5", THEIRS), ("hit@1", OURS)):
            axes.plot(range(len(weeks)), [100 * week[what] for week in weeks], color=colour, marker="o", markersize=3, label=what)
            if what in promised:
                axes.axhspan(100 * promised[what]["low"], 100 * promised[what]["high"], color=colour, alpha=0.15, linewidth=0)
        every = max(len(weeks) // 8, 1)
        axes.set_xticks(range(0, len(weeks), every), [week["week"] for week in weeks[::every]], rotation=60, ha="right")
        axes.set(ylim=(0, 100))
        axes.legend()
        return Plot("Hits by week", "Answered points, by the week of the point; the bands are what validation found.", svg_of(canvas))


def _calibration(model: Mapping[str, Any]) -> Plot | None:
    rows = model["calibration"]
    if not rows:
        return None
    with mpl.rc_context(STYLE):
        canvas, axes = canvas_of("what was said", "what came true")
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        axes.plot([row["said"] for row in rows], [row["came"] for row in rows], color=OURS, marker="o", markersize=4)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        return Plot("Calibration", "Chances of people, by tenths. On the dotted line, every chance says what it means.", svg_of(canvas))
