"""`beepgpt prepare`: a training set, checked, encoded, and split by time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.example_source import examples_of, made_with
from beepgpt.commands.flags import Json, Report, with_settings
from beepgpt.commands.output import write_report
from beepgpt.commands.prepare_account import print_training_set
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.errors import BadCommand, cannot_write
from beepgpt.folders import beside
from beepgpt.library.training_sets import options_of
from beepgpt.runtime.console import Watched
from beepgpt.runtime.made_by import recorded_rules
from beepgpt.runtime.names import pass_names_on
from beepgpt.runtime.places import check_apart, check_names_folder, is_topic
from beepgpt.runtime.workers import collect_rarely, peak_memory_mb
from beepgpt.training.folder import TRAIN


@with_settings
def prepare(
    source: Annotated[str, typer.Argument(help="Examples, labeled or not: a .jsonl, a .parquet, or a topic.")],
    to: Annotated[Path, typer.Option(help="A folder; an older training set in it is replaced.")],
    settings: Settings,
    retractions: Annotated[Path | None, typer.Option(help="Examples to forget; found by themselves beside SOURCE.")] = None,
    few_shots: Annotated[Path | None, typer.Option(help="The folder of the labeler's few-shots, which must not validate.")] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Make a training set of examples: checked, encoded, split by time so that nothing leaks."""
    if report is not None:
        jsonl.check_writable(report)
        check_apart(source, [report])
    check_names_folder("--to", to)
    closing = prepared(source, to, settings, retractions, few_shots)
    if not is_topic(source):
        pass_names_on(Path(source), to)
    show_summary(closing, json, print_training_set)
    write_report(report, closing)
    if closing["account"]["adds_up"]:
        say_next("train", to, *(() if (to / TRAIN).exists() else ("--model", "export")))
    raise typer.Exit(0 if closing["account"]["adds_up"] else 1)


def prepared(source: str, to: Path, settings: Settings, retractions: Path | None, few_shots: Path | None) -> dict[str, Any]:
    """Make the training set; returns the closing account as `--report` writes it."""
    from beepgpt.training.checks import model_of
    from beepgpt.training.prepare import check_folder, few_shots_in, prepare, retracted_in

    began = time.monotonic()
    ours = settings.training
    target = model_of(ours.model, ours.encoding)
    wanted = options_of(settings)
    check_folder(to)
    collect_rarely()
    folder = few_shots_folder(few_shots, settings)
    with examples_of(source, to, settings) as (path, gone), Watched("preparing", shown=settings.run.progress) as watched:
        taken_back = retractions or beside(path if is_topic(source) else Path(source), "retractions.jsonl")
        if retractions is not None:
            jsonl.check_readable(retractions)
        retracted = {*gone, *(retracted_in(taken_back) if taken_back.exists() else ())}
        recorded = None if is_topic(source) else recorded_rules(Path(source))
        shots = [] if folder is None else list(few_shots_in(folder))
        try:
            manifest = prepare(
                path,
                to,
                wanted,
                load_encoding(target.encoding),
                retracted=retracted,
                few_shots=shots,
                progress=lambda lines, share: watched.update(0, 1, lines, share),
                called=source,
                made_with=made_with(source, settings),
                workspace=None if recorded is None else recorded.workspace,
            )
        except OSError as error:
            raise cannot_write(to, error) from error
    seconds = time.monotonic() - began
    return {
        "command": "prepare",
        "source": source,
        "to": str(to),
        **manifest,
        "seconds": round(seconds, 3),
        "examples_per_second": round(manifest["examples"]["lines"] / seconds),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }


def few_shots_folder(given: Path | None, settings: Settings) -> Path | None:
    """The folder of few-shots: as given, or the settings' one if it exists. Raises BadCommand."""
    folder = given or settings.labeling.few_shots
    if not folder.is_dir():
        if given is not None:
            raise BadCommand(f"--few-shots {given}: there is no such folder")
        return None
    return folder
