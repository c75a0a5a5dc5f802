"""Few-shots: examples that a person has labeled, in a folder.

There is a file for each signal, and a journal of decisions in their order, so that they can be undone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from beepgpt.conversations.signals import Signal, SignalVerdict
from beepgpt.errors import BadCommand, CannotRead, CannotWrite, cannot_write
from beepgpt.folders import make_folder, move_into_place
from beepgpt.labeling.questions import CannotLabel, LabelQuestion, question_in
from beepgpt.locks import lock

FILES: dict[Signal, str] = {"strong": "examples_pos.jsonl", "weak": "examples_neg.jsonl"}
PERSON = "person"
"""The `signal_model` of few-shots."""


@dataclass(frozen=True)
class FewShot:
    """An example that a person has labeled."""

    question: LabelQuestion
    text: str
    """What is shown of it: its summary, or its prompt."""
    signal: Signal
    line: bytes


def read_few_shots(folder: Path) -> list[FewShot]:
    """The few-shots of a folder, strong ones first; empty if there is no folder. Raises BadCommand for a line that is none."""
    found: dict[str, FewShot] = {}
    for signal, name in FILES.items():
        path = folder / name
        for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                question = question_in(line)
            except CannotLabel as error:
                raise BadCommand(f"{where}: is not a few-shot ({error}): fix the line or take it out") from None
            body = orjson.loads(line)
            if body.get("signal", signal) != signal:
                raise BadCommand(f"{where}: says {body['signal']!r}, and stands among the {signal} ones: put it where it belongs")
            if question.id in found:
                raise BadCommand(f"{where}: the example {question.id} is a few-shot already: take one of the two out")
            summary = body.get("summary")
            text = summary if isinstance(summary, str) and summary.strip() else question.prompt
            found[question.id] = FewShot(question, text, signal, line)
    return list(found.values())


def balanced(few_shots: Sequence[FewShot], most: int) -> list[FewShot]:
    """As many strong as weak few-shots, alternating, `most` at most. The first of each file are taken, the same in every run."""
    strong = [each for each in few_shots if each.signal == "strong"]
    weak = [each for each in few_shots if each.signal == "weak"]
    count = min(len(strong), len(weak), most // 2)
    return [each for pair in zip(strong[:count], weak[:count], strict=True) for each in pair]


def by_hand(few_shots: Sequence[FewShot]) -> dict[str, SignalVerdict]:
    """A person's verdicts, by example id."""
    return {each.question.id: SignalVerdict(each.signal, None, PERSON) for each in few_shots}


Decision = Literal["strong", "weak", "skipped"]

JOURNAL = "review.jsonl"
LABEL = re.compile(
    rb',"signal":"(?:strong|weak)"(?:,"signal_p":[0-9.eE+-]+|,"signal_p":null)?(?:,"signal_model":"(?:[^"\\]|\\.)*")?'
    rb'(?:,"signal_instructions":"[0-9a-f]*")?(,"summary":"(?:[^"\\]|\\.)*")?(?=}$)'
)
"""What labeling appends to an example. No text in it can look like this: there every quotation mark has a backslash before it."""
LABEL_KEYS = ("signal", "signal_p", "signal_model", "signal_instructions")


