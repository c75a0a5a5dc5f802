"""What every log does, whichever it is: the same calls give the same records."""

import threading
from contextlib import suppress
from typing import Any

import pytest

from beepgpt.connectors.log import (
    Log,
    LogFailed,
    NotDelivered,
    NoTopic,
    OffsetsGone,
    OutgoingRecord,
    Record,
    TopicChanged,
    TopicSpec,
    WrongTopic,
    chunks_of,
    partition_of,
)
from beepgpt.connectors.log.records import OVERHEAD, RecordChunk
from beepgpt.connectors.sqlite.log import SqliteLog
from tests.support.kafka_records import NOON, SECOND, failing, numbered, stopped_after, store_in, values, write
from tests.support.logs import all_on, flow_reads, topic_on, write_to
from tests.support.speed import wait_until


def test_records_come_back_with_all_that_they_have(log: Log):
    """Keys, values, tombstones, headers and times, in order in each partition; a key's partition is the one that Kafka's clients choose."""
    topic = topic_on(log)
    messages = [
        OutgoingRecord(b"C%d" % (each % 5), b"%d" % each, [("n", b"\xff%d" % each)], None, NOON + each * 1000) for each in range(2_500)
    ]
    calls: list[Any] = []

    write(log.sink(topic), [("all", messages[start : start + 100]) for start in range(0, 2_500, 100)])
    chunks = flow_reads(log.source(topic, on_end=lambda: calls.append("end"), progress=lambda *seen: calls.append(seen)))

    assert max(len(chunk) for _, _, chunk in chunks) <= 1_000
    found: dict[str, list[Record]] = {}
    for name, first, chunk in chunks:
        assert [record.offset for record in chunk] == list(range(first, first + len(chunk)))
        found.setdefault(name, []).extend(chunk)
    for number in range(3):
        wanted = [each for each in messages if each.key is not None and partition_of(each.key, 3) == number]
        expected = [Record(each.value, offset, each.timestamp or 0, each.key, list(each.headers)) for offset, each in enumerate(wanted)]
        assert found.get(f"{topic}/{number}", []) == expected
    assert calls[-1] == "end" and calls.count("end") == 1
    assert sum(count for count, _ in calls[:-1]) == 2_500 and calls[-2][1] == 1


def test_a_tombstone_is_not_an_empty_value(log: Log):
    """And a record without a key stays without one."""
    topic = topic_on(log)
    write_to(log, topic, OutgoingRecord(b"k", None, (), 1), OutgoingRecord(b"k", b"", (), 1), OutgoingRecord(None, b"v", (), 1))

    assert all_on(log, topic) == [(1, 0, b"k", None), (1, 1, b"k", b""), (1, 2, None, b"v")]


def test_a_key_of_another_places_a_record(log: Log):
    """A deletion stands in the partition of its channel."""
    topic = topic_on(log)
    write_to(log, topic, OutgoingRecord(b"C1:17", b"gone", (), b"C1"))

    assert [number for number, *_ in all_on(log, topic)] == [partition_of(b"C1", 3)]


def test_offsets_of_times(log: Log):
    """From a time on, up to a time; between two records, at one, before all and after all."""
    topic = topic_on(log, 1)
    write_to(log, topic, *numbered(10, partition=0))

    assert log.bounds(topic) == {0: (0, 10)}
    assert [log.offsets_at(topic, at)[0] for at in (0, NOON, NOON + 1000, NOON + 9 * SECOND, NOON + 10 * SECOND)] == [0, 0, 1, 9, 10]
    between = log.source(topic, since=NOON + 2 * SECOND, until=NOON + 5 * SECOND)
    assert values(flow_reads(between)) == [2, 3, 4, 5]


def test_a_part_of_a_topic(log: Log):
    """The last offsets of each partition, or those from some on."""
    topic = topic_on(log, 2)
    write_to(log, topic, *numbered(10, partition=0), *numbered(4, 10, partition=1))

    assert sorted(int(record.value or b"") for _, record in log.records(topic, back=3)) == [7, 8, 9, 11, 12, 13]
    assert sorted(int(record.value or b"") for _, record in log.records(topic, starts={0: 9})) == [9, 10, 11, 12, 13]
    assert {number: (len(headers), is_all) for number, (headers, is_all) in log.tails(topic, 5).items()} == {0: (5, False), 1: (4, True)}


