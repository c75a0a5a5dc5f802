"""`beepgpt audit`: hold examples against the laws, on the user's own data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from beepgpt.audit.example_rows import AuditedFiles, OtherSettings, examples_in, kind_of, sides_of
from beepgpt.audit.foreign import audit_pairs
from beepgpt.audit.history import AuditedRecord
from beepgpt.audit.laws import audit_examples
from beepgpt.audit.own_sets import ROWS, SetSide, side_of
from beepgpt.commands.audit_report import print_audit
from beepgpt.commands.closing import print_unlisted, say_next, show_summary
from beepgpt.commands.flags import Include, Json, Report, kinds_of, time_of, with_settings
from beepgpt.commands.output import write_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.forgetting import Forgotten, without_forgotten
from beepgpt.conversations.rules import Rules, differing, shaping_settings
from beepgpt.errors import BadCommand
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.console import console
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.left_out import left_out_of, say_left_out
from beepgpt.runtime.made_by import recorded_rules
from beepgpt.runtime.places import FileLines, SourceListener, is_topic, log_of, origin_of, records_in, source_of, topic_of
from beepgpt.training.folder import CARD, MANIFEST, MODELS

SUSPECTED = 3
"""The exit status where a law may be broken, as far as one can guess."""


@with_settings
def audit(
    source: Annotated[str, typer.Argument(help="An export, a .jsonl of events, kafka://host:port/topic or sqlite:///folder/topic.")],
    examples: Annotated[str, typer.Argument(help="Examples: a .jsonl, ours or another tool's; a set; a topic.")],
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
    origin = origin_of(source, kinds_of(include))
    if origin.address is not None and (origin.address.follow or origin.address.since is not None):
        raise BadCommand(f"SOURCE {source}: an audit goes through all of it: leave out follow and from")
    say_left_out(origin.export)
    stop_at = time_of("--until", until) if origin.address is None or origin.address.until is None else origin.address.until
    rules = rules_of(examples, settings)
    encoding, now = load_encoding(rules.encoding), now_us()
    records = remembered(records_in(source_of(origin, settings, SourceListener())), forgotten_of(settings))
    given = given_of(examples, settings, valid, retractions)
    if kind_of(given.lines) == "pairs":
        found = audit_pairs(records, given.lines, rules, valid=given.valid, sample=sample, now=now)
    else:
        try:
            found = audit_examples(
                records, given.lines, rules, encoding, valid=given.valid, retractions=given.retractions,
                sample=sample, subset=subset, until=stop_at, apart=given.apart, unlike=given.unlike, now=now,
            )  # fmt: skip
        except OtherSettings as error:
            raise BadCommand(f"EXAMPLES {examples}: {other_settings(examples, rules) or error}") from error
    closing = {"command": "audit", "source": source, "examples": examples, **found.as_json(), **left_out_of(origin.export)}
    show_summary(closing, json, print_audit)
    print_unlisted(closing)
    write_report(report, closing)
    if not (found.is_broken or found.is_suspected):
        say_next(*next_command(Path(examples)))
    raise typer.Exit(1 if found.is_broken else SUSPECTED if found.is_suspected else 0)


def rules_of(examples: str, settings: Settings) -> Rules:
    """The rules by which examples are checked: as set, or else those that are remembered beside the examples, or in their training set."""
    ours, usual = settings.rules, Rules()
    if is_topic(examples) or replace(ours, workspace=usual.workspace) != usual:
        return ours
    recorded = recorded_rules(Path(examples))
    if recorded is not None and ours.workspace != usual.workspace:
        recorded = recorded._replace(workspace=ours.workspace)
    found = None if recorded is None else recorded.with_others(ours)
    if found is not None and found.spec != ours.spec:
        console.print(f"Checked by the settings that made them: {differing(found.spec, ours.spec, shaping_settings(found), ours)}.")
    return ours if found is None else found


def other_settings(examples: str, ours: Rules) -> str:
    """How the settings that made examples differ from those that were given, and what to do; empty if that isn't known."""
    recorded = None if is_topic(examples) else recorded_rules(Path(examples))
    if recorded is None or (made := recorded.with_others(ours)) is None or made.spec == ours.spec:
        return ""
    how = differing(made.spec, ours.spec, shaping_settings(made), ours)
    return f"were made with other settings than are given here: {how}. Leave these out: what made the examples is known"


def next_command(examples: Path) -> tuple[object, ...]:
    """What comes after examples that keep the laws: a training set of them, or a model of the set that they are; not what is there."""
    made = examples if examples.is_dir() else examples.with_name("set")
    if not (made / MANIFEST).is_file():
        return ("prepare", examples, "--to", made) if examples.is_file() else ("train", made)
    model = made / MODELS / "local"
    return ("validate", made, "--model", model) if (model / CARD).is_file() else ("train", made)


def remembered(records: Iterable[AuditedRecord], forgotten: Forgotten | None) -> Iterator[AuditedRecord]:
    """The records without what is forgotten."""
    for record in records:
        value = record if isinstance(record, bytes) else record[2]
        kept = value if forgotten is None else without_forgotten(value, forgotten)
        if kept is not None:
            yield kept if isinstance(record, bytes) else (*record[:2], kept)


def given_of(examples: str, settings: Settings, valid: Path | None, retractions: Path | None) -> AuditedFiles:
    """Read all that is to be audited: files, with the retractions beside them, or a topic."""
    if is_topic(examples):
        address = topic_of(examples, "EXAMPLES")
        found = examples_in(log_of(settings, address).records(address.topic))
        return found._replace(
            retractions=FileLines(retractions) if retractions else found.retractions, valid=FileLines(valid) if valid else None
        )
    if (Path(examples) / f"{ROWS}_train.jsonl").exists() and valid is None:
        return set_in(Path(examples))
    train, other = sides_of(Path(examples))
    valid = valid or other
    beside = retractions or train.with_name(f"{train.name.removesuffix('.jsonl')}.retractions.jsonl")
    has_retractions = retractions is not None or beside.exists()
    return AuditedFiles(FileLines(train), FileLines(beside) if has_retractions else None, FileLines(valid) if valid else None)


def set_in(folder: Path) -> AuditedFiles:
    """A training set of ours, as the examples of its two sides, with what its rows are not."""
    sides = []
    for side in ("train", "valid"):
        texts = {path.name: FileLines(path) for name in ("chat", "completion") if (path := folder / f"{name}_{side}.jsonl").exists()}
        table = folder / f"candidates_{side}.parquet"
        tables = {table.name: prompts_in(table)} if table.exists() else {}
        if not texts and not tables:
            path = folder / f"examples_{side}.jsonl"
            sides.append(SetSide(FileLines(path), {}))
        else:
            sides.append(side_of(FileLines(folder / f"{ROWS}_{side}.jsonl"), texts, tables))
    train, valid = sides
    return AuditedFiles(train.lines, None, valid.lines, unlike=train.unlike | valid.unlike)


def prompts_in(table: Path) -> Iterator[tuple[str, str]]:
    """The ids and prompts of a table of candidates. Raises BadCommand if nothing here can read it."""
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise BadCommand(f"{table}: is read by {error.name}: pip install 'beepgpt[training]'") from error
    found = pq.read_table(table, columns=["id", "prompt"])
    yield from zip(found["id"].to_pylist(), found["prompt"].to_pylist(), strict=True)
