"""Tables of records in Parquet: out by blobs of whole lines, in as lines again. A table is a file, or a folder of parts."""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from beepgpt.connectors.callbacks import never, nothing
from beepgpt.connectors.files.jsonl import FileChanged, LineChunk
from beepgpt.errors import BeepGPTError, CannotRead, CannotWrite, NoSuchPlace, cannot_write
from beepgpt.folders import TABLE, move_into_place
from beepgpt.locks import take

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1_000
"""Lines that are made columns at a time, and rows that a part has at least, but for the last."""
ROW_GROUP = 8_000
"""Rows of a row group, at most: as many are in memory while they are written."""
AHEAD = 4
"""Batches that may wait for the thread that writes: then whoever adds more waits, too."""
OPTIONS: dict[str, Any] = {"compression": "zstd", "compression_level": 3, "use_dictionary": False}
"""A dictionary of values takes twice the time, and a third more room than zstd makes of the values themselves."""

UNFINISHED = f"{TABLE}.unfinished"
"""The end of the name of a file that is being written: a kill leaves it."""
_PART = re.compile(r"(\.?)part-(\d{2,})(?:-(\d{5,}))?\.parquet(\.unfinished)?")

TableItem = bytes | list[bytes]
"""A blob of whole lines, or lines that may have packed columns (arrow_rows.py)."""
PartsState = tuple[int, tuple[bytes, ...]]
"""Of a folder: the parts that are whole, and lines that are in none of them yet."""


class TablePart(NamedTuple):
    """A file in a folder of parts: a part, one that is being written, or the mark of a worker whose run has not ended."""

    worker: int
    number: int | None
    """None: a mark, which holds nothing."""
    is_unfinished: bool
    path: Path


def part_at(path: Path) -> TablePart | None:
    """What a file of ours in a folder of parts is, by its name; None: somebody else's, as Spark's `part-00000-3f0e….parquet` are.

    >>> [part_at(Path(name)) is not None for name in ("part-00-00001.parquet", ".part-00.parquet.unfinished", "part-00.parquet")]
    [True, True, False]
    """
    found = _PART.fullmatch(path.name)
    if found is None:
        return None
    hidden, worker, number, unfinished = found.groups()
    if bool(hidden) != bool(unfinished) or not (number or unfinished):
        return None
    return TablePart(int(worker), None if number is None else int(number), bool(unfinished), path)


def _parts_in(folder: Path) -> list[TablePart]:
    return [part for each in sorted(folder.iterdir()) if (part := part_at(each)) is not None]


def unfinished_of(path: Path) -> list[Path]:
    """The files that a run keeps locked while it writes this one, or a table in its place, or in the folder of this part."""
    if part_at(path) is not None:
        return [each.path for each in _parts_in(path.parent) if each.is_unfinished]
    unfinished = path if is_unfinished(path) else _unfinished(path)
    return [unfinished] if unfinished.exists() else []


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.stem}{UNFINISHED}")


def is_unfinished(path: Path) -> bool:
    """Whether a file is called as a table, or a part of one, that is being written."""
    return path.name.startswith(".") and path.name.endswith(UNFINISHED)


def is_mark(path: Path) -> bool:
    """Whether a file is the mark of a worker whose run has not ended: it holds nothing, and says that the table is not whole."""
    part = part_at(path)
    return part is not None and part.number is None


class NoArrow(BeepGPTError):
    """Tables need pyarrow, which is not installed; the message says how to get it."""

    exit_status = 2

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: a table needs pyarrow, which is not installed: pip install 'beepgpt[train]', or pyarrow alone")


def is_table(path: Path) -> bool:
    """Whether a place is called as a table.

    >>> is_table(Path("examples.parquet")), is_table(Path("examples.jsonl"))
    (True, False)
    """
    return path.suffix.lower() == TABLE


