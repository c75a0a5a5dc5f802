"""Errors of Kafka, and the one place where kafka-python's become ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from beepgpt.connectors.kafka.library import errors
from beepgpt.errors import BeepGPTError

if TYPE_CHECKING:
    from beepgpt.connectors.kafka.connection import Connection

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
    """A topic was made anew since the run began, or has another number of partitions."""


class NotDelivered(KafkaFailed):
    """A record did not reach its topic."""


class WrongTopic(KafkaFailed):
    """A topic that can't be filled; the message says why, and which one can."""


@contextmanager
def reporting_to(on_error: Callable[[Exception], None]) -> Iterator[None]:
    """Calls `on_error` with a KafkaFailed that is raised in here, and raises it again."""
    try:
        yield
    except KafkaFailed as error:
        on_error(error)
        raise


@contextmanager
def translated(where: str, connection: Connection) -> Iterator[None]:
    """Raises kafka-python's errors in here as a KafkaFailed that names `where`."""
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
            " start anew without the old recovery store"
        )
    return KafkaFailed(f"{where}: {name}: {error}")


def no_topics(names: Sequence[str], connection: Connection) -> NoTopic:
    """The error that names what is missing, and the command that makes it."""
    made = f"`beepgpt topics kafka://{connection.bootstrap}/{names[0] if len(names) == 1 else 'NAME'}`"
    if len(names) == 1:
        return NoTopic(f"{names[0]}: there is no such topic on {connection.bootstrap}: make it with {made}, or check the name")
    return NoTopic(f"{', '.join(names)}: there are no such topics on {connection.bootstrap}: make each with {made}, or check the names")