def few_shot_line(line: bytes, signal: Signal) -> bytes:
    """An example's line with a person's signal in the place of any other label.

    >>> few_shot_line(b'{"id":"a","prompt":"hi"}', "weak")
    b'{"id":"a","prompt":"hi","signal":"weak"}'
    >>> few_shot_line(b'{"id":"a","signal":"weak","signal_p":0.2,"signal_model":"m","signal_instructions":"0f"}', "strong")
    b'{"id":"a","signal":"strong"}'
    """
    line = line.strip()
    label = LABEL.search(line)
    bare, summary = (line, b"") if label is None else (line[: label.start()] + b"}", label[1] or b"")
    example = orjson.loads(bare)
    if any(name in example for name in LABEL_KEYS):  # not written by us
        bare = orjson.dumps({name: value for name, value in example.items() if name not in LABEL_KEYS})
    return b'%s,"signal":"%s"%s}' % (bare[:-1].rstrip(), signal.encode(), summary)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal."""

    id: str
    did: Decision
    was: Signal | None = None
    """The signal before, if it was moved."""

    def line(self) -> bytes:
        """The entry as JSON."""
        return orjson.dumps({"id": self.id, "did": self.did} | ({} if self.was is None else {"was": self.was}))


class FewShots:
    """The few-shots of a folder, which one process at a time may change. A change is on the disk when its method returns.

    A line is written first, then its entry in the journal. What a crash leaves in between is repaired when the folder is next opened;
    `mended` lists the repairs. Methods raise CannotWrite.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mended: list[str] = []
        try:
            make_folder(folder)
            self._lock = lock(folder, CannotWrite(f"{folder}: a review is adding to it: end that one first, or name another folder"))
        except OSError as error:
            raise cannot_write(folder, error) from error
        try:
            self._files = {signal: AppendOnlyLines(folder / name, self.mended) for signal, name in FILES.items()}
            self._journal = AppendOnlyLines(folder / JOURNAL, self.mended)
            self.decided: dict[str, Decision] = {}
            """Decisions by example id."""
            self._ids: dict[Signal, list[str]] = {signal: list(_ids_in(file, signal)) for signal, file in self._files.items()}
            self.entries = self._read_journal()
            """The journal, oldest decision first."""
        except BaseException:
            os.close(self._lock)
            raise
        self.decided |= {entry.id: "skipped" for entry in self.entries}
        self.decided |= {each: signal for signal, ids in self._ids.items() for each in ids}

    def close(self) -> None:
        """Release the folder."""
        os.close(self._lock)

    # What there is

    @property
    def counts(self) -> dict[Signal, int]:
        """The number of few-shots by signal."""
        return {signal: len(ids) for signal, ids in self._ids.items()}

    @property
    def skipped(self) -> int:
        """The number of skipped examples."""
        return sum(each == "skipped" for each in self.decided.values())

    @property
    def last(self) -> Entry | None:
        """The decision that `undo` would take back."""
        return self.entries[-1] if self.entries else None

    def lines(self, signal: Signal) -> list[bytes]:
        """The lines of few-shots with this signal, oldest first."""
        return [line.strip() for line in self._files[signal].lines]

    def chosen(self) -> Iterator[tuple[str, Signal, bytes]]:
        """Each few-shot's id, signal and line, strong ones first."""
        for signal, ids in self._ids.items():
            yield from ((each, signal, line) for each, line in zip(ids, self.lines(signal), strict=True))

    # What can be done

    def keep(self, identity: str, line: bytes, signal: Signal) -> None:
        """Add an example as a few-shot."""
        self._files[signal].add(few_shot_line(line, signal))
        self._ids[signal].append(identity)
        self.decided[identity] = signal
        self._enter(Entry(identity, signal))

    def rewrite(self, signal: Signal, lines: list[bytes]) -> None:
        """Replace the lines of all few-shots with this signal, in their order: all at once or not at all."""
        assert len(lines) == len(self._ids[signal])
        self._files[signal].replace([line + b"\n" for line in lines])

    def skip(self, identity: str) -> None:
        """Skip an example."""
        self._enter(Entry(identity, "skipped"))
        self.decided[identity] = "skipped"

    def move(self, identity: str) -> None:
        """Give a few-shot the other signal."""
        was = self._signal_of(identity)
        self._enter(Entry(identity, _other(was), was))  # first, since it decides if a crash leaves the line in both files
        self._move(identity, was)

    def remove(self, identity: str) -> None:
        """Remove a few-shot, and its decision: it can be chosen again."""
        self._take_out(identity, self._signal_of(identity))
        self._rewrite_journal([entry for entry in self.entries if entry.id != identity])

    def undo(self) -> Entry | None:
        """Take back the last decision, and return it; None: there is none."""
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

    def _signal_of(self, identity: str) -> Signal:
        return next(signal for signal, ids in self._ids.items() if identity in ids)

    def _move(self, identity: str, was: Signal) -> None:
        """Write to the other file first: a crash in between loses nothing."""
        other = _other(was)
        self._files[other].add(few_shot_line(self._files[was].lines[self._ids[was].index(identity)], other))
        self._ids[other].append(identity)
        self._take_out(identity, was)
        self.decided[identity] = other

    def _take_out(self, identity: str, signal: Signal) -> None:
        place = self._ids[signal].index(identity)
        self._files[signal].remove(place)
        del self._ids[signal][place]
        self.decided.pop(identity, None)

    def _enter(self, entry: Entry) -> None:
        self._journal.add(entry.line())
        self.entries.append(entry)

    def _rewrite_journal(self, entries: list[Entry]) -> None:
        self._journal.replace([entry.line() + b"\n" for entry in entries])
        self.entries = entries

    def _read_journal(self) -> list[Entry]:
        """The entries that agree with the files; few-shots without an entry (after a crash, or an edit by hand) count as the newest."""
        read = list(self._readable_entries())
        for identity in set(self._ids["strong"]) & set(self._ids["weak"]):
            self._resolve_duplicate(identity, read)
        now = {each: signal for signal, ids in self._ids.items() for each in ids}
        before: dict[str, str] = {}
        entries: list[Entry] = []
        for entry in reversed(read):  # a chain of moves counts as far as it leads to where the line is
            if entry.did == before.get(entry.id, now.get(entry.id, "skipped")):
                entries.append(entry)
                before[entry.id] = entry.was or "nowhere"
        entries.reverse()
        known = {entry.id for entry in entries}
        by_age = sorted(FILES, key=lambda signal: self._files[signal].changed)
        entries += [Entry(each, signal) for signal in by_age for each in self._ids[signal] if each not in known]
        if entries != read:
            self._rewrite_journal(entries)
        return entries

    def _readable_entries(self) -> Iterator[Entry]:
        """The journal's entries, without lines that can't be read."""
        for number, line in enumerate(self._journal.lines, 1):
            try:
                body = orjson.loads(line)
                entry = Entry(body["id"], body["did"], body.get("was"))
                fits = isinstance(entry.id, str) and entry.did in ("strong", "weak", "skipped") and entry.was in ("strong", "weak", None)
            except (ValueError, TypeError, KeyError, AttributeError):
                fits = False
            if fits:
                yield entry
            else:
                self.mended.append(f"{self._journal.path}: line {number} could not be read: what it said of undo and skipping is forgotten")

    def _resolve_duplicate(self, identity: str, entries: Iterable[Entry]) -> None:
        """Keep one line of an example that is in both files: after a move that a crash cut short. Raises CannotRead for any other cause."""
        newest: Decision | None = next((entry.did for entry in reversed(list(entries)) if entry.id == identity), None)
        if newest is None or newest == "skipped":
            strong, weak = (self._files[signal].path.name for signal in FILES)
            raise CannotRead(f"{self.folder}: example {identity} stands in {strong} and in {weak}: take it out of one of them")
        self._take_out(identity, _other(newest))
        self.mended.append(f"{self.folder}: example {identity} stood in both files, and stays {newest}, as was decided last")


