"""A run that is interrupted or killed, as its user meets it: what it leaves, who may go on with it, and who may not."""

import fcntl
import os
import pickle
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cli import ROOT
from tests.support.command_line import events, lines_of, over, report_in, run, size, started
from tests.support.speed import wait_until

# Interrupts and kills


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder with an input of some seconds, and its examples, sorted."""
    folder = tmp_path_factory.mktemp("long")
    events(folder / "in.jsonl", 8_000, channels=6)
    assert run(folder, "examples", "in.jsonl", "--to", "o.jsonl").status == 0
    return folder / "in.jsonl", b"\n".join(sorted((folder / "o.jsonl").read_bytes().splitlines()))


def test_ctrl_c_keeps_what_was_done(long, tmp_path):
    """Status 130; what the account says was made is in the file, whole; how to have it go on the next time is told."""
    source, _ = long
    process = started(tmp_path, "examples", str(source), "--to", "o.jsonl", "--report", "report.json")
    wait_until(lambda: size(tmp_path / "o.jsonl"), "it is at work")
    process.send_signal(signal.SIGINT)
    ran = over(process)

    assert ran.status == 130
    assert "Interrupted; what was done is kept (give --recovery DIR to go on where a run stopped).\n" in ran.err
    account = report_in(tmp_path)["account"]
    assert 0 < account["examples"] == len(lines_of(tmp_path / "o.jsonl"))
    assert account["events"]["read"] < 8_000


def test_a_library_that_is_being_loaded_makes_no_fault_of_an_end(tmp_path):
    """Some are, in C, by which the end of a process comes out as an error of theirs."""
    events(tmp_path / "in.jsonl", 10)
    library = tmp_path / "libraries" / "tiktoken.py"
    library.parent.mkdir()
    end = "os.kill(os.getpid(), signal.SIGTERM)\nexcept SystemExit as end:\n    raise SystemError('failed to load') from end\n"
    library.write_text(f"import os, signal\ntry:\n    {end}")
    path = os.pathsep.join([str(library.parent), str(ROOT)])
    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl", env={"PYTHONPATH": path})

    assert (ran.status, ran.err) == (130, "beepgpt: interrupted\n")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.slow
def test_an_interrupted_run_goes_on(workers, long, tmp_path):
    """With --recovery the same command goes on, and ends with what a run without an interrupt makes. Then it is done for good."""
    source, whole = long
    command = ["examples", str(source), "--to", "o.jsonl", "--recovery", "memory", "--snapshot-every", "100ms", "--workers", workers]
    process = started(tmp_path, *command)
    wait_until(lambda: sum(size(path) > 0 for path in tmp_path.rglob("*.jsonl")) == int(workers), "it is at work")
    process.send_signal(signal.SIGINT)
    ran = over(process)

    assert ran.status == 130
    assert "Interrupted; what was done is kept (run the same command again to go on).\n" in ran.err

    ran = run(tmp_path, *command, "--report", "report.json")
    assert (ran.status, report_in(tmp_path)["account"]["events"]["read"]) == (0, 8_000)
    assert b"\n".join(sorted((tmp_path / "o.jsonl").read_bytes().splitlines())) == whole

    ran = run(tmp_path, *command)
    assert ran.status == 0 and "This run has ended already, and nothing was done: delete memory to run it again.\n" in ran.err
    assert b"\n".join(sorted((tmp_path / "o.jsonl").read_bytes().splitlines())) == whole


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait(workers, long, tmp_path):
    """The first one lets the work in hand be finished, the second one ends it: 130 either way, no traceback, and nobody is left."""
    source, _ = long
    process = started(tmp_path, "examples", str(source), "--to", "o.jsonl", "--workers", workers)
    wait_until(lambda: sum(map(size, tmp_path.rglob("*.jsonl"))), "it is at work")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    ran = over(process)

    assert ran.status == 130
    assert "Traceback" not in ran.err and "panicked" not in ran.err


def test_ctrl_c_before_the_work_has_begun(long, tmp_path):
    """While the processes still start: 130 and one line."""
    source, _ = long
    process = started(tmp_path, "examples", str(source), "--to", "o.jsonl", "--workers", "2")
    wait_until(lambda: len(children_of(process.pid)) == 2, "it is at work")
    process.send_signal(signal.SIGINT)
    ran = over(process)

    assert ran.status == 130
    assert "Traceback" not in ran.err and "nterrupted" in ran.err


def children_of(pid: int) -> list[int]:
    """The processes that a process started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found by /proc")
