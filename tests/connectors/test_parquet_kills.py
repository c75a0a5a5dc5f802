"""Tables of runs that are killed, and of two runs at once: what stands at a table's place is whole, and is one run's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import beepgpt
from beepgpt.connectors.files import parquet
from beepgpt.errors import CannotRead, NoSuchPlace
from tests.support import beep, quiet, run_program
from tests.support.speed import wait_until
from tests.support.tables import write_table

RECORD = "retraction"


def rows(first: int, count: int) -> list[bytes]:
    """Lines of the smallest kind of record."""
    return [b'{"id":"%032x","retracted_ts":"1704103200.000000"}' % number for number in range(first, first + count)]


def in_another_process(code: str, path: Path) -> str:
    """What a program prints that gets a table's place as `path` and has `rows`; a refusal is printed, too."""
    program = f"""
from pathlib import Path
from beepgpt.connectors.files import parquet
from beepgpt.errors import BeepGPTError
from tests.connectors.test_parquet_kills import RECORD, rows
path = Path({str(path)!r})
try:
    {code}
except BeepGPTError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_run_leaves_the_firsts_file_alone(tmp_path: Path):
    """It is refused, and what was written before is still there."""
    out = tmp_path / "rows.parquet"
    first = parquet.TableFile(out, RECORD)
    first.add(rows(0, parquet.ROW_GROUP))
    assert "another run writes to it" in in_another_process("parquet.TableFile(path, RECORD)", out)
    first.add(rows(parquet.ROW_GROUP, 10))
    first.close()

    assert list(parquet.lines_of(out, RECORD)) == rows(0, parquet.ROW_GROUP + 10)
    assert out.stat().st_mode & 0o777 == 0o600


def test_two_runs_do_not_mix_their_parts(tmp_path: Path):
    """From its beginning to its end a run has the folder alone, and another may have it afterwards."""
    out = tmp_path / "rows.parquet"
    second = "sink = parquet.ParquetSink(path, RECORD, 'rows', in_parts=True, fresh=True); sink.list_parts(); sink.end()"
    sink = parquet.ParquetSink(out, RECORD, "rows", in_parts=True, fresh=True)
    sink.list_parts()
    partition = sink.build_part("write", "rows", None)
    partition.write_batch([b"\n".join(rows(0, 1_000)) + b"\n"])
    partition.snapshot()
    assert "another run writes to it" in in_another_process(second, out)
    with pytest.raises(CannotRead, match="is not whole"):
        parquet.parts_of(out)
    partition.write_batch([b"\n".join(rows(1_000, 5)) + b"\n"])
    partition.close()

    assert list(parquet.lines_of(out, RECORD)) == rows(0, 1_005)
    assert in_another_process(second, out) == ""
    assert list(parquet.lines_of(out, RECORD)) == []


def test_a_run_that_fails_leaves_an_older_table(tmp_path: Path):
    """So does one that was begun; one without rows that ends as it should does not."""
    out = tmp_path / "rows.parquet"
    write_table(out, RECORD, rows(0, 5))
    in_another_process("parquet.ParquetSink(path, RECORD, 'rows', fresh=True).list_parts()", out)
    with pytest.raises(ZeroDivisionError), parquet.ParquetSink(out, RECORD, "rows", fresh=True) as sink:
        sink.list_parts()
        raise ZeroDivisionError
    assert list(parquet.lines_of(out, RECORD)) == rows(0, 5)

    with parquet.ParquetSink(out, RECORD, "rows", fresh=True) as sink:
        sink.list_parts()
    assert list(parquet.lines_of(out, RECORD)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize("batches", [1, 8, 40])
def test_a_full_disk_fails_the_run(tmp_path: Path, batches: int):
    """Whether the thread that writes finds it at the end, in a row group before, or long before the last lines: an older table stands."""
    out = tmp_path / "rows.parquet"
    write_table(out, RECORD, rows(0, 5))
    filled = f"""
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500, 1_500))
    with parquet.ParquetSink(path, RECORD, 'rows') as sink:
        sink.list_parts()
        sink.build_part('write', 'rows', None).write_batch([b"\\n".join(rows(0, {batches * parquet.BATCH})) + b"\\n"])"""

    assert "rows.parquet: can't be written" in in_another_process(filled, out)

    assert list(parquet.lines_of(out, RECORD)) == rows(0, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def killed_once(there: Callable[[], bool], *arguments: object, cwd: Path) -> None:
    """Start the command, and kill it by SIGKILL as soon as something is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "beepgpt", *map(str, arguments)], cwd=cwd, env=quiet(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(there, "what is being written")
        assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_command_goes_on_and_destroys_nothing(tmp_path: Path):
    """kill -9 while a part is written: the folder is refused until the same command has gone on; a file that stood before still stands."""
    export = beepgpt.simulate(tmp_path / "workspace.zip", messages=2_500)
    small = beepgpt.simulate(tmp_path / "small.zip", messages=200)
    parts, file = tmp_path / "parts.parquet", tmp_path / "file.parquet"
    command = ("examples", export, "--to", parts, "--recovery", tmp_path / "state")

    killed_once((parts / ".part-00-00000.parquet.unfinished").exists, *command, cwd=tmp_path)
    assert (parts / ".part-00-00000.parquet.unfinished").exists()
    for reader in (("prepare", parts, "--to", tmp_path / "set"), ("audit", export, parts)):
        refused = run_program(*reader)
        assert refused.returncode == 1 and "is not whole" in refused.stderr, refused.stderr
    beep(*command)
    assert not list(parts.glob(".*"))

    beep("examples", small, "--to", file)
    before = file.read_bytes()
    unfinished = tmp_path / ".file.parquet.unfinished"
    killed_once(unfinished.exists, "examples", export, "--to", file, cwd=tmp_path)
    assert file.read_bytes() == before
    beep("examples", export, "--to", file)
    assert list(parquet.lines_of(parts, "example")) == list(parquet.lines_of(file, "example")) and not unfinished.exists()


SPARKS = "part-00000-3f0e2a4c-9d0b-4c1d-8f3e-5a6b7c8d9e0f-c000.snappy.parquet"


@pytest.mark.parametrize("name", [SPARKS, "part-old.parquet", "part-00.parquet", ".part-00-00000.parquet"])
def test_what_another_program_wrote_is_left_alone(tmp_path: Path, name: str):
    """A folder with files of somebody else's is no place for a table, however these are called; and none of them is ever removed."""
    out = tmp_path / "rows.parquet"
    sink = parquet.ParquetSink(out, RECORD, "rows", in_parts=True, fresh=True)
    out.mkdir()
    (out / name).write_bytes(b"somebody else's")
    with pytest.raises(NoSuchPlace, match="which is no part of a table"):
        parquet.ParquetSink(out, RECORD, "rows", in_parts=True, fresh=True)

    sink.list_parts()
    sink.build_part("write", "rows", None).close()

    assert sorted(path.name for path in out.iterdir()) == sorted([name, "part-00-00000.parquet"])