def test_what_is_followed_has_no_end(log: Log):
    """Records that come later are read; a stop is no end."""
    topic = topic_on(log, 2)
    write_to(log, topic, *numbered(3, partition=1))
    ended: list[str] = []
    source = log.source(topic, follow=True, on_end=lambda: ended.append("end"), **stopped_after(8))
    found: list[int] = []
    reading = threading.Thread(target=lambda: found.extend(values(flow_reads(source))))
    reading.start()

    write_to(log, topic, *numbered(5, 3, partition=0))
    reading.join(60)

    assert found == list(range(8)) and ended == []


def test_a_run_goes_on_where_its_snapshot_is(log: Log, tmp_path):
    """Each record once, through a stop; the end is the one of the first start."""
    topic = topic_on(log, 2)
    write_to(log, topic, *numbered(3_000, partition=0), *numbered(10, 3_000, partition=1))
    store = store_in(tmp_path)

    first = values(flow_reads(log.source(topic, **stopped_after(1_000)), **store))
    write_to(log, topic, *numbered(5, 3_010, partition=1))
    second = values(flow_reads(log.source(topic), **store))

    assert 1_000 <= len(first) < 3_010
    assert sorted(first + second) == list(range(3_010))


@pytest.mark.parametrize("batches", [1, 3])
def test_a_position_is_of_what_was_handed_out(log: Log, batches: int):
    """And not of what was polled and waits, in this partition or another: who goes on from it gets all the rest, and nothing twice."""
    topic = topic_on(log, 2)
    write_to(log, topic, *numbered(3_500, partition=0), *numbered(3_500, 3_500, partition=1))
    source = log.source(topic)
    parts = {name: source.build_part("read", name, None) for name in source.list_parts()}
    first = next(iter(parts.values()))
    seen: list[RecordChunk] = []
    while len(seen) < batches:
        seen += first.next_batch()
    positions = {name: part.snapshot() for name, part in parts.items()}
    for part in parts.values():
        part.close()

    source = log.source(topic)
    for part in [source.build_part("read", name, position) for name, position in positions.items()]:
        with suppress(StopIteration):
            while True:
                seen += part.next_batch()

    assert values(seen) == list(range(7_000))


def test_a_partition_that_comes_or_goes_moves_no_other(log: Log):
    """What was polled of another one, and waits, is not polled again."""
    topic = topic_on(log, 3)
    write_to(log, topic, *numbered(2_500, partition=0), *numbered(1, 2_500, partition=1), *numbered(1, 2_501, partition=2))
    source = log.source(topic)
    large, small = source.build_part("read", "0", None), source.build_part("read", "1", None)
    seen: list[RecordChunk] = []
    while not seen:
        seen += large.next_batch()

    for part in (small, source.build_part("read", "2", None), large):
        with suppress(StopIteration):
            while True:
                seen += part.next_batch()
        part.close()

    assert values(seen) == list(range(2_502))


def test_a_snapshot_of_a_sink_waits_until_all_is_in_the_log(log: Log):
    """What was given before it can be read by then: its source's position is stored with it."""
    topic = topic_on(log, 1)
    part = log.sink(topic).build_part("write", "lane-0", None)
    part.write_batch([[OutgoingRecord(b"k", b"%d" % each + bytes(200))] for each in range(20_000)])
    part.snapshot()
    there = log.bounds(topic)
    part.close()

    assert there == {0: (0, 20_000)}


def test_records_ahead_are_reported(log: Log, monkeypatch):
    """By partition, and without waiting for the next look when a run starts."""
    topic = topic_on(log, 2)
    write_to(log, topic, *numbered(5, partition=1))
    ahead: dict[int, int] = {}
    source = log.source(topic, follow=True, on_lag=ahead.update, stopping=lambda: bool(ahead))

    flow_reads(source)

    assert set(ahead) == {0, 1} and ahead[0] == 0


def test_a_process_reads_the_partitions_that_it_wants(log: Log):
    topic = topic_on(log, 3)
    write_to(log, topic, *numbered(3, partition=0), *numbered(3, 3, partition=1), *numbered(3, 6, partition=2))

    assert values(list(chunks_of(log.source(topic, wanted=lambda number: number != 1)))) == [0, 1, 2, 6, 7, 8]


