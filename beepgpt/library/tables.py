"""Tables for those who have the packages for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from beepgpt.errors import BeepGPTError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1_000
"""Records that are made columns at a time."""


class MissingPackage(BeepGPTError):
    """A package that is optional isn't installed; the message has the line that installs it."""

    exit_status = 2


def need(*packages: str) -> None:
    """Raise MissingPackage unless all are installed.

    >>> need("polars_of_the_north")
    Traceback (most recent call last):
    beepgpt.library.tables.MissingPackage: this needs polars_of_the_north, which is not installed: pip install polars_of_the_north
    """
    if missing := [each for each in packages if find_spec(each) is None]:
        named = " and ".join(missing)
        is_or_are = "is" if len(missing) == 1 else "are"
        raise MissingPackage(f"this needs {named}, which {is_or_are} not installed: pip install {' '.join(missing)}")


def table_of(record: str, lines: Sequence[bytes]) -> pa.Table:
    """Lines of one kind of record as a table of pyarrow. Raises MissingPackage."""
    need("pyarrow")
    import pyarrow as pa

    from beepgpt.connectors.files.arrow_rows import batch_of, schema_of

    batches = [batch_of(record, lines[first : first + BATCH]) for first in range(0, len(lines), BATCH)]
    return pa.Table.from_batches(batches, schema_of(record))


def pandas_of(made: Callable[[], pa.Table]) -> Any:
    """A table of pyarrow for pandas. Raises MissingPackage."""
    need("pandas", "pyarrow")
    return made().to_pandas()


def polars_of(made: Callable[[], pa.Table]) -> Any:
    """A table of pyarrow for polars. Raises MissingPackage."""
    need("polars", "pyarrow")
    import polars

    return polars.from_arrow(made())
