"""Kafka topics, as bytes: in by chunks of records, out by messages whose delivery is confirmed before a snapshot says so.

Partitions are assigned and sought: no group is joined, so where a run stands is in its snapshots alone. Offsets are also
committed to a group's name, for the tools that show lag.
"""

from __future__ import annotations

import logging
import struct
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit
from zlib import crc32

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from beepgpt.errors import BeepGPTError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its import uses an old way to find its own files
    from kafka import (  # type: ignore[import-untyped]
        KafkaAdminClient,
        KafkaConsumer,
        KafkaProducer,
        TopicPartition,
        errors,
    )
    from kafka.admin import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
    from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

CHUNK = 1_000
FETCH_BYTES = 4 * 2**20
"""Of one fetch: the next one is asked for when nothing of this one is left, so it is large; it is read in a tenth of a second."""
ENOUGH = 2 * CHUNK
"""Records that wait to be taken, above which no more are fetched."""
IDLE = 0.005
"""Seconds between two looks for records where there were none."""
LONG_IDLE = 0.025
"""The same for a partition that had none for QUIET looks: each look costs, and there may be many such partitions."""
QUIET = 200
LOOK_BACK = 100
"""Offsets in which a partition's last record is looked for."""
IDLE_MARGIN = 60_000_000
"""Microseconds that a heartbeat by the machine's clock stays behind it: so long may an event take to its topic."""
CHECK = 10.0
"""Seconds between two looks at the topic's partitions and ends."""
PAUSE = 2.0
"""Seconds without a question or an answer, after which the topic is looked at again before anything of it is handed out."""
MISSED = 10.0
"""Seconds for which brokers that answer may not know a topic: one that has just started may have to catch up."""
START_PATIENCE = 15.0
"""Seconds in which a broker has to answer when a run starts."""
RETRY = 0.2
"""Seconds between two tries to commit offsets, or to look at topics."""
SOON = 5.0
"""Seconds in which a look at topics is tried again: less than it takes to find out that no broker answers."""
PATIENCE = 120.0
"""Seconds for which a broker may be away while a run goes on."""
BATCH_BYTES = 256 * 2**10
LINGER_MS = 20
DEFAULT_LIMIT = 1_048_588
"""Bytes of a batch that a topic takes by default."""
OVERHEAD = 512
"""Bytes that a batch and a record in it need beside key, value and headers, and some to spare."""
MAX_PENDING = 20_000
MAX_PENDING_BYTES = 64 * 2**20
LANES = tuple(f"lane-{number}" for number in range(8))
"""A sink's partitions, which have nothing to do with the topic's: fixed, so that a store can be resumed by any number of workers."""

log = logging.getLogger(__name__)


class BadAddress(BeepGPTError):
    """An address is wrong; the message says how one looks."""

    exit_status = 2


class KafkaFailed(BeepGPTError):
    """Kafka could not do it; the message names the topic, the partition where there is one, and what to do."""


class NoBroker(KafkaFailed):
    """No broker answers."""


class NoTopic(KafkaFailed):
    """A topic is not there."""


class OffsetsGone(KafkaFailed):
    """Records that were to be read next are no longer in the topic."""


class TopicChanged(KafkaFailed):
    """A topic isn't the one that the run began with, or has another number of partitions."""


class NotDelivered(KafkaFailed):
    """A record did not reach its topic."""


# Where, and as whom


@dataclass(frozen=True)
class Connection:
    """Which brokers, and as whom: values, whose secrets stay out of the repr.

    >>> Connection("localhost:9092", "SASL_SSL", "PLAIN", "ana", "secret")
    Connection(bootstrap='localhost:9092', protocol='SASL_SSL', mechanism='PLAIN', user='ana', ca_file=None, cert_file=None, key_file=None)
    """

    bootstrap: str
    """`host:port`, or several of them with commas between."""
    protocol: str = "PLAINTEXT"
    """`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`."""
    mechanism: str | None = None
    """`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`, for the SASL protocols."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    """Certificates to trust, PEM; None: the system's."""
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)

    def options(self) -> dict[str, Any]:
        """As kafka-python wants it. Raises KafkaFailed for a missing file, which kafka-python would take for an absent broker."""
        if self.protocol.startswith("SASL") and not (self.mechanism and self.user and self.password):
            raise KafkaFailed(
                f"the protocol {self.protocol} needs a mechanism, a user and a password: set kafka.mechanism, kafka.user and"
                " kafka.password, or BEEPGPT_KAFKA__MECHANISM, BEEPGPT_KAFKA__USER and BEEPGPT_KAFKA__PASSWORD"
            )
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise KafkaFailed(f"{path}: there is no such file: check {name} in the settings of the connection")
        return {
            "bootstrap_servers": self.bootstrap.split(","),
            "client_id": "beepgpt",
            "security_protocol": self.protocol,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.user,
            "sasl_plain_password": self.password,
            "ssl_cafile": self.ca_file,
            "ssl_certfile": self.cert_file,
            "ssl_keyfile": self.key_file,
            "ssl_password": self.key_password,
            "bootstrap_timeout_ms": int(START_PATIENCE * 1000),
            "reconnect_backoff_max_ms": 2_000,
            "metadata_max_age_ms": int(CHECK * 1000),
        }


@dataclass(frozen=True)
class KafkaAddress:
    """A topic as a command line names it."""

    bootstrap: str
    topic: str
    since: int | None = None
    """`from`, microseconds."""
    until: int | None = None
    """`to`, microseconds."""
    follow: bool = False


