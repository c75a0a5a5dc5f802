"""`beepgpt rehearse`: past predictions replayed with alerts, as a table and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json, Names, NoNames, Report, with_settings
from beepgpt.commands.metrics_file import Metrics, check_metrics, write_metrics
from beepgpt.commands.output import write_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.figures import count_of, decimals, percent, share_or_few, short
from beepgpt.packages import need
from beepgpt.runtime.console import console, results
from beepgpt.runtime.destinations import beside_of
from beepgpt.runtime.names import known_names, people_of
from beepgpt.runtime.places import check_apart, is_topic
from beepgpt.training.folder import ALERTS


@with_settings
def rehearse(
    source: Annotated[str, typer.Argument(metavar="PREDICTIONS", help="A .jsonl, a .parquet, or a topic.")],
    settings: Settings,
    to: Annotated[Path, typer.Option(help="The page: an .html path.")],
    outcomes: Annotated[str | None, typer.Option(help="Outcomes, if they aren't beside PREDICTIONS, or in it.", show_default=False)] = None,
    model: Annotated[Path | None, typer.Option(help="The model's folder; the threshold is written there.")] = None,
    precision: Annotated[
        float | None,
        typer.Option(help="The share who should join; else 0.5, or less.", min=0, max=1),
    ] = None,
    per_week: Annotated[float | None, typer.Option(help="Alerts to a person a week, at most.", min=0, show_default=False)] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Preferences, as `beepgpt alert` stores them.", show_default=False),
    ] = None,
    members: Annotated[Path | None, typer.Option(help="An export that says who may see what.", show_default=False)] = None,
    names: Names = None,
    no_names: NoNames = False,
    report: Report = None,
    metrics: Metrics = None,
    json: Json = False,
) -> None:
    """Replay past predictions with alerts: whom they would have alerted, how often rightly."""
    need("beepgpt rehearse", ("jinja2", "slack_sdk", "scipy", "matplotlib"), "slack", "train")
    from beepgpt.commands.rehearse_run import rehearsal_of, wishes_of
    from beepgpt.training.live import live_in
    from beepgpt.training.metrics_table import rehearsal_rows
    from beepgpt.web.report import rehearsal_page

    folder, model = model, None if model is None else live_in(model)
    if to.suffix.lower() not in (".html", ".htm"):
        raise BadCommand(f"--to {to}: a page is written there: name an .html")
    jsonl.check_writable(to)
    check_metrics(metrics)
    if outcomes is None and not is_topic(source) and (beside := beside_of(Path(source), "outcomes")) is not None and beside.exists():
        outcomes = str(beside)
    given_names = {f"names {each}": each for each in names or []}
    check_apart(
        source,
        [to, alerts_beside(to), *(path for path in (report, metrics) if path is not None)],
        outcomes=outcomes,
        store=store,
        members=members,
        **given_names,
    )
    known = known_names([*(names or []), *([] if members is None else [members])], [source], no_names=no_names)
    values = rehearsal_of(source, outcomes, settings, model, wishes_of(precision, per_week), store, members, known)
    write_page(to, rehearsal_page(values, people_of(known)), values["alerts"])
    figures = {name: value for name, value in values.items() if name not in ON_THE_PAGE}
    write_report(report, figures)
    write_metrics(metrics, rehearsal_rows(values))
    show_summary(figures, json, lambda _: print_figures(values))
    if model is not None:
        keep(values["recommended"], model, values["models"], stays=True)
    console.print(f"For reading: {to}; each alert, without texts: {alerts_beside(to)}")
    say_next("check", *(() if folder is None else ("--model", folder)))


def alerts_beside(page: Path) -> Path:
    """The file of all alerts that a page's figures are of, a line each."""
    return page.with_suffix(".alerts.jsonl")


def write_page(to: Path, page: str, alerts: Sequence[Mapping[str, Any]]) -> None:
    """Write a rehearsal's page, and its alerts beside it."""
    jsonl.write_file(alerts_beside(to), b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in alerts))
    jsonl.write_file(to, page.encode())


