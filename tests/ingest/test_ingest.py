"""Ingest: a topic has every record once, in its place and with its time, however often the ingest is killed; on a real broker."""

from __future__ import annotations

import inspect
import json
import random
import re
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import pytest

from beepgpt.commands.ingest import ingest
from beepgpt.config.settings import read_settings
from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection, KafkaLog, Writer, create_topics
from beepgpt.connectors.log import BadAddress, LogFailed, OutgoingRecord, Record, TopicSpec, chunks_of, partition_of
from beepgpt.connectors.sqlite.sorting import Sorter
from beepgpt.conversations.account import Account
from beepgpt.conversations.events import Event, Heartbeat, Ignored, Reject, parse
from beepgpt.conversations.record_order import Span, TimedRecord, timed_record
from beepgpt.conversations.rules import MINUTE, SECOND, Rules
from beepgpt.errors import BadCommand
from beepgpt.ingest.feeds import sort_row, without_duplicates
from beepgpt.ingest.run import IngestJob, run_ingest
from beepgpt.ingest.write_plan import HEADER, WritePlan, progress_in
from beepgpt.simulation.workspace import Plan, keyed_records, live_records, undisturbed, write_export
from tests.support import NOW, at, beep, delete, edit, heartbeat, post, program, quiet, react, run_of
from tests.support.broker import Broker, GivenBroker
from tests.support.oracle_records import as_logged
from tests.support.speed import slowness

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, TopicPartition

NOWHERE = "kafka://127.0.0.1:1/events"
SMALL = Plan(seed=5, messages=600, days=10, channels=6, people=20, broken=0.0)
KEPT = {"retention.ms": "-1", "max.message.bytes": str(2 << 20)}


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


def new_topic(connection: Connection, partitions: int = 3, **settings: str) -> str:
    """An empty topic that keeps what it gets."""
    name = f"test-{uuid4().hex[:12]}"
    create_topics(connection, [TopicSpec(name, partitions, KEPT | settings)])
    return name


def address(connection: Connection, topic: str) -> str:
    return f"kafka://{connection.bootstrap}/{topic}"


def put(connection: Connection, topic: str, messages: Sequence[OutgoingRecord]):
    with Writer(connection, topic) as writer:
        writer.send(messages)


def records_in(connection: Connection, topic: str) -> dict[int, list[Record]]:
    """All that a topic holds, by partition, in order."""
    source = kafka.KafkaSource(connection, topic)
    found: dict[int, list[Record]] = {number: [] for number in source.bounds}
    for partition, _, records in chunks_of(source):
        found[int(partition.rpartition("/")[2])] += records
    return found


def values_in(connection: Connection, topic: str) -> list[bytes]:
    return sorted(record.value or b"" for records in records_in(connection, topic).values() for record in records)


