"""A topic in a SQLite file: how it is made, described and cleaned.

Each topic is a file of its own in the log's folder. A record's row id is its partition and its offset, so a partition lies together and is
read in order. The next offset of each partition is a counter of its own: no offset is given twice, whatever was deleted.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import orjson

from beepgpt.connectors.log.errors import LogFailed, NotDelivered, NoTopic
from beepgpt.connectors.log.records import DEFAULT_LIMIT, Record, Topic, TopicSpec

SUFFIX = ".topic"
VERSION = 1
"""Of the schema, in the file's `user_version`."""
SCHEMA = f"""
CREATE TABLE topic (id TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE partitions (number INTEGER PRIMARY KEY, first INTEGER NOT NULL, next INTEGER NOT NULL);
CREATE TABLE records (place INTEGER PRIMARY KEY, time INTEGER NOT NULL, key BLOB, headers BLOB, value BLOB);
PRAGMA user_version = {VERSION};
"""
BITS = 40
"""Of a record's place, those that are its offset; the partition stands before them."""
OFFSET = (1 << BITS) - 1
BUSY = 30.0
"""Seconds for which another process may keep the file locked; its transactions are short."""
PAGE = 16_384
"""Bytes of a page: most records lie in one."""
CHECKPOINT_PAGES = 2_048
"""Pages of the write-ahead log after which it is moved into the file."""
DEFAULTS = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(DEFAULT_LIMIT),
    "message.timestamp.type": "CreateTime",
    "delete.retention.ms": str(24 * 60 * 60 * 1000),
}
"""Settings of a topic that says nothing. Those of Kafka that mean nothing here (segments, replicas, compression) are kept as they are."""

_LENGTHS = struct.Struct("<HI")


def pack_headers(headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """Headers as a column.

    >>> unpack_headers(pack_headers([("reason", b"late"), ("source", b"")]))
    [('reason', b'late'), ('source', b'')]
    """
    if not headers:
        return None
    named = [(name.encode(), value) for name, value in headers]
    return b"".join(b"%b%b%b" % (_LENGTHS.pack(len(name), len(value)), name, value) for name, value in named)


def unpack_headers(packed: bytes | None) -> list[tuple[str, bytes]]:
    """Headers of a column."""
    headers: list[tuple[str, bytes]] = []
    at = 0
    while packed is not None and at < len(packed):
        name, value = _LENGTHS.unpack_from(packed, at)
        at += _LENGTHS.size
        headers.append((packed[at : at + name].decode(), packed[at + name : at + name + value]))
        at += name + value
    return headers


def no_topics(names: Sequence[str], place: str) -> NoTopic:
    """The error that names what is missing, and the command that makes it."""
    made = f"`beepgpt topics {place}/{names[0] if len(names) == 1 else 'NAME'}`"
    if len(names) == 1:
        return NoTopic(f"{names[0]}: there is no such topic in {place}: make it with {made}, or check the name")
    return NoTopic(f"{', '.join(names)}: there are no such topics in {place}: make each with {made}, or check the names")


def path_of(folder: Path, topic: str) -> Path:
    """The file of a topic."""
    return folder / f"{topic}{SUFFIX}"


@contextmanager
def translated(path: Path, *, writes: bool = False) -> Iterator[None]:
    """Raise SQLite's errors inside the `with` block as a LogFailed, or NotDelivered where something is written."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise failure_of(error, path, writes=writes) from error


def failure_of(error: Exception, path: Path, *, writes: bool = False) -> LogFailed:
    """SQLite's error as one of ours, with what to do about it."""
    text = str(error)
    if "disk is full" in text or "No space left" in text:
        advice = "free some space and start again: what was confirmed is there, and nothing after it"
    elif "locked" in text:
        advice = f"another process has kept it locked for {BUSY:.0f} seconds: see who uses it (fuser {path})"
    elif "malformed" in text or "not a database" in text:
        advice = "the file is damaged: take a copy of it, and put a backup in its place"
    else:
        advice = "check the folder, its permissions and its disk"
    kind, what = (NotDelivered, "can't be written") if writes else (LogFailed, "can't be read")
    return kind(f"{path}: {what} ({text}): {advice}")


def connect(path: Path) -> sqlite3.Connection:
    """Open a topic's file. What is committed is on the disk when the commit returns, and what is deleted is overwritten with zeros."""
    base = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=BUSY, check_same_thread=False)
    try:
        base.execute("PRAGMA synchronous = FULL")
        base.execute("PRAGMA secure_delete = ON")
        base.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        (version,) = base.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            raise LogFailed(f"{path}: is no topic of this version of beepgpt (version {version}, not {VERSION}): name another folder")
    except BaseException:
        base.close()
        raise
    return base


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A topic's file, closed at the end. SQLite's errors are raised as a LogFailed."""
    with translated(path), closing(connect(path)) as base:
        yield base


def describe(path: Path) -> Topic | None:
    """The topic in a file; None if there is no such file."""
    if not path.is_file():
        return None
    with opened(path) as base:
        (topic_id,) = base.execute("SELECT id FROM topic").fetchone()
        (partitions,) = base.execute("SELECT count(*) FROM partitions").fetchone()
        return Topic(path.name.removesuffix(SUFFIX), topic_id, partitions)


def settings_in(base: sqlite3.Connection) -> dict[str, str]:
    """A topic's settings, with the defaults of those that it does not name."""
    (settings,) = base.execute("SELECT settings FROM topic").fetchone()
    return {**DEFAULTS, **orjson.loads(settings)}