def test_missing_topics_are_named_with_what_makes_them(log: Log):
    log.create([TopicSpec("test.there", 1)])
    message = failing(lambda: log.check_topics(["test.there", "test.one", "test.two"]), NoTopic)
    suffix = ".topic" if isinstance(log, SqliteLog) else ""
    assert message.startswith("test.one, test.two: there are no such topics") and f"`beepgpt topics {log.place}/NAME{suffix}`" in message
    assert f"`beepgpt topics {log.place}/test.one{suffix}`" in failing(lambda: log.topic("test.one"), NoTopic)
    log.delete("test.there")
    wait_until(lambda: "test.there" not in log.topics(), "the topic is deleted")


def test_a_topic_that_is_there_stays_as_it_is(log: Log):
    """What differs is said."""
    topic = topic_on(log, 2, cleanup_policy="compact")
    made, differences = log.create([TopicSpec(topic, 4, {"cleanup.policy": "delete"})])

    assert made == []
    assert differences == [f"{topic}: has 2 partitions, not 4", f"{topic}: cleanup.policy is compact, not delete"]
    assert log.topic(topic).partitions == 2
    assert log.settings_of(topic, ["cleanup.policy", "message.timestamp.type"]) == {
        "cleanup.policy": "compact",
        "message.timestamp.type": "CreateTime",
    }


def test_a_topic_that_forgets_is_none_for_events(log: Log):
    topic = topic_on(log, 1, cleanup_policy="compact", retention_ms="-1")
    assert "cleanup.policy is compact" in failing(lambda: log.check_keeps(topic), WrongTopic)
    assert log.check_keeps(topic_on(log, 1, retention_ms="-1"))


def test_a_record_over_the_limit_is_an_error_or_is_cut(log: Log):
    """What was sent before it is there; nothing after it."""
    topic = topic_on(log, 1, max_message_bytes="2000")
    room = 2_000 - OVERHEAD
    with log.writer(topic) as writer:
        assert writer.most == room
        writer.send([OutgoingRecord(b"k", b"x" * (room - 1))])
    large = OutgoingRecord(b"k", b"x" * room)

    message = failing(lambda: write_to(log, topic, OutgoingRecord(b"a", b"before"), large, OutgoingRecord(b"b", b"after")), NotDelivered)
    with log.writer(topic, cuts=True) as writer:
        writer.send([large])

    assert f"{topic}, partition 0: a record of {room + 1:,} bytes" in message and "max.message.bytes" in message
    *_, cut = [record for _, record in log.records(topic)]
    assert cut.value == b"x" * (room - 1) and cut.headers == [("cut_from", b"%d" % room)]
    assert b"after" not in [record.value for _, record in log.records(topic)]


def test_the_mark_stands_among_the_last_records_of_each_partition(log: Log):
    topic = topic_on(log, 2)
    with log.writer(topic, mark=("settings", b"{}")) as writer:
        writer.send(numbered(120, partition=0) + numbered(1, partition=1))

    marked = [(number, record.offset) for number, record in log.records(topic) if ("settings", b"{}") in record.headers]
    assert marked == [(0, 0), (0, 25), (0, 50), (0, 75), (0, 100), (1, 0)]


def test_a_topic_that_was_made_again_is_not_read_on(log: Log, tmp_path):
    """Its offsets mean other records."""
    topic = topic_on(log, 1)
    write_to(log, topic, *numbered(5, partition=0))
    store = store_in(tmp_path)
    flow_reads(log.source(topic), **store)
    log.delete(topic)
    wait_until(lambda: topic not in log.topics(), "the topic is deleted")
    log.create([TopicSpec(topic, 1)])
    write_to(log, topic, *numbered(5, partition=0))

    assert "made again" in failing(lambda: flow_reads(log.source(topic), **store), TopicChanged)


def test_a_snapshot_behind_the_end_is_an_error(log: Log):
    """As where a disk lost what was confirmed, or a backup was put back."""
    topic = topic_on(log, 1)
    write_to(log, topic, *numbered(5, partition=0))
    source = log.source(topic)
    (state,) = [source.build_part("read", "0", None).snapshot()]

    assert "it ends at offset 5, but was read up to 9" in failing(
        lambda: source.build_part("read", "0", state._replace(next=9)), OffsetsGone
    )


def test_errors_are_reported_before_they_are_raised(log: Log):
    topic = topic_on(log, 1)
    said: list[Exception] = []
    write_big = log.sink(topic, on_error=said.append)

    with pytest.raises(Exception, match="a record of"):
        write(write_big, [("all", [OutgoingRecord(b"k", b"x" * (2 << 20))])])

    assert len(said) == 1 and isinstance(said[0], LogFailed)
