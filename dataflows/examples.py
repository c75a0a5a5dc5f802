"""Slack events to training examples, as a dataflow."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import bytewax.operators as op
import orjson
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream, StatefulBatchLogic
from bytewax.outputs import DynamicSink, Sink, StatelessSinkPartition

from beepgpt.conversations.account import Account
from beepgpt.conversations.events import Heartbeat, Parsed, Reject, parse
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import SHARDS, Shard, shard_of_bytes, shard_of_parsed
from beepgpt.conversations.tokens import Encoding
from beepgpt.errors import BeepGPTError


class Unreadable(Protocol):
    """What a source passes on of something that it could not read."""

    @property
    def reason(self) -> str: ...

    @property
    def record(self) -> bytes: ...

    @property
    def place(self) -> str: ...


class Stored(Protocol):
    """A record of a topic, which knows its own place and when it was written."""

    @property
    def value(self) -> bytes | None: ...

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...


Chunk = tuple[str, int, list[Any]]
"""Partition, number of the first value in it, values: each `bytes` or `Unreadable`, or all of them `Stored`; none: it stops here."""


class InputStopped:
    """Told to every shard: the input was stopped, and has not ended."""


Placed = tuple[str, str, bytes | None, Parsed | InputStopped]
"""Partition, place in the source, key of the record in it, what the record became."""

KafkaMessage = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]], int | None, int | None]
"""To be written to a topic: key, value (None: a tombstone), headers, partition and timestamp (None: as it comes)."""


class DeadLetter(NamedTuple):
    """What was late or could not be used, with where it stood."""

    reason: str
    place: str
    record: bytes
    key: bytes | None


TaggedItems = tuple[str, list[Any]]
"""What a shard made of one kind: `examples`, `retractions`, `late`, `rejects`, `told`, `account`."""


class RunHasEnded(BeepGPTError):
    """New records came for a run that was already told of its input's end."""


@dataclass(frozen=True)
class MadeStreams:
    """All that the examples flow makes, lists of lines without their ends by shard."""

    made: KeyedStream[TaggedItems]
    """All of it, in order."""
    examples: KeyedStream[list[bytes]]
    retractions: KeyedStream[list[bytes]]
    late: KeyedStream[list[DeadLetter]]
    rejects: KeyedStream[list[DeadLetter]]
    accounts: KeyedStream[list[Account]]
    """One for each shard when the input ends or the run is stopped."""


@dataclass(frozen=True)
class Following:
    """How one run follows channels: values, and no settings."""

    rules: Rules
    encoding: Encoding
    now: int
    """When the run was first started, microseconds: what claims to be from long after it is rejected. Topics have times of their own."""
    since: int = 0
    """Examples of points before this time are not written: microseconds."""
    until: int | None = None
    shards: Collection[str] = SHARDS
    """The shards that are this process's."""
    recoverable: bool = False
    points_since: int | None = None
    """Points from this time on are told as they are made; None: none are."""
    is_stopping: Callable[[], bool] = lambda: False
    """Whether the input stops without having ended."""
    on_error: Callable[[Exception], None] = lambda error: None
    """Is told of what stops the flow, before it is raised: an engine may say nothing of it."""
    shards_here: list[Shard] = field(default_factory=list)
    """The shards that this process follows, for whoever watches the run."""


