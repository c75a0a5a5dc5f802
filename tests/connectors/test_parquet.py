"""Tables of examples: the same values as the lines, resumable in parts, and read wherever examples are."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main
from hypothesis import given
from hypothesis import strategies as st

import beepgpt
from beepgpt.connectors.files import parquet
from beepgpt.connectors.files.arrow_rows import batch_of, is_packed, lines_in, schema_of
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.outcomes import PredictedPoint, Probabilities, outcome_body, prediction_body
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointSettled, deletion_bytes
from beepgpt.conversations.record_fields import RECORDS
from beepgpt.conversations.rules import Rules
from beepgpt.errors import CannotRead, CannotWrite, NoSuchPlace
from beepgpt.forgetting.kinds import found_in
from beepgpt.forgetting.records import Cleaning
from tests.support import beep, run_of
from tests.support.tables import write_table
from tests.support.worlds import History, patient, worlds


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beepgpt.simulate(tmp_path_factory.mktemp("parquet") / "workspace.zip", messages=300)


@pytest.fixture(scope="module")
def lines(export: Path) -> list[bytes]:
    return [each.line for each in beepgpt.examples(export)]


# Values


@patient
@given(worlds())
def test_a_table_has_the_values_of_the_lines(world: tuple[Rules, History]):
    """Whatever the settings and the words: back from the columns, each line is what it was, byte for byte; packed, they are the same."""
    rules, history = world
    run = run_of(history, rules, points_since=0)
    points = [each.line for each in run.points if isinstance(each, PointEmitted)]

    packed = run_of(history, rules, are_packed=True).examples

    for record, made in (("example", run.examples), ("point", points), ("retraction", run.retractions)):
        if made:
            assert list(lines_in(record, batch_of(record, made))) == made
    if packed:
        assert {is_packed(line) for line in packed} == {rules.candidates}
        assert batch_of("example", packed).equals(batch_of("example", run.examples))


@patient
@given(worlds(), st.lists(st.floats(0, 1), min_size=3, max_size=3), st.sampled_from([None, "judge"]), st.booleans())
def test_so_has_one_of_predictions_and_of_what_became_of_them(
    world: tuple[Rules, History], probabilities: list[float], part: str | None, with_candidates: bool
):
    """With nobody predicted, and with nulls."""
    rules, history = world
    entries = run_of(history, rules, points_since=0).points
    bodies = {each.identity: json.loads(each.line) for each in entries if isinstance(each, PointEmitted)}
    said = Probabilities([(user, p) for user, p in zip(("ana", "bo"), probabilities, strict=False) if p > 0.1], *probabilities[1:])
    predictions = {
        place: prediction_body(body, "m", part, said, most=1, with_candidates=with_candidates)
        for body in bodies.values()
        for place in body["conversations"]
    }
    predicted = {place: PredictedPoint(body["id"], body["speakers"], "m", orjson.dumps(body)) for place, body in predictions.items()}
    made = {
        "prediction": [orjson.dumps(body) for body in predictions.values()],
        "outcome": [
            orjson.dumps(outcome_body(predicted[each.conversation], each, rules.spec))
            for each in entries
            if isinstance(each, PointSettled) and each.conversation in predicted
        ],
        "deletion": [deletion_bytes(each) for each in entries if isinstance(each, MessageDeleted)],
    }

    for record, lines in made.items():
        if lines:
            assert list(lines_in(record, batch_of(record, lines))) == lines


def test_each_column_says_what_it_means():
    """In the file itself, for whoever opens it; times are times."""
    for record in RECORDS:
        schema = schema_of(record)
        assert schema.metadata[b"beepgpt.record"] == record.encode()
        assert all(len(field.metadata[b"description"]) > 10 for field in schema)
    assert schema_of("example").field("prompt_ts").type == pa.timestamp("us", tz="UTC")
    assert schema_of("example").field("candidates_closeness").type == pa.list_(pa.float64())


# The sink


def written(source: list[Any], sink: parquet.ParquetSink, store: Path | None = None) -> None:
    """Write batches of lines by a real flow, each an epoch; an ABORT among them is where it is killed, once."""
    how: dict[str, Any] = {"epoch_interval": timedelta(0)}
    if store is not None:
        if not store.exists():
            store.mkdir()
            init_db_dir(store, 1)
        how["recovery_config"] = RecoveryConfig(str(store))
    flow = Dataflow("write")
    blobs = op.map("join", op.input("read", flow, TestingSource(source)), lambda batch: ("key", b"".join(line + b"\n" for line in batch)))
    op.output("write", blobs, sink)
    with sink:
        run_main(flow, **how)


def batches(lines: list[bytes], size: int = 40) -> list[list[bytes]]:
    return [lines[first : first + size] for first in range(0, len(lines), size)]


def sink_at(path: Path, **how: Any) -> parquet.ParquetSink:
    return parquet.ParquetSink(path, "example", "examples", **how)


def test_a_run_writes_one_file(lines: list[bytes], tmp_path: Path):
    """Without a recovery store; an older table is replaced, and nothing else is left in the folder."""
    out = tmp_path / "examples.parquet"
    for given_lines in (lines, lines[:50], []):
        written(batches(given_lines), sink_at(out, fresh=True))
        assert list(parquet.lines_of(out, "example")) == given_lines
    assert [path.name for path in tmp_path.iterdir()] == ["examples.parquet"]


def test_lines_that_are_no_records_are_not_left_out(lines: list[bytes], tmp_path: Path):
    """What fails in the thread that writes fails the run, at the last lines, too."""
    with pytest.raises(pa.ArrowInvalid), sink_at(tmp_path / "examples.parquet") as sink:
        sink.list_parts()
        sink.build_part("write", "examples", None).write_batch([b"no JSON\n" * parquet.BATCH + lines[0] + b"\n"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dies_at", [1, 2, 4, 6])
def test_a_killed_run_goes_on_in_parts(lines: list[bytes], tmp_path: Path, dies_at: int, monkeypatch: pytest.MonkeyPatch):
    """What was written after the last snapshot is written again: nothing is missing, nothing double; what a snapshot held comes through."""
    monkeypatch.setattr(parquet, "BATCH", 90)
    out = tmp_path / "examples.parquet"
    source = [*batches(lines)[:dies_at], TestingSource.ABORT(), *batches(lines)[dies_at:]]
    written(source, sink_at(out, in_parts=True, fresh=True), tmp_path / "store")
    (out / "part-00-00007.parquet").write_bytes(b"PAR1 of a part that no snapshot knows")

    written(source, sink_at(out, in_parts=True), tmp_path / "store")

    assert list(parquet.lines_of(out, "example")) == lines
    assert [path.name for path in sorted(out.iterdir())] == [f"part-00-{number:05d}.parquet" for number in range(len(list(out.iterdir())))]
    assert len(list(out.iterdir())) > 1


def test_a_part_that_is_gone_is_missed(lines: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run that goes on would write a table without it."""
    monkeypatch.setattr(parquet, "BATCH", 30)
    out = tmp_path / "examples.parquet"
    sink = sink_at(out, in_parts=True, fresh=True)
    sink.list_parts()
    first = sink.build_part("write", "examples", None)
    first.write_batch([b"".join(line + b"\n" for line in lines[:40])])
    state = first.snapshot()
    assert state == (1, ())
    (out / "part-00-00000.parquet").unlink()

    with pytest.raises(CannotWrite, match="is gone: put it back"):
        sink_at(out, in_parts=True).build_part("write", "examples", state)


