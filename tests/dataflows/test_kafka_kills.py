"""Kafka, and what goes wrong with it: kills, absent brokers, poison, topics that change, limits. Nothing is lost, nothing is double."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from beepgpt.connectors.kafka import (
    Connection,
    OutgoingRecord,
    TopicSpec,
    create_topics,
    describe_topics,
    records_of,
)
from beepgpt.connectors.kafka.topics import DEFAULT_LIMIT
from beepgpt.connectors.kafka.writer import OVERHEAD
from beepgpt.conversations.events import MAX_RECORD_BYTES, Event, parse
from beepgpt.conversations.rules import DAY, Rules
from beepgpt.simulation.workspace import Plan, keyed_records
from tests.support import NOW, program
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import (
    KEPT,
    Outcome,
    Running,
    Stream,
    Topics,
    account_of,
    examples_on,
    letters_on,
    new_topics,
    outcome_in,
    outcome_of,
    put,
    report_in,
    running,
    started,
    stream_of,
    wait_until,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, KafkaProducer, TopicPartition, codec
    from kafka.admin import ConfigResource, ConfigResourceType

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # kafka-python leaves those that can't connect
    pytest.mark.timeout(300),
]

PARTITIONS = 4
RULES = Rules(candidates=False, window=3, kept_roots=40, thread_ttl=2 * DAY, remember=2 * DAY)
"""Little to keep, and little to write: what is tested here is what becomes of it."""
FLAGS = ("--no-candidates", "--window", 3, "--kept-roots", 40, "--thread-ttl", "2d", "--remember", "2d")
LONG = Plan(
    seed=31, messages=126_000, days=60, channels=24, people=60, heartbeat_every=14_400,
    edits=0.1, deletions=0.05, reactions=0.3, duplicates=0.02, too_late=0.002, broken=0.0005,
)  # fmt: skip
SHORT = Plan(
    seed=32, messages=12_000, days=30, channels=16, people=40, heartbeat_every=7_200,
    edits=0.1, deletions=0.05, reactions=0.3, duplicates=0.03, too_late=0.005, broken=0.002,
)  # fmt: skip
POISONED = replace(SHORT, seed=33, messages=6_000, broken=0.01)


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


@dataclass(frozen=True)
class Given:
    """A topic of events, all of them written, and what a run gives that nobody disturbs."""

    events: str
    stream: Stream
    outcome: Outcome
    account: dict[str, Any]

    def topics(self, connection: Connection) -> Topics:
        """New ones for what is made of it."""
        return new_topics(connection, PARTITIONS, events=self.events)


def given_on(connection: Connection, plan: Plan) -> Given:
    """A simulated workspace, on a topic of its own."""
    topics, stream = new_topics(connection, PARTITIONS), stream_of(plan, RULES)
    put(topics, stream.messages(PARTITIONS))
    outcome = outcome_of(stream.run)
    assert all(vars(outcome).values()), "there is some of everything to lose"
    return Given(topics.events, stream, outcome, stream.run.account.as_json())


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


def arguments(topics: Topics, folder: Path, to: str, *more: object, **query: str) -> list[object]:
    """The command that is disturbed."""
    dest = topics.to if to == "topic" else folder / "made.jsonl"
    return [
        *("examples", topics.source(**query), "--to", dest, *FLAGS),
        *("--recovery", folder / "memory", "--snapshot-every", "200ms", "--report", folder / "report.json", *more),
    ]


def once(topics: Topics) -> Outcome:
    """What the topics hold for those who read them: of each id one value, which is the only one, and of each source one letter."""
    found = examples_on(topics)
    assert all(len(set(values)) == 1 for values in found.values.values()), "an id has two values"
    assert found.is_in_order, "a tombstone stands before its example"
    letters = sorted(set(letters_on(topics.connection, topics.dead_letters)), key=repr)
    late = sorted(set(letters_on(topics.connection, topics.late)), key=repr)
    assert len({source for _, source, _, _ in letters + late}) == len(letters + late), "a record has two letters"
    return Outcome(
        sorted(values[0] for values in found.values.values()),
        sorted(set(found.tombstones)),
        sorted(record for _, _, _, record in late),
        sorted((reason, record) for reason, _, _, record in letters),
    )


def assert_undisturbed(given: Given, topics: Topics, folder: Path, to: str):
    """All of it, each once, and the same account."""
    assert_same(once(topics) if to == "topic" else outcome_in(folder), given.outcome)
    report = report_in(folder / "report.json")
    assert report["does_not_add_up"] == []
    assert account_of(report, PARTITIONS) == given.account


def assert_same(found: Outcome, expected: Outcome):
    """Byte for byte, and each once."""
    for name, lines in vars(found).items():
        here, there = Counter(lines), Counter(vars(expected)[name])
        more, less = here - there, there - here
        assert not more, f"{more.total()} {name} too much, or twice, such as {next(iter(more))!r}"
        assert not less, f"{less.total()} {name} are missing, such as {next(iter(less))!r}"


def is_at_work(folder: Path) -> Callable[[], bool]:
    """Whether a run's snapshots have changed since this was asked for."""

    def newest() -> float:
        times = [0.0]
        for path in (folder / "memory").glob("worker-*/*"):
            with suppress(FileNotFoundError):
                times.append(path.stat().st_mtime)
        return max(times)

    before = newest()
    return lambda: newest() > before