def check_table(path: Path, *, in_parts: bool) -> None:
    """Raise NoSuchPlace or CannotWrite if no table can be written at `path`, NoArrow if nothing here can write one."""
    if path.is_dir() != in_parts and path.exists():
        there, here = ("a folder", "a file") if path.is_dir() else ("a file", "a folder of parts, as it has --recovery or several workers")
        raise NoSuchPlace(f"{path}: is {there}, and this run writes {here}: name another, or remove it first")
    if not path.parent.is_dir():
        raise NoSuchPlace(f"{path}: there is no folder {path.parent}: make it first, or name another")
    if in_parts and path.is_dir() and (others := [each.name for each in path.iterdir() if part_at(each) is None]):
        raise NoSuchPlace(f"{path}: has {others[0]}, which is no part of a table: name another folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CannotWrite(f"{path}: may not be written: check its permissions, or name another")
    _arrow(path)


def _taken(unfinished: Path, path: Path) -> int:
    """Open a file that is to be written, empty, and locked against other runs. `path`: what errors name. Raises CannotWrite."""
    try:
        while True:
            file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                take(file, CannotWrite(f"{path}: another run writes to it: wait until that is over, or name another"))
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file), unfinished.stat()):  # otherwise another run has just ended and moved it
                        os.ftruncate(file, 0)
                        return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)
    except OSError as error:
        raise cannot_write(path, error) from error


def _arrow(path: Path) -> Any:
    try:
        from beepgpt.connectors.files import arrow_rows
    except ModuleNotFoundError as error:
        raise NoArrow(path) from error
    return arrow_rows


class TableFile:
    """A file of rows, which stands at its path once it is whole: a kill leaves nothing that looks like one.

    A thread parses and writes, which Arrow does without Python's lock: meanwhile the program goes on.
    """

    def __init__(self, path: Path, record: str) -> None:
        """Begin the file. Raises CannotWrite."""
        import pyarrow.parquet as pq

        self.path = path
        self._record = record
        self._batches: list[pa.RecordBatch] = []
        self._thread = ThreadPoolExecutor(1, "table")
        self._pending: deque[Future[None]] = deque()
        self._unfinished = _unfinished(path)
        self._file = os.fdopen(_taken(self._unfinished, path), "wb")
        self._writer = pq.ParquetWriter(self._file, _arrow(path).schema_of(record), **OPTIONS)

    def add(self, lines: list[bytes]) -> None:
        """Append lines. Raises CannotWrite, also for lines that were added before."""
        self._wait_for(AHEAD)
        self._pending.append(self._thread.submit(self._append, lines))

    def _wait_for(self, most: int) -> None:
        """Wait until at most so many batches are pending."""
        while len(self._pending) > most:
            self._pending.popleft().result()

    def _append(self, lines: list[bytes]) -> None:
        for _, rows in groupby(lines, _arrow(self.path).is_packed):  # a store of an older version may hold lines
            self._batches.append(_arrow(self.path).batch_of(self._record, list(rows)))
        if sum(each.num_rows for each in self._batches) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        try:
            if self._batches:
                self._writer.write_table(pa.Table.from_batches(self._batches))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._batches = []

    def close(self) -> None:
        """Write the rest; from now on the file stands at its path. Raises CannotWrite."""
        self._wait_for(0)
        self._thread.shutdown()
        self._flush()
        try:
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            move_into_place(self._unfinished, self.path)
            self._file.close()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def abandon(self) -> None:
        """Remove what was written; what stands at the path stays."""
        self._thread.shutdown(cancel_futures=True)
        with contextlib.suppress(OSError):
            self._writer.close()
        with contextlib.suppress(OSError):
            self._unfinished.unlink(missing_ok=True)
            self._file.close()


