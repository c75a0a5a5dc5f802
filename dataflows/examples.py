"""Slack events to training examples, as a dataflow."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import bytewax.operators as op
import orjson
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream, StatefulBatchLogic
from bytewax.outputs import DynamicSink, Sink, StatelessSinkPartition

from conversations.account import Account
from conversations.events import Heartbeat, Parsed, Reject, parse
from conversations.rules import Rules
from conversations.shard import SHARDS, Shard, shard_of_parsed
from conversations.tokens import Encoding


class Unreadable(Protocol):
    """What a source passes on of something that it could not read."""

    @property
    def reason(self) -> str: ...

    @property
    def record(self) -> bytes: ...

    @property
    def place(self) -> str: ...


Chunk = tuple[str, int, list[Any]]
"""Partition, number of the first value in it, values: each `bytes`, or an `Unreadable`."""

Placed = tuple[str, str, Parsed]
"""Partition, place in the source, what the record became."""

Tagged = tuple[str, list[Any]]
"""What a shard made of one kind: `examples`, `retractions`, `late`, `rejects`, `account`."""


class RunHasEnded(Exception):
    """New records came for a run that was already told of its input's end."""


@dataclass(frozen=True)
class MadeStreams:
    """All that the examples flow makes, lists of lines without their ends by shard."""

    examples: KeyedStream[list[bytes]]
    retractions: KeyedStream[list[bytes]]
    late: KeyedStream[list[bytes]]
    rejects: KeyedStream[list[bytes]]
    accounts: KeyedStream[list[Account]]
    """One for each shard when the input ends or the run is stopped."""


@dataclass(frozen=True)
class Following:
    """How one run follows channels: values, and no settings."""

    rules: Rules
    encoding: Encoding
    now: int
    """When the run was first started, microseconds: what claims to be from long after it is rejected."""
    until: int | None = None
    shards: Collection[str] = SHARDS
    """The shards that are this process's."""
    recoverable: bool = False
    is_stopping: Callable[[], bool] = lambda: False
    """Whether the input stops without having ended."""


@operator
def make_examples(step_id: str, chunks: Stream[Chunk], following: Following) -> MadeStreams:
    """Records in chunks, as the sources give them, to examples and all that comes beside them."""
    sharded = op.flat_map_batch("parse_and_shard", chunks, lambda batch: by_shard(batch, following))
    made = op.stateful_batch("follow_channels", sharded, lambda state: FollowChannels(following, state))
    return MadeStreams(
        examples=only("take_examples", made, "examples"),
        retractions=only("take_retractions", made, "retractions"),
        late=only("take_late", made, "late"),
        rejects=only("take_rejects", made, "rejects"),
        accounts=only("take_accounts", made, "account"),
    )


@operator
def write_lines(step_id: str, lines: KeyedStream[list[bytes]], sink: Sink[Any]) -> None:
    """Lines to a file: in few large blobs, with which sinks are fastest."""
    op.output("write", op.map_value("join", lines, as_lines), sink)


@operator
def close_account(step_id: str, accounts: KeyedStream[list[Account]], taken: Callable[[Account], None]) -> None:
    """The shards' accounts to whoever runs this."""
    op.output("close", op.flat_map("take", accounts, lambda keyed: keyed[1]), TakenSink(taken))


class TakenSink(DynamicSink[Any]):
    """Hands each item to a function of the process that runs the flow."""

    def __init__(self, taken: Callable[[Any], None]) -> None:
        self._taken = taken

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _TakenPartition:
        return _TakenPartition(self._taken)


class _TakenPartition(StatelessSinkPartition[Any]):
    def __init__(self, taken: Callable[[Any], None]) -> None:
        self._taken = taken

    def write_batch(self, items: list[Any]) -> None:
        for item in items:
            self._taken(item)


def only(step_id: str, made: KeyedStream[Tagged], kind: str) -> KeyedStream[list[Any]]:
    """What was made of one kind."""
    return op.filter_map_value(step_id, made, lambda tagged: tagged[1] if tagged[0] == kind else None)


def by_shard(batch: Iterable[Chunk], following: Following) -> Iterable[tuple[str, list[Placed]]]:
    """Records parsed and put with their channel's shard, in order; a heartbeat goes to every shard."""
    rules = following.rules
    grouped: dict[str, list[Placed]] = {shard: [] for shard in following.shards}
    for partition, first, values in batch:
        for number, value in enumerate(values, start=first):
            if isinstance(value, bytes):
                parsed, place = parse(value, following.now, bots=rules.bots, edits=rules.edits), f"{partition}:{number}"
            else:
                parsed, place = Reject(value.reason, value.record), value.place
            placed = (partition, place, parsed)
            if isinstance(parsed, Heartbeat):
                for shard, records in grouped.items():
                    records.append(placed if shard == SHARDS[0] else (partition, "", parsed))  # counted where it has a place
            elif (records_of_shard := grouped.get(shard_of_parsed(parsed))) is not None:
                records_of_shard.append(placed)
    return [(shard, records) for shard, records in grouped.items() if records]


class FollowChannels(StatefulBatchLogic[list[Placed], Tagged, dict[str, Any] | None]):
    """The one stateful step: a shard's channels, fed in order."""

    def __init__(self, following: Following, state: dict[str, Any] | None) -> None:
        self._is_stopping = following.is_stopping
        self._shard = Shard(following.rules, following.encoding, until=following.until, recoverable=following.recoverable)
        if state is not None:
            self._shard.resume(state)

    def on_batch(self, values: list[list[Placed]]) -> tuple[Iterable[Tagged], bool]:
        if self._shard.ended:
            raise RunHasEnded(
                "this run's input had already ended, and now has more records: what was open was settled by its end. "
                "Delete the recovery store and run again from the start"
            )
        late: list[bytes] = []
        rejects: list[bytes] = []
        for records in values:
            for partition, place, parsed in records:
                self._shard.read(parsed, partition)
                if isinstance(parsed, Heartbeat) and place:
                    self._shard.account.count("heartbeats")
                elif isinstance(parsed, Reject):
                    rejects.append(dead_letter(parsed.reason, place, parsed.record))
                elif len(self._shard.made.late) > len(late):
                    late.append(dead_letter("late", place, self._shard.made.late[-1]))
        return self._taken(late, rejects), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[Tagged], bool]:
        if not self._is_stopping():
            self._shard.end()
        return [*self._taken([], []), ("account", [self._shard.account_now()])], StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any] | None:
        return self._shard.snapshot()

    def _taken(self, late: list[bytes], rejects: list[bytes]) -> list[Tagged]:
        made = self._shard.taken()
        tagged = [("examples", made.examples), ("retractions", made.retractions), ("late", late), ("rejects", rejects)]
        return [(kind, lines) for kind, lines in tagged if lines]


def dead_letter(reason: str, place: str, record: bytes) -> bytes:
    """What could not be used, as one line: the reason, where it stood, and the record as it came, as text if it is UTF-8.

    >>> dead_letter("not_json", "jsonl:3", b"oops")
    b'{"reason":"not_json","place":"jsonl:3","record":"oops"}'
    """
    try:
        return orjson.dumps({"reason": reason, "place": place, "record": record.decode()})
    except UnicodeDecodeError:
        return orjson.dumps({"reason": reason, "place": place, "record_base64": base64.b64encode(record).decode()})


def as_lines(lines: list[bytes]) -> bytes:
    """One blob of complete lines.

    >>> as_lines([b"{}", b"[]"])
    b'{}\\n[]\\n'
    """
    return b"\n".join(lines) + b"\n"