def create(folder: Path, spec: TopicSpec) -> bool:
    """Make a topic's file, whole or not at all; False if there is one."""
    path = path_of(folder, spec.name)
    if path.exists():
        return False
    new = folder / f".{spec.name}.{uuid4().hex[:8]}.new"
    with translated(path, writes=True):
        try:
            os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(sqlite3.connect(new, isolation_level=None)) as base:
                base.execute(f"PRAGMA page_size = {PAGE}")
                base.execute("PRAGMA journal_mode = WAL")
                base.executescript(SCHEMA)
                base.execute("INSERT INTO topic VALUES (?, ?)", (uuid4().hex, orjson.dumps(dict(spec.settings)).decode()))
                base.executemany("INSERT INTO partitions VALUES (?, 0, 0)", [(number,) for number in range(spec.partitions)])
            try:
                os.link(new, path)
            except FileExistsError:
                return False
        finally:
            for each in (new, Path(f"{new}-wal"), Path(f"{new}-shm")):
                each.unlink(missing_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return True


def bounds_in(base: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    """The first offset and the next record's offset, by partition."""
    return {number: (first, after) for number, first, after in base.execute("SELECT number, first, next FROM partitions ORDER BY number")}


def offsets_at(base: sqlite3.Connection, at_ms: int, partitions: Collection[int]) -> dict[int, int]:
    """The offset of the first record stamped at or after a time, or the end, by partition."""
    bounds = bounds_in(base)
    found = {}
    for number in partitions:
        first, after = bounds[number]
        row = base.execute(
            "SELECT place FROM records WHERE place >= ? AND place < ? AND time >= ? ORDER BY place LIMIT 1",
            (number << BITS | first, number << BITS | after, at_ms),
        ).fetchone()
        found[number] = after if row is None else row[0] & OFFSET
    return found


def records_from(base: sqlite3.Connection, number: int, start: int, end: int, limit: int) -> list[Record]:
    """The first records of a partition from an offset on, before another; at most `limit`."""
    rows = base.execute(
        "SELECT value, place, time, key, headers FROM records WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
        (number << BITS | start, number << BITS | end, limit),
    )
    return [Record(value, place & OFFSET, at * 1000, key, unpack_headers(headers)) for value, place, at, key, headers in rows]


def replace(base: sqlite3.Connection, number: int, values: Iterable[tuple[int, bytes | None]]) -> None:
    """Change records of a partition, by offset, to other values, or remove them (None), in one transaction."""
    base.execute("BEGIN IMMEDIATE")
    try:
        for offset, value in values:
            if value is None:
                base.execute("DELETE FROM records WHERE place = ?", (number << BITS | offset,))
            else:
                base.execute("UPDATE records SET value = ? WHERE place = ?", (value, number << BITS | offset))
        base.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            base.execute("ROLLBACK")
        raise


# What a topic's settings remove


def clean_partition(base: sqlite3.Connection, number: int, settings: Mapping[str, str], now_ms: int) -> int:
    """Remove what retention and compaction remove from a partition; returns the number of records."""
    policy = settings["cleanup.policy"]
    low, high = number << BITS, (number + 1) << BITS
    removed = 0
    base.execute("BEGIN IMMEDIATE")
    try:
        if "delete" in policy and (retention := int(settings["retention.ms"])) >= 0:
            kept = offsets_at(base, now_ms - retention, [number])[number]
            removed += base.execute("DELETE FROM records WHERE place >= ? AND place < ?", (low, low | kept)).rowcount
            base.execute("UPDATE partitions SET first = ? WHERE number = ?", (kept, number))
        if "compact" in policy:
            keyed = "place >= ? AND place < ? AND key IS NOT NULL"
            removed += base.execute(
                f"DELETE FROM records WHERE {keyed} AND place NOT IN (SELECT max(place) FROM records WHERE {keyed} GROUP BY key)",
                (low, high, low, high),
            ).rowcount
            before = now_ms - int(settings["delete.retention.ms"])
            removed += base.execute(f"DELETE FROM records WHERE {keyed} AND value IS NULL AND time < ?", (low, high, before)).rowcount
        base.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            base.execute("ROLLBACK")
        raise
    return removed


def clean(base: sqlite3.Connection, numbers: Collection[int] | None = None) -> int:
    """Remove what the topic's settings remove, and empty the write-ahead log if there was any; returns the number of records."""
    settings, now_ms = settings_in(base), int(time.time() * 1000)
    removed = sum(clean_partition(base, each, settings, now_ms) for each in (bounds_in(base) if numbers is None else numbers))
    if removed:
        empty_wal(base)
    return removed


def empty_wal(base: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file and truncate it: what was deleted is in neither then. False while a reader needs it."""
    (is_busy, _, _) = base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy
