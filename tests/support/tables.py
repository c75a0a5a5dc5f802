"""Tables of records, written in one go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from beepgpt.connectors.files.parquet import TableFile


def write_table(path: Path, record: str, lines: Sequence[bytes]) -> None:
    """Write lines as one file of rows."""
    file = TableFile(path, record)
    if lines:
        file.add(list(lines))
    file.close()
