"""A topic's file as a Bytewax source."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from beepgpt import clock
from beepgpt.connectors.log.errors import TopicChanged
from beepgpt.connectors.log.records import Topic
from beepgpt.connectors.log.source import ENOUGH, Bounds, LogPartition, LogSource, PartitionReader, check_same
from beepgpt.connectors.sqlite import topic_files as files
from beepgpt.connectors.sqlite.topic_files import no_topics


class SqliteSource(LogSource):
    """Reads a topic, in order within each partition, up to an end or for ever."""

    def __init__(self, path: Path, topic: Topic, place: str, **how: Any) -> None:
        """`how`: see `LogSource`. Raises LogFailed."""
        self.path = path
        self.place = place
        super().__init__(topic, **how)

    def _look(self, partitions: list[int], since: int | None, until: int | None, follow: bool) -> dict[int, Bounds]:
        with files.opened(self.path) as base:
            bounds = files.bounds_in(base)
            starts = {each: bounds[each][0] for each in partitions}
            stops = {each: bounds[each][1] for each in partitions}
            if since is not None:
                starts = files.offsets_at(base, since // 1000, partitions)
            if until is not None:
                stops = files.offsets_at(base, until // 1000 + 1, partitions)
        return {each: Bounds(bounds[each][1], starts[each], None if follow else min(stops[each], bounds[each][1])) for each in partitions}

    def _reader(self) -> SqliteReader:
        return SqliteReader(self)


class SqliteReader(PartitionReader):
    """One connection for all partitions of a worker."""

    _source: SqliteSource

    def __init__(self, source: SqliteSource) -> None:
        super().__init__(source)
        self._positions: dict[int, int] = {}
        self._base: sqlite3.Connection | None = None
        self._inode = 0
        self._version: int | None = None
        """Of the file when all that was in it had been polled; None: there is more."""
        self._next_check = 0.0

    def add(self, part: LogPartition) -> None:
        super().add(part)
        self._positions[part.number] = part.state.next
        self._version = None

    def close(self) -> None:
        if self._base is not None:
            self._base.close()
            self._base = None

    def poll(self) -> None:
        if self.waiting > ENOUGH:
            return
        with files.translated(self._source.path):
            base = self._open()
            if time.monotonic() >= self._next_check:
                self._check(base)
            (version,) = base.execute("PRAGMA data_version").fetchone()
            if version == self._version:
                return
            base.execute("BEGIN")  # offsets and records of one moment
            try:
                is_all = self._take(base)
            finally:
                base.execute("COMMIT")
            self._version = version if is_all else None

    def position(self, number: int) -> int:
        return self._positions[number]

    def _open(self) -> sqlite3.Connection:
        if self._base is None:
            source = self._source
            self._inode = self._inode_now()
            self._base = files.connect(source.path)
            check_same(source.topic, files.topic_in(self._base, source.path), source.place)
        return self._base

    def _inode_now(self) -> int:
        """The file that has the topic's name now. Raises NoTopic."""
        try:
            return self._source.path.stat().st_ino
        except FileNotFoundError:
            raise no_topics([self._source.name], self._source.place) from None

    def _take(self, base: sqlite3.Connection) -> bool:
        """Queue a chunk of each partition that has none; returns whether nothing is left."""
        is_all = True
        for number, (first, after) in files.bounds_in(base).items():
            if (part := self._parts.get(number)) is None:
                continue
            if part.ready:
                is_all = False
                continue
            at = self._positions[number]
            end = after if part.state.end is None else min(after, part.state.end)
            if part.state.end is not None and at >= part.state.end:
                continue
            if at > after:
                raise self._source.went_back(number, after, at)
            if at < first:
                if not part.is_fresh:
                    raise self._source.gone(number, at, first)
                at = part.begin_at(min(first, end))
            records, self._positions[number] = files.records_from(base, number, at, end)
            is_all = is_all and self._positions[number] == end
            if records:
                self.waiting += part.put(records)
        return is_all

    def _check(self, base: sqlite3.Connection) -> None:
        """Raise if the topic is gone or another one; reports the lag."""
        source = self._source
        self._next_check = time.monotonic() + source.check_every
        asked = int(clock.now() * 1e6)
        if self._inode_now() != self._inode:
            if (now := files.describe(source.path)) is not None:
                check_same(source.topic, now, source.place)
            raise TopicChanged(
                f"{source.name}: another file was put in the place of {source.path} while it was read",
                "start again; if it is a backup, see docs/guides/kafka.md, Backups, first",
            )
        bounds = files.bounds_in(base)
        ahead = {}
        for number, part in self._parts.items():
            after = bounds[number][1]
            ahead[number] = 0 if part.has_come_to(after) else after - part.state.next  # of a gap at the end nothing is ahead
        self.report(ahead, asked)