class ParquetSink(FixedPartitionedSink[TableItem, PartsState]):
    """Writes lines of one kind of record as rows of a table.

    A file is written from its beginning, and is whole once the run has ended or was stopped. A folder of parts can be gone on with: each
    part is whole at a snapshot, and those that were written after the last one are written again.
    """

    def __init__(
        self, path: Path, record: str, partition: str, *, in_parts: bool = False, worker: int = 0, workers: int = 1, fresh: bool = False
    ) -> None:
        """`partition`: the name by which Bytewax keeps its state. `worker`: of several, each writes parts of its own. `fresh`: an older
        table goes when the flow starts. Raises NoSuchPlace, CannotWrite or NoArrow.
        """
        check_table(path, in_parts=in_parts)
        self.path, self.record, self.partition = path, record, partition
        self.in_parts, self.worker, self.workers, self.fresh = in_parts, worker, workers, fresh

        self.file: TableFile | None = None
        """What is being written."""
        self._mark: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The run has ended or was stopped, and its table stands from now on, even one of no rows; or it failed."""
        try:
            if kind is None:
                self.end()
        finally:
            if self.file is not None:
                self.file.abandon()
            if self._mark is not None:
                os.close(self._mark)
            self.file = self._mark = None

    def list_parts(self) -> list[str]:
        """Take the place, so that no other run writes there until this one has ended. Raises CannotWrite."""
        if not self.in_parts:
            self.file = self.file or TableFile(self.path, self.record)
        elif self._mark is None:
            self._begin()
        return [self.partition]

    def _begin(self) -> None:
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            self._mark = _taken(self._mark_of(self.worker), self.path)
            for each in _parts_in(self.path):
                is_mark = each.number is None
                if each.worker == self.worker and not is_mark and (self.fresh or each.is_unfinished):
                    each.path.unlink()
                elif self.fresh and self.worker == 0 and each.worker >= self.workers:  # of an older run that had more workers
                    if is_mark:
                        os.close(_taken(each.path, self.path))
                    each.path.unlink()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _mark_of(self, worker: int) -> Path:
        return self.path / f".part-{worker:02d}{UNFINISHED}"

    def part(self, number: int) -> Path:
        """The place of one of this worker's parts."""
        return self.path / f"part-{self.worker:02d}-{number:05d}{TABLE}"

    def whole(self) -> list[TablePart]:
        """The parts of this worker that are whole."""
        return [each for each in _parts_in(self.path) if each.worker == self.worker and not each.is_unfinished]

    def end(self) -> None:
        """End the table, which has no rows if none came. Raises CannotWrite."""
        if self.in_parts and self.worker == 0 and self._mark is not None and not self.whole():
            self.file = self.file or TableFile(self.part(0), self.record)
        if self.file is not None:
            self.file.close()
            self.file = None
        if self._mark is not None:
            self._mark_of(self.worker).unlink(missing_ok=True)
            os.close(self._mark)
            self._mark = None

    def part_fn(self, item_key: str) -> int:
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: PartsState | None) -> _TablePartition:
        return _TablePartition(self, resume_state or (0, ()))


class _TablePartition(StatefulSinkPartition[TableItem, PartsState]):
    def __init__(self, sink: ParquetSink, state: PartsState) -> None:
        self._sink = sink
        self._whole, waiting = state
        self._waiting = list(waiting)
        if sink.in_parts:
            for number in range(self._whole):
                if not sink.part(number).exists():
                    raise CannotWrite(
                        f"{sink.part(number)}: was written before this run was stopped, and is gone: put it back, or start again without"
                        " the old recovery store"
                    )
            for each in sink.whole():
                if each.number is not None and each.number >= self._whole:
                    each.path.unlink()

    def write_batch(self, values: list[TableItem]) -> None:
        for each in values:
            self._waiting += each if isinstance(each, list) else each.split(b"\n")[:-1]
        while len(self._waiting) >= BATCH:
            self._write(self._waiting[:BATCH])
            del self._waiting[:BATCH]

    def snapshot(self) -> PartsState:
        if self._sink.in_parts and self._sink.file is not None:
            self._end_part()
        return self._whole, tuple(self._waiting) if self._sink.in_parts else ()

    def close(self) -> None:
        if self._waiting or (self._sink.in_parts and self._sink.file is not None):
            self._end_part()
        self._sink.end()

    def _write(self, lines: list[bytes]) -> None:
        if self._sink.file is None:
            self._sink.file = TableFile(self._sink.part(self._whole), self._sink.record)
        self._sink.file.add(lines)

    def _end_part(self) -> None:
        if self._waiting:
            self._write(self._waiting)
        assert self._sink.file is not None
        self._sink.file.close()
        self._sink.file, self._waiting = None, []
        self._whole += 1


