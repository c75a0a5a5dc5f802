"""Describes, checks and creates topics; finds offsets, and reads records outside a flow."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType

from beepgpt.connectors.kafka.connection import RETRY, Connection, NoBroker, admin_of, no_topics, offset_consumer
from beepgpt.connectors.log.errors import LogFailed
from beepgpt.connectors.log.records import DEFAULT_LIMIT, Record, Topic, TopicSpec, differences_of
from beepgpt.connectors.log.source import PATIENCE

SOON = 5.0
"""Seconds in which describing topics is tried again: less than it takes to find out that no broker answers."""


def describe_topics(connection: Connection, names: Collection[str] | None = None) -> dict[str, Topic]:
    """The named topics that exist (None: all topics), by name."""
    began = time.monotonic()
    while True:
        try:
            with admin_of(", ".join(names or ["the topics"]), connection) as admin:
                return found_topics(admin, names)
        except NoBroker:  # one of several brokers may have gone a moment ago, and the others not know it yet
            if time.monotonic() - began > SOON:
                raise
            time.sleep(RETRY)


def found_topics(admin: Any, names: Collection[str] | None) -> dict[str, Topic]:
    found = admin.describe_topics(None if names is None else list(names))
    return {
        each["name"]: Topic(each["name"], str(each["topic_id"]), len(each["partitions"]), len(each["partitions"][0]["replica_nodes"]))
        for each in found
        if each["error_code"] == 0 and each["partitions"]
    }


def is_missing(connection: Connection, name: str) -> bool:
    """Whether brokers answer within 2 seconds that there is no such topic."""
    try:
        with admin_of(name, connection, patience=2.0) as admin:
            return not found_topics(admin, [name])
    except LogFailed:
        return False


def describe_topic(connection: Connection, name: str) -> Topic:
    """Describe a topic. Raises NoTopic if it does not exist."""
    found = describe_topics(connection, [name])
    if name not in found:
        raise no_topics([name], connection)
    return found[name]


def create_topics(connection: Connection, specs: Sequence[TopicSpec]) -> tuple[list[str], list[str]]:
    """Create topics that are missing, and leave the others as they are.

    Returns the names of the new ones, and a line for each difference of one that exists.
    """
    names = [spec.name for spec in specs]
    with admin_of(", ".join(names), connection) as admin:
        there = found_topics(admin, names)
        missing = [spec for spec in specs if spec.name not in there]
        for spec in missing:
            wanted = {"num_partitions": spec.partitions, "replication_factor": spec.replicas, "configs": dict(spec.settings)}
            with suppress(errors.TopicAlreadyExistsError):  # somebody else was faster
                admin.create_topics({spec.name: wanted}, wait_for_metadata=True)
        kept = [(there[spec.name], _settings(admin, spec.name, spec.settings), spec) for spec in specs if spec.name in there]
        return [spec.name for spec in missing], [line for each in kept for line in differences_of(*each)]


def delete_topic(connection: Connection, name: str) -> None:
    """Delete a topic with all its records, and wait until it is gone."""
    began = time.monotonic()
    with admin_of(name, connection) as admin:
        admin.delete_topics([name])
        while found_topics(admin, [name]):
            if time.monotonic() - began > PATIENCE:
                raise errors.KafkaTimeoutError(f"it is still there after {PATIENCE:.0f} seconds")
            time.sleep(RETRY)


def _settings(admin: Any, topic: str, names: Collection[str]) -> dict[str, str]:
    """Values of a topic's settings, including defaults."""
    if not names:
        return {}
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(names))
    described = next(iter(admin.describe_configs([resource], config_filter="all").values()))[topic]
    return {name: str(described[name]["value"]) for name in names if name in described}


def max_message_bytes(connection: Connection, topic: str) -> int:
    """The most bytes of a batch that the topic takes; the default if the user may not ask."""
    name = "max.message.bytes"
    return int(topic_settings(connection, topic, [name]).get(name, DEFAULT_LIMIT))


def topic_settings(connection: Connection, topic: str, names: Collection[str]) -> dict[str, str]:
    """Values of a topic's settings, including defaults; empty if the user may not ask."""
    try:
        with admin_of(topic, connection) as admin:
            return _settings(admin, topic, names)
    except (LogFailed, KeyError):
        return {}


def begin_and_end_offsets(connection: Connection, topic: str) -> dict[int, tuple[int, int]]:
    """The first offset and the next record's offset, by partition."""
    partitions = partitions_of(describe_topic(connection, topic))
    with offset_consumer(topic, connection) as consumer:
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    return {each.partition: (begins[each], ends[each]) for each in partitions}


def offsets_at(connection: Connection, topic: str, at: int) -> dict[int, int]:
    """The offset of the first record stamped at or after `at` (microseconds), or the end, by partition."""
    partitions = partitions_of(describe_topic(connection, topic))
    with offset_consumer(topic, connection) as consumer:
        return consumer_offsets_at(consumer, partitions, at // 1000, consumer.end_offsets(partitions))


def consumer_offsets_at(consumer: Any, partitions: Sequence[Any], at_ms: int, ends: Mapping[Any, int]) -> dict[int, int]:
    found = consumer.offsets_for_times(dict.fromkeys(partitions, at_ms))
    return {each.partition: ends[each] if found[each] is None else found[each].offset for each in partitions}


def partitions_of(topic: Topic) -> list[Any]:
    return [TopicPartition(topic.name, number) for number in range(topic.partitions)]


def record_of(each: Any) -> Record:
    """kafka-python's record as ours."""
    headers = each.headers and [(name, value or b"") for name, value in each.headers]
    return Record(each.value, each.offset, each.timestamp * 1000, each.key, headers)


def records_of(
    connection: Connection, topic: str, *, back: int | None = None, starts: Mapping[int, int] | None = None
) -> Iterator[tuple[int, Record]]:
    """Read a topic's records, each with its partition, up to the end as it is now.

    `back`: only the last so many offsets of each partition; `starts`: the offset to begin at, by partition.
    """
    partitions = partitions_of(describe_topic(connection, topic))
    with offset_consumer(topic, connection) as consumer:
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        for partition in partitions:
            begin, end = begins[partition], ends[partition]
            consumer.assign([partition])
            start = begin if starts is None else max(begin, starts.get(partition.partition, begin))
            consumer.seek(partition, start if back is None else max(start, end - back))
            heard = time.monotonic()
            while consumer.position(partition) < end:
                found = consumer.poll(timeout_ms=200).get(partition, [])
                heard = time.monotonic() if found else heard
                if time.monotonic() - heard > PATIENCE:
                    raise errors.KafkaTimeoutError(f"nothing came for {PATIENCE:.0f} seconds")
                yield from ((partition.partition, record_of(each)) for each in found if each.offset < end)
