"""`beepgpt predict`: a model asked about one row of a validation file, or about a text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json, ModelFolder, Names, NoNames, with_settings
from beepgpt.commands.provider import open_model, say_strangers
from beepgpt.commands.train import check_training_set
from beepgpt.config.settings import Settings
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.errors import BadCommand
from beepgpt.figures import percent
from beepgpt.runtime.console import console, results
from beepgpt.runtime.names import known_names
from beepgpt.training.folder import CARD


@with_settings
def predict(
    model: ModelFolder,
    settings: Settings,
    row: Annotated[int | None, typer.Option(help="A row of the validation file, the first is 1.", min=1, show_default=False)] = None,
    text: Annotated[
        str | None, typer.Option(help="A conversation, an empty line between its messages; - reads standard input.", show_default=False)
    ] = None,
    set: Annotated[
        Path | None, typer.Option(help="The training set; the one that the model's folder lies in, if not given.", show_default=False)
    ] = None,
    names: Names = None,
    no_names: NoNames = False,
    json: Json = False,
) -> None:
    """Ask a model about one row of a validation file, or a text: what was expected, its answer, and the 5 likeliest."""
    if row is None and text is None:
        raise BadCommand("--row N or --text TEXT is expected: a row of the validation file, or a conversation of your own")
    if not (model / CARD).is_file():
        raise BadCommand(f"--model {model}: is no trained model ({CARD} is missing): name the folder that `beepgpt train` made")
    folder = set if set is not None else model.resolve().parent.parent
    check_training_set(folder)
    known = known_names(names, [folder], no_names=no_names)
    answer = predicted(folder, model, row, sys.stdin.read() if text == "-" else text, settings)
    answer["answered_by"] = answer["answered_by"] and [known.get(each, each) for each in answer["answered_by"]]
    answer["likeliest"] = [each | ({"name": known[each["who"]]} if each["who"] in known else {}) for each in answer["likeliest"]]
    show_summary(answer, json, show)
    say_next("predict", "--model", model, "--set", folder, "--row", 1 if row is None else row + 1)


def predicted(folder: Path, model: Path, row: int | None, text: str | None, settings: Settings) -> dict[str, Any]:
    """Open the model and ask it; returns the answer as `--json` prints it."""
    from beepgpt.training.ask import ask_about

    with open_model(model, settings) as trained:
        say_strangers([trained], folder)
        return ask_about(folder, trained, row, text, load_encoding)


def show(answer: dict[str, Any]) -> None:
    """Print an answer for people, on standard output."""
    results.print(answer["prompt"].rstrip("\n"))
    results.print()
    if "facts" in answer:
        console.print(f"Candidates and features: {answer['facts']}.")
    if answer["answered_by"] is not None:
        results.print(f"who answered  {' or '.join(answer['answered_by'])}")
    first = answer["likeliest"][0]
    results.print(f"likeliest     {who_of(first)}, {percent(first['p'], 1)}")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("who", "probability"):
        table.add_column(name, justify="right" if name == "probability" else "left")
    for each in answer["likeliest"]:
        table.add_row(who_of(each), percent(each["p"], 1))
    results.print(table)


def who_of(likely: dict[str, Any]) -> str:
    """A person's name where it is known, or the id."""
    return str(likely.get("name", likely["who"]))
