"""Lines of files in one order, whoever wrote them, and through kills."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.files.ordering import by_place, by_time, put_in_order
from beepgpt.errors import CannotWrite
from beepgpt.locks import take

SETTLED = by_time("settled_ts")
SECOND = 1_000_000


def example(number: int, at: int) -> bytes:
    """An example's line; its text looks like another time."""
    return b'{"id":"%032x","settled_ts":"%d.%06d","prompt":"\\"settled_ts\\":\\"7.000000\\""}\n' % (number, at // SECOND, at % SECOND)


def written(folder: Path, lines: Sequence[Sequence[bytes]]) -> list[Path]:
    """A file for each worker, with its lines."""
    pieces = [folder / f"examples-{number}.jsonl" for number in range(len(lines))]
    for piece, own in zip(pieces, lines, strict=True):
        piece.write_bytes(b"".join(own))
    return pieces


@given(st.lists(st.tuples(st.integers(SECOND - 5, SECOND + 5), st.integers(0, 99)), unique=True, max_size=30), st.integers(1, 4))
def test_the_order_is_that_of_time_and_then_of_ids(drawn: list[tuple[int, int]], workers: int):
    """However the lines are spread over files, and in whatever order they stand there."""
    spread = [[example(number, at) for at, number in drawn[worker::workers]] for worker in range(workers)]
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "o.jsonl"
        put_in_order(written(Path(folder), spread), to, SETTLED)

        assert to.read_bytes() == b"".join(example(number, at) for at, number in sorted(drawn))
        assert [each.name for each in Path(folder).iterdir()] == ["o.jsonl"]


def test_dead_letters_stand_as_their_records_stood(tmp_path: Path):
    """By the number of the record, not by its digits; what has expired is left out."""
    letters = [b'{"reason":"late","place":"events.jsonl:%d","record":"{\\"place\\":\\"x:1\\"}"}\n' % number for number in (9, 100, 20)]
    to = tmp_path / "o.late.jsonl"
    to.write_bytes(b" " * 99 + b"\n" + b"".join(letters))

    put_in_order([to], to, by_place())

    assert to.read_bytes() == letters[0] + letters[2] + letters[1]


def test_what_is_in_order_stays_as_it_is(tmp_path: Path):
    """It is the same file, not a copy; another one keeps its permissions, and a link still leads there."""
    to, link = tmp_path / "o.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(to)
    to.write_bytes(example(1, 1) + example(2, 2))
    to.chmod(0o640)
    before = to.stat()

    put_in_order([to], to, SETTLED)
    assert to.stat() == before

    to.write_bytes(example(2, 2) + example(1, 1))
    put_in_order([link], link, SETTLED)
    assert to.read_bytes() == example(1, 1) + example(2, 2)
    assert link.is_symlink() and to.stat().st_mode == before.st_mode


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from beepgpt.connectors.files.ordering import by_time, put_in_order
left, folder = int(sys.argv[1]), Path(sys.argv[2])
def look(event, args):
    global left
    if event in ("os.rename", "os.remove", "open") and str(folder) in str(args[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
put_in_order([folder / name for name in sys.argv[3:]], folder / "o.jsonl", by_time("settled_ts"))
"""


def in_a_process(moment: int, folder: Path, names: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The call in a process of its own, which is killed at its file number `moment`; 0: nobody kills it."""
    command = [sys.executable, "-c", KILLED_AT, str(moment), str(folder), *names]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("names", [["o.jsonl"], ["examples-0.jsonl", "examples-1.jsonl"]], ids=["in place", "two pieces"])
def test_killed_anywhere_the_same_call_does_the_rest(names: list[str], tmp_path: Path):
    """Before each file that it opens, names or removes."""
    lines = [example(number, -number % 5) for number in range(20)]
    whole = b"".join(example(number, at) for at, number in sorted((-number % 5, number) for number in range(20)))
    status, moment = -signal.SIGKILL, 0
    while status == -signal.SIGKILL:
        moment += 1
        folder = tmp_path / str(moment)
        folder.mkdir()
        for number, name in enumerate(names):
            (folder / name).write_bytes(b"".join(lines[number :: len(names)]))
        status = in_a_process(moment, folder, names).returncode

        put_in_order([folder / name for name in names], folder / "o.jsonl", SETTLED)
        assert (folder / "o.jsonl").read_bytes() == whole
        assert not any((folder / name).exists() for name in names if name != "o.jsonl")
    assert status == 0 and moment > 5


def test_a_full_disk_takes_nothing_away(tmp_path: Path):
    """The pieces stay as they are, nothing else is left, and the message says where there is no room."""
    pieces = written(tmp_path, [[example(number, -number % 500) for number in range(500)], [example(900, 1)]])
    before = {piece: piece.read_bytes() for piece in pieces}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CannotWrite, match=str(tmp_path)):
            put_in_order(pieces, tmp_path / "o.jsonl", SETTLED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)

    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_what_another_run_writes_is_left_alone(tmp_path: Path):
    """A second run that has begun the file again is not disturbed."""
    to = tmp_path / "o.jsonl"
    to.write_bytes(example(2, 2) + example(1, 1))
    with to.open("r+b") as file:
        take(file.fileno(), CannotWrite("ours"))
        ran = in_a_process(0, tmp_path, ["o.jsonl"])

    assert ran.returncode != 0 and "another run writes to it" in ran.stderr
    assert to.read_bytes() == example(2, 2) + example(1, 1)
    assert os.listdir(tmp_path) == ["o.jsonl"]
