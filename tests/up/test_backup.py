"""A copy of the data folder that is made while it is written to."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.errors import CannotWrite
from beepgpt.up.backup import back_up
from beepgpt.up.folder import DataFolder
from tests.support import run_program

TOPIC = "slack.events"


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """One with a topic, a reader's position, a model, and files that are no part of it: of a next generation, too."""
    folder = DataFolder(tmp_path / "live")
    os.close(folder.take())
    log_in(folder.path).create([TopicSpec(TOPIC, 1), TopicSpec(folder.next.topic_name("events"), 1)])
    (folder.next.recovery("examples")).mkdir(parents=True)
    (folder.next.recovery("examples") / "run.json").write_bytes(b"{}")
    state = folder.recovery("examples") / "worker-0" / "part-0.sqlite3"
    state.parent.mkdir(parents=True)
    with closing(sqlite3.connect(state)) as base:
        base.executescript("PRAGMA journal_mode = WAL; CREATE TABLE position (next INTEGER); INSERT INTO position VALUES (0);")
    (folder.model / "versions").mkdir(parents=True)
    (folder.model / "versions" / "weights").write_bytes(b"w" * 70_000)
    (folder.model / "live.json.new").write_bytes(b"half")
    return folder


def log_in(folder: Path) -> SqliteLog:
    """The log of a data folder."""
    return SqliteLog(f"sqlite://{folder / 'log'}")


def position_in(folder: Path) -> int:
    """How many records its reader has read."""
    with closing(sqlite3.connect(folder / "state" / "examples" / "worker-0" / "part-0.sqlite3")) as base:
        return int(base.execute("SELECT next FROM position").fetchone()[0])


@contextmanager
def running(data: DataFolder) -> Iterator[None]:
    """While in here records are written, and read once they are there."""
    stop, begun = threading.Event(), threading.Event()
    state = data.recovery("examples") / "worker-0" / "part-0.sqlite3"

    def work() -> None:
        with log_in(data.path).writer(TOPIC) as writer, closing(sqlite3.connect(state)) as base:
            for number in range(1_000_000):
                writer.send([OutgoingRecord(b"C1", b"%d" % number)])
                writer.flush()
                base.execute("UPDATE position SET next = ?", (number + 1,))
                base.commit()
                if number == 20:
                    begun.set()
                if stop.is_set():
                    return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        stop.set()
        thread.join()


def test_a_copy_of_what_runs_is_whole_and_no_reader_in_it_is_ahead(data: DataFolder, tmp_path: Path):
    """Its log has each record up to some moment, and its reader has read no more than these."""
    copies = [tmp_path / "backups" / str(number) for number in range(5)]
    with running(data):
        reports = [back_up(data, each) for each in copies]

    before = 20
    for copy, report in zip(copies, reports, strict=True):
        values = [int(record.value or b"") for _, record in log_in(copy).records(TOPIC)]
        position = position_in(copy)
        assert values == list(range(len(values))) and before <= position <= len(values)
        before = position
        files = {str(each.relative_to(copy)) for each in copy.rglob("*") if each.is_file() and "-" not in each.suffix}
        assert files == {"up.json", "log/slack.events.topic", "state/examples/worker-0/part-0.sqlite3", "model/versions/weights"}
        assert report["files"] == len(files) and report["bytes"] > 70_000
        assert {each.stat().st_mode & 0o077 for each in (copy, *copy.rglob("*"))} == {0}


def test_a_copy_is_there_whole_or_not_at_all(data: DataFolder, tmp_path: Path):
    """A damaged file is told of, and nothing is left."""
    path = data.path / "log" / "slack.events.topic"
    content = bytearray(path.read_bytes())
    content[20_000:60_000] = b"x" * 40_000
    path.write_bytes(content)
    with pytest.raises(CannotWrite, match="no copy was made"):
        back_up(data, tmp_path / "copy")

    assert sorted(each.name for each in tmp_path.iterdir()) == ["live"]


def test_a_copy_that_is_killed_before_it_is_whole_is_none(data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its name comes last; the same command begins anew."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("beepgpt.up.backup.move_into_place", killed)  # as by a kill just before
        back_up(data, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    back_up(data, tmp_path / "copy")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy", "live"]


def test_a_copy_of_two_generations_is_none(data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where a rebuild ends while it is made, the same command makes one of the new generation."""
    with (
        monkeypatch.context() as patched,
        pytest.raises(CannotWrite, match="a new generation of its log has become the live one meanwhile"),
    ):
        patched.setattr("beepgpt.up.backup.os.sync", lambda: data.swap(history=""))
        back_up(data, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert back_up(data, tmp_path / "copy")["files"] > 0


def test_the_command_names_what_it_can_t_do(data: DataFolder, tmp_path: Path):
    """A folder that is not up's, a copy that is there, a copy inside of what is copied."""
    (tmp_path / "there").mkdir()
    for source, to, why in (
        (tmp_path / "there", tmp_path / "new", "is no folder of `beepgpt up`"),
        (data.path, tmp_path / "there", "is there already"),
        (data.path, data.path / "copies" / "new", "in what is copied"),
    ):
        done = run_program("backup", "--data", source, "--to", to)
        assert done.returncode == 2 and why in done.stderr, done.stderr

    done = run_program("backup", "--data", data.path, "--to", tmp_path / "new")
    assert done.returncode == 0 and done.stdout.startswith("4 files, "), done
