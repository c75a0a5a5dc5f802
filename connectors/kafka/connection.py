"""How to reach and log in to brokers: addresses, short-lived clients, and kafka-python's errors as ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from beepgpt.errors import BeepGPTError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its import uses an old way to find its own files
    from kafka import KafkaAdminClient, KafkaConsumer, errors

FOREIGN = (errors.KafkaError, OSError, ValueError, TypeError, RuntimeError, AssertionError)
"""What kafka-python raises: not all of its errors are its own."""
TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)


class BadAddress(BeepGPTError):
    """An address is wrong; the message says how one looks."""

    exit_status = 2


class KafkaFailed(BeepGPTError):
    """A request to Kafka failed; the message names the topic, the partition if there is one, and what to do."""


class NoBroker(KafkaFailed):
    """No broker answers."""


class NoTopic(KafkaFailed):
    """A topic is not there."""


class OffsetsGone(KafkaFailed):
    """Records that were to be read next are no longer in the topic."""


class TopicChanged(KafkaFailed):
    """A topic was made again since the run began, or has another number of partitions."""


class NotDelivered(KafkaFailed):
    """A record did not reach its topic."""


class WrongTopic(KafkaFailed):
    """A topic that can't be filled; the message says why, and which one can."""


@contextmanager
def reporting_to(on_error: Callable[[Exception], None]) -> Iterator[None]:
    """Call `on_error` with a KafkaFailed that is raised inside the `with` block, and raise it again."""
    try:
        yield
    except KafkaFailed as error:
        on_error(error)
        raise


@contextmanager
def translated(where: str, connection: Connection) -> Iterator[None]:
    """Raise kafka-python's errors inside the `with` block as a KafkaFailed that names `where`."""
    try:
        yield
    except FOREIGN as error:
        raise failure_of(error, where, connection) from error


def failure_of(error: BaseException, where: str, connection: Connection) -> KafkaFailed:
    """kafka-python's error as one of ours, with what to do about it."""
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
            " start again without the old recovery store"
        )
    return KafkaFailed(f"{where}: {name}: {error}")


def no_topics(names: Sequence[str], connection: Connection) -> NoTopic:
    """The error that names what is missing, and the command that makes it."""
    made = f"`beepgpt topics kafka://{connection.bootstrap}/{names[0] if len(names) == 1 else 'NAME'}`"
    if len(names) == 1:
        return NoTopic(f"{names[0]}: there is no such topic on {connection.bootstrap}: make it with {made}, or check the name")
    return NoTopic(f"{', '.join(names)}: there are no such topics on {connection.bootstrap}: make each with {made}, or check the names")


HOW = "kafka://host:port/topic?from=2024-01-01T00:00:00Z&to=2024-02-01T00:00:00Z, or kafka://host:port/topic?follow=true"
_TOPIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True)
class KafkaAddress:
    """A topic, and the part of it to read."""

    bootstrap: str
    topic: str
    since: int | None = None
    """`from`, microseconds."""
    until: int | None = None
    """`to`, microseconds."""
    follow: bool = False


def parse_address(text: str) -> KafkaAddress:
    """Parse `kafka://…`. Raises BadAddress with what is wrong and an example.

    >>> parse_address("kafka://a:9092,b:9092/slack.events?from=1970-01-02&follow=true")
    KafkaAddress(bootstrap='a:9092,b:9092', topic='slack.events', since=86400000000, until=None, follow=True)
    >>> parse_address("kafka://a:9092/")
    Traceback (most recent call last):
    beepgpt.connectors.kafka.connection.BadAddress: kafka://a:9092/: it names no topic: write kafka://host:port/topic?from=2024-01-01T00:00:00Z&...
    """
    parts = urlsplit(text)

    def bad(what: str) -> BadAddress:
        shown = "kafka://…" if "@" in text else text.partition("?")[0]  # it may hold a secret
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
    """ISO 8601 to microseconds, in UTC if it has no zone; None if it is no time since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    at = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return at if at >= 0 else None


FETCH_BYTES = 4 * 2**20
"""Of one fetch: the next one is asked for when nothing of this one is left, so it is large; it is read in a tenth of a second."""
CHECK = 3.0
"""Seconds between two looks at the topic's partitions and ends."""
START_PATIENCE = 15.0
"""Seconds in which a broker has to answer when a run starts."""
RETRY = 0.2
"""Seconds between two tries to commit offsets, or to look at topics."""
PATIENCE = 120.0
"""Seconds for which a broker may be away while a run goes on."""


@dataclass(frozen=True)
class Connection:
    """Brokers and credentials. Secrets stay out of the repr.

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
        """Arguments for kafka-python's clients. Raises KafkaFailed for a missing file, which would look like an absent broker there."""
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


@contextmanager
def admin_of(where: str, connection: Connection, patience: float = START_PATIENCE) -> Iterator[Any]:
    """An admin client, closed at the end. Errors inside the `with` block are raised as a KafkaFailed that names `where`.

    `patience`: seconds in which a broker has to answer.
    """
    with translated(where, connection):
        client = KafkaAdminClient(**connection.options() | {"bootstrap_timeout_ms": int(patience * 1000)})
        try:
            yield client
        finally:
            client.close()


@contextmanager
def offset_consumer(topic: str, connection: Connection) -> Iterator[Any]:
    """A consumer for a look at a topic, closed at the end. Errors inside the `with` block become a KafkaFailed that names the topic."""
    with translated(topic, connection):
        consumer = KafkaConsumer(**consumer_options(connection))
        try:
            yield consumer
        finally:
            consumer.close(autocommit=False, timeout_ms=1_000)


def consumer_options(connection: Connection) -> dict[str, Any]:
    """Arguments for a KafkaConsumer that joins no group and makes no topic."""
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
