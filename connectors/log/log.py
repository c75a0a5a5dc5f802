"""What a log is to its users: topics with partitions, offsets, keys, headers and times."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from beepgpt.connectors.callbacks import never, nothing
from beepgpt.connectors.log.errors import WrongTopic
from beepgpt.connectors.log.records import LogHeaders, Record, Topic, TopicSpec
from beepgpt.connectors.log.sink import LogSink, LogWriter
from beepgpt.connectors.log.source import PATIENCE, LogSource

UNFIT = {
    "retention.ms": ("-1", "records as old as an export's would be deleted soon after they came"),
    "retention.bytes": ("-1", "the oldest records would be deleted as soon as it is full"),
    "cleanup.policy": ("delete", "of each channel only the last event would stay"),
    "message.timestamp.type": ("CreateTime", "records would be stamped with the time of the ingest, not with their events'"),
}
"""Settings that a topic of events must have, and what would happen otherwise."""


class Log(ABC):
    """Topics in one place. All methods raise LogFailed."""

    place: str
    """As an address begins: `kafka://host:port`."""

    # Topics

    @abstractmethod
    def topics(self, names: Collection[str] | None = None) -> dict[str, Topic]:
        """The named topics that exist (None: all topics), by name."""

    @abstractmethod
    def no_topics(self, names: Sequence[str]) -> Exception:
        """The NoTopic that names what is missing, and the command that makes it."""

    def topic(self, name: str) -> Topic:
        """A topic that exists. Raises NoTopic."""
        return self.check_topics([name])[name]

    def check_topics(self, names: Collection[str]) -> dict[str, Topic]:
        """Topics that exist, by name. Raises NoTopic that names all that are missing and the command that makes them."""
        found = self.topics(names)
        if missing := [name for name in names if name not in found]:
            raise self.no_topics(missing)
        return found

    @abstractmethod
    def create(self, specs: Sequence[TopicSpec]) -> tuple[list[str], list[str]]:
        """Create topics that are missing, and leave the others as they are.

        Returns the names of the new ones, and a line for each difference of one that exists.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a topic with all its records."""

    @abstractmethod
    def settings_of(self, topic: str, names: Collection[str]) -> dict[str, str]:
        """Values of a topic's settings, including defaults; empty if the user may not ask."""

    def check_keeps(self, topic: str) -> bool:
        """Raise WrongTopic if the topic would not keep old events. Returns whether the user may ask for its settings."""
        has = self.settings_of(topic, UNFIT)
        for name, (wanted, otherwise) in UNFIT.items():
            if has.get(name, wanted) != wanted:
                raise WrongTopic(
                    f"{topic}: its {name} is {has[name]}: {otherwise}: name a topic that `beepgpt topics` made for"
                    f" events{self.or_set(topic, name, wanted)}"
                )
        return bool(has)

    def or_set(self, topic: str, name: str, value: str) -> str:
        """The rest of a sentence: how a topic's setting is changed, where it can be."""
        return ""

    # Offsets and records

    @abstractmethod
    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """The first offset and the next record's offset, by partition."""

    @abstractmethod
    def offsets_at(self, topic: str, at: int) -> dict[int, int]:
        """The offset of the first record stamped at or after `at` (microseconds), or the end, by partition."""

    @abstractmethod
    def records(self, topic: str, *, back: int | None = None, starts: Mapping[int, int] | None = None) -> Iterator[tuple[int, Record]]:
        """Read a topic's records, each with its partition, up to the end as it is now.

        `back`: only the last so many offsets of each partition; `starts`: the offset to begin at, by partition.
        """

    def tails(self, topic: str, back: int) -> dict[int, tuple[list[LogHeaders], bool]]:
        """The headers of the records among the last `back` offsets, oldest first, and whether these are all records; by partition."""
        found: dict[int, tuple[list[LogHeaders], bool]] = {
            number: ([], end - back <= begin) for number, (begin, end) in self.bounds(topic).items()
        }
        for number, record in self.records(topic, back=back):
            found[number][0].append(record.headers)
        return found

    # Reading and writing

    @abstractmethod
    def source(self, topic: str, *, group: str | None = None, **how: Any) -> LogSource:
        """A source for a flow. `group`: offsets are committed to it once a snapshot covers them, for tools; `how`: see `LogSource`."""

    @abstractmethod
    def writer(
        self,
        topic: str,
        *,
        patience: float = PATIENCE,
        cuts: bool = False,
        stopping: Callable[[], bool] = never,
        mark: tuple[str, bytes] | None = None,
        alone: bool = True,
    ) -> LogWriter:
        """A writer to a topic.

        `patience`: seconds for which brokers may be away before a delivery counts as failed; infinite: it waits for ever. `cuts`: a value
        that is too large for the topic is cut, and the header `cut_from` holds its length in bytes. `stopping`: asked twice a second while
        deliveries are waited for; once it is true, they are waited for a few seconds more. `mark`: a header of the first value of each
        partition, and of each `MARKED_EVERY`th after it, so that one stands among a topic's last records; where a record has no room for
        it, of the next one that has. `alone`: nobody else may write there at the same time, which brokers don't see to.
        """

    def held(self, names: Collection[str]) -> AbstractContextManager[Sequence[int]]:
        """Inside the `with` block these topics are written by this run alone, whose processes open writers that are not `alone`.

        Gives the descriptors that its processes are to keep open, so that it lasts until the last of them is gone. Brokers don't see to
        that.
        """
        return nullcontext(())

    def sink(self, topic: str, *, on_error: Callable[[Exception], None] = nothing, **how: Any) -> LogSink:
        """A sink for a flow. `on_error`: see `LogSink`; `how`: see `writer`."""
        return LogSink(self.topic(topic), self.writer(topic, **how), on_error)
