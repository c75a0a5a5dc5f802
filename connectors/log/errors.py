"""What can go wrong with a log: each message names the topic, the partition if there is one, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from beepgpt.errors import BeepGPTError


class BadAddress(BeepGPTError):
    """An address is wrong; the message says how one looks."""

    exit_status = 2

    def __init__(self, what: str, example: str) -> None:
        """`what`: the address, and what is wrong with it."""
        super().__init__(f"{what}: write {example}")
        self.what = what


class LogFailed(BeepGPTError):
    """A request to a log failed."""


class NoTopic(LogFailed):
    """A topic is not there."""


class OffsetsGone(LogFailed):
    """Records that were to be read next are no longer in the topic."""


class TopicInUse(LogFailed):
    """Somebody else writes to a topic that has one writer."""


class TopicChanged(LogFailed):
    """A topic was made again since the run began, or has another number of partitions."""


class NotDelivered(LogFailed):
    """A record did not reach its topic."""


class WrongTopic(LogFailed):
    """A topic that can't be filled; the message says why, and which one can."""


@contextmanager
def reporting_to(on_error: Callable[[Exception], None]) -> Iterator[None]:
    """Call `on_error` with a LogFailed that is raised inside the `with` block, and raise it again."""
    try:
        yield
    except LogFailed as error:
        on_error(error)
        raise
