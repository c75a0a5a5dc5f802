"""Tables for those who have the packages for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from beepgpt.packages import need

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1_000
"""Records that are made columns at a time."""


def table_of(record: str, lines: Sequence[bytes]) -> pa.Table:
    """Lines of one kind of record as a table of pyarrow, which must be installed."""
    import pyarrow as pa

    from beepgpt.connectors.files.arrow_rows import batch_of, schema_of

    batches = [batch_of(record, lines[first : first + BATCH]) for first in range(0, len(lines), BATCH)]
    return pa.Table.from_batches(batches, schema_of(record))


def pandas_of(made: Callable[[], pa.Table]) -> Any:
    """A table of pyarrow for pandas. Raises MissingPackage."""
    need("a table", ["pandas", "pyarrow"], "train")
    return made().to_pandas()


def polars_of(made: Callable[[], pa.Table]) -> Any:
    """A table of pyarrow for polars. Raises MissingPackage."""
    need("a table", ["polars", "pyarrow"], "train")
    import polars

    return polars.from_arrow(made())
