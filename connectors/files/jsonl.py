"""JSON lines files, as bytes: in by chunks of lines, out by blobs of whole lines."""

import contextlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, FixedPartitionedSink, StatefulSinkPartition, StatelessSinkPartition

from beepgpt import clock
from beepgpt.connectors.callbacks import never, nothing
from beepgpt.errors import CannotRead, CannotWrite, NoSuchInput, NoSuchPlace, cannot_write, cut_short
from beepgpt.lenient_json import is_cut_short
from beepgpt.locks import take

MAX_LINE = 2**20 + 1024
"""The most bytes of a line that are kept: enough to see that it is over 1 MiB."""
CHUNK = 1_000
CHUNK_BYTES = 8 * 2**20
PARTITION = "jsonl"
BOM = b"\xef\xbb\xbf"

LineChunk = tuple[str, int, list[bytes]]
"""The file's name, the line number of the first value (from 1), and values: consecutive lines without their ends."""
JsonlState = tuple[int, int]
"""Bytes and lines that were handed out."""
WrittenState = tuple[tuple[int, int, int], ...]
"""For each day on which lines were written: the day (since 1970; 0 where that does not matter), the file's size at its end, and the
CRC-32 of its bytes."""
BLANKS = b" " * 1023 + b"\n"
A_DAY = 86_400
Blob = tuple[str, bytes]
"""A Bytewax key, and whole lines with their newlines."""


class FileChanged(CannotRead):
    """A file is not the one that was read before: shorter, or with other lines."""


class JsonlSource(FixedPartitionedSource[LineChunk, JsonlState]):
    """Reads the lines of a file in order; blank ones are skipped, one that is too long is cut and says so.

    A last line that only begins is an error, once all others are read.
    """

    def __init__(
        self,
        path: Path,
        *,
        stopping: Callable[[], bool] = never,
        on_end: Callable[[], None] = nothing,
        progress: Callable[[int, float], None] = nothing,
        max_line: int = MAX_LINE,
    ) -> None:
        """`stopping`: asked before each batch; once it is true, the source ends without `on_end`. `progress` gets the number of lines of a
        batch, and the share of the file that is read. Raises CannotRead.
        """
        check_readable(path)
        self.path = path
        self.stopping = stopping
        self.on_end = on_end
        self.progress = progress
        self.max_line = max_line

    def list_parts(self) -> list[str]:
        return [PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: JsonlState | None) -> "_JsonlSourcePartition":
        return _JsonlSourcePartition(self, resume_state or (0, 0))


class _JsonlSourcePartition(StatefulSourcePartition[LineChunk, JsonlState]):
    def __init__(self, source: JsonlSource, state: JsonlState) -> None:
        self._source = source
        self._offset, self._line = state
        self._file = _open_at(source.path, self._offset)
        self._size = os.fstat(self._file.fileno()).st_size
        self._is_cut = False

    def next_batch(self) -> list[LineChunk]:
        if self._source.stopping():
            raise StopIteration
        try:
            first, values = self._read_chunk()
        except OSError as error:
            raise CannotRead(f"{self._source.path}: can't be read after line {self._line:,} ({error.strerror})") from error
        if not values:
            self._source.on_end()
            raise StopIteration
        self._source.progress(len(values), self._offset / max(self._size, 1))
        return [(self._source.path.name, first, values)]

    def snapshot(self) -> JsonlState:
        return self._offset, self._line

    def close(self) -> None:
        self._file.close()

    def _read_chunk(self) -> tuple[int, list[bytes]]:
        """Read lines up to the next blank one, so that line numbers follow from the first one's."""
        values: list[bytes] = []
        size = 0
        read, most = self._file.readline, self._source.max_line
        while not self._is_cut and len(values) < CHUNK and size < CHUNK_BYTES and (raw := read(most)):
            if self._line == 0:
                raw, self._offset = raw.removeprefix(BOM), len(BOM) if raw.startswith(BOM) else 0
            if len(raw) < most - len(BOM) and is_cut_short(raw):
                self._is_cut = True
                break  # what is whole first: a pipe can't be read again
            line = raw.strip() if len(raw) < most - len(BOM) else self._rest_of(raw)
            size += len(raw)
            self._offset += len(raw)
            self._line += 1
            if line:
                values.append(line)
            elif values:
                return self._line - len(values), values
        if self._is_cut and not values:
            raise cut_short(self._source.path, self._line + 1)
        return self._line - len(values) + 1, values

    def _rest_of(self, line: bytes) -> bytes:
        """The beginning of a long line with a note of its length; skips the rest."""
        if line.endswith(b"\n"):
            return line.strip()
        over = 0
        while rest := self._file.readline(self._source.max_line):
            over += len(rest)
            if rest.endswith(b"\n"):
                break
        self._offset += over
        return line + b" ... (cut: the line has %d bytes)" % (len(line) + over) if over else line.strip()


