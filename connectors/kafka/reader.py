"""One consumer for all partitions of a worker; and offsets that are committed to a group, for tools that show lag."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kafka import KafkaConsumer, TopicPartition, errors
from kafka.structs import OffsetAndMetadata

from beepgpt.connectors.kafka.connection import (
    FOREIGN,
    RETRY,
    Connection,
    NoBroker,
    admin_of,
    consumer_options,
    failure_of,
    no_topics,
)
from beepgpt.connectors.kafka.outages import OUTAGES, started
from beepgpt.connectors.kafka.topics import describe_topic, is_missing, record_of
from beepgpt.connectors.log.errors import LogFailed, OffsetsGone
from beepgpt.connectors.log.records import Topic
from beepgpt.connectors.log.source import ENOUGH, IDLE, LogPartition, PartitionReader, check_same

if TYPE_CHECKING:
    from beepgpt.connectors.kafka.source import KafkaSource

log = logging.getLogger(__name__)


TOLERATED = 60.0
"""Seconds of failing commits before each warning: a group's coordinator is made with its first commit, and moves with a restart."""


class Committer:
    """Commits offsets to a group in a thread of its own: reading never waits for it, and failures are only logged."""

    def __init__(self, connection: Connection, topic: str, group: str) -> None:
        self._connection = connection
        self._topic = topic
        self._group = group
        self._noted: dict[int, int] = {}
        self._wake = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def note(self, number: int, offset: int) -> None:
        """Queue an offset of a partition to be committed."""
        with self._wake:
            self._noted[number] = offset
            self._is_closing = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kafka-committer", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """Wait up to 3 seconds until queued offsets are committed."""
        thread = self._thread
        if thread is not None:
            with self._wake:
                self._is_closing = True
                self._wake.notify()
            thread.join(3)

    def _run(self) -> None:
        failures, good_at = 0, time.monotonic()
        while noted := self._next():
            good_at = good_at if failures else time.monotonic()
            problem = self._commit(noted)
            failures = failures + 1 if problem else 0
            if problem and time.monotonic() - good_at >= TOLERATED:
                log.warning("offsets of group %s are not committed: %s", self._group, problem)
                good_at = time.monotonic()
            if problem and not (self._is_closing and failures > 10):
                self._keep(noted)

    def _commit(self, noted: Mapping[int, int]) -> str:
        """Commit offsets by partition; returns what went wrong, or nothing."""
        offsets = {TopicPartition(self._topic, number): OffsetAndMetadata(offset, "", -1) for number, offset in noted.items()}
        try:
            with admin_of(self._topic, self._connection) as admin:
                results = admin.alter_group_offsets(self._group, offsets).values()
        except LogFailed as error:
            return str(error)
        return ", ".join(sorted({each.__name__ for each in results} - {"NoError"}))

    def _keep(self, noted: Mapping[int, int]) -> None:
        """Queue offsets for another try, unless newer ones were queued."""
        time.sleep(RETRY)
        with self._wake:
            self._noted = {**noted, **self._noted}

    def _next(self) -> dict[int, int]:
        """Wait for queued offsets and take them; empty when closing."""
        with self._wake:
            while not self._noted and not self._is_closing:
                self._wake.wait()
            noted, self._noted = self._noted, {}
            if not noted:
                self._thread = None
            return noted


PAUSE = 2.0
"""Seconds without a poll or a response, after which the topic is checked again before records are handed out."""
MISSED = 10.0
"""Seconds for which brokers may not know a topic: one that has just started may have to catch up."""


class Reader(PartitionReader):
    """One consumer shared by a worker's partitions."""

    _source: KafkaSource

    def __init__(self, source: KafkaSource) -> None:
        super().__init__(source)
        self._who = f"reading {source.name}"
        self._consumer: Any = None
        self._is_assigned = False
        self._next_poll = 0.0
        self._next_check = 0.0
        self._heard = self._asked = time.monotonic()
        self._is_sure = False

    def add(self, part: LogPartition) -> None:
        super().add(part)
        self._is_assigned = False

    def remove(self, part: LogPartition) -> None:
        super().remove(part)
        self._is_assigned = False

    def close(self) -> None:
        if self._consumer is not None:
            with suppress(*FOREIGN):
                self._consumer.close(autocommit=False, timeout_ms=1_000)
            self._consumer = None
        OUTAGES.answered(self._who)

    def poll(self) -> None:
        now = time.monotonic()
        if now < self._next_poll or self.waiting > ENOUGH:
            return
        where = self._source.name
        if now - self._asked > PAUSE or now - self._heard > self._source.check_every + PAUSE:
            self._is_sure = False
        self._asked = now
        try:
            if not self._is_assigned:
                self._assign(now)
            if now >= self._next_check:
                self._check(now)
            # All that has come is taken: a partition of which something is left is not in the next fetch, which then waits
            # at the broker for the idle ones.
            polled = self._consumer.poll(timeout_ms=0, max_records=sys.maxsize)
        except (errors.OffsetOutOfRangeError, errors.LogTruncationError) as error:
            raise self._gone(error) from error
        except FOREIGN as error:
            raise failure_of(error, where, self._source.connection) from error
        if not polled:
            self._next_poll = now + IDLE / 2
            return
        if not self._is_sure:  # while nobody asked or answered, the topic may have been made again: offsets would mean other records
            check_same(self._source.topic, describe_topic(self._source.connection, where), self._source.place)
            self._is_sure = True
        self._heard = now
        OUTAGES.answered(self._who)
        for each, records in polled.items():
            if part := self._parts.get(each.partition):
                self.waiting += part.put([record_of(record) for record in records])

    def position(self, number: int) -> int:
        if self._consumer is None:
            return 0
        try:
            return self._consumer.position(TopicPartition(self._source.name, number), timeout_ms=0) or 0
        except FOREIGN as error:
            raise failure_of(error, f"{self._source.name}, partition {number}", self._source.connection) from error

    def _assign(self, now: float) -> None:
        """Assign all open partitions; those that were assigned before keep their positions."""
        if self._consumer is None:
            source = self._source  # the topic was there when the run began
            OUTAGES.asked(self._who)
            options = consumer_options(source.connection)
            self._consumer = started(KafkaConsumer, options, source.name, source.connection, source.patience, source.stopping)
            self._heard, self._next_check = now, now  # the lag is reported at once
        before = set(self._consumer.assignment())
        self._consumer.assign([TopicPartition(self._source.name, each) for each in self._parts])
        for number, part in self._parts.items():
            partition = TopicPartition(self._source.name, number)
            if partition not in before:
                self._consumer.seek(partition, part.state.next)
        self._is_assigned = True

    def _check(self, now: float) -> None:
        """Raise if the brokers are gone for too long, or the topic is another one; reports the lag."""
        source = self._source
        self._next_check = now + source.check_every
        partitions = [TopicPartition(source.name, each) for each in self._parts]
        asked = int(time.time() * 1e6)
        OUTAGES.asked(self._who)
        try:
            ends = self._consumer.end_offsets(partitions, timeout_ms=1_000)
            count = len(self._consumer.partitions_for_topic(source.name))
        except KeyError:  # a partition is gone: the topic was made again with fewer
            check_same(source.topic, describe_topic(source.connection, source.name), source.place)
            return
        except (errors.RetriableError, errors.KafkaConnectionError) as error:
            self._next_check = time.monotonic() + 1
            away = time.monotonic() - self._heard
            if away > min(MISSED, source.patience):
                if is_missing(source.connection, source.name):
                    raise no_topics([source.name], source.connection) from error
                self._next_check = time.monotonic() + source.check_every
            if away > source.patience:
                raise NoBroker(
                    f"{source.name}: no answer from {source.connection.bootstrap} for {away:.0f} seconds ({error}): check the brokers,"
                    " and start again; what was read up to the last snapshot is kept"
                ) from error
            return
        self._heard = time.monotonic()
        OUTAGES.answered(self._who)
        if count == 0:
            raise no_topics([source.name], source.connection)
        topic_id = self._consumer._cluster.topic_id(source.name)
        check_same(source.topic, Topic(source.name, str(topic_id or source.topic.id), count), source.place)
        ahead = {each.partition: max(ends[each] - self._parts[each.partition].state.next, 0) for each in partitions}
        self.report(ahead, asked)

    def _gone(self, error: Exception) -> LogFailed:
        """The error for offsets that the brokers have no more. Raises TopicChanged or NoTopic if they are of a topic that went."""
        with suppress(NoBroker):
            check_same(self._source.topic, describe_topic(self._source.connection, self._source.name), self._source.place)
        if isinstance(error, errors.OffsetOutOfRangeError):
            return self._out_of_range(error)
        return failure_of(error, self._source.name, self._source.connection)

    def _out_of_range(self, error: Any) -> LogFailed:
        """The error for an offset that is gone, with the range that is missing if the brokers know it."""
        partition, offset = next(iter(error.args[0].items()))
        begin = 0
        with suppress(*FOREIGN):
            begin = self._consumer.beginning_offsets([partition])[partition]
        if begin > offset:
            return self._source.gone(partition.partition, offset, begin)
        return OffsetsGone(
            f"{partition.topic}, partition {partition.partition}: there is no offset {offset:,} any more: the topic was made again, or"
            " the brokers lost records"
        )
