"""`beepgpt validate`: what a model is worth on what it has never seen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from commands.common import BadCommand
from commands.models import how_far, opened, tell_unanswered
from commands.train import MANIFEST, MODELS, TRAIN, VALID, in_our_words
from config.settings import Settings, read_settings
from connectors import jsonl
from connectors.console import console
from conversations.events import micros

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
        closing, page = validated(folder, model, against, precision, read_settings(config))
    into.mkdir(parents=True, exist_ok=True)
    jsonl.write_file(into / METRICS, orjson.dumps(closing, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    jsonl.write_file(into / REPORT, page.encode())
    print_figures(closing)
    console.print(f"All of it: {into / METRICS}; for reading: {into / REPORT}")


def validated(folder: Path, path: Path, against: list[Path] | None, precision: float, settings: Settings) -> tuple[dict[str, Any], str]:
    """What metrics.json and report.html hold."""
    from training.models import hash_of
    from training.points import read_examples
    from training.report import report_page
    from training.validation import baselines, judge, some_examples

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
        said = {name: each.model.predict(valid.points) for name, each in zip(_names([each.folder for each in models]), models, strict=True)}
        tell_unanswered(models)
        found, outcomes = judge({**said, **baselines(train, valid)}, train, valid, precision=precision)
        cut = datetime.fromtimestamp(micros(orjson.loads(manifest)["cut"]) / 1e6, UTC)
        card = {name: value for name, value in models[0].card.items() if name not in ("files", "labels")}
        closing = {"cut": f"{cut:%Y-%m-%d %H:%M:%S} UTC", "model": card, **found}
        return closing, report_page(closing, some_examples(outcomes, next(iter(said.values())), valid))


def _names(folders: list[Path]) -> list[str]:
    """A name for each, by its folder, or by all of its path where two folders are called the same."""
    plain = [each.name for each in folders]
    return [name if plain.count(name) == 1 else str(each) for name, each in zip(plain, folders, strict=True)]


def print_figures(closing: dict[str, Any]) -> None:
    """The figures that matter most."""
    from training.report import KINDS, told

    for kind, title, _ in KINDS:
        table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
        table.add_column("", no_wrap=True)
        for name in closing["columns"]:
            table.add_column(name.replace("_", " "), justify="right", no_wrap=name.startswith("hit"))
        for row in closing["rows"][kind]:
            table.add_row(row["name"], *(_short(row["figures"].get(name), name) for name in closing["columns"]))
        console.print(table)
    half = next(row for row in closing["alerts"]["all"] if row["threshold"] == 0.5)
    if half["alerts"]:
        console.print(
            f"Of {half['alerts']:,} alerts at 0.5, {told(half['precision'], 'precision')} % were right;"
            f" {told(half['recall'], 'recall')} % of all answers were announced, to {half['people']:,} people,"
            f" {half['per_person_per_day']:.2f} a day for each."
        )
    chosen = closing["threshold"]
    if chosen is None:
        console.print("No threshold reaches the wanted precision with more than a few alerts.")
    else:
        console.print(f"{chosen['wanted']:.0%} of the alerts are right from a threshold of {chosen['threshold']:.3f} on.")


def _short(figure: dict[str, Any] | None, name: str) -> str:
    """Of hits the range, too; of the rest the number alone, so that a line has room for all."""
    from training.report import told

    told_in_full = told(figure, name)
    return told_in_full if name in ("hit@1", "hit@5") else told_in_full.partition(" ")[0]