def parts_of(path: Path) -> list[Path]:
    """The files of a table, in their order. Raises CannotRead."""
    if not path.is_dir():
        if not path.is_file():
            raise CannotRead(f"{path}: there is no such file")
        return [path]
    if unfinished := [each.path.name for each in _parts_in(path) if each.is_unfinished]:
        raise CannotRead(
            f"{path}: is not whole: what writes it has not ended, or was killed ({unfinished[0]}): wait until it ends, or give its"
            " command again, which goes on with the same --recovery, and otherwise starts again"
        )
    found = sorted(path.glob(f"part-*{TABLE}"))
    if not found:
        raise CannotRead(f"{path}: is a folder without parts of a table")
    return found


def lines_of(path: Path, record: str) -> Generator[bytes, None, None]:
    """The rows of a table as lines of JSON, as they were written. Rows that were filtered or sorted elsewhere will do, too.

    Raises CannotRead, NoArrow.
    """
    rows = _arrow(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = rows.schema_of(record)
    for part in parts_of(path):
        try:
            with pq.ParquetFile(part) as file:
                if missing := [name for name in schema.names if name not in file.schema_arrow.names]:
                    raise CannotRead(f"{part}: is no table of {record}s of beepgpt: the column {missing[0]} is missing")
                yield from rows.checked_lines(record, file.iter_batches(BATCH, columns=schema.names), str(part))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(part, error) from error


class ParquetSource(FixedPartitionedSource[LineChunk, int]):
    """Reads the rows of a table as lines of JSON, in order. It goes on at a row, and a table that is shorter now is refused."""

    def __init__(
        self,
        path: Path,
        record: str,
        *,
        stopping: Callable[[], bool] = never,
        on_end: Callable[[], None] = nothing,
        progress: Callable[[int, float], None] = nothing,
    ) -> None:
        """Arguments as a JsonlSource has them. Raises CannotRead or NoArrow."""
        self.path, self.record = path, record
        self.stopping, self.on_end, self.progress = stopping, on_end, progress
        self.rows = _rows_of(path)

    def list_parts(self) -> list[str]:
        return ["parquet"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _RowsPartition:
        return _RowsPartition(self, resume_state or 0)


class _RowsPartition(StatefulSourcePartition[LineChunk, int]):
    def __init__(self, source: ParquetSource, row: int) -> None:
        if row > source.rows:
            raise FileChanged(
                f"{source.path}: has fewer rows than before: give the same table, or start again without the old recovery store"
            )
        self._source, self._row = source, row
        self._lines = lines_of(source.path, source.record)
        next(islice(self._lines, row, row), None)

    def next_batch(self) -> list[LineChunk]:
        if self._source.stopping():
            raise StopIteration
        lines = list(islice(self._lines, BATCH))
        if not lines:
            self._source.on_end()
            raise StopIteration
        first, self._row = self._row + 1, self._row + len(lines)
        self._source.progress(len(lines), self._row / self._source.rows)
        return [(self._source.path.name, first, lines)]

    def snapshot(self) -> int:
        return self._row

    def close(self) -> None:
        self._lines.close()


def _rows_of(path: Path) -> int:
    _arrow(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    for part in parts_of(path):
        try:
            rows += pq.read_metadata(part).num_rows
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(part, error) from error
    return rows


def _unreadable(part: Path, error: Exception) -> CannotRead:
    return CannotRead(f"{part}: can't be read as a table ({type(error).__name__}): make it again")


def is_of(path: Path, record: str) -> bool:
    """Whether a file is a table of this kind of record: it has all its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.suppress(pa.ArrowException, OSError):
        return set(_arrow(path).schema_of(record).names) <= set(pq.read_schema(path).names)
    return False