@pytest.mark.slow
def test_a_worker_that_was_killed_stops_the_run(long, tmp_path):
    """As when memory runs out: status 1, one line that says so, the others stop, and the same command goes on to the same end."""
    source, whole = long
    command = ["examples", str(source), "--to", "o.jsonl", "--recovery", "memory", "--snapshot-every", "100ms", "--workers", "2"]
    process = started(tmp_path, *command)
    wait_until(lambda: size(tmp_path / "o.jsonl.parts" / "examples-1.jsonl"), "it is at work")
    children = children_of(process.pid)
    os.kill(children[0], signal.SIGKILL)
    ran = over(process)

    assert ran.status == 1
    assert "one of the run's processes was killed (SIGKILL): perhaps memory ran out" in ran.line
    assert "With --recovery, the same command goes on" in ran.line
    assert not any(Path(f"/proc/{child}").exists() for child in children)

    assert run(tmp_path, *command).status == 0
    assert b"\n".join(sorted((tmp_path / "o.jsonl").read_bytes().splitlines())) == whole
    assert not (tmp_path / "o.jsonl.parts").exists()


@pytest.mark.slow
def test_workers_of_a_run_that_was_killed_end_with_it(long, tmp_path):
    """Nobody goes on for a run that is gone; until all are, its recovery folder is in use."""
    source, _ = long
    process = started(tmp_path, "examples", str(source), "--to", "o.jsonl", "--recovery", "memory", "--workers", "2")
    wait_until(lambda: size(tmp_path / "o.jsonl.parts" / "examples-1.jsonl"), "it is at work")
    children = children_of(process.pid)
    process.kill()
    over(process)
    lock = os.open(tmp_path / "memory" / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.close(lock)

    wait_until(lambda: not any(is_running(child) for child in children), "its workers have ended")


def is_running(pid: int) -> bool:
    """Whether a process is there, and not just its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Recovery folders of other runs


@pytest.mark.slow
def test_two_runs_do_not_share_a_recovery_folder(long, tmp_path):
    """The second one is refused while the first one goes; the first one takes no notice."""
    source, _ = long
    command = ["examples", str(source), "--to", "o.jsonl", "--recovery", "memory"]
    process = started(tmp_path, *command)
    wait_until(lambda: size(tmp_path / "o.jsonl"), "it is at work")
    process.send_signal(signal.SIGSTOP)  # or it might be done before the second one looks
    second = run(tmp_path, *command)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)

    assert (second.status, second.line) == (1, "memory: another run is using it now: wait until that is over, or name another")
    assert over(process).status == 130


@pytest.mark.slow
def test_two_runs_do_not_share_a_file(long, tmp_path):
    """Without a recovery folder, too: the second one is refused while the first one writes, and changes nothing of it."""
    source, _ = long
    command = ["examples", str(source), "--to", "o.jsonl"]
    process = started(tmp_path, *command)
    wait_until(lambda: size(tmp_path / "o.jsonl"), "it is at work")
    process.send_signal(signal.SIGSTOP)  # or it might be done before the second one looks
    os.waitpid(process.pid, os.WUNTRACED)  # until it stands still, it may be writing
    before = (tmp_path / "o.jsonl").read_bytes()
    second = run(tmp_path, *command)
    after = (tmp_path / "o.jsonl").read_bytes()
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)

    assert (second.status, second.line) == (1, "o.jsonl: another run writes to it: wait until that is over, or name another file")
    assert before == after and over(process).status == 130


@pytest.fixture(scope="module")
def stopped(long, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was stopped and can go on."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "in.jsonl").write_bytes(long[0].read_bytes())
    process = started(folder, "examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "memory", "--snapshot-every", "1ms")
    wait_until(lambda: size(folder / "o.jsonl"), "it is at work")
    process.send_signal(signal.SIGINT)
    assert over(process).status == 130
    return folder


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["in.jsonl", "--to", "o.jsonl", "--window", "3"], "window was 5 and is 3"),
        (["in.jsonl", "--to", "o.jsonl", "--workers", "2"], "workers was 1 and is 2"),
        (["in.jsonl", "--to", "o.jsonl", "--until", "2024-01-01"], "until was not given and is 1704067200.000000"),
        (["in.jsonl", "--to", "p.jsonl"], "/p.jsonl)"),
        (["other.jsonl", "--to", "o.jsonl"], "/other.jsonl)"),
    ],
)
@pytest.mark.slow
def test_another_run_is_refused(args, said, stopped):
    """What was another than it is now, and what to do."""
    events(stopped / "other.jsonl", 3)

    ran = run(stopped, "examples", *args, "--recovery", "memory")

    assert ran.status == 1
    assert ran.line.startswith("memory: is the recovery folder of another run (") and said in ran.line
    assert "give what was given then, or delete it and start again" in ran.line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw[:100], "in.jsonl: shorter than the"),
        (lambda raw: raw.replace(b"number", b"digit", 7), "in.jsonl: was changed since this run was stopped: no line begins at byte"),
    ],
)
@pytest.mark.slow
def test_an_input_that_is_another_now_is_refused(change, said, stopped):
    """To go on in the middle of something else would make a mixture of both."""
    source = stopped / "in.jsonl"
    before = source.read_bytes()
    source.write_bytes(change(before))
    ran = run(stopped, "examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "memory", "--snapshot-every", "1ms")
    source.write_bytes(before)

    assert ran.status == 1
    assert said in ran.line and "give the same file as before, or start again" in ran.line


def test_an_output_that_was_shortened_is_refused(stopped):
    """The lines that are gone would not be written again."""
    path = stopped / "o.jsonl"
    before = path.read_bytes()
    path.write_bytes(b"")
    ran = run(stopped, "examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "memory")
    path.write_bytes(before)

    assert ran.status == 1 and "o.jsonl: has 0 bytes, but" in ran.line and "start again" in ran.line


def test_an_output_that_was_changed_is_refused(stopped):
    """Of the same length, but with other bytes before the cut: a mixture would come of it."""
    path = stopped / "o.jsonl"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"nil", b"lin", 1) if b"nil" in before else b"[" + before[1:])
    ran = run(stopped, "examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "memory")
    path.write_bytes(before)

    assert ran.status == 1 and ran.line.startswith("o.jsonl: was changed since this run was stopped") and "start again" in ran.line


@pytest.mark.parametrize(("place", "mode"), [(".", 0o770), ("run.json", 0o602), ("worker-0", 0o707)])
def test_a_recovery_folder_that_others_may_write_is_refused(place, mode, stopped):
    """It holds pickles: who writes there runs code."""
    path = stopped / "memory" / place
    before = path.stat().st_mode
    path.chmod(mode)
    ran = run(stopped, "examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "memory")
    path.chmod(before)

    assert ran.status == 1 and "others may write it" in ran.line and "`chmod -R go-rwx memory`" in ran.line

    if place == ".":
        (stopped / "link").symlink_to("memory")
        path.chmod(mode)
        assert "others may write it" in run(stopped, "examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "link").line
        path.chmod(before)


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_it_starts_ends_it_cleanly(asked, tmp_path):
    """Before any command listens: status 130 and a line, no traceback."""
    events(tmp_path / "in.jsonl", 3)
    process = started(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl")
    caught = 1 << (signal.SIGTERM - 1)  # which Python itself leaves alone
    wait_until(
        lambda: int(Path(f"/proc/{process.pid}/status").read_text().partition("SigCgt:\t")[2].split()[0], 16) & caught, "it is at work"
    )
    process.send_signal(asked)

    ended = over(process)
    assert (ended.status, ended.err) == (130, "beepgpt: interrupted\n")


@pytest.mark.parametrize("note", ["", "{oops", "[]"])
@pytest.mark.slow
def test_a_recovery_folder_that_was_damaged(note, tmp_path):
    """Its note can't be read: what to do is told."""
    events(tmp_path / "in.jsonl", 3)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "run.json").write_text(note)

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "memory")

    assert ran.status == 1
    assert ran.line.startswith("memory/run.json: ") and "delete memory and start again" in ran.line


