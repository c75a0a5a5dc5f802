"""Kafka through kills, and topics that are not what they were: what is gone is an error, and nothing is lost."""

import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from beepgpt.connectors.kafka import Connection, KafkaLog, KafkaSource, NoBroker, Writer, create_topics, describe_topic, describe_topics
from beepgpt.connectors.log import LogFailed, LogPartition, NotDelivered, OffsetsGone, OutgoingRecord, RecordChunk, TopicChanged, TopicSpec
from tests.support.broker import Broker
from tests.support.kafka_records import failing, new_topic, numbered, put, read, stopped_after, store_in, values

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, TopicPartition
    from kafka.errors import LogTruncationError
    from kafka.structs import OffsetAndMetadata

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # kafka-python leaves those that can't connect

ROOT = Path(__file__).parents[3]


def delete_before(connection: Connection, topic: str, offset: int) -> None:
    """As retention does, for partition 0."""
    admin = KafkaAdminClient(**connection.options())
    admin.delete_records({TopicPartition(topic, 0): offset})
    admin.close()


def test_what_retention_removed_is_an_error_on_resume(connection, topic, tmp_path):
    """It says which offsets are gone, and what to do."""
    put(connection, topic, *numbered(3_000, partition=0))
    read(KafkaSource(connection, topic, **stopped_after(1)), **store_in(tmp_path))
    delete_before(connection, topic, 2_500)

    said = failing(lambda: read(KafkaSource(connection, topic), **store_in(tmp_path)), OffsetsGone)

    assert re.match(rf"{topic}, partition 0: offsets 1,000 to 2,499 are gone \(1,500 offsets\)", said)
    assert "start again" in said


def test_what_retention_removes_while_it_is_read_is_an_error(connection, topic):
    """Between the look at the offsets and the first fetch: no jump."""
    put(connection, topic, *numbered(100, partition=0))
    source = KafkaSource(connection, topic)
    delete_before(connection, topic, 60)

    assert "offsets 0 to 59 are gone" in failing(lambda: read(source), OffsetsGone)


def test_a_new_start_begins_where_the_topic_does(connection, topic):
    """What was gone before the run is no error."""
    put(connection, topic, *numbered(100, partition=0))
    delete_before(connection, topic, 60)

    assert values(read(KafkaSource(connection, topic))) == list(range(60, 100))


def add_partitions(connection: Connection, topic: str, count: int) -> None:
    admin = KafkaAdminClient(**connection.options())
    admin.create_partitions({topic: count})
    admin.close()
    while describe_topic(connection, topic).partitions < count:
        time.sleep(0.05)


def test_partitions_that_were_added_stop_a_resumed_run(connection, topic, tmp_path):
    """Channels would have moved: it says how to rebuild the topic."""
    put(connection, topic, *numbered(3_000))
    read(KafkaSource(connection, topic, **stopped_after(1)), **store_in(tmp_path))
    add_partitions(connection, topic, 5)

    said = failing(lambda: read(KafkaSource(connection, topic), **store_in(tmp_path)), TopicChanged)

    assert "had 3 partitions when this run was started, and has 5" in said
    assert "beepgpt ingest" in said and "--with dead-letters,late" in said


def test_partitions_that_are_added_stop_a_run(connection, topic, monkeypatch):
    """While it follows."""
    monkeypatch.setattr("beepgpt.connectors.log.source.CHECK", 0.5)
    source = KafkaSource(connection, topic, follow=True)
    adding = threading.Timer(0.5, lambda: add_partitions(connection, topic, 4))
    adding.start()

    assert "had 3 partitions when this run was started, and has 4" in failing(lambda: read(source), TopicChanged)
    adding.join()


def test_a_topic_that_was_made_again_is_not_resumed(connection, topic, tmp_path):
    """Its offsets mean other records."""
    put(connection, topic, *numbered(3_000))
    read(KafkaSource(connection, topic, **stopped_after(1)), **store_in(tmp_path))
    delete_topic(connection, topic)
    create_topics(connection, [TopicSpec(topic, 3)])
    put(connection, topic, *numbered(3_000))

    assert "deleted and made again" in failing(lambda: read(KafkaSource(connection, topic), **store_in(tmp_path)), TopicChanged)