def samples(path: Path, places: int = 64, size: int = 64 * 2**10) -> list[bytes]:
    """Sample lines: the whole ones in blocks of `size` bytes at that many places of a file. Nothing for a pipe. Raises CannotRead."""
    check_readable(path)
    if not path.is_file():
        return []
    lines: list[bytes] = []
    try:
        with path.open("rb") as file:
            last = max(os.fstat(file.fileno()).st_size - size, 0)
            for start in sorted({last * place // max(places - 1, 1) for place in range(places)}):
                file.seek(start)
                lines += file.read(size).split(b"\n")[1 if start else 0 : -1]
    except OSError as error:
        raise CannotRead(f"{path}: can't be read ({error.strerror})") from error
    return lines


def _open_at(path: Path, offset: int) -> BinaryIO:
    try:
        file = path.open("rb")
        if offset and (different := _is_not_what_was_read(file, offset)):
            file.close()
            raise FileChanged(f"{path}: {different}: give the same file as before, or start again without the old recovery store")
    except OSError as error:
        raise CannotRead(f"{path}: can't be opened ({error.strerror})") from error
    return file


def _is_not_what_was_read(file: BinaryIO, offset: int) -> str:
    """Seek to `offset`, where a line must begin; otherwise return why this is not the file that was read before."""
    if not file.seekable():
        return "is no file that can be gone on with"
    size = os.fstat(file.fileno()).st_size
    if size < offset:
        return f"shorter than the {offset:,} bytes that were read when this run was stopped"
    file.seek(offset - 1)
    if file.read(1) != b"\n" and size > offset:
        return f"was changed since this run was stopped: no line begins at byte {offset:,} any more"
    return ""


class JsonlSink(FixedPartitionedSink[bytes, WrittenState]):
    """Writes lines to a file, exactly once: on resume the file is cut back to the last snapshot, and what is left must be as it was."""

    def __init__(self, path: Path, partition: str = PARTITION, *, fresh: bool = False, kept: int | None = None) -> None:
        """`fresh`: empties the file when the flow starts, for runs without a snapshot.

        `kept`: whole days after which lines are overwritten by blanks, so that all others stay where they are. None: lines stay.
        """
        check_writable(path)
        self.path = path
        self.partition = partition
        self.fresh = fresh
        self.kept = kept

    def list_parts(self) -> list[str]:
        if self.fresh or not self.path.exists():  # Bytewax opens it only with the first line
            _JsonlSinkPartition(self.path, (), None).close()
        return [self.partition]

    def part_fn(self, item_key: str) -> int:
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: WrittenState | None) -> "_JsonlSinkPartition":
        return _JsonlSinkPartition(self.path, resume_state or (), self.kept)


class _JsonlSinkPartition(StatefulSinkPartition[bytes, WrittenState]):
    def __init__(self, path: Path, state: WrittenState, kept: int | None) -> None:
        self._path = path
        self._kept = kept
        self._days = list(state) or [(self._today(), 0, 0)]
        self._unsynced = True
        try:
            # Neither "wb", which empties the file, nor "ab", which ignores the offset.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._is_regular = stat.S_ISREG(os.fstat(self._file).st_mode)
            if self._is_regular:
                self._take()
                self._cut_back()
                self._check()
                self._begin_day()
                self._expire()
        except OSError as error:
            raise cannot_write(path, error) from error

    @property
    def _offset(self) -> int:
        return self._days[-1][1]

    def _today(self) -> int:
        return 0 if self._kept is None else int(clock.now() // A_DAY)

    def write_batch(self, values: list[bytes]) -> None:
        blob = b"".join(values)
        try:
            self._begin_day()
            write_all(self._file, blob)
        except OSError as error:
            if self._is_regular:
                with contextlib.suppress(OSError):
                    self._cut_back()
            raise cannot_write(self._path, error) from error
        day, end, checksum = self._days[-1]
        self._days[-1] = (day, end + len(blob), crc32(blob, checksum))
        self._unsynced = True

    def snapshot(self) -> WrittenState:
        try:
            self._begin_day()
            if self._unsynced and self._is_regular:
                os.fsync(self._file)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._unsynced = False
        return tuple(self._days)

    def close(self) -> None:
        os.close(self._file)

    def _take(self) -> None:
        try:
            take(self._file, CannotWrite(f"{self._path}: another run writes to it: wait until that is over, or name another file"))
        except CannotWrite:
            os.close(self._file)
            raise

    def _cut_back(self) -> None:
        """Truncate the file to the end of the last whole batch."""
        size = os.fstat(self._file).st_size
        if size < self._offset:
            raise CannotWrite(
                f"{self._path}: has {size:,} bytes, but {self._offset:,} were written when this run was stopped: put the file"
                " back, or start again without the old recovery store"
            )
        os.ftruncate(self._file, self._offset)
        os.lseek(self._file, self._offset, os.SEEK_SET)

    def _check(self) -> None:
        """Read what was written before, a gigabyte in about two seconds. Raises CannotWrite if it is not what it was.

        What expires by tomorrow may have been overwritten since the snapshot, and is not looked at.
        """
        start, today = 0, self._today()
        for day, end, checksum in self._days:
            found, at = 0, start
            while at < end and (blob := os.pread(self._file, min(1 << 20, end - at), at)):
                found, at = crc32(blob, found), at + len(blob)
            start = end
            if found != checksum and not (self._kept is not None and today - day >= self._kept):
                os.close(self._file)
                raise CannotWrite(
                    f"{self._path}: was changed since this run was stopped: put the file back, or start again without the old recovery"
                    " store"
                )

    def _begin_day(self) -> None:
        """Begin another day's lines if it is another day, and overwrite those that have expired."""
        if (today := self._today()) != self._days[-1][0]:
            before = self._days[-2][1] if len(self._days) > 1 else 0
            self._days[len(self._days) - (self._offset == before) :] = [(today, self._offset, 0)]  # a day without lines is none
            if self._is_regular:
                self._expire()

    def _expire(self) -> None:
        """Overwrite lines by blanks that were written more than `kept` whole days ago; as one entry of day 0 they are not checked again."""
        if self._kept is None:
            return
        expired = [each for each in self._days[:-1] if self._today() - each[0] > self._kept]
        if not expired:
            return
        start = expired[0][1] if expired[0][0] == 0 else 0
        end = expired[-1][1]
        for at in range(start, end, 1 << 20):
            size = min(1 << 20, end - at)
            os.pwrite(self._file, (BLANKS * (size // len(BLANKS) + 1))[: size - 1] + b"\n", at)
        self._unsynced = True
        self._days[: len(expired)] = [(0, end, 0)]


class StdoutSink(DynamicSink[Blob]):
    """Writes lines to standard output. When its reader has gone, `on_closed` is called and the rest is dropped."""

    def __init__(self, on_closed: Callable[[], None] = nothing) -> None:
        if sys.stdout is None:  # when it was closed before we started
            raise CannotWrite("standard output is closed: name a file, or open it")
        self.on_closed = on_closed

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_StdoutSinkPartition":
        return _StdoutSinkPartition(self.on_closed)


class _StdoutSinkPartition(StatelessSinkPartition[Blob]):
    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._on_closed = on_closed
        self._is_closed = False

    def write_batch(self, items: list[Blob]) -> None:
        if self._is_closed:
            return
        try:
            sys.stdout.buffer.write(b"".join(blob for _, blob in items))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            self._is_closed = True
            drop_stdout()
            self._on_closed()
        except OSError as error:
            drop_stdout()
            raise cannot_write("standard output", error) from error


def drop_stdout() -> None:
    """Send the rest of the buffer to /dev/null, so that Python does not fail once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def write_all(file: int, blob: bytes) -> None:
    """Write all of `blob` to the descriptor, unbuffered."""
    left = memoryview(blob)
    while left:
        left = left[os.write(file, left) :]


def check_readable(path: Path) -> None:
    """Raise `CannotRead` if `path` is no file that can be read, `NoSuchInput` if it is no file."""
    if path.is_dir():
        raise NoSuchInput(f"{path}: is a folder, where a file of JSON lines was expected")
    if not path.exists():
        raise NoSuchInput(f"{path}: there is no such file")
    if not os.access(path, os.R_OK):
        raise CannotRead(f"{path}: may not be read: check its permissions")


def check_writable(path: Path) -> None:
    """Raise `CannotWrite` if no file can be written at `path`, `NoSuchPlace` if no file can stand there; it changes nothing."""
    folder = path.parent
    if path.is_dir():
        raise NoSuchPlace(f"{path}: is a folder: name a file in it")
    if not folder.exists():
        raise NoSuchPlace(f"{path}: there is no folder {folder}: make it first, or name another")
    if not folder.is_dir():
        raise NoSuchPlace(f"{path}: {folder} is no folder: name another")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise CannotWrite(f"{path}: may not be written: check its permissions, or name another")


def write_file(path: Path, content: bytes) -> None:
    """Write a small file. Raises CannotWrite."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise cannot_write(path, error) from error