HOW = "kafka://host:port/topic?from=2024-01-01T00:00:00Z&to=2024-02-01T00:00:00Z, or kafka://host:port/topic?follow=true"
_TOPIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def parse_address(text: str) -> KafkaAddress:
    """`kafka://…`, taken apart. Raises BadAddress with how one looks.

    >>> parse_address("kafka://a:9092,b:9092/slack.events?from=1970-01-02&follow=true")
    KafkaAddress(bootstrap='a:9092,b:9092', topic='slack.events', since=86400000000, until=None, follow=True)
    >>> parse_address("kafka://a:9092/")
    Traceback (most recent call last):
    beepgpt.connectors.kafka.BadAddress: kafka://a:9092/: it names no topic: write kafka://host:port/topic?from=2024-01-01T00:00:00Z&...
    """
    parts = urlsplit(text)

    def bad(what: str) -> BadAddress:
        shown = "kafka://…" if "@" in text else text.partition("?")[0]  # whatever stands there, it may be a secret
        return BadAddress(f"{shown}: {what}: write {HOW}")

    if parts.scheme != "kafka":
        raise bad("it does not begin with kafka://")
    if "@" in parts.netloc:
        raise bad("a user and a password stand in the settings, not in an address")
    for server in parts.netloc.split(","):
        host, _, port = server.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise bad(f"{server!r} is no host:port" if server else "it names no host:port")
    topic = unquote(parts.path.strip("/"))
    if not topic:
        raise bad("it names no topic")
    if not set(topic) <= _TOPIC or len(topic) > 249 or topic in (".", ".."):
        raise bad(f"{topic!r} can't be a topic's name (letters, digits, dots, underscores and hyphens)")
    given: dict[str, str] = {}
    for name, value in parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True):  # a plus is part of a time's offset
        if name not in ("from", "to", "follow"):
            raise bad(f"{name!r} is unknown (from, to and follow are known)")
        if name in given:
            raise bad(f"{name} is given twice")
        given[name] = value
    if given.get("follow", "true") not in ("true", "false"):
        raise bad(f"follow is {given['follow']!r}, and must be true or false")
    follow = given.get("follow") == "true"
    times = {name: _micros(given[name]) for name in ("from", "to") if name in given}
    for name, at in times.items():
        if at is None:
            raise bad(f"{name} is {given[name]!r}, and no time")
    since, until = times.get("from"), times.get("to")
    if follow and until is not None:
        raise bad("what is followed has no end: to and follow=true exclude each other")
    if since is not None and until is not None and since > until:
        raise bad("from is after to")
    return KafkaAddress(parts.netloc, topic, since, until, follow)


def _micros(text: str) -> int | None:
    """ISO 8601 to microseconds, UTC where it doesn't say; None if it is no time since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    at = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return at if at >= 0 else None


# Foreign errors stop here

_FOREIGN = (errors.KafkaError, OSError, ValueError, TypeError, RuntimeError, AssertionError)
"""What kafka-python raises: not all of its errors are its own."""


@contextmanager
def heard_by(on_error: Callable[[Exception], None]) -> Iterator[None]:
    """Somebody is told of whatever goes wrong in here, before it goes its way."""
    try:
        yield
    except KafkaFailed as error:
        on_error(error)
        raise


_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)


@contextmanager
def _told(where: str, connection: Connection) -> Iterator[None]:
    """Whatever goes wrong in here becomes a KafkaFailed that names `where`."""
    try:
        yield
    except _FOREIGN as error:
        raise _failed(error, where, connection) from error


def _failed(error: BaseException, where: str, connection: Connection) -> KafkaFailed:
    """The error as one of ours, with what to do about it."""
    name = type(error).__name__
    if isinstance(error, errors.AuthorizationError):
        user = f"the user {connection.user}" if connection.user else "this client"
        return KafkaFailed(f"{where}: {user} is not allowed to ({name}): have the rights given, or use another user")
    if isinstance(error, errors.SaslAuthenticationFailedError):
        return KafkaFailed(f"{where}: {connection.bootstrap} refuses the user {connection.user}: check user, password and mechanism")
    if isinstance(error, errors.UnsupportedCodecError):
        return KafkaFailed(
            f"{where}: its records are compressed in a way that can't be read here ({error}): pip install lz4 zstandard cramjam"
        )
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return no_topics([where], connection)
    if isinstance(error, errors.KafkaTimeoutError | errors.KafkaConnectionError | errors.NodeNotReadyError):
        # kafka-python tries a refused password again and again, as if nobody had answered.
        refused = f", and that the user {connection.user} and the password are right" if connection.mechanism else ""
        return NoBroker(
            f"{where}: no answer from {connection.bootstrap} ({error}): check that the broker runs, the address,"
            f" that it speaks {connection.protocol} there{refused}"
        )
    if isinstance(error, errors.LogTruncationError):
        return OffsetsGone(
            f"{where}: the brokers lost records that were already read ({error}), as after an unclean leader election:"
            " start anew without the old recovery store"
        )
    return KafkaFailed(f"{where}: {name}: {error}")


def no_topics(names: Sequence[str], connection: Connection) -> NoTopic:
    """The error that names what is missing, and the command that makes it."""
    made = f"`beepgpt topics kafka://{connection.bootstrap}/{names[0] if len(names) == 1 else 'NAME'}`"
    if len(names) == 1:
        return NoTopic(f"{names[0]}: there is no such topic on {connection.bootstrap}: make it with {made}, or check the name")
    return NoTopic(f"{', '.join(names)}: there are no such topics on {connection.bootstrap}: make each with {made}, or check the names")


# Topics


@dataclass(frozen=True)
class Topic:
    """A topic as it is."""

    name: str
    id: str
    """A topic that was deleted and made again has another one."""
    partitions: int


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it should be."""

    name: str
    partitions: int
    settings: Mapping[str, str] = field(default_factory=dict)
    """Such as `{"cleanup.policy": "compact", "retention.ms": "-1"}`."""
    replicas: int = -1
    """-1: as many as the brokers make by themselves."""


