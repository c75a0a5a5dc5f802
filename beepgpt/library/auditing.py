"""SourceExamples held against the laws, on the user's own data: for `beepgpt audit`, and as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from beepgpt.audit.example_rows import AuditedFiles, OtherSettings, examples_in, kind_of, sides_of
from beepgpt.audit.findings import Audit
from beepgpt.audit.foreign import audit_pairs
from beepgpt.audit.history import AuditedRecord
from beepgpt.audit.laws import audit_examples as audit_lines
from beepgpt.audit.own_sets import ROWS, AnswerLabels, Named, SetSide, TableRow, TextRow
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import parquet
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.examples import retraction_bytes
from beepgpt.conversations.forgetting import Forgotten, without_forgotten
from beepgpt.conversations.rules import Rules, differing, shaping_settings
from beepgpt.errors import BadCommand, CannotRead
from beepgpt.folders import beside
from beepgpt.library.examples import SourceExamples
from beepgpt.library.records import ExampleRecord
from beepgpt.library.sources import moment_of, origin_at, settings_of
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.made_by import recorded_rules
from beepgpt.runtime.places import NOBODY, FileLines, Origin, is_topic, log_of, records_in, source_of, topic_of
from beepgpt.training.folder import LABELS, MANIFEST

ROWS_AT_A_TIME = 1_000
"""Rows of a table in memory."""


def audit_examples(
    source: str | Path,
    examples: str | Path | Iterable[ExampleRecord],
    *,
    include: str | Sequence[str] = "channels",
    valid: str | Path | None = None,
    retractions: str | Path | None = None,
    sample: int | None = None,
    subset: bool = False,
    until: str | int | datetime | None = None,
    config: str | Path | None = None,
    **settings: object,
) -> Audit:
    """Check examples against the laws, by the events that they are made of: a verdict on each law, with what was found.

    `source`: the events: an export (zip or folder), a `.jsonl`, or a topic. `examples`: a file of them, ours or another tool's; a training
    set's folder; a topic; or examples themselves. `valid`: the validation side, where these are a training side. `retractions`: found by
    themselves beside a file. `sample`: check so many only. `subset`: they were chosen from more, so none is missing. `include`, `until`,
    settings: as given to what made them; a file remembers its settings. Raises BadCommand, BadSettings, BadExport or CannotRead.

    >>> from tempfile import mkdtemp
    >>> from beepgpt.library.examples import examples
    >>> from beepgpt.library.workspaces import simulate
    >>> export = simulate(f"{mkdtemp()}/workspace.zip", messages=200)
    >>> found = audit_examples(export, examples(export))
    >>> found.is_broken, [judged.verdict for judged in found.laws if judged.name == "past only"]
    (False, ['kept'])
    """
    if isinstance(examples, SourceExamples):
        settings = {"workspace": examples.rules.workspace, **settings}
    ours = settings_of(settings, config=config)
    origin = origin_at(source, include)
    check_whole(origin)
    stop_at = moment_of("until", until) if origin.address is None or origin.address.until is None else origin.address.until
    places = [None if each is None else Path(each) for each in (valid, retractions)]
    wanted = AuditOptions(places[0], places[1], sample, subset, stop_at)
    if isinstance(examples, str | Path):
        return audited(origin, str(examples), ours, wanted)
    lines = [each.line for each in examples]
    retracted = None
    if isinstance(examples, SourceExamples):
        retracted = [retraction_bytes(each.id, each.retracted_ts) for each in examples.retractions]
        if not settings.keys() - {"workspace"} and config is None:
            return audit_of(origin, AuditedFiles(lines, retracted), "the examples", examples.rules, ours, wanted)
    return audit_of(origin, AuditedFiles(lines, retracted), "the examples", ours.rules, ours, wanted)


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
    origin: Origin, examples: str, settings: Settings, wanted: AuditOptions, say: Callable[[str], None] = lambda note: None
) -> Audit:
    """Audit a file of examples, a set or a topic. `say` gets a note on whose settings are used. Raises BadCommand or CannotRead."""
    rules = rules_for(examples, settings, say)
    given = given_of(examples, settings, wanted.valid, wanted.retractions)
    return audit_of(origin, given, examples, rules, settings, wanted)


def audit_of(origin: Origin, given: AuditedFiles, called: str, rules: Rules, settings: Settings, wanted: AuditOptions) -> Audit:
    """Audit lines, which `called` names in messages. Raises BadCommand."""
    encoding, now = load_encoding(rules.encoding), now_us()
    records = remembered(records_in(source_of(origin, settings, NOBODY)), forgotten_of(settings))
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
    train, other = (Path(examples), None) if parquet.is_table(Path(examples)) else sides_of(Path(examples))
    valid = valid or other
    taken_back = retractions or beside(train, "retractions.jsonl")
    has_retractions = retractions is not None or taken_back.exists()
    return AuditedFiles(lines_at(train), FileLines(taken_back) if has_retractions else None, lines_at(valid) if valid else None)


class TableLines:
    """The examples of a table as lines, read from it each time. Raises CannotRead, NoArrow."""

    def __init__(self, path: Path) -> None:
        parquet.parts_of(path)
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        return parquet.lines_of(self._path, "example")


def lines_at(path: Path) -> Iterable[bytes]:
    """The lines of a file or of a table; they can be read more than once. Raises CannotRead."""
    return TableLines(path) if parquet.is_table(path) else FileLines(path)


def set_in(folder: Path) -> AuditedFiles:
    """A training set of ours, as the examples of its two sides."""
    train, valid = (side_in(folder, side) for side in ("train", "valid"))
    return AuditedFiles(train, None, valid)


def side_in(folder: Path, side: str) -> Iterable[bytes]:
    """One side of a training set: the lines of its examples, where these are all that it holds."""
    own_lines, entries = folder / f"examples_{side}.jsonl", folder / f"{ROWS}_{side}.jsonl"
    found = [path for name in ("chat", "completion") if (path := folder / f"{name}_{side}.jsonl").exists()]
    table = folder / f"candidates_{side}.parquet"
    if not found and not table.exists():
        return FileLines(own_lines)
    *forms, labels = forms_in(folder) if found else ("", "", None)
    texts = tuple(Named(path.name, TextFile(path, *forms)) for path in found)
    return SetSide(
        Named(entries.name, FileLines(entries)),
        texts,
        Named(table.name, TableRows(table)) if table.exists() else None,
        Named(own_lines.name, FileLines(own_lines)) if own_lines.exists() else None,
        labels,
    )


def forms_in(folder: Path) -> tuple[str, str, AnswerLabels]:
    """Of a set's rows of text: the system message of chats, what completions begin with, and how they name people. Raises CannotRead."""
    labels, manifest = folder / LABELS, folder / MANIFEST
    try:
        body = orjson.loads(labels.read_bytes())
        people = {str(each["user"]): str(each["label"]) for each in body["people"]}
        wanted = orjson.loads(manifest.read_bytes())["settings"]
        found = AnswerLabels(people, str(body["nil"]), str(body["other"]), body.get("weak"), wanted["answers"])
        return str(wanted["system"]), str(body["space"]), found
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        why = f"{labels} and {manifest} don't say how rows are written"
        raise CannotRead(f"{why} ({type(error).__name__}: {error}): prepare the training set again") from error


