"""Examples in a table are read wherever lines are: by `label`, `review` and `retrain` as by `prepare` and `audit`."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

from beepgpt.commands.retrain import retrained
from beepgpt.commands.review import records_of
from beepgpt.config.settings import read_settings
from beepgpt.connectors.files import parquet
from beepgpt.connectors.files.jsonl import FileChanged, LineChunk
from beepgpt.errors import CannotRead
from tests.support.labeling import Labels, made_examples
from tests.support.tables import write_table

SETTINGS = read_settings(environ={"BEEPGPT_RUN__PROGRESS": "false"})


def in_parts(folder: Path, lines: list[bytes], size: int = 100) -> Path:
    """A table as a folder of parts."""
    folder.mkdir(exist_ok=True)
    for number, first in enumerate(range(0, len(lines), size)):
        write_table(folder / f"part-00-{number:05d}.parquet", "example", lines[first : first + size])
    return folder


def retracted(path: Path, line: bytes) -> None:
    """Take an example back, beside its table."""
    path.write_text(json.dumps({"id": json.loads(line)["id"], "retracted_ts": "1704200000.000000"}) + "\n")


def test_a_table_is_read_in_chunks_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From each snapshot on the rest comes, and the numbers are those of rows; a table that is shorter now is refused."""
    monkeypatch.setattr(parquet, "BATCH", 30)
    lines = list(made_examples()[:130])
    path = in_parts(tmp_path / "examples.parquet", lines)
    seen: list[Any] = []
    source = parquet.ParquetSource(
        path, "example", on_end=lambda: seen.append("end"), progress=lambda count, share: seen.append((count, share))
    )
    flow = Dataflow("read")
    chunks: list[LineChunk] = []
    op.output("write", op.input("read", flow, source), TestingSink(chunks))
    run_main(flow)
    assert list(chain.from_iterable(values for _, _, values in chunks)) == lines
    assert [(name, first) for name, first, _ in chunks] == [("examples.parquet", first) for first in (1, 31, 61, 91, 121)]
    assert seen == [*((30, share / 130) for share in (30, 60, 90, 120)), (10, 1.0), "end"]

    for row in (0, 40, 130):
        partition = source.build_part("read", "parquet", row)
        assert rest_of(partition) == lines[row:] and partition.snapshot() == 130
        partition.close()
    with pytest.raises(FileChanged, match="fewer rows than before"):
        source.build_part("read", "parquet", 131)


def rest_of(partition: Any) -> list[bytes]:
    """All lines of a partition up to its end."""
    lines: list[bytes] = []
    with pytest.raises(StopIteration):
        while True:
            lines += partition.next_batch()[0][2]
    return lines


def test_a_table_is_labeled_as_its_lines_are(tmp_path: Path):
    """The same bytes, with what was taken back beside it; so in two starts with a recovery store."""
    labels = Labels(tmp_path / "work", made_examples())
    retracted(labels.folder / "examples.retractions.jsonl", labels.lines[3])
    labels.run(None, labeler="rules")
    of_lines = labels.to.read_bytes()

    labels.source = in_parts(labels.folder / "examples.parquet", list(labels.lines))
    report = labels.run(None, labeler="rules", recovery=True)
    assert (report["status"], report["does_not_add_up"]) == (0, []) and labels.to.read_bytes() == of_lines
    assert (labels.folder / "labeled.retractions.jsonl").exists()
    assert labels.run(None, labeler="rules", recovery=True)["account"] == report["account"]


def test_a_table_is_reviewed(tmp_path: Path):
    """All examples of it, then what was taken back."""
    lines = list(made_examples()[:20])
    path = in_parts(tmp_path / "examples.parquet", lines)
    retracted(tmp_path / "examples.retractions.jsonl", lines[3])

    assert list(records_of(str(path), SETTINGS)) == [*(("", line) for line in lines), (json.loads(lines[3])["id"], None)]


@pytest.mark.parametrize("kind", ["is being written", "is none"])
def test_what_is_no_whole_table_is_refused_before_anything_is_made(tmp_path: Path, kind: str):
    """By all three alike."""
    path = in_parts(tmp_path / "examples.parquet", list(made_examples()[:5]))
    if kind == "is none":
        (path / "part-00-00000.parquet").write_bytes(b"PAR1 cut")
    else:
        (path / ".part-00.parquet.unfinished").touch()
    why = "can't be read as a table" if kind == "is none" else "is not whole"

    labels = Labels(tmp_path / "work", [])
    labels.source = path
    with pytest.raises(CannotRead, match=why):
        labels.run(None, labeler="rules")
    with pytest.raises(CannotRead, match=why):
        list(records_of(str(path), SETTINGS))
    with pytest.raises(CannotRead, match=why):
        retrained(str(path), tmp_path / "live", SETTINGS, back=1)
    assert not labels.to.exists() and (kind == "is none" or not (tmp_path / "live").exists())
