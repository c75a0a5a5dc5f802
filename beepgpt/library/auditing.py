"""Check examples against the laws, on the user's own data: for `beepgpt audit`, and as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from beepgpt.audit.example_rows import AuditedFiles, OtherSettings, kind_of
from beepgpt.audit.findings import Audit
from beepgpt.audit.foreign import audit_pairs
from beepgpt.audit.history import AuditedRecord
from beepgpt.audit.laws import audit_examples as audit_lines
from beepgpt.clock import now_us
from beepgpt.config.settings import Settings
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.examples import retraction_bytes
from beepgpt.conversations.forgetting import Forgotten, without_forgotten
from beepgpt.conversations.rules import Rules, differing, shaping_settings
from beepgpt.errors import BadCommand
from beepgpt.library.arguments import moment_of
from beepgpt.library.audited_files import given_of
from beepgpt.library.chat_events import ChatEvent, GivenEvent, event_of
from beepgpt.library.examples import Examples
from beepgpt.library.records import Example
from beepgpt.library.sources import origin_at, settings_of
from beepgpt.library.tables import records_of
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.made_by import recorded_rules
from beepgpt.runtime.places import NOBODY, Origin, is_topic, records_in, source_of


def audit_examples(
    source: str | Path | Iterable[GivenEvent],
    examples: str | Path | Iterable[Example],
    *,
    include: str | Sequence[str] | None = None,
    valid: str | Path | None = None,
    retractions: str | Path | None = None,
    sample: int | None = None,
    subset: bool = False,
    until: str | int | datetime | None = None,
    config: str | Path | None = None,
    **settings: object,
) -> Audit:
    """Check examples against the laws, by the events that they are made of: a verdict on each law, with what was found.

    `source`: the events: an export (zip or folder), a `.jsonl`, a topic, or a list of them. `examples`: a file of them, ours or another
    tool's; a training set's folder; a topic; or examples themselves, also as a table (pandas, polars, pyarrow). `valid`: the validation
    side, where these are a training side. `retractions`: found by themselves beside a file. `sample`: check so many only. `subset`: they
    were chosen from more, so none is missing. `include`, `until`, `config`, settings: as given to what made them; what `beepgpt.examples`
    returned remembers all of these, a file its settings. Raises BadCommand, BadSettings, BadExport or CannotRead.

    >>> from tempfile import mkdtemp
    >>> from beepgpt.library.examples import examples
    >>> from beepgpt.library.workspaces import simulate
    >>> export = simulate(f"{mkdtemp()}/workspace.zip", messages=200)
    >>> found = audit_examples(export, examples(export, horizon="4h"))
    >>> found.is_broken, [judged.verdict for judged in found.laws if judged.name == "past only"]
    (False, ['kept'])
    """
    given = {"include": include, "until": until, "config": config, **settings}
    if isinstance(examples, Examples):
        given = {**examples.given, **{name: value for name, value in given.items() if value is not None}}
    chosen: dict[str, Any] = {name: given.pop(name) for name in ("include", "until", "config")}
    ours = settings_of(given, config=chosen["config"])
    wanted = AuditOptions(_path(valid), _path(retractions), sample, subset, moment_of("until=", chosen["until"]))
    records: Iterable[AuditedRecord]
    if isinstance(source, str | Path):
        origin = origin_at(source, chosen["include"] or "channels")
        check_whole(origin)
        wanted = replace(wanted, until=wanted.until if origin.until is None else origin.until)
        records = records_in(source_of(origin, ours, NOBODY))
    else:
        records = (_record_of(event_of(each, number)) for number, each in enumerate(source, start=1))
    if isinstance(examples, str | Path):
        return audited(records, str(examples), ours, wanted)
    lines = [each.line for each in records_of(examples)]
    retracted = None
    if isinstance(examples, Examples):
        retracted = [retraction_bytes(each.id, each.retracted_ts) for each in examples.retractions]
    return audit_of(records, AuditedFiles(lines, retracted), "the examples", ours.rules, ours, wanted)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _record_of(event: ChatEvent) -> AuditedRecord:
    partition, _, (value,) = event.chunk
    return (partition, value.timestamp, event.record) if hasattr(value, "offset") else event.record


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What is audited beside the examples, and how much of them."""

    valid: Path | None = None
    retractions: Path | None = None
    sample: int | None = None
    subset: bool = False
    until: int | None = None
    """Microseconds since 1970."""


