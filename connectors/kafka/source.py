"""A topic of Kafka as a Bytewax source."""

from __future__ import annotations

from typing import Any

from kafka import TopicPartition

from beepgpt.connectors.kafka.connection import Connection, offset_consumer
from beepgpt.connectors.kafka.reader import Committer, Reader
from beepgpt.connectors.kafka.topics import consumer_offsets_at, describe_topic
from beepgpt.connectors.log.source import Bounds, LogSource


class KafkaSource(LogSource):
    """Reads a topic, in order within each partition, up to an end or for ever."""

    def __init__(self, connection: Connection, topic: str, *, group: str | None = None, **how: Any) -> None:
        """`group`: offsets are committed to it once a snapshot covers them; `how`: see `LogSource`. Raises LogFailed."""
        self.connection = connection
        self.place = connection.place
        self._committer = Committer(connection, topic, group) if group else None
        super().__init__(describe_topic(connection, topic), **how)

    def _look(self, partitions: list[int], since: int | None, until: int | None, follow: bool) -> dict[int, Bounds]:
        mine = [TopicPartition(self.name, each) for each in partitions]
        with offset_consumer(self.name, self.connection) as consumer:
            ends = consumer.end_offsets(mine)
            starts = {each.partition: begin for each, begin in consumer.beginning_offsets(mine).items()}
            stops = {each.partition: ends[each] for each in mine}
            if since is not None:
                starts = consumer_offsets_at(consumer, mine, since // 1000, ends)
            if until is not None:
                stops = consumer_offsets_at(consumer, mine, until // 1000 + 1, ends)
        return {each.partition: Bounds(ends[each], starts[each.partition], None if follow else stops[each.partition]) for each in mine}

    def _reader(self) -> Reader:
        return Reader(self)

    def covered(self, number: int, offset: int) -> None:
        """Commit the offset to the group."""
        if self._committer:
            self._committer.note(number, offset)

    def closed(self) -> None:
        """Commit the last offsets when a worker's partitions are closed."""
        if self._committer:
            self._committer.close()
