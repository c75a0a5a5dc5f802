"""Kafka, and what goes wrong with it: kills, absent brokers, topics that change, full disks. Nothing is lost, nothing is double."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beepgpt.connectors.kafka import Connection, begin_and_end_offsets, create_topics, describe_topics
from beepgpt.connectors.log import TopicSpec
from beepgpt.connectors.log.records import OVERHEAD
from beepgpt.simulation.workspace import Plan
from tests.support import program
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT, Topics, account_of, new_topics, outcome_of, put, report_in, running, started, stream_of
from tests.support.speed import slowness, wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import TopicPartition

from tests.support.kafka_kills import (
    PARTITIONS,
    RULES,
    SHORT,
    Given,
    Hits,
    administering,
    alter,
    arguments,
    assert_same,
    assert_undisturbed,
    given_on,
    is_at_work,
    last_line,
    once,
    run_with_kills,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # kafka-python leaves those that can't connect
    pytest.mark.timeout(300),
]
LONG = Plan(
    seed=31, messages=126_000, days=60, channels=24, people=60, heartbeat_every=14_400,
    edits=0.1, deletions=0.05, reactions=0.3, duplicates=0.02, too_late=0.002, broken=0.0005, elsewhere=0.1, moves=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def long(broker: Broker | GivenBroker) -> Given:
    """200,000 events."""
    given = given_on(Connection(broker.bootstrap), LONG)
    assert len(given.stream.records) >= 200_000
    return given


@pytest.fixture(scope="module")
def short(broker: Broker | GivenBroker) -> Given:
    """A run of two seconds or so."""
    return given_on(Connection(broker.bootstrap), SHORT)


# Kills


@pytest.mark.slow
@pytest.mark.parametrize("to", ["file", "topic"])
def test_kills_of_the_flow_and_of_the_broker(mortal_broker, connection, short, tmp_path, to: str):
    """The flow twice, the broker once: every example once in the file, every id with one value on the topic, the same account."""
    topics = short.topics(connection)

    hits = run_with_kills(short, topics, tmp_path, to, random.Random(2), Hits(2, 1), mortal_broker, seconds=2)

    assert hits == Hits(2, 1)
    assert_undisturbed(short, topics, tmp_path, to)


@pytest.mark.proof
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("to", ["file", "topic"])
@pytest.mark.parametrize(("flow", "brokers"), [(5, 1), (100, 10)])
def test_many_kills_of_the_flow_and_of_the_broker(mortal_broker, connection, long, tmp_path, to: str, flow: int, brokers: int):
    """During one run of 200,000 events."""
    topics = long.topics(connection)

    hits = run_with_kills(long, topics, tmp_path, to, random.Random(flow), Hits(flow, brokers), mortal_broker, seconds=12)

    assert hits == Hits(flow, brokers)
    assert_undisturbed(long, topics, tmp_path, to)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "kills"),
    [("topic", 2), pytest.param("topic", 20, marks=pytest.mark.proof), pytest.param("file", 20, marks=pytest.mark.proof)],
)
def test_two_processes_killed_one_by_one(mortal_broker, connection, short, tmp_path, to: str, kills: int):
    """The one that is left stops too, the run says that a process was killed, and the same command goes on."""
    topics = short.topics(connection)

    hits = run_with_kills(short, topics, tmp_path, to, random.Random(9), Hits(kills), mortal_broker, seconds=2, workers=2)

    assert hits == Hits(kills)
    assert_undisturbed(short, topics, tmp_path, to)


# Brokers that go away


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "seconds"),
    [("kill", 8), ("pause", 8), pytest.param("kill", 60, marks=pytest.mark.proof), pytest.param("pause", 60, marks=pytest.mark.proof)],
)
def test_a_broker_that_goes_away_for_a_while_is_waited_for(mortal_broker, connection, short, tmp_path, how: str, seconds: float):
    """Killed, or hanging: the run goes on when it is back, and comes to the same result."""
    topics = short.topics(connection)
    at_work = is_at_work(tmp_path)
    with started(program(*arguments(topics, tmp_path, "topic")), tmp_path, topics.settings) as run:
        wait_until(at_work, "the run is at work")
        wait_until(lambda: any(end for _, end in begin_and_end_offsets(connection, topics.examples).values()), "it writes")
        getattr(mortal_broker, how)()
        time.sleep(seconds)
        assert run.process.poll() is None, run.said
        mortal_broker.start() if how == "kill" else mortal_broker.resume()
        assert run.process.wait(100 * slowness()) == 0, run.said

    assert_undisturbed(short, topics, tmp_path, "topic")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["file", "topic"])
def test_a_broker_that_stays_away_ends_the_run_which_goes_on_later(mortal_broker, connection, short, tmp_path, to: str):
    """Longer than the patience: status 1 and one line that names the topic and the address; the same command goes on from the snapshot."""
    topics = short.topics(connection)
    command = program(*arguments(topics, tmp_path, to))
    at_work = is_at_work(tmp_path)
    with started(command, tmp_path, topics.settings | {"BEEPGPT_KAFKA__PATIENCE": "3s"}) as run:
        wait_until(at_work, "the run is at work")
        mortal_broker.kill()
        assert run.process.wait(60 * slowness()) == 1, run.said
    assert re.match(f"beepgpt: {topics.events.removesuffix('.events')}.*no answer from {connection.bootstrap}", last_line(run)), run.said
    assert "Traceback" not in run.said

    mortal_broker.start()
    with started(command, tmp_path, topics.settings) as run:
        assert run.process.wait(100 * slowness()) == 0, run.said

    assert_undisturbed(short, topics, tmp_path, to)


# Topics that change


def disturbance(kind: str, connection: Connection, topic: str) -> None:
    """What somebody does to a topic of which a run has read everything."""
    with administering(connection) as admin:
        if kind == "partitions are added":
            admin.create_partitions({topic: PARTITIONS + 2})
        elif kind == "records are gone":
            admin.delete_records({TopicPartition(topic, number): -1 for number in range(PARTITIONS)})
        else:
            admin.delete_topics([topic])
            wait_until(lambda: not describe_topics(connection, [topic]), "the topic is gone")
    if kind == "made again":
        create_topics(connection, [TopicSpec(topic, PARTITIONS, KEPT)])
    if kind == "made again with fewer partitions":
        create_topics(connection, [TopicSpec(topic, PARTITIONS - 1, KEPT)])


SAID = {
    "partitions are added": rf"had {PARTITIONS} partitions when this run was started, and has {PARTITIONS + 2}: .*--with dead-letters,late",
    "records are gone": r", partition \d: offsets [\d,]+ to [\d,]+ are gone .*raise the topic's retention",
    "made again": r"the topic was deleted and made again.*start again",
    "made again with fewer partitions": r"the topic was (deleted and )?made again.*start again",
    "deleted": r"there is no such topic",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAID)
def test_a_topic_that_changed_between_two_runs(connection, tmp_path, kind: str):
    """Status 1, and one line that says what happened and what to do: nothing is passed over in silence."""
    topics = new_topics(connection, PARTITIONS)
    messages = stream_of(SHORT, RULES).messages(PARTITIONS)
    put(topics, messages[:5_000])
    command = arguments(topics, tmp_path, "file", follow="true")
    with running(topics, tmp_path, *command[1:]) as run:
        run.wait_until_read(5_000)
        assert run.stop() == 0, run.said
    put(topics, messages[5_000:6_000])

    disturbance(kind, connection, topics.events)

    with started(program(*command), tmp_path, topics.settings) as run:
        assert run.process.wait(60 * slowness()) == 1, run.said
    assert re.search(SAID[kind], last_line(run)) and topics.events in last_line(run), run.said
    assert "Traceback" not in run.said


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAID)
def test_a_topic_that_changes_while_it_is_followed(connection, tmp_path, kind: str):
    """The same, as soon as it looks again: within half a minute."""
    topics = new_topics(connection, PARTITIONS)
    stream = stream_of(SHORT, RULES)
    messages = stream.messages(PARTITIONS)
    put(topics, messages[:5_000])
    command = arguments(topics, tmp_path, "file", follow="true")
    with running(topics, tmp_path, *command[1:], settings={"BEEPGPT_KAFKA__PATIENCE": "4s"}) as run:
        run.wait_until_read(5_000)
        run.process.send_signal(signal.SIGSTOP)  # so that it is behind
        put(topics, messages[5_000:6_000])
        disturbance(kind, connection, topics.events)
        if kind == "made again":
            put(topics, messages)  # where it stood, there are other records now
        run.process.send_signal(signal.SIGCONT)
        assert run.process.wait(30 * slowness()) == 1, run.said

    assert re.search(SAID[kind], last_line(run)) and topics.events in last_line(run), run.said
    assert "Traceback" not in run.said
    assert set((tmp_path / "made.jsonl").read_bytes().splitlines()) <= set(stream.run.examples)  # nothing of another topic's windows


# Leaders that change


@pytest.mark.proof
def test_a_leader_that_is_killed_and_one_that_is_elected(two_brokers, tmp_path):
    """The other broker takes over, and gives back when the first one is there again: the run goes on as if nothing had happened."""
    first, second = two_brokers
    connection = Connection(f"{first.bootstrap},{second.bootstrap}")
    topics = Topics(connection, PARTITIONS, "slack.events", "slack.examples", "slack.late", "slack.dead-letters")
    create_topics(connection, [TopicSpec(name, PARTITIONS, KEPT, 2) for name in ("slack.events", "slack.examples")])
    create_topics(connection, [TopicSpec(name, 1, KEPT, 2) for name in ("slack.late", "slack.dead-letters")])
    stream = stream_of(SHORT, RULES)
    messages = stream.messages(PARTITIONS)
    third = len(messages) // 3
    assert leaders(connection) == {1, 2}

    put(topics, messages[:third])
    with running(topics, tmp_path, *arguments(topics, tmp_path, "topic", follow="true")[1:]) as run:
        run.wait_until_read(1_000)
        second.kill()
        put(topics, messages[third : 2 * third])
        run.wait_until_read(2 * third)
        assert leaders(connection) == {1}
        second.start()
        wait_until(lambda: in_sync(connection) == {1, 2}, "both are in sync")
        with administering(connection) as admin:
            admin.elect_leaders(PREFERRED, ["slack.events", "slack.examples"])
        wait_until(lambda: leaders(connection) == {1, 2}, "the leaders are as at first")
        put(topics, messages[2 * third :])
        run.wait_until_read(len(messages))
        assert run.stop() == 0, run.said

    assert_same(once(topics), outcome_of(stream.run))
    assert account_of(report_in(tmp_path / "report.json"), PARTITIONS) == stream.run.account.as_json()


PREFERRED = 0
"""The election of each partition's first replica."""


