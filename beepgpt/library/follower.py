"""Follows a stream of events step by step: the flow of `beepgpt examples`, without its engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from beepgpt.clock import now_us
from beepgpt.config.settings import Settings
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointSettled
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import SHARDS
from beepgpt.dataflows.following import FollowChannels, Following, key_by_shard, parse_records
from beepgpt.dataflows.records import DeadLetter, TaggedItems
from beepgpt.errors import DoesNotAddUp
from beepgpt.library.chat_events import GivenEvent, event_of
from beepgpt.library.records import Example, Point, RetractedExample
from beepgpt.library.sources import settings_of
from beepgpt.runtime.forgotten import forgotten_of


@dataclass(slots=True)
class Emitted:
    """What one step gave, mostly nothing: an event settles what waited, and is followed by its own settling only later."""

    examples: list[Example] = field(default_factory=list)
    retractions: list[RetractedExample] = field(default_factory=list)
    """Of examples that were emitted before."""
    points: list[Point] = field(default_factory=list)
    """To be predicted now, if the Follower was asked for points."""
    settled: list[PointSettled] = field(default_factory=list)
    """How points ended."""
    deleted: list[MessageDeleted] = field(default_factory=list)
    late: list[DeadLetter] = field(default_factory=list)
    """Events from before the watermark, which change nothing."""
    rejected: list[DeadLetter] = field(default_factory=list)
    """Records that can't be used, each with its reason."""

    @classmethod
    def of(cls, tagged: Iterable[TaggedItems]) -> Emitted:
        """A step's items, sorted by what they are."""
        emitted = cls()
        for kind, items in tagged:
            if kind == "examples":
                emitted.examples += map(Example.from_line, items)
            elif kind == "retractions":
                emitted.retractions += map(RetractedExample.from_line, items)
            elif kind == "late":
                emitted.late += items
            elif kind == "rejects":
                emitted.rejected += items
            elif kind == "points":
                for _, entries in items:
                    emitted._sort(entries)
        return emitted

    def _sort(self, entries: Iterable[PointEmitted | PointSettled | MessageDeleted]) -> None:
        for each in entries:
            if isinstance(each, PointEmitted):
                self.points.append(Point.from_line(each.line))
            elif isinstance(each, PointSettled):
                self.settled.append(each)
            else:
                self.deleted.append(each)


class Follower:
    """Follows channels, event by event, with the same steps as the flow: its examples are the flow's, byte for byte.

    Events may come a little out of order (the setting `lateness`), and twice. An example comes once it is settled: when somebody has
    answered, or the channel's clock has passed the horizon. The clock is the log's: it moves with the channel's events and with heartbeats,
    never by itself.

    >>> from beepgpt.library.chat_events import ChatEvent
    >>> follower = Follower(Rules(candidates=False), points=True)
    >>> asked = ChatEvent.post("general", "ana", 1704103200_000000, "Is it red?")
    >>> len(follower.feed(asked).points)
    0
    >>> follower.feed(ChatEvent.heartbeat(1704103206_000000)).points[0].prompt
    'Is it red?\\n\\n###\\n\\n'
    >>> replied = ChatEvent.post("general", "bo", 1704103260_000000, "It is.", thread=asked.at)
    >>> settled = [*follower.feed(replied).examples, *follower.end().examples]
    >>> [(example.answer, example.prompt) for example in settled]
    [(('bo',), 'Is it red?\\n\\n###\\n\\n')]
    >>> follower.account["points"]["made"], follower.account["adds_up"]
    (3, True)
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        points: bool = False,
        since: int = 0,
        until: int | None = None,
        settings: Settings | None = None,
    ) -> None:
        """`rules`: as `beepgpt.rules` makes them; the settings' if not given. `points`: emit points, too, as they are made.

        `since`: examples of points before this time are counted, and not emitted; `until`: end as if it had been this time; microseconds
        since 1970. `settings`: as beepgpt/config reads them; those of the environment if not given.
        """
        settings = settings_of({}) if settings is None else settings
        chosen = settings.rules if rules is None else rules
        self._following = Following(
            chosen,
            load_encoding(chosen.encoding),
            now_us(),
            since=since,
            until=until,
            points_since=since if points else None,
            forgotten=forgotten_of(settings),
        )
        self._shards: dict[str, FollowChannels] = {}
        self._fed = 0

    @property
    def rules(self) -> Rules:
        """What shapes the examples."""
        return self._following.rules

    def feed(self, event: GivenEvent) -> Emitted:
        """Apply one event, or a record of Slack's Events API; returns what that settles. Never raises for what a record holds.

        What was late or rejected has the event's number among those that were fed, if no source gave it a place. Raises BadCommand for what
        is no event at all.
        """
        return Emitted.of(self.apply(self.chunk_of(event)))

    def end(self) -> Emitted:
        """End the input: all that is open is settled as far as the clocks allow, the rest is counted as censored. Raises DoesNotAddUp."""
        return Emitted.of(self.settle())

    def chunk_of(self, event: GivenEvent) -> Chunk:
        """An event under the next number. Raises BadCommand if it is none."""
        self._fed += 1
        return event_of(event, self._fed).chunk_at(self._fed)

    def apply(self, chunk: Chunk, now: int | None = None) -> Iterator[TaggedItems]:
        """Apply records as a source hands them out; yields the steps' items. `now`: when those without a time of receipt were received."""
        following = replace(self._following, now=now_us() if now is None else now)
        for shard, records in key_by_shard(parse_records([chunk], following), SHARDS):
            yield from self._step(shard).on_batch([records])[0]

    def settle(self) -> Iterator[TaggedItems]:
        """The steps' items at the end of the input. Raises DoesNotAddUp."""
        for step in self._shards.values():
            yield from step.on_eof()[0]
        if wrong := self._account().check():
            raise DoesNotAddUp("; ".join(wrong))

    @property
    def account(self) -> dict[str, Any]:
        """The account so far: every record and every point in exactly one row (docs/glossary.md)."""
        return self._account().as_json()

    def _account(self) -> Account:
        return sum_of(shard.account_now() for shard in self._following.shards_here)

    def _step(self, shard: str) -> FollowChannels:
        if shard not in self._shards:
            self._shards[shard] = FollowChannels(self._following, None)
        return self._shards[shard]
