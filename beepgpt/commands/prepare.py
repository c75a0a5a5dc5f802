"""`beepgpt prepare`: a training set, checked, encoded, and split by time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from beepgpt.commands.example_source import examples_of
from beepgpt.commands.output import account_table, moment, print_verdict, write_report
from beepgpt.config.settings import Settings, read_settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.errors import BadCommand, cannot_write
from beepgpt.runtime.console import Watched, console
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
    weak: Annotated[str | None, typer.Option(help="Not worth learning: nil, or drop.", rich_help_panel=SETTINGS)] = None,
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


# What a person sees


def print_training_set(closing: Mapping[str, Any]) -> None:
    """Print where every line went, what the sides hold, and which rules were broken."""
    account = closing["account"]
    table = account_table()
    table.add_row("lines read", f"{account['read']:,}", "")
    for name, count in account["left_out"].items():
        lines = [each for each in closing["rules"].get(name, {}).get("ids", ()) if each.startswith("line ")]  # an id is hexadecimal
        where = f": {', '.join(lines[:SHOWN])}{', …' if count > SHOWN else ''}" if lines else ""
        table.add_row(f"  {name}", f"{count:,}", f"{MEANING[name]}{where}")
    for side, title in SIDES.items():
        counts = account[side]
        parts = ", ".join(f"{name} {counts[name]:,}" for name in ("answered", "silences", "weak", "unlabeled") if counts[name])
        table.add_row(title, f"{counts['examples']:,}", parts)
        rows = closing.get("rows", {}).get(side, {})
        if rows:
            parts = ", ".join(f"{name} {rows[name]:,}" for name in ("nil", "other") if name in rows)
            table.add_row("  rows of text", f"{rows['rows']:,}", f"{parts}{'; ' if parts else ''}{closing['tokens'][side]:,} tokens")
    parts = closing["parts"]
    for name, of in (
        ("choose", f"thresholds and models are chosen, from {moment(parts['choose_from'])} on"),
        ("judge", f"figures are found, from {moment(parts['judge_from'])} on"),
    ):
        table.add_row(f"  to {name}", f"{parts['examples'][name]:,}", of)
    labels = closing["labels"]
    table.add_row("labels", f"{labels['people']:,}", f"people; {labels['others'] + labels['too_many']:,} more are other")
    console.print(table)
    for name, rule in closing["rules"].items():
        if rule["count"] and name not in account["left_out"]:
            named = f" ({', '.join(rule['ids'][:SHOWN])}{', …' if rule['count'] > SHOWN else ''})" if name in NAMED else ""
            console.print(Text(f"{name}: {rule['count']:,} {rule['done']}{named}"))
    cost = closing.get("cost_per_epoch")
    price = (
        "" if "tokens" not in closing else "; what training costs is not known (--price)" if cost is None else f"; ${cost:,.2f} an epoch"
    )
    rest = f"; cut {moment(closing['cut'])}; {closing['seconds']:,.1f} s, {closing['peak_memory_mb']:,.0f} MB at most{price}"
    print_verdict(account["adds_up"], rest)


NAMED = ("long_rows", "too_many_tokens")
"""Rules whose rows are named by their ids; manifest.json has more of them."""
SHOWN = 3
SIDES = {"train": "training", "valid": "validation"}
MEANING = {
    "not_json": "no JSON",
    "not_an_example": "JSON, but no examples",
    "no_prompt": "no prompt, or one without words",
    "no_answer": "no answer, not even an empty one",
    "no_suffix": "prompts without the suffix of all others",
    "suffix_inside": "prompts with the suffix before their end",
    "replaced": "their id comes again later, and the last one counts",
    "retracted": "a message of their window was deleted",
    "silence": "nobody answered (--silences drop)",
    "weak": "not worth learning (--weak drop)",
    "few_shot": "validation: shown to the labeler, or of a conversation that was",
    "across_cut": "asked before the cut, settled after it",
    "conversation_on_both_sides": "training: their conversation goes on in validation",
    "message_on_both_sides": "training: a message of their window stands in one of validation",
    "prompt_on_both_sides": "training: validation has the same prompt",
    "over_cap": "training: people who have enough without them (--cap)",
    "over_balance": "training: nobody is named, and enough others name nobody (--balance)",
}
