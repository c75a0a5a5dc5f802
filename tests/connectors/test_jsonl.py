"""Files of lines: in, out, and through kills."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import AbortExecution
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, run_main
from hypothesis import example, given
from hypothesis import strategies as st

from beepgpt.connectors.files import jsonl
from beepgpt.connectors.files.jsonl import (
    BOM,
    MAX_LINE,
    JsonlSink,
    JsonlSource,
    LineChunk,
    StdoutSink,
    check_writable,
    samples,
    write_all,
)
from beepgpt.errors import CannotRead, CannotWrite, cannot_write
from beepgpt.lenient_json import is_cut_short

ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(raw)
    return path


def read(source: JsonlSource, **how: Any) -> list[LineChunk]:
    """What the source gives to a flow."""
    out: list[LineChunk] = []
    flow = Dataflow("read")
    op.output("write", op.input("read", flow, source), TestingSink(out))
    run_main(flow, **how)
    return out


def copy(source: JsonlSource, sink: JsonlSink | StdoutSink, **how: Any) -> None:
    """A flow from lines to lines, that notes each line's number."""

    def numbered(chunk: LineChunk) -> tuple[str, bytes]:
        _, first, values = chunk
        return "all", b"".join(b"%d %s\n" % (number, value) for number, value in enumerate(values, first))

    flow = Dataflow("copy")
    op.output("write", op.map("number", op.input("read", flow, source), numbered), sink)
    run_main(flow, **how)


def store_in(tmp_path: Path) -> dict[str, Any]:
    """A recovery store, and a snapshot after every chunk."""
    store = tmp_path / "recovery"
    if not store.exists():
        store.mkdir()
        init_db_dir(store, 1)
    return {"recovery_config": RecoveryConfig(str(store)), "epoch_interval": timedelta(0)}


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def cause(error: BaseException, kind: type[BaseException]) -> str:
    """The message of the cause of this kind."""
    return next(str(cause) for cause in causes(error) if isinstance(cause, kind))


def test_lines_come_in_numbered_chunks(tmp_path):
    """A thousand lines a chunk, without their ends; then the end is reported."""
    lines = [b'{"n": %d}' % number for number in range(1, 2_501)]
    calls: list[Any] = []

    path = written(tmp_path, b"\n".join(lines) + b"\n")
    chunks = read(JsonlSource(path, on_end=lambda: calls.append("end"), progress=lambda *seen: calls.append(seen)))

    assert [(partition, first, len(values)) for partition, first, values in chunks] == [
        ("events.jsonl", 1, 1_000),
        ("events.jsonl", 1_001, 1_000),
        ("events.jsonl", 2_001, 500),
    ]
    assert [value for _, _, values in chunks for value in values] == lines
    assert [seen[0] for seen in calls[:-1]] == [1_000, 1_000, 500]
    shares = [seen[1] for seen in calls[:-1]]
    assert shares == sorted(shares) and shares[-1] == 1
    assert calls[-1] == "end"


@pytest.mark.parametrize(
    ("raw", "chunks"),
    [
        (b"", []),
        (b"\n \r\n\n", []),
        (b"a\n2", [(1, [b"a", b"2"])]),
        (b"a\r\nb\r\n", [(1, [b"a", b"b"])]),
        (b"\n\na\n\n \nb\nc\n\n", [(3, [b"a"]), (6, [b"b", b"c"])]),
        (b"\xef\xbb\xbfa\nb\n", [(1, [b"a", b"b"])]),
        (b"\0\xff\n\n", [(1, [b"\0\xff"])]),
    ],
)
def test_lines_of_every_sort(raw, chunks, tmp_path):
    """Blank ones are skipped and counted, Windows' ends and a last line without one are fine, other bytes pass."""
    assert [(first, values) for _, first, values in read(JsonlSource(written(tmp_path, raw)))] == chunks


def test_a_last_line_that_was_cut_short_is_an_error(tmp_path):
    """Once all others were handed out; a file that was written to its end is then gone on with."""
    path = written(tmp_path, b'{"a": 1}\n{broken\n{"b": 2}\n{"c": "half a l')
    part = JsonlSource(path).build_part("read", "jsonl", None)

    assert part.next_batch() == [("events.jsonl", 1, [b'{"a": 1}', b"{broken", b'{"b": 2}'])]
    with pytest.raises(CannotRead, match=rf"^{path}: line 4, its last, was cut short: .*copy it once more.*take that line out$"):
        part.next_batch()

    state = part.snapshot()
    part.close()
    with path.open("ab") as file:
        file.write(b'ine"}\n')
    with closing(JsonlSource(path).build_part("read", "jsonl", state)) as again:
        assert again.next_batch() == [("events.jsonl", 4, [b'{"c": "half a line"}'])]


