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

from beepgpt import clock
from beepgpt.connectors.log import errors
from beepgpt.connectors.log.errors import LogFailed, NotDelivered, NoTopic, TopicInUse
from beepgpt.connectors.log.records import DEFAULT_LIMIT, Record, Topic, TopicSpec
from beepgpt.connectors.log.source import CHUNK
from beepgpt.folders import move_into_place, sync_folder
from beepgpt.locks import lock

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
CHUNK_BYTES = 4 * 2**20
"""Bytes of values after which a chunk ends: a reader holds one of each partition."""
SLICE = 1_000
"""Records that are removed in one transaction: commits wait no longer than that."""
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
    return errors.no_topics(names, f"in {place}", place, SUFFIX)


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


def failure_of(error: BaseException, path: Path, *, writes: bool = False) -> LogFailed:
    """SQLite's error as one of ours, with what to do about it."""
    text = str(error)
    if "disk is full" in text or "No space left" in text:
        advice = "free some space and start again: what was confirmed is there, and nothing after it"
    elif "locked" in text:
        advice = f"another process has kept it locked for too long: see who uses it (fuser {path})"
    elif "malformed" in text or "not a database" in text:
        advice = "the file is damaged: take a copy of it, and put a backup in its place (docs/guides/kafka.md, Backups)"
    elif not isinstance(error, (sqlite3.Error, OSError)):
        text, advice = f"{type(error).__name__}: {error}", "a record is none that can be written"
    else:
        advice = "check the folder, its permissions and its disk"
    kind, what = (NotDelivered, "can't be written") if writes else (LogFailed, "can't be read")
    return kind(f"{path}: {what} ({text}): {advice}")


def connect(path: Path, busy: float | None = None) -> sqlite3.Connection:
    """Open a topic's file. What is committed is on the disk when the commit returns, and what is deleted is overwritten with zeros.

    `busy`: seconds to wait where another process has it locked (None: BUSY). Raises LogFailed, sqlite3.Error or OSError.
    """
    if path.is_symlink() or (path.exists() and path.stat().st_nlink > 1):
        raise LogFailed(f"{path}: has a second name (a link), under which somebody else could write: name the file itself, or its folder")
    base = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY if busy is None else busy,
        check_same_thread=False,
    )
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
def opened(path: Path, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
    """A topic's file, closed at the end. SQLite's errors are raised as a LogFailed; see `translated`."""
    with translated(path, writes=writes), closing(connect(path)) as base:
        yield base


@contextmanager
def transaction(base: sqlite3.Connection) -> Iterator[None]:
    """What is written inside the `with` block is there whole or not at all."""
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
        base.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            base.execute("ROLLBACK")
        raise


def lock_writer(path: Path) -> int:
    """Lock a topic for its one writer; returns the descriptor that holds the lock. Raises TopicInUse if it has one.

    The file of the lock stays for good: who opened it before it was deleted would have a lock that nobody else sees.
    """
    name = path.name.removesuffix(SUFFIX)
    in_use = TopicInUse(
        f"{name}: another process writes to this topic ({path}): a topic has one writer. Stop that one first: fuser {path} names it"
    )
    return lock(path.with_name(f"{name}.lock"), in_use)


def describe(path: Path) -> Topic | None:
    """The topic in a file; None if there is no such file."""
    with translated(path):
        if not path.is_file():
            return None
        with closing(connect(path)) as base:
            return topic_in(base, path)


def topic_in(base: sqlite3.Connection, path: Path) -> Topic:
    """The topic in a file that is open."""
    (topic_id,) = base.execute("SELECT id FROM topic").fetchone()
    (partitions,) = base.execute("SELECT count(*) FROM partitions").fetchone()
    return Topic(path.name.removesuffix(SUFFIX), topic_id, partitions)


def settings_in(base: sqlite3.Connection) -> dict[str, str]:
    """A topic's settings, with the defaults of those that it does not name."""
    (settings,) = base.execute("SELECT settings FROM topic").fetchone()
    return {**DEFAULTS, **orjson.loads(settings)}


def create(folder: Path, spec: TopicSpec) -> bool:
    """Make a topic's file, whole or not at all; False if there is one. Raises LogFailed."""
    path = path_of(folder, spec.name)
    if spec.settings.get("retention.bytes", "-1") != "-1":
        raise LogFailed(f"{spec.name}: a topic in a folder has no retention.bytes: leave it out, or set retention.ms")
    with translated(path, writes=True):
        if path.exists():
            return False
        descriptor = lock_writer(path)
        try:
            return not path.exists() and _make(path, spec)
        finally:
            os.close(descriptor)


def _make(path: Path, spec: TopicSpec) -> bool:
    """Make a topic's file, whose lock is held."""
    new = path.with_name(f".{spec.name}.{uuid4().hex[:8]}.new")
    try:
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(new, isolation_level=None)) as base:
            base.execute(f"PRAGMA page_size = {PAGE}")
            base.execute("PRAGMA journal_mode = WAL")
            base.executescript(SCHEMA)
            base.execute("INSERT INTO topic VALUES (?, ?)", (uuid4().hex, orjson.dumps(dict(spec.settings)).decode()))
            base.executemany("INSERT INTO partitions VALUES (?, 0, 0)", [(number,) for number in range(spec.partitions)])
        for each in _beside(path):  # of a file that was deleted by hand or by a run that was killed: its records would be read here
            each.unlink(missing_ok=True)
        move_into_place(new, path)
    finally:
        for each in (new, *_beside(new)):
            each.unlink(missing_ok=True)
    return True


