"""The registry of all kinds of files that this program writes: how each is recognized, and how what is forgotten is found and removed.

Whoever adds a kind of file adds it here: a test runs every command, and fails if one writes what no kind recognizes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from beepgpt.connectors.files import parquet
from beepgpt.connectors.sqlite.topic_files import SUFFIX
from beepgpt.folders import UNFINISHED, UP_NOTE
from beepgpt.forgetting import stores
from beepgpt.forgetting.exports import clean_export, is_export, is_of_export
from beepgpt.forgetting.records import Cleaning, Removal, clean_document, clean_lines, json_in
from beepgpt.forgetting.topics import clean_topic_file, delete_topic_log
from beepgpt.training.prepare import OUTPUTS

Clean = Callable[[Path, Cleaning], Removal]


@dataclass(frozen=True)
class PlaceKind:
    """A kind of file or folder."""

    name: str
    is_one: Callable[[Path], bool]
    clean: Clean
    owns: Callable[[Path], bool] = lambda path: True
    """Of a folder: whether something in it belongs to the whole; all else is looked at by itself."""


FILE_NAMES = frozenset({"examples_pos.jsonl", "examples_neg.jsonl"})
"""Files of few-shots."""
UNFINISHED_NAMES = frozenset(
    {"model.part", "job.part", "run.json.new", "review.jsonl.new", "live.json.new", *(f"{name}.new" for name in FILE_NAMES)}
)
"""Files that a killed command leaves beside what it was writing. Others that are called so are somebody's own."""
_UNFINISHED_FOLDER = re.compile(r"\.(spool|prepare|retrain)-[a-z0-9_]{8}|\.making")
PAGE = b"/* The pages of BeepGPT, in the light and in the dark"
"""What each of our pages has of the style sheet, and no page that only speaks of them."""


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _is_page(path: Path) -> bool:
    return path.suffix == ".html" and PAGE in path.read_bytes()


def _is_beside(path: Path) -> bool:
    return path.name.endswith(("-wal", "-shm"))


def _database_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix("-wal").removesuffix("-shm"))


def _is_orphan(path: Path) -> bool:
    return _is_beside(path) and not _database_of(path).exists()


FOLDERS: tuple[PlaceKind, ...] = (
    PlaceKind("unfinished files", lambda path: bool(_UNFINISHED_FOLDER.fullmatch(path.name)), stores.delete_file),
    PlaceKind("recovery store", stores.is_recovery, stores.clean_recovery),
    PlaceKind(
        "recovery store of a cluster", stores.is_cluster_store, stores.delete_cluster_store, lambda path: path.match("part-*.sqlite3*")
    ),
    PlaceKind("training set", stores.is_training_set, stores.clean_training_set, lambda path: path.name in OUTPUTS),
    PlaceKind("exported chats", stores.is_exported, stores.delete_exported, lambda path: path.name in stores.EXPORTED),
    PlaceKind("model", stores.is_model, stores.name_model, lambda path: path.name in stores.MODEL_FILES),
    PlaceKind("Slack export", is_export, clean_export, is_of_export),
)
"""Kinds of folders, in the order in which they are tried."""

FILES: tuple[PlaceKind, ...] = (
    PlaceKind(
        "unfinished file",
        lambda path: path.name.endswith(UNFINISHED) or path.name in UNFINISHED_NAMES,
        stores.delete_file,
    ),
    PlaceKind("mark of a run", parquet.is_mark, stores.holds_nothing),
    PlaceKind("unfinished table", parquet.is_unfinished, stores.delete_unfinished_table),
    PlaceKind("lock", lambda path: path.name == "lock" or path.suffix == ".lock", stores.holds_nothing),
    PlaceKind("Slack export", lambda path: _begins(path, b"PK\x03\x04") and is_export(path), clean_export),
    PlaceKind("table", lambda path: _begins(path, b"PAR1") and stores.is_table(path), stores.clean_table),
    PlaceKind("alert store", lambda path: {"alert", "letter"} <= stores.tables_in(path), stores.clean_alert_store),
    PlaceKind("answers of a provider", lambda path: {"answers", "batched"} <= stores.tables_in(path), stores.holds_nothing),
    PlaceKind("topic", lambda path: path.suffix == SUFFIX and {"topic", "records"} <= stores.tables_in(path), clean_topic_file),
    PlaceKind("SQLite's own log", lambda path: _is_beside(path) and kind_of(_database_of(path)) is not None, stores.holds_nothing),
    PlaceKind("log of a topic that is gone", lambda path: path.name.endswith(f"{SUFFIX}-wal") and _is_orphan(path), delete_topic_log),
    PlaceKind("log of a database that is gone", lambda path: _begins(path, b"\x37\x7f\x06") and _is_orphan(path), stores.name_log),
    PlaceKind("page", _is_page, stores.delete_page),
    PlaceKind("few-shots", lambda path: path.name in FILE_NAMES, stores.clean_few_shots),
    PlaceKind("records", lambda path: path.suffix == ".jsonl", clean_lines),
    PlaceKind("report of an audit", lambda path: path.suffix == ".json" and json_in(path).get("command") == "audit", stores.delete_page),
    PlaceKind("note of up", lambda path: path.name == UP_NOTE, stores.clean_up_note),
    PlaceKind("document", lambda path: path.suffix == ".json", clean_document),
    PlaceKind("text", lambda path: path.suffix in (".md", ".toml", ".txt"), stores.clean_text),
)
"""Kinds of files, in the order in which they are tried. A store's own log is emptied with the store."""


def kind_of(path: Path) -> PlaceKind | None:
    """The kind of a file or folder; None if it is none of ours, or can't be read as what it says it is."""
    if not path.is_dir() and not path.is_file():
        return None  # a pipe or a socket, which would be waited for
    return next((kind for kind in (FOLDERS if path.is_dir() else FILES) if kind.is_one(path)), None)


def place_of(path: Path) -> Path:
    """What is looked through where a path is named: what a link leads to; and of a file that is a part of a set or a store, all of that,
    since the part alone doesn't say whose words it holds."""
    path = path.resolve() if path.is_symlink() else path
    part = path.absolute()
    for folder in list(part.parents)[:2]:
        kind = next((kind for kind in FOLDERS[1:-1] if kind.is_one(folder)), None)
        if kind is not None and kind.owns(part):
            return folder
        part = folder
    return path


def found_in(path: Path) -> Iterator[tuple[Path, PlaceKind | None]]:
    """Every file and folder of some kind in a place, and the files that are of none; links in it are named, and not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path, None if path.is_symlink() else kind_of(path)
        return
    kind = kind_of(path)
    if kind is not None:
        yield path, kind
    for each in sorted(path.iterdir()):
        if kind is None or not kind.owns(each):
            yield from found_in(each)