@contextmanager
def _admin(where: str, connection: Connection, patience: float = START_PATIENCE) -> Iterator[Any]:
    with _told(where, connection):
        client = KafkaAdminClient(**connection.options() | {"bootstrap_timeout_ms": int(patience * 1000)})
        try:
            yield client
        finally:
            client.close()


@contextmanager
def _looking(topic: str, connection: Connection) -> Iterator[Any]:
    """A consumer that only looks at offsets."""
    with _told(topic, connection):
        consumer = KafkaConsumer(**_consumer_options(connection))
        try:
            yield consumer
        finally:
            consumer.close(autocommit=False, timeout_ms=1_000)


def _consumer_options(connection: Connection) -> dict[str, Any]:
    return {
        **connection.options(),
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "allow_auto_create_topics": False,
        "isolation_level": "read_committed",
        "enable_incremental_fetch_sessions": False,  # with them a busy partition waits for idle ones, half a second at a time
        "fetch_max_wait_ms": 100,
        "fetch_max_bytes": FETCH_BYTES,
        "max_partition_fetch_bytes": FETCH_BYTES,
        "metrics_enabled": False,
    }


def describe_topics(connection: Connection, names: Collection[str] | None = None) -> dict[str, Topic]:
    """Those of the named topics that exist (None: all)."""
    began = time.monotonic()
    while True:
        try:
            with _admin(", ".join(names or ["the topics"]), connection) as admin:
                return _described(admin, names)
        except NoBroker:  # one of several brokers may have gone a moment ago, and the others not know it yet
            if time.monotonic() - began > SOON:
                raise
            time.sleep(RETRY)


def _described(admin: Any, names: Collection[str] | None) -> dict[str, Topic]:
    found = admin.describe_topics(None if names is None else list(names))
    return {
        each["name"]: Topic(each["name"], str(each["topic_id"]), len(each["partitions"]))
        for each in found
        if each["error_code"] == 0 and each["partitions"]
    }


def is_missing(connection: Connection, name: str) -> bool:
    """Whether brokers that answer, and soon, say that there is no such topic."""
    try:
        with _admin(name, connection, patience=2.0) as admin:
            return not _described(admin, [name])
    except KafkaFailed:
        return False


def describe_topic(connection: Connection, name: str) -> Topic:
    """A topic that has to be there; raises NoTopic otherwise."""
    found = describe_topics(connection, [name])
    if name not in found:
        raise no_topics([name], connection)
    return found[name]


def check_topics(connection: Connection, names: Collection[str]) -> dict[str, Topic]:
    """All of these, or NoTopic with every one that is missing and the command that makes them."""
    found = describe_topics(connection, names)
    if missing := [name for name in names if name not in found]:
        raise no_topics(missing, connection)
    return found


def check_same(before: Topic, now: Topic, connection: Connection) -> None:
    """A topic is the one that it was. Raises TopicChanged."""
    name = now.name
    if before.id != now.id:
        raise TopicChanged(
            f"{name}: the topic was deleted and made again since this run was started, so that its offsets mean other"
            " records: start anew without the old recovery store"
        )
    if before.partitions != now.partitions:  # keys move between them, so a channel's order is lost
        raise TopicChanged(
            f"{name}: the topic had {before.partitions} partitions when this run was started, and has {now.partitions}: channels move"
            f" between partitions, and their order is lost. Rebuild it: `beepgpt ingest kafka://{connection.bootstrap}/{name}"
            f" --with dead-letters,late --to kafka://{connection.bootstrap}/NEW`, and start anew from the new topic"
        )


def check_kept(before: Topic, now: Topic) -> None:
    """A topic still holds what was written to it, where it was written. Raises TopicChanged."""
    if before.id != now.id:
        raise TopicChanged(
            f"{now.name}: the topic was deleted and made again since this run was started: what was written to it is gone, and would not be"
            " written again: start anew without the old recovery store"
        )
    if before.partitions != now.partitions:
        raise TopicChanged(
            f"{now.name}: the topic had {before.partitions} partitions when this run was started, and has {now.partitions}: what comes"
            " under an old key now, as a retraction does, would not meet what stands there: start anew, to a new topic"
        )


def create_topics(connection: Connection, specs: Sequence[TopicSpec]) -> tuple[list[str], list[str]]:
    """Makes what is missing. Returns the names of what was made, and a line for each thing that was there and differs: it is left."""
    names = [spec.name for spec in specs]
    with _admin(", ".join(names), connection) as admin:
        there = _described(admin, names)
        missing = [spec for spec in specs if spec.name not in there]
        for spec in missing:
            wanted = {"num_partitions": spec.partitions, "replication_factor": spec.replicas, "configs": dict(spec.settings)}
            with suppress(errors.TopicAlreadyExistsError):  # somebody else was faster
                admin.create_topics({spec.name: wanted}, wait_for_metadata=True)
        kept = [spec for spec in specs if spec.name in there]
        return [spec.name for spec in missing], [line for spec in kept for line in _differences(admin, spec, there[spec.name])]


def _differences(admin: Any, spec: TopicSpec, topic: Topic) -> Iterator[str]:
    if topic.partitions != spec.partitions:
        yield f"{spec.name}: has {topic.partitions} partitions, not {spec.partitions}"
    if spec.settings:
        resource = ConfigResource(ConfigResourceType.TOPIC, spec.name, dict.fromkeys(spec.settings))
        described = admin.describe_configs([resource], config_filter="all")
        has = next(iter(described.values()))[spec.name]
        for name, value in spec.settings.items():
            if str(now := has.get(name, {}).get("value")) != value:
                yield f"{spec.name}: {name} is {now}, not {value}"


