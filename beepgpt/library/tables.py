"""Tables for those who have the packages for them, and records from the tables that they give back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from beepgpt.errors import BadCommand
from beepgpt.library.records import Example, Point, ShownRecord
from beepgpt.packages import need

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

BATCH = 1_000
"""Records that are made columns at a time."""


class Tabular(ABC):
    """What can be had as a table."""

    __slots__ = ()

    @abstractmethod
    def to_arrow(self) -> pa.Table:
        """As a table of pyarrow. Raises MissingPackage if pyarrow isn't installed."""

    def to_pandas(self) -> pd.DataFrame:
        """The same table for pandas. Raises MissingPackage if pandas or pyarrow isn't installed."""
        need("a table", ["pandas", "pyarrow"], "train")
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> pl.DataFrame:
        """The same table for polars. Raises MissingPackage if polars or pyarrow isn't installed."""
        need("a table", ["polars", "pyarrow"], "train")
        import polars

        frame = polars.from_arrow(self.to_arrow())
        assert isinstance(frame, polars.DataFrame), "a table is no single column"
        return frame


def table_of(record: str, lines: Sequence[bytes]) -> pa.Table:
    """Lines of one kind of record as a table of pyarrow. Raises MissingPackage."""
    need("a table", ["pyarrow"], "train")
    import pyarrow as pa

    from beepgpt.connectors.files.arrow_rows import batch_of, schema_of

    batches = [batch_of(record, lines[first : first + BATCH]) for first in range(0, len(lines), BATCH)]
    return pa.Table.from_batches(batches, schema_of(record))


def records_of(given: Any) -> Iterator[ShownRecord]:
    """Examples or points, of an iterable or of a table of them (pandas, polars, pyarrow). Raises BadCommand or CannotRead for all else."""
    if hasattr(given, "__arrow_c_stream__"):
        yield from _records_in(given)
        return
    if isinstance(given, ShownRecord) or not isinstance(given, Iterable):
        raise _no_record(given, "in a list, also one alone")
    for each in given:
        if not isinstance(each, ShownRecord):
            raise _no_record(each, "what beepgpt.examples returns, a list of its examples, or a table of them as its to_pandas makes it")
        yield each


def _no_record(given: object, wanted: str) -> BadCommand:
    found = repr(given)
    return BadCommand(f"{found if len(found) < 80 else type(given).__name__}: examples are expected, {wanted}")


def _records_in(frame: Any) -> Iterator[ShownRecord]:
    need("a table", ["pyarrow"], "train")
    import pyarrow as pa

    from beepgpt.connectors.files.arrow_rows import checked_lines

    table = frame.to_arrow() if hasattr(frame, "to_arrow") else pa.table(frame)
    if "conversations" in table.column_names:
        yield from map(Point.from_line, checked_lines("point", table.to_batches(BATCH), "the table"))
    else:
        yield from map(Example.from_line, checked_lines("example", table.to_batches(BATCH), "the table"))
