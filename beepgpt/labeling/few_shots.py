"""Few-shot examples that a person chose: two files of lines, and a journal of what was decided in which order, so that it can be undone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from beepgpt.connectors.files.jsonl import cannot_write, write_all
from beepgpt.errors import CannotRead, CannotWrite
from beepgpt.locks import lock

SignalName = Literal["strong", "weak"]
Decision = Literal["strong", "weak", "skipped"]

FILES: dict[SignalName, str] = {"strong": "examples_pos.jsonl", "weak": "examples_neg.jsonl"}
JOURNAL = "review.jsonl"
LABEL = re.compile(
    rb',"signal":"(?:strong|weak)"(?:,"signal_p":[0-9.eE+-]+|,"signal_p":null)?(?:,"signal_model":"(?:[^"\\]|\\.)*")?'
    rb'(?:,"signal_instructions":"[0-9a-f]*")?(,"summary":"(?:[^"\\]|\\.)*")?(?=}$)'
)
"""What labeling appends to an example. No text in it can look like this: there every quotation mark has a backslash before it."""
LABEL_KEYS = ("signal", "signal_p", "signal_model", "signal_instructions")


def few_shot_line(line: bytes, signal: SignalName) -> bytes:
    """An example's line as it was, with a person's signal in the place of any other.

    >>> few_shot_line(b'{"id":"a","prompt":"hi"}', "weak")
    b'{"id":"a","prompt":"hi","signal":"weak"}'
    >>> few_shot_line(b'{"id":"a","signal":"weak","signal_p":0.2,"signal_model":"m","signal_instructions":"0f"}', "strong")
    b'{"id":"a","signal":"strong"}'
    """
    line = line.strip()
    label = LABEL.search(line)
    bare, summary = (line, b"") if label is None else (line[: label.start()] + b"}", label[1] or b"")
    example = orjson.loads(bare)
    if any(name in example for name in LABEL_KEYS):  # written by somebody else's hand
        bare = orjson.dumps({name: value for name, value in example.items() if name not in LABEL_KEYS})
    return b'%s,"signal":"%s"%s}' % (bare[:-1].rstrip(), signal.encode(), summary)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal."""

    id: str
    did: Decision
    was: SignalName | None = None
    """Where it stood before, if it was moved."""

    def line(self) -> bytes:
        """As it is written."""
        told = {"id": self.id, "did": self.did} | ({} if self.was is None else {"was": self.was})
        return orjson.dumps(told)


