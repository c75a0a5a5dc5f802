"""The examples flow on a real broker: live equals replay equals batch, and how a run behaves that has no end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from bytewax.recovery import init_db_dir

from beepgpt.connectors.kafka import Connection, OutgoingRecord, TopicSpec, Writer, create_topics, describe_topics, records_of
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.events import micros
from beepgpt.conversations.rules import HOUR, MINUTE, SECOND
from beepgpt.conversations.shard import RunOutput, Shard
from beepgpt.simulation.workspace import Plan, broken_record
from tests.support import read_into, run_of
from tests.support.broker import Broker, GivenBroker
from tests.support.histories import delete, post
from tests.support.kafka import (
    NOTHING,
    PATIENCE,
    Outcome,
    Running,
    Stream,
    Topics,
    account_of,
    address,
    examples_on,
    free_block,
    heartbeat_at,
    letters_on,
    messages_of,
    new_topics,
    outcome_in,
    outcome_of,
    outcome_on,
    page,
    put,
    report_in,
    running,
    stamps_of,
    started,
    stream_of,
    time_of,
    to_the_end,
    wait_until,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient

ROOT = Path(__file__).parents[2]
NOON = 1_704_110_400 * SECOND


PLAN = Plan(
    seed=12, messages=1_200, days=6, channels=10, people=30, heartbeat_every=1_800,
    edits=0.1, deletions=0.05, reactions=0.3, duplicates=0.05, too_late=0.01, broken=0.01,
)  # fmt: skip


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


@pytest.fixture(scope="module")
def stream() -> Stream:
    """A workspace's events as they arrive: late ones, copies and broken ones among them."""
    made = stream_of(PLAN)
    assert all(vars(outcome_of(made.run)).values()), "there is some of everything"
    return made


def assert_the_same(found: Outcome, expected: Outcome):
    """Byte for byte, and each once."""
    assert found - expected == NOTHING, "too much"
    assert expected - found == NOTHING, "too little"
    assert found == expected, "something stands there twice"


def made_in(topics: Topics, folder: Path, to: str) -> Outcome:
    """What a run wrote to DEST."""
    return outcome_on(topics) if to == "topic" else outcome_in(folder)


def dest(topics: Topics, folder: Path, to: str) -> str:
    """DEST, a topic or a file."""
    return topics.to if to == "topic" else str(folder / "made.jsonl")


# Live equals replay equals batch


def follow(topics: Topics, folder: Path, stream: Stream, workers: int, to: str) -> dict[str, Any]:
    """A run that follows the topic while it is filled, and is stopped when it has read everything; its report."""
    messages = stream.messages(topics.partitions)
    report = folder / "report.json"
    command = (topics.source(follow="true"), "--to", dest(topics, folder, to), "--report", report)
    with running(topics, folder, *command, workers=workers) as run:
        run.wait_until_ready()
        put(topics, messages, seconds=1)
        run.wait_until_read(len(messages))
        assert run.stop() == 0, run.said
    return report_in(report)


