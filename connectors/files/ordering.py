"""Files of lines in an order that hangs on the lines alone, not on workers, batches or kills."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from beepgpt.connectors.files.jsonl import drop_stdout
from beepgpt.connectors.sqlite.sorting import Sorter, SorterRow
from beepgpt.errors import CannotWrite, cannot_write
from beepgpt.folders import replacing
from beepgpt.locks import take

HEAD = 256
"""Bytes of a line that order those of one time: they hold its id and its conversation."""
LineKey = Callable[[bytes], tuple[int, bytes]]
_Span = Struct("<HQQ")
"""Where a line is: the number of its piece, the offset, and the length."""


def by_time(field: str) -> LineKey:
    """Order by the time in a line's field, then by what the line begins with: its id.

    >>> by_time("settled_ts")(b'{"id":"00ff","settled_ts":"1690360253.041239"}')
    (1690360253041239, b'{"id":"00ff","settled_ts":"1690360253.041239"}')
    """
    return _by_digits(rb'"%b": ?"(\d{1,12})\.(\d{6})"' % field.encode())


def by_place() -> LineKey:
    """Order dead letters as their records stood in the source.

    >>> by_place()(b'{"reason":"not_json","place":"events.jsonl:17","record":"oops"}')[0]
    17
    """
    return _by_digits(rb':(\d{1,18})","record')


def _by_digits(pattern: bytes) -> LineKey:
    find = re.compile(pattern).search  # text in a string of JSON has its quotes escaped: only a field matches

    def key(line: bytes) -> tuple[int, bytes]:
        found = find(line)
        return 0 if found is None else int(b"".join(found.groups())), line[:HEAD]

    return key


def put_in_order(pieces: Sequence[Path], path: Path | None, key: LineKey) -> None:
    """Write the lines of all `pieces` in the order of their keys to `path` (None: standard output), and remove the pieces.

    The only piece may be `path`. Pieces stay until the whole is in its place, so where one is missing it is there: after a kill, the same
    call does the rest. Memory does not grow with the lines. Raises CannotWrite.
    """
    try:
        if all(piece.is_file() for piece in pieces):
            with _opened(pieces) as files:
                if path is None or path not in pieces or not _is_in_order(files, key):
                    _write_sorted(files, pieces[0].parent, path, key)
        for piece in pieces:
            if piece != path:
                piece.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path or "standard output", error) from error


@contextmanager
def _opened(pieces: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    """Open the pieces, locked against other runs."""
    with ExitStack() as stack:
        files: list[BinaryIO] = []
        for piece in pieces:
            files.append(stack.enter_context(piece.open("r+b")))
            take(files[-1].fileno(), CannotWrite(f"{piece}: another run writes to it: wait until that is over, and give the command again"))
        yield files


def _lines(files: Sequence[BinaryIO]) -> Iterator[tuple[int, int, bytes]]:
    """Each line with the number of its file and its offset; what has expired is blank, and left out."""
    for number, file in enumerate(files):
        file.seek(offset := 0)
        for line in file:
            if not line.isspace():
                yield number, offset, line
            offset += len(line)


def _is_in_order(files: Sequence[BinaryIO], key: LineKey) -> bool:
    return all(one <= other for one, other in pairwise(key(line) for _, _, line in _lines(files)))


def _write_sorted(files: Sequence[BinaryIO], folder: Path, path: Path | None, key: LineKey) -> None:
    def rows() -> Iterator[SorterRow]:
        for number, offset, line in _lines(files):
            time, head = key(line)
            yield time, b"", head, _Span.pack(number, offset, len(line))

    with Sorter(folder) as sorter, _destination(path) as out:
        sorter.add(rows())
        try:
            for *_, span in sorter.rows():
                number, offset, length = _Span.unpack(span)
                out.write(os.pread(files[number].fileno(), length, offset))
            out.flush()
        except BrokenPipeError:
            drop_stdout()


def _destination(path: Path | None) -> AbstractContextManager[BinaryIO]:
    """Where the lines go: a file takes the place of another whole; into a device or a pipe they are written."""
    if path is None:
        return nullcontext(sys.stdout.buffer)
    return path.open("wb") if path.exists() and not path.is_file() else replacing(path.resolve())
