"""Topics without what is forgotten: tombstones where a topic is compacted; else it is rewritten beside itself, and put in its own place.

A broker has no way to rename a topic. So `--drop` deletes the old one once its copy is whole, copies that back under the old name, and
deletes the copy: addresses, settings and access lists stay as they are. The topic's id is another one then, so that no recovery store takes
the new offsets for the old ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

from beepgpt.connectors.log import LOOK_BACK, Log, OutgoingRecord, Record, Topic, TopicSpec, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.connectors.sqlite.topic_files import SUFFIX, lock_writer
from beepgpt.errors import BeepGPTError
from beepgpt.forgetting.records import Cleaning, Removal, maker_of, remembered

COPIED = "copied_from"
"""The header of a copied record: the id of the topic and the offset that it was copied from. An interrupted copy goes on there."""
KEPT_SETTINGS = (
    *("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "message.timestamp.type", "compression.type"),
    *("segment.ms", "segment.bytes", "max.compaction.lag.ms", "min.compaction.lag.ms", "delete.retention.ms", "min.insync.replicas"),
)
"""Settings that the copy of a topic takes over."""
BATCH = 1_000
ValueOf = Callable[[Record], bytes | None]
"""The value that a record has in the copy; None: it is not in it, unless it had none before."""


class CopyNotWhole(BeepGPTError):
    """A copy of a topic lacks records; the message says what to do."""


def clean_topic(log: Log, name: str, cleaning: Cleaning, *, drop: bool = False) -> Removal:
    """Remove what is forgotten from a topic; `drop`: put its copy in its place once that is whole. Raises LogFailed or CopyNotWhole."""
    if isinstance(log, SqliteLog):
        return _in_folder(log, name, cleaning)
    if (copy := unfinished_copy(log, name)) is not None:
        if not (drop and cleaning.apply):
            return Removal(1, f"stays in {copy}", "--drop puts it in its place")
        _put_in_place(log, copy, name)
        rest = clean_topic(log, name, cleaning, drop=True)
        return rest if rest.found else Removal(1, f"put in its place from {copy}")
    if is_compacted(log, name):
        return _with_tombstones(log, name, cleaning)
    return _rewritten(log, name, sum(_kept(record, cleaning) != record.value for _, record in log.records(name)), cleaning, drop=drop)


def is_compacted(log: Log, name: str) -> bool:
    """Whether a topic keeps the last record of each key, so that a tombstone takes it away."""
    return "compact" in log.settings_of(name, ["cleanup.policy"]).get("cleanup.policy", "delete")


def _in_folder(log: SqliteLog, name: str, cleaning: Cleaning) -> Removal:
    """Remove it where it stands."""
    if is_compacted(log, name):
        return _with_tombstones(log, name, cleaning)
    if cleaning.apply:
        found = log.edit(name, lambda record: _kept(record, cleaning))
    else:
        found = sum(_kept(record, cleaning) != record.value for _, record in log.records(name))
    return Removal(found, "removed" if found else "")


def clean_topic_file(path: Path, cleaning: Cleaning) -> Removal:
    """Remove what is forgotten from a topic in a folder."""
    return clean_topic(SqliteLog(folder_place(str(path.parent))), path.name.removesuffix(SUFFIX), cleaning)


def delete_topic_log(path: Path, cleaning: Cleaning) -> Removal:
    """Delete the write-ahead log of a topic whose file is gone: it may hold what was deleted from that. Raises TopicInUse."""
    found = int(path.stat().st_size > 0)
    if cleaning.locks:
        held = lock_writer(path.with_name(path.name.removesuffix("-wal")))
        try:
            if cleaning.apply:
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

    >>> copy_name("slack.events", "0123456789ab"), origin_of_copy("slack.events.0123456789ab"), origin_of_copy("slack.events.2")
    ('slack.events.0123456789ab', 'slack.events', None)
    """
    return f"{name}.{digest}"


def origin_of_copy(name: str) -> str | None:
    """The name of the topic that a copy is of; None if it is not called as a copy."""
    return name[:-13] if re.fullmatch(r".+[.][0-9a-f]{12}", name) else None


def copies_of(name: str, there: Iterable[str]) -> list[str]:
    """The topics that are called as copies of a topic."""
    return [each for each in there if origin_of_copy(each) == name]


def copies_left(copies: Mapping[str, Sequence[str]], place: str) -> str:
    """What is said of copies of topics that were not put in their places; `copies`: by the topics' names."""
    named = ", ".join(each for found in copies.values() for each in found)
    again = " ".join(f"--from {place}/{name}" for name in copies)
    return f"beepgpt forget wrote {named}, and was not ended: beepgpt forget {again} --yes --drop puts it in its place"


def topics_to_clean(log: Log, is_ours: Callable[[str], bool], digest: str) -> list[str]:
    """Our topics at a place. The copy that this list's run makes of a topic, or that one is to be made again of, stands for that topic."""
    there, names = log.topics(), set()
    for name in there:
        origin = origin_of_copy(name)
        if origin is not None and is_ours(origin):
            names.add(origin if name in (unfinished_copy(log, origin), copy_name(origin, digest)) else name)
        elif is_ours(name):
            names.add(name)
    return sorted(names)


