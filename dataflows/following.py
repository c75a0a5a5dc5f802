"""The steps that make points and examples of records: parse, key by shard, follow channels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream, StatefulBatchLogic

from beepgpt import clock
from beepgpt.conversations.chunks import Chunk, parsed_value
from beepgpt.conversations.events import Heartbeat, Parsed, Reject
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import SHARDS, Shard, shard_of_bytes, shard_of_parsed
from beepgpt.conversations.tokens import Encoding
from beepgpt.dataflows.records import DeadLetter, TaggedItems
from beepgpt.errors import BeepGPTError


class InputStopped:
    """Sent to every shard when the input was stopped before its end."""


PlacedRecord = tuple[str, str, bytes | None, Parsed | InputStopped]
"""Partition, place in the source, key of the record in it, and the parsed record."""


class RunHasEnded(BeepGPTError):
    """New records came for a run whose input had already ended."""


@dataclass(frozen=True)
class Following:
    """How one run follows channels: values, and no settings."""

    rules: Rules
    encoding: Encoding
    now: int
    """When the run was first started, microseconds: records from long after it are rejected. A topic's records have times of their own."""
    since: int = 0
    """Examples of points before this time are not written: microseconds."""
    until: int | None = None
    shards: Collection[str] = SHARDS
    """The shards that this process follows."""
    recoverable: bool = False
    """Whether snapshots are taken."""
    forgotten: Forgotten | None = None
    """Who and what is left out as if it had never been; None: nobody."""
    points_since: int | None = None
    """Points from this time on are emitted as they are made; None: none are."""
    are_packed: bool = False
    """Whether examples are for a table, which needs no JSON of their candidates' numbers."""
    is_stopping: Callable[[], bool] = lambda: False
    """Whether the input stops without having ended."""
    on_error: Callable[[Exception], None] = lambda error: None
    """Called with the error that stops the flow, before it is raised: an engine may not say why it ended."""
    shards_here: list[Shard] = field(default_factory=list)
    """The shards that this process follows, for metrics and progress."""


def follow(chunks: Stream[Chunk], following: Following) -> KeyedStream[TaggedItems]:
    """Add the three steps; returns the shards' output, by kind."""
    parsed = op.flat_map_batch("parse_records", chunks, partial(parse_records, following=following))
    sharded = op.flat_map_batch("key_by_shard", parsed, partial(key_by_shard, shards=following.shards))
    return op.stateful_batch("follow_channels", sharded, partial(FollowChannels, following))


def parse_records(batch: Iterable[Chunk], following: Following) -> list[list[PlacedRecord]]:
    """Parse each chunk's records, with their places. Records of channels that other processes follow are left out."""
    shards = frozenset(following.shards)
    wanted = None if len(shards) == len(SHARDS) else (lambda channel: shard_of_bytes(channel) in shards)
    return [list(_parsed(*chunk, following, wanted)) if chunk[2] else [(chunk[0], "", None, InputStopped())] for chunk in batch]


def _parsed(
    partition: str, first: int, values: list[Any], following: Following, wanted: Callable[[bytes], bool] | None
) -> Iterator[PlacedRecord]:
    are_stored = hasattr(values[0], "offset")
    for number, value in enumerate(values, start=first):
        parsed = parsed_value(value, following.now, following.rules, following.forgotten, wanted)
        if parsed is None:
            continue
        if are_stored:
            yield partition, f"{partition}:{value.offset}", value.key, parsed
        else:
            yield partition, f"{partition}:{number}" if isinstance(value, bytes) else value.place, None, parsed


def key_by_shard(batch: Iterable[list[PlacedRecord]], shards: Collection[str]) -> list[tuple[str, list[PlacedRecord]]]:
    """Key records by their channels' shards, in order. Heartbeats and stops go to every shard.

    Rejects are keyed, too: they are counted by the stateful step, whose counts come through kills.
    """
    grouped: dict[str, list[PlacedRecord]] = {shard: [] for shard in shards}
    for records in batch:
        for placed in records:
            parsed = placed[3]
            if isinstance(parsed, Heartbeat):
                for shard, into in grouped.items():
                    into.append(placed if shard == SHARDS[0] else (placed[0], "", None, parsed))  # counted where it has a place
            elif isinstance(parsed, InputStopped):
                for into in grouped.values():
                    into.append(placed)
            elif (of_shard := grouped.get(shard_of_parsed(parsed))) is not None:
                of_shard.append(placed)
    return [(shard, records) for shard, records in grouped.items() if records]


class FollowChannels(StatefulBatchLogic[list[PlacedRecord], TaggedItems, dict[str, Any] | None]):
    """The stateful step: applies records to the channels of a shard, and passes on their output. Its state is the shard."""

    def __init__(self, following: Following, state: dict[str, Any] | None) -> None:
        self._is_stopping = following.is_stopping
        self._on_error = following.on_error
        self._is_stopped = False
        self._shard = Shard(
            following.rules,
            following.encoding,
            since=following.since,
            until=following.until,
            recoverable=following.recoverable,
            points_since=following.points_since,
            are_packed=following.are_packed,
        )
        if state is not None:
            self._shard.resume(state)
        following.shards_here.append(self._shard)

    def on_batch(self, values: list[list[PlacedRecord]]) -> tuple[Iterable[TaggedItems], bool]:
        try:
            return self._read(values)
        except Exception as error:
            self._on_error(error)
            raise

    def _read(self, values: list[list[PlacedRecord]]) -> tuple[Iterable[TaggedItems], bool]:
        if self._shard.ended and any(not isinstance(parsed, InputStopped) for records in values for *_, parsed in records):
            raise RunHasEnded(
                "this run's input had already ended, and now has more records: what was open was settled by its end. "
                "Delete the recovery store and run again from the start"
            )
        late: list[DeadLetter] = []
        rejects: list[DeadLetter] = []
        for records in values:
            for partition, place, key, parsed in records:
                if isinstance(parsed, InputStopped):
                    self._is_stopped = True
                    continue
                self._shard.read(parsed, partition)
                if isinstance(parsed, Heartbeat) and place:
                    self._shard.account.count("heartbeats")
                elif isinstance(parsed, Reject):
                    rejects.append(DeadLetter(parsed.reason, place, parsed.record, key))
                elif len(self._shard.output.late) > len(late):
                    late.append(DeadLetter("late", place, self._shard.output.late[-1], key))
        return self._drain(late, rejects), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[TaggedItems], bool]:
        if not (self._is_stopped or self._is_stopping()):
            self._shard.end()
        return [*self._drain([], []), ("account", [self._shard.account_now()])], StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any] | None:
        return self._shard.snapshot()

    def _drain(self, late: list[DeadLetter], rejects: list[DeadLetter]) -> list[TaggedItems]:
        """The shard's output since the last call, by kind."""
        output = self._shard.drain()
        tagged: list[TaggedItems] = [
            ("examples", output.examples),
            ("retractions", output.retractions),
            ("late", late),
            ("rejects", rejects),
        ]
        if output.points is not None and output.points.entries:
            tagged.append(("points", [(clock.now(), output.points.entries)]))
        return [(kind, lines) for kind, lines in tagged if lines]