# Kills


@dataclass
class Hits:
    """How many kills there were."""

    flow: int = 0
    broker: int = 0


def run_with_kills(
    given: Given, topics: Topics, folder: Path, to: str, draws: random.Random, kills: Hits, broker: Broker, seconds: float, workers: int = 1
) -> Hits:
    """Kills the flow and the broker at random moments, so often, and starts the flow again until it is done.

    `seconds` is about what the run takes alone. If it comes to its end before, it starts over.
    """
    command = program(*arguments(topics, folder, to, "--workers", workers))
    share = seconds / (kills.flow + kills.broker + 1)
    schedule = ["flow"] * kills.flow + ["broker"] * kills.broker
    draws.shuffle(schedule)
    hits = Hits()
    starts = 0
    while True:
        at_work = is_at_work(folder)
        starts += 1
        with started(command, folder, topics.settings) as run:
            killed = False
            while schedule and not killed:
                if draws.random() < 0.8:
                    wait_until_at_work(run, at_work)
                with suppress(subprocess.TimeoutExpired):
                    run.process.wait(draws.uniform(0, 2 * share))
                if run.process.poll() is not None:
                    break
                if schedule[-1] == "broker":
                    broker.kill()
                    time.sleep(draws.uniform(0, 1))
                    broker.start()
                    hits.broker += 1
                elif workers == 1:
                    run.kill()
                    hits.flow += 1
                    killed = True
                else:
                    killed = kill_one(run, draws)
                    hits.flow += killed
                    if not killed:
                        continue
                schedule.pop()
            status = run.process.wait(200)
            if status == 0 and killed:  # it was faster
                hits.flow -= 1
                schedule.append("flow")
            if status == 0 and not schedule:
                print(f"{hits}, {starts} starts")
                return hits
            if status == 0:  # done before the last kill
                assert_undisturbed(given, topics, folder, to)
                shutil.rmtree(folder / "memory")
            else:
                assert killed, run.said
                assert workers == 1 or "one of the run's processes was killed (SIGKILL)" in run.said, run.said
            run.said_in.unlink()


def wait_until_at_work(run: Running, at_work: Callable[[], bool]) -> None:
    """Or done."""
    wait_until(lambda: run.process.poll() is not None or at_work(), "the run is at work")


def kill_one(run: Running, draws: random.Random) -> bool:
    """SIGKILL to one of the processes that the run has started, if there are any by now."""
    workers = run.workers()
    if workers:
        subprocess.run(["kill", "-9", str(draws.choice(workers))], check=False, capture_output=True)
    return bool(workers)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("to", ["file", "topic"])
@pytest.mark.parametrize(("flow", "brokers"), [(5, 1), pytest.param(100, 10, marks=pytest.mark.proof)])
def test_kills_of_the_flow_and_of_the_broker(mortal_broker, connection, long, tmp_path, to: str, flow: int, brokers: int):
    """During one run of 200,000 events: every example once in the file, every id with one value on the topic, the same account."""
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
        getattr(mortal_broker, how)()
        time.sleep(seconds)
        assert run.process.poll() is None, run.said
        mortal_broker.start() if how == "kill" else mortal_broker.resume()
        assert run.process.wait(100) == 0, run.said

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
        assert run.process.wait(60) == 1, run.said
    assert re.match(f"beepgpt: {topics.events.removesuffix('.events')}.*no answer from {connection.bootstrap}", last_line(run)), run.said
    assert "Traceback" not in run.said

    mortal_broker.start()
    with started(command, tmp_path, topics.settings) as run:
        assert run.process.wait(100) == 0, run.said

    assert_undisturbed(short, topics, tmp_path, to)