def write_lines(path: Path, lines: Iterator[bytes] | Sequence[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def ingested(source: object, to: str, environ: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A run to its end; its report."""
    closing, status = run_ingest(IngestJob(str(source), to, read_settings(environ=environ or {}), **more))
    assert closing["ended"] and closing["account"]["adds_up"] and status == 0
    return closing


def refused(source: object, to: str) -> str:
    """What a run says that is to fail."""
    with pytest.raises(LogFailed) as raised:
        ingested(source, to)
    return str(raised.value)


def lines_of(plan: Plan) -> list[bytes]:
    """A live stream, without what has no place in a file of lines, or in a topic."""
    return [line for line in live_records(plan) if len(line) <= 1 << 20 and line.strip() == line and line and b"\n" not in line]


def is_heartbeat(record: bytes) -> bool:
    return isinstance(parse(record, NOW), Heartbeat)


def by_channel(records: Iterator[bytes] | Sequence[bytes]) -> dict[str | None, list[bytes]]:
    """Records in their order, by the channel they name; None: they name none."""
    found: dict[str | None, list[bytes]] = {}
    for record in records:
        parsed = parse(record, NOW, bots="context")
        channel = parsed.channel if isinstance(parsed, Event | Ignored) else None
        found.setdefault(channel, []).append(record)
    return found


def examples_of(source: object, folder: Path) -> list[bytes]:
    """The examples that the program makes of it."""
    folder.mkdir()
    beep("examples", source, "--to", folder / "made.jsonl", "--no-candidates")
    return sorted((folder / "made.jsonl").read_bytes().splitlines())


# An export, a file


def test_an_export_becomes_a_topic_that_gives_the_same_examples(connection, tmp_path):
    """Channels keep their order and their partitions, records their times; and a second start finds all of it there."""
    topic, export = new_topic(connection), tmp_path / "export.zip"
    write_export(SMALL, export)
    first = ingested(export, address(connection, topic))
    found = records_in(connection, topic)

    assert first["account"]["written"] == sum(map(len, found.values())) == first["account"]["read"] > 300
    for partition, records in found.items():
        times = [record.timestamp for record in records]
        assert times == sorted(times)
        for record in records:
            parsed = parse(record.value or b"", NOW, bots="context")
            assert isinstance(parsed, Event | Ignored)
            assert record.key == (parsed.channel or "").encode()
            assert partition == partition_of(record.key, 3)
            assert record.timestamp == (parsed.t or 0) // 1000 * 1000
    assert examples_of(address(connection, topic), tmp_path / "a") == examples_of(export, tmp_path / "b") != []

    second = ingested(export, address(connection, topic))
    assert (second["account"]["written"], second["account"]["there"]) == (0, first["account"]["read"])
    assert values_in(connection, topic) == sorted(record.value or b"" for records in found.values() for record in records)


def test_a_file_keeps_its_order_and_loses_nothing(connection, tmp_path):
    """With duplicates, disorder and broken records of all kinds; a heartbeat goes to every partition, what has no channel by its bytes."""
    topic = new_topic(connection)
    plan = Plan(seed=6, messages=300, days=1, channels=5, people=20, broken=0.1, heartbeat_every=3_600)
    lines = lines_of(plan)
    source = write_lines(tmp_path / "events.jsonl", lines)
    ingested(source, address(connection, topic))
    found = records_in(connection, topic)
    beats = list(filter(is_heartbeat, lines))
    events = [as_logged(line) for line in lines if not is_heartbeat(line)]

    assert beats
    for partition, records in found.items():
        values = [record.value or b"" for record in records]
        without_channel = [record.value or b"" for record in records if record.key is None and not is_heartbeat(record.value or b"")]
        assert list(filter(is_heartbeat, values)) == beats
        assert all(partition == crc32(value) % 3 for value in without_channel)
    on_topic = [record.value or b"" for records in found.values() for record in records if not is_heartbeat(record.value or b"")]
    assert sorted(on_topic) == sorted(events)
    wanted, got = by_channel(events), by_channel(on_topic)
    assert {each: got[each] for each in got if each} == {each: wanted[each] for each in wanted if each}


def test_a_time_from_the_future_is_rejected_by_every_reader(connection, tmp_path):
    """It is stamped with the time of the ingest, and what is up to a day ahead with no more than that."""
    topic, now = new_topic(connection, 1), int(time.time()) * SECOND
    times = [now - MINUTE, now + 7_200 * SECOND, now + 40 * 86_400 * SECOND]
    line = '{"type":"message","channel":"C1","user":"U1","text":"hi","ts":"%d.%06d"}'
    source = write_lines(tmp_path / "events.jsonl", [(line % divmod(t, SECOND)).encode() for t in times])
    ingested(source, address(connection, topic))
    records = records_in(connection, topic)[0]

    assert [type(parse(record.value or b"", record.timestamp)).__name__ for record in records] == ["Event", "Event", "Reject"]
    assert records[0].timestamp == times[0]
    assert all(now <= record.timestamp < now + 600 * SECOND for record in records[1:])


# Kills and stops


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(program("ingest", *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=quiet())


def records_on(connection: Connection, topic: str) -> int:
    return sum(end - begin for begin, end in kafka.begin_and_end_offsets(connection, topic).values())


def wait_for_records(connection: Connection, topic: str, count: int, process: subprocess.Popen[str]):
    """Until so many are there, or the process has ended."""
    while records_on(connection, topic) < count and process.poll() is None:
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_ingest_goes_on_where_the_topic_ends(connection, tmp_path):
    """`kill -9` at three random moments: every record is there once, in its order."""
    draws, topic = random.Random(8), new_topic(connection, 4)
    plan = Plan(seed=8, messages=27_000, days=30, channels=12, people=40, broken=0.01, heartbeat_every=7_200)
    lines = lines_of(plan)
    source = write_lines(tmp_path / "events.jsonl", lines)
    hits = 0
    for _ in range(3):
        there = records_on(connection, topic)
        process = start(source, "--to", address(connection, topic))
        wait_for_records(connection, topic, there + draws.randrange(1, 2_500), process)
        hits += process.poll() is None
        process.kill()
        process.communicate()
    closing = ingested(source, address(connection, topic))

    assert hits >= 2
    assert closing["account"]["there"] > 0 and closing["account"]["written"] > 0
    found = records_in(connection, topic)
    for partition, records in found.items():
        numbers = [int(dict(record.headers)[HEADER].split(b":")[1]) for record in records]
        assert numbers == sorted(set(numbers)), f"partition {partition}"
    on_topic = [record.value or b"" for records in found.values() for record in records]
    beats = list(filter(is_heartbeat, lines))
    assert sorted(on_topic) == sorted([*map(as_logged, lines), *3 * beats])


@pytest.mark.slow
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_stopped_ingest_keeps_what_it_wrote(connection, tmp_path, asked):
    """At a pace, in the middle of a silence: it ends at once with status 130, and the same command without a pace does the rest."""
    topic = new_topic(connection, 2)
    lines = [post(user, minute=minute).line for user, minute in (("ana", 0), ("bo", 0.01), ("cy", 600))]
    source = write_lines(tmp_path / "events.jsonl", lines)
    process = start(source, "--to", address(connection, topic), "--pace", "1x", "--report", tmp_path / "stopped.json")
    wait_for_records(connection, topic, 2, process)
    asked_at = time.monotonic()
    process.send_signal(asked)
    _, said = process.communicate(timeout=60 * slowness())
    stopped = json.loads((tmp_path / "stopped.json").read_bytes())

    assert process.returncode == 130, said
    assert "at 1x in 10:00:00" in said and "run the same command again" in said
    assert time.monotonic() - asked_at < 20
    assert not stopped["ended"] and stopped["account"]["written"] == 2 and stopped["account"]["adds_up"]
    ingested(source, address(connection, topic))
    assert sorted(set(values_in(connection, topic)) & set(lines)) == sorted(lines)
    assert len([value for value in values_in(connection, topic) if b"heartbeat" not in value]) == 3


def contents(connection: Connection, topic: str) -> dict[int, list[bytes]]:
    """What stands in each partition, in order."""
    return {number: [record.value or b"" for record in records] for number, records in records_in(connection, topic).items()}


@pytest.mark.slow
def test_a_pace_lets_time_pass(connection, tmp_path):
    """Six minutes at 150x take more than two seconds; at each multiple of 150 s every partition gets a heartbeat."""
    topic = new_topic(connection, 2)
    posts = {minute: post(f"u{minute}", minute=minute, channel="C1" if minute < 3 else "C4").line for minute in (0, 1, 2, 5, 6)}
    source = write_lines(tmp_path / "events.jsonl", list(posts.values()))
    closing = ingested(source, address(connection, topic), pace=150.0)
    parts = contents(connection, topic)
    written = [[json.loads(line).get("at") or json.loads(line)["user"] for line in parts[partition_of(each, 2)]] for each in (b"C1", b"C4")]
    one, two = (json.loads(heartbeat(minute=minute).line)["at"] for minute in (2.5, 5))

    assert closing["seconds"] > 2.4 and closing["account"]["heartbeats_added"] == 2
    assert written == [["u0", "u1", "u2", one, two], [one, two, "u5", "u6"]]

    again = ingested(source, address(connection, topic), pace=150.0)["account"]
    assert (again["written"], again["heartbeats_added"]) == (0, 0)
    assert contents(connection, topic) == parts


@pytest.mark.slow
def test_at_one_pace_two_ingests_write_the_same(connection, tmp_path):
    """One of them killed twice, in the middle of it and in a silence: record for record in each partition, heartbeats among them."""
    step = 86_400 * SECOND
    lines = lines_of(Plan(seed=11, messages=300, days=2, channels=6, people=20, broken=0.0))
    times = [parsed.t for line in lines if isinstance(parsed := parse(line, NOW), Event)]
    guest = b'{"type":"message","channel":"C%d","user":"U1","text":"hi","ts":"%d.000000"}'
    last = [guest % (number, (max(times) + 3 * step) // SECOND) for number in range(2)]
    source = write_lines(tmp_path / "events.jsonl", [*sorted(lines, key=lambda line: getattr(parse(line, NOW), "t", 0)), *last])
    whole, killed = new_topic(connection, 3), new_topic(connection, 3)
    in_silence = len(lines) + 3 * (max(times) // step - min(times) // step + 1)
    for count in (100, in_silence):
        process = start(source, "--to", address(connection, killed), "--pace", "86400x")
        wait_for_records(connection, killed, count, process)
        assert process.poll() is None
        process.kill()
        process.communicate()
    rest = ingested(source, address(connection, killed), pace=86_400.0)["account"]
    beats = ingested(source, address(connection, whole), pace=86_400.0)["account"]["heartbeats_added"]

    assert (rest["there"], rest["written"]) == (len(lines), 2)
    assert 4 <= beats <= 6 and 1 <= rest["heartbeats_added"] <= 2
    assert contents(connection, killed) == contents(connection, whole)


@pytest.mark.slow
def test_a_heartbeat_that_reached_one_partition_before_a_kill_comes_to_all(connection, tmp_path):
    source = write_lines(tmp_path / "events.jsonl", [post("ana", minute=minute, channel="C1").line for minute in (0, 3)])
    whole, killed, number = new_topic(connection, 2), new_topic(connection, 2), partition_of(b"C1", 2)
    ingested(source, address(connection, whole), pace=150.0)
    with Writer(connection, killed) as writer:
        writer.send([OutgoingRecord(each.key, each.value, each.headers, number) for each in records_in(connection, whole)[number][:2]])

    ingested(source, address(connection, killed), pace=150.0)
    assert contents(connection, killed) == contents(connection, whole) and is_heartbeat(contents(connection, whole)[1 - number][0])


# What is refused


def test_a_topic_with_others_records_is_refused(connection, tmp_path):
    """Nothing is written; the same holds when the source has changed since."""
    topic, source = new_topic(connection), write_lines(tmp_path / "events.jsonl", [post("ana", minute=0).line])
    put(connection, topic, [OutgoingRecord(b"C1", b"theirs")])
    said = refused(source, address(connection, topic))

    assert "Name an empty topic" in said
    assert values_in(connection, topic) == [b"theirs"]


def test_others_records_behind_ours(connection, tmp_path):
    """All of ours is there: then it is done. Some is missing: it would be late behind theirs, and is refused."""
    topic, lines = new_topic(connection, 1), [post("ana", minute=minute).line for minute in range(3)]
    source = write_lines(tmp_path / "events.jsonl", lines)
    ingested(source, address(connection, topic))
    whole = records_in(connection, topic)[0]
    put(connection, topic, [OutgoingRecord(b"C1", b"theirs")] * 30)
    again = ingested(source, address(connection, topic))

    assert (again["account"]["there"], again["account"]["written"]) == (3, 0)
    begun = new_topic(connection, 1)
    put(
        connection,
        begun,
        [*(OutgoingRecord(each.key, each.value, each.headers, 0, each.timestamp) for each in whole[:2]), OutgoingRecord(None, b"x")],
    )
    assert "of which 1 are missing" in refused(source, address(connection, begun))
    assert len(records_in(connection, begun)[0]) == 3


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"retention.ms": "604800000"}, "its retention.ms is 604800000"),
        ({"retention.bytes": "1000000"}, "its retention.bytes is 1000000"),
        ({"cleanup.policy": "compact"}, "its cleanup.policy is compact"),
        ({"message.timestamp.type": "LogAppendTime"}, "its message.timestamp.type is LogAppendTime"),
    ],
)
def test_a_topic_that_would_not_keep_it_is_refused(connection, settings, named):
    """The setting is named, and the command that makes a topic that does."""
    topic = new_topic(connection, **settings)

    with pytest.raises(LogFailed) as raised:
        KafkaLog(connection).check_keeps(topic)
    assert named in str(raised.value) and "`beepgpt topics`" in str(raised.value)


def test_a_record_that_is_too_large_is_named(connection, tmp_path):
    """With its line; what stands before it is written, and the same command goes on once the topic takes more."""
    topic = new_topic(connection, 1, **{"max.message.bytes": "10000"})
    lines = [post("ana", minute=0).line, post("ana", "long " * 4_000, minute=1).line]
    source = write_lines(tmp_path / "events.jsonl", lines)
    said = refused(source, address(connection, topic))

    assert "events.jsonl, line 2: a record of" in said and "max.message.bytes" in said
    assert values_in(connection, topic) == lines[:1]


@pytest.mark.slow
def test_two_ingests_at_once_are_noticed(connection, tmp_path):
    """One finds the other at work, or finds more in the topic than it wrote: they don't both say that all is well."""
    topic, source = new_topic(connection, 1), write_lines(tmp_path / "events.jsonl", lines_of(replace(SMALL, messages=2_000)))
    both = [start(source, "--to", address(connection, topic)) for _ in range(2)]
    for process in both:
        process.communicate(timeout=60 * slowness())
    numbers = [dict(record.headers)[HEADER] for record in records_in(connection, topic)[0]]

    assert len(set(numbers)) == len(numbers) or any(process.returncode == 1 for process in both)


def delete_first(connection: Connection, topic: str, partition: int):
    """As retention does."""
    admin = KafkaAdminClient(**connection.options())
    admin.delete_records({TopicPartition(topic, partition): 1})
    admin.close()


def test_records_that_were_removed_are_missed(connection, tmp_path):
    """A topic that ends with the last record, and has lost the first, does not have all of it."""
    topic, source = new_topic(connection, 1), write_lines(tmp_path / "events.jsonl", [post("ana", minute=each).line for each in range(3)])
    ingested(source, address(connection, topic))
    delete_first(connection, topic, 0)

    assert "partition 0: 1 records of this ingest were removed" in refused(source, address(connection, topic))


def test_a_day_file_that_cannot_be_read_is_counted_and_named(connection, tmp_path, capsys):
    """The rest of the export is written."""
    topic, export = new_topic(connection, 1), tmp_path / "export"
    (export / "general").mkdir(parents=True)
    (export / "channels.json").write_text('[{"id": "C1", "name": "general"}]')
    (export / "general" / "2024-01-01.json").write_bytes(b"[" + post("ana", minute=0).line + b"]")
    (export / "general" / "2024-01-02.json").write_text("<html>")
    account = ingested(export, address(connection, topic))["account"]

    assert (account["read"], account["written"], account["unusable"]) == (2, 1, {"day_file_not_json": 1})
    assert "general/2024-01-02.json: not written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"to": "events.jsonl"}, "--to events.jsonl: a topic is expected: kafka://host:port/topic"),
        ({"to": f"{NOWHERE}?follow=true"}, "from, to and follow are for a SOURCE"),
        ({"pace": "fast"}, "--pace fast: a multiple of real time"),
        ({"pace": "0x"}, "--pace 0x: a multiple of real time"),
        ({"with_": "late,early"}, "--with early: must be of"),
        ({"with_": "late"}, "--with goes with a topic as SOURCE"),
        ({"source": NOWHERE}, "is read from: name another topic"),
        ({"source": f"{NOWHERE}?from=2024-01-01"}, "leave out from, to and follow"),
    ],
)
def test_a_wrong_command_is_told(given, said):
    """Before a broker is asked."""
    with pytest.raises((BadCommand, BadAddress), match=re.escape(said)):
        wrapped = inspect.unwrap(ingest)
        wrapped(**{"source": "events.jsonl", "to": NOWHERE, "settings": read_settings(environ={}), **given})


# A topic, put in order


@pytest.mark.slow
def test_a_rebuilt_topic_gives_what_the_events_in_order_would_have_given(connection, tmp_path):
    """Late events, duplicates, dead letters that were mended, channels in other partitions: all come back to their places."""
    plan = Plan(seed=9, messages=800, days=5, channels=6, people=20, broken=0.02, too_late=0.02, duplicates=0.05, heartbeat_every=7_200)
    old, new, letters, late = (new_topic(connection, partitions) for partitions in (2, 5, 1, 1))
    arrived = [(key, value) for key, value in keyed_records(plan) if len(value) <= 1 << 20]
    missing = [value for key, value in arrived if key is not None][100:110]  # never came to the topic, but to the dead letters, and late
    messages = []
    for number, (key, value) in enumerate(arrived):
        parsed = parse(value, NOW)
        stamp = (getattr(parsed, "t", None) or plan.end_us) + SECOND
        where = range(2) if is_heartbeat(value) else [number % 2]  # channels in both partitions
        messages += [
            OutgoingRecord(None if key is None else key.encode(), value, (), each, stamp) for each in where if value not in missing
        ]
    put(connection, old, messages)
    source = ("source", f"{old}/0:999999".encode())
    put(connection, letters, [OutgoingRecord(None, value, [("reason", b"bad_user"), source]) for value in missing[:5]])
    put(
        connection,
        letters,
        [OutgoingRecord(None, b"oops", [("reason", b"not_json"), source]), OutgoingRecord(None, b"x", [("source", b"other/0:1")])],
    )
    put(connection, late, [OutgoingRecord(None, value, [("reason", b"late"), source]) for value in missing])

    named = {"BEEPGPT_KAFKA__LATE_TOPIC": late, "BEEPGPT_KAFKA__DEAD_LETTER_TOPIC": letters}
    account = ingested(address(connection, old), address(connection, new), named, beside=("dead-letters", "late"))["account"]
    found = records_in(connection, new)

    assert account["adds_up"] and account["elsewhere"] == 1 and account["copies"] > 10
    assert account["unusable"]["not_json"] >= 1
    for partition, records in found.items():
        times = [record.timestamp for record in records]
        assert times == sorted(times)
        assert {partition_of(record.key, 5) for record in records if record.key is not None} <= {partition}
    wanted = run_of(live_records(undisturbed(plan)), Rules(candidates=False))
    partitions = [run_of([record.value or b"" for record in records], Rules(candidates=False)) for records in found.values()]
    assert sorted(line for run in partitions for line in run.examples) == sorted(wanted.examples) != []
    assert sum(run.account["late"] + run.account["duplicate"] for run in partitions) == 0

    again = ingested(address(connection, old), address(connection, new), named, beside=("dead-letters", "late"))["account"]
    assert (again["written"], again["there"]) == (0, account["written"])


def test_letters_are_told_from_what_they_were_made_of(connection, tmp_path):
    """One whose record stands in the topic is not counted again as unusable; one of the topic that had this name before stays out. A record
    without a value is read and named, as any other that can't be used."""
    old, new, letters = new_topic(connection, 1), new_topic(connection, 1), new_topic(connection, 1)
    put(connection, old, [OutgoingRecord(b"C1", post("ana", minute=0).line, (), 0, at(0)), OutgoingRecord(None, b"oops", (), 0, at(1))])
    put(connection, old, [OutgoingRecord(b"C1", None, (), 0, at(2))])
    ours, reason = ("source_topic_id", kafka.describe_topic(connection, old).id.encode()), ("reason", b"not_json")
    for place, value, more in (
        ("0:1", b"oops", [ours]),  # its record stands in the topic
        ("0:1", b"oops", []),
        ("0:7", b"gone", [ours]),  # its record was removed from there
        ("0:1", post("old", minute=5).line, [("source_topic_id", b"another")]),
        ("0:8", post("mended", minute=6).line, []),
        ("0:9", post("mended", minute=7).line, [ours]),
    ):
        put(connection, letters, [OutgoingRecord(None, value, [reason, ("source", f"{old}/{place}".encode()), *more])])
    put(connection, letters, [OutgoingRecord(None, post("elsewhere", minute=8).line, [reason, ("source", f"{new}/0:3".encode())])])
    soon = [("reason", b"future"), ("source", f"{old}/0:10".encode()), ours]  # its time has come since, and it was from the future
    put(connection, letters, [OutgoingRecord(None, post("soon", minute=9).line, soon)])
    named = {"BEEPGPT_KAFKA__DEAD_LETTER_TOPIC": letters}
    account = ingested(address(connection, old), address(connection, new), named, beside=("dead-letters",))["account"]

    assert {name: count for name, count in account.items() if count and name != "adds_up"} == {
        "read": 11,
        "written": 3,
        "letters_of_unusable": 2,
        "elsewhere": 2,
        "unusable": {"future": 1, "no_value": 1, "not_json": 2},
    }
    assert [json.loads(value)["user"] for value in contents(connection, new)[0]] == ["ana", "mended", "mended"]


# Plain functions


def sorted_items(*lines: bytes) -> list[TimedRecord]:
    """In order, and without duplicates."""
    account = Account()
    with Sorter() as sorter:
        for number, line in enumerate(lines):
            parsed = parse(line, NOW, bots="context")
            assert not isinstance(parsed, Reject)
            sorter.add([sort_row(line, f"line {number}", parsed, 0)])
        found = list(without_duplicates(sorter.rows(), 5 * SECOND, account))
    assert len(found) + account["copies"] == len(lines)
    return found


def test_ties_stand_as_they_are_applied():
    """At one time: heartbeats, posts, edits, deletions, reactions; then by their bytes."""
    lines = [
        heartbeat(minute=1).line,
        *sorted([post("ana", minute=1).line, post("ana", minute=1, channel="C2").line]),
        edit("hi", of=0, minute=1).line,
        delete(of=0, minute=1).line,
        react("bo", to=0, minute=1).line,
        react("cy", to=0, minute=1).line,
    ]

    assert [item.record for item in sorted_items(*reversed(lines))] == lines


def test_of_duplicates_the_smaller_one_stays():
    """The same event in other bytes, or by the same id within ten minutes; the same text at another time is another event."""
    first, longer = post("ana", minute=0).line, post("ana", minute=0, team="T1").line
    callback = b'{"type":"event_callback","event_id":"Ev1","event":%s}'
    by_id = [callback % post("bo", minute=minute).line for minute in (1, 10, 22)]

    assert [item.record for item in sorted_items(longer, first, longer)] == [min(first, longer)]
    assert [item.record for item in sorted_items(*by_id)] == [by_id[0], by_id[2]]
    assert len(sorted_items(post("ana", minute=0).line, post("ana", minute=0.1).line)) == 2
    assert len(sorted_items(heartbeat(minute=3).line, heartbeat(minute=3).line)) == 1


def test_of_two_copies_of_a_post_through_an_app_a_persons_stays():
    """As in the flow, whose windows it is in: whatever the bytes of the other, which nobody had asked about."""
    post_by_app = b'{"type":"message","channel":"C1","user":"U1","bot_id":"B1","ts":"1704103200.000000","text":"Hi"}'
    callback = b'{"type":"event_callback",%s"event":%s}'
    persons = callback % (b'"by_person":true,', post_by_app)

    for more in (b'"a":1,', b'"z":1,'):
        assert [item.record for item in sorted_items(callback % (more, post_by_app), persons)] == [persons], more


def span(*lines: bytes) -> Span:
    plan = WritePlan("0" * 12, 2, partition_of, NOW)
    return plan.span([timed_record(line, "") for line in lines], 5 * SECOND)


def test_what_heartbeats_would_make_late_is_noticed():
    """Channels one after the other: behind the first one's end the second one's beginning would be late."""
    one, two = post("ana", minute=0, channel="C1").line, post("bo", minute=9, channel="C1").line
    other = post("cy", minute=1, channel="C2").line

    assert span(one, other, two) == Span(at(0), at(9), 3, True)
    assert not span(one, two, other).in_order
    assert span(one, two, post("cy", minute=1, channel="C1").line).in_order, "late by its own channel's clock"


def test_where_a_run_begins_again():
    """At the furthest record that is there; a heartbeat's own time is read from its header."""
    lines = [post("ana", minute=minute).line for minute in range(4)]
    plan = WritePlan("0" * 12, 2, partition_of, NOW, {0: 1, 1: -1})
    beats = [list(headers) for _, _, headers, _, _ in plan.heartbeats(at(1), 1, range(2))]
    found = progress_in({0: (beats[:1], True), 1: ([], True)}, plan.run)

    assert plan.span([timed_record(line, "") for line in lines], 5 * SECOND).first == at(1)
    assert (found.there, found.beats) == ({0: 1, 1: -1}, {0: at(1)})
