"""`beepgpt validate`: a model's figures on what it has never seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json, ModelFolder, Names, NoNames, with_settings
from beepgpt.commands.metrics_file import Metrics, check_metrics, write_metrics
from beepgpt.commands.provider import open_models, print_unanswered, say_strangers
from beepgpt.commands.train import check_training_set
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.figures import share_or_few, short, with_interval
from beepgpt.folders import make_folder
from beepgpt.runtime.console import WIDEST, console, results
from beepgpt.runtime.names import known_names, people_of
from beepgpt.runtime.places import check_apart, check_names_folder
from beepgpt.training.folder import CARD, METRICS, MODELS
from beepgpt.training.live import let_own_be_live

NOT_JUDGED = {
    "silence": "Points that nobody answered (--silences drop)",
    "weak": "Points whose answer has a weak signal (--weak drop)",
}
REPORT = "report.html"
NO_NAMES: Mapping[str, str] = {}


@with_settings
def validate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The training set that the model was trained on.")],
    model: ModelFolder,
    settings: Settings,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another model to compare it with, or several; DIR/models/text if it is there.", show_default=False),
    ] = None,
    precision: Annotated[
        float, typer.Option(help="The share of alerts that should be right: a threshold is looked for.", min=0, max=1)
    ] = 0.5,
    to: Annotated[
        Path | None, typer.Option(help="Where metrics.json and report.html go; the model's folder if not given.", show_default=False)
    ] = None,
    names: Names = None,
    no_names: NoNames = False,
    metrics: Metrics = None,
    json: Json = False,
) -> None:
    """Say what a model is worth: on all of the validation side, beside simple rules, with intervals, as numbers and as a page."""
    from beepgpt.training.metrics_table import validation_rows
    from beepgpt.training.runs import FILE

    into = to or model
    check_metrics(metrics)
    check_apart(str(folder), [*(into / name for name in (METRICS, REPORT, FILE)), *([] if metrics is None else [metrics])])
    check_names_folder("--to", into)
    check_training_set(folder)
    known = known_names(names, [folder], no_names=no_names)
    closing, files = validated(folder, model, against, [precision], settings, known)
    write_run(into, files)
    write_metrics(metrics, validation_rows(closing))
    show_summary(closing, json, print_figures)
    if not any(row["name"] == "text" for row in closing["rows"]["answered"]):
        console.print(f"To compare it with text alone: beepgpt train {folder} --model text, and validate again.")
    console.print(f"All of it: {into / METRICS}; for reading: {into / REPORT}; beside others: beepgpt compare {into} …")
    say_next("predict", "--model", model, "--row", 1, "--set", folder)


def validated(
    folder: Path,
    model: Path,
    against: Sequence[Path] | None,
    precisions: Sequence[float],
    settings: Settings,
    names: Mapping[str, str] = NO_NAMES,
    home: str = "",
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A model's figures, and the files of the run by name. `against`: None for DIR/models/text, if it is there; `home`: as of a page."""
    from beepgpt.training.runs import FILE
    from beepgpt.training.validation import validate_models
    from beepgpt.web.report import named_in, report_page

    text = folder / MODELS / "text"
    if not against:
        against = [text] if (text / CARD).exists() and text.resolve() != model.resolve() else []
    with console.status("predicting") as status:

        def progress(done: int, of: int) -> None:
            status.update(f"asked about {done:,} of {of:,} points")

        with open_models((model, *against), settings, progress) as models:
            say_strangers(models, folder)
            found = validate_models(folder, models, precisions=precisions)
            print_unanswered(models)
        page = report_page(found.figures, [named_in(each, names) for each in found.examples], people_of(names), home)
    metrics = orjson.dumps(found.figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return found.figures, {METRICS: metrics, REPORT: page.encode(), FILE: found.run}


def write_run(into: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a run."""
    make_folder(into)
    for name, content in files.items():
        jsonl.write_file(into / name, content)
    if let_own_be_live(into):
        console.print(f"{into}: its own model is the live one from now on, in place of the version before.")


# What a person sees


def print_figures(closing: dict[str, Any]) -> None:
    """Print the figures that matter most."""
    from beepgpt.web.report import KINDS

    results.print(
        f"Judged by the {closing['points']:,} points from {closing['cut']} on, which neither fitted the model nor chose anything.",
        highlight=False,
    )
    for reason, count in closing.get("not_judged", {}).items():
        results.print(
            f"{NOT_JUDGED[reason]} were left out of the training set, {count:,} before the cut and after it; a live model is asked about"
            " such points, too, so these figures may flatter."
        )
    for kind, title, _ in KINDS:
        results.print(figures_table(closing["rows"][kind], title))
    if left_out := [head for name, head in COLUMNS[-1][1].items() if name not in shown_columns(width_of_results())]:
        results.print(
            f"Not shown in {results.width} columns: {', '.join(left_out)}. The page, --json and {COLUMNS[-1][0]} columns have them."
        )
    results.print("calibration: how many points the probabilities were off by, in the mean. Ranges hold the truth in 95 of 100 cases.")
    if len(others := [row for row in closing["choose"]["rows"]["all"] if "log_loss" in row["figures"]]) > 1:
        losses = ", ".join(f"{row['name']} {with_interval(row['figures']['log_loss'], 'log_loss')}" for row in others)
        results.print(
            f"All figures above are of the part that judges, for each model. Choose between them by the {closing['choose']['points']:,}"
            f" points to choose by: log loss there {losses}. (The least is best.)",
            highlight=False,
        )
    half = next(row for row in closing["alerts"]["all"] if row["threshold"] == 0.5)
    if half["alerts"]:
        results.print(
            f"Of {half['alerts']:,} people named with 0.5 or more, {share_or_few(half['precision'])} answered next, and"
            f" {share_or_few(half['recall'])} of all answers were by one of them."
        )
    chosen = closing["threshold"]
    if chosen is None:
        results.print(
            f"No threshold reaches the wanted precision with more than a few people named, on the {closing['chosen_on']:,} points to"
            " choose by."
        )
        return
    results.print(
        f"From {chosen['threshold']:.3f} on, {share_or_few(chosen['before']['precision'])} of those named answered next, on the"
        f" {closing['chosen_on']:,} points to choose by whose answers were known in time; judged,"
        f" {share_or_few(chosen['precision'])} of {chosen['alerts']:,}.",
        highlight=False,
    )
    results.print("People are alerted to what they take no part in, which is harder: `beepgpt rehearse` finds the threshold for that.")


def figures_table(rows: list[dict[str, Any]], title: str) -> Table:
    """A table with a row for each model and rule, and of how many points it is."""
    columns = shown_columns(width_of_results())
    table = Table(box=None, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="bold")
    table.add_column(f"{rows[0]['figures']['hit@1']['count']:,} points", overflow="fold")
    for head in columns.values():
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["name"], *(short(row["figures"].get(name), name) for name in columns))
    return table


HITS = {"hit@1": "hit@1, %", "hit@5": "hit@5, %"}
MORE_HITS = {"hit@1": "hit@1, %", "hit@3": "hit@3, %", "hit@5": "hit@5, %"}
OFF = {"calibration_error": "calibration"}
COLUMNS = (
    (0, HITS),
    (64, MORE_HITS),
    (80, MORE_HITS | OFF),
    (116, MORE_HITS | {"mrr": "mrr", "log_loss": "log loss"} | OFF),
)
"""The figures, and the head of each, that a terminal of so many columns and more holds with their ranges."""


def width_of_results() -> int:
    """Columns of the terminal; what is piped has as many as it likes."""
    return results.width if results.is_terminal else WIDEST


def shown_columns(width: int) -> dict[str, str]:
    """The figures that fit, and the head of each."""
    return next(columns for least, columns in reversed(COLUMNS) if width >= least)