@operator
def make_examples(step_id: str, chunks: Stream[Chunk], following: Following) -> MadeStreams:
    """Records in chunks, as the sources give them, to examples and all that comes beside them."""
    sharded = op.flat_map_batch("parse_and_shard", chunks, lambda batch: by_shard(batch, following))
    made = op.stateful_batch("follow_channels", sharded, lambda state: FollowChannels(following, state))
    return MadeStreams(
        made=made,
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
def write_letters(step_id: str, letters: KeyedStream[list[DeadLetter]], sink: Sink[Any]) -> None:
    """Dead letters to a file, a line each."""
    op.output("write", op.map_value("join", letters, lambda each: as_lines([dead_letter_line(letter) for letter in each])), sink)


@operator
def send_examples(step_id: str, made: KeyedStream[TaggedItems], sink: Sink[Any]) -> None:
    """Examples to a topic under their ids, and a tombstone under the id of one that is retracted: never before it."""
    op.output("write", op.filter_map_value("to_messages", made, example_messages), sink)


@operator
def send_letters(step_id: str, letters: KeyedStream[list[DeadLetter]], sink: Sink[Any], topic_id: str | None) -> None:
    """Dead letters to a topic, as they came; `topic_id` tells which incarnation of a topic they were read from."""
    op.output("write", op.map_value("to_messages", letters, lambda each: [dead_letter_message(letter, topic_id) for letter in each]), sink)


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


def only(step_id: str, made: KeyedStream[TaggedItems], kind: str) -> KeyedStream[list[Any]]:
    """What was made of one kind."""
    return op.filter_map_value(step_id, made, lambda tagged: tagged[1] if tagged[0] == kind else None)


def by_shard(batch: Iterable[Chunk], following: Following) -> Iterable[tuple[str, list[Placed]]]:
    """Records parsed and put with their channel's shard, in order; a heartbeat goes to every shard."""
    grouped: dict[str, list[Placed]] = {shard: [] for shard in following.shards}
    wanted = None if len(grouped) == len(SHARDS) else (lambda channel: shard_of_bytes(channel) in grouped)
    for partition, first, values in batch:
        if not values:
            for records in grouped.values():
                records.append((partition, "", None, InputStopped()))
        for placed in placed_of(partition, first, values, following, wanted):
            parsed = placed[3]
            if isinstance(parsed, Heartbeat):
                for shard, records in grouped.items():
                    records.append(placed if shard == SHARDS[0] else (partition, "", None, parsed))  # counted where it has a place
            elif (records_of_shard := grouped.get(shard_of_parsed(parsed))) is not None:
                records_of_shard.append(placed)
    return [(shard, records) for shard, records in grouped.items() if records]


def placed_of(
    partition: str, first: int, values: list[Any], following: Following, wanted: Callable[[bytes], bool] | None
) -> Iterable[tuple[str, str, bytes | None, Parsed]]:
    """A chunk's records, parsed, each with its place, without those that name a channel that isn't `wanted`."""
    rules, now = following.rules, following.now
    if values and hasattr(values[0], "offset"):
        for record in values:
            place = f"{partition}:{record.offset}"
            if record.value is None:
                yield partition, place, record.key, Reject("no_value", b"")
            else:  # what the log says of its time, so that a replay judges as the first run did
                written = record.timestamp if record.timestamp > 0 else now
                parsed = parse(record.value, written, bots=rules.bots, edits=rules.edits, wanted=wanted)
                if parsed is not None:
                    yield partition, place, record.key, parsed
        return
    for number, value in enumerate(values, start=first):
        if isinstance(value, bytes):
            parsed = parse(value, now, bots=rules.bots, edits=rules.edits, wanted=wanted)
            if parsed is not None:
                yield partition, f"{partition}:{number}", None, parsed
        else:
            yield partition, value.place, None, Reject(value.reason, value.record)


class FollowChannels(StatefulBatchLogic[list[Placed], TaggedItems, dict[str, Any] | None]):
    """The one stateful step: a shard's channels, fed in order."""

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
        )
        if state is not None:
            self._shard.resume(state)
        following.shards_here.append(self._shard)

    def on_batch(self, values: list[list[Placed]]) -> tuple[Iterable[TaggedItems], bool]:
        try:
            return self._read(values)
        except Exception as error:
            self._on_error(error)
            raise

    def _read(self, values: list[list[Placed]]) -> tuple[Iterable[TaggedItems], bool]:
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
        return self._taken(late, rejects), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[TaggedItems], bool]:
        if not (self._is_stopped or self._is_stopping()):
            self._shard.end()
        return [*self._taken([], []), ("account", [self._shard.account_now()])], StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any] | None:
        return self._shard.snapshot()

    def _taken(self, late: list[DeadLetter], rejects: list[DeadLetter]) -> list[TaggedItems]:
        output = self._shard.drain()
        tagged: list[TaggedItems] = [
            ("examples", output.examples),
            ("retractions", output.retractions),
            ("late", late),
            ("rejects", rejects),
        ]
        if output.points is not None and output.points.entries:
            tagged.append(("told", [(time.time(), output.points.entries)]))
        return [(kind, lines) for kind, lines in tagged if lines]


def dead_letter_line(letter: DeadLetter) -> bytes:
    """What could not be used, as one line: the reason, where it stood, and the record as it came, as text if it is UTF-8.

    >>> dead_letter_line(DeadLetter("not_json", "jsonl:3", b"oops", None))
    b'{"reason":"not_json","place":"jsonl:3","record":"oops"}'
    """
    reason, place, record, _ = letter
    try:
        return orjson.dumps({"reason": reason, "place": place, "record": record.decode()})
    except UnicodeDecodeError:
        return orjson.dumps({"reason": reason, "place": place, "record_base64": base64.b64encode(record).decode()})


def dead_letter_message(letter: DeadLetter, topic_id: str | None = None) -> KafkaMessage:
    """The same for a topic: key and bytes as they came, the rest in the headers.

    >>> dead_letter_message(DeadLetter("not_json", "slack.events/3:17", b"oops", b"C1"))
    (b'C1', b'oops', [('reason', b'not_json'), ('source', b'slack.events/3:17')], None, None)
    """
    reason, place, record, key = letter
    headers = [("reason", reason.encode()), ("source", place.encode())]
    if topic_id is not None:
        headers.append(("source_topic_id", topic_id.encode()))
    return key, record, headers, None, None


def example_messages(tagged: TaggedItems) -> list[KafkaMessage] | None:
    """Examples under their ids; retractions as tombstones; None for what goes elsewhere.

    >>> example_messages(("examples", [b'{"id":"00112233445566778899aabbccddeeff","spec":1}']))
    [(b'00112233445566778899aabbccddeeff', b'{"id":"00112233445566778899aabbccddeeff","spec":1}', [], None, None)]
    """
    kind, lines = tagged
    if kind == "examples":
        return [(_id_of(line), line, [], None, None) for line in lines]
    if kind == "retractions":
        return [(_id_of(line), None, [("retracted_ts", orjson.loads(line)["retracted_ts"].encode())], None, None) for line in lines]
    return None


def _id_of(line: bytes) -> bytes:
    """Of an example or a retraction, which both begin with it: 32 hex digits."""
    return line[7:39]


def as_lines(lines: list[bytes]) -> bytes:
    """One blob of complete lines.

    >>> as_lines([b"{}", b"[]"])
    b'{}\\n[]\\n'
    """
    return b"\n".join(lines) + b"\n"
