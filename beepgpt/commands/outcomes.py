"""`beepgpt outcomes`: how often predictions were right, as a table and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json, Report, with_settings
from beepgpt.commands.metrics_file import Metrics, check_metrics, write_metrics
from beepgpt.commands.output import account_table, by_reason, write_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.outcomes import RIGHT
from beepgpt.errors import BadCommand
from beepgpt.figures import number, percent, share_or_few
from beepgpt.packages import needing
from beepgpt.runtime.console import console, results
from beepgpt.runtime.places import check_apart, lines_with_places
from beepgpt.training.folder import CARD
from beepgpt.training.live import LiveThresholds, folders_of, live_in, name_of
from beepgpt.training.parts import Parts, parts_of

LEAST_KEPT = 0.02
"""The least probability of a person in outcomes."""


@with_settings
def outcomes(
    source: Annotated[
        str, typer.Argument(help="Outcomes: a .jsonl, a .parquet, kafka://host:port/slack.outcomes or sqlite:///folder/slack.outcomes.")
    ],
    settings: Settings,
    model: Annotated[
        Path | None, typer.Option(help="The model's folder: its figures of validation are shown beside.", show_default=False)
    ] = None,
    to: Annotated[Path | None, typer.Option(help="A page of it, .html, that needs nothing else.", show_default=False)] = None,
    report: Report = None,
    metrics: Metrics = None,
    json: Json = False,
) -> None:
    """Show how well predictions did, by model: hits, precision of alerts, calibration, and how that changed from week to week."""
    given = settings.scoring.threshold
    if given is not None and given < LEAST_KEPT:
        raise BadCommand(f"--threshold {given:g}: at least {LEAST_KEPT} is expected: outcomes hold no less likely people")
    with needing("beepgpt outcomes", "train"):
        from beepgpt.training.metrics_table import outcome_rows
        from beepgpt.training.outcomes import figures_by_model  # noqa: F401
    written = [path for path in (to, report) if path is not None]
    for path in written:
        jsonl.check_writable(path)
    check_metrics(metrics)
    check_apart(source, [*written, *([] if metrics is None else [metrics])])
    closing = outcomes_of(source, model, settings)
    if not closing["models"]:
        raise BadCommand(f"{source}: holds no outcome yet: a point's is known when somebody answered, or its horizon has passed")
    show_summary(closing, json, lambda found: print_models(found["models"]))
    write_report(report, closing)
    write_metrics(metrics, outcome_rows(closing["models"]))
    if to is not None:
        from beepgpt.web.report import outcomes_page

        jsonl.write_file(to, outcomes_page(closing).encode())
        console.print(f"For reading: {to}")
    predictions = Path(source.removesuffix(".outcomes.jsonl") + ".jsonl")
    if predictions.is_file() and str(predictions) != source:
        say_next("rehearse", predictions, *(() if model is None else ("--model", model)), "--to", predictions.with_name("rehearsal.html"))
    elif to is None:
        say_next("outcomes", source, *(() if model is None else ("--model", model)), "--to", "outcomes.html")


def outcomes_of(source: str, model: Path | None, settings: Settings) -> dict[str, Any]:
    """What the report and the page show: each model's figures, by its own threshold, beside its own validation as `model` has them.

    Prints what can't be compared. Raises BadCommand if `model` is no model, or for a record that is no outcome.
    """
    from beepgpt.training.models import read_card
    from beepgpt.training.outcomes import figures_by_model, validation_of

    if model is not None and not (live_in(model) / CARD).is_file():
        raise BadCommand(f"--model {model}: is no trained model ({CARD} is missing): name the folder that `beepgpt train` made")
    thresholds = LiveThresholds(model, settings.scoring.threshold)
    found = list(outcomes_in(source, settings))
    parts: dict[str, Parts | None] = {}
    for name in {each["model"] for each in found}:
        if model is not None and (at := folders_of(model, name)):
            parts[name] = parts_of(read_card(at[0]))
    models = figures_by_model(found, thresholds, parts, model)
    for each in models:
        if model is not None and not each["validation"]:
            at = folders_of(model, each["model"])
            why = f"{at[0]} was not validated: beepgpt validate SET --model {at[0]}" if at else f"{model} holds no model {each['model']}"
            console.print(f"No figures of validation stand beside those of {each['model']}: {why}")
    live = {} if model is None else validation_of(name_of(live_in(model)), model)
    return {"source": source, "right": RIGHT, "promised": live.get("hits", {}), "models": models}


def outcomes_in(source: str, settings: Settings) -> Iterator[dict[str, Any]]:
    """Read outcomes from a file or a topic. Raises BadCommand for a record that is none."""
    from beepgpt.training.outcomes import fault_of

    for place, line in lines_with_places("SOURCE", source, settings, "outcome"):
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadCommand(f"{place}: is no JSON: name what `beepgpt score --outcomes` wrote") from error
        if fault := fault_of(body):
            raise BadCommand(f"{place}: is no outcome ({fault}): name what `beepgpt score --outcomes` wrote")
        yield body


def print_models(models: list[dict[str, Any]]) -> None:
    """Print the figures of all models."""
    for each in models:
        print_outcomes(each)


def print_outcomes(model: Mapping[str, Any]) -> None:
    """Print one model's figures as a table."""
    from beepgpt.training.outcomes import DONE

    table = account_table()
    table.add_row(f"model {model['model']}", "", f"points from {model['from']} to {model['until']} UTC")
    counts, parts = model["outcomes"], model["parts"]
    table.add_row("outcomes", f"{sum(counts.values()):,}", by_reason(counts))
    for part, count in parts.items():
        of = f": of the {model['judged']:,} whose answer is known" if part == "judge" else ""
        table.add_row(f"  {part}", f"{count:,}", f"{PARTS[part]}{of}")
    if model["target"] == "reactors" and not counts.get("answered"):
        table.add_row("", "", "no reaction has its time here (in an export none has), so nobody knows who reacted: there are no figures")
    validation = model["validation"]
    promised = validation.get("hits", {})
    if whose := validation.get("of"):
        table.add_row("", "", f"validation: of {whose}; the model itself learned from that time, too, and these outcomes judge it first")
    for kind, name in (("answered", "answered"), ("first_replies", "first replies")):
        for what, figure in model[kind].items():
            beside = f"; validation: {share_or_few(promised[what])}" if kind == "answered" and what in promised else ""
            table.add_row(f"  {what}, {name}", number(figure, what), f"{share_or_few(figure)} of {figure['count']:,}{beside}")
    alerts = model["alerts"]
    if alerts["given"]:
        right = f"{share_or_few(alerts['precision'])} of {alerts['given']:,} named from {alerts['threshold']:.3f} on;"
        predicted = f"{percent(alerts['promised'], 1)} was predicted"
        table.add_row(
            f"  {DONE[model['target']]}",
            number(alerts["precision"], "precision"),
            f"{right} {predicted}",
        )
    for row in model["calibration"]:
        table.add_row(
            f"  predicted {percent(row['said'])}",
            number(row["came"], "came"),
            f"{share_or_few(row['came'])} came true, of {row['count']:,}",
        )
    results.print(table)


PARTS = {
    "judge": "all figures are of these",
    "choose": "by which thresholds and models are chosen: counted here alone",
    "fit": "on which the model was fitted: counted here alone",
    "unmarked": "written before outcomes named their part of time: counted here alone. Score again, or name their --model",
}
"""What each part of the outcomes is for."""