def max_message_bytes(connection: Connection, topic: str) -> int:
    """How large a batch may be that is written to the topic; the default where the user may not ask."""
    try:
        with _admin(topic, connection) as admin:
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": None})
            described = admin.describe_configs([resource], config_filter="all")
            return int(next(iter(described.values()))[topic]["max.message.bytes"]["value"])
    except (KafkaFailed, KeyError):
        return DEFAULT_LIMIT


def topic_settings(connection: Connection, topic: str, names: Collection[str]) -> dict[str, str]:
    """These settings of a topic, the brokers' defaults among them; none of them where the user may not ask."""
    try:
        with _admin(topic, connection) as admin:
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(names))
            described = next(iter(admin.describe_configs([resource], config_filter="all").values()))[topic]
            return {name: str(described[name]["value"]) for name in names if name in described}
    except (KafkaFailed, KeyError):
        return {}


def begin_and_end_offsets(connection: Connection, topic: str) -> dict[int, tuple[int, int]]:
    """Of each partition: its first offset, and the one that its next record will have."""
    partitions = _partitions(describe_topic(connection, topic))
    with _looking(topic, connection) as consumer:
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    return {each.partition: (begins[each], ends[each]) for each in partitions}


def offsets_at(connection: Connection, topic: str, at: int) -> dict[int, int]:
    """Of each partition: the offset of its first record stamped at or after `at` (microseconds), or its end."""
    partitions = _partitions(describe_topic(connection, topic))
    with _looking(topic, connection) as consumer:
        return _offsets_at(consumer, partitions, at // 1000, consumer.end_offsets(partitions))


def _offsets_at(consumer: Any, partitions: Sequence[Any], at_ms: int, ends: Mapping[Any, int]) -> dict[int, int]:
    found = consumer.offsets_for_times(dict.fromkeys(partitions, at_ms))
    return {each.partition: ends[each] if found[each] is None else found[each].offset for each in partitions}


def lag(connection: Connection, topic: str, group: str) -> dict[int, int | None]:
    """Of each partition: how many offsets the group's last commit is behind the end; None where it has committed nothing."""
    partitions = _partitions(describe_topic(connection, topic))
    with _looking(topic, connection) as consumer:
        ends = consumer.end_offsets(partitions)
    with _admin(topic, connection) as admin:
        committed = admin.list_group_offsets({group: partitions})[group]
    return {
        each.partition: ends[each] - committed[each].offset if each in committed and committed[each].offset >= 0 else None
        for each in partitions
    }


def _partitions(topic: Topic) -> list[Any]:
    return [TopicPartition(topic.name, number) for number in range(topic.partitions)]


# In


class Record(NamedTuple):
    """A record as it stands in its partition."""

    value: bytes | None
    """None: a tombstone."""
    offset: int
    timestamp: int
    """Microseconds, though Kafka counts milliseconds."""
    key: bytes | None
    headers: list[tuple[str, bytes]]
    """A value that is null, as other producers may write it, is empty here."""


RecordChunk = tuple[str, int, list[Record]]
"""Topic and partition, offset of the first record, records in order; their offsets may have gaps (compaction, transactions). No
records: reading stops here, since it was asked to."""


def _record(each: Any) -> Record:
    headers = each.headers and [(name, value or b"") for name, value in each.headers]
    return Record(each.value, each.offset, each.timestamp * 1000, each.key, headers)


def records_of(
    connection: Connection, topic: str, *, back: int | None = None, starts: Mapping[int, int] | None = None
) -> Iterator[tuple[int, Record]]:
    """A topic's records, each with its partition, to the end as it is now.

    `back`: of the last so many offsets only; `starts`: of each partition, from this offset on.
    """
    partitions = _partitions(describe_topic(connection, topic))
    with _looking(topic, connection) as consumer:
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
                yield from ((partition.partition, _record(each)) for each in found if each.offset < end)


def last_records(connection: Connection, topic: str) -> dict[int, Record]:
    """The last record of each partition, as far as one stands among its last offsets (markers of transactions may, too)."""
    return dict(records_of(connection, topic, back=LOOK_BACK))


class KafkaState(NamedTuple):
    """Where a partition's reading stands."""

    next: int
    """The offset to read next."""
    end: int | None
    """The offset to stop at, as it stood at the first start; None: it is followed."""
    topic_id: str
    partitions: int
    """How many the topic had at the first start."""


def _never() -> bool:
    return False


def _nothing(*_: object) -> None:
    return None


class KafkaSource(FixedPartitionedSource[RecordChunk, KafkaState]):
    """The records of a topic, in order within each partition: to an end, or followed for ever."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        *,
        since: int | None = None,
        until: int | None = None,
        follow: bool = False,
        group: str | None = None,
        wanted: Callable[[int], bool] = lambda partition: True,
        stopping: Callable[[], bool] = _never,
        on_end: Callable[[], None] = _nothing,
        progress: Callable[[int, float], None] = _nothing,
        on_lag: Callable[[Mapping[int, int]], None] = _nothing,
        on_error: Callable[[Exception], None] = _nothing,
        on_start: Callable[[], None] = _nothing,
        idle_clock: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        """From the first record stamped at or after `since`, to the last one before the first that is stamped after `until` (microseconds).

        Without them: from the beginning, to the end as it stood at the first start; with `follow` there is no end.
        `group` gets offsets committed that a snapshot has covered. `wanted` chooses the partitions that are this process's.
        `stopping` ends the reading without `on_end`, which is called when all partitions have come to their end. `progress`
        is told how many records came and what share of what is known is read, `on_lag` how many records each partition has ahead,
        `on_error` what goes wrong, before it is raised: an engine may say nothing of it. `on_start` is called when the flow is built.
        `idle_clock`: partitions of which all is read get heartbeats by the machine's clock, which nobody can repeat.
        """
        self.connection = connection
        self.name = topic
        self.stopping = stopping
        self.progress = progress
        self.on_lag = on_lag
        self.on_end = on_end
        self.on_error = on_error
        self.on_start = on_start
        self.idle_clock = idle_clock
        self.patience = patience
        self.check_every = min(CHECK, patience / 2)
        self.topic = describe_topic(connection, topic)
        self._mine = [each for each in range(self.topic.partitions) if wanted(each)]
        self._bounds = self._look(since, until, follow)
        self._committer = _Committer(connection, topic, group) if group else None
        self._readers: dict[int, _Reader] = {}
        self._open: set[int] = set()
        self._read = 0
        self._known = 0
        self._lock = threading.Lock()

    def _look(self, since: int | None, until: int | None, follow: bool) -> dict[int, _Bounds]:
        """The offsets of all partitions of this process, asked for at once."""
        partitions = [TopicPartition(self.name, each) for each in self._mine]
        if not partitions:
            return {}
        with _looking(self.name, self.connection) as consumer:
            begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
            starts = {each.partition: begins[each] for each in partitions}
            stops = {each.partition: ends[each] for each in partitions}
            if since is not None:
                starts = _offsets_at(consumer, partitions, since // 1000, ends)
            if until is not None:
                stops = _offsets_at(consumer, partitions, until // 1000 + 1, ends)
        return {
            each.partition: _Bounds(begins[each], ends[each], starts[each.partition], None if follow else stops[each.partition])
            for each in partitions
        }

    @property
    def bounds(self) -> dict[int, tuple[int, int | None]]:
        """Of each partition that is this process's: the first offset of a new start, and where it ends; None: followed."""
        return {number: (each.start, each.stop) for number, each in self._bounds.items()}

    @property
    def ends(self) -> dict[int, int]:
        """Of each partition that is this process's: where it ended when this run began."""
        return {number: each.end for number, each in self._bounds.items()}

    def list_parts(self) -> list[str]:
        self.on_start()
        if not self._mine:
            self.on_end()
        return [str(each) for each in self._mine]

    def build_part(self, step_id: str, for_part: str, resume_state: KafkaState | None) -> _KafkaSourcePartition:
        number = int(for_part)
        bounds = self._bounds[number]
        state = resume_state or KafkaState(bounds.start, bounds.stop, self.topic.id, self.topic.partitions)
        with heard_by(self.on_error):
            self._check(number, bounds, state)
        with self._lock:
            reader = self._readers.setdefault(threading.get_ident(), _Reader(self))
            self._open.add(number)
            self._known += max((bounds.end if state.end is None else state.end) - state.next, 0)
        return _KafkaSourcePartition(self, reader, number, state, self._committer)

    def _check(self, number: int, bounds: _Bounds, state: KafkaState) -> None:
        """What was read before is still the same topic, and what comes next is still there."""
        where = f"{self.name}, partition {number}"
        check_same(Topic(self.name, state.topic_id, state.partitions), self.topic, self.connection)
        if state.next < bounds.begin:
            raise self.gone(number, state.next, bounds.begin)
        if state.next > bounds.end:
            raise OffsetsGone(
                f"{where}: it ends at offset {bounds.end:,}, but was read up to {state.next:,} before this run was stopped: the"
                " brokers lost records; start anew without the old recovery store"
            )

    def gone(self, number: int, first: int, begin: int) -> OffsetsGone:
        """The error for records that retention, or somebody, removed before they were read."""
        return OffsetsGone(
            f"{self.name}, partition {number}: offsets {first:,} to {begin - 1:,} are gone ({begin - first:,} offsets), removed before"
            " they were read: to go on without them, start anew without the old recovery store; to keep more, raise the topic's"
            " retention.ms or retention.bytes"
        )

    def took(self, count: int) -> None:
        """Notes that records were read, and tells of it."""
        self._read += count
        self.progress(count, min(self._read / max(self._known, 1), 1.0))

    def lags(self, ahead: Mapping[int, int], is_followed: bool) -> None:
        """Notes how many records each of a worker's partitions has ahead, and tells of it."""
        if is_followed:
            self._known = self._read + sum(ahead.values())
        self.on_lag(ahead)

    def ended(self, number: int) -> None:
        """Notes that a partition has come to its end."""
        with self._lock:
            self._open.discard(number)
            is_last = not self._open
        if is_last:
            self.on_end()

    def closed(self) -> None:
        """A worker's partitions are closed: what is to be committed is."""
        if self._committer:
            self._committer.close()


class _Bounds(NamedTuple):
    """A partition's offsets at the start."""

    begin: int
    end: int
    start: int
    stop: int | None


class _Reader:
    """One consumer for all partitions of a worker: whoever finds nothing polls for all."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source
        self._parts: dict[int, _KafkaSourcePartition] = {}
        self._consumer: Any = None
        self._is_assigned = False
        self._next_poll = 0.0
        self._next_check = 0.0
        self._heard = self._asked = time.monotonic()
        self._is_sure = False
        self.waiting = 0
        """Records that were polled and not yet taken."""

    def add(self, part: _KafkaSourcePartition) -> None:
        self._parts[part.number] = part
        self._is_assigned = False

    def remove(self, part: _KafkaSourcePartition) -> None:
        """A partition is done; with the last one the consumer is closed."""
        if self._parts.pop(part.number, None) is None:
            return
        self.waiting -= sum(map(len, part.ready))
        self._is_assigned = False
        if self._parts:
            return
        if self._consumer is not None:
            with suppress(*_FOREIGN):
                self._consumer.close(autocommit=False, timeout_ms=1_000)
            self._consumer = None
        self._source.closed()

    def poll(self) -> None:
        """Hands out what has come, without waiting for more."""
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
        except errors.OffsetOutOfRangeError as error:
            raise self._out_of_range(error) from error
        except _FOREIGN as error:
            raise _failed(error, where, self._source.connection) from error
        if not polled:
            self._next_poll = now + IDLE / 2
            return
        if not self._is_sure:  # while nobody asked or answered, the topic may have been made again: offsets would mean other records
            check_same(self._source.topic, describe_topic(self._source.connection, where), self._source.connection)
            self._is_sure = True
        self._heard = now
        for each, records in polled.items():
            if part := self._parts.get(each.partition):
                self.waiting += part.put(records)

    def position(self, number: int) -> int:
        """The next offset that the consumer will give: beyond the last record's where offsets have gaps."""
        if self._consumer is None:
            return 0
        try:
            return self._consumer.position(TopicPartition(self._source.name, number), timeout_ms=0) or 0
        except _FOREIGN as error:
            raise _failed(error, f"{self._source.name}, partition {number}", self._source.connection) from error

    def _assign(self, now: float) -> None:
        """All partitions that are open here; those that were assigned before keep their places."""
        if self._consumer is None:
            self._consumer = KafkaConsumer(**_consumer_options(self._source.connection))
            self._heard, self._next_check = now, now  # the lag is told at once
        before = set(self._consumer.assignment())
        self._consumer.assign([TopicPartition(self._source.name, each) for each in self._parts])
        for number, part in self._parts.items():
            partition = TopicPartition(self._source.name, number)
            if partition not in before:
                self._consumer.seek(partition, part.state.next)
        self._is_assigned = True

    def _check(self, now: float) -> None:
        """Whether the brokers are there, the topic is the same, and how far its end is."""
        source = self._source
        self._next_check = now + source.check_every
        partitions = [TopicPartition(source.name, each) for each in self._parts]
        asked = int(time.time() * 1e6)
        try:
            ends = self._consumer.end_offsets(partitions, timeout_ms=1_000)
            count = len(self._consumer.partitions_for_topic(source.name))
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
        if count == 0:
            raise no_topics([source.name], source.connection)
        topic_id = self._consumer._cluster.topic_id(source.name)
        check_same(source.topic, Topic(source.name, str(topic_id or source.topic.id), count), source.connection)
        ahead = {each.partition: max(ends[each] - self._parts[each.partition].state.next, 0) for each in partitions}
        source.lags(ahead, any(part.state.end is None for part in self._parts.values()))
        if source.idle_clock:
            for number, records in ahead.items():
                if records == 0:
                    self._parts[number].beat = asked - IDLE_MARGIN

    def _out_of_range(self, error: Any) -> KafkaFailed:
        """Says what is gone, as far as the brokers tell."""
        partition, offset = next(iter(error.args[0].items()))
        begin = 0
        with suppress(*_FOREIGN):
            begin = self._consumer.beginning_offsets([partition])[partition]
        if begin > offset:
            return self._source.gone(partition.partition, offset, begin)
        return OffsetsGone(
            f"{partition.topic}, partition {partition.partition}: there is no offset {offset:,} any more: the topic was made again, or"
            " the brokers lost records; start anew without the old recovery store"
        )


class _KafkaSourcePartition(StatefulSourcePartition[RecordChunk, KafkaState]):
    def __init__(self, source: KafkaSource, reader: _Reader, number: int, state: KafkaState, committer: _Committer | None) -> None:
        self.number = number
        self.state = state
        self.ready: deque[list[Any]] = deque()
        self.beat: int | None = None
        """A heartbeat that is due, microseconds."""
        self._name = f"{source.name}/{number}"
        self._has_told = False
        self._source = source
        self._reader = reader
        self._committer = committer
        self._covered: int | None = None
        self._awake: datetime | None = None
        self._empty_looks = 0
        reader.add(self)

    def put(self, records: list[Any]) -> int:
        """Takes what was polled for this partition, up to its end; returns how many records that are."""
        end = self.state.end
        if end is not None and records[-1].offset >= end:
            records = [record for record in records if record.offset < end]
        for start in range(0, len(records), CHUNK):
            self.ready.append(records[start : start + CHUNK])
        return len(records)

    def next_batch(self) -> list[RecordChunk]:
        if self._source.stopping():
            if self._has_told:
                raise StopIteration
            self._has_told = True
            return [(self._name, self.state.next, [])]
        if self.beat is not None and not self.ready:
            heartbeat, self.beat = _heartbeat(self.beat, self.state.next), None
            return [(self._name, self.state.next, [heartbeat])]
        if not self.ready:
            if not self._is_over():
                with heard_by(self._source.on_error):
                    self._reader.poll()
            if not self.ready:
                if self._is_over() or (self.state.end is not None and self._reader.position(self.number) >= self.state.end):
                    self._source.ended(self.number)
                    raise StopIteration
                self._empty_looks += 1
                self._awake = _next_tick(IDLE if self._empty_looks < QUIET else LONG_IDLE)
                return []
        self._awake = None
        self._empty_looks = 0
        polled = self.ready.popleft()
        records = [_record(each) for each in polled]
        first, last = records[0].offset, records[-1].offset
        self.state = self.state._replace(next=last + 1)
        self._reader.waiting -= len(records)
        self._source.took(len(records))
        return [(self._name, first, records)]

    def next_awake(self) -> datetime | None:
        return self._awake

    def has_come_to(self, offset: int) -> bool:
        """Whether all that stands before an offset was handed out; there may be gaps before it."""
        return self.state.next >= offset or (not self.ready and self._reader.position(self.number) >= offset)

    def snapshot(self) -> KafkaState:
        self._commit()
        self._covered = self.state.next
        return self.state

    def close(self) -> None:
        self._commit()
        self._reader.remove(self)

    def _is_over(self) -> bool:
        return self.state.end is not None and self.state.next >= self.state.end

    def _commit(self) -> None:
        """The last snapshot but this one is in the store by now."""
        if self._committer and self._covered is not None:
            self._committer.note(self.number, self._covered)


def _heartbeat(at: int, offset: int) -> Record:
    """As a producer with a clock would write it, where no record stands."""
    value = b'{"type":"heartbeat","at":"%d.%06d"}' % divmod(at, 1_000_000)
    return Record(value, offset, at, None, [])


def _next_tick(seconds: float) -> datetime:
    """The next of the times that all partitions wake at: one after the other they would keep the thread that fetches from running."""
    return datetime.fromtimestamp((time.time() // seconds + 1) * seconds, UTC)


class _Committer:
    """Commits offsets to a group's name, in a thread of its own: reading never waits for it, and failures are only logged."""

    def __init__(self, connection: Connection, topic: str, group: str) -> None:
        self._connection = connection
        self._topic = topic
        self._group = group
        self._noted: dict[int, int] = {}
        self._wake = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def note(self, number: int, offset: int) -> None:
        """To be committed soon."""
        with self._wake:
            self._noted[number] = offset
            self._is_closing = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kafka-committer", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """Commits what is noted, if that takes no more than a few seconds."""
        thread = self._thread
        if thread is not None:
            with self._wake:
                self._is_closing = True
                self._wake.notify()
            thread.join(3)

    def _run(self) -> None:
        failures = 0
        while noted := self._next():
            problem = self._commit(noted)
            failures = failures + 1 if problem else 0
            if problem and failures % 10 == 5:  # a group's first commit takes a few tries: its coordinator is only then made
                log.warning("offsets of group %s are not committed: %s", self._group, problem)
            if problem and not (self._is_closing and failures > 10):
                self._keep(noted)

    def _commit(self, noted: Mapping[int, int]) -> str:
        """Commits, and returns what went wrong."""
        offsets = {TopicPartition(self._topic, number): OffsetAndMetadata(offset, "", -1) for number, offset in noted.items()}
        try:
            with _admin(self._topic, self._connection) as admin:
                told = admin.alter_group_offsets(self._group, offsets).values()
        except KafkaFailed as error:
            return str(error)
        return ", ".join(sorted({each.__name__ for each in told} - {"NoError"}))

    def _keep(self, noted: Mapping[int, int]) -> None:
        """For another try, a little later, unless newer ones came."""
        time.sleep(RETRY)
        with self._wake:
            self._noted = {**noted, **self._noted}

    def _next(self) -> dict[int, int]:
        """What is noted, once there is something; nothing at the end."""
        with self._wake:
            while not self._noted and not self._is_closing:
                self._wake.wait()
            noted, self._noted = self._noted, {}
            if not noted:
                self._thread = None
            return noted


# Out


class OutgoingRecord(NamedTuple):
    """What is to be written."""

    key: bytes | None
    value: bytes | None
    """None: a tombstone, which needs a key."""
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None
    """None: as the key says, in the way of Kafka's own clients."""
    timestamp: int | None = None
    """Microseconds, of which Kafka keeps the milliseconds; None: now."""


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's own clients put a key, if there are so many partitions.

    >>> partition_of(b"C024BE91L", 12)
    5
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(key: bytes) -> int:
    """MurmurHash2 (Austin Appleby), 32 bits, with the seed of Kafka's own clients; kafka-python's takes three times as long."""
    words, rest = divmod(len(key), 4)
    hashed = 0x9747B28C ^ len(key)
    for (word,) in struct.iter_unpack("<I", key[: 4 * words]):
        mixed = word * 0x5BD1E995 & 0xFFFFFFFF
        mixed = (mixed ^ mixed >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        hashed = (hashed * 0x5BD1E995 & 0xFFFFFFFF) ^ mixed
    if rest:
        hashed = (hashed ^ int.from_bytes(key[4 * words :], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    hashed = (hashed ^ hashed >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return hashed ^ hashed >> 15


class KafkaSink(FixedPartitionedSink[Sequence[OutgoingRecord], None]):
    """A topic to write to, at least once: a snapshot waits until all that came before it is confirmed."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        *,
        on_error: Callable[[Exception], None] = _nothing,
        patience: float = PATIENCE,
        cuts: bool = False,
    ) -> None:
        """Items are lists of messages under Bytewax's keys; messages of one Kafka key keep their order if they come under one of those."""
        self.name = topic
        self.topic = describe_topic(connection, topic)
        self.on_error = on_error
        self._writer = Writer(connection, topic, patience=patience, cuts=cuts)
        self._open = 0
        self._lock = threading.Lock()

    def list_parts(self) -> list[str]:
        return list(LANES)

    def part_fn(self, item_key: str) -> int:
        return crc32(item_key.encode())

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _KafkaSinkPartition:
        with self._lock:
            self._open += 1
        return _KafkaSinkPartition(self, self._writer)

    def closed(self) -> None:
        """A part is closed; with the last one the writer is."""
        with self._lock:
            self._open -= 1
            is_last = not self._open
        if is_last:
            self._writer.close()


class _KafkaSinkPartition(StatefulSinkPartition[Sequence[OutgoingRecord], None]):
    def __init__(self, sink: KafkaSink, writer: Writer) -> None:
        self._sink = sink
        self._writer = writer

    def write_batch(self, values: list[Sequence[OutgoingRecord]]) -> None:
        with heard_by(self._sink.on_error):
            for messages in values:
                self._writer.send(messages)

    def snapshot(self) -> None:
        with heard_by(self._sink.on_error):
            self._writer.flush()

    def close(self) -> None:
        self._sink.closed()


class Writer:
    """Writes to one topic, in the order of its messages, each once as long as this process lives."""

    def __init__(self, connection: Connection, topic: str, *, patience: float = PATIENCE, cuts: bool = False) -> None:
        """`patience`: for how many seconds the brokers may be away before a delivery counts as failed.

        `cuts`: a value that the topic does not take is cut, and how long it was stands in the header `cut_from`.
        """
        self._cuts = cuts
        self._connection = connection
        self._topic = topic
        self._patience = patience
        self._pending: deque[tuple[Any, int]] = deque()
        self._pending_bytes = 0
        self._lock = threading.RLock()
        self._producer: Any = None
        self._limit = max_message_bytes(connection, topic)
        self._partitions = describe_topic(connection, topic).partitions

    @property
    def most(self) -> int:
        """Bytes that the key and the value of a record may have together."""
        return self._limit - OVERHEAD

    def send(self, messages: Iterable[OutgoingRecord]) -> None:
        """Hands messages over; one that can't be delivered raises NotDelivered here, in a later `send`, or in `flush`."""
        with self._lock:
            producer = self._producer or self._start()
            size, partition = 0, None
            try:
                for message in messages:
                    key, value, headers, partition, timestamp = message
                    if partition is None and key is not None:
                        partition = partition_of(key, self._partitions)  # kafka-python sorts the partitions for every message
                    size = len(value or b"") + len(key or b"")
                    if size > self.most and self._cuts and value:
                        headers = [*headers, ("cut_from", b"%d" % len(value))]
                        value = value[: max(self.most - len(key or b""), 0)]
                        size = len(value) + len(key or b"")
                    if size > self.most:
                        raise errors.MessageSizeTooLargeError
                    future = producer.send(
                        self._topic, value, key, list(headers), partition, None if timestamp is None else timestamp // 1000
                    )
                    self._pending.append((future, size))
                    self._pending_bytes += size
                    if self._pending_bytes > MAX_PENDING_BYTES or len(self._pending) > MAX_PENDING:
                        self._wait()
            except _FOREIGN as error:
                raise self._not_delivered(error, None, size, partition) from error
            self._settle()

    def flush(self) -> None:
        """Returns when all that was sent is confirmed; raises NotDelivered if something can't be."""
        with self._lock:
            if self._producer is None or not self._pending:
                return
            try:
                self._producer.flush(timeout=self._patience + 10)
            except _FOREIGN as error:
                raise self._not_delivered(error, None, 0) from error
            self._settle()

    def close(self) -> None:
        """Waits for nothing: `flush` first."""
        with self._lock:
            if self._producer is not None:
                with suppress(*_FOREIGN):
                    self._producer.close(timeout=1)
                self._producer = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def _start(self) -> Any:
        with _told(self._topic, self._connection):
            self._producer = KafkaProducer(
                **self._connection.options(),
                acks="all",
                enable_idempotence=True,
                allow_auto_create_topics=False,
                delivery_timeout_ms=int(self._patience * 1000),
                request_timeout_ms=min(30_000, max(int(self._patience * 1000) - LINGER_MS, 1)),
                max_block_ms=int(self._patience * 1000),
                linger_ms=LINGER_MS,
                batch_size=min(BATCH_BYTES, self._limit),  # it would split a larger one, and lose its way doing so
                max_request_size=max(2 * self._limit, DEFAULT_LIMIT),  # the topic's own limit is the only one
                metrics_enabled=False,
            )
        return self._producer

    def _wait(self) -> None:
        """kafka-python takes what comes without a limit, so memory is bounded here: until half of it is confirmed."""
        while self._pending_bytes > MAX_PENDING_BYTES // 2 or len(self._pending) > MAX_PENDING // 2:
            future, _ = self._pending[0]
            with suppress(errors.KafkaError):  # a failure is told by what follows
                future.get(timeout=self._patience + 10)
            if not future.is_done:
                raise errors.KafkaTimeoutError(f"nothing was confirmed for {self._patience + 10:.0f} seconds")
            self._settle()

    def _settle(self) -> None:
        """Forgets what is confirmed, and raises for the first that failed."""
        pending = self._pending
        while pending and pending[0][0].is_done:
            future, size = pending.popleft()
            self._pending_bytes -= size
            if future.exception is not None:
                raise self._not_delivered(future.exception, future, size) from future.exception

    def _not_delivered(self, error: BaseException, future: Any, size: int, partition: int | None = None) -> KafkaFailed:
        """The error with topic, partition as far as it is known, and reason."""
        if isinstance(error, KafkaFailed):
            return error
        where = self._topic if partition is None else f"{self._topic}, partition {partition}"
        placed = getattr(getattr(future, "_produce_future", None), "topic_partition", None)
        if placed is not None and placed.partition is not None:
            where = f"{self._topic}, partition {placed.partition}"
        if isinstance(error, _TOO_LARGE):
            return NotDelivered(
                f"{where}: a record of {size:,} bytes, with the {OVERHEAD} that it may need beside, does not fit into the {self._limit:,}"
                f" that the topic takes: raise its max.message.bytes (and message.max.bytes of the brokers), or leave the record out"
            )
        return NotDelivered(f"{where}: a record was not delivered: {_failed(error, where, self._connection)}")