class FewShots:
    """The few-shots of a folder, while one process at a time adds to them. What is decided is on the disk when a method returns.

    A line is written first, then its entry in the journal; what a crash leaves in between is put right when the folder is next opened,
    and `mended` says what that was.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mended: list[str] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock(folder, CannotWrite(f"{folder}: a review is adding to it: end that one first, or name another folder"))
        except OSError as error:
            raise cannot_write(folder, error) from error
        try:
            self._files = {signal: AppendOnlyLines(folder / name, self.mended) for signal, name in FILES.items()}
            self._journal = AppendOnlyLines(folder / JOURNAL, self.mended)
            self.decided: dict[str, Decision] = {}
            """What was decided of which example."""
            self._ids: dict[SignalName, list[str]] = {signal: list(_ids_in(file, signal)) for signal, file in self._files.items()}
            self.entries = self._read_journal()
            """What was decided, oldest first."""
        except BaseException:
            os.close(self._lock)
            raise
        self.decided |= {entry.id: "skipped" for entry in self.entries}
        self.decided |= {each: signal for signal, ids in self._ids.items() for each in ids}

    def close(self) -> None:
        """Another process may have the folder."""
        os.close(self._lock)

    # What there is

    @property
    def counts(self) -> dict[SignalName, int]:
        """How many there are of each."""
        return {signal: len(ids) for signal, ids in self._ids.items()}

    @property
    def skipped(self) -> int:
        """How many examples were passed over."""
        return sum(each == "skipped" for each in self.decided.values())

    @property
    def last(self) -> Entry | None:
        """What `undo` would undo."""
        return self.entries[-1] if self.entries else None

    def lines(self, signal: SignalName) -> list[bytes]:
        """The lines of those with this signal, oldest first."""
        return [line.strip() for line in self._files[signal].lines]

    def chosen(self) -> Iterator[tuple[str, SignalName, bytes]]:
        """Each one's id, signal and line, strong ones first."""
        for signal, ids in self._ids.items():
            yield from ((each, signal, line) for each, line in zip(ids, self.lines(signal), strict=True))

    # What can be done

    def keep(self, identity: str, line: bytes, signal: SignalName) -> None:
        """Adds the example's line to those with this signal."""
        self._files[signal].add(few_shot_line(line, signal))
        self._ids[signal].append(identity)
        self.decided[identity] = signal
        self._enter(Entry(identity, signal))

    def retell(self, signal: SignalName, lines: list[bytes]) -> None:
        """The same few-shots of this signal, in the same order, in other words: all lines at once or not at all."""
        assert len(lines) == len(self._ids[signal])
        self._files[signal].replace([line + b"\n" for line in lines])

    def skip(self, identity: str) -> None:
        """The example is passed over."""
        self._enter(Entry(identity, "skipped"))
        self.decided[identity] = "skipped"

    def move(self, identity: str) -> None:
        """A few-shot goes to the other file."""
        was = self._signal_of(identity)
        self._enter(Entry(identity, _other(was), was))  # first, since it decides if a crash leaves the line in both files
        self._move(identity, was)

    def remove(self, identity: str) -> None:
        """A few-shot is taken out, and forgotten: it can be chosen again."""
        self._take_out(identity, self._signal_of(identity))
        self._rewrite([entry for entry in self.entries if entry.id != identity])

    def undo(self) -> Entry | None:
        """Takes back what was decided last; what that was, if there was anything."""
        entry = self.last
        if entry is None:
            return None
        if entry.did == "skipped":
            del self.decided[entry.id]
        elif entry.was is not None:
            self._move(entry.id, entry.did)
        else:
            self._take_out(entry.id, entry.did)
        self._journal.remove(len(self.entries) - 1)
        self.entries.pop()
        return entry

    # How

    def _signal_of(self, identity: str) -> SignalName:
        return next(signal for signal, ids in self._ids.items() if identity in ids)

    def _move(self, identity: str, was: SignalName) -> None:
        """To the other file first: a crash in between loses nothing."""
        other = _other(was)
        self._files[other].add(few_shot_line(self._files[was].lines[self._ids[was].index(identity)], other))
        self._ids[other].append(identity)
        self._take_out(identity, was)
        self.decided[identity] = other

    def _take_out(self, identity: str, signal: SignalName) -> None:
        place = self._ids[signal].index(identity)
        self._files[signal].remove(place)
        del self._ids[signal][place]
        self.decided.pop(identity, None)

    def _enter(self, entry: Entry) -> None:
        self._journal.add(entry.line())
        self.entries.append(entry)

    def _rewrite(self, entries: list[Entry]) -> None:
        self._journal.replace([entry.line() + b"\n" for entry in entries])
        self.entries = entries

    def _read_journal(self) -> list[Entry]:
        """The entries that fit the files; few-shots without one count as the newest: a crash, or somebody's hand, left them so."""
        told = list(self._told())
        for identity in set(self._ids["strong"]) & set(self._ids["weak"]):
            self._settle(identity, told)
        now = {each: signal for signal, ids in self._ids.items() for each in ids}
        before: dict[str, str] = {}
        entries: list[Entry] = []
        for entry in reversed(told):  # a chain of moves counts as far as it leads to where the line is
            if entry.did == before.get(entry.id, now.get(entry.id, "skipped")):
                entries.append(entry)
                before[entry.id] = entry.was or "nowhere"
        entries.reverse()
        known = {entry.id for entry in entries}
        by_age = sorted(FILES, key=lambda signal: self._files[signal].changed)
        entries += [Entry(each, signal) for signal in by_age for each in self._ids[signal] if each not in known]
        if entries != told:
            self._rewrite(entries)
        return entries

    def _told(self) -> Iterator[Entry]:
        """What the journal holds, as far as it can be read."""
        for number, line in enumerate(self._journal.lines, 1):
            try:
                read = orjson.loads(line)
                entry = Entry(read["id"], read["did"], read.get("was"))
                fits = isinstance(entry.id, str) and entry.did in ("strong", "weak", "skipped") and entry.was in ("strong", "weak", None)
            except (ValueError, TypeError, KeyError, AttributeError):
                fits = False
            if fits:
                yield entry
            else:
                self.mended.append(f"{self._journal.path}: line {number} could not be read: what it said of undo and skipping is forgotten")

    def _settle(self, identity: str, told: Iterable[Entry]) -> None:
        """An example in both files: a move that a crash cut short, or somebody's mistake."""
        newest: Decision | None = next((entry.did for entry in reversed(list(told)) if entry.id == identity), None)
        if newest is None or newest == "skipped":
            strong, weak = (self._files[signal].path.name for signal in FILES)
            raise CannotRead(f"{self.folder}: example {identity} stands in {strong} and in {weak}: take it out of one of them")
        self._take_out(identity, _other(newest))
        self.mended.append(f"{self.folder}: example {identity} stood in both files, and stays {newest}, as was decided last")


