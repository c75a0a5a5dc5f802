"""Kafka as a log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from beepgpt.connectors.kafka import topics
from beepgpt.connectors.kafka.connection import Connection, no_topics
from beepgpt.connectors.kafka.source import KafkaSource
from beepgpt.connectors.kafka.writer import Writer
from beepgpt.connectors.log import Log, NoTopic, Record, Topic, TopicSpec


class KafkaLog(Log):
    """The topics of a cluster."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.place = connection.place

    def topics(self, names: Collection[str] | None = None) -> dict[str, Topic]:
        return topics.describe_topics(self.connection, names)

    def no_topics(self, names: Sequence[str]) -> NoTopic:
        return no_topics(names, self.connection)

    def create(self, specs: Sequence[TopicSpec]) -> tuple[list[str], list[str]]:
        return topics.create_topics(self.connection, specs)

    def delete(self, name: str) -> None:
        topics.delete_topic(self.connection, name)

    def settings_of(self, topic: str, names: Collection[str]) -> dict[str, str]:
        return topics.topic_settings(self.connection, topic, names)

    def or_set(self, topic: str, name: str, value: str) -> str:
        return f", or set it to {value} (kafka-configs.sh --alter --topic {topic} --add-config {name}={value})"

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        return topics.begin_and_end_offsets(self.connection, topic)

    def offsets_at(self, topic: str, at: int) -> dict[int, int]:
        return topics.offsets_at(self.connection, topic, at)

    def records(self, topic: str, *, back: int | None = None, starts: Mapping[int, int] | None = None) -> Iterator[tuple[int, Record]]:
        return topics.records_of(self.connection, topic, back=back, starts=starts)

    def source(self, topic: str, *, group: str | None = None, **how: Any) -> KafkaSource:
        return KafkaSource(self.connection, topic, group=group, **how)

    def writer(self, topic: str, *, alone: bool = True, **how: Any) -> Writer:
        """A writer to a topic; any number of them may write there."""
        return Writer(self.connection, topic, **how)
