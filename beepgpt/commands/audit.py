"""`beepgpt audit`: hold examples against the laws, on the user's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beepgpt.commands.audit_report import print_audit
from beepgpt.commands.closing import print_unlisted, say_next, show_summary
from beepgpt.commands.flags import Include, Json, Report, with_settings
from beepgpt.commands.output import write_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.folders import TABLE
from beepgpt.library.arguments import kinds_in, moment_of
from beepgpt.library.auditing import AuditOptions, audited, check_whole
from beepgpt.runtime.console import console
from beepgpt.runtime.left_out import left_out_of, say_left_out
from beepgpt.runtime.places import NOBODY, is_topic, origin_of, records_in, source_of
from beepgpt.training.folder import CARD, MANIFEST, MODELS

SUSPECTED = 3
"""The exit status where a law may be broken, as far as one can guess."""


@with_settings
def audit(
    source: Annotated[str, typer.Argument(help="An export, a .jsonl of events, or a topic (kafka://…, sqlite://…).")],
    examples: Annotated[str, typer.Argument(help="Examples: a .jsonl, ours or another tool's; a .parquet; a set; a topic.")],
    settings: Settings,
    valid: Annotated[Path | None, typer.Option(help="The validation side, where EXAMPLES is a training side.")] = None,
    retractions: Annotated[Path | None, typer.Option(help="The retractions; found by themselves beside EXAMPLES.")] = None,
    sample: Annotated[int | None, typer.Option(help="Check so many only, as all are checked otherwise.", min=1)] = None,
    subset: Annotated[bool, typer.Option("--subset", help="EXAMPLES was chosen from more, so none is missing.")] = False,
    until: Annotated[str | None, typer.Option(help="As given to the run that made the examples.")] = None,
    report: Report = None,
    include: Include = "channels",
    json: Json = False,
) -> None:
    """Prove or refute the laws on your own data, no matter which tool made the examples."""
    if report is not None:
        jsonl.check_writable(report)
    origin = origin_of(source, kinds_in("--include", include))
    check_whole(origin)
    say_left_out(origin.export)
    stop_at = moment_of("--until", until) if origin.until is None else origin.until
    wanted = AuditOptions(valid, retractions, sample, subset, stop_at)
    found = audited(records_in(source_of(origin, settings, NOBODY)), examples, settings, wanted, say=console.print)
    closing = {"command": "audit", "source": source, "examples": examples, **found.as_json(), **left_out_of(origin.export)}
    show_summary(closing, json, print_audit)
    print_unlisted(closing)
    write_report(report, closing)
    if not (found.is_broken or found.is_suspected):
        say_next(*next_command(examples))
    raise typer.Exit(1 if found.is_broken else SUSPECTED if found.is_suspected else 0)


def next_command(source: str) -> tuple[object, ...]:
    """What comes after examples that keep the laws: a training set of them, or a model of the set that they are; not what is there."""
    if is_topic(source):
        return "prepare", source.partition("?")[0], "--to", "set"
    examples = Path(source)
    is_set = examples.is_dir() and examples.suffix != TABLE
    made = examples if is_set else examples.with_name("set")
    if not (made / MANIFEST).is_file():
        return ("train", made) if is_set or not examples.exists() else ("prepare", examples, "--to", made)
    model = made / MODELS / "local"
    return ("validate", made, "--model", model) if (model / CARD).is_file() else ("train", made)
