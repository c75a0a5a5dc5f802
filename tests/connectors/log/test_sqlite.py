"""A folder of SQLite files: what stays through kills, power cuts and full disks, and what is gone for good."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.log import LogFailed, NotDelivered, NoTopic, OffsetsGone, OutgoingRecord, TopicSpec, chunks_of, folder_place
from beepgpt.connectors.sqlite import topic_files
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.connectors.sqlite.writer import SqliteWriter
from tests.support.kafka_records import NOON, SECOND, failing, numbered, stopped_after, store_in, values
from tests.support.logs import all_on, flow_reads, set_retention, topic_on, write_to
from tests.support.speed import wait_until

WORDS = b"what nobody is to read again"


def bytes_of(files: SqliteLog, topic: str) -> bytes:
    """All that the topic's files hold."""
    path = topic_files.path_of(files.folder, topic)
    return b"".join(each.read_bytes() for each in (path, Path(f"{path}-wal")) if each.exists())


def offsets_on(files: SqliteLog, topic: str) -> dict[int, list[int]]:
    """By partition, in the order in which they are read."""
    found: dict[int, list[int]] = {}
    for number, record in files.records(topic):
        found.setdefault(number, []).append(record.offset)
    return found


@given(st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=300)), max_size=4))
def test_headers_come_back(headers: list[tuple[str, bytes]]):
    assert topic_files.unpack_headers(topic_files.pack_headers(headers)) == headers


# One writer, many readers


def test_a_second_writer_is_refused(files: SqliteLog):
    """By name, and with what to do; when the first one is gone, there is room. A topic of rejects has many."""
    topic = topic_on(files)
    with files.writer(topic) as first:
        message = failing(lambda: files.writer(topic), LogFailed)
        first.send(numbered(3))
        with files.writer(topic, alone=False) as beside:
            beside.send(numbered(3, 3))
    with files.writer(topic) as second:
        second.send(numbered(3, 6))

    assert f"{topic}: another process writes to this topic" in message and "fuser" in message
    assert sorted(int(value or b"") for *_, value in all_on(files, topic)) == list(range(9))


def test_a_run_of_several_workers_holds_its_topics(files: SqliteLog):
    """Its processes write there together, and nobody else."""
    topic = topic_on(files)
    with files.held([topic]):
        assert "another process writes" in failing(lambda: files.writer(topic), LogFailed)
        with files.writer(topic, alone=False) as writer:
            writer.send(numbered(2))
    write_to(files, topic, *numbered(2, 2))

    assert len(all_on(files, topic)) == 4


def test_a_topic_that_is_written_is_not_deleted(files: SqliteLog):
    topic = topic_on(files)
    with files.writer(topic):
        assert "another process writes" in failing(lambda: files.delete(topic), LogFailed)
    files.delete(topic)

    assert [path.name for path in files.folder.iterdir()] == [f"{topic}.lock"], "the lock stays: somebody may wait with it open"