def test_a_store_that_was_damaged(stopped, tmp_path):
    """The engine's own words would be a panic."""
    subprocess.run(["cp", "-r", str(stopped / "memory"), str(tmp_path / "kept")], check=True)
    (store,) = (stopped / "memory" / "worker-0").glob("*.sqlite3")
    store.write_bytes(b"oops" * 1000)
    ran = run(stopped, "examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "memory")
    store.write_bytes((tmp_path / "kept" / "worker-0" / store.name).read_bytes())

    assert ran.status == 1
    assert ran.line.startswith("memory: its store is damaged: delete it and start again")


@pytest.mark.parametrize("blob", [b"oops", b"\x80\x05\x8c\x04\xff\xff\xff\xff.", pickle.dumps({"a": 1})])
@pytest.mark.slow
def test_a_snapshot_that_was_damaged(blob, stopped, tmp_path):
    """In a store that is whole otherwise: the same words."""
    (store,) = (stopped / "memory" / "worker-0").glob("*.sqlite3")
    before = store.read_bytes()
    with closing(sqlite3.connect(store)) as db, db:
        assert db.execute("UPDATE snaps SET ser_change = ? WHERE step_id LIKE '%.follow_channels'", [blob]).rowcount
    ran = run(stopped, "examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "memory")
    store.write_bytes(before)

    assert ran.status == 1
    assert ran.line.startswith("memory: its store is damaged: delete it and start again") and "Traceback" not in ran.err
