"""`beepgpt forget` on tables of examples: what somebody added to them, and those that a run is writing."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import beepgpt
from beepgpt.connectors.files import parquet
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.errors import CannotRead
from beepgpt.forgetting.kinds import found_in
from beepgpt.forgetting.records import Cleaning, Removal
from beepgpt.forgetting.stores import StoreInUse, clean_table
from tests.support.tables import write_table

SOMEBODY = "U0SOMEBODY"
FORGOTTEN = Forgotten(b"salt").with_names([SOMEBODY], ["C0SOMEWHERE"])


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    export = beepgpt.simulate(tmp_path_factory.mktemp("tables") / "workspace.zip", messages=200)
    return [each.line for each in beepgpt.examples(export)]


def forget(path: Path) -> dict[str, Removal]:
    """By name: what is done with each file in a place."""
    return {each.name: kind.clean(each, Cleaning(FORGOTTEN, apply=True)) for each, kind in found_in(path) if kind is not None}


def test_a_table_keeps_the_columns_that_somebody_added(lines: list[bytes], tmp_path: Path):
    """And its permissions and its order; a row goes if such a column names who is forgotten, however it does."""
    path = tmp_path / "examples.parquet"
    write_table(path, "example", lines)
    count = len(lines)
    before = (
        pq.read_table(path)
        .append_column("reviewer", pa.array(["U1", SOMEBODY, *["U2"] * (count - 2)]))
        .append_column("notes", pa.array([[], [], [{"by": f"<@{SOMEBODY}> said so"}], *[[{"by": "me"}]] * (count - 3)]))
        .append_column("raw", pa.array([b"x", b"x", b"x", b"C0SOMEWHERE", *[b"x"] * (count - 4)]))
        .append_column("by_place", pa.array([[]] * 4 + [[("C0SOMEWHERE", 1)]] + [[]] * (count - 5), pa.map_(pa.string(), pa.int64())))
        .append_column("seen", pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * count))
        .append_column("at", pa.array(range(count), pa.timestamp("ns")))
    )
    pq.write_table(before, path)
    path.chmod(0o640)

    assert forget(tmp_path) == {"examples.parquet": Removal(4, "rewritten", "beepgpt examples")}

    assert pq.read_table(path).equals(before.filter(pa.array([number not in (1, 2, 3, 4) for number in range(count)])))
    assert path.stat().st_mode & 0o777 == 0o640
    assert forget(tmp_path) == {"examples.parquet": Removal()}


def test_a_table_that_is_broken_is_named(lines: list[bytes], tmp_path: Path):
    """What it holds can't be known."""
    path = tmp_path / "examples.parquet"
    write_table(path, "example", lines)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"x" * 5_000 + whole[5_100:])

    with pytest.raises(CannotRead, match=r"examples.parquet: can't be read as a table"):
        forget(tmp_path)


@contextmanager
def writing(place: Path, code: str) -> Iterator[None]:
    """Inside the `with` block another process writes a table: `code` begins it."""
    program = f"from pathlib import Path\nfrom beepgpt.connectors.files.parquet import *\n{code}\nprint('begun', flush=True)\ninput()"
    process = subprocess.Popen([sys.executable, "-c", program, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    with process, process.stdin:
        assert process.stdout.readline() == b"begun\n"
        yield


IN_PARTS = (
    "sink = ParquetSink(Path({!r}), 'retraction', 'rows', in_parts=True); sink.list_parts(); file = TableFile(sink.part(1), 'retraction')"
)
IN_A_FILE = "file = TableFile(Path({!r}), 'retraction')"


@pytest.mark.parametrize(
    ("code", "mark"), [(IN_PARTS, "rows.parquet/.part-00.parquet.unfinished"), (IN_A_FILE, ".rows.parquet.unfinished")]
)
def test_a_table_that_is_being_written_is_refused(tmp_path: Path, code: str, mark: str):
    """What the run has begun is its own, and no part of it is changed meanwhile."""
    rows = tmp_path / "rows.parquet"
    part = rows / "part-00-00000.parquet" if code == IN_PARTS else rows
    part.parent.mkdir(exist_ok=True)
    write_table(part, "retraction", [b'{"id":"%b","retracted_ts":"1704103200.000000"}' % SOMEBODY.encode()])
    before = part.read_bytes()
    with writing(rows, code.format(str(rows))):
        with pytest.raises(StoreInUse, match="a run is writing this table: stop it first"):
            forget(tmp_path)
        for cleaning in (Cleaning(FORGOTTEN, apply=True), Cleaning(FORGOTTEN, apply=False, refuses=True)):
            with pytest.raises(StoreInUse, match="a run is writing this table"):
                clean_table(part, cleaning)

        assert part.read_bytes() == before and (tmp_path / mark).exists()


def test_of_a_killed_run_the_mark_stays(tmp_path: Path):
    """It holds nothing, and says that the table is not whole; what was being written goes."""
    (tmp_path / "part-00-00000.parquet.unfinished").write_bytes(b"somebody's own")
    for name in (".part-00.parquet.unfinished", ".part-00-00001.parquet.unfinished"):
        (tmp_path / name).touch()

    assert forget(tmp_path) == {".part-00.parquet.unfinished": Removal(), ".part-00-00001.parquet.unfinished": Removal(1, "deleted")}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".part-00.parquet.unfinished", "part-00-00000.parquet.unfinished"]
    with pytest.raises(CannotRead, match="is not whole"):
        parquet.parts_of(tmp_path)
