"""What is audited, read again: a file of examples, a table of them, a topic, or a training set's folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from beepgpt.audit.example_rows import AuditedFiles, examples_in, sides_of
from beepgpt.audit.own_sets import AnswerLabels, Named, SetSide, TableRow, TextRow
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import parquet
from beepgpt.errors import CannotRead
from beepgpt.folders import beside
from beepgpt.packages import needing
from beepgpt.runtime.places import FileLines, is_topic, log_of, topic_of
from beepgpt.training.folder import LABELS, MANIFEST, ROWS

ROWS_AT_A_TIME = 1_000
"""Rows of a table in memory."""


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
        """Raises MissingPackage if nothing here can read it, and CannotRead."""
        with needing(f"{self.path}: a table", "train"):
            import pyarrow as pa
            import pyarrow.parquet as pq
        from beepgpt.training.formats import CANDIDATES_, COLUMNS, microseconds

        try:
            file = pq.ParquetFile(self.path)
            for each in file.schema_arrow:
                if each.name not in COLUMNS and not (pa.types.is_list(each.type) and pa.types.is_floating(each.type.value_type)):
                    raise CannotRead(
                        f"{self.path}: its column {each.name} is no feature of candidates (it holds {each.type}, where a list of numbers is"
                        " expected): prepare the training set again"
                    )
            for batch in file.iter_batches(ROWS_AT_A_TIME):
                columns = {name: microseconds(batch[name]).to_pylist() for name in batch.schema.names if name in COLUMNS}
                features = {
                    name.removeprefix(CANDIDATES_): (batch[name].offsets.to_numpy(), batch[name].values.to_numpy(zero_copy_only=False))
                    for name in batch.schema.names
                    if name not in COLUMNS
                }
                for place in range(batch.num_rows):
                    row = {name: column[place] for name, column in columns.items()}
                    lists = {name: values[starts[place] : starts[place + 1]] for name, (starts, values) in features.items()}
                    yield row | {"candidates": {"user": row.pop(f"{CANDIDATES_}user", None), **lists}}
        except (pa.ArrowException, OSError, AttributeError) as error:
            raise CannotRead(f"{self.path}: is no table of candidates ({error}): prepare the training set again") from error