def delete(path: Path) -> None:
    """Delete a topic's file, whose lock is held."""
    with closing(connect(path)) as base:
        empty_wal(base)  # what is killed from here on leaves no records that a new topic would take for its own
    for each in (path, *_beside(path)):
        each.unlink(missing_ok=True)
    sync_folder(path.parent)


def _beside(path: Path) -> tuple[Path, Path]:
    """The files that SQLite keeps beside one."""
    return Path(f"{path}-wal"), Path(f"{path}-shm")


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


def records_from(base: sqlite3.Connection, number: int, start: int, end: int) -> tuple[list[Record], int]:
    """The first records of a partition from an offset on, before another, and the offset to go on from.

    They are at most CHUNK, and of about CHUNK_BYTES.
    """
    found: list[Record] = []
    size = 0
    query = "SELECT value, place, time, key, headers FROM records WHERE place >= ? AND place < ? ORDER BY place"
    with closing(base.execute(query, (number << BITS | start, number << BITS | end))) as rows:
        for value, place, at, key, headers in rows:
            found.append(Record(value, place & OFFSET, at * 1000, key, unpack_headers(headers)))
            size += len(value or b"")
            if len(found) == CHUNK or size >= CHUNK_BYTES:
                return found, found[-1].offset + 1
    return found, end


def replace(base: sqlite3.Connection, number: int, values: Iterable[tuple[int, bytes | None]]) -> None:
    """Change records of a partition, by offset, to other values, or remove them (None), in one transaction."""
    with transaction(base):
        for offset, value in values:
            if value is None:
                base.execute("DELETE FROM records WHERE place = ?", (number << BITS | offset,))
            else:
                base.execute("UPDATE records SET value = ? WHERE place = ?", (value, number << BITS | offset))


# What a topic's settings remove


def removes(settings: Mapping[str, str]) -> bool:
    """Whether a topic's settings ever remove records."""
    policy = settings["cleanup.policy"]
    return "compact" in policy or ("delete" in policy and int(settings["retention.ms"]) >= 0)


def clean(base: sqlite3.Connection, numbers: Collection[int] | None = None) -> Iterator[int]:
    """Remove what the topic's settings remove from these partitions (None: all), a slice at a time; yields the number of records of each.

    What was removed may still stand in the file (`write_anew`) and in the write-ahead log (`empty_wal`).
    """
    settings, now_ms = settings_in(base), int(clock.now() * 1000)
    policy, retention = settings["cleanup.policy"], int(settings["retention.ms"])
    for number in bounds_in(base) if numbers is None else numbers:
        low, high = number << BITS, (number + 1) << BITS
        if "delete" in policy and retention >= 0:
            kept = offsets_at(base, now_ms - retention, [number])[number]
            base.execute("UPDATE partitions SET first = ? WHERE number = ? AND first < ?", (kept, number, kept))
            yield from _remove(base, "SELECT place FROM records WHERE place >= ? AND place < ?", low, low | kept)
        if "compact" in policy:
            keyed = "place >= ?1 AND place < ?2 AND key IS NOT NULL"
            # One look for both, and in order: a tombstone never goes before the values that it takes away.
            yield from _remove(
                base,
                f"SELECT place FROM records WHERE {keyed} AND (value IS NULL AND time < ?3"
                f" OR place NOT IN (SELECT max(place) FROM records WHERE {keyed} GROUP BY key)) ORDER BY place",
                *(low, high, now_ms - int(settings["delete.retention.ms"])),
            )


def _remove(base: sqlite3.Connection, chosen: str, *values: int) -> Iterator[int]:
    """Remove the records that a query chooses."""
    places = base.execute(chosen, values).fetchall()
    for start in range(0, len(places), SLICE):
        with transaction(base):
            count = base.executemany("DELETE FROM records WHERE place = ?", places[start : start + SLICE]).rowcount
        yield count


def write_anew(base: sqlite3.Connection) -> None:
    """Write all pages of the file again: as records came, pages were split, and copies of what was removed may stand in their gaps.

    Needs as much free space again for the write-ahead log, and in the folder for temporary files (SQLITE_TMPDIR names another one); takes
    about a second for 100 MB, in which others read and nobody writes.
    """
    base.execute("VACUUM")


def empty_wal(base: sqlite3.Connection, patience: float = 0.0) -> bool:
    """Move the write-ahead log into the file and truncate it: what was deleted is in neither then. False while a reader needs it.

    `patience`: seconds to wait, beside those of the connection, which does not wait for others who do the same.
    """
    until = time.monotonic() + patience
    while True:
        (is_busy, _, _) = base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_busy or time.monotonic() >= until:
            return not is_busy
        time.sleep(0.05)
