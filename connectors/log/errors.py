"""What can go wrong with a log: each message names the topic, the partition if there is one, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def no_topics(names: Sequence[str], where: str, place: str, suffix: str = "") -> NoTopic:
    """The error that names what is missing, and the command that makes it. `where`: "on host:port", say; `suffix`: of a topic's file."""
    made = f"`beepgpt topics {place}/{names[0] if len(names) == 1 else 'NAME'}{suffix}`"
    if len(names) == 1:
        return NoTopic(f"{names[0]}: there is no such topic {where}: make it with {made}, or check the name")
    return NoTopic(f"{', '.join(names)}: there are no such topics {where}: make each with {made}, or check the names")


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
