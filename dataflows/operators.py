"""Operators for Bytewax flows of your own: records of chat in, examples and points out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream

from beepgpt.conversations.account import Account
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointSettled
from beepgpt.conversations.rules import Rules
from beepgpt.dataflows.following import Following, follow
from beepgpt.dataflows.records import DeadLetter, TaggedItems, accounts_in
from beepgpt.errors import BadCommand, DoesNotAddUp

PARTITION = "all"
"""Of records that come as one stream: a heartbeat in it is for every channel."""


@dataclass(frozen=True)
class Followed:
    """What `follow_channels` gives, each kind as a stream of its own; what a flow does nothing with is dropped."""

    examples: Stream[bytes]
    """Each a line of JSON: `beepgpt.Example.from_line` reads it."""
    retractions: Stream[bytes]
    """Lines of JSON with the `id` of an example whose message was deleted later: whoever has it must forget it."""
    points: Stream[bytes]
    """Lines of JSON, to be predicted now: `beepgpt.Point.from_line` reads them. None come if they were not asked for."""
    settled: Stream[PointSettled]
    """How points ended."""
    deleted: Stream[MessageDeleted]
    """Messages that are to be deleted wherever a point holds them."""
    late: Stream[DeadLetter]
    """Records from before the watermark, which change nothing."""
    rejected: Stream[DeadLetter]
    """Records that can't be used, each with its reason."""
    accounts: Stream[Account]
    """Of each shard when its input ends: every record and every point in exactly one row."""


class ReceivedRecord(NamedTuple):
    """A record with the time at which it was received, microseconds: no event is from much later."""

    value: bytes
    timestamp: int
    offset: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@operator
def follow_channels(step_id: str, up: Stream[bytes], rules: Rules | None = None, *, with_points: bool = False) -> Followed:
    """Follow channels: the core of `beepgpt examples`, as a step of a flow of your own. Its examples are the same, byte for byte.

    `up`: records of Slack's Events API, or `ChatEvent.record` of any chat. Each channel's records have to come from one partition of the
    source, in about their order (the setting `lateness`); a heartbeat is for all channels. `rules`: as `beepgpt.rules` makes them; those of
    the environment's settings if not given. `with_points`: emit points, too, which cost some time. Works with recovery stores, by which a
    record may come twice. After the end of the input nothing more may come. Raises BadSettings, and in the flow DoesNotAddUp if records or
    points are lost.

    >>> from bytewax.dataflow import Dataflow
    >>> from bytewax.testing import TestingSink, TestingSource, run_main
    >>> from beepgpt.library.chat_events import ChatEvent
    >>> asked = ChatEvent.post("general", "ana", 1704103200_000000, "Is it red?")
    >>> reply = ChatEvent.post("general", "bo", 1704103260_000000, "It is.", thread=asked.at)
    >>> flow, made = Dataflow("mine"), []
    >>> followed = follow_channels("follow", op.input("read", flow, TestingSource([asked.record, reply.record])), Rules(candidates=False))
    >>> op.output("write", followed.examples, TestingSink(made))
    >>> run_main(flow)
    >>> [b'"answer":["bo"]' in line for line in made]
    [True]
    """
    from beepgpt.clock import now_us
    from beepgpt.config.settings import read_settings
    from beepgpt.connectors.tokenizer import load_encoding
    from beepgpt.runtime.forgotten import forgotten_of

    settings = read_settings()
    chosen = settings.rules if rules is None else rules
    following = Following(
        chosen,
        load_encoding(chosen.encoding),
        now_us(),
        recoverable=True,
        forgotten=forgotten_of(settings),
        points_since=0 if with_points else None,
    )
    followed = follow(op.flat_map_batch("note_time", up, received), following)
    return Followed(
        _of_kind("take_examples", followed, "examples"),
        _of_kind("take_retractions", followed, "retractions"),
        _entries("take_points", followed, lambda each: each.line if isinstance(each, PointEmitted) else None),
        _entries("take_settled", followed, lambda each: each if isinstance(each, PointSettled) else None),
        _entries("take_deleted", followed, lambda each: each if isinstance(each, MessageDeleted) else None),
        _of_kind("take_late", followed, "late"),
        _of_kind("take_rejected", followed, "rejects"),
        op.flat_map("take_accounts", followed, checked_accounts),
    )


def received(batch: list[bytes]) -> list[Chunk]:
    """A batch of records as a chunk, received now. Raises BadCommand for what is no record."""
    if wrong := next((each for each in batch if not isinstance(each, bytes)), None):
        raise BadCommand(f"{wrong!r} is no record: give bytes, such as ChatEvent.record")
    now = time.time_ns() // 1_000
    return [(PARTITION, 0, [ReceivedRecord(each, now) for each in batch])]


def checked_accounts(keyed: tuple[str, TaggedItems]) -> Sequence[Account]:
    """The accounts in an item. Raises DoesNotAddUp.

    >>> checked_accounts(("shard-00", ("account", [Account({"read": 2, "ignored:bot": 1})])))
    Traceback (most recent call last):
    beepgpt.errors.DoesNotAddUp: 2 events read, but 1 accounted for
    """
    accounts = accounts_in(keyed)
    if wrong := [each for account in accounts for each in account.check()]:
        raise DoesNotAddUp("; ".join(wrong))
    return accounts


def _of_kind(step_id: str, followed: KeyedStream[TaggedItems], kind: str) -> Stream[Any]:
    return op.flat_map(step_id, followed, lambda keyed: keyed[1][1] if keyed[1][0] == kind else ())


def _entries(step_id: str, followed: KeyedStream[TaggedItems], taken: Callable[[Any], Any]) -> Stream[Any]:
    """Of the log of points, what a function takes; None: nothing."""

    def of(keyed: tuple[str, TaggedItems]) -> Iterator[Any]:
        kind, items = keyed[1]
        for _, entries in items if kind == "points" else ():
            yield from (found for each in entries if (found := taken(each)) is not None)

    return op.flat_map(step_id, followed, of)
