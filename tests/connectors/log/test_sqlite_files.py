"""The files of a folder of topics: made, deleted, linked, copied, put back."""

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from beepgpt.connectors.log import (
    BadAddress,
    LogFailed,
    NotDelivered,
    OffsetsGone,
    OutgoingRecord,
    TopicChanged,
    TopicInUse,
    TopicSpec,
    WrongTopic,
    chunks_of,
    folder_place,
    parse_address,
)
from beepgpt.connectors.log.source import LogPartition
from beepgpt.connectors.sqlite import topic_files
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.connectors.sqlite.writer import SqliteWriter
from tests.support.kafka_records import failing, numbered
from tests.support.logs import all_on, records_in, topic_on, write_to
from tests.support.speed import wait_until

KILLED = """
import os, signal, sys
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.connectors.sqlite.log import SqliteLog

writer = SqliteLog(sys.argv[1]).writer(sys.argv[2])
writer.send([OutgoingRecord(b"k", b"old")])
writer.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_new_topic_has_no_records_of_one_of_its_name(files: SqliteLog):
    """A writer was killed, so that its write-ahead log stayed; then somebody removed the file by hand."""
    topic = topic_on(files, 1)
    subprocess.run([sys.executable, "-c", KILLED, files.place, topic], check=False)
    path = topic_files.path_of(files.folder, topic)
    assert b"old" in Path(f"{path}-wal").read_bytes()
    path.unlink()

    assert files.create([TopicSpec(topic, 1)]) == ([topic], [])

    assert (all_on(files, topic), files.bounds(topic)) == ([], {0: (0, 0)})


def test_a_topic_that_is_deleted_leaves_no_records_in_its_log(files: SqliteLog, monkeypatch):
    """Though it be killed after it removed the first file."""
    topic = topic_on(files, 1)
    subprocess.run([sys.executable, "-c", KILLED, files.place, topic], check=False)
    path = topic_files.path_of(files.folder, topic)
    reader = files.source(topic).build_part("read", "0", None)
    assert values_of(reader) == [b"old"]  # keeps the log from being removed
    sizes: list[int] = []
    unlink = Path.unlink

    def looked_at(each: Path, missing_ok: bool = False) -> None:
        if each == path:
            sizes.append(Path(f"{path}-wal").stat().st_size)
        unlink(each, missing_ok)

    monkeypatch.setattr(Path, "unlink", looked_at)
    files.delete(topic)
    reader.close()

    assert sizes == [0]


def values_of(part: LogPartition) -> list[bytes | None]:
    return [record.value for record in records_in(part.next_batch())]


def test_a_writer_that_can_not_begin_leaves_nothing_open(files: SqliteLog, monkeypatch):
    """Neither the file nor its lock, however long somebody keeps the error."""
    topic = topic_on(files, 1, cleanup_policy="compact")

    def refuse(*_: object) -> None:
        raise OSError("no more threads")

    monkeypatch.setattr("beepgpt.connectors.sqlite.writer.Cleaner", refuse)
    with pytest.raises(NotDelivered, match="no more threads") as raised:
        files.writer(topic)

    assert [name for name in opened_here() if topic in name] == [] and raised.value is not None


def opened_here() -> list[str]:
    """The files that this process has open."""
    return [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]


def test_one_lock_is_for_all_who_wait_for_it(files: SqliteLog):
    """A topic that was deleted and made again has the lock that was opened before."""
    topic = topic_on(files, 1)
    before = (files.folder / f"{topic}.lock").stat().st_ino
    files.delete(topic)
    files.create([TopicSpec(topic, 1)])

    assert (files.folder / f"{topic}.lock").stat().st_ino == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_topic_has_one_name(files: SqliteLog, tmp_path: Path, link):
    """Under another one, a second writer would have another lock."""
    topic = topic_on(files, 1)
    other = SqliteLog(folder_place(str(tmp_path / "other")))
    other.folder.mkdir()
    link(topic_files.path_of(files.folder, topic), topic_files.path_of(other.folder, topic))

    assert "second name (a link)" in failing(lambda: other.writer(topic), LogFailed)


def test_the_processes_of_a_run_keep_its_topics(files: SqliteLog):
    """What holds them is given to them, so that nobody else gets in while one of them lives."""
    topic = topic_on(files, 1)
    with files.held([topic]) as held:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=list(held))
    with child:
        assert "another process writes" in failing(lambda: files.writer(topic), TopicInUse)
        child.communicate(b"\n")
    files.writer(topic).close()


# The commit thread


@pytest.mark.parametrize(
    "odd", [OutgoingRecord(b"k", b"v", (), 7), OutgoingRecord(b"k", b"v", [("h" * 70_000, b"")])], ids=["place", "name"]
)
def test_a_record_that_can_not_be_written_hangs_nobody(files: SqliteLog, odd):
    topic = topic_on(files, 1)
    said: list[str] = []
    with closing(files.writer(topic)) as writer:
        waiting = threading.Thread(target=lambda: said.append(failing(lambda: flushed(writer, odd), NotDelivered)), daemon=True)
        waiting.start()
        waiting.join(30)

    assert len(said) == 1 and "can't be written" in said[0]


def flushed(writer: SqliteWriter, record: OutgoingRecord) -> None:
    writer.send([record])
    writer.flush()


def test_a_compacted_topic_takes_no_record_without_a_key(files: SqliteLog):
    """As brokers don't."""
    topic = topic_on(files, 1, cleanup_policy="compact")

    assert "has no key" in failing(lambda: write_to(files, topic, OutgoingRecord(None, b"v")), NotDelivered)


