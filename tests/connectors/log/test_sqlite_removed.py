"""What is removed from a folder of topics is gone from its files for good, also where removing it was disturbed."""

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from beepgpt.connectors.log import LogFailed, OutgoingRecord
from beepgpt.connectors.sqlite import topic_files
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.forgetting.records import Cleaning
from beepgpt.forgetting.topics import clean_topic
from tests.support.forgetting import PERSON
from tests.support.kafka_records import failing
from tests.support.logs import all_on, topic_on, write_to
from tests.support.speed import wait_until

FORGET = Cleaning(Forgotten(b"a salt").with_names([PERSON]), apply=True)


def bytes_of(files: SqliteLog, topic: str) -> bytes:
    """All that the topic's files hold."""
    path = topic_files.path_of(files.folder, topic)
    return b"".join(each.read_bytes() for each in (path, Path(f"{path}-wal")) if each.exists())


@contextmanager
def read_by_another_program(files: SqliteLog, topic: str) -> Iterator[None]:
    """In a transaction that stays open."""
    with closing(sqlite3.connect(topic_files.path_of(files.folder, topic), isolation_level=None)) as base:
        base.execute("BEGIN")
        base.execute("SELECT count(*) FROM records").fetchone()
        yield


def mixed(count: int, seed: int, keys: int) -> Iterator[OutgoingRecord]:
    """Records of many sizes, of which a tenth hold a canary, by the keys of as many channels."""
    randomly = random.Random(seed)
    for number in range(count):
        word = b"CANARY" if randomly.random() < 0.1 else b"public"
        yield OutgoingRecord(
            b"C%d" % randomly.randrange(keys), b"%s-%07d-%s" % (word, number, b"x" * randomly.choice([20, 200, 700, 3_000]))
        )


def write_in_small_commits(files: SqliteLog, topic: str, records: list[OutgoingRecord]) -> None:
    """As a live topic grows."""
    with files.writer(topic) as writer:
        for start in range(0, len(records), 5):
            writer.send(records[start : start + 5])
            if start % 25 == 0:
                writer.flush()


def test_split_pages_keep_no_copies_of_what_is_removed(files: SqliteLog):
    """Where many partitions grow at once, pages are split, and what stood in them stays in their gaps."""
    topic = topic_on(files, 12)
    write_in_small_commits(files, topic, list(mixed(4_000, 3, 50)))
    assert bytes_of(files, topic).count(b"CANARY") > 300

    files.edit(topic, lambda record: None if b"CANARY" in (record.value or b"") else record.value)

    assert bytes_of(files, topic).count(b"CANARY") == 0
    assert len(all_on(files, topic)) == sum(b"CANARY" not in (each.value or b"") for each in mixed(4_000, 3, 50))


def test_compaction_leaves_no_copies_in_split_pages(files: SqliteLog):
    topic = topic_on(files, 12, cleanup_policy="compact")
    write_in_small_commits(files, topic, list(mixed(4_000, 5, 900)))
    write_to(files, topic, *(OutgoingRecord(b"C%d" % key, None) for key in range(900)))

    files.clean(topic)

    assert {value for *_, value in all_on(files, topic)} == {None}
    assert bytes_of(files, topic).count(b"CANARY") == 0


def test_what_a_topic_loses_while_it_is_open_is_gone_from_split_pages(files: SqliteLog, monkeypatch):
    """Once a day; here at once."""
    monkeypatch.setattr("beepgpt.connectors.sqlite.cleaning.ANEW_EVERY", 0.0)
    monkeypatch.setattr("beepgpt.connectors.sqlite.cleaning.CLEAN_EVERY", 0.05)
    topic = topic_on(files, 12, cleanup_policy="compact")
    write_in_small_commits(files, topic, list(mixed(2_000, 5, 300)))
    with files.writer(topic) as writer:
        writer.send(OutgoingRecord(b"C%d" % key, None) for key in range(300))
        writer.flush()
        wait_until(lambda: b"CANARY" not in bytes_of(files, topic), "no copy is left")


