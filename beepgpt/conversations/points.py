"""Points for scoring: emitted when they are made, settled when it is known how they ended (README, law 5)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import orjson

from beepgpt.conversations.events import ts_text
from beepgpt.conversations.examples import Point, count_tokens, fill_in, shown_fields
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.tokens import Encoding, Prompt


class PointEmitted(NamedTuple):
    """A point at which a prediction can be made: nothing of it was known later than its time."""

    channel: str
    conversations: tuple[str, ...]
    """One conversation, or a root's session and its own thread."""
    t: int
    """`prompt_ts`, microseconds, as all times here."""
    identity: str
    line: bytes
    """Compact JSON, its keys as an example has them."""
    window: tuple[int, ...]
    """`ts` of the messages that it holds."""


class PointSettled(NamedTuple):
    """How a point ended in one of its conversations."""

    channel: str
    conversation: str
    prompt_ts: int
    how: str
    """`answered`, `silent`, or why there is no example: `superseded`, `elsewhere`, `merged`, `moved`, `censored`."""
    settled_ts: int
    answer_ts: int | None
    answer: tuple[str, ...]


class MessageDeleted(NamedTuple):
    """A deleted message: its readers delete all that was made of it."""

    channel: str
    ts: int
    deleted_ts: int


class PointDraft(NamedTuple):
    """A point that was emitted, and whose line is not written yet."""

    at: int
    """Where it stands in the log."""
    rules: Rules
    encoding: Encoding
    point: Point
    speakers: int
    root_missing: bool

    def finished(self, emitted: PointEmitted) -> PointEmitted:
        """The point with its line."""
        rules, point = self.rules, self.point
        line = point_bytes(
            emitted.identity, rules, emitted.channel, emitted.conversations, point, point.prompt_of(self.encoding, rules.max_prompt_tokens),
            speakers=self.speakers, root_missing=self.root_missing,
        )  # fmt: skip
        return emitted._replace(line=line)


class PointLog:
    """Points emitted and settled, and messages deleted, in order."""

    __slots__ = ("drafts", "entries", "examples_since", "since")

    def __init__(self, since: int, examples_since: int) -> None:
        self.since = since
        """Points before this time are counted, and not logged."""
        self.examples_since = examples_since
        """Points before this time get no example: once their lines are written, nobody needs their candidates."""
        self.entries: list[PointEmitted | PointSettled | MessageDeleted] = []
        self.drafts: list[PointDraft] = []
        """Of the entries without a line."""

    def finish(self) -> None:
        """Write the lines of all drafts."""
        points = [draft.point for draft in self.drafts]
        fill_in(points)
        if points:
            count_tokens(points, self.drafts[0].encoding)
        for draft in self.drafts:
            emitted = self.entries[draft.at]
            assert isinstance(emitted, PointEmitted)
            self.entries[draft.at] = draft.finished(emitted)
        for point in points:
            if point.t < self.examples_since:
                point.let_go()
        self.drafts = []


def point_id(rules: Rules, conversation: str, prompt_ts: int) -> str:
    """A point's id, 32 hex digits: the same in every run. `conversation` is the first of those in which it stands."""
    named = (rules.workspace, rules.spec, rules.target, rules.scope, conversation, ts_text(prompt_ts))
    return sha256("\n".join(named).encode()).hexdigest()[:32]


def point_bytes(
    identity: str,
    rules: Rules,
    channel: str,
    conversations: Sequence[str],
    point: Point,
    prompt: Prompt,
    *,
    speakers: int,
    root_missing: bool,
) -> bytes:
    """A point as a line of compact JSON, its keys in the order of an example's."""
    body = {
        "id": identity,
        "spec": rules.spec,
        "target": rules.target,
        "scope": rules.scope,
        "channel": channel,
        "conversations": conversations,
        "speakers": speakers,
        "root_missing": root_missing,
        "prompt_ts": ts_text(point.t),
    }
    return orjson.dumps(body | shown_fields(point, prompt))


def deletion_bytes(deleted: MessageDeleted) -> bytes:
    """A deletion as a line of JSON: its readers must forget all that holds the message.

    >>> deletion_bytes(MessageDeleted("C1", 1690360240229079, 1690360253041239))
    b'{"channel":"C1","ts":"1690360240.229079","deleted_ts":"1690360253.041239"}'
    """
    return orjson.dumps({"channel": deleted.channel, "ts": ts_text(deleted.ts), "deleted_ts": ts_text(deleted.deleted_ts)})
