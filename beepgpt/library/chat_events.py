"""An event of any chat: who, when, where, in reply to what; made by hand, or read from a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.chunks import Chunk, parsed_value
from beepgpt.conversations.events import (
    DELETE,
    EDIT,
    MOVE,
    POST,
    REACT,
    Event,
    Heartbeat,
    Ignored,
    Parsed,
    Reject,
    ts_text,
)
from beepgpt.conversations.rules import Rules
from beepgpt.errors import BadCommand
from beepgpt.library.arguments import time_of

KINDS = {POST: "post", EDIT: "edit", DELETE: "delete", REACT: "react", MOVE: "move"}
HAND_MADE = "events"
"""The partition of events that come from no source."""
AS_WRITTEN = Rules(bots="context")
"""By which events that are made by hand are read: what the program that makes them calls a bot's is an event, too."""


@dataclass(frozen=True, slots=True)
class ChatEvent:
    """A post, an edit, a deletion, a reaction, a move, or a promise that nothing earlier follows (a heartbeat).

    A channel and the time at which it was posted identify a message: two messages of a channel need two times, a microsecond apart say.
    Times are microseconds since 1970, or `datetime`s with a time zone.

    >>> asked = ChatEvent.post("general", "ana", 1704103200_000000, "Is it <b>red</b>?")
    >>> reply = ChatEvent.post("general", "bo", 1704103260_000000, "It is.", thread=asked.at, mentions=["ana"])
    >>> reply.kind, reply.user, reply.thread == asked.message, asked.text
    ('post', 'bo', True, 'Is it &lt;b&gt;red&lt;/b&gt;?')
    >>> ChatEvent.delete("general", asked.at, 1704103270_000000).record
    b'{"type":"message","subtype":"message_deleted","channel":"general","deleted_ts":"1704103200.000000","event_ts":"1704103270.000000"}'
    """

    chunk: Chunk = field(repr=False)
    """The event as a source hands it out: partition, number in it, and one value."""
    parsed: Parsed
    """What the program reads in it."""

    @classmethod
    def from_record(cls, record: bytes | Mapping[str, Any], *, received: int | datetime | None = None) -> ChatEvent:
        """A record as Slack's Events API sends it, a bare inner event, or a heartbeat: JSON, as bytes or parsed. What can't be
        used is of the kind `rejected`. `received`: when, if not now; no event is from later. Raises BadCommand only for Python objects that
        JSON doesn't have."""
        try:
            line = record if isinstance(record, bytes) else orjson.dumps(record)
        except TypeError as error:
            raise BadCommand(f"an event that can't be written as JSON ({error}): give text, numbers, lists and dicts of them") from None
        return cls.from_value(HAND_MADE, 0, line, AS_WRITTEN, FOREVER if received is None else time_of(received))

    @classmethod
    def post(
        cls,
        channel: str,
        user: str,
        at: int | datetime,
        text: str,
        *,
        thread: int | datetime | None = None,
        mentions: Sequence[str] = (),
        bot: bool = False,
    ) -> ChatEvent:
        """A message. `thread`: the time of the message whose thread it replies in; `mentions`: people whom it names."""
        named = "".join(f"<@{each}> " for each in mentions)
        return cls._made(
            type="message", channel=channel, user=user, text=named + _escaped(text), ts=ts_text(time_of(at)),
            thread_ts=None if thread is None else ts_text(time_of(thread)), subtype="bot_message" if bot else None,
        )  # fmt: skip

    @classmethod
    def edit(cls, channel: str, message: int | datetime, at: int | datetime, text: str) -> ChatEvent:
        """From `at` on, a message says something else."""
        changed = {"ts": ts_text(time_of(message)), "text": _escaped(text)}
        return cls._made(type="message", subtype="message_changed", channel=channel, event_ts=ts_text(time_of(at)), message=changed)

    @classmethod
    def delete(cls, channel: str, message: int | datetime, at: int | datetime) -> ChatEvent:
        """A message is deleted."""
        deleted, when = ts_text(time_of(message)), ts_text(time_of(at))
        return cls._made(type="message", subtype="message_deleted", channel=channel, deleted_ts=deleted, event_ts=when)

    @classmethod
    def react(
        cls, channel: str, message: int | datetime, user: str, reaction: str, at: int | datetime | None, *, removed: bool = False
    ) -> ChatEvent:
        """Somebody reacts to a message, or takes the reaction back. `at`: None if the time is not known, as in exports."""
        return cls._made(
            type="reaction_removed" if removed else "reaction_added", user=user, reaction=reaction,
            item={"type": "message", "channel": channel, "ts": ts_text(time_of(message))},
            event_ts=None if at is None else ts_text(time_of(at)),
        )  # fmt: skip

    @classmethod
    def heartbeat(cls, at: int | datetime) -> ChatEvent:
        """A promise: everything that happened before `at` has been given. It settles what waits in channels that are quiet."""
        return cls._made(type="heartbeat", at=ts_text(time_of(at)))

    @classmethod
    def _made(cls, **body: object) -> ChatEvent:
        return cls.from_record({name: value for name, value in body.items() if value is not None})

    @classmethod
    def from_value(cls, partition: str, number: int, value: Any, rules: Rules, now: int = FOREVER) -> ChatEvent:
        """A value that a source handed out, as the rules read it. `now`: when it was received."""
        parsed = parsed_value(value, now, rules)
        assert parsed is not None, "all channels are wanted"
        return cls((partition, number, [value]), parsed)

    def chunk_at(self, number: int) -> Chunk:
        """The event as a source hands it out; one that is made by hand has the number under which it is fed."""
        return (HAND_MADE, number, self.chunk[2]) if self.chunk[:2] == (HAND_MADE, 0) else self.chunk

    @property
    def kind(self) -> str:
        """`post`, `edit`, `delete`, `react`, `move`, `heartbeat`; `ignored` or `rejected`, with a `reason`."""
        if isinstance(self.parsed, Event):
            return KINDS[self.parsed.kind]
        return "heartbeat" if isinstance(self.parsed, Heartbeat) else "ignored" if isinstance(self.parsed, Ignored) else "rejected"

    @property
    def record(self) -> bytes:
        """The event as JSON: a line of a `.jsonl`, or a value on a topic, for every command of `beepgpt`."""
        value = self.chunk[2][0]
        if isinstance(value, bytes):
            return value
        return bytes((value.value or b"") if hasattr(value, "offset") else value.record)

    @property
    def reason(self) -> str | None:
        """Why it is ignored or rejected; None for all others."""
        return self.parsed.reason if isinstance(self.parsed, Ignored | Reject) else None

    @property
    def channel(self) -> str | None:
        """Where; None if it has no channel."""
        return None if isinstance(self.parsed, Heartbeat) else self.parsed.channel

    @property
    def at(self) -> int | None:
        """When, microseconds since 1970; None if that isn't known."""
        if isinstance(self.parsed, Event):
            return None if self.parsed.untimed else self.parsed.t
        return self.parsed.at if isinstance(self.parsed, Heartbeat) else self.parsed.t if isinstance(self.parsed, Ignored) else None

    @property
    def user(self) -> str | None:
        """Who posted or reacted."""
        return (self.parsed.user or None) if isinstance(self.parsed, Event) else None

    @property
    def message(self) -> int | None:
        """The message that it is about: the time at which that was posted, microseconds since 1970."""
        return self.parsed.ts if isinstance(self.parsed, Event) and self.parsed.kind != MOVE else None

    @property
    def thread(self) -> int | None:
        """The message in whose thread a post is a reply; None for others."""
        return self.parsed.thread_ts if isinstance(self.parsed, Event) else None

    @property
    def text(self) -> str | None:
        """What a post or an edit says, with Slack's markup; None if that isn't known."""
        return self.parsed.text if isinstance(self.parsed, Event) and self.parsed.kind in (POST, EDIT) else None

    @property
    def reaction(self) -> str | None:
        """A reaction's name."""
        return (self.parsed.reaction or None) if isinstance(self.parsed, Event) else None


GivenEvent = ChatEvent | bytes | Mapping[str, Any]
"""An event, or a record of Slack's Events API as bytes or parsed."""


def event_of(given: GivenEvent, number: int) -> ChatEvent:
    """An event as a ChatEvent. `number`: among those that were given, for messages. Raises BadCommand if it is none."""
    if isinstance(given, ChatEvent):
        return given
    if not isinstance(given, bytes | Mapping):
        raise BadCommand(f"event {number:,}: {given!r} is no event: give ChatEvents, or records of Slack's Events API, as bytes or parsed")
    return ChatEvent.from_record(given)


def _escaped(text: str) -> str:
    """Text as Slack writes it: these three characters would be markup. Raises BadCommand."""
    if not isinstance(text, str):
        raise BadCommand(f"{text!r} is no text: give what the message says as a str")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