class AppendOnlyLines:
    """A file of lines that grows at its end. Only whole lines stand in it: what a crash cut short is taken out when it is opened."""

    def __init__(self, path: Path, mended: list[str]) -> None:
        self.path = path
        self.lines: list[bytes] = []
        """As they stand in the file, each with its end; blank ones are left out when it is written anew."""
        self._size = 0
        try:
            if path.exists():
                self._read(mended)
        except OSError as error:
            raise CannotRead(f"{path}: can't be read ({error.strerror}): check its permissions") from error

    @property
    def changed(self) -> int:
        """When the file was last written, in nanoseconds; 0 if there is none."""
        with suppress(OSError):
            return self.path.stat().st_mtime_ns
        return 0

    def add(self, line: bytes) -> None:
        """The line, on the disk."""
        self._check()
        blob = line + b"\n"
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._append(file, blob)
            finally:
                os.close(file)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.lines.append(blob)
        self._size += len(blob)

    def remove(self, place: int) -> None:
        """Without the line that stands there: the last one is cut off, for another the file is written anew."""
        if place == len(self.lines) - 1 and self._size == sum(map(len, self.lines)):
            self._check()
            try:
                os.truncate(self.path, self._size - len(self.lines[-1]))
            except OSError as error:
                raise cannot_write(self.path, error) from error
            self._size -= len(self.lines.pop())
        else:
            self.replace(self.lines[:place] + self.lines[place + 1 :])

    def replace(self, lines: list[bytes]) -> None:
        """These lines, all at once or not at all."""
        self._check()
        beside = self.path.with_name(f"{self.path.name}.new")
        try:
            with beside.open("wb") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path.resolve())
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.lines = lines
        self._size = sum(map(len, lines))

    def _append(self, file: int, blob: bytes) -> None:
        try:
            write_all(file, blob)
            os.fsync(file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, self._size)
            raise

    def _check(self) -> None:
        """Nobody else has written in the meantime."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._size:
            raise CannotWrite(f"{self.path}: was changed by somebody else in the meantime: start the review again, which reads it anew")

    def _read(self, mended: list[str]) -> None:
        *whole, rest = self.path.read_bytes().split(b"\n")
        self._size = sum(map(len, whole)) + len(whole)
        self.lines = [line + b"\n" for line in whole if line.strip()]
        if not rest:
            return
        if _is_json(rest):
            self._size += len(rest)
            self.lines.append(rest + b"\n")
            self.replace(self.lines)
            return
        os.truncate(self.path, self._size)
        mended.append(f"{self.path}: its last line was cut short, and is taken out ({len(rest):,} bytes)")


def _ids_in(file: AppendOnlyLines, signal: SignalName) -> Iterator[str]:
    """The id of each of a file's few-shots. Raises CannotRead for what is none."""
    seen: set[str] = set()
    for number, line in enumerate(file.lines, 1):
        where = f"{file.path}: few-shot {number}"
        try:
            example: Any = orjson.loads(line)
        except ValueError:
            raise CannotRead(f"{where} is no JSON: mend it, or take the line out") from None
        if not isinstance(example, dict) or not isinstance(example.get("id"), str) or not isinstance(example.get("prompt"), str):
            raise CannotRead(f"{where} is no example (one has an id and a prompt): mend it, or take the line out")
        if example.get("signal", signal) != signal:
            raise CannotRead(f"{where} stands among the {signal} ones, and its signal is another: move the line, or mend it")
        if example["id"] in seen:
            raise CannotRead(f"{where} stands there twice: take one of the lines out")
        seen.add(example["id"])
        yield example["id"]


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True


def _other(signal: SignalName) -> SignalName:
    return "weak" if signal == "strong" else "strong"