@dataclass(frozen=True, slots=True)
class TextFile:
    """The rows of a file of chats or of completions; they can be read more than once."""

    path: Path
    system: str
    """The system message of chats; empty: they have none."""
    space: str
    """What completions begin with, if they are no chats."""

    def __iter__(self) -> Iterator[TextRow]:
        for line in FileLines(self.path):
            try:
                body = orjson.loads(line)
                is_chat = "messages" in body
                prompt = body["messages"][-2]["content"] if is_chat else body["prompt"]
                completion = body["messages"][-1]["content"] if is_chat else body["completion"].removeprefix(self.space)
                if not (isinstance(prompt, str) and isinstance(completion, str)):
                    raise TypeError
            except (orjson.JSONDecodeError, AttributeError, KeyError, IndexError, TypeError):
                yield TextRow(None, "")
                continue
            if body == self._written(prompt, completion, is_chat=is_chat):
                yield TextRow(prompt, completion)
            else:
                yield TextRow(prompt, completion, f"holds other messages or keys than {MANIFEST} says: a model would learn from them, too")

    def _written(self, prompt: str, completion: str, *, is_chat: bool) -> dict[str, Any]:
        """The row as `prepare` writes it."""
        if not is_chat:
            return {"prompt": prompt, "completion": self.space + completion}
        system = [{"role": "system", "content": self.system}] if self.system else []
        answer = {"role": "assistant", "content": completion, "weight": 1}
        return {"messages": [*system, {"role": "user", "content": prompt}, answer]}


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of a table of candidates, read a thousand at a time; they can be read more than once."""

    path: Path

    def __iter__(self) -> Iterator[TableRow]:
        """Raises BadCommand if nothing here can read it."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError as error:
            raise BadCommand(f"{self.path}: is read by {error.name}: pip install 'beepgpt[training]'") from error
        from beepgpt.training.formats import COLUMNS

        try:
            file = pq.ParquetFile(self.path)
            for each in file.schema_arrow:
                if each.name not in COLUMNS and not (pa.types.is_list(each.type) and pa.types.is_floating(each.type.value_type)):
                    raise CannotRead(
                        f"{self.path}: its column {each.name} is no feature of candidates (it holds {each.type}, where a list of numbers is"
                        " expected): prepare the training set again"
                    )
            for batch in file.iter_batches(ROWS_AT_A_TIME):
                columns = {name: batch[name].to_pylist() for name in batch.schema.names if name in COLUMNS}
                features = {
                    name: (batch[name].offsets.to_numpy(), batch[name].values.to_numpy(zero_copy_only=False))
                    for name in batch.schema.names
                    if name not in COLUMNS
                }
                for place in range(batch.num_rows):
                    row = {name: column[place] for name, column in columns.items()}
                    lists = {name: values[starts[place] : starts[place + 1]] for name, (starts, values) in features.items()}
                    yield row | {"candidates": {"user": row.pop("user", None), **lists}}
        except (pa.ArrowException, OSError, AttributeError) as error:
            raise CannotRead(f"{self.path}: is no table of candidates ({error}): prepare the training set again") from error
