"""How to reach and log in to brokers: addresses, short-lived clients, and kafka-python's errors as ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beepgpt.connectors.log import errors as log_errors
from beepgpt.connectors.log.address import KAFKA
from beepgpt.connectors.log.errors import LogFailed, NoTopic, OffsetsGone
from beepgpt.connectors.log.source import CHECK

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its import uses an old way to find its own files
    from kafka import KafkaAdminClient, KafkaConsumer, errors

FOREIGN = (errors.KafkaError, OSError, ValueError, TypeError, RuntimeError, AssertionError)
"""What kafka-python raises: not all of its errors are its own."""
TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)


class NoBroker(LogFailed):
    """No broker answers."""


@contextmanager
def translated(where: str, connection: Connection) -> Iterator[None]:
    """Raise kafka-python's errors inside the `with` block as a LogFailed that names `where`."""
    try:
        yield
    except FOREIGN as error:
        raise failure_of(error, where, connection) from error


class Unconfirmed(errors.KafkaTimeoutError):  # type: ignore[misc]
    """Records were not confirmed in time, or before the run was to stop: the message says which."""


def failure_of(error: BaseException, where: str, connection: Connection) -> LogFailed:
    """kafka-python's error as one of ours, with what to do about it."""
    name = type(error).__name__
    if isinstance(error, errors.AuthorizationError):
        user = f"the user {connection.user}" if connection.user else "this client"
        return LogFailed(f"{where}: {user} is not allowed to ({name}): have the rights given, or use another user")
    if isinstance(error, errors.SaslAuthenticationFailedError):
        return LogFailed(f"{where}: {connection.bootstrap} refuses the user {connection.user}: check user, password and mechanism")
    if isinstance(error, errors.UnsupportedCodecError):
        return LogFailed(
            f"{where}: its records are compressed in a way that can't be read here ({error}): pip install lz4 zstandard cramjam"
        )
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return no_topics([where], connection)
    if isinstance(error, errors.KafkaTimeoutError | errors.KafkaConnectionError | errors.NodeNotReadyError):
        # kafka-python tries a refused password again and again, as if nobody had answered.
        refused = f", and that the user {connection.user} and the password are right" if connection.mechanism else ""
        why = f" ({error})" if isinstance(error, Unconfirmed) else ""
        return NoBroker(
            f"{where}: no answer from {connection.bootstrap}{why}: check that the broker runs, the address,"
            f" that it speaks {connection.protocol} there{refused}"
        )
    if isinstance(error, errors.LogTruncationError):
        return OffsetsGone(f"{where}: the brokers lost records that were already read ({error}), as after an unclean leader election")
    return LogFailed(f"{where}: {name}: {error}")


def no_topics(names: Sequence[str], connection: Connection) -> NoTopic:
    """The error that names what is missing, and the command that makes it."""
    return log_errors.no_topics(names, f"on {connection.bootstrap}", connection.place)


FETCH_BYTES = 4 * 2**20
"""Of one fetch: the next one is asked for when nothing of this one is left, so it is large; it is read in a tenth of a second."""
START_PATIENCE = 15.0
"""Seconds in which a broker has to answer when a run starts."""
RETRY = 0.2
"""Seconds between two tries to commit offsets, or to look at topics."""


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

    @property
    def place(self) -> str:
        """As an address begins."""
        return f"{KAFKA}{self.bootstrap}"

    def options(self) -> dict[str, Any]:
        """Arguments for kafka-python's clients. Raises LogFailed for a missing file, which would look like an absent broker there."""
        if self.protocol.startswith("SASL") and not (self.mechanism and self.user and self.password):
            raise LogFailed(
                f"the protocol {self.protocol} needs a mechanism, a user and a password: set kafka.mechanism, kafka.user and"
                " kafka.password, or BEEPGPT_KAFKA__MECHANISM, BEEPGPT_KAFKA__USER and BEEPGPT_KAFKA__PASSWORD"
            )
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise LogFailed(f"{path}: there is no such file: check {name} in the settings of the connection")
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
    """An admin client, closed at the end. Errors inside the `with` block are raised as a LogFailed that names `where`.

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
    """A consumer for a look at a topic, closed at the end. Errors inside the `with` block become a LogFailed that names the topic."""
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