def test_a_file_and_a_folder_are_not_mixed_up(lines: list[bytes], tmp_path: Path):
    """Nothing of somebody else's is replaced."""
    (tmp_path / "file.parquet").touch()
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "folder.parquet" / "notes.txt").touch()

    with pytest.raises(NoSuchPlace, match="is a file, and this run writes a folder of parts"):
        sink_at(tmp_path / "file.parquet", in_parts=True)
    with pytest.raises(NoSuchPlace, match="is a folder, and this run writes a file"):
        sink_at(tmp_path / "folder.parquet")
    with pytest.raises(NoSuchPlace, match=r"has notes.txt, which is no part of a table"):
        sink_at(tmp_path / "folder.parquet", in_parts=True)


def test_what_is_no_table_says_so(tmp_path: Path):
    """Broken, of something else, empty, or not there."""
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 cut")
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "other.parquet")
    (tmp_path / "empty.parquet").mkdir()

    for name, message in (
        ("broken", "can't be read as a table"),
        ("other", "column spec is missing"),
        ("empty", "without parts"),
        ("no", "no such"),
    ):
        with pytest.raises(CannotRead, match=message):
            list(parquet.lines_of(tmp_path / f"{name}.parquet", "example"))


# The command line


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("--workers", "2"), ("--recovery", "state")])
def test_the_command_writes_tables(export: Path, lines: list[bytes], tmp_path: Path, how: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    """The same examples as lines, as one file or in parts, with the files beside it that lines have; prepare and audit read it."""
    monkeypatch.chdir(tmp_path)
    ran = beep("examples", export, "--to", "examples.parquet", *how)
    assert ran.returncode == 0, ran.stderr
    assert sorted(parquet.lines_of(Path("examples.parquet"), "example")) == sorted(lines)
    assert Path("examples.parquet").is_dir() == bool(how)
    assert Path("examples.rules.json").exists() and Path("examples.names.json").exists()
    assert "next: beepgpt prepare examples.parquet --to set" in ran.stderr

    Path("examples.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    for source in ("examples.parquet", "examples.jsonl"):
        assert beep("prepare", source, "--to", source.replace(".", "-"), "--format", "candidates").returncode == 0
    of_table, of_lines = (json.loads(Path(each, "manifest.json").read_text()) for each in ("examples-parquet", "examples-jsonl"))
    assert of_table == of_lines
    audit = beep("audit", export, "examples.parquet")
    assert audit.returncode == 0, audit.stdout + audit.stderr


@pytest.mark.slow
def test_a_leak_in_a_table_is_found(export: Path, lines: list[bytes], tmp_path: Path):
    """An audit reads what the table says."""
    leak = b" and what came next"
    leaking = [line.replace(b"\\n\\n###", leak + b"\\n\\n###") if number < 3 else line for number, line in enumerate(lines)]
    write_table(tmp_path / "examples.parquet", "example", leaking)

    assert beepgpt.audit_examples(export, tmp_path / "examples.parquet").is_broken


def test_retractions_beside_a_table_count(export: Path, lines: list[bytes], tmp_path: Path):
    """As beside a file of lines."""
    write_table(tmp_path / "examples.parquet", "example", lines)
    gone = json.loads(lines[5])["id"]
    (tmp_path / "examples.retractions.jsonl").write_text(json.dumps({"id": gone, "retracted_ts": "1704200000.000000"}) + "\n")

    made = beepgpt.split(tmp_path / "examples.parquet", tmp_path / "set")

    assert made.manifest["account"]["left_out"]["retracted"] == 1
    assert gone not in made.to_arrow("train")["id"].to_pylist() + made.to_arrow("valid")["id"].to_pylist()


def test_nothing_of_the_forgotten_is_left_in_a_table(lines: list[bytes], tmp_path: Path):
    """Rows that hold anything of a person go, in a file and in parts; a file that a kill left goes whole."""
    (tmp_path / "examples.parquet").mkdir()
    write_table(tmp_path / "examples.parquet" / "part-00-00000.parquet", "example", lines)
    (tmp_path / ".other.parquet.unfinished").write_bytes(b"PAR1")
    person = json.loads(lines[5])["window"][0]["user"]
    cleaning = Cleaning(Forgotten(b"salt", []).with_names([person], [], []), True)

    places = list(found_in(tmp_path))
    assert [(path.name, kind and kind.name) for path, kind in places] == [
        (".other.parquet.unfinished", "unfinished table"),
        ("part-00-00000.parquet", "table"),
    ]
    removals = [kind.clean(path, cleaning) for path, kind in places if kind is not None]

    kept = list(parquet.lines_of(tmp_path / "examples.parquet", "example"))
    assert kept == [line for line in lines if person.encode() not in line] and 0 < len(kept) < len(lines)
    assert removals[1].found == len(lines) - len(kept) and removals[1].rebuild == "beepgpt examples"
    assert not (tmp_path / ".other.parquet.unfinished").exists()