def test_what_a_pipe_ends_with_may_be_cut_short_too(tmp_path):
    """It is said as of a file, once all others were handed out."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = Thread(target=path.write_bytes, args=(b'{"a": 1}\n{"b": "half a l',))
    writer.start()

    with closing(JsonlSource(path).build_part("read", "jsonl", None)) as part:
        assert part.next_batch() == [("pipe", 1, [b'{"a": 1}'])]
        with pytest.raises(CannotRead, match=r"line 2, its last, was cut short"):
            part.next_batch()
    writer.join()


def test_a_line_that_is_too_long_is_cut_and_says_so(tmp_path):
    """Its beginning goes on, to be rejected as too large; the lines after it are numbered right."""
    path = written(tmp_path, b"a\n" + b"x" * 3_000_000 + b"\nb\n" + b"y" * 2_000_000)

    [(_, first, [a, long, b, last])] = read(JsonlSource(path))

    assert (first, a, b) == (1, b"a", b"b")
    assert long == b"x" * MAX_LINE + b" ... (cut: the line has 3000001 bytes)"
    assert last.endswith(b"y ... (cut: the line has 2000000 bytes)")
    assert len(last) > 2**20


def test_a_line_at_the_limit_is_whole(tmp_path):
    """Cut is only what is longer, with or without an end."""
    for raw in (b"abcdefg\nb\n", b"abcdefg\nabcdefgh"):
        [(_, _, values)] = read(JsonlSource(written(tmp_path, raw), max_line=8))
        assert values == raw.split()


def test_long_lines_make_small_chunks(tmp_path):
    """A thousand lines of a megabyte would be a gigabyte at once."""
    path = written(tmp_path, b"".join(b"%d" % (number % 10) * 1_000_000 + b"\n" for number in range(20)))

    assert [(first, len(values)) for _, first, values in read(JsonlSource(path))] == [(1, 9), (10, 9), (19, 2)]


def test_a_huge_line_is_never_in_memory(tmp_path):
    """A sparse file: 10 GB without a newline would not fit."""
    import tracemalloc

    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        file.truncate(300_000_000)
    tracemalloc.start()
    try:
        [(_, _, [value])] = read(JsonlSource(path))
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    assert value.endswith(b"(cut: the line has 300000000 bytes)")


def test_a_stop_is_no_end(tmp_path):
    """`on_end` is not called when `stopping` says so."""
    seen: list[int] = []
    ends: list[str] = []
    path = written(tmp_path, b"a\n" * 5_000)

    def stopping() -> bool:
        return len(seen) == 2

    read(JsonlSource(path, stopping=stopping, on_end=lambda: ends.append("end"), progress=lambda n, _: seen.append(n)))

    assert (seen, ends) == ([1_000, 1_000], [])


@pytest.mark.parametrize("raw", [b"\n".join(b"%d" % n for n in range(1, 5_001)), b"\n\r\n".join(b"%d" % n for n in range(1, 40))])
def test_a_stopped_flow_goes_on_where_it_was(raw, tmp_path):
    """Stopped again and again, the file holds each line once, with its number."""
    path, out = written(tmp_path, raw), tmp_path / "out.jsonl"
    ends: list[str] = []

    for _ in range(100):
        seen: list[int] = []
        enough = partial(lambda seen: len(seen) == 2, seen)
        copy(
            JsonlSource(path, stopping=enough, on_end=lambda: ends.append("end"), progress=lambda n, _: seen.append(n)),  # noqa: B023
            JsonlSink(out),
            **store_in(tmp_path),
        )
        if ends:
            break

    copy(JsonlSource(path), JsonlSink(tmp_path / "once.jsonl"))
    assert ends == ["end"]
    assert out.read_bytes() == (tmp_path / "once.jsonl").read_bytes() != b""


ODD = st.sampled_from([b"", b" \t", b"{broken", b"\xff\xfe", b"x" * 40, b"y" * 33, b"\xef\xbb\xbf", b"plain", b'{"a": 1}', b"a\rb", b"\0"])


@given(
    st.lists(st.tuples(ODD, st.sampled_from([b"\n", b"\r\n"])), max_size=12),
    ODD,
    st.booleans(),
    st.integers(1, 4),
    st.lists(st.booleans(), min_size=14, max_size=14),
)
@example([(b"", b"\r\n"), (b"plain", b"\r\n"), (b"x" * 40, b"\n"), (b"", b"\n")], b"{broken", True, 1, [True] * 14)
def test_a_resume_behind_any_line_goes_on_there(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[bytes, bytes]], last: bytes, bom: bool, chunk: int, resumed: list[bool]
):
    """Blank, broken, cut ones, a last one without a newline, either end, a byte order mark: each is handed out once, by its number;
    but a last one that only begins is an error."""
    raw = (BOM if bom else b"") + b"".join(line + end for line, end in lines) + last
    path = written(tmp_path_factory.mktemp("odd"), raw)
    source = JsonlSource(path, max_line=32)
    numbered = [*enumerate([*(line + end for line, end in lines), last], 1)]
    whole = {number: line.strip() for number, line in numbered if line.strip()}
    if whole.get(1, b"").startswith(BOM) and not bom:
        whole[1] = whole[1].removeprefix(BOM).strip()
        whole = {number: line for number, line in whole.items() if line}
    only_begins = len(last) < 32 - len(BOM) and is_cut_short(last) and len(lines) + 1 in whole
    if only_begins:
        del whole[len(lines) + 1]
    fails = False
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jsonl, "CHUNK", chunk)
        part, found = source.build_part("read", "jsonl", None), dict[int, bytes]()
        for again in resumed:
            if again:
                state = part.snapshot()
                part.close()
                part = source.build_part("read", "jsonl", state)
            try:
                ((_, first, values),) = part.next_batch()
            except StopIteration:
                break
            except CannotRead:
                fails = True
                break
            assert not found.keys() & set(range(first, first + len(values))), "a line came twice"
            found |= dict(enumerate(values, first))
        part.close()

    assert (found.keys(), fails) == (whole.keys(), only_begins)
    for number, line in found.items():
        shown = 32 - len(BOM)  # of a line that is cut; the mark counts
        assert line == whole[number] if len(whole[number]) <= shown else line.startswith(whole[number][:shown])


def test_a_killed_flow_cuts_its_file_back(tmp_path):
    """What was written after the last snapshot goes, and comes again: nothing is missing, nothing double."""
    path, out = written(tmp_path, b"".join(b"%d\n" % n for n in range(1, 5_001))), tmp_path / "out.jsonl"
    seen: list[float] = []

    def die(_: int, share: float) -> None:
        seen.append(share)
        if len(seen) == 4:
            raise AbortExecution

    copy(JsonlSource(path, progress=die), JsonlSink(out), **store_in(tmp_path))
    with out.open("ab") as file:
        file.write(b"written after the snapshot, and ha")

    copy(JsonlSource(path), JsonlSink(out), **store_in(tmp_path))

    assert out.read_bytes() == b"".join(b"%d %d\n" % (n, n) for n in range(1, 5_001))


def test_a_run_that_goes_on_makes_a_file_that_was_not_made(tmp_path):
    """Killed before its flow began, a worker has a store and no file; without lines it has one all the same when it ends."""
    copy(JsonlSource(written(tmp_path, b"")), JsonlSink(tmp_path / "out.jsonl"))

    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_a_fresh_run_empties_an_old_file(tmp_path):
    """Without a recovery store there is nothing to go on from."""
    out = written(tmp_path, b"old\n" * 1_000)
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"new\n")

    copy(JsonlSource(source), JsonlSink(out))

    assert out.read_bytes() == b"1 new\n"


def test_a_run_without_a_line_leaves_an_empty_file(tmp_path):
    """Whoever reads it next finds it, without what an earlier run wrote."""
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_bytes(b"old\n")

    for out in (old, new):
        copy(JsonlSource(written(tmp_path, b"")), JsonlSink(out, fresh=True))
        assert out.read_bytes() == b""


def test_an_output_that_was_shortened_is_not_resumed(tmp_path):
    """Its lines would be missing in silence."""
    path, out = written(tmp_path, b"a\n" * 3_000), tmp_path / "out.jsonl"
    copy(JsonlSource(path, stopping=lambda: out.exists() and out.stat().st_size > 0), JsonlSink(out), **store_in(tmp_path))
    out.write_bytes(b"1 a\n")

    with pytest.raises(Exception) as raised:
        copy(JsonlSource(path), JsonlSink(out), **store_in(tmp_path))

    assert "out.jsonl: has 4 bytes, but" in cause(raised.value, CannotWrite)
    assert out.read_bytes() == b"1 a\n"


def test_an_input_that_was_shortened_is_not_resumed(tmp_path):
    """It is not the file that was read."""
    path, out = written(tmp_path, b"a\n" * 3_000), tmp_path / "out.jsonl"
    copy(JsonlSource(path, stopping=lambda: out.exists() and out.stat().st_size > 0), JsonlSink(out), **store_in(tmp_path))
    path.write_bytes(b"a\n")

    with pytest.raises(Exception) as raised:
        copy(JsonlSource(path), JsonlSink(out), **store_in(tmp_path))

    assert "events.jsonl: shorter than the 2,000 bytes that were read" in cause(raised.value, CannotRead)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.jsonl", "there is no such file"), (".", "is a folder, where a file of JSON lines was expected")],
)
def test_an_input_that_is_none(name, message, tmp_path):
    """Said before the flow runs."""
    with pytest.raises(CannotRead, match=message):
        JsonlSource(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "is a folder: name a file in it"),
        ("none/out.jsonl", "there is no folder .*none: make it first"),
        ("file/out.jsonl", "file is no folder"),
    ],
)
def test_an_output_that_can_be_none(name, message, tmp_path):
    """Said before the flow runs, and nothing is made or changed."""
    (tmp_path / "file").write_bytes(b"kept")

    with pytest.raises(CannotWrite, match=message):
        JsonlSink(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_an_output_that_may_not_be_written(own_folder):
    """A folder without the permission, and a file without; with it, they may."""
    (own_folder / "folder").mkdir(mode=0o500)
    (own_folder / "file").touch(mode=0o400)

    check_writable(own_folder / "out.jsonl")
    for path in (own_folder / "folder" / "out.jsonl", own_folder / "file"):
        with pytest.raises(CannotWrite, match="may not be written: check its permissions"):
            check_writable(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_says_so(tmp_path):
    """The flow stops, and the cause of what Bytewax raises says what to do."""
    with pytest.raises(Exception) as raised:
        copy(JsonlSource(written(tmp_path, b"a\n")), JsonlSink(Path("/dev/full")))

    assert cause(raised.value, CannotWrite) == ("/dev/full: the disk is full: free some space and run it again; what was written is kept")


def test_a_full_disk_leaves_whole_lines(tmp_path):
    """A blob that fits in part is taken back."""
    resource = pytest.importorskip("resource")
    out = tmp_path / "out.jsonl"
    partition = JsonlSink(out).build_part("write", "jsonl", None)
    partition.write_batch([b"first\n"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    # Python ignores SIGXFSZ, so that a file at its limit fails after a short write, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(CannotWrite) as raised:
            partition.write_batch([b"second\n" * 1_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert "out.jsonl: can't be written (File too large)" in str(raised.value)
    assert out.read_bytes() == b"first\n"
    partition.write_batch([b"third\n"])
    partition.close()
    assert out.read_bytes() == b"first\nthird\n"


def test_devices_can_be_written():
    """`/dev/null` can be neither cut nor synced."""
    check_writable(Path("/dev/null"))
    partition = JsonlSink(Path("/dev/null")).build_part("write", "jsonl", None)
    partition.write_batch([b"a\n", b"b\n"])
    assert [size for _, size, _ in partition.snapshot()] == [4]
    partition.close()


def test_short_writes_are_gone_on_with():
    """A pipe takes 64 KiB at a time."""
    reading, writing = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", "import sys; print(len(sys.stdin.buffer.read()))"], stdin=reading, stdout=-1)
    os.close(reading)
    write_all(writing, b"x" * 1_000_000)
    os.close(writing)
    assert child.communicate()[0] == b"1000000\n"


def test_every_error_of_a_disk_names_the_file():
    """And what to do."""
    assert "disk is full" in str(cannot_write("a", OSError(errno.EDQUOT, "Disk quota exceeded")))
    assert str(cannot_write("a", OSError(errno.EROFS, "Read-only file system"))).startswith("a: can't be written (Read-only")


TO_STDOUT = """
import sys
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, run_main
from beepgpt.connectors.files.jsonl import StdoutSink