def replay(
    topics: Topics, folder: Path, workers: int, to: str, *arguments: object, asked: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A run to the topic's end as it stands; its report. `asked`: the address' from and to."""
    report = folder / "report.json"
    command = (topics.source(**(asked or {})), "--to", dest(topics, folder, to), "--report", report, "--workers", workers)
    done = to_the_end(topics, "examples", *command, *arguments)
    assert done.returncode == 0, done.stderr
    return report_in(report)


def check_followed_and_replayed(connection: Connection, folder: Path, stream: Stream, partitions: int, workers: int, to: str):
    """Follows, replays, and compares both to the batch."""
    topics = new_topics(connection, partitions)
    for name in ("followed", "replayed"):
        (folder / name).mkdir()

    followed = follow(topics, folder / "followed", stream, workers, to)
    again = new_topics(connection, partitions, events=topics.events)
    replayed = replay(again, folder / "replayed", workers, to)

    assert_the_same(made_in(topics, folder / "followed", to), outcome_of(stream.run))
    assert_the_same(made_in(again, folder / "replayed", to), outcome_of(stream.run))
    assert account_of(followed, partitions) == stream.run.account.as_json()
    assert account_of(replayed, partitions) == stream.run.account.as_json()
    assert not followed["ended"] and replayed["ended"]


@pytest.mark.parametrize(("partitions", "workers", "to"), [(1, 2, "topic"), (4, 1, "file"), (12, 4, "topic")])
def test_live_equals_replay_equals_batch(connection, stream, tmp_path, partitions: int, workers: int, to: str):
    """Followed while it happens, and replayed: the examples of the batch, byte for byte, and its account."""
    check_followed_and_replayed(connection, tmp_path, stream, partitions, workers, to)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("to", ["file", "topic"])
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("partitions", [1, 4, 12])
def test_live_equals_replay_equals_batch_everywhere(connection, tmp_path, partitions: int, workers: int, to: str, seed: int):
    """The same with all numbers of partitions and workers, and other workspaces."""
    check_followed_and_replayed(connection, tmp_path, stream_of(replace(PLAN, seed=100 + seed)), partitions, workers, to)


# A Bytewax cluster


@contextmanager
def cluster(topics: Topics, folder: Path, count: int, level: str = "info") -> Iterator[list[Running]]:
    """So many processes of Bytewax's own runner, over one recovery store."""
    store = folder / "store"
    if not store.exists():
        store.mkdir()
        init_db_dir(store, 3)
    first = free_block(count)
    addresses = ";".join(f"127.0.0.1:{first + number}" for number in range(count))
    command = [sys.executable, "-m", "bytewax.run", "beepgpt.dataflows.examples:flow()", "-r", str(store), "-s", "1", "-b", "0"]
    settings = topics.settings | {
        "PYTHONPATH": str(ROOT),
        "BEEPGPT_CLUSTER__SOURCE": topics.source(follow="true"),
        "BEEPGPT_CLUSTER__TO": topics.to,
        "BEEPGPT_RUN__LOG_LEVEL": level,
        "BEEPGPT_RUN__LOG_FORMAT": "json",
    }
    with ExitStack() as stack:
        processes = []
        for number in range(count):
            port = free_block(1)
            place = ["-i", str(number), "-a", addresses] if count > 1 else []
            each = started([*command, *place], folder, settings | {"BEEPGPT_RUN__METRICS_PORT": str(port)}, port, 1)
            processes.append(stack.enter_context(each))
        yield processes


def test_a_process_of_a_cluster_is_ready_without_a_partition(connection, tmp_path):
    """One partition for two processes: both tell that they are ready, so that nobody waits for the one with nothing to read."""
    topics = new_topics(connection, 1)
    with cluster(topics, tmp_path, 2) as processes:
        for each in processes:
            each.wait_until_ready()
        assert stop_all(processes) == [0, 0], [each.said for each in processes]


def wait_until_cluster_read(processes: Sequence[Running], records: int):
    """All of them together, since they were started."""
    wait_until(lambda: sum(each.records_read() for each in processes) >= records, f"the cluster read {records} records")


def stop_all(processes: Sequence[Running]) -> list[int]:
    """SIGTERM to each, and then their exit statuses."""
    for each in processes:
        each.process.send_signal(signal.SIGTERM)
    return [each.process.wait(PATIENCE) for each in processes]


def sum_of(accounts: Sequence[Any]) -> Any:
    """Of accounts as reports and logs write them, name by name."""
    if isinstance(accounts[0], dict):
        names = dict.fromkeys(name for each in accounts for name in each)
        return {name: sum_of([each[name] for each in accounts if name in each]) for name in names}
    return all(accounts) if isinstance(accounts[0], bool) else sum(accounts)


def test_a_cluster_is_rescaled_by_restarts(connection, stream, tmp_path):
    """Two processes, one, and three, each time stopped by SIGTERM: the examples of the batch, each once, and its account."""
    topics = new_topics(connection, 4)
    messages = stream.messages(4)
    third = len(messages) // 3 + 1
    for count, first in ((2, 0), (1, third), (3, 2 * third)):
        with cluster(topics, tmp_path, count) as processes:
            put(topics, part := messages[first : first + third])
            wait_until_cluster_read(processes, len(part))
            assert stop_all(processes) == [0] * count, [each.said for each in processes]

    told = [line["account"] for each in processes for line in each.log_lines() if line["message"] == "account"]
    assert account_of({"account": sum_of(told)}, 4) == stream.run.account.as_json()
    assert_the_same(outcome_on(topics), outcome_of(stream.run))


def test_a_cluster_of_which_one_process_was_stopped_and_killed_goes_on_after_a_restart_of_all(connection, stream, tmp_path):
    """One is asked to stop, which the others don't follow, and then killed: all end, and after a restart nothing is missing."""
    topics = new_topics(connection, 4)
    messages = stream.messages(4)
    half = len(messages) // 2
    put(topics, messages[:half])
    with cluster(topics, tmp_path, 2) as (one, other):
        wait_until_cluster_read((one, other), half)
        one.process.send_signal(signal.SIGTERM)
        put(topics, messages[half:])
        one.process.kill()
        assert other.process.wait(PATIENCE) != 0
    with cluster(topics, tmp_path, 2) as processes:
        wait_until(lambda: all(has_heard_the_end(each, stream) for each in processes), "everything is read")
        assert stop_all(processes) == [0, 0], [each.said for each in processes]

    assert_the_same(once(outcome_on(topics)), once(outcome_of(stream.run)))


def has_heard_the_end(run: Running, stream: Stream) -> bool:
    """Whether the last heartbeat of every partition came, which is from days after all others."""
    assert run.process.poll() is None, run.said
    age = time.time() - time_of(stream.lines[-1]) / SECOND
    told = [behind for figures in run.metrics() for name, behind in figures.items() if name.startswith("beepgpt_seconds_behind")]
    return len(told) == 4 and all(behind < age + 3600 for behind in told)


def once(outcome: Outcome) -> Outcome:
    """Without what was sent again, which after a kill there may be."""
    return Outcome(*(sorted(set(each)) for each in vars(outcome).values()))


# A stop is no end


def so_far(stream: Stream, count: int) -> RunOutput:
    """What the first records of a stream give while nobody knows how it goes on."""
    shard = Shard(stream.rules, load_encoding(stream.rules.encoding))
    read_into(shard, stream.lines[:count])
    shard.account.count("heartbeats", sum(key is None for key, _ in stream.records[:count]))
    made = shard.drain()
    run = RunOutput()
    run.examples, run.retractions, run.late, run.account = made.examples, made.retractions, made.late, shard.account_now()
    return run


@pytest.mark.parametrize(("by", "workers", "to"), [(signal.SIGTERM, 2, "topic"), (signal.SIGINT, 1, "file")], ids=["SIGTERM", "SIGINT"])
def test_a_stop_is_no_end_of_what_is_followed(connection, stream, tmp_path, by: signal.Signals, workers: int, to: str):
    """It exits with 0 and settles nothing; the same command goes on, and both together are one run."""
    topics = new_topics(connection, 4)
    half = len(stream.records) // 2
    begun = list(messages_of(stream.records[:half], 4))
    parts = [begun, stream.messages(4)[len(begun) :]]
    report = tmp_path / "report.json"
    command = (topics.source(follow="true"), "--to", dest(topics, tmp_path, to), "--report", report, "--recovery", tmp_path / "memory")
    told = []
    for part in parts:
        with running(topics, tmp_path, *command, workers=workers) as run:
            put(topics, part)
            run.wait_until_read(len(part))
            assert run.stop(by) == 0, run.said
        told.append(report_in(report))
        if to == "topic" and len(told) == 1:
            assert outcome_on(topics).examples == sorted(so_far(stream, half).examples), "what was open is not closed"

    assert account_of(told[0], 4) == so_far(stream, half).account.as_json()
    assert told[0]["account"]["points"]["open"] > 0 == told[0]["account"]["points"]["censored"]
    assert [each["ended"] for each in told] == [False, False]
    assert account_of(told[1], 4) == stream.run.account.as_json()
    assert_the_same(made_in(topics, tmp_path, to), outcome_of(stream.run))


# From, to, and a warm-up


def middle_of(stream: Stream) -> int:
    """A time in the middle of it, whole seconds."""
    times = sorted(filter(None, map(time_of, stream.lines)))
    return times[len(times) // 2] // SECOND * SECOND


def iso(at: int) -> str:
    """As a command line has it."""
    return datetime.fromtimestamp(at // SECOND, UTC).isoformat().replace("+00:00", "Z")


def prompted_from(run: RunOutput, since: int) -> list[bytes]:
    """A run's examples of points at this time or later."""
    return sorted(line for line in run.examples if micros(json.loads(line)["prompt_ts"]) >= since)


@pytest.fixture(scope="module")
def filled(broker: Broker | GivenBroker, stream: Stream) -> Topics:
    """The workspace on a topic with four partitions, to be replayed by several tests."""
    topics = new_topics(Connection(broker.bootstrap), 4)
    put(topics, stream.messages(4))
    return topics


@pytest.fixture
def outputs(filled: Topics) -> Topics:
    """The same with empty topics for what is made of it."""
    return new_topics(filled.connection, filled.partitions, events=filled.events)


def test_from_chooses_what_is_written(filled, stream, tmp_path):
    """The examples of points from then on, each as in the full run, since all before it was read, too."""
    since = middle_of(stream)

    account = replay(filled, tmp_path, 1, "file", asked={"from": iso(since)})["account"]

    chosen = prompted_from(stream.run, since)
    assert 0 < len(chosen) < len(stream.run.examples)
    assert outcome_in(tmp_path).examples == chosen
    assert account["examples"] == len(chosen)
    assert account["before_from"] == len(stream.run.examples) - len(chosen)
    assert account["adds_up"]
    assert account["events"] == stream.run.account.as_json()["events"]


def test_from_holds_for_what_is_followed(outputs, stream, tmp_path):
    """The past is read and not written; what is new is."""
    since = middle_of(stream)
    with running(outputs, tmp_path, outputs.source(**{"from": iso(since), "follow": "true"}), "--to", outputs.to) as run:
        run.wait_until_read(len(stream.messages(4)))
        assert run.stop() == 0, run.said

    assert outcome_on(outputs).examples == prompted_from(stream.run, since)


def test_to_is_until(filled, stream, tmp_path):
    """A topic's `to` gives what `--until` gives of a file, though the topic goes on after it."""
    until = middle_of(stream)
    expected = run_of(stream.lines, stream.rules, until)

    report = replay(filled, tmp_path, 2, "file", asked={"to": iso(until)})

    assert_the_same(outcome_in(tmp_path), outcome_of(expected))
    assert account_of(report, 4) == expected.account.as_json()


def test_a_warm_up_begins_later(filled, stream, tmp_path):
    """It gives what a run would give over the records that were written from then on, as if nothing had been before."""
    since, warmup = middle_of(stream), 12 * HOUR
    stamps = stamps_of(stream.records)
    read = [value for value, stamp in zip(stream.lines, stamps, strict=True) if stamp // 1000 >= (since - warmup) // 1000]

    report = replay(filled, tmp_path, 1, "file", "--warmup", "12h", asked={"from": iso(since)})

    assert 0 < len(read) < len(stream.lines)
    assert outcome_in(tmp_path).examples == prompted_from(run_of(read, stream.rules), since)
    assert report["account"]["events"] == run_of(read, stream.rules).account.as_json()["events"]


@pytest.mark.parametrize(
    ("query", "flags", "told"),
    [
        ({"follow": "true", "to": "2024-01-03"}, (), "exclude each other"),
        ({"follow": "true"}, ("--until", "2024-01-03"), "--until is for bounded input"),
        ({"follow": "true"}, ("--horizon", "unlimited"), "--horizon unlimited is for bounded input"),
        ({"to": "2024-01-03"}, ("--until", "2024-01-04"), "give one"),
        ({}, ("--warmup", "1d"), "--warmup goes with a topic's from"),
        ({}, ("--idle-clock", "wall"), "--idle-clock wall is for a followed topic"),
    ],
)
def test_what_can_not_be_is_refused(query: dict[str, str], flags: tuple[str, ...], told: str):
    """Before any broker is asked, with status 2, and a word about what goes instead."""
    nowhere = Topics(Connection("127.0.0.1:1"), 1, "events", "examples", "late", "dead-letters")

    done = to_the_end(nowhere, "examples", nowhere.source(**query), "--to", "-", *flags)

    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_several_workers_follow_to_a_topic_only(tmp_path):
    """With `--recovery` their shares become one file when all is read, which never comes."""
    nowhere = Topics(Connection("127.0.0.1:1"), 1, "events", "examples", "late", "dead-letters")
    to = ("--to", tmp_path / "made.jsonl", "--recovery", tmp_path / "memory", "--workers", 2)

    done = to_the_end(nowhere, "examples", nowhere.source(follow="true"), *to)

    assert (done.returncode, "name a topic, or use one worker" in done.stderr) == (2, True), done.stderr


# Quiet channels


@pytest.fixture(scope="module")
def silent() -> Stream:
    """A workspace without heartbeats, but for the one at its end."""
    return stream_of(replace(PLAN, heartbeat_every=None, messages=400))


def test_quiet_channels_settle_by_heartbeats_alone(connection, silent, tmp_path):
    """Without one, what was said last waits; as soon as one comes, everything is written."""
    topics = new_topics(connection, 4)
    *events, _ = silent.records
    waiting = so_far(silent, len(events))
    report = tmp_path / "report.json"
    with running(topics, tmp_path, topics.source(follow="true"), "--to", topics.to, "--report", report) as run:
        put(topics, list(messages_of(events, 4)))
        run.wait_until_read(len(events))
        wait_until(lambda: len(examples_on(topics).values) == len(waiting.examples), "the examples so far are on the topic")
        assert outcome_on(topics).examples == sorted(waiting.examples)
        assert len(waiting.examples) < len(silent.run.examples)
        assert run.figure("beepgpt_held_events") > 0

        put(topics, silent.messages(4)[len(events) :])
        wait_until(lambda: len(examples_on(topics).values) == len(silent.run.examples), "all examples are on the topic")
        assert run.stop() == 0, run.said

    assert_the_same(outcome_on(topics), outcome_of(silent.run))
    assert account_of(report_in(report), 4) == silent.run.account.as_json()


def test_the_machine_s_clock_settles_them_if_it_is_asked_to(connection, silent, tmp_path):
    """`--idle-clock wall` needs no heartbeats, and says that nobody can repeat such a run."""
    topics = new_topics(connection, 4)
    put(topics, list(messages_of(silent.records[:-1], 4)))
    flags = ("--idle-clock", "wall")
    often = {"BEEPGPT_KAFKA__PATIENCE": "6s"}  # looks for the ends of partitions twice in this time
    with running(topics, tmp_path, topics.source(follow="true"), "--to", topics.to, *flags, settings=often) as run:
        wait_until(lambda: len(examples_on(topics).values) == len(silent.run.examples), "all examples are on the topic")
        assert run.stop() == 0, run.said

    assert "can't be repeated exactly" in run.said
    assert_the_same(outcome_on(topics), outcome_of(silent.run))


# What can't be used


def test_what_can_not_be_used_goes_to_topics_of_its_own(outputs, stream, tmp_path):
    """Late events and rejects keep key and bytes, and tell where they stood; tombstones stand behind their examples."""
    replay(outputs, tmp_path, 1, "topic")

    there = {
        f"{outputs.events}/{partition}:{record.offset}": (record.key, record.value or b"")
        for partition, record in records_of(outputs.connection, outputs.events)
    }
    late, rejects = (letters_on(outputs.connection, topic) for topic in (outputs.late, outputs.dead_letters))
    assert len(late) == stream.run.account["late"] and {reason for reason, *_ in late} == {"late"}
    assert len(rejects) == len(stream.run.rejects) and {None} < {key for _, _, key, _ in rejects}
    for _, source, key, value in (*late, *rejects):
        assert there[source] == (key, value)
    assert len({source for _, source, _, _ in (*late, *rejects)}) == len(late) + len(rejects)
    assert examples_on(outputs).is_in_order
    assert_the_same(outcome_on(outputs), outcome_of(stream.run))

    told = to_the_end(outputs, "dead-letters", address(outputs.connection, outputs.dead_letters))
    assert told.returncode == 0, told.stderr
    said = told.stdout + told.stderr
    for reason, count in stream.run.account.by_reason("rejected").items():
        assert re.search(rf"{reason} +{count}\b", said), said
    assert f"{len(rejects)} dead letters" in said


def test_a_record_over_the_limit_is_a_dead_letter(connection, tmp_path):
    """More than 1 MiB, where the topics take it: rejected, and kept whole."""
    topics = new_topics(connection)
    record = broken_record("over 1 MiB")
    put(topics, [OutgoingRecord(b"C1", record), *stamped([1_716_200_000_000, 1_716_200_030_000], unit=1_000)])

    replay(topics, tmp_path, 1, "topic")

    assert letters_on(connection, topics.dead_letters) == [("too_large", f"{topics.events}/0:0", b"C1", record)]


def stamped(times: Sequence[int], unit: int) -> list[OutgoingRecord]:
    """A question and its answer as records that the log dates at `times`, each so many microseconds."""
    posts = [("U0ANA", "1716200000.000100", "Ready?"), ("U0BO", "1716200030.000100", "Yes")]
    lines = [json.dumps({"type": "message", "channel": "C1", "user": user, "ts": ts, "text": text}) for user, ts, text in posts]
    return [OutgoingRecord(b"C1", line.encode(), (), 0, t * unit) for line, t in zip(lines, times, strict=True)]


def test_kafka_timestamp_seconds(connection, tmp_path):
    """Timestamps in seconds for milliseconds: the reason names them, and a run of nothing else fails."""
    topics = new_topics(connection)
    put(topics, stamped([1_716_200_000, 1_716_200_030], unit=1_000))

    done = to_the_end(topics, "examples", topics.source(), "--to", tmp_path / "o.jsonl")

    assert done.returncode == 1, done.stderr
    assert "Every record could not be used (bad_record_time 2): the log's own timestamps are no milliseconds" in done.stderr
    assert (tmp_path / "o.dead-letters.jsonl").read_text().count('"reason":"bad_record_time"') == 2


# Topics that don't fit


@pytest.mark.parametrize("last", ["an example", "a tombstone"])
def test_a_topic_of_another_spec_is_refused(connection, tmp_path, last: str):
    """What is there was made with other settings: nothing is added, and the message says what to do."""
    topics = new_topics(connection)
    told = [post("C1", NOON, "ana"), post("C1", NOON + MINUTE, "bo"), delete("C1", NOON + 2 * MINUTE, NOON)]
    told = told if last == "a tombstone" else told[:2]
    put(topics, [OutgoingRecord(b"C1", each.line) for each in told])
    replay(topics, tmp_path, 1, "topic")
    before = examples_on(topics)
    assert (len(before.values), len(before.tombstones)) == (1, len(told) - 2)

    done = to_the_end(topics, "examples", topics.source(), "--to", topics.to, "--horizon", "2d")

    assert done.returncode == 1
    assert "holds examples of spec" in done.stderr and "name another topic" in done.stderr
    assert examples_on(topics) == before


def test_missing_topics_are_named_all_at_once(connection):
    """With the command that makes them."""
    there = new_topics(connection)
    missing = replace(there, examples="no-examples", late="no-late", dead_letters="no-letters")

    done = to_the_end(missing, "examples", missing.source(), "--to", missing.to)

    assert done.returncode == 1
    assert all(name in done.stderr for name in ("no-examples", "no-late", "no-letters", "`beepgpt topics kafka://")), done.stderr


def test_a_missing_source_is_named(connection, tmp_path):
    """With the command that makes it."""
    topics = replace(new_topics(connection), events="no-events")

    done = to_the_end(topics, "examples", topics.source(), "--to", topics.to)

    assert (done.returncode, "no-events" in done.stderr, "`beepgpt topics kafka://" in done.stderr) == (1, True, True), done.stderr


def test_an_empty_topic_gives_nothing(connection, tmp_path):
    """Which is no error: the first event may come later."""
    topics = new_topics(connection, 3)

    report = replay(topics, tmp_path, 2, "topic")

    assert (report["account"]["events"]["read"], report["ended"]) == (0, True)


def test_topics_are_made_and_compared(connection):
    """What is missing is made, once; what is there and differs is told and left alone."""
    name = f"test-{uuid4().hex[:12]}"
    wanted = Topics(connection, 3, f"{name}.events", f"{name}.examples", f"{name}.late", f"{name}.dead-letters")

    def told(*flags: object) -> str:
        done = to_the_end(wanted, "topics", f"kafka://{connection.bootstrap}", "--prefix", name, *flags)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    first, second, third = told("--partitions", 3), told("--partitions", 3), told("--partitions", 4)
    assert first.count(" made ") == 9 and second.count(" is there ") == third.count(" is there ") == 9
    assert "differs" not in first + second
    assert f"{wanted.events}: has 3 partitions, not 4" in third
    assert describe_topics(connection, [wanted.events, wanted.late])[wanted.events].partitions == 3


# A channel in two partitions


TWICE = [
    OutgoingRecord(None, post("C1", NOON, "ana", "first").line, (), 0, NOON),
    OutgoingRecord(None, post("C1", NOON + MINUTE, "bo", "second").line, (), 1, NOON),
    *(OutgoingRecord(None, heartbeat_at(NOON + HOUR), (), number, NOON) for number in (0, 1)),
]
"""Somebody changed the number of partitions, or how keys are placed."""
ADVICE = "beepgpt ingest"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_channel_in_two_partitions_stops_the_run(connection, workers: int):
    """Between partitions there is no order: the message names the channel and the way out."""
    topics = new_topics(connection, 2)
    put(topics, TWICE)

    done = to_the_end(topics, "examples", topics.source(), "--to", topics.to, "--workers", workers)

    assert done.returncode == 1
    assert "channel C1" in done.stderr and "one partition" in done.stderr, done.stderr


def test_a_channel_in_partitions_of_two_processes_stops_what_is_followed(connection, tmp_path):
    """At once, whether anything more comes or not; and for good: its recovery folder knows."""
    topics = new_topics(connection, 2)
    command = [topics.source(follow="true"), "--to", topics.to, "--recovery", tmp_path / "memory"]
    with running(topics, tmp_path, *command, workers=2) as run:
        run.wait_until_ready()
        put(topics, TWICE)
        assert run.process.wait(PATIENCE) == 1

    assert "channel C1" in run.said and ADVICE in run.said, run.said
    again = to_the_end(topics, "examples", *command, "--workers", 2)
    assert again.returncode == 1 and "channel C1" in again.stderr and ADVICE in again.stderr


def test_a_channel_in_two_partitions_stops_a_cluster(connection, tmp_path):
    """All of its processes end, and one says why."""
    topics = new_topics(connection, 2)
    put(topics, TWICE)
    with cluster(topics, tmp_path, 2) as processes:
        statuses = [each.process.wait(PATIENCE) for each in processes]

    assert 0 not in statuses
    assert any("channel C1" in each.said and "one partition" in each.said for each in processes), [each.said for each in processes]


# What a monitor is told


def test_the_figures_are_the_account(filled, stream, tmp_path):
    """While it runs, two ports together tell what the closing account tells; all that is ahead is read, and the probes are content."""
    report = tmp_path / "report.json"
    often = {"BEEPGPT_KAFKA__PATIENCE": "6s"}  # asks for the ends of partitions twice in this time
    command = (filled.source(follow="true"), "--to", tmp_path / "made.jsonl", "--report", report)
    with running(filled, tmp_path, *command, workers=2, settings=often) as run:
        run.wait_until_read(len(stream.messages(4)))
        wait_until(lambda: lags_of(run) == dict.fromkeys("0123", 0.0), "nothing is ahead in any partition")
        assert [page(port, path) for port in run.ports for path in ("/healthz", "/readyz")] == [(200, "alive\n"), (200, "ready\n")] * 2
        assert all(figures["beepgpt_events_read_total"] > 0 for figures in run.metrics())
        told = sum_of(run.metrics())
        assert run.stop() == 0, run.said

    account = report_in(report)["account"]
    events, points = account["events"], account["points"]
    by_label = {
        **{f'beepgpt_events_ignored_total{{reason="{reason}"}}': count for reason, count in events["ignored"].items()},
        **{f'beepgpt_events_rejected_total{{reason="{reason}"}}': count for reason, count in events["rejected"].items()},
        **{f'beepgpt_points_total{{end="{end}"}}': count for end, count in points.items() if end not in ("made", "open")},
        **{f"beepgpt_events_{name}_total": events[name] for name in ("read", "applied", "duplicate", "late")},
        **{f"beepgpt_{name}_total": account[name] for name in ("heartbeats", "examples", "retractions")},
        "beepgpt_points_made_total": points["made"],
        "beepgpt_channels": account["channels"],
        "beepgpt_held_events": 0,
    }
    assert {name: told[name] for name in by_label} == by_label


def lags_of(run: Running) -> dict[str, float]:
    """By partition: how many records are not read yet."""
    told = sum_of(run.metrics())
    return {name.split('"')[1]: told[name] for name in sorted(told) if name.startswith("beepgpt_consumer_lag_records{")}


@pytest.mark.parametrize("command", ["examples", "cluster"])
def test_logs_are_json_and_tell_nothing_of_what_was_said(filled, stream, tmp_path, command: str):
    """Every line parses, and no message's text stands in any, at the most talkative level."""
    outputs = new_topics(filled.connection, 4, events=filled.events)
    flags = ("--log-level", "debug", "--log-format", "json", "--no-progress")
    with ExitStack() as stack:
        if command == "cluster":
            (run,) = stack.enter_context(cluster(outputs, tmp_path, 1, level="debug"))
        else:
            run = stack.enter_context(running(outputs, tmp_path, outputs.source(follow="true"), "--to", outputs.to, *flags, workers=2))
        run.wait_until_read(len(stream.messages(4)))
        assert run.stop() == 0, run.said

    lines = run.log_lines()
    assert {"started"} <= {line["message"] for line in lines}
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    texts = {json.loads(line)["prompt"].split("\n\n")[0] for line in stream.run.examples}
    assert len(texts) > 100
    assert [text for text in texts if len(text) > 20 and text in run.said] == []


# Audit


def test_an_audit_goes_through_topics(outputs, stream, tmp_path):
    """All laws are kept by what the flow wrote, tombstones among it."""
    replay(outputs, tmp_path, 2, "topic")
    found = audit(outputs, tmp_path)

    assert found["status"] == 0, found["said"]
    assert {law["law"]: law["verdict"] for law in found["report"]["laws"]}[1] == "kept"
    assert "broken" not in [law["verdict"] for law in found["report"]["laws"]]


def test_a_leak_on_a_topic_is_found(outputs, stream, tmp_path):
    """One prompt among hundreds that holds what was said after it."""
    put_examples(outputs, [*stream.run.examples[1:], leaking(stream.run.examples[0])])

    found = audit(outputs, tmp_path)

    assert found["status"] == 1, found["said"]
    assert "broken" in [law["verdict"] for law in found["report"]["laws"] if law["law"] in (1, 2)]


def test_an_audit_knows_that_a_stopped_run_came_to_no_end(connection, stream, tmp_path):
    """Three questions and their answers were held when it was stopped: nothing is broken, and a note counts what the end would settle."""
    topics = new_topics(connection, 2)
    later = PLAN.end_us + HOUR
    asked = [post(f"CQUIET{number}", later, "UANA", "anybody?") for number in range(3)]
    told = [post(f"CQUIET{number}", later + SECOND, "UBO", "here") for number in range(3)]
    held = [(each.channel, each.line) for each in [*asked, *told]]
    stopped_run(topics, tmp_path, replace(stream, records=[*stream.records[:-1], *held]))

    found = audit(topics, tmp_path)

    assert found["status"] == 0, found["said"]
    assert [law["verdict"] for law in found["report"]["laws"][:4]] == ["kept"] * 4
    assert "more examples" in found["report"]["notes"][0]
    assert "settled only by the end of the input" in found["report"]["notes"][0]


def leaking(line: bytes) -> bytes:
    """The example with its answer in the prompt."""
    body = json.loads(line)
    return json.dumps(body | {"prompt": f"{body['answer'] or 'nobody'} answered\n\n{body['prompt']}"}, separators=(",", ":")).encode()


def put_examples(topics: Topics, lines: Sequence[bytes]):
    """As the flow writes them."""
    with Writer(topics.connection, topics.examples) as writer:
        writer.send(OutgoingRecord(json.loads(line)["id"].encode(), line) for line in lines)


def audit(topics: Topics, folder: Path) -> dict[str, Any]:
    """The audit of a topic of examples: status, report, and what it said."""
    report = folder / "audit.json"
    done = to_the_end(topics, "audit", topics.source(), topics.to, "--report", report)
    assert report.exists(), done.stderr
    return {"status": done.returncode, "report": report_in(report), "said": done.stdout + done.stderr}


# Another start that isn't the same


@pytest.mark.parametrize("recovery", [False, True])
def test_workers_end_with_the_process_that_started_them(connection, tmp_path, recovery: bool):
    """Killed while nothing happens on the topic, it leaves nobody who holds its recovery folder, or writes what its successor writes."""
    topics = new_topics(connection, 2)
    command = [topics.source(follow="true"), "--to", topics.to, *(["--recovery", tmp_path / "memory"] if recovery else [])]
    with running(topics, tmp_path, *command, workers=2) as run:
        run.wait_until_ready()
        workers = run.workers()
        run.process.kill()
        wait_until(lambda: not any(map(lives, workers)), "its workers are gone", 20)
    assert len(workers) == 2


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for doesn't."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(listed.stdout.strip()) and not listed.stdout.startswith("Z")


def stopped_run(topics: Topics, folder: Path, stream: Stream) -> list[object]:
    """A followed run that has read everything and was stopped; its command."""
    put(topics, messages := stream.messages(topics.partitions))
    command = [topics.source(follow="true"), "--to", topics.to, "--recovery", folder / "memory"]
    with running(topics, folder, *command) as run:
        run.wait_until_read(len(messages))
        assert run.stop() == 0, run.said
    return command


def test_a_recovery_folder_is_of_one_run(connection, silent, tmp_path):
    """Other workers, another source or destination, other partitions: each is refused with what differs, and what to do."""
    topics = new_topics(connection, 2)
    other = new_topics(connection, 2)
    command = stopped_run(topics, tmp_path, silent)

    def refused(*arguments: object) -> str:
        done = to_the_end(topics, "examples", *arguments)
        assert done.returncode == 1, done.stderr
        return done.stderr

    assert "workers was 1 and is 2" in refused(*command, "--workers", 2)
    said = refused(other.source(follow="true"), *command[1:])
    assert other.events in said and topics.events in said and "delete it and start again" in said
    said = refused(command[0], "--to", other.to, *command[3:])
    assert other.examples in said and topics.examples in said

    with KafkaAdminClient(bootstrap_servers=connection.bootstrap) as admin:
        admin.create_partitions({topics.events: 3})
    said = refused(*command)
    assert "had 2 partitions when this run was started, and has 3" in said and ADVICE in said


def test_a_run_goes_on_by_another_name_of_its_broker(connection, silent, tmp_path):
    """Addresses change, topics keep their ids."""
    topics = new_topics(connection, 2)
    source, *rest = stopped_run(topics, tmp_path, silent)
    named = str(source).replace("127.0.0.1", "localhost")

    with running(topics, tmp_path, named, *rest) as run:
        run.wait_until_ready()
        assert run.stop() == 0, run.said
    assert named != source and outcome_on(topics).examples == outcome_of(silent.run).examples


@pytest.mark.parametrize("change", ["partitions are added", "made again"])
def test_a_topic_of_examples_that_is_no_longer_what_it_was(connection, silent, tmp_path, change: str):
    """What was written to it is gone, or a retraction would go where its example isn't: nothing is written, and it says why."""
    topics = new_topics(connection, 2)
    command = stopped_run(topics, tmp_path, silent)
    with KafkaAdminClient(bootstrap_servers=connection.bootstrap) as admin:
        if change == "made again":
            admin.delete_topics([topics.examples])
            wait_until(lambda: not describe_topics(connection, [topics.examples]), "the topic is gone")
            create_topics(connection, [TopicSpec(topics.examples, 2)])
        else:
            admin.create_partitions({topics.examples: 3})

    done = to_the_end(topics, "examples", *command)

    assert done.returncode == 1 and topics.examples in done.stderr and "start again" in done.stderr, done.stderr
    assert ("made again" if change == "made again" else "had 2 partitions") in done.stderr


def test_sixty_four_partitions(connection, silent, tmp_path):
    """Most of them with heartbeats alone: the same examples."""
    topics = new_topics(connection, 64)
    put(topics, silent.messages(64))

    report = replay(topics, tmp_path, 2, "file")

    assert_the_same(outcome_in(tmp_path), outcome_of(silent.run))
    assert account_of(report, 64) == silent.run.account.as_json()
