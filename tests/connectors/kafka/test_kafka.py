"""Kafka: in and out, on a real broker; and what is wrong with an address is said."""

import re
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.alerts.reading import released_at
from beepgpt.connectors.kafka import (
    Connection,
    KafkaLog,
    KafkaSource,
    NoBroker,
    begin_and_end_offsets,
    create_topics,
    describe_topic,
    offsets_at,
)
from beepgpt.connectors.kafka.connection import FOREIGN, errors, failure_of
from beepgpt.connectors.kafka.topics import record_of
from beepgpt.connectors.log import BadAddress, LogFailed, NotDelivered, NoTopic, OutgoingRecord, Record, TopicSpec, murmur2, parse_address
from beepgpt.connectors.log.records import OVERHEAD
from tests.support.kafka_records import (
    NOON,
    SECOND,
    failing,
    new_topic,
    numbered,
    put,
    read,
    records,
    stopped_after,
    store_in,
    values,
    write,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, TopicPartition

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # kafka-python leaves those that can't connect


@given(st.binary(max_size=70))
def test_a_key_goes_where_all_clients_put_it(key):
    """Ours, for speed, and kafka-python's."""
    from kafka.partitioner.default import murmur2 as theirs

    assert murmur2(key) == theirs(key)


def test_what_is_written_is_read(connection, topic):
    """Keys, values, headers and times, in order within each partition; then the end is reported."""
    calls: list[Any] = []
    messages = [OutgoingRecord(b"C%d" % (each % 5), b"%d" % each, [("n", b"%d" % each)], None, NOON + each * 1000) for each in range(2_500)]
    write(KafkaLog(connection).sink(topic), [("all", messages[start : start + 100]) for start in range(0, 2_500, 100)])

    chunks = read(KafkaSource(connection, topic, on_end=lambda: calls.append("end"), progress=lambda *seen: calls.append(seen)))

    assert values(chunks) == list(range(2_500))
    assert max(len(chunk) for _, _, chunk in chunks) <= 1_000
    by_key: dict[bytes | None, list[Record]] = {}
    for partition, first, chunk in chunks:
        assert partition in {f"{topic}/{number}" for number in range(3)}
        assert [record.offset for record in chunk] == list(range(first, first + len(chunk)))
        for record in chunk:
            by_key.setdefault(record.key, []).append(record)
    assert {key: [record.value for record in some] for key, some in by_key.items()} == {
        b"C%d" % key: [b"%d" % each for each in range(key, 2_500, 5)] for key in range(5)
    }
    assert all(record.headers == [("n", record.value)] for record in records(chunks))
    assert all(record.timestamp == NOON + int(record.value or b"") * 1000 for record in records(chunks))
    assert calls[-1] == "end" and calls.count("end") == 1
    assert sum(count for count, _ in calls[:-1]) == 2_500
    assert calls[-2][1] == 1


def test_a_tombstone_has_no_value(connection, topic):
    """None goes out and comes in, beside an empty value."""
    put(
        connection,
        topic,
        OutgoingRecord(b"k", None, partition=1),
        OutgoingRecord(b"k", b"", partition=1),
        OutgoingRecord(None, b"v", partition=1),
    )

    assert [(record.key, record.value) for record in records(read(KafkaSource(connection, topic)))] == [
        (b"k", None),
        (b"k", b""),
        (None, b"v"),
    ]


def test_a_null_header_is_read_as_an_empty_one():
    """Other producers write such headers, and nothing here is to end by one; kafka-python's own producer writes none."""
    read = SimpleNamespace(value=b"{}", offset=7, timestamp=1, key=b"C1", headers=[("released_at", None), ("kind", b"prediction")])

    assert record_of(read) == Record(b"{}", 7, 1000, b"C1", [("released_at", b""), ("kind", b"prediction")])
    assert released_at(record_of(read).headers) is None


def test_a_tombstone_needs_a_key(connection, topic):
    """Without one it would remove nothing."""
    assert topic in failing(lambda: put(connection, topic, OutgoingRecord(None, None)), NotDelivered)


def test_an_empty_topic_ends_at_once(connection, topic):
    """And says so, once."""
    calls: list[str] = []

    assert read(KafkaSource(connection, topic, on_end=lambda: calls.append("end"))) == []
    assert calls == ["end"]


def test_the_end_is_where_it_stood_at_the_start(connection, topic):
    """What is written later is not read, not even by a run that was stopped and goes on after it."""
    put(connection, topic, *numbered(30))
    source = KafkaSource(connection, topic)
    put(connection, topic, *numbered(30, first=30))

    assert values(read(source)) == list(range(30))


def test_a_resumed_run_keeps_its_end(connection, topic, tmp_path):
    """The end of the first start is in the snapshots."""
    put(connection, topic, *numbered(3_000, partition=0))
    first = read(KafkaSource(connection, topic, **stopped_after(1)), **store_in(tmp_path))
    put(connection, topic, *numbered(50, first=3_000, partition=0))
    second = read(KafkaSource(connection, topic), **store_in(tmp_path))

    assert 0 < len(values(first)) < 3_000
    assert values(first + second) == list(range(3_000))


def test_followed_until_it_is_stopped(connection, topic, tmp_path):
    """Records are read as they come; a stop is no end, and the next run goes on behind it."""
    calls: list[str] = []
    put(connection, topic, *numbered(10))
    writer = threading.Timer(0.5, lambda: put(connection, topic, *numbered(10, first=10)))
    writer.start()

    source = KafkaSource(connection, topic, follow=True, on_end=lambda: calls.append("end"), **stopped_after(20))
    first = read(source, **store_in(tmp_path))
    writer.join()
    put(connection, topic, *numbered(10, first=20))
    second = read(KafkaSource(connection, topic, follow=True, **stopped_after(10)), **store_in(tmp_path))

    assert values(first) == list(range(20))
    assert values(second) == list(range(20, 30))
    assert calls == []


def test_from_a_time_to_a_time(connection, topic):
    """Both are part of it, in every partition."""
    for partition in range(3):
        put(connection, topic, *numbered(10, partition=partition))

    chunks = read(KafkaSource(connection, topic, since=NOON + 3 * SECOND, until=NOON + 5 * SECOND))

    assert values(chunks) == sorted([3, 4, 5] * 3)
    assert values(read(KafkaSource(connection, topic, until=NOON - SECOND))) == []
    assert values(read(KafkaSource(connection, topic, since=NOON + 100 * SECOND))) == []
    assert len(values(read(KafkaSource(connection, topic, until=NOON + 100 * SECOND)))) == 30


def test_offsets_by_time(connection, topic):
    """The first record at or after a time, or the end."""
    put(connection, topic, *numbered(10, partition=1))

    assert offsets_at(connection, topic, NOON + 3 * SECOND) == {0: 0, 1: 3, 2: 0}
    assert offsets_at(connection, topic, NOON + 99 * SECOND) == {0: 0, 1: 10, 2: 0}
    assert begin_and_end_offsets(connection, topic) == {0: (0, 0), 1: (0, 10), 2: (0, 0)}


def test_a_process_reads_its_own_partitions(connection, topic):
    """And one that has none ends at once."""
    for partition in range(3):
        put(connection, topic, *numbered(5, first=10 * partition, partition=partition))
    calls: list[str] = []

    assert values(read(KafkaSource(connection, topic, wanted=lambda each: each != 1))) == [0, 1, 2, 3, 4, 20, 21, 22, 23, 24]
    assert read(KafkaSource(connection, topic, wanted=lambda each: False, on_end=lambda: calls.append("end"))) == []
    assert calls == ["end"]


def test_offsets_may_have_gaps(connection):
    """What compaction removed is passed over, also at the end that was asked for."""
    topic = new_topic(
        connection,
        1,
        **{"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "100"},
    )
    put(connection, topic, *(OutgoingRecord(b"%d" % (each % 2), b"%d" % each) for each in range(10)))
    time.sleep(0.2)
    put(connection, topic, OutgoingRecord(b"new segment", b"10"))
    deadline = time.monotonic() + 20
    while len(chunks := records(read(KafkaSource(connection, topic)))) > 3 and time.monotonic() < deadline:
        time.sleep(0.3)

    assert [(record.offset, record.value) for record in chunks] == [(8, b"8"), (9, b"9"), (10, b"10")]


def test_a_record_over_the_limit_stops_the_flow(connection):
    """It names the topic, the size and the setting; what came before it is there."""
    topic = new_topic(connection, 1, **{"max.message.bytes": "10000"})
    items = [("all", [OutgoingRecord(b"k", b"1")]), ("all", [OutgoingRecord(b"k", b"x" * 20_000)])]

    said = failing(lambda: write(KafkaLog(connection).sink(topic), items), NotDelivered)

    assert topic in said and "20,001 bytes" in said and "max.message.bytes" in said
    assert len(records(read(KafkaSource(connection, topic)))) == 1


def test_what_is_cut_to_fit_keeps_its_key_and_headers(connection):
    """A dead letter without its reason and source would be a riddle; one that fits is not touched."""
    topic = new_topic(connection, 1, **{"max.message.bytes": "10000"})
    headers = [("reason", b"late"), ("source", b"slack.events/3:17")]
    write(KafkaLog(connection).sink(topic, cuts=True), [("all", [OutgoingRecord(b"k", b"x" * size, headers) for size in (20, 20_000)])])

    fits, cut = records(read(KafkaSource(connection, topic)))
    assert (fits.key, fits.value, list(fits.headers)) == (b"k", b"x" * 20, headers)
    assert (cut.key, len(cut.value or b""), list(cut.headers)) == (b"k", 10_000 - OVERHEAD - 1, [*headers, ("cut_from", b"20000")])


def test_long_headers_count(connection):
    """What they need, the value doesn't get: it is cut so much shorter, or the record is refused before the broker does it."""
    topic = new_topic(connection, 1, **{"max.message.bytes": "10000"})
    record = OutgoingRecord(b"k", b"x" * (10_000 - OVERHEAD - 1), [("reason", b"r" * 2_000)])

    said = failing(lambda: write(KafkaLog(connection).sink(topic), [("all", [record])]), NotDelivered)
    write(KafkaLog(connection).sink(topic, cuts=True), [("all", [record])])

    (cut,) = records(read(KafkaSource(connection, topic)))
    assert "11,118 bytes" in said, "2,014 of the header, without the 384 that are counted beside"
    assert len(cut.value or b"") == 10_000 - OVERHEAD - 1 - (2_014 + 20 - 384)
    assert [name for name, _ in cut.headers] == ["reason", "cut_from"]


def test_the_writers_mark_waits_for_a_record_with_room_for_it(connection):
    """A record of exactly the most bytes that the topic takes goes there without it; none is refused, or cut, for the mark."""
    topic = new_topic(connection, 1, **{"max.message.bytes": "10000"})
    mark = ("settings", b"s" * 600)
    most = OutgoingRecord(b"k", b"x" * (10_000 - OVERHEAD - 1))
    small, almost = OutgoingRecord(b"k", b"1"), OutgoingRecord(b"k", b"x" * (10_000 - OVERHEAD - 1 - 608))
    write(KafkaLog(connection).sink(topic, mark=mark), [("all", [each]) for each in (most, almost, small)])

    found = records(read(KafkaSource(connection, topic)))
    assert [(each.value, list(each.headers)) for each in found] == [(most.value, []), (almost.value, [mark]), (small.value, [])]


def test_many_records_near_the_limit_are_written(connection):
    """A batch may not be larger than a record may: it is split."""
    topic = new_topic(connection, 1, **{"max.message.bytes": "10000"})
    put(connection, topic, *(OutgoingRecord(b"%d" % each, b"%d" % each + b" " * 900) for each in range(500)))

    assert values(read(KafkaSource(connection, topic))) == list(range(500))


def test_missing_topics_are_named_with_the_command_that_makes_them(connection, topic):
    """All at once."""
    with pytest.raises(NoTopic, match=r"^no\.one, no\.two: there are no such topics on .*`beepgpt topics kafka://"):
        KafkaLog(connection).check_topics([topic, "no.one", "no.two"])
    with pytest.raises(NoTopic, match=r"^no\.one: there is no such topic"):
        KafkaSource(connection, "no.one")
    with pytest.raises(NoTopic, match=r"^no\.one: there is no such topic"):
        KafkaLog(connection).sink("no.one")


def test_topics_are_made_as_they_should_be(connection):
    """What is there already is left, and what differs is reported."""
    one, two = (f"test-{uuid4().hex[:12]}" for _ in range(2))
    made = create_topics(connection, [TopicSpec(one, 2, {"cleanup.policy": "compact", "retention.ms": "-1"})])
    again = create_topics(connection, [TopicSpec(one, 4, {"cleanup.policy": "delete", "retention.ms": "-1"}), TopicSpec(two, 1)])

    assert made == ([one], [])
    assert again == ([two], [f"{one}: has 2 partitions, not 4", f"{one}: cleanup.policy is compact, not delete"])
    assert set(KafkaLog(connection).check_topics([one, two])) == {one, two}


def test_offsets_are_committed_for_the_tools_that_show_lag(connection, topic, tmp_path):
    """Those that a snapshot covers, under the group's name."""
    group = f"group-{topic}"
    put(connection, topic, *numbered(3_000, partition=0))
    read(KafkaSource(connection, topic, group=group, **stopped_after(1)), **store_in(tmp_path))
    after_stop = lag(connection, topic, group)
    read(KafkaSource(connection, topic, group=group), **store_in(tmp_path))

    assert after_stop in (2_000, 3_000)
    assert lag(connection, topic, group) == 0


def lag(connection: Connection, topic: str, group: str) -> int:
    """How many offsets the group's last commit is behind the end of partition 0."""
    admin = KafkaAdminClient(bootstrap_servers=connection.bootstrap)
    partition = TopicPartition(topic, 0)
    try:
        committed = admin.list_group_offsets({group: [partition]})[group]
    finally:
        admin.close()
    return int(begin_and_end_offsets(connection, topic)[0][1] - committed[partition].offset)


def test_lag_is_reported(connection, topic, monkeypatch):
    """How many records each partition has ahead."""
    monkeypatch.setattr("beepgpt.connectors.log.source.CHECK", 0.2)
    calls: list[Mapping[int, int]] = []
    put(connection, topic, *numbered(10, partition=0))

    def all_is_read() -> bool:
        return bool(calls) and not any(calls[-1].values())

    read(KafkaSource(connection, topic, follow=True, on_lag=calls.append, stopping=all_is_read))

    assert calls[0] == {0: 10, 1: 0, 2: 0} and calls[-1] == {0: 0, 1: 0, 2: 0}


@pytest.mark.slow
def test_a_user_with_a_password(mortal_broker, monkeypatch):
    """The right one may read and write; with a wrong one the message says what to check, and the password is not shown."""
    monkeypatch.setattr("beepgpt.connectors.kafka.connection.START_PATIENCE", 3)
    right = Connection(mortal_broker.with_password, "SASL_PLAINTEXT", "PLAIN", "ana", "right")
    topic = new_topic(right)
    put(right, topic, *numbered(3))

    assert values(read(KafkaSource(right, topic))) == [0, 1, 2]
    with pytest.raises(LogFailed, match="and that the user ana and the password are right") as raised:
        describe_topic(replace(right, password="wrong"), topic)
    assert "wrong" not in str(raised.value)


def test_no_error_of_kafka_python_is_left_unmapped():
    """Each that it exports is caught, and becomes one of ours that names the topic."""
    theirs: set[Any] = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}

    assert errors.KafkaError in theirs
    for each in theirs:
        assert issubclass(each, FOREIGN), each
        error: BaseException = each.__new__(each)  # some want arguments
        assert "events" in str(failure_of(error, "events", Connection("127.0.0.1:1"))), each


@pytest.mark.slow
def test_no_broker_at_all(monkeypatch):
    """The address is named, and what to check."""
    monkeypatch.setattr("beepgpt.connectors.kafka.connection.START_PATIENCE", 0.5)
    with pytest.raises(NoBroker, match=r"^events: no answer from 127\.0\.0\.1:1: check that the broker runs"):
        KafkaSource(Connection("127.0.0.1:1"), "events")


def test_a_file_of_the_tls_settings_that_is_missing():
    """It is named, with its setting."""
    with pytest.raises(LogFailed, match=r"^/no/such\.pem: there is no such file: check ca_file"):
        describe_topic(Connection("127.0.0.1:1", "SSL", ca_file="/no/such.pem"), "events")


def test_secrets_are_not_shown():
    """Neither in the repr of a connection nor in a refused address."""
    assert "hush" not in repr(Connection("a:1", "SASL_SSL", "PLAIN", "ana", "hush", key_password="hush"))
    with pytest.raises(BadAddress) as raised:
        parse_address("kafka://ana:hush@a:9092/events")
    assert "hush" not in str(raised.value)
    assert "a user and a password stand in the settings" in str(raised.value)


def test_an_address_with_times():
    """Times of any zone; a plus sign in one needs no escape."""
    address = parse_address("kafka://a:9092/events?from=2023-07-25T12:00:00Z&to=2023-07-25T14:00:00.000001+01:00")

    assert (address.since, address.until, address.follow) == (NOON, NOON + 3600 * SECOND + 1, False)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("http://a:1/t", "does not begin with kafka://"),
        ("kafka:///t", "names no host:port"),
        ("kafka://a/t", "'a' is no host:port"),
        ("kafka://a:0/t", "'a:0' is no host:port"),
        ("kafka://a:1,b/t", "'b' is no host:port"),
        ("kafka://a:1", "names no topic"),
        ("kafka://a:1/t/u", "'t/u' can't be a topic's name"),
        ("kafka://a:1/t?form=2024-01-01", "'form' is unknown"),
        ("kafka://a:1/t?from=2024-01-01&from=2024-01-01", "from is given twice"),
        ("kafka://a:1/t?from=yesterday", "from is 'yesterday', and no time"),
        ("kafka://a:1/t?to=1950-01-01", "to is '1950-01-01', and no time"),
        ("kafka://a:1/t?follow=yes", "follow is 'yes'"),
        ("kafka://a:1/t?follow=true&to=2024-01-01", "exclude each other"),
        ("kafka://a:1/t?from=2024-01-02&to=2024-01-01", "from is after to"),
    ],
)
def test_a_wrong_address_says_what_is_wrong(text, wrong):
    """And how one looks."""
    with pytest.raises(BadAddress, match=re.escape(wrong)) as raised:
        parse_address(text)
    assert "kafka://host:port/topic" in str(raised.value)