def last_line(run: Running) -> str:
    """What it ended with."""
    return run.said.rstrip().rpartition("\n")[2]


# Poison


@pytest.mark.slow
def test_poison_goes_to_the_dead_letters_and_nothing_else_is_lost(connection, tmp_path):
    """One in a hundred records is broken, in more than 20 ways, and some in Kafka's own: each has its letter, with reason and place."""
    topics, stream = new_topics(connection, PARTITIONS), with_a_large_record(stream_of(POISONED, RULES))
    messages = stream.messages(PARTITIONS)
    third = len(messages) // 3
    poison = [*poison_of_kafka(messages)]
    put(topics, disguised(messages[:third]))
    put(topics, poison)
    write(topics, messages[third : 2 * third], compression_type="gzip")
    write(topics, [*messages[2 * third :], OutgoingRecord(b"C1", b"never happened", (), 0)], transactional_id=topics.events, commits=False)
    write(topics, messages[2 * third :], transactional_id=topics.events)

    with started(program(*arguments(topics, tmp_path, "topic")), tmp_path, topics.settings) as run:
        assert run.process.wait(100) == 0, run.said

    rejects = outcome_of(stream.run).rejects
    assert len(kinds_of_broken(POISONED)) > 20
    assert_same(
        once(topics), replace(outcome_of(stream.run), rejects=sorted(rejects + [(reason_of(each), each.value or b"") for each in poison]))
    )
    report = report_in(tmp_path / "report.json")
    assert report["does_not_add_up"] == []
    assert report["account"]["events"]["read"] == stream.run.account["read"] + len(poison)
    stands = {f"{topics.events}/{partition}:{each.offset}": each for partition, each in records_of(connection, topics.events)}
    for _, source, key, body in letters_on(connection, topics.dead_letters) + letters_on(connection, topics.late):
        assert (stands[source].key, stands[source].value or b"") == (key, body)


def kinds_of_broken(plan: Plan) -> list[str]:
    """How the broken records of a simulated workspace are broken."""
    planted: Counter[str] = Counter()
    deque(keyed_records(plan, planted), maxlen=0)
    return [name for name in planted if name.startswith("broken: ")]


