"""Topics in a folder without what is forgotten: their files hold nothing of it, and what they hold then is what never knew it."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from beepgpt.connectors.log import OutgoingRecord, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.forgetting.kinds import found_in, kind_of
from beepgpt.forgetting.records import Cleaning, Removal
from beepgpt.forgetting.topics import clean_topic
from tests.support.forgetting import PERSON, beepgpt, canaries_in, write_workspace
from tests.support.logs import all_on, topic_on, write_to
from tests.support.scoring import save

LIST = Forgotten(b"a salt").with_names([PERSON])


def message(number: int, user: str) -> OutgoingRecord:
    """On one partition."""
    body = {"type": "message", "channel": "C1", "user": user, "text": f"words {number}", "ts": f"{1704200000 + number}.000100"}
    return OutgoingRecord(b"C1", json.dumps(body).encode(), (), 0, (1704200000 + number) * 10**6)


def test_records_go_from_where_they_stand(tmp_path: Path):
    """The others keep their offsets; nothing is copied, and a look alone changes nothing."""
    log = SqliteLog(folder_place(str(tmp_path)))
    topic = topic_on(log, 1)
    write_to(log, topic, *(message(number, PERSON if number % 3 == 0 else "U2") for number in range(9)))

    assert clean_topic(log, topic, Cleaning(LIST, apply=False)).found == 3
    assert len(all_on(log, topic)) == 9 and PERSON in canaries_in(tmp_path)[f"{topic}.topic"]
    done = clean_topic(log, topic, Cleaning(LIST, apply=True))

    assert (done.found, done.done, done.rebuild) == (3, "removed", "")
    assert [offset for _, offset, *_ in all_on(log, topic)] == [1, 2, 4, 5, 7, 8]
    assert canaries_in(tmp_path) == {} and list(log.topics()) == [topic]
    assert clean_topic(log, topic, Cleaning(LIST, apply=True)).found == 0


def test_of_a_compacted_topic_a_tombstone_stays(tmp_path: Path):
    """So that who follows it hears of it; the values before it are gone at once."""
    log = SqliteLog(folder_place(str(tmp_path)))
    topic = topic_on(log, 1, cleanup_policy="compact")
    example = b'{"id":"a","channel":"C1","window":[{"ts":"1.1","user":"%s"}],"answer":[]}'
    holds, other = example % PERSON.encode(), example % b"U2"
    with log.writer(topic):  # somebody who writes there is not in the way
        done = clean_topic(log, topic, Cleaning(LIST, apply=True))
        assert done.found == 0
    write_to(
        log, topic, OutgoingRecord(b"stays", other, (), 0), OutgoingRecord(b"goes", other, (), 0), OutgoingRecord(b"goes", holds, (), 0)
    )

    with log.writer(topic):
        done = clean_topic(log, topic, Cleaning(LIST, apply=True))

        assert (done.found, done.done) == (1, "tombstones written")
        assert [(key, value) for *_, key, value in all_on(log, topic)] == [(b"stays", other), (b"goes", None)]
        assert canaries_in(tmp_path) == {}


def killed_while_writing(log: SqliteLog, topic: str) -> None:
    """A writer dies with its records in the write-ahead log."""
    code = """
import os, signal, sys
from beepgpt.connectors.sqlite.log import SqliteLog
from tests.forgetting.test_forget_logs import PERSON, message

writer = SqliteLog(sys.argv[1]).writer(sys.argv[2])
writer.send([message(1, PERSON)])
writer.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, log.place, topic], check=False)


def test_a_log_whose_topic_is_gone_goes(tmp_path: Path):
    """Its writer was killed, and somebody removed the file by hand: the records stand in what SQLite keeps beside it."""
    log = SqliteLog(folder_place(str(tmp_path)))
    topic = topic_on(log, 1)
    killed_while_writing(log, topic)
    path = tmp_path / f"{topic}.topic"
    path.unlink()
    assert PERSON in canaries_in(tmp_path)[f"{topic}.topic-wal"]

    kinds = {each.name: kind for each, kind in found_in(tmp_path) if kind is not None}
    done = {name: kind.clean(tmp_path / name, Cleaning(LIST, apply=True)) for name, kind in kinds.items()}

    assert done[f"{topic}.topic-wal"] == Removal(1, "deleted")
    assert canaries_in(tmp_path) == {}


def test_a_log_of_somebody_s_own_is_named(tmp_path: Path):
    """Whose database is gone: it stays, and whoever forgets hears of it; beside one that is none of ours it was not looked into."""
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute(f"CREATE TABLE notes AS SELECT '{PERSON}'")
        base.commit()
        assert [kind for _, kind in found_in(tmp_path)] == [None, None, None]
        (tmp_path / "gone.db-wal").write_bytes((tmp_path / "notes.db-wal").read_bytes())
    kind = kind_of(tmp_path / "gone.db-wal")

    assert kind is not None and kind.name == "log of a database that is gone"
    done = kind.clean(tmp_path / "gone.db-wal", Cleaning(LIST, apply=True))
    assert done.found == 1 and done.done.startswith("stays: its database is gone") and (tmp_path / "gone.db-wal").exists()


@pytest.mark.slow
def test_nothing_is_left_in_a_folder_of_topics(tmp_path: Path):
    """Events, examples, predictions and outcomes; what is made of the events then is what the export gives with the list."""
    write_workspace(tmp_path / "export.zip")
    at = folder_place(str(tmp_path / "log"))
    beepgpt(tmp_path, "topics", at, "--partitions", 2)
    beepgpt(tmp_path, "ingest", "export.zip", "--to", f"{at}/slack.events")
    beepgpt(tmp_path, "examples", f"{at}/slack.events", "--to", f"{at}/slack.examples")
    outputs = ("--to", f"{at}/slack.predictions", "--outcomes", f"{at}/slack.outcomes")
    beepgpt(tmp_path, "score", f"{at}/slack.events", *outputs, "--model", save(tmp_path / "model"))
    held = {name for name, words in canaries_in(tmp_path / "log").items() if words}
    assert {"slack.events.topic", "slack.examples.topic", "slack.predictions.topic"} <= held
    assert [path.name for path, kind in found_in(tmp_path / "log") if kind is None] == []

    beepgpt(tmp_path, "forget", "--user", PERSON, "--from", "log", "--from", "export.zip", "--yes")

    assert canaries_in(tmp_path / "log") == {}
    for name, source in (("log", f"{at}/slack.events"), ("export", "export.zip")):
        beepgpt(tmp_path, "examples", source, "--to", f"{name}.jsonl")
    made = [sorted((tmp_path / f"{name}.jsonl").read_bytes().splitlines()) for name in ("log", "export")]
    assert made[0] == made[1] != []