class AppendOnlyLines:
    """A file of lines that grows at its end. A line that a crash cut short is removed when it is opened."""

    def __init__(self, path: Path, mended: list[str]) -> None:
        self.path = path
        self.lines: list[bytes] = []
        """Its lines, each with its line end, without blank ones."""
        self._size = 0
        try:
            if path.exists():
                self._read(mended)
        except OSError as error:
            raise CannotRead(f"{path}: can't be read ({error.strerror}): check its permissions") from error

    @property
    def changed(self) -> int:
        """Nanoseconds since 1970 of the last change; 0: there is no file."""
        with suppress(OSError):
            return self.path.stat().st_mtime_ns
        return 0

    def add(self, line: bytes) -> None:
        """Append a line, and sync it to the disk."""
        self._check()
        blob = line + b"\n"
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._append(file, blob)
            finally:
                os.close(file)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.lines.append(blob)
        self._size += len(blob)

    def remove(self, place: int) -> None:
        """Remove the line at this index: the last one is cut off, for another the file is rewritten."""
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
        """Rewrite the file with these lines: all at once or not at all."""
        self._check()
        beside = self.path.with_name(f"{self.path.name}.new")
        try:
            with beside.open("wb") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            move_into_place(beside, self.path.resolve())
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.lines = lines
        self._size = sum(map(len, lines))

    def _append(self, file: int, blob: bytes) -> None:
        try:
            left = memoryview(blob)
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, self._size)
            raise

    def _check(self) -> None:
        """Raise CannotWrite if another program has changed the file."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._size:
            raise CannotWrite(f"{self.path}: was changed by somebody else in the meantime: start the review again to read it")

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


def _ids_in(file: AppendOnlyLines, signal: Signal) -> Iterator[str]:
    """The ids of a file's few-shots. Raises CannotRead for a line that is none."""
    seen: set[str] = set()
    for number, line in enumerate(file.lines, 1):
        where = f"{file.path}: few-shot {number}"
        try:
            example: Any = orjson.loads(line)
        except ValueError:
            raise CannotRead(f"{where} is no JSON: fix it, or take the line out") from None
        if not isinstance(example, dict) or not isinstance(example.get("id"), str) or not isinstance(example.get("prompt"), str):
            raise CannotRead(f"{where} is no example (one has an id and a prompt): fix it, or take the line out")
        if example.get("signal", signal) != signal:
            raise CannotRead(f"{where} stands among the {signal} ones, and its signal is another: move the line, or fix it")
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


def _other(signal: Signal) -> Signal:
    return "weak" if signal == "strong" else "strong"
