"""Items of streams as lines of files and messages of topics, for the sinks."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import bytewax.operators as op
import orjson
from bytewax.operators import KeyedStream
from bytewax.outputs import DynamicSink, Sink, StatelessSinkPartition

from beepgpt.conversations.account import Account

LogMessage = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]], bytes | int | None, int | None]
"""To be written to a topic: key, value (None: a tombstone), headers, partition (bytes: that of another key) and timestamp (None: the
producer's choice)."""

TaggedItems = tuple[str, list[Any]]
"""The kind of output, and items of it. Of a shard: `examples`, `retractions`, `late`, `rejects`, `points` or `account`."""

Formats = Mapping[str, Callable[[Any], Any]]
"""By output: a function from an item of the flow to the value that its sink writes; it returns None where there is none."""


class DeadLetter(NamedTuple):
    """A record that was late or could not be used."""

    reason: str
    place: str
    """Partition and number in it."""
    record: bytes
    key: bytes | None


def as_lines(lines: Sequence[bytes]) -> bytes:
    """Join lines to one blob of complete lines: with few large blobs, sinks are fastest.

    >>> as_lines([b"{}", b"[]"])
    b'{}\\n[]\\n'
    """
    return b"\n".join(lines) + b"\n"


def lines_of_kind(kind: str, tagged: TaggedItems) -> bytes | None:
    """Items of one kind as lines of a file; None for other kinds."""
    return as_lines(tagged[1]) if tagged[0] == kind else None


def items_of_kind(kind: str, tagged: TaggedItems) -> list[Any] | None:
    """Items of one kind as they are; None for other kinds."""
    return tagged[1] if tagged[0] == kind else None


def write_outputs(stream: KeyedStream[Any], names: Iterable[str], sinks: Mapping[str, Sink[Any]], formats: Formats) -> None:
    """Add a step `take_NAME` and an output `write_NAME` for each named output that has a sink."""
    for name in names:
        if name in sinks:
            op.output(f"write_{name}", op.filter_map_value(f"take_{name}", stream, formats[name]), sinks[name])


def accounts_in(keyed: tuple[str, TaggedItems]) -> Sequence[Account]:
    """The accounts in an item: there is one when a key's input ends or the run is stopped."""
    kind, items = keyed[1]
    return items if kind == "account" else ()


def dead_letter_lines(kind: str, tagged: TaggedItems) -> bytes | None:
    """Dead letters of one kind as lines of a file; None for other kinds."""
    return as_lines([dead_letter_line(letter) for letter in tagged[1]]) if tagged[0] == kind else None


def dead_letter_messages(kind: str, topic_id: str | None, tagged: TaggedItems) -> list[LogMessage] | None:
    """Dead letters of one kind as messages; `topic_id`: of the topic that they were read from."""
    return [dead_letter_message(letter, topic_id) for letter in tagged[1]] if tagged[0] == kind else None


def dead_letter_line(letter: DeadLetter) -> bytes:
    """A dead letter as a line of JSON: the reason, its place, and the record as it came, as text if it is UTF-8.

    >>> dead_letter_line(DeadLetter("not_json", "jsonl:3", b"oops", None))
    b'{"reason":"not_json","place":"jsonl:3","record":"oops"}'
    """
    reason, place, record, _ = letter
    try:
        return orjson.dumps({"reason": reason, "place": place, "record": record.decode()})
    except UnicodeDecodeError:
        return orjson.dumps({"reason": reason, "place": place, "record_base64": base64.b64encode(record).decode()})


def dead_letter_message(letter: DeadLetter, topic_id: str | None = None) -> LogMessage:
    """A dead letter as a message: key and bytes as they came, reason and place in the headers.

    >>> dead_letter_message(DeadLetter("not_json", "slack.events/3:17", b"oops", b"C1"))
    (b'C1', b'oops', [('reason', b'not_json'), ('source', b'slack.events/3:17')], None, None)
    """
    reason, place, record, key = letter
    headers = [("reason", reason.encode()), ("source", place.encode())]
    if topic_id is not None:
        headers.append(("source_topic_id", topic_id.encode()))
    return key, record, headers, None, None


def example_messages(tagged: TaggedItems) -> list[LogMessage] | None:
    """Examples under their ids, retractions as tombstones under the same; None for other kinds.

    >>> example_messages(("examples", [b'{"id":"00112233445566778899aabbccddeeff","spec":1}']))
    [(b'00112233445566778899aabbccddeeff', b'{"id":"00112233445566778899aabbccddeeff","spec":1}', [], None, None)]
    """
    kind, lines = tagged
    if kind == "examples":
        return [(id_of(line), line, [], None, None) for line in lines]
    if kind == "retractions":
        return [(id_of(line), None, [("retracted_ts", orjson.loads(line)["retracted_ts"].encode())], None, None) for line in lines]
    return None


def id_of(line: bytes) -> bytes:
    """Of an example or a retraction, which both begin with it: 32 hex digits."""
    return line[7:39]


EXAMPLE_LINES: Formats = {
    "examples": partial(lines_of_kind, "examples"),
    "retractions": partial(lines_of_kind, "retractions"),
    "late": partial(dead_letter_lines, "late"),
    "dead_letters": partial(dead_letter_lines, "rejects"),
}
"""The examples flow's outputs as lines of files."""
EXAMPLE_ROWS: Formats = {**EXAMPLE_LINES, "examples": partial(items_of_kind, "examples")}
"""The same, with examples whose columns are packed, as rows of a table."""


def example_topics(topic_id: str | None) -> Formats:
    """The examples flow's outputs as messages of topics; retractions stand among the examples. `topic_id`: of the source, if it is one."""
    return {
        "examples": example_messages,
        "late": partial(dead_letter_messages, "late", topic_id),
        "dead_letters": partial(dead_letter_messages, "rejects", topic_id),
    }


class CallbackSink(DynamicSink[Any]):
    """Passes each item to a function of the process that runs the flow."""

    def __init__(self, on_item: Callable[[Any], None]) -> None:
        self._on_item = on_item

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _CallbackPartition:
        return _CallbackPartition(self._on_item)


class _CallbackPartition(StatelessSinkPartition[Any]):
    def __init__(self, on_item: Callable[[Any], None]) -> None:
        self._on_item = on_item

    def write_batch(self, items: list[Any]) -> None:
        for item in items:
            self._on_item(item)
