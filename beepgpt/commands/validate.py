"""`beepgpt validate`: what a model is worth on what it has never seen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from beepgpt.commands.models import how_far, opened, tell_unanswered
from beepgpt.commands.train import MANIFEST, MODELS, TRAIN, VALID, in_our_words
from beepgpt.config.settings import Settings, read_settings
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.events import micros
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console

METRICS, REPORT, CARD = "metrics.json", "report.html", "model.json"


def validate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The training set that the model was trained on.")],
    model: Annotated[Path, typer.Option(help="The model's folder.")],
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another model to compare it with, or several; DIR/models/text if it is there.", show_default=False),
    ] = None,
    precision: Annotated[
        float, typer.Option(help="How many of the alerts should be right: the threshold is looked for.", min=0, max=1)
    ] = 0.5,
    to: Annotated[
        Path | None, typer.Option(help="Where metrics.json and report.html go; the model's folder if not given.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.")] = None,
) -> None:
    """Say what a model is worth: on all of the validation part, beside simple rules, with intervals, as numbers and as a page."""
    into = to or model
    with in_our_words(folder):
        closing, files = validated(folder, model, against, precision, read_settings(config))
    write_run(into, files)
    print_figures(closing)
    if not any(row["name"] == "text" for row in closing["rows"]["answered"]):
        console.print(f"To compare it with text alone: beepgpt train {folder} --model text, and validate again.")
    console.print(f"All of it: {into / METRICS}; for reading: {into / REPORT}; beside others: beepgpt compare {into} …")


def write_run(into: Path, files: dict[str, bytes]) -> None:
    """All files of a run."""
    into.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        jsonl.write_file(into / name, content)


def validated(
    folder: Path, path: Path, against: list[Path] | None, precision: float, settings: Settings
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What is told of a model, and the files that tell it."""
    from beepgpt.training.models import hash_of
    from beepgpt.training.points import read_examples
    from beepgpt.training.runs import FILE, run_bytes
    from beepgpt.training.validation import baselines, judge, some_examples
    from beepgpt.web.report import report_page

    manifest = (folder / MANIFEST).read_bytes()
    text = folder / MODELS / "text"
    others = against if against else [text] if (text / CARD).exists() and text.resolve() != path.resolve() else []
    with (
        console.status("predicting") as status,
        opened((path, *others), settings, lambda done, of: status.update(how_far(done, of))) as models,
    ):
        for each in models:
            if each.card["manifest"] != hash_of(manifest):
                raise BadCommand(f"{each.folder}: was trained on another training set than {folder}, and may have seen what would judge it")
        train, valid = read_examples(folder / TRAIN), read_examples(folder / VALID)
        if not len(valid):
            raise BadCommand(f"{folder}: its validation part is empty: prepare it again with an earlier cut")
        said = {
            name: each.model.predict(valid.points) for name, each in zip(names_of([each.folder for each in models]), models, strict=True)
        }
        tell_unanswered(models)
        found, outcomes = judge({**said, **baselines(train, valid)}, train, valid, precision=precision)
        cut = datetime.fromtimestamp(micros(orjson.loads(manifest)["cut"]) / 1e6, UTC)
        card = {name: value for name, value in models[0].card.items() if name not in ("files", "labels")}
        closing = {"cut": f"{cut:%Y-%m-%d %H:%M:%S} UTC", "model": card, **found}
        page = report_page(closing, some_examples(outcomes, next(iter(said.values())), valid))
        examples = orjson.loads(manifest).get("examples", {})
        asked = {name: examples[name] for name in ("target", "scope") if name in examples}
        metrics = orjson.dumps(closing, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return closing, {METRICS: metrics, REPORT: page.encode(), FILE: run_bytes(outcomes, valid, asked)}


def names_of(folders: list[Path]) -> list[str]:
    """A name for each, by its folder, or by all of its path where two folders are called the same."""
    plain = [each.name for each in folders]
    return [name if plain.count(name) == 1 else str(each) for name, each in zip(plain, folders, strict=True)]


def print_figures(closing: dict[str, Any]) -> None:
    """The figures that matter most."""
    from beepgpt.web.numbers import with_interval
    from beepgpt.web.report import KINDS

    for kind, title, _ in KINDS:
        console.print(figures_table(closing["rows"][kind], title))
    half = next(row for row in closing["alerts"]["all"] if row["threshold"] == 0.5)
    if half["alerts"]:
        console.print(
            f"Of {half['alerts']:,} alerts at 0.5, {with_interval(half['precision'], 'precision')} % were right;"
            f" {with_interval(half['recall'], 'recall')} % of all answers were announced, to {half['people']:,} people,"
            f" {half['per_person_per_day']:.2f} a day for each."
        )
    chosen = closing["threshold"]
    if chosen is None:
        console.print("No threshold reaches the wanted precision with more than a few alerts.")
        return
    console.print(f"{chosen['wanted']:.0%} of the alerts are right from a threshold of {chosen['threshold']:.3f} on.")
    if checked := chosen["checked"]:
        console.print(
            f"Chosen on the first half of the time alone it would be {checked['threshold']:.3f}, and on the second half"
            f" {with_interval(checked['precision'], 'precision')} % of {checked['alerts']:,} alerts would be right."
        )


def figures_table(rows: list[dict[str, Any]], title: str) -> Table:
    """A row for each model and rule."""
    columns = shown_columns(console.width)
    table = Table(box=None, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="bold")
    table.add_column("", overflow="fold")
    for head, _ in columns.values():
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["name"], *(short(row["figures"].get(name), name, ranged) for name, (_, ranged) in columns.items()))
    return table


WIDE, NARROW = 78, 60
"""Columns of a terminal that hold all figures, and the fewest that hold the hits and the mean reciprocal rank."""


def shown_columns(width: int) -> dict[str, tuple[str, bool]]:
    """Which figures there is room for: how each is headed, and whether its range is told."""
    if width < NARROW:
        return {"hit@1": ("hit@1", False), "hit@5": ("hit@5", False)}
    hits = {"hit@1": ("hit@1", True), "hit@3": ("hit@3", False), "hit@5": ("hit@5", True), "mrr": ("mrr", False)}
    return hits if width < WIDE else hits | {"log_loss": ("log loss", False), "calibration_error": ("off, %", False)}


def short(figure: dict[str, Any] | None, name: str, ranged: bool) -> str:
    """A figure, and how far its range goes on either side.

    >>> short({"value": 0.3214, "low": 0.3, "high": 0.34, "count": 9}, "hit@1", True)
    '32.1 ±2.0'
    """
    from beepgpt.web.numbers import with_interval

    number = with_interval(figure, name).partition(" ")[0]
    if not ranged or figure is None or figure["value"] is None:
        return number
    return f"{number} ±{50 * (figure['high'] - figure['low']):.1f}"
