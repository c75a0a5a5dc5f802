"""The file of `--metrics`: a report's numbers as one tidy table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from beepgpt.connectors.files import jsonl, parquet
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console

Metrics = Annotated[Path | None, typer.Option(help="All its numbers as a table: .parquet or .json.", show_default=False)]


def check_metrics(path: Path | None) -> None:
    """Raise BadCommand, NoSuchPlace, CannotWrite or NoArrow if no table can be written there."""
    if path is None:
        return
    if parquet.is_table(path):
        parquet.check_table(path, in_parts=False)
    elif path.suffix.lower() == ".json":
        jsonl.check_writable(path)
    else:
        raise BadCommand(f"--metrics {path}: a .parquet or a .json is expected")


def write_metrics(path: Path | None, rows: Iterable[dict[str, Any]]) -> None:
    """Write the rows, if a path was given: a .json is one list of objects. Raises CannotWrite."""
    if path is None:
        return
    lines = [orjson.dumps(each) for each in rows]
    if parquet.is_table(path):
        table = parquet.TableFile(path, "metric")
        table.add(lines)
        table.close()
    else:
        jsonl.write_file(path, b"[" + b",\n".join(lines) + b"]\n")
    console.print(f"{len(lines):,} numbers as a table: {path}")
