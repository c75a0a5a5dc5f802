"""`beepgpt prepare`: a training set, checked, encoded, and split by time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.example_source import examples_of, made_with
from beepgpt.commands.output import write_report
from beepgpt.commands.prepare_account import print_training_set
from beepgpt.config.settings import Settings, read_settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.errors import BadCommand, cannot_write
from beepgpt.runtime.console import Watched
from beepgpt.runtime.places import check_apart
from beepgpt.runtime.workers import peak_memory_mb

SETTINGS = "Settings"


def prepare(
    source: Annotated[str, typer.Argument(help="Examples, labeled or not: a .jsonl, or kafka://host:port/topic.")],
    to: Annotated[Path, typer.Option(help="A folder for the training set; an older one in it is replaced.")],
    format: Annotated[
        list[str] | None, typer.Option(help="chat, completion, candidates or examples; several may be given.", show_default=False)
    ] = None,
    retractions: Annotated[Path | None, typer.Option(help="Examples to forget; found by themselves beside SOURCE.")] = None,
    few_shots: Annotated[Path | None, typer.Option(help="The folder of the labeler's few-shots, which must not validate.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the closing account here, as JSON.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.", rich_help_panel=SETTINGS)] = None,
    progress: Annotated[bool | None, typer.Option(help="Show progress.", rich_help_panel=SETTINGS, show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="The model that is to be trained.", rich_help_panel=SETTINGS)] = None,
    encoding: Annotated[str | None, typer.Option(help="Its encoding, where it isn't known.", rich_help_panel=SETTINGS)] = None,
    valid_share: Annotated[str | None, typer.Option(help="Of the examples, the last in time validate.", rich_help_panel=SETTINGS)] = None,
    judge_share: Annotated[
        str | None, typer.Option(help="Of those, the last in time judge; the earlier ones choose.", rich_help_panel=SETTINGS)
    ] = None,
    cut: Annotated[str | None, typer.Option(help="The time between the sides (2024-01-31T12:00:00Z).", rich_help_panel=SETTINGS)] = None,
    answers: Annotated[str | None, typer.Option(help="Of several people who answered: each, one, all.", rich_help_panel=SETTINGS)] = None,
    min_answers: Annotated[str | None, typer.Option(help="Who has fewer to train on is other.", rich_help_panel=SETTINGS)] = None,
    silences: Annotated[str | None, typer.Option(help="Nobody answered: nil, or drop.", rich_help_panel=SETTINGS)] = None,
    weak: Annotated[str | None, typer.Option(help="An answer with a weak signal: weak, nil, or drop.", rich_help_panel=SETTINGS)] = None,
    cap: Annotated[str | None, typer.Option(help="Training examples of one person, at most.", rich_help_panel=SETTINGS)] = None,
    balance: Annotated[
        str | None, typer.Option(help="Training examples of nobody, at most, for each of somebody.", rich_help_panel=SETTINGS)
    ] = None,
    max_characters: Annotated[str | None, typer.Option(help="Of a training row, at most.", rich_help_panel=SETTINGS)] = None,
    max_tokens: Annotated[
        str | None, typer.Option(help="Of a row, at most, where the model's limit isn't known.", rich_help_panel=SETTINGS)
    ] = None,
    system: Annotated[str | None, typer.Option(help="What a chat begins with.", rich_help_panel=SETTINGS)] = None,
    price: Annotated[str | None, typer.Option(help="USD for a million trained tokens.", rich_help_panel=SETTINGS)] = None,
) -> None:
    """Make a training set of examples: checked, encoded, split by time so that nothing leaks."""
    flags = {
        "model": model, "encoding": encoding, "valid_share": valid_share, "judge_share": judge_share, "cut": cut,
        "answers": answers, "min_answers": min_answers,
        "silences": silences, "weak": weak, "cap": cap, "balance": balance, "max_characters": max_characters, "max_tokens": max_tokens,
        "system": system, "price": price, "format": ",".join(format) if format else None,
    }  # fmt: skip
    settings = read_settings(config, {"training": flags, "run": {"progress": progress}})
    if report is not None:
        jsonl.check_writable(report)
        check_apart(source, [report])
    closing = prepared(source, to, settings, retractions, few_shots)
    print_training_set(closing)
    write_report(report, closing)
    raise typer.Exit(0 if closing["account"]["adds_up"] else 1)


def prepared(source: str, to: Path, settings: Settings, retractions: Path | None, few_shots: Path | None) -> dict[str, Any]:
    """Make the training set; returns the closing account as `--report` writes it."""
    from beepgpt.training.checks import model_of
    from beepgpt.training.prepare import PrepareOptions, check_folder, few_shots_in, prepare, retracted_in
    from beepgpt.training.splits import SplitOptions

    began = time.monotonic()
    ours = settings.training
    target = model_of(ours.model, ours.encoding)
    wanted = PrepareOptions(
        model=ours.model,
        max_tokens=ours.max_tokens or target.max_tokens,
        formats=ours.format,
        answers=ours.answers,
        min_answers=ours.min_answers,
        max_characters=ours.max_characters,
        system=ours.system,
        price=ours.price,
        sides=SplitOptions(
            valid_share=ours.valid_share,
            judge_share=ours.judge_share,
            cut=ours.cut,
            silences=ours.silences,
            weak=ours.weak,
            cap=ours.cap,
            balance=ours.balance,
        ),
    )
    check_folder(to)
    folder = few_shots_folder(few_shots, settings)
    with examples_of(source, to, settings) as (path, gone), Watched("preparing", shown=settings.run.progress) as watched:
        beside = retractions or path.with_name(f"{path.name.removesuffix('.jsonl')}.retractions.jsonl")
        if retractions is not None:
            jsonl.check_readable(retractions)
        retracted = {*gone, *(retracted_in(beside) if beside.exists() else ())}
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