def check_whole(origin: Origin) -> None:
    """Raise BadCommand if a topic is to be read in part."""
    if origin.address is not None and (origin.address.follow or origin.address.since is not None):
        raise BadCommand(f"SOURCE {origin.text}: an audit goes through all of it: leave out follow and from")


def audited(
    records: Iterable[AuditedRecord],
    examples: str,
    settings: Settings,
    wanted: AuditOptions,
    say: Callable[[str], None] = lambda note: None,
) -> Audit:
    """Audit a file of examples, a set or a topic. `say` gets a note on whose settings are used. Raises BadCommand or CannotRead."""
    rules = rules_for(examples, settings, say)
    given = given_of(examples, settings, wanted.valid, wanted.retractions)
    return audit_of(records, given, examples, rules, settings, wanted)


def audit_of(
    records: Iterable[AuditedRecord], given: AuditedFiles, called: str, rules: Rules, settings: Settings, wanted: AuditOptions
) -> Audit:
    """Audit lines, which `called` names in messages. Raises BadCommand."""
    encoding, now = load_encoding(rules.encoding), now_us()
    records = remembered(records, forgotten_of(settings))
    if kind_of(given.lines) == "pairs":
        return audit_pairs(records, given.lines, rules, valid=given.valid, sample=wanted.sample, now=now)
    try:
        return audit_lines(
            records, given.lines, rules, encoding, valid=given.valid, retractions=given.retractions,
            sample=wanted.sample, subset=wanted.subset, until=wanted.until, apart=given.apart, now=now,
        )  # fmt: skip
    except OtherSettings as error:
        raise BadCommand(f"EXAMPLES {called}: {other_settings(called, rules) or error}") from error


def rules_for(examples: str, settings: Settings, say: Callable[[str], None]) -> Rules:
    """The rules by which examples are checked: as set, or else those that are remembered beside the examples, or in their training set."""
    ours, usual = settings.rules, Rules()
    if is_topic(examples) or replace(ours, workspace=usual.workspace) != usual:
        return ours
    recorded = recorded_rules(Path(examples))
    if recorded is not None and ours.workspace != usual.workspace:
        recorded = recorded._replace(workspace=ours.workspace)
    found = None if recorded is None else recorded.with_others(ours)
    if found is not None and found.spec != ours.spec:
        say(f"Checked by the settings that made them: {differing(found.spec, ours.spec, shaping_settings(found), ours)}.")
    return ours if found is None else found


def other_settings(examples: str, ours: Rules) -> str:
    """How the settings that made examples differ from those that were given, and what to do; empty if that isn't known."""
    recorded = None if is_topic(examples) else recorded_rules(Path(examples))
    if recorded is None or (made := recorded.with_others(ours)) is None or made.spec == ours.spec:
        return ""
    how = differing(made.spec, ours.spec, shaping_settings(made), ours)
    return f"were made with other settings than are given here: {how}. Leave these out: what made the examples is known"


def remembered(records: Iterable[AuditedRecord], forgotten: Forgotten | None) -> Iterator[AuditedRecord]:
    """The records without what is forgotten."""
    for record in records:
        value = record if isinstance(record, bytes) else record[2]
        kept = value if forgotten is None else without_forgotten(value, forgotten)
        if kept is not None:
            yield kept if isinstance(record, bytes) else (*record[:2], kept)