def unfinished_copy(log: Log, name: str) -> str | None:
    """The copy that a topic is to be made again of: `--drop` was killed after it had deleted the topic. None: there is none.

    Raises CopyNotWhole if there are several.
    """
    there = log.topics()
    copies = copies_of(name, there)
    if copies and name in there and any(begin < end for begin, end in log.bounds(name).values()):
        copies = [each for each in copies if any(_offset_in(record, there[each]) is not None for _, record in log.records(name))]
    if len(copies) > 1:
        raise CopyNotWhole(f"{name}: is gone, and has several copies, {', '.join(sorted(copies))}: delete all but the one that is whole")
    return copies[0] if copies else None


def _rewritten(log: Log, name: str, found: int, cleaning: Cleaning, *, drop: bool) -> Removal:
    """Rewrite a topic beside itself, and with `drop` put that in its place; a second call goes on where it was."""
    if not found:
        return Removal()
    copy = copy_name(name, cleaning.forgotten.digest)
    if not cleaning.apply:
        return Removal(found, "rewritten as a topic beside it", "" if drop else "--drop puts that in its place")
    _copy(log, name, copy, partial(_kept, cleaning=cleaning))
    if not drop:
        return Removal(found, f"rewritten as {copy}", "--drop puts that in its place: the topic itself is as it was")
    log.delete(name)
    _put_in_place(log, copy, name)
    return Removal(found, "rewritten in its place")


def _put_in_place(log: Log, copy: str, name: str) -> None:
    """Make a topic again of its copy, and delete that once the topic is whole."""
    _copy(log, copy, name, attrgetter("value"))
    log.delete(copy)


def _copy(log: Log, name: str, to: str, value_of: ValueOf) -> None:
    """Copy a topic, partition by partition, with keys, headers and times, and with these values. Raises CopyNotWhole."""
    topic = log.topic(name)
    settings = {key: value for key, value in log.settings_of(name, KEPT_SETTINGS).items() if value != "None"}
    log.create([TopicSpec(to, topic.partitions, settings, topic.replicas)])
    with log.writer(to) as writer:
        batch: list[OutgoingRecord] = []
        for partition, record in log.records(name, starts=_copied_until(log, topic, to)):
            value = value_of(record)
            if value is not None or record.value is None:
                headers = [*(each for each in record.headers or [] if each[0] != COPIED), (COPIED, f"{topic.id}:{record.offset}".encode())]
                batch.append(OutgoingRecord(record.key, value, headers, partition, record.timestamp))
            if len(batch) >= BATCH:
                writer.send(batch)
                batch.clear()
        writer.send(batch)
        writer.flush()
    _check_whole(log, topic, to, value_of)


def _offset_in(record: Record, topic: Topic) -> int | None:
    """The offset in a topic that a record was copied from; None if it was not."""
    of, _, offset = dict(record.headers or []).get(COPIED, b"").rpartition(b":")
    return int(offset) if of == topic.id.encode() else None


def _offsets_in(records: Iterable[tuple[int, Record]], topic: Topic, to: str) -> Iterator[tuple[int, int]]:
    """Partition, and the offset in the old topic, of copied records. Raises CopyNotWhole if one is no copy."""
    for partition, record in records:
        if (offset := _offset_in(record, topic)) is None:
            raise CopyNotWhole(
                f"{to}: holds records that are no copies of {topic.name}'s, as it is now: somebody else wrote there, or {topic.name}"
                " was made anew meanwhile. Stop what writes to either, look which of them has the history, and delete the other one: the"
                " same command does the rest"
            )
        yield partition, offset


def _copied_until(log: Log, topic: Topic, to: str) -> dict[int, int]:
    """The offset in the old topic from which each partition is still to be copied."""
    return {partition: offset + 1 for partition, offset in _offsets_in(log.records(to, back=LOOK_BACK), topic, to)}


def _check_whole(log: Log, topic: Topic, to: str, value_of: ValueOf) -> None:
    """Raise CopyNotWhole unless the copy has each record that stays, once and in order."""
    wanted: dict[int, list[int]] = {}
    copied: dict[int, list[int]] = {}
    for partition, record in log.records(topic.name):
        if record.value is None or value_of(record) is not None:
            wanted.setdefault(partition, []).append(record.offset)
    for partition, offset in _offsets_in(log.records(to), topic, to):
        copied.setdefault(partition, []).append(offset)
    if copied != wanted:
        missing = sum(map(len, wanted.values())) - sum(map(len, copied.values()))
        raise CopyNotWhole(
            f"{to}: lacks {missing:,} records of {topic.name}, which is still being written, or somebody else writes the copy: stop what"
            f" writes there, and give the same command again; if that doesn't help, delete {to} first"
        )