# Readers


def until(part: LogPartition) -> None:
    """Polls until it fails."""
    for _ in range(1_000):
        part.next_batch()
        time.sleep(0.01)


@pytest.fixture
def looks_often(monkeypatch) -> None:
    monkeypatch.setattr("beepgpt.connectors.log.source.CHECK", 0.05)


def put_back(backup: Path, path: Path) -> None:
    """A backup takes the place of a topic's file."""
    shutil.copy(backup, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    for each in ("-wal", "-shm"):
        Path(f"{path}{each}").unlink(missing_ok=True)


def backed_up(files: SqliteLog, topic: str, tmp_path: Path) -> Path:
    """A copy of a topic that nobody has open."""
    return Path(shutil.copy(topic_files.path_of(files.folder, topic), tmp_path / "backup"))


def test_a_follower_notices_a_backup_that_is_put_back(files: SqliteLog, tmp_path: Path, looks_often):
    """The file that it has open has no name any more."""
    topic = topic_on(files, 1)
    write_to(files, topic, *numbered(5, partition=0))
    backup = backed_up(files, topic, tmp_path)
    part = files.source(topic, follow=True).build_part("read", "0", None)
    part.next_batch()
    put_back(backup, topic_files.path_of(files.folder, topic))

    assert "another file was put in the place" in failing(lambda: until(part), TopicChanged)
    part.close()


def test_a_follower_ahead_of_its_topic_says_so(files: SqliteLog, tmp_path: Path):
    """A backup was put back between the start of the run and its first look."""
    topic = topic_on(files, 1)
    write_to(files, topic, *numbered(5, partition=0))
    backup = backed_up(files, topic, tmp_path)
    write_to(files, topic, *numbered(3, 5, partition=0))
    source = files.source(topic, follow=True)
    part = source.build_part("read", "0", source.build_part("read", "0", None).snapshot()._replace(next=8))
    put_back(backup, topic_files.path_of(files.folder, topic))

    assert "it ends at offset 5, but was read up to 8" in failing(part.next_batch, OffsetsGone)
    part.close()


def test_a_topic_that_was_made_again_before_the_first_look_is_not_read(files: SqliteLog):
    topic = topic_on(files, 1)
    part = files.source(topic, follow=True).build_part("read", "0", None)
    files.delete(topic)
    files.create([TopicSpec(topic, 1)])
    write_to(files, topic, *numbered(5, partition=0))

    assert "made again" in failing(part.next_batch, TopicChanged)
    part.close()


def test_nothing_is_ahead_where_the_last_record_was_removed(files: SqliteLog, looks_often):
    """So heartbeats come, too."""
    topic = topic_on(files, 1)
    write_to(files, topic, *numbered(5, partition=0))
    files.edit(topic, lambda record: None if record.offset == 4 else record.value)
    lags: list[int] = []
    source = files.source(topic, follow=True, idle_clock=True, on_lag=lambda ahead: lags.append(ahead[0]))
    part = source.build_part("read", "0", None)
    read: list[bytes | None] = []

    def has_beaten() -> bool:
        read.extend(values_of(part))
        return any(b"heartbeat" in (value or b"") for value in read)

    wait_until(has_beaten, "a heartbeat comes")
    part.close()

    assert lags[-1] == 0 and read[:4] == [b"0", b"1", b"2", b"3"]


def test_a_chunk_is_of_few_large_records(files: SqliteLog, monkeypatch):
    """What waits in memory is counted in bytes, too."""
    monkeypatch.setattr("beepgpt.connectors.sqlite.topic_files.CHUNK_BYTES", 50_000)
    topic = topic_on(files, 1)
    write_to(files, topic, *(OutgoingRecord(b"k", b"x" * 20_000, (), 0) for _ in range(7)))

    assert [len(records) for *_, records in chunks_of(files.source(topic))] == [3, 3, 1]
    assert len(all_on(files, topic)) == 7


# Addresses, settings and folders


@pytest.mark.parametrize("address", ["sqlite://a[b/t", "sqlite:///srv/a#b/t", "sqlite:///srv/a\tb/t", "kafka://[a:1/t"])
def test_an_odd_address_is_refused(address):
    with pytest.raises(BadAddress, match="write "):
        parse_address(address)


def test_a_folder_that_can_not_be_looked_into_is_named(tmp_path: Path):
    log = SqliteLog(folder_place(str(tmp_path / ("x" * 300))))

    assert "check the folder" in failing(lambda: log.topic("t"), LogFailed)
    assert "check the folder" in failing(lambda: log.writer("t"), LogFailed)


def test_a_setting_that_would_do_nothing_is_refused(files: SqliteLog):
    assert "retention.bytes" in failing(lambda: files.create([TopicSpec("t", 1, {"retention.bytes": "1000"})]), LogFailed)
    assert files.create([TopicSpec("t", 1, {"retention.bytes": "-1"})])[0] == ["t"]


def test_advice_is_such_as_can_be_followed(files: SqliteLog):
    """No broker's tool changes a file."""
    topic = topic_on(files, 1, cleanup_policy="compact")

    assert "kafka" not in failing(lambda: files.check_keeps(topic), WrongTopic)


def test_all_folders_that_are_made_are_for_their_owner(tmp_path: Path):
    log = SqliteLog(folder_place(str(tmp_path / "a" / "b")))
    log.create([TopicSpec("t", 1)])

    assert [each.stat().st_mode & 0o777 for each in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]
