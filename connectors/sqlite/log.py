"""A folder of SQLite files as a log."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from beepgpt.connectors.callbacks import never
from beepgpt.connectors.log import Log, LogFailed, NoTopic, Record, Topic, TopicSpec, folder_of
from beepgpt.connectors.log.records import differences_of
from beepgpt.connectors.sqlite import topic_files as files
from beepgpt.connectors.sqlite.source import SqliteSource
from beepgpt.connectors.sqlite.writer import SqliteWriter
from beepgpt.folders import make_folder


class SqliteLog(Log):
    """The topics in a folder of this machine."""

    def __init__(self, place: str) -> None:
        """`place`: `sqlite:///FOLDER`."""
        self.place = place
        self.folder = folder_of(place)

    def topics(self, names: Collection[str] | None = None) -> dict[str, Topic]:
        """The named topics that exist (None: all topics), by name."""
        if names is None:
            names = [path.name.removesuffix(files.SUFFIX) for path in sorted(self.folder.glob(f"*{files.SUFFIX}"))]
        found = {name: files.describe(files.path_of(self.folder, name)) for name in names}
        return {name: topic for name, topic in found.items() if topic is not None}

    def no_topics(self, names: Sequence[str]) -> NoTopic:
        return files.no_topics(names, self.place)

    def create(self, specs: Sequence[TopicSpec]) -> tuple[list[str], list[str]]:
        """Create topics that are missing, and the folder, which nobody else may read."""
        with files.translated(self.folder, writes=True):
            make_folder(self.folder)
        made = [spec.name for spec in specs if files.create(self.folder, spec)]
        there = [(self.topic(spec.name), self.settings_of(spec.name, spec.settings), spec) for spec in specs if spec.name not in made]
        return made, [line for each in there for line in differences_of(*each)]

    def delete(self, name: str) -> None:
        """Delete a topic with all its records. Raises LogFailed while somebody writes there."""
        path = self._path(name)
        with files.translated(path, writes=True):
            descriptor = files.lock_writer(path)
            try:
                files.delete(path)
            finally:
                os.close(descriptor)

    def settings_of(self, topic: str, names: Collection[str]) -> dict[str, str]:
        with files.opened(self._path(topic)) as base:
            has = files.settings_in(base)
        return {name: has[name] for name in names if name in has}

    def forgets(self, topic: str) -> bool:
        """Whether the topic's settings ever remove records."""
        with files.opened(self._path(topic)) as base:
            return files.removes(files.settings_in(base))

    def clean(self, topic: str) -> None:
        """Remove now, from the topic's files, too, what its settings remove in time. Raises LogFailed while somebody reads there."""
        path = self._path(topic)
        with files.opened(path, writes=True) as base:
            for _ in files.clean(base):
                pass
            self._leave_nothing(base, path)

    def edit(self, topic: str, change: Callable[[Record], bytes | None]) -> int:
        """Change each value to what `change` returns; None removes the record. Offsets stay as they are. Returns how many it changed.

        What was there before is gone from the topic's files when it returns. Raises LogFailed while somebody reads there: the same call
        does the rest.
        """
        path, count = self._path(topic), 0
        with files.opened(path, writes=True) as base:
            for number, (begin, end) in files.bounds_in(base).items():
                at = begin
                while at < end:
                    found, at = files.records_from(base, number, at, end)
                    changed = [(each.offset, value) for each in found if (value := change(each)) != each.value]
                    files.replace(base, number, changed)
                    count += len(changed)
            self._leave_nothing(base, path)  # though nothing changed: an earlier call may have ended before the files were free of it
        return count

    def _leave_nothing(self, base: sqlite3.Connection, path: Path) -> None:
        """Make what was removed, now or before, be gone from the file and from the write-ahead log."""
        files.write_anew(base)
        if not files.empty_wal(base, files.BUSY):
            raise LogFailed(
                f"{path}: what was removed still stands in {path.name}-wal, since somebody has been reading there for {files.BUSY:.0f}"
                " seconds: give the same command again, or stop what reads there first (fuser names it)"
            )

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        with files.opened(self._path(topic)) as base:
            return files.bounds_in(base)

    def offsets_at(self, topic: str, at: int) -> dict[int, int]:
        with files.opened(self._path(topic)) as base:
            return files.offsets_at(base, at // 1000, files.bounds_in(base))

    def records(self, topic: str, *, back: int | None = None, starts: Mapping[int, int] | None = None) -> Iterator[tuple[int, Record]]:
        with files.opened(self._path(topic)) as base:
            for number, (begin, end) in files.bounds_in(base).items():
                start = begin if starts is None else max(begin, starts.get(number, begin))
                at = start if back is None else max(start, end - back)
                while at < end:
                    found, at = files.records_from(base, number, at, end)
                    yield from ((number, record) for record in found)

    def source(self, topic: str, *, group: str | None = None, **how: Any) -> SqliteSource:
        """A source for a flow; nobody asks for a group's offsets here."""
        return SqliteSource(self._path(topic), self.topic(topic), self.place, **how)

    def writer(self, topic: str, *, patience: float = 0.0, stopping: Callable[[], bool] = never, **how: Any) -> SqliteWriter:
        """A writer to a topic; no broker can be away, so there is nothing to be patient with."""
        return SqliteWriter(self._path(topic), **how)

    @contextmanager
    def held(self, names: Collection[str]) -> Iterator[Sequence[int]]:
        held: list[int] = []
        with ExitStack() as stack:
            for name in names:
                stack.callback(os.close, descriptor := files.lock_writer(self._path(name)))
                held.append(descriptor)
            yield held

    def _path(self, topic: str) -> Path:
        """The file of a topic that exists. Raises NoTopic."""
        path = files.path_of(self.folder, topic)
        with files.translated(path):
            if path.is_file():
                return path
        raise self.no_topics([topic])