def test_a_topic_that_was_made_again_is_told_where_its_offsets_are_missed_first(connection, topic, monkeypatch):
    """kafka-python's consumer may see by the leader's epoch that records are gone; nothing was lost in an election then."""

    def poll(*_: object, **__: object) -> None:  # a double: whether the consumer sees that first is a race
        delete_topic(connection, topic)
        create_topics(connection, [TopicSpec(topic, 3)])
        raise LogTruncationError({TopicPartition(topic, 0): OffsetAndMetadata(0, "", 0)})

    monkeypatch.setattr("kafka.KafkaConsumer.poll", poll)

    assert "deleted and made again" in failing(lambda: read(KafkaSource(connection, topic, follow=True)), TopicChanged)


def test_a_topic_that_was_made_again_is_told_after_a_pause(connection, topic, monkeypatch):
    """The process was suspended, or did something else: a first record of the new topic would stand under an offset of the old one."""
    monkeypatch.setattr("beepgpt.connectors.kafka.reader.PAUSE", 0.5)
    monkeypatch.setattr("beepgpt.connectors.log.source.CHECK", 3_600.0)
    put(connection, topic, *numbered(3, partition=0))
    with closing(KafkaSource(connection, topic, follow=True).build_part("read", "0", None)) as part:
        until_read(part, 3)

        time.sleep(0.6)
        make_again(connection, topic)

        assert "deleted and made again" in failing(lambda: until_read(part, 1), TopicChanged)


def test_a_topic_that_was_made_again_while_no_broker_answered_is_told(mortal_broker: Broker, monkeypatch):
    """Whoever reads went on asking all the time."""
    monkeypatch.setattr("beepgpt.connectors.kafka.reader.PAUSE", 1.5)
    monkeypatch.setattr("beepgpt.connectors.log.source.CHECK", 0.5)
    connection = Connection(mortal_broker.bootstrap)
    topic = new_topic(connection)
    put(connection, topic, *numbered(3, partition=0))
    with closing(KafkaSource(connection, topic, follow=True).build_part("read", "0", None)) as part:
        until_read(part, 3)

        mortal_broker.pause()
        began = time.monotonic()
        while time.monotonic() < began + 5:
            assert not list(part.next_batch())
            time.sleep(0.05)
        mortal_broker.resume()
        make_again(connection, topic)
        monkeypatch.setattr(part._reader, "_asked", time.monotonic())  # it went on asking meanwhile
        monkeypatch.setattr(part._reader, "_next_check", time.monotonic() + 3_600)  # records come before the next look at the topic

        assert "deleted and made again" in failing(lambda: until_read(part, 1), TopicChanged)


def until_read(part: LogPartition, count: int) -> None:
    """Go on until so many records were handed out."""
    found = 0
    while found < count:
        found += sum(len(chunk[2]) for chunk in part.next_batch())
        time.sleep(0.02)


def make_again(connection: Connection, topic: str) -> None:
    """Another topic of that name, with more records than the one before."""
    delete_topic(connection, topic)
    create_topics(connection, [TopicSpec(topic, 3)])
    put(connection, topic, *numbered(10, partition=0))


def delete_topic(connection: Connection, topic: str) -> None:
    admin = KafkaAdminClient(**connection.options())
    admin.delete_topics([topic])
    admin.close()
    while describe_topics(connection, [topic]):
        time.sleep(0.05)


def test_a_topic_that_goes_away_stops_a_run(connection, topic, monkeypatch):
    """It is missed within a few seconds."""
    monkeypatch.setattr("beepgpt.connectors.log.source.CHECK", 0.5)
    source = KafkaSource(connection, topic, follow=True, patience=3)
    deleting = threading.Timer(0.5, lambda: delete_topic(connection, topic))
    deleting.start()

    assert topic in failing(lambda: read(source), LogFailed)
    deleting.join()


COPY = """
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import run_main
from beepgpt.connectors.files.jsonl import JsonlSink
from beepgpt.connectors.kafka import Connection, KafkaLog, KafkaSource
from beepgpt.connectors.log import OutgoingRecord

_, bootstrap, from_topic, to_topic, to_file, store = sys.argv
connection = Connection(bootstrap)
flow = Dataflow("copy")
chunks = op.input("read", flow, KafkaSource(connection, from_topic))
lines = op.map("lines", chunks, lambda chunk: (chunk[0], b"".join(record.value + b"\\n" for record in chunk[2])))
messages = op.map("messages", chunks, lambda chunk: (chunk[0], [OutgoingRecord(record.key, record.value) for record in chunk[2]]))
op.output("write_lines", lines, JsonlSink(Path(to_file)))
op.output("write_messages", messages, KafkaLog(connection).sink(to_topic))
run_main(flow, epoch_interval=timedelta(milliseconds=50), recovery_config=RecoveryConfig(store))
"""


