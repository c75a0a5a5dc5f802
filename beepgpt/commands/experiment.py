"""`beepgpt experiment`: several framings of the same history, each from examples to figures, in one table."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.table import Table

from beepgpt.commands.examples import ExamplesJob, run_examples
from beepgpt.commands.flags import kinds_of
from beepgpt.commands.prepare import prepared
from beepgpt.commands.train import HERE, trained
from beepgpt.commands.validate import validated, write_run
from beepgpt.config.settings import Settings, read_settings
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import files_of

RESULT = "experiment.json"
SIMPLE = "latest other author"
"""The rule that every framing's model is put beside."""


class Framing(BaseModel):
    """What is asked: settings as they stand in a settings file, of these two sections."""

    model_config = ConfigDict(extra="forbid")

    conversations: dict[str, Any] = {}
    training: dict[str, Any] = {}


class Experiment(BaseModel):
    """A file of framings."""

    model_config = ConfigDict(extra="forbid")

    source: str = ""
    include: str = "channels"
    model: str = "local"
    precision: Annotated[float, Field(ge=0, le=1)] = 0.5
    all: Framing = Framing()
    """Settings of all framings; a framing's own win."""
    framings: Annotated[dict[Annotated[str, Field(pattern=r"^[\w-]+$")], Framing], Field(min_length=1)]


def experiment(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The framings; config/framings.toml has the original's five.")],
    to: Annotated[Path, typer.Option(help="A folder: each framing's examples, training set, model and figures go into one of their own.")],
    source: Annotated[
        str | None, typer.Option(help="An export or a .jsonl of events, if not the one that FILE names.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings, which FILE's win over.")] = None,
    threads: Annotated[int, typer.Option(help="As many as there are processors, if 0. The models are the same.", min=0)] = 0,
) -> None:
    """Try several framings of one history: for each, examples, training set, model and figures; then one table."""
    asked = read_experiment(file)
    given = source or asked.source
    if not given:
        raise BadCommand(f"{file} names no source, and there is no --source: one of them is needed")
    if asked.model not in HERE:
        raise BadCommand(f"{file}: model is {asked.model}: {' or '.join(HERE)} is expected")
    settings = {name: settings_of(asked, framing, config) for name, framing in asked.framings.items()}
    kinds = kinds_of(asked.include)
    to.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (name, ours) in enumerate(settings.items(), start=1):
        console.print(f"{number} of {len(settings)}: {name}")
        make_anew(to / name)
        job = ExamplesJob(given, files_of(str(to / name / "examples.jsonl")), ours, kinds)
        rows.append(framing_row(name, ours, to / name, job, asked, threads))
        if why := rows[-1].get("why"):
            console.print(f"  {why}")
    print_framings(rows)
    jsonl.write_file(to / RESULT, orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    console.print(f"All of it: {to / RESULT}; a report for each: {to / '…' / 'model' / 'report.html'}")
    if all("why" in row for row in rows):
        raise typer.Exit(1)


def read_experiment(file: Path) -> Experiment:
    """The file, or what is wrong with it."""
    try:
        return Experiment(**tomllib.loads(file.read_text("utf-8")))
    except OSError as error:
        raise BadCommand(f"{file} can't be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadCommand(f"{file} is no TOML: {error}") from error
    except ValidationError as error:
        wrong = error.errors()[0]
        raise BadCommand(f"{file}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg'][:1].lower()}{wrong['msg'][1:]}") from error


def settings_of(asked: Experiment, framing: Framing, config: Path | None) -> Settings:
    """The settings of one framing."""
    return read_settings(
        config,
        {
            "conversations": {**asked.all.conversations, **framing.conversations},
            "training": {**asked.all.training, **framing.training, "format": "candidates"},
            "run": {"workers": 1},
        },
    )


def make_anew(folder: Path) -> None:
    """A framing's folder, without what an earlier run left in it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def framing_row(name: str, settings: Settings, folder: Path, job: ExamplesJob, asked: Experiment, threads: int) -> dict[str, Any]:
    """A framing from its examples to its figures. One that can't be learned says why, and the others go on."""
    from beepgpt.training.checks import CannotPrepare
    from beepgpt.training.points import BadTable
    from beepgpt.training.predictions import OtherFacts, TooLittle

    ours = settings.conversations
    row: dict[str, Any] = {"framing": name, "scope": ours.scope, "target": ours.target, "spec": settings.rules.spec}
    run_examples(job)
    try:
        manifest = prepared(str(folder / "examples.jsonl"), folder / "set", settings, None, None)
        row["examples"] = {side: manifest["account"][side]["examples"] for side in ("train", "valid")}
        trained(folder / "set", asked.model, folder / "model", seed=1, threads=threads)
        closing, files = validated(folder / "set", folder / "model", [], asked.precision, settings)
    except (BadCommand, CannotPrepare, BadTable, OtherFacts, TooLittle) as error:
        return {**row, "why": str(error)}
    write_run(folder / "model", files)
    return {**row, "figures": figures_of(closing)}


def figures_of(closing: dict[str, Any]) -> dict[str, Any]:
    """What the table tells of a framing."""
    told: dict[str, Any] = {"answered_points": closing["answered"], "judged": closing["points"]}
    for kind in ("answered", "first_replies"):
        rows = {row["name"]: row["figures"] for row in closing["rows"][kind]}
        told[kind] = {"model": next(iter(rows.values())), "simple": rows[SIMPLE]}
    half = next(row for row in closing["alerts"]["all"] if row["threshold"] == 0.5)
    return {**told, "alerts_at_half": half}


def print_framings(rows: list[dict[str, Any]]) -> None:
    """A line for each framing: what it asks, how much there is of it, and what its model is worth beside a simple rule."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("framing", overflow="fold")
    for head in ("judged", "hit@1", "hit@5", "simple@1", "simple@5", "alerts", "right"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        if "figures" not in row:
            table.add_row(row["framing"], "–")
            continue
        of, half = row["figures"]["answered"], row["figures"]["alerts_at_half"]
        shares = [share(of[who][hit]) for who in ("model", "simple") for hit in ("hit@1", "hit@5")]
        table.add_row(row["framing"], f"{row['figures']['answered_points']:,}", *shares, f"{half['alerts']:,}", share(half["precision"]))
    console.print(table)
    console.print(f"Hits are of answered points; simple: {SIMPLE}; alerts: all chances of 0.5 or more, and how many % of them were right.")


def share(figure: dict[str, Any]) -> str:
    """A figure in per cent."""
    return "–" if figure["value"] is None else f"{100 * figure['value']:.1f}"
