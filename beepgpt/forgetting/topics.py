"""Topics without what is forgotten: tombstones where a topic is compacted, else a rewritten topic beside the old one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from beepgpt.connectors.log import LOOK_BACK, Log, OutgoingRecord, Record, TopicSpec, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.connectors.sqlite.topic_files import SUFFIX, lock_writer
from beepgpt.errors import BeepGPTError
from beepgpt.forgetting.records import Cleaning, Removal, maker_of, remembered

COPIED = "copied_from"
"""The header of a copied record: its offset in the old topic, from which an interrupted copy goes on."""
KEPT_SETTINGS = (
    *("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "message.timestamp.type", "compression.type"),
    *("segment.ms", "segment.bytes", "max.compaction.lag.ms", "min.compaction.lag.ms", "delete.retention.ms", "min.insync.replicas"),
)
"""Settings that the copy of a topic takes over."""
BATCH = 1_000


class CopyNotWhole(BeepGPTError):
    """A copy of a topic lacks records; the message says what to do."""


def clean_topic(log: Log, name: str, cleaning: Cleaning, *, drop: bool = False) -> Removal:
    """Remove what is forgotten from a topic; `drop`: delete the old one once its copy is whole. Raises LogFailed or CopyNotWhole."""
    policy = log.settings_of(name, ["cleanup.policy"]).get("cleanup.policy", "delete")
    if "compact" in policy:
        return _with_tombstones(log, name, cleaning)
    if isinstance(log, SqliteLog) and cleaning.apply:
        found = log.edit(name, lambda record: _kept(record, cleaning))
    else:
        found = sum(_kept(record, cleaning) != record.value for _, record in log.records(name))
    if isinstance(log, SqliteLog):
        return Removal(found, "removed" if found else "")
    return _rewritten(log, name, found, cleaning, drop=drop)


def clean_topic_file(path: Path, cleaning: Cleaning) -> Removal:
    """Remove what is forgotten from a topic in a folder."""
    return clean_topic(SqliteLog(folder_place(str(path.parent))), path.name.removesuffix(SUFFIX), cleaning)


def delete_topic_log(path: Path, cleaning: Cleaning) -> Removal:
    """Delete the write-ahead log of a topic whose file is gone: it may hold what was deleted from that. Raises TopicInUse."""
    found = int(path.stat().st_size > 0)
    if cleaning.apply:
        held = lock_writer(path.with_name(path.name.removesuffix("-wal")))
        try:
            path.unlink()
        finally:
            os.close(held)
    return Removal(found, "deleted" if found else "")


def _kept(record: Record, cleaning: Cleaning) -> bytes | None:
    """A record's value without what is forgotten; None if it goes. A record without a value stays one."""
    return None if record.value is None else remembered(record.value, cleaning.forgotten)


def _with_tombstones(log: Log, name: str, cleaning: Cleaning) -> Removal:
    """Write a tombstone for each key whose last record holds something: compaction then removes the records."""
    gone: dict[tuple[int, bytes], None] = {}
    maker = ""
    for partition, record in log.records(name):
        if record.key is None:
            continue
        if record.value is not None and _kept(record, cleaning) != record.value:
            gone[partition, record.key] = None
            maker = maker or maker_of(record.value)
        else:
            gone.pop((partition, record.key), None)
    if gone and cleaning.apply:
        with log.writer(name, alone=False) as writer:
            writer.send(OutgoingRecord(key, None, [("reason", b"forgotten")], partition) for partition, key in gone)
            writer.flush()
    if cleaning.apply and isinstance(log, SqliteLog):
        log.clean(name)  # likewise
    return Removal(len(gone), "tombstones written" if gone else "", f"{maker} to a new topic" if gone and maker else "")


def copy_name(name: str, digest: str) -> str:
    """The name of a topic's copy: the same for the same list.

    >>> copy_name(copy_name("slack.events", "0123456789ab"), "ba9876543210")
    'slack.events.ba9876543210'
    """
    return f"{re.sub(r'[.][0-9a-f]{12}$', '', name)}.{digest}"


def _rewritten(log: Log, name: str, found: int, cleaning: Cleaning, *, drop: bool) -> Removal:
    """Copy a topic without what is forgotten, partition by partition, with keys, headers and times; a second call goes on where it was."""
    new = copy_name(name, cleaning.forgotten.digest)
    if not found or new == name:
        return Removal()
    if not cleaning.apply:
        return Removal(found, "rewritten as a topic beside it", f"then read that one, and delete {name}")
    topic = log.topic(name)
    settings = {key: value for key, value in log.settings_of(name, KEPT_SETTINGS).items() if value != "None"}
    log.create([TopicSpec(new, topic.partitions, settings)])
    with log.writer(new) as writer:
        batch: list[OutgoingRecord] = []
        for partition, record in log.records(name, starts=_copied_until(log, new)):
            value = _kept(record, cleaning)
            if value is not None or record.value is None:
                headers = [*(record.headers or []), (COPIED, b"%d" % record.offset)]
                batch.append(OutgoingRecord(record.key, value, headers, partition, record.timestamp))
            if len(batch) >= BATCH:
                writer.send(batch)
                batch.clear()
        writer.send(batch)
        writer.flush()
    _check_whole(log, name, new, cleaning)
    if drop:
        log.delete(name)
        return Removal(found, f"rewritten as {new}, deleted", f"read {new} from now on")
    return Removal(found, f"rewritten as {new}", f"read {new} from now on, and delete {name} (--drop does)")


def _offsets_in(records: Iterator[tuple[int, Record]]) -> Iterator[tuple[int, int]]:
    """Partition, and the offset in the old topic, of copied records."""
    for partition, record in records:
        for name, value in record.headers or ():
            if name == COPIED:
                yield partition, int(value)


def _copied_until(log: Log, new: str) -> dict[int, int]:
    """The offset in the old topic from which each partition is still to be copied."""
    until: dict[int, int] = {}
    for partition, offset in _offsets_in(log.records(new, back=LOOK_BACK)):
        until[partition] = offset + 1
    return until


def _check_whole(log: Log, name: str, new: str, cleaning: Cleaning) -> None:
    """Raise CopyNotWhole unless the copy has each record that stays, once and in order."""
    wanted: dict[int, list[int]] = {}
    copied: dict[int, list[int]] = {}
    for partition, record in log.records(name):
        if record.value is None or _kept(record, cleaning) is not None:
            wanted.setdefault(partition, []).append(record.offset)
    for partition, offset in _offsets_in(log.records(new)):
        copied.setdefault(partition, []).append(offset)
    if copied != wanted:
        missing = sum(map(len, wanted.values())) - sum(map(len, copied.values()))
        raise CopyNotWhole(
            f"{new}: lacks {missing:,} records of {name}, which is still being written, or somebody else writes the copy: stop what writes"
            f" there, and give the same command again; if that doesn't help, delete {new} first"
        )