def copying(connection: Connection, from_topic: str, to_topic: str, tmp_path: Path) -> "subprocess.Popen[bytes]":
    store_in(tmp_path)
    command = [
        sys.executable,
        "-c",
        COPY,
        connection.bootstrap,
        from_topic,
        to_topic,
        str(tmp_path / "copy.jsonl"),
        str(tmp_path / "recovery"),
    ]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)


def test_nothing_is_lost_through_kills(connection, topic, tmp_path):
    """A process is killed four times: a file has every line once, a topic has every record, and no other."""
    count = 40_000
    put(connection, topic, *numbered(count))
    to_topic = new_topic(connection)
    chance = random.Random(5)

    for _ in range(4):
        child = copying(connection, topic, to_topic, tmp_path)
        time.sleep(chance.uniform(0.9, 2.0))
        child.send_signal(signal.SIGKILL)
        child.communicate()
    child = copying(connection, topic, to_topic, tmp_path)
    _, err = child.communicate(timeout=60)

    assert child.returncode == 0, err.decode()
    lines = (tmp_path / "copy.jsonl").read_bytes().splitlines()
    assert sorted(map(int, lines)) == list(range(count))
    assert set(values(read(KafkaSource(connection, to_topic)))) == set(range(count))


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_is_waited_for(mortal_broker, tmp_path):
    """In the middle of reading and writing: nothing is missing, and nothing fails."""
    connection = Connection(mortal_broker.bootstrap)
    from_topic, to_topic = new_topic(connection), new_topic(connection)
    read_count = 0

    def paced(chunk: RecordChunk) -> tuple[str, list[OutgoingRecord]]:
        nonlocal read_count
        read_count += len(chunk[2])
        time.sleep(0.02)
        return chunk[0], [OutgoingRecord(record.key, record.value) for record in chunk[2]]

    put(connection, from_topic, *numbered(30_000))
    flow = Dataflow("copy")
    source = KafkaSource(connection, from_topic, follow=True, stopping=lambda: read_count >= 31_000)
    op.output("write", op.map("paced", op.input("read", flow, source), paced), KafkaLog(connection).sink(to_topic))

    def disturb() -> None:
        while read_count < 5_000:
            time.sleep(0.01)
        mortal_broker.kill()
        time.sleep(1)
        mortal_broker.start()
        put(connection, from_topic, *numbered(1_000, first=30_000))

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    run_main(flow, epoch_interval=timedelta(seconds=0.2))
    disturbing.join()

    assert values(read(KafkaSource(connection, to_topic))) == list(range(31_000))


@pytest.mark.slow
def test_a_first_record_and_a_first_reading_wait_for_a_broker_that_went_away(mortal_broker, monkeypatch):
    """The topic was there at the start, so the patience of a run that goes on holds: not that of one that begins."""
    monkeypatch.setattr("beepgpt.connectors.kafka.connection.START_PATIENCE", 0.5)
    connection = Connection(mortal_broker.bootstrap)
    from_topic, to_topic = new_topic(connection, 1), new_topic(connection, 1)
    put(connection, from_topic, *numbered(1))
    source, writer = KafkaSource(connection, from_topic), Writer(connection, to_topic)
    mortal_broker.kill()
    with ThreadPoolExecutor(2) as pool:
        reading, writing = pool.submit(read, source), pool.submit(writer.send, numbered(1))
        time.sleep(2)
        assert not reading.done() and not writing.done()
        mortal_broker.start()
        assert values(reading.result(60)) == [0]
        writing.result(60)
    with writer:
        pass

    assert values(read(KafkaSource(connection, to_topic))) == [0]


@pytest.mark.slow
def test_a_broker_that_stays_away_is_reported(mortal_broker):
    """Reading stops after its patience, and so does writing, with the topic and what to do."""
    connection = Connection(mortal_broker.bootstrap)
    topic = new_topic(connection, 1)
    put(connection, topic, *numbered(10))
    source = KafkaSource(connection, topic, follow=True, patience=2, progress=lambda *_: mortal_broker.kill())
    said = failing(lambda: read(source), NoBroker)
    mortal_broker.start()
    writer = Writer(connection, topic, patience=2)
    writer.send(numbered(1))
    writer.flush()
    mortal_broker.kill()
    writer.send(numbered(1))
    not_delivered = failing(writer.flush, NotDelivered)
    writer.close()

    assert topic in said and connection.bootstrap in said and "check the brokers" in said
    assert topic in not_delivered