closed = []
flow = Dataflow("out")
blobs = (("all", b"%d\\n" % number * 1000) for number in range(1000))
op.output("write", op.input("read", flow, TestingSource(blobs)), StdoutSink(lambda: closed.append("closed")))
run_main(flow)
print(closed, file=sys.stderr)
"""


def run_to(stdout: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", TO_STDOUT], stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT)


def test_standard_output_gets_the_lines():
    """All of them, in order."""
    out, err = run_to(subprocess.PIPE).communicate()

    assert out == b"".join(b"%d\n" % number * 1_000 for number in range(1_000))
    assert err == b"[]\n"


def test_a_reader_that_has_gone_is_no_error():
    """As with `| head -1`: it is reported once, and nothing is complained about, also at exit."""
    child = run_to(subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"0\n"
    child.stdout.close()

    assert child.stderr is not None
    assert child.stderr.read() == b"['closed']\n"
    child.stderr.close()
    assert child.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_standard_output_on_a_full_disk():
    """As for a file."""
    with open("/dev/full", "wb") as full:
        child = run_to(full)
        _, err = child.communicate()

    assert b"CannotWrite: standard output: the disk is full" in err
    assert b"Exception ignored" not in err
    assert child.returncode == 1


def test_samples_are_whole_lines_from_all_over(tmp_path: Path):
    """Of a large file some, of a small one all but the last, of which nobody knows here whether it is whole."""
    path = tmp_path / "events.jsonl"
    lines = [b"%06d" % number for number in range(50_000)]
    path.write_bytes(b"\n".join(lines) + b"\n")

    found = samples(path, places=4, size=700)

    assert set(found) <= set(lines) and len(found) >= 4 * 98
    assert found[0] == lines[0] and found[-1] == lines[-1] and b"025000" > found[100] > b"010000"
    assert samples(path, size=1 << 20).count(lines[7]) == 1
    assert samples(Path("/dev/null")) == []


def test_old_lines_are_overwritten_where_they_stand(tmp_path, monkeypatch):
    """30 whole days after they were written: at the start, while a run goes on, and after a kill on the way; all others stay in place."""
    out, days = tmp_path / "late.jsonl", [20_000]
    monkeypatch.setattr("beepgpt.clock.time.time", lambda: days[0] * 86_400 + 5.0)
    sink = JsonlSink(out, kept=30)
    partition = sink.build_part("write", "jsonl", None)
    partition.write_batch([b"first day\n" * 200_000])
    days[0] += 20
    partition.write_batch([b"later\n"])
    snapshot = partition.snapshot()
    whole = out.read_bytes()
    partition.close()

    def shown() -> tuple[int, set[bytes]]:
        return out.stat().st_size, {line.strip() for line in out.read_bytes().splitlines()}

    for day, left in ((20_030, {b"first day", b"later"}), (20_031, {b"", b"later"}), (20_050, {b"", b"later"}), (20_051, {b""})):
        days[0] = day
        resumed = sink.build_part("write", "jsonl", snapshot)  # the same snapshot each time, as if each run was killed before its first
        assert shown() == (len(whole), left)
        resumed.close()
    read = JsonlSource(out).build_part("read", "jsonl", None)
    with pytest.raises(StopIteration):  # blank lines are none
        read.next_batch()
    read.close()

    out.write_bytes(whole)
    days[0] = 20_050
    quiet = sink.build_part("write", "jsonl", snapshot)
    days[0] = 20_051
    quiet.snapshot()  # nothing more is written
    assert shown() == (len(whole), {b""})
    quiet.close()

    out.write_bytes(whole)
    days[0] = 20_030
    running = sink.build_part("write", "jsonl", snapshot)
    days[0] = 20_031
    running.write_batch([b"now\n"])
    assert shown() == (len(whole) + 4, {b"", b"later", b"now"})
    assert [day for day, *_ in running.snapshot()] == [0, 20_020, 20_031]
    last = running.snapshot()
    running.close()
    days[0] = 20_032
    sink.build_part("write", "jsonl", last).close()
    out.write_bytes(out.read_bytes().replace(b"later", b"LATER"))
    with pytest.raises(CannotWrite, match="was changed since this run was stopped"):
        sink.build_part("write", "jsonl", last)