ON_THE_PAGE = ("alerts", "people", "channels", "shown", "bars", "bars_are")
"""What a report leaves out."""


def keep(recommended: Mapping[str, Any], model: Path, models: Sequence[str], *, stays: bool) -> None:
    """Write a recommendation where `beepgpt alert` and `beepgpt score` read it, if all predictions are of that model.

    `stays`: whether the model stays there; else the place is of no use to anybody.
    """
    from beepgpt.training.live import name_of, threshold_in

    name = name_of(model)
    if list(models) != [name]:
        console.print(f"PREDICTIONS are of {', '.join(models)}, and --model {model} is {name}: nothing is written there.")
        return
    if recommended["threshold"] is None:
        if (before := threshold_in(model)) is not None:
            console.print(f"Alerts from {percent(before.value, 1)} on, as before: {before.why}.", highlight=False)
        return
    jsonl.write_file(model / ALERTS, orjson.dumps({"model": name, **recommended}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    which = f": {model / ALERTS}, which `beepgpt alert` and `beepgpt score` follow, also those that run" if stays else ""
    console.print(f"Alerts from {percent(recommended['threshold'])} on{which}.")


def print_figures(values: Mapping[str, Any]) -> None:
    """Print the verdict, the recommendation, the model, the baselines and the other thresholds."""
    from beepgpt.web.verdict import verdict_of

    found, parts, verdict = values["recommended"], values["parts"], verdict_of(values, None)
    for line in ("sentence", "says", "caveat", "chosen"):
        if verdict[line]:
            results.print(verdict[line], highlight=False)
    apart = ", ".join(f"{name} {count:,}" for name, count in parts.items() if name != "judge")
    rest = f"; apart from these: {apart}" if apart else ""
    results.print(
        f"Figures are of the {parts.get('judge', 0):,} points that judge, also those whose answer isn't known{rest}.", highlight=False
    )
    if found["threshold"] is not None:
        joined = found["judged"]["intervals"]["joined"]
        results.print(
            f"Recommended: {percent(found['threshold'])}, {found['why']}. Judged: {found['judged']['alerts']:,} alerts;"
            f" of the {joined['count']:,} whose day is over, {share_or_few(joined)} joined.",
            highlight=False,
        )
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    reacting = ("reacted",) if values["rules"][0]["intervals"]["reacted"]["count"] else ()
    is_wide = not results.is_terminal or results.width >= WIDE
    people, daily = (["people"], ["a day each"]) if is_wide else ([], [])
    for name in ("alerts", *people, "joined, %", "next, %", *reacting, "coverage, %", *daily):
        table.add_column(name, justify="right", no_wrap=True)
    for row in (*values["rules"], values["oracle"], *values["thresholds"], *values["caps"]):
        cells = [f"{row['alerts']:,}", *([f"{row['people']:,}"] if is_wide else []), of_how_many(row["intervals"]["joined"])]
        cells += [short(row["intervals"][name], name) for name in ("next", *reacting, "announced")]
        table.add_row(row["name"], *cells, *([decimals(row["per_person_per_day"])] if is_wide else []))
    results.print(table)
    results.print(
        "joined: posted there for the first time within a day, of those whose day is over; next: was the next to answer; coverage: of all"
        " who joined a conversation, those who were alerted to it first."
    )


WIDE = 110
"""Columns of a terminal that hold all of the table; in narrower ones some stand on the page alone."""


def of_how_many(figure: Mapping[str, Any]) -> str:
    """A share with its range, and what it is a share of.

    >>> of_how_many({"value": 0.7778, "low": None, "high": None, "count": 9})
    'too few (7 of 9)'
    """
    if figure["count"] and figure["low"] is None:
        return f"too few ({count_of(figure)})"
    return f"{short(figure, 'joined')} of {figure['count']:,}" if figure["count"] else short(figure, "joined")