def partitions_on(connection: Connection) -> list[dict[str, Any]]:
    """The partitions of events and examples, as the brokers describe them."""
    with administering(connection) as admin:
        return [each for topic in admin.describe_topics(["slack.events", "slack.examples"]) for each in topic["partitions"]]


def leaders(connection: Connection) -> set[int]:
    """The brokers that lead a partition."""
    return {each["leader_id"] for each in partitions_on(connection)}


def in_sync(connection: Connection) -> set[int]:
    """The brokers that have all of every partition."""
    return set.intersection(*(set(each["isr_nodes"]) for each in partitions_on(connection)))


# Limits


@pytest.mark.slow
def test_an_example_over_the_limit_of_its_topic(connection, short, tmp_path):
    """Topic, partition, size and setting are named, nothing is skipped, and with a higher limit the same command goes on."""
    topics = short.topics(connection)
    largest = max(map(len, short.outcome.examples)) + 32  # its key
    alter(connection, topics.examples, "max.message.bytes", str(largest + OVERHEAD - 1))
    command = program(*arguments(topics, tmp_path, "topic"))

    with started(command, tmp_path, topics.settings) as run:
        assert run.process.wait(100 * slowness()) == 1, run.said
    assert (
        topics.examples in last_line(run) and f"a record of {largest:,} bytes" in last_line(run) and "max.message.bytes" in last_line(run)
    )
    assert "partition" in last_line(run)

    alter(connection, topics.examples, "max.message.bytes", "1000000")
    with started(command, tmp_path, topics.settings) as run:
        assert run.process.wait(100 * slowness()) == 0, run.said
    assert_undisturbed(short, topics, tmp_path, "topic")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, where we may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a small disk can't be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk(connection, short, small_disk, tmp_path):
    """One line says so; with more room the same command goes on, and the file is as if nothing had been."""
    topics = short.topics(connection)
    command = [each if each != tmp_path / "made.jsonl" else small_disk / "made.jsonl" for each in arguments(topics, tmp_path, "file")]

    with started(program(*command), tmp_path, topics.settings) as run:
        assert run.process.wait(100 * slowness()) == 1, run.said
    assert re.fullmatch(
        r"beepgpt: .*made\.(.+\.)?jsonl: the disk is full: free some space and run it again; what was written is kept", last_line(run)
    )

    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    with started(program(*command), tmp_path, topics.settings) as run:
        assert run.process.wait(100 * slowness()) == 0, run.said
    shutil.copytree(small_disk, tmp_path, dirs_exist_ok=True)
    assert_undisturbed(short, topics, tmp_path, "file")


# Refusals


@pytest.mark.proof
def test_a_wrong_password(mortal_broker, connection, short, tmp_path):
    """After a while it says whom the brokers refuse, and never the password."""
    topics = short.topics(Connection(mortal_broker.with_password, "SASL_PLAINTEXT", "PLAIN", "ana", "right"))
    env = {"PROTOCOL": "SASL_PLAINTEXT", "MECHANISM": "PLAIN", "USER": "ana", "PASSWORD": "hush"}
    settings = {f"BEEPGPT_KAFKA__{name}": value for name, value in env.items()}

    with started(program(*arguments(topics, tmp_path, "topic")), tmp_path, topics.settings | settings) as run:
        assert run.process.wait(100 * slowness()) == 1, run.said
    assert "the user ana and the password are right" in last_line(run) and "hush" not in run.said