def test_writers_at_once_give_no_offset_twice(files: SqliteLog):
    """Several of rejects: the counter is in each transaction."""
    topic = topic_on(files, 2)

    def write(first: int) -> None:
        with files.writer(topic, alone=False) as writer:
            for each in range(first, first + 100, 10):
                writer.send(numbered(10, each, partition=each // 10 % 2))
                writer.flush()

    threads = [threading.Thread(target=write, args=(number * 100,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert offsets_on(files, topic) == {0: list(range(200)), 1: list(range(200))}
    assert sorted(int(value or b"") for *_, value in all_on(files, topic)) == list(range(400))


def test_files_are_for_their_owner_alone(files: SqliteLog):
    topic = topic_on(files)
    with files.writer(topic) as writer:
        writer.send(numbered(1))
        writer.flush()
        modes = {path.suffix: path.stat().st_mode & 0o777 for path in files.folder.iterdir()}

    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert modes == {".topic": 0o600, ".topic-wal": 0o600, ".topic-shm": 0o600, ".lock": 0o600}


def test_a_commit_is_on_the_disk_when_it_returns(files: SqliteLog):
    """That much is asked of SQLite: a cut of power alone would show it."""
    topic = topic_on(files)
    with closing(files.writer(topic)) as writer:
        (mode,) = writer._base.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = writer._base.execute("PRAGMA synchronous").fetchone()

    assert (mode, synchronous) == ("wal", 2)


# What a topic's settings remove, and what is never given twice


def test_compaction_keeps_the_last_of_each_key(files: SqliteLog):
    """In their places, so that offsets have gaps; tombstones stay for a day."""
    topic = topic_on(files, 2, cleanup_policy="compact")
    now = int(time.time() * 1e6)
    write_to(
        files,
        topic,
        OutgoingRecord(b"a", b"old", (), 0, now),
        OutgoingRecord(b"b", b"only", (), 0, now),
        OutgoingRecord(b"a", b"new", (), 0, now),
        OutgoingRecord(b"c", b"gone", (), 0, now),
        OutgoingRecord(b"c", None, (), 0, now - 25 * 3_600 * SECOND),
        OutgoingRecord(b"d", b"gone", (), 0, now),
        OutgoingRecord(b"d", None, (), 0, now - 23 * 3_600 * SECOND),
        OutgoingRecord(b"a", b"elsewhere", (), 1, now),
    )

    files.clean(topic)

    kept = [(0, 1, b"b", b"only"), (0, 2, b"a", b"new"), (0, 6, b"d", None), (1, 0, b"a", b"elsewhere")]
    assert all_on(files, topic) == kept
    assert [record.offset for *_, records in chunks_of(files.source(topic, wanted=lambda number: number == 0)) for record in records] == [
        1, 2, 6,
    ]  # fmt: skip
    write_to(files, topic, OutgoingRecord(b"e", b"next", (), 0, now))
    assert all_on(files, topic)[-2] == (0, 7, b"e", b"next")


def aged_topic(files: SqliteLog) -> str:
    """Ten records, of which an hour's retention leaves the last three."""
    topic = topic_on(files, 1)
    now = int(time.time() * 1e6)
    write_to(files, topic, *(OutgoingRecord(b"k", b"%d" % each, (), 0, now - (10 - each) * 1_000 * SECOND) for each in range(10)))
    set_retention(files, topic, 3_600_000)
    return topic


def test_retention_removes_what_is_old(files: SqliteLog, monkeypatch):
    """From the beginning up to the first record that is young enough; a reader that was in the midst of it is told."""
    monkeypatch.setattr("beepgpt.connectors.sqlite.topic_files.CHUNK", 2)
    topic = aged_topic(files)
    part = files.source(topic, follow=True).build_part("read", "0", None)
    assert values(part.next_batch()) == [0, 1]

    files.clean(topic)

    assert [value for *_, value in all_on(files, topic)] == [b"7", b"8", b"9"]
    assert files.bounds(topic) == {0: (7, 10)}
    assert "offsets 2 to 6 are gone (5 offsets)" in failing(part.next_batch, OffsetsGone)
    part.close()


def test_a_run_that_has_read_nothing_yet_begins_where_retention_ends(files: SqliteLog):
    """It has lost nothing: a moment later it would have begun there."""
    topic = aged_topic(files)
    source = files.source(topic)
    part = source.build_part("read", "0", None)
    files.clean(topic)

    assert part.snapshot().next == 0 and values(part.next_batch()) == [7, 8, 9] and part.snapshot().next == 10
    part.close()


def test_a_partition_that_was_read_to_its_end_misses_nothing(files: SqliteLog):
    """Retention goes over its end, and the other partition is read on."""
    topic = topic_on(files, 2)
    old = int(time.time() * 1e6) - 7_200 * SECOND
    write_to(files, topic, *(OutgoingRecord(b"k", b"%d" % each, (), each % 2, old) for each in range(4)))
    source = files.source(topic)
    states = [source.build_part("read", name, None).snapshot() for name in source.list_parts()]
    write_to(files, topic, *(OutgoingRecord(b"k", b"%d" % each, (), each % 2) for each in range(4, 8)))
    set_retention(files, topic, 3_600_000)
    files.clean(topic)
    source = files.source(topic)
    read, other = (
        source.build_part("read", "0", states[0]._replace(next=1, end=1)),
        source.build_part("read", "1", states[1]._replace(next=2, end=4)),
    )

    assert values(other.next_batch()) == [5, 7]
    read.close()
    other.close()


def test_an_offset_is_never_given_twice(files: SqliteLog):
    """Not even where all that had one is gone: a reader that stands behind it would miss the next record in silence."""
    topic = topic_on(files, 1)
    write_to(files, topic, *numbered(5, partition=0))

    files.edit(topic, lambda record: None)
    write_to(files, topic, *numbered(2, 5, partition=0))

    assert [(offset, value) for _, offset, _, value in all_on(files, topic)] == [(5, b"5"), (6, b"6")]
    assert files.bounds(topic) == {0: (0, 7)}


def test_a_topic_is_cleaned_while_it_is_open(files: SqliteLog, monkeypatch):
    """At first all partitions, and one of them from time to time, whether anybody writes or not."""
    topic = topic_on(files, 2, cleanup_policy="compact")
    monkeypatch.setattr("beepgpt.connectors.sqlite.cleaning.CLEAN_EVERY", 0.05)
    with files.writer(topic) as writer:
        for key, number in ((b"b", 0), (b"b", 1), (b"b", 0), (b"b", 1), (b"c", 0), (b"d", 0)):
            writer.send([OutgoingRecord(key, b"%d" % number, (), number)])
        writer.flush()
        kept = [(0, 1, b"b"), (0, 2, b"c"), (0, 3, b"d"), (1, 1, b"b")]
        wait_until(lambda: [each[:3] for each in all_on(files, topic)] == kept, "the last of each key is left")


def test_a_writer_closes_whatever_its_cleaning_was_at(files: SqliteLog):
    """Cleaning is broken off wherever it is, also before it has read anything: a thread that failed would fail this test."""
    topic = topic_on(files, 2, cleanup_policy="compact")
    for _ in range(200):
        files.writer(topic).close()
        with files.writer(topic) as writer:
            writer.send(numbered(1, partition=0))


def test_retention_needs_no_records_that_come(files: SqliteLog, monkeypatch):
    """A topic in which nobody writes any more, by the writer that has it open."""
    topic = aged_topic(files)
    with files.writer(topic):
        wait_until(lambda: files.bounds(topic) == {0: (7, 10)}, "what is old is gone")
        assert [value for *_, value in all_on(files, topic)] == [b"7", b"8", b"9"]


# What is removed is gone


def test_what_is_removed_is_gone_from_the_files(files: SqliteLog):
    """From the file and from the write-ahead log, while somebody writes and somebody follows."""
    topic = topic_on(files, 1)
    with files.writer(topic) as writer:
        writer.send(
            [OutgoingRecord(b"k", b"before", (), 0), OutgoingRecord(b"k", WORDS, (), 0), OutgoingRecord(b"k", WORDS * 2_000, (), 0)]
        )
        writer.flush()
        reader = files.source(topic, follow=True).build_part("read", "0", None)
        reader.next_batch()
        assert WORDS in bytes_of(files, topic)

        files.edit(topic, lambda record: None if record.offset == 1 else (record.value or b"").replace(WORDS, b"..."))

        assert WORDS not in bytes_of(files, topic)
        assert all_on(files, topic) == [(0, 0, b"k", b"before"), (0, 2, b"k", b"..." * 2_000)]
        reader.close()


def test_compaction_leaves_no_text_behind(files: SqliteLog):
    topic = topic_on(files, 1, cleanup_policy="compact")
    with files.writer(topic) as writer:
        writer.send([OutgoingRecord(b"k", WORDS, (), 0), OutgoingRecord(b"k", None, (), 0)])
        writer.flush()
        files.clean(topic)

        assert WORDS not in bytes_of(files, topic)


def test_words_that_somebody_still_reads_are_said_to_stand_there(files: SqliteLog, monkeypatch):
    """A transaction that is open keeps the write-ahead log; the same call does the rest."""
    topic = topic_on(files, 1)
    write_to(files, topic, OutgoingRecord(b"k", WORDS, (), 0))
    monkeypatch.setattr("beepgpt.connectors.sqlite.topic_files.BUSY", 0.1)
    with closing(sqlite3.connect(topic_files.path_of(files.folder, topic), isolation_level=None)) as base:
        base.execute("BEGIN")
        base.execute("SELECT count(*) FROM records").fetchone()
        message = failing(lambda: files.edit(topic, lambda record: None), LogFailed)
    files.edit(topic, lambda record: None)

    assert "-wal" in message and "give the same command again" in message
    assert WORDS not in bytes_of(files, topic)


# Kills, power cuts, full disks

WRITE = """
import sys
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.connectors.sqlite.log import SqliteLog

log, topic, first = SqliteLog(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with log.writer(topic) as writer:
    for number in range(first, 1_000_000):
        writer.send([OutgoingRecord(b"C%d" % (number % 7), b"%d" % number)])
        if number % 10 == 9:
            writer.flush()
            print(number, flush=True)
"""


def written_until_killed(files: SqliteLog, topic: str, first: int, least: int) -> int:
    """A process writes from a number on, and is killed after so many; the last number that was confirmed."""
    with subprocess.Popen([sys.executable, "-c", WRITE, files.place, topic, str(first)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        confirmed = first - 1
        for line in process.stdout:
            confirmed = int(line)
            if confirmed >= first + least:
                break
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        return int(rest[-1]) if rest else confirmed


@pytest.mark.slow
def test_what_was_confirmed_stays_through_kills(files: SqliteLog):
    """Each number up to the last that was confirmed, once and in order, and no gap behind it; the next writer goes on at once."""
    topic = topic_on(files)
    first = 0
    for least in (20, 130, 50):
        confirmed = written_until_killed(files, topic, first, least)
        found = sorted(int(value or b"") for *_, value in all_on(files, topic))
        assert found == list(range(len(found))) and len(found) > confirmed
        assert offsets_on(files, topic) == {number: list(range(end)) for number, (_, end) in files.bounds(topic).items() if end}
        first = len(found)


def test_power_is_cut(files: SqliteLog, tmp_path: Path):
    """The write-ahead log ends anywhere, or in garbage: what was confirmed before is there, whole batches, and it can be written on.

    A confirmed batch is on the disk in its whole: what stands behind it in the log can't take it away.
    """
    topic = topic_on(files, 2)
    path, sizes = topic_files.path_of(files.folder, topic), list[tuple[int, int]]()
    with files.writer(topic) as writer:
        for batch in range(30):
            writer.send(numbered(10, batch * 10))
            writer.flush()
            sizes.append((Path(f"{path}-wal").stat().st_size, (batch + 1) * 10))
        saved = tmp_path / "saved"
        shutil.copytree(files.folder, saved)
    randomly = random.Random(7)
    whole = (saved / f"{path.name}-wal").read_bytes()
    for trial in range(40):
        folder = tmp_path / f"trial-{trial}"
        folder.mkdir()
        shutil.copy(saved / path.name, folder)
        cut = randomly.randrange(len(whole))
        garbage = randomly.randbytes(4_000) if trial % 2 else b""
        (folder / f"{path.name}-wal").write_bytes(whole[:cut] + garbage)
        log = SqliteLog(folder_place(str(folder)))

        found = sorted(int(value or b"") for *_, value in all_on(log, topic))

        confirmed = max((count for size, count in sizes if size <= cut), default=0)
        assert found == list(range(len(found))) and len(found) >= confirmed and len(found) % 10 == 0
        write_to(log, topic, *numbered(1, len(found)))
        assert offsets_on(log, topic) == {number: list(range(end)) for number, (_, end) in log.bounds(topic).items() if end}
        shutil.rmtree(folder)


def full_after(writer: SqliteWriter, pages: int) -> None:
    """From so many pages on, SQLite says that the disk is full."""
    (count,) = writer._base.execute("PRAGMA page_count").fetchone()
    writer._base.execute(f"PRAGMA max_page_count = {count + pages}")


def test_a_full_disk_stops_the_writer(files: SqliteLog):
    """With what is there; then it goes on, and nothing is missing and nothing is twice."""
    topic = topic_on(files, 1)
    large = [OutgoingRecord(b"k", b"%d" % each + b" " * 9_000, (), 0) for each in range(100)]
    with closing(files.writer(topic)) as writer:
        full_after(writer, 30)
        sent = 0
        with pytest.raises(NotDelivered) as raised:
            for each in large:
                writer.send([each])
                writer.flush()
                sent += 1
        assert "disk is full" in failing(writer.flush, NotDelivered), "it says so again"
    there = len(all_on(files, topic))
    write_to(files, topic, *large[there:])

    assert 0 < there == sent < 100
    assert "disk is full" in str(raised.value) and "free some space" in str(raised.value)
    assert [int(value or b"") for *_, value in all_on(files, topic)] == list(range(100))


def test_a_damaged_file_is_said_to_be(files: SqliteLog):
    topic = topic_on(files, 1)
    path = topic_files.path_of(files.folder, topic)
    path.write_bytes(b"no database" * 1_000)

    assert "the file is damaged" in failing(lambda: files.bounds(topic), LogFailed)


# Readers


def test_a_reader_far_behind_reads_on_while_much_is_written(files: SqliteLog, monkeypatch):
    """Its pauses keep no transaction open, so that the write-ahead log does not grow for it."""
    monkeypatch.setattr("beepgpt.connectors.sqlite.topic_files.CHECKPOINT_PAGES", 64)  # a megabyte
    topic = topic_on(files, 2)
    write_to(files, topic, *numbered(2_000, partition=0))
    source = files.source(topic, follow=True)
    parts = [source.build_part("read", name, None) for name in source.list_parts()]
    found = values(parts[0].next_batch())
    with files.writer(topic) as writer:
        for first in range(2_000, 22_000, 2_000):
            writer.send(OutgoingRecord(None, b"%d" % each + b" " * 1_000, (), each % 2, NOON) for each in range(first, first + 2_000))
            writer.flush()
        wal = Path(f"{topic_files.path_of(files.folder, topic)}-wal").stat().st_size
    while len(found) < 22_000:
        found += [number for part in parts for number in values(part.next_batch())]
    for part in parts:
        part.close()

    assert sorted(found) == list(range(22_000))
    assert wal < 8_000_000 < 20_000 * 1_000


def test_a_topic_that_is_deleted_while_it_is_followed_is_missed(files: SqliteLog, monkeypatch):
    """The file that is open would stay as it is for ever."""
    monkeypatch.setattr("beepgpt.connectors.log.source.CHECK", 0.05)
    topic = topic_on(files, 1)
    part = files.source(topic, follow=True).build_part("read", "0", None)
    part.next_batch()
    files.delete(topic)

    def until_it_fails() -> None:
        while True:
            part.next_batch()
            time.sleep(0.01)

    assert "there is no such topic" in failing(until_it_fails, NoTopic)
    part.close()


def test_followers_hear_within_milliseconds(files: SqliteLog):
    """From the call that sends to the chunk that is handed out, at 50 records a second; the disk's part of it is apart."""
    topic = topic_on(files, 12)
    source = files.source(topic, follow=True)
    parts = [source.build_part("read", name, None) for name in source.list_parts()]
    waits: list[float] = []
    with files.writer(topic) as writer:
        for number in range(60):
            writer.send([OutgoingRecord(b"C%d" % (number % 9), b"%d" % number)])
            writer.flush()
            began = time.perf_counter()
            while not any(chunk[2] for part in parts for chunk in part.next_batch()):
                time.sleep(0.001)
            waits.append(time.perf_counter() - began)
    for part in parts:
        part.close()

    assert sorted(waits)[30] < 0.1


def test_an_older_or_newer_file_is_refused(files: SqliteLog):
    topic = topic_on(files, 1)
    with closing(sqlite3.connect(topic_files.path_of(files.folder, topic))) as base:
        base.execute("PRAGMA user_version = 9")

    assert "no topic of this version of beepgpt (version 9, not 1)" in failing(lambda: files.bounds(topic), LogFailed)


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    log = SqliteLog(folder_place(str(tmp_path / "file" / "log")))

    assert "can't be written" in failing(lambda: log.create([TopicSpec("t", 1)]), NotDelivered)


def test_retention_stops_at_the_first_record_that_is_young(files: SqliteLog):
    """What is old and stands behind it stays: a producer's clock that is behind takes nothing of the others with it."""
    topic, now = topic_on(files, 1), time.time_ns() // 1000
    times = [now - 9_000 * SECOND, now - 60 * SECOND, now - 9_000 * SECOND, now]
    write_to(files, topic, *(OutgoingRecord(b"k", b"%d" % number, (), 0, at) for number, at in enumerate(times)))
    set_retention(files, topic, 3_600_000)

    files.clean(topic)

    assert [value for *_, value in all_on(files, topic)] == [b"1", b"2", b"3"]
    assert files.bounds(topic) == {0: (1, 4)}


def test_a_killed_flow_goes_on_from_its_snapshot(files: SqliteLog, tmp_path: Path):
    """Also where compaction went over what it had read and what it had not."""
    topic = topic_on(files, 1, cleanup_policy="compact")
    write_to(files, topic, *(OutgoingRecord(b"%d" % (each % 1_500), b"%d" % each, (), 0) for each in range(3_000)))
    store = store_in(tmp_path)

    files.clean(topic)

    first = values(flow_reads(files.source(topic, **stopped_after(500)), **store))
    write_to(files, topic, *(OutgoingRecord(b"%d" % (each % 1_500), b"%d" % each, (), 0) for each in range(3_000, 3_100)))
    files.clean(topic)
    second = values(flow_reads(files.source(topic), **store))

    assert first == list(range(1_500, 2_500)) or first == list(range(1_500, 1_500 + len(first)))
    assert len(first) + len(second) >= 1_500
