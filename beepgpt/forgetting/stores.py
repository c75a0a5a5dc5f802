"""What is no list of records: tables, alert stores, recovery stores, training sets, models."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beepgpt.alerts.database import lock_store
from beepgpt.alerts.forgetting import forget_in_store
from beepgpt.clock import now_us
from beepgpt.connectors.files import parquet
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.forgetting import Forgotten, texts_in
from beepgpt.errors import BeepGPTError, CannotRead
from beepgpt.folders import UP_NOTE, replacing, sync_folder
from beepgpt.forgetting.records import Cleaning, Removal, clean_document, clean_lines, json_in, json_of
from beepgpt.locks import lock, take
from beepgpt.runtime.recovery import LOCK, NOTE
from beepgpt.training.folder import CARD, COMPARED, FITTED, LABELS, LIVE, MANIFEST, ROWS, VERSIONS
from beepgpt.training.people import SKETCH
from beepgpt.training.prepare import MADE_BY, OUTPUTS
from beepgpt.training.uploads import README

if TYPE_CHECKING:
    import pyarrow as pa

TIMES = frozenset({"prompt_ts", "settled_ts"})
"""Columns of our tables that are microseconds; `window_ts` is a list of them."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StoreInUse(BeepGPTError):
    """A store is in use by a run; the message says which, and what to do."""


# Tables


def is_table(path: Path) -> bool:
    """Whether a Parquet file can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def clean_table(path: Path, cleaning: Cleaning) -> Removal:
    """Remove a Parquet file's rows that hold anything forgotten, in columns of somebody's own, too; the others stay as they are.

    Raises StoreInUse while a run writes the table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _written_by_nobody(path) if cleaning.locks else nullcontext(), pq.ParquetFile(path) as table:
            keeps = [
                pa.array([not cleaning.forgotten.holds(row) for row in _records_in(batch)], pa.bool_()) for batch in table.iter_batches()
            ]
            found = sum(each.false_count for each in keeps)
            if found and cleaning.apply:
                with replacing(path) as file, pq.ParquetWriter(file, table.schema_arrow, compression="zstd") as writer:
                    for batch, kept in zip(table.iter_batches(), keeps, strict=True):
                        writer.write_batch(batch.filter(kept))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CannotRead(f"{path}: can't be read as a table ({error}): make it again, or remove it") from error
    return Removal(found, "rewritten" if found else "", _maker_of(path) if found else "")


def _maker_of(path: Path) -> str:
    """The command that makes a table again."""
    makers = {"example": "beepgpt examples", "prediction": "beepgpt score", "outcome": "beepgpt score"}
    return next((command for record, command in makers.items() if parquet.is_of(path, record)), "beepgpt validate")