def with_a_large_record(stream: Stream) -> Stream:
    """The same, and before its last heartbeat a post that is just as large as one may be."""
    begin, end = b'{"type":"message","channel":"CLARGE","user":"U1","ts":"%d.000000","text":"' % (POISONED.end_us // 1_000_000), b'"}'
    large = begin + (b"long " * (MAX_RECORD_BYTES // 5))[: MAX_RECORD_BYTES - len(begin) - len(end)] + end
    return Stream([*stream.records[:-1], ("CLARGE", large), stream.records[-1]], stream.rules)


def poison_of_kafka(messages: list[OutgoingRecord]) -> Iterator[OutgoingRecord]:
    """What can't be used, whatever its bytes: without a value, with an empty one, and events stamped long before they happened."""
    for number in range(30):
        yield OutgoingRecord(b"C%d" % number, None, (), number % PARTITIONS)
        yield OutgoingRecord(None, b"", [("reason", b"mine")], number % PARTITIONS)
    events = [each for each in messages if isinstance(parse(each.value or b"", NOW), Event)]
    yield from (each._replace(timestamp=1_000) for each in events[:30])


def reason_of(poison: OutgoingRecord) -> str:
    """Under which its letter stands."""
    return "no_value" if poison.value is None else "bad_record_time" if poison.value else "not_json"


def disguised(messages: list[OutgoingRecord]) -> list[OutgoingRecord]:
    """Some of them under no key, under a wrong one, or with large headers: all of that means nothing."""
    forms: list[dict[str, Any]] = [{"key": None}, {"key": b"\xff\xfe"}, {"headers": [("trace", b"x" * 50_000), ("empty", b"")]}]
    return [each._replace(**forms[number % 3]) if number % 20 < 3 else each for number, each in enumerate(messages)]


def write(topics: Topics, messages: list[OutgoingRecord], *, commits: bool = True, **how: Any) -> None:
    """Writes as other producers may: compressed, or in a transaction, which may be aborted."""
    producer = KafkaProducer(bootstrap_servers=topics.connection.bootstrap, max_request_size=8 << 20, linger_ms=20, **how)
    if "transactional_id" in how:
        producer.init_transactions()
        producer.begin_transaction()
    for key, value, headers, partition, timestamp in messages:
        producer.send(topics.events, value, key, list(headers), partition, None if timestamp is None else timestamp // 1000)
    producer.flush(60)
    if "transactional_id" in how:
        producer.commit_transaction() if commits else producer.abort_transaction()
    producer.close(timeout=10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_topics(connection, tmp_path, kind: str):
    """They are read; without the package that it takes, the run says which one, and reads nothing."""
    topics, stream = new_topics(connection, 1), stream_of(replace(POISONED, messages=50), RULES)
    alter(connection, topics.events, "compression.type", kind)
    put(topics, stream.messages(1))

    with started(program(*arguments(topics, tmp_path, "topic")), tmp_path, topics.settings) as run:
        status = run.process.wait(60)

    if getattr(codec, f"has_{kind}")():
        assert status == 0, run.said
        assert_same(once(topics), outcome_of(stream.run))
    else:
        assert status == 1 and topics.events in last_line(run) and "pip install lz4 zstandard cramjam" in last_line(run)


@pytest.mark.slow
def test_poison_as_large_as_its_topic_takes(connection, tmp_path):
    """A letter is larger than its record, and what came compressed is larger still: it is cut, says so, and the flow goes on."""
    topics = with_limits(connection, new_topics(connection, 1))
    stream = stream_of(replace(POISONED, messages=50), RULES)
    put(topics, stream.messages(1)[:-1])
    large = [OutgoingRecord(b"C1", b"x" * (DEFAULT_LIMIT - 100), (), 0), OutgoingRecord(b"C1", b"x" * (3 << 20), (), 0)]
    for each in large:
        write(topics, [each], compression_type="gzip" if len(each.value or b"") > DEFAULT_LIMIT else None)
    put(topics, stream.messages(1)[-1:])

    with started(program(*arguments(topics, tmp_path, "topic")), tmp_path, topics.settings) as run:
        assert run.process.wait(60) == 0, run.said

    assert once(topics).examples == outcome_of(stream.run).examples
    letters = [
        each for _, each in records_of(connection, topics.dead_letters) if each.key == b"C1" and (each.value or b"").startswith(b"xxx")
    ]
    assert {dict(each.headers)["cut_from"] for each in letters} == {b"%d" % len(each.value or b"") for each in large}
    assert all(len(each.value or b"") > 1_000_000 for each in letters)


def with_limits(connection: Connection, topics: Topics) -> Topics:
    """All of them take what topics take by default."""
    for name in (topics.events, topics.examples, topics.late, topics.dead_letters):
        alter(connection, name, "max.message.bytes", str(DEFAULT_LIMIT))
    return topics


@contextmanager
def administering(connection: Connection) -> Iterator[Any]:
    """What no flow does to a topic."""
    admin = KafkaAdminClient(bootstrap_servers=connection.bootstrap)
    try:
        yield admin
    finally:
        admin.close()


def alter(connection: Connection, topic: str, name: str, value: str) -> None:
    """Sets one of a topic's settings."""
    with administering(connection) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])


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
        assert run.process.wait(60) == 1, run.said
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
        assert run.process.wait(30) == 1, run.said

    assert re.search(SAID[kind], last_line(run)) and topics.events in last_line(run), run.said
    assert "Traceback" not in run.said
    assert set((tmp_path / "made.jsonl").read_bytes().splitlines()) <= set(stream.run.examples)  # nothing of another topic's windows


# Leaders that change


@pytest.mark.slow
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
        assert run.process.wait(100) == 1, run.said
    assert (
        topics.examples in last_line(run) and f"a record of {largest:,} bytes" in last_line(run) and "max.message.bytes" in last_line(run)
    )
    assert "partition" in last_line(run)

    alter(connection, topics.examples, "max.message.bytes", "1000000")
    with started(command, tmp_path, topics.settings) as run:
        assert run.process.wait(100) == 0, run.said
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
        assert run.process.wait(100) == 1, run.said
    assert re.fullmatch(
        r"beepgpt: .*made\.(.+\.)?jsonl: the disk is full: free some space and run it again; what was written is kept", last_line(run)
    )

    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    with started(program(*command), tmp_path, topics.settings) as run:
        assert run.process.wait(100) == 0, run.said
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
        assert run.process.wait(100) == 1, run.said
    assert "the user ana and the password are right" in last_line(run) and "hush" not in run.said
