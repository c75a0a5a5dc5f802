"""Kafka, and what records it may hold: poison, compressed and large ones. Nothing is lost, nothing is double."""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from beepgpt.connectors.kafka import records_of
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.connectors.log.records import DEFAULT_LIMIT
from beepgpt.conversations.events import MAX_RECORD_BYTES, Event, parse
from beepgpt.simulation.workspace import Plan, keyed_records
from tests.support import NOW, program
from tests.support.kafka import Stream, Topics, letters_on, new_topics, outcome_of, put, report_in, started, stream_of
from tests.support.oracle_records import as_logged
from tests.support.speed import slowness

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaProducer, codec

from tests.support.kafka_kills import PARTITIONS, RULES, SHORT, alter, arguments, assert_same, last_line, once, with_limits

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # kafka-python leaves those that can't connect
    pytest.mark.timeout(300),
]
POISONED = replace(SHORT, seed=33, messages=6_000, broken=0.01)


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
        assert run.process.wait(100 * slowness()) == 0, run.said

    rejects = outcome_of(stream.run).rejects
    assert len(kinds_of_broken(POISONED)) > 20
    assert_same(
        once(topics), replace(outcome_of(stream.run), rejects=sorted(rejects + [(reason_of(each), each.value or b"") for each in poison]))
    )
    report = report_in(tmp_path / "report.json")
    assert report["does_not_add_up"] == []
    assert report["account"]["events"]["read"] == stream.run.account["read"] + len(poison)
    stands = {f"{topics.events}/{partition}:{each.offset}": each for partition, each in records_of(connection, topics.events)}
    for _, source, key, body in letters_on(connection, topics.dead_letters):
        assert (stands[source].key, stands[source].value or b"") == (key, body)
    for _, source, key, body in letters_on(connection, topics.late):
        assert (stands[source].key, as_logged(stands[source].value or b"")) == (key, body)


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
        status = run.process.wait(60 * slowness())

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
        assert run.process.wait(60 * slowness()) == 0, run.said

    assert once(topics).examples == outcome_of(stream.run).examples
    letters = [
        each for _, each in records_of(connection, topics.dead_letters) if each.key == b"C1" and (each.value or b"").startswith(b"xxx")
    ]
    assert {dict(each.headers)["cut_from"] for each in letters} == {b"%d" % len(each.value or b"") for each in large}
    assert all(len(each.value or b"") > 1_000_000 for each in letters)