def _records_in(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The rows of a table in the form of records: with times as Slack writes them, and the window's messages one by one."""
    import pyarrow as pa

    times = {number: each.type for number, each in enumerate(batch.schema) if pa.types.is_timestamp(each.type)}
    for number, kind in times.items():  # nanoseconds have no value in Python
        batch = batch.set_column(number, batch.schema.names[number], batch.column(number).cast(pa.timestamp("us", kind.tz), safe=False))
    for row in batch.to_pylist():
        record = _as_json({name: ts_text(value) if name in TIMES and isinstance(value, int) else value for name, value in row.items()})
        stamps = [ts_text(ts) if isinstance(ts, int) else ts for ts in record.get("window_ts") or []]
        users = record.get("window_user") or []
        record["window"] = [{"ts": ts, "user": user} for ts, user in zip(stamps, users, strict=False)]
        conversation = record.get("conversation")
        if "channel" not in record and isinstance(conversation, str):
            record["channel"] = conversation.partition(":")[0]
        yield record


def _as_json(value: Any) -> Any:
    """A value of a table as JSON has it, with times as Slack writes them."""
    if isinstance(value, datetime):
        return ts_text((value.replace(tzinfo=value.tzinfo or UTC) - EPOCH) // timedelta(microseconds=1))
    if isinstance(value, dict):
        return {name: _as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@contextmanager
def _written_by_nobody(path: Path) -> Iterator[None]:
    """Inside the `with` block no run writes a table in this place, or in the folder of this part. Raises StoreInUse."""
    in_use = StoreInUse(f"{path}: a run is writing this table: stop it first, or wait for its end, and give the same command again")
    with ExitStack() as stack:
        for each in parquet.unfinished_of(path):
            file = os.open(each, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, file)
            take(file, in_use)
        yield


def delete_unfinished_table(path: Path, cleaning: Cleaning) -> Removal:
    """Delete what a killed run had written of a table, or of a part of it. Raises StoreInUse while a run writes it."""
    if cleaning.locks:
        with _written_by_nobody(path):
            if cleaning.apply:
                path.unlink()
    return Removal(1, "deleted")


# SQLite


def tables_in(path: Path) -> set[str]:
    """The names of the tables in a SQLite file; none if it is no such file."""
    try:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                return set()
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (OSError, sqlite3.Error):
        return set()


def name_log(path: Path, cleaning: Cleaning) -> Removal:
    """Name the write-ahead log of a database that is gone: what was in that may still stand in it, and it may be somebody's own."""
    return Removal(1, "stays: its database is gone: look at it, or delete it")


def clean_alert_store(path: Path, cleaning: Cleaning) -> Removal:
    """Remove what is forgotten from an alert store. Raises BadAlertStore if a `beepgpt alert` has it."""
    if cleaning.refuses:
        os.close(lock_store(path))
    found, unknown = forget_in_store(path, cleaning.forgotten, now_us(), apply=cleaning.apply)
    hint = f"{unknown:,} excerpts of an older release don't say whose they are: name the export or the log, too" if unknown else ""
    return Removal(found, "rewritten" if found else "stays" if unknown else "", hint)


# Recovery stores


def is_recovery(path: Path) -> bool:
    """Whether a folder is the recovery folder of a run."""
    return "flow" in json_in(path / NOTE)


def clean_recovery(path: Path, cleaning: Cleaning) -> Removal:
    """Delete the snapshots of a run that began before the list was what it is now: they hold the text of messages, and counts of people.

    Counts can't be taken apart again, so the run is made anew: the same command starts from the beginning of its log. The note of what the
    run was is deleted last: a kill in between leaves what is found and deleted again. Raises StoreInUse.
    """
    if json_in(path / NOTE).get("forgotten") == cleaning.forgotten.digest:
        return Removal()
    if cleaning.locks:
        held = lock(path / LOCK, StoreInUse(f"{path}: a run is using this recovery folder: stop it first, and give the same command again"))
        try:
            if cleaning.apply:
                _empty_recovery(path)
        finally:
            os.close(held)
    return Removal(1, "deleted", "the same command as before, which starts again")


def _empty_recovery(path: Path) -> None:
    for each in path.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each.name not in (NOTE, LOCK):
            each.unlink()
    sync_folder(path)
    (path / LOCK).unlink()
    (path / NOTE).unlink()


def is_cluster_store(path: Path) -> bool:
    """Whether a folder is the recovery store of Bytewax's own runner."""
    return any(path.glob("part-*.sqlite3"))


def delete_cluster_store(path: Path, cleaning: Cleaning) -> Removal:
    """Delete the recovery store of a cluster, which has no note of the list that it was written with. The cluster has to be stopped."""
    if cleaning.apply:
        for each in path.glob("part-*.sqlite3*"):
            each.unlink()
        sync_folder(path)
    return Removal(1, "deleted", "python -m bytewax.recovery, and start the cluster again")


# The folder of `beepgpt up`


MADE_BY_UP = {
    "recovery store": "beepgpt up --data {}",
    "topic": "beepgpt up --data {}",
    "model": "beepgpt up --data {} --rebuild",
    "page": "",
    "records": "",
}
"""By the kind of what stands in a folder of `beepgpt up`: how it is made anew; empty: it is not, or by itself."""


def up_folder_of(path: Path) -> Path | None:
    """The folder of `beepgpt up` that a path is, or is in."""
    return next((folder for folder in (path, *path.parents) if (folder / UP_NOTE).exists()), None)


def check_stopped(path: Path) -> None:
    """Raise StoreInUse if a `beepgpt up` runs on the folder that a path is, or is in: what it starts again would have the store."""
    if (folder := up_folder_of(path)) is not None:
        os.close(lock(folder, StoreInUse(f"{folder}: `beepgpt up` runs on it: stop it first, and give the same command again")))


def made_by_up(found: Removal, path: Path) -> Removal:
    """What was found at a path: in a folder of `beepgpt up` that makes it anew, not the command that it starts."""
    folder = up_folder_of(path.resolve()) if found.rebuild and found.kind in MADE_BY_UP else None
    return found if folder is None else replace(found, rebuild=MADE_BY_UP[found.kind].format(folder))


def clean_up_note(path: Path, cleaning: Cleaning) -> Removal:
    """Remove what is forgotten from what is called as the note of `beepgpt up`. Raises StoreInUse if one runs on the folder."""
    if cleaning.locks:
        check_stopped(path.parent)
    return clean_document(path, cleaning)


# Few-shots, training sets and models


def clean_few_shots(path: Path, cleaning: Cleaning) -> Removal:
    """Remove few-shots: nothing chooses others in their place but a person."""
    found = clean_lines(path, cleaning)
    return replace(found, rebuild="beepgpt review" if found.found else "")


def is_training_set(path: Path) -> bool:
    """Whether a folder is a training set of ours."""
    return json_in(path / MANIFEST).get("made_by") == MADE_BY


def clean_training_set(path: Path, cleaning: Cleaning) -> Removal:
    """Delete a training set if any of its rows hold something, or can't say so: its rows, labels and split follow from all examples.

    The manifest is deleted last: a kill in between leaves what is found and deleted again.
    """
    looking = Cleaning(cleaning.forgotten, apply=False)
    names = sorted(name for name in OUTPUTS if (path / name).exists())
    files = [path / name for name in names if name.endswith(".parquet")]
    tables = [clean_table(file, looking) if is_table(file) else Removal(1) for file in files]
    examples = [clean_lines(path / name, looking) for name in names if name.startswith("examples_")]
    origins = [clean_lines(path / name, looking) for name in names if name.startswith(f"{ROWS}_")]
    labels = [clean_document(path / LABELS, looking)] if LABELS in names else []
    found = sum(each.found for each in (*tables, *examples, *origins, *labels)) or int(_shows_changed(path, names, cleaning.forgotten))
    if not tables and not examples and not origins:
        found = max(found, 1)  # rows of text alone don't say whose they are
    if found and cleaning.apply:
        for name in sorted(names, key=lambda name: name == MANIFEST):
            (path / name).unlink()
        sync_folder(path)
    return Removal(found, "deleted" if found else "", "beepgpt prepare" if found else "")


def _shows_changed(path: Path, names: Sequence[str], forgotten: Forgotten) -> bool:
    """Whether a row of text shows a message with a text that it may not be shown with any more: the messages stand beside the rows."""
    bodies = [json_of(line) for name in names if name.startswith(f"{ROWS}_") for line in (path / name).read_bytes().splitlines()]
    messages = {(str(body.get("channel")), str(each.get("ts"))) for body in bodies for each in body.get("window", ())}
    changed = [each for each in messages if forgotten.is_changed(*each)]
    rows = [path / name for name in names if changed and name.startswith(("chat_", "completion_"))]
    prompts = (prompt_in(json_of(line)) for file in rows for line in file.read_bytes().splitlines())
    return any(forgotten.is_shown(*each, texts_in(prompt)) for prompt in prompts for each in changed)


def prompt_in(row: Mapping[str, Any]) -> str:
    """The prompt of a row of text: of a chat, what the user says."""
    said = [each.get("content") for each in row.get("messages", ()) if each.get("role") == "user"]
    return str(row.get("prompt") or (said[-1] if said else ""))


EXPORTED = frozenset({"chat_train.jsonl", "chat_valid.jsonl", LABELS, "README.md"})
"""The files that `beepgpt train --model export` writes."""


def is_exported(path: Path) -> bool:
    """Whether a folder holds chats to train a model elsewhere."""
    try:
        return (path / "README.md").read_text().startswith(README.partition("\n")[0])
    except (OSError, UnicodeDecodeError):
        return False


def delete_exported(path: Path, cleaning: Cleaning) -> Removal:
    """Delete exported chats: their rows don't say whose messages they hold. What was taken elsewhere is for whoever took it to delete."""
    if cleaning.apply:
        for name in sorted(EXPORTED, key=lambda name: name == "README.md"):
            (path / name).unlink(missing_ok=True)
    return Removal(1, "deleted", "beepgpt train SET --model export")


MODEL_FILES = frozenset({CARD, FITTED, SKETCH, "job.json", "events.jsonl", "job.lock", LABELS, LIVE})


def is_model(path: Path) -> bool:
    """Whether a folder is a model, or one that is being trained."""
    return (path / CARD).exists() or (path / "job.json").exists() or (path / FITTED).exists() or (path / LIVE).exists()


def name_model(path: Path, cleaning: Cleaning) -> Removal:
    """Name a model: what it was fitted to can't be taken out of it. How another one is made depends on what made it."""
    if path.parent.name == VERSIONS or path.name == COMPARED:
        return Removal(1, "stays as it was fitted", "delete it, once a new model is live")
    if path.parts[-3:] == ("set", "models", "local") and (path.parents[2] / "predictions.jsonl").exists():
        return Removal(1, "stays as it was fitted", f"beepgpt try EXPORT.zip --to {path.parents[2]}")
    kind = json_in(path / CARD).get("kind", "local")
    train = f"beepgpt train SET --to {path}" + (f" --model {kind}" if kind != "local" else "")
    return Removal(1, "stays as it was fitted", f"beepgpt prepare EXAMPLES --to SET; {train}; beepgpt validate SET --model {path}")


def holds_nothing(path: Path, cleaning: Cleaning) -> Removal:
    """Nothing has to be done: the file holds hashes, counts or settings alone."""
    return Removal()


def delete_file(path: Path, cleaning: Cleaning) -> Removal:
    """Delete what a killed run has left behind."""
    if cleaning.apply:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Removal(1, "deleted")


def delete_page(path: Path, cleaning: Cleaning) -> Removal:
    """Delete a page: it shows names and excerpts in the words of its reader, and can be made again."""
    if cleaning.apply:
        path.unlink()
    return Removal(1, "deleted", "the command that made the page")


def clean_text(path: Path, cleaning: Cleaning) -> Removal:
    """Look for ids in a file of plain text; one that has any is named, since it may be somebody's own."""
    found = _mentions(path.read_bytes(), cleaning.forgotten)
    return Removal(int(found), "stays: look at it" if found else "")


def _mentions(content: bytes, forgotten: Forgotten) -> bool:
    return any(forgotten.has_person(word) or forgotten.has_channel(word) for word in set(content.decode("utf-8", "replace").split()))
