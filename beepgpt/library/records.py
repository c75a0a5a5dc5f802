"""Examples and points as typed records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from beepgpt.conversations.events import micros


class MessageInWindow(NamedTuple):
    """A message of a window."""

    ts: int
    """When it was posted, microseconds since 1970; with the channel, it identifies the message."""
    user: str


@dataclass(frozen=True, slots=True, eq=False)
class ShownRecord:
    """What points and examples have in common. Two of a kind are equal if their lines are."""

    line: bytes
    """The record's bytes, as the command line writes them."""
    id: str
    spec: str
    """The fingerprint of all settings that shape examples."""
    target: str
    scope: str
    channel: str
    speakers: int
    """People who had spoken in the conversation up to the point."""
    root_missing: bool
    prompt_ts: int
    """All that the prompt and the candidates say was known then."""
    window: tuple[MessageInWindow, ...]
    """The messages of the prompt, oldest first."""
    prompt: str
    prompt_tokens: int
    candidates: Mapping[str, Sequence[Any]]
    """Who might answer: `user`, and a column for each feature, all of one length; empty where the settings leave candidates out."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.line == self.line

    def __hash__(self) -> int:
        return hash(self.line)

    @property
    def body(self) -> dict[str, Any]:
        """The record as its JSON has it."""
        found: dict[str, Any] = orjson.loads(self.line)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Point(ShownRecord):
    """A moment at which somebody may be about to answer: all of it was known at `prompt_ts`. Times are microseconds since 1970.

    >>> import beepgpt
    >>> follower = beepgpt.Follower(beepgpt.rules(candidates=False), points=True)
    >>> asked = beepgpt.ChatEvent.post("general", "ana", 1704103200_000000, "Is it red?")
    >>> point = [*follower.feed(asked).points, *follower.end().points][0]
    >>> point.channel, point.prompt_ts == asked.at, point.speakers, point.prompt
    ('general', True, 1, 'Is it red?\\n\\n###\\n\\n')
    """

    conversations: tuple[str, ...]
    """One, or a root's session and its own thread."""

    @classmethod
    def from_line(cls, line: bytes) -> Point:
        """The point of a line of JSON."""
        body = orjson.loads(line)
        return cls(line, **_shown(body), conversations=tuple(body["conversations"]))


@dataclass(frozen=True, slots=True, eq=False)
class Example(ShownRecord):
    """A point, and who answered. Times are microseconds since 1970.

    >>> line = (b'{"id":"00ff","spec":"0f","target":"next_user","scope":"conversation","channel":"C1","conversation":"C1:1704103200.000000'
    ...         b':thread","speakers":1,"root_missing":false,"prompt_ts":"1704103200.000000","settled_ts":"1704103260.000000",'
    ...         b'"answer_ts":"1704103260.000000","answer":["bo"],"window":[{"ts":"1704103200.000000","user":"ana"}],"prompt":"red?",'
    ...         b'"prompt_tokens":2}')
    >>> example = Example.from_line(line)
    >>> example.answer, example.answer_ts - example.prompt_ts, example.window[0].user
    (('bo',), 60000000, 'ana')
    """

    conversation: str
    settled_ts: int
    """When it was known how the point ended."""
    answer_ts: int | None
    answer: tuple[str, ...]
    """Who answered; empty if nobody did."""

    @classmethod
    def from_line(cls, line: bytes) -> Example:
        """The example of a line of JSON."""
        body = orjson.loads(line)
        return cls(
            line, **_shown(body), conversation=body["conversation"], settled_ts=micros(body["settled_ts"]),
            answer_ts=None if body["answer_ts"] is None else micros(body["answer_ts"]), answer=tuple(body["answer"]),
        )  # fmt: skip


def _shown(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that examples and points have in common."""
    plain = ("id", "spec", "target", "scope", "channel", "speakers", "root_missing", "prompt", "prompt_tokens")
    return {
        **{name: body[name] for name in plain},
        "prompt_ts": micros(body["prompt_ts"]),
        "window": tuple(MessageInWindow(micros(each["ts"]), each["user"]) for each in body["window"]),
        "candidates": body.get("candidates", {}),
    }


class RetractedExample(NamedTuple):
    """An example that no longer holds, since one of its messages was deleted: whoever has it must forget it."""

    id: str
    retracted_ts: int
    """When the message was deleted, microseconds since 1970."""

    @classmethod
    def from_line(cls, line: bytes) -> RetractedExample:
        """The retraction of a line of JSON."""
        body = orjson.loads(line)
        return cls(body["id"], micros(body["retracted_ts"]))