@pytest.mark.parametrize("length", [1, 4_000], ids=["short", "long"])
def test_what_a_topic_loses_is_overwritten_at_once(files: SqliteLog, length: int):
    """Long before the file is written anew: between two records that stay, nothing is left of one that went, nor in pages of its own."""
    topic = topic_on(files, 1, cleanup_policy="compact")
    words = (b"CANARY " * length, b"stays ")
    write_to(files, topic, *(OutgoingRecord(b"%d" % each, words[each % 2] + b"%d" % each, (), 0) for each in range(300)))
    write_to(files, topic, *(OutgoingRecord(b"%d" % each, None, (), 0) for each in range(0, 300, 2)))

    with topic_files.opened(topic_files.path_of(files.folder, topic), writes=True) as base:
        assert sum(topic_files.clean(base)) == 150
        assert topic_files.empty_wal(base, 30)

    assert (bytes_of(files, topic).count(b"CANARY"), bytes_of(files, topic).count(b"stays")) == (0, 150)


@pytest.mark.parametrize("policy", ["delete", "compact"])
def test_forgetting_again_does_what_a_reader_hindered(files: SqliteLog, monkeypatch, policy):
    """The first call removes the records, and says that the words still stand in a file; the second one finds none, and ends it."""
    monkeypatch.setattr("beepgpt.connectors.sqlite.topic_files.BUSY", 0.1)
    topic = topic_on(files, 1, cleanup_policy=policy)
    holds = b'{"type":"message","channel":"C1","user":"%s","text":"CANARY","ts":"1.1"}' % PERSON.encode()
    write_to(files, topic, *(OutgoingRecord(b"k%d" % each, holds, (), 0) for each in range(3)))
    with closing(sqlite3.connect(topic_files.path_of(files.folder, topic))) as other:
        other.execute("SELECT count(*) FROM records").fetchone()  # so that the write-ahead log outlives the connections of the call
        with read_by_another_program(files, topic):
            assert "give the same command again" in failing(lambda: clean_topic(files, topic, FORGET), LogFailed)
        assert b"CANARY" in bytes_of(files, topic)

        assert clean_topic(files, topic, FORGET).found == 0

        assert b"CANARY" not in bytes_of(files, topic)


# What is removed while somebody writes


def test_cleaning_waits_for_readers_without_writers(files: SqliteLog, monkeypatch):
    """Another program's open transaction keeps the words in the write-ahead log: commits go on, and once it is closed they are gone."""
    monkeypatch.setattr("beepgpt.connectors.sqlite.cleaning.CLEAN_EVERY", 0.05)
    topic = topic_on(files, 1, cleanup_policy="compact")
    with files.writer(topic) as writer:
        writer.send([OutgoingRecord(b"k", b"first", (), 0)])
        writer.flush()
        with read_by_another_program(files, topic):
            writer.send([OutgoingRecord(b"k", b"CANARY", (), 0), OutgoingRecord(b"k", b"last", (), 0)])
            writer.flush()
            wait_until(lambda: [value for *_, value in all_on(files, topic)] == [b"last"], "compaction goes on")
            began = time.monotonic()
            for each in range(10):
                writer.send([OutgoingRecord(b"%d" % each, b"more", (), 0)])
                writer.flush()
            took = time.monotonic() - began
        assert took < 15, "each waited for one look of the cleaner at most"
        wait_until(lambda: b"CANARY" not in bytes_of(files, topic), "no word is left")


def test_commits_do_not_wait_for_a_topic_to_be_cleaned(files: SqliteLog, monkeypatch):
    """However long cleaning takes."""
    topic = topic_on(files, 1, cleanup_policy="compact")
    write_to(files, topic, OutgoingRecord(b"k", b"1", (), 0), OutgoingRecord(b"k", b"2", (), 0))
    is_there: list[bool] = []
    begun: list[bool] = []

    def never_done(base: sqlite3.Connection, numbers: object) -> Iterator[int]:
        begun.append(True)
        while not is_there:
            time.sleep(0.01)
            yield 0

    monkeypatch.setattr(topic_files, "clean", never_done)
    with files.writer(topic) as writer:
        wait_until(lambda: begun, "cleaning has begun")
        writer.send([OutgoingRecord(b"k", b"3", (), 0)])
        writer.flush()
        is_there.append(True)

    assert [value for *_, value in all_on(files, topic)][-1] == b"3"
