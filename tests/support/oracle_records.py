"""The second reading's settings, and what a record says. It shares no code with `conversations/`."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from tests.support.oracle_speech import said_by, said_in

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
FAR_FUTURE = 9_999_999_999 * SECOND
NEVER = 10**18
"""Later than every time stamp of ten digits."""
LARGEST_RECORD = 1 << 20


@dataclass(frozen=True)
class Rules:
    """Settings that shape an example; `run` takes any object with these names."""

    workspace: str = "acme"
    spec: str = "b81e00000000"
    target: Literal["next_user", "interacting_users", "reactors"] = "next_user"
    scope: Literal["conversation", "channel"] = "conversation"
    horizon: int | None = DAY
    lateness: int = 5 * SECOND
    session_gap: int = 10 * MINUTE
    window: int = 5
    thread_ttl: int = 30 * DAY
    kept_roots: int = 500
    max_prompt_tokens: int = 2000
    encoding: str = "o200k_base"
    edits: Literal["known", "final"] = "known"
    bots: Literal["ignore", "context"] = "ignore"
    kept_people: int = 2000
    max_candidates: int = 40
    remember: int = 400 * DAY


# Records


class Kind(IntEnum):
    """Kinds of events, in the order of ties."""

    POST = 0
    EDIT = 1
    DELETE = 2
    REACT = 3
    MOVE = 4


@dataclass(frozen=True)
class Event:
    """One thing that Slack said about the message `ts`."""

    kind: Kind
    channel: str
    t: int
    ts: int
    user: str = ""
    reaction: str = ""
    removed: bool = False
    timed: bool = True
    text: str | None = None
    thread_ts: int | None = None
    """The root that a reply belongs to; `None` on a root."""
    bot: bool = False
    event_id: str | None = None
    line: bytes = b""


@dataclass(frozen=True)
class Ignored:
    """A record that says nothing of conversations; with a channel and a time it still moves the clock."""

    reason: str
    channel: str | None = None
    t: int | None = None


@dataclass(frozen=True)
class Heartbeat:
    """All that happened before `at` has been read."""

    at: int


class Rejected(Exception):
    """A record that can't be used; its argument is the reason."""


POSTED = {None, "thread_broadcast", "me_message", "file_share", "file_comment"}
BOTS = {"bot_message", "slackbot_response"}


def micros(stamp: object, missing: str = "no_ts", bad: str = "bad_ts") -> int:
    """Microseconds of a Slack time stamp.

    >>> micros("1690360253.04")
    1690360253040000
    """
    if stamp is None:
        raise Rejected(missing)
    if not isinstance(stamp, str) or not re.fullmatch(r"[0-9]{9,10}(\.[0-9]{1,6})?", stamp):
        raise Rejected(bad)
    seconds, _, decimals = stamp.partition(".")
    return int(seconds) * SECOND + int(decimals.ljust(6, "0"))


def stamp(t: int) -> str:
    """A time as Slack writes it.

    >>> stamp(1690360253040000)
    '1690360253.040000'
    """
    return f"{t // SECOND}.{t % SECOND:06d}"


def parse(line: bytes, rules: Rules, now: int) -> Event | Ignored | Heartbeat:
    """What a record says, or `Rejected`."""
    if len(line) > LARGEST_RECORD:
        raise Rejected("too_large")
    try:
        record = json.loads(line.decode())
        if "\\ud" in line.decode().lower():  # half of a character is none
            text = json.dumps(record, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            record = json.loads(text)
    except ValueError as error:
        raise Rejected("not_json") from error
    if not isinstance(record, dict):
        raise Rejected("not_an_object")
    if record.get("type") == "heartbeat":
        beat = Heartbeat(micros(record.get("at")))
        if beat.at > now + DAY:
            raise Rejected("future")
        return beat
    bare = record.get("type") != "event_callback"
    inner = record if bare else record.get("event")
    if not isinstance(inner, dict):
        raise Rejected("not_an_object")
    event_id = record.get("event_id")
    if inner.get("subtype") in ("message_changed", "message_deleted") and isinstance(previous := inner.get("previous_message"), dict):
        line = without_the_text_before(line, record, inner, previous)
    found = parse_inner(inner, record.get("by_person") is True, rules, event_id if isinstance(event_id, str) else None, line)
    received = now
    if not bare and record.get("received_at") is not None:
        received = micros(record["received_at"])
    if any(t > received + DAY for t in named(found, inner)):
        raise Rejected("future")
    return found


def named(found: Event | Ignored, inner: dict[str, Any]) -> Iterator[int]:
    """Every time that a record's meaning hangs on: its own, and that of the message it is about."""
    if found.t is not None:
        yield found.t
    if isinstance(found, Event):
        yield found.ts
    elif found.reason == "unchanged":
        yield micros(inner["message"]["ts"])
    elif inner["type"] in ("reaction_added", "reaction_removed") and found.reason != "not_a_message":
        yield micros(inner["item"]["ts"])


def without_the_text_before(line: bytes, record: dict[str, Any], inner: dict[str, Any], previous: dict[str, Any]) -> bytes:
    """A change's or deletion's record without what its message said before; whether that was the same is still said."""
    left = {name: previous[name] for name in ("ts",) if name in previous}
    message = inner.get("message")
    is_same = said_in(previous) == said_in(message) if "text" in previous and message else previous.get("unchanged") is True
    if is_same:
        left["unchanged"] = True
    if left == previous:
        return line
    changed = {name: left if name == "previous_message" else value for name, value in inner.items()}
    whole = changed if inner is record else {name: changed if name == "event" else value for name, value in record.items()}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()


def as_logged(line: bytes) -> bytes:
    """A record as a log keeps it: without what its message said before."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line
    inner = record.get("event", record) if isinstance(record, dict) else None
    if not isinstance(inner, dict) or inner.get("subtype") not in ("message_changed", "message_deleted"):
        return line
    previous = inner.get("previous_message")
    return without_the_text_before(line, record, inner, previous) if isinstance(previous, dict) else line


def parse_inner(inner: dict[str, Any], marked: bool, rules: Rules, event_id: str | None, line: bytes) -> Event | Ignored:
    """An inner event, by its type."""
    if not isinstance(inner.get("type"), str):
        raise Rejected("bad_type")
    if inner["type"] == "message":
        return parse_message(inner, marked, rules, event_id, line)
    if inner["type"] in ("reaction_added", "reaction_removed"):
        return parse_reaction(inner, rules, event_id, line)
    if inner["type"] == "channel_id_changed":
        old, new = (channel_of({"channel": inner.get(name)}) for name in ("old_channel_id", "new_channel_id"))
        at = micros(inner.get("event_ts"))
        return Event(Kind.MOVE, old, at, at, text=new, event_id=event_id, line=line)
    channel, t = inner.get("channel"), inner.get("event_ts", inner.get("ts"))
    try:
        return Ignored("other_event", channel if isinstance(channel, str) else None, micros(t))
    except Rejected:
        return Ignored("other_event")


def channel_of(holder: dict[str, Any]) -> str:
    """The channel's id."""
    if holder.get("channel") in (None, ""):
        raise Rejected("no_channel")
    if not isinstance(holder["channel"], str):
        raise Rejected("bad_channel")
    return holder["channel"]


def text_in(message: dict[str, Any]) -> str | None:
    """What a message says; `None` where it isn't known yet."""
    text = said_in(message)
    if text is not None and not isinstance(text, str):
        raise Rejected("bad_text")
    return text


def parse_message(inner: dict[str, Any], marked: bool, rules: Rules, event_id: str | None, line: bytes) -> Event | Ignored:
    """A message that was posted, edited or deleted."""
    channel, subtype = channel_of(inner), inner.get("subtype")
    if subtype in ("message_changed", "message_deleted"):
        return parse_change(inner, channel, event_id, line)
    ts = micros(inner.get("ts"))
    if subtype not in POSTED | BOTS:
        name = str(subtype)
        is_plain = 1 <= len(name) <= 40 and all(each in "abcdefghijklmnopqrstuvwxyz0123456789_" for each in name)
        return Ignored("subtype:" + (name if is_plain else "other"), channel, ts)
    user = said_by(inner) or ""
    if not isinstance(user, str):
        raise Rejected("bad_user")
    thread_ts = None
    if inner.get("thread_ts") is not None:
        thread_ts = micros(inner["thread_ts"], bad="bad_thread_ts")
        if thread_ts > ts:
            raise Rejected("thread_after_reply")
        if thread_ts == ts:
            thread_ts = None
    text = text_in(inner)
    if inner.get("edited") and rules.edits == "known":
        text = None
    profile = inner.get("bot_profile")
    apps_own = profile.get("user_id") if isinstance(profile, dict) else None
    by_person = user != "" and (
        marked or (isinstance(apps_own, str) and apps_own not in ("", inner.get("user")) and bool(inner.get("user")))
    )
    bot = (bool(inner.get("bot_id")) and not by_person) or subtype in BOTS or user == "USLACKBOT"
    if bot and rules.bots == "ignore":
        return Ignored("bot", channel, ts)
    if bot:
        user = user or inner.get("bot_id") or "bot"
    if not user:
        return Ignored("no_author", channel, ts)
    return Event(Kind.POST, channel, ts, ts, user, text=text, thread_ts=thread_ts, bot=bot, event_id=event_id, line=line)


def parse_change(inner: dict[str, Any], channel: str, event_id: str | None, line: bytes) -> Event | Ignored:
    """A `message_changed` or `message_deleted`, at the outer time."""
    t = micros(inner.get("event_ts") or inner.get("ts"))
    if inner["subtype"] == "message_deleted":
        return Event(Kind.DELETE, channel, t, micros(inner.get("deleted_ts")), event_id=event_id, line=line)
    message, previous = inner.get("message"), inner.get("previous_message")
    if not isinstance(message, dict):
        raise Rejected("bad_type")
    ts, user = micros(message.get("ts")), message.get("user") or ""
    if message.get("subtype") == "tombstone":
        return Event(Kind.DELETE, channel, t, ts, event_id=event_id, line=line)
    text = text_in(message)
    if isinstance(previous, dict) and (text_in(previous) == text if "text" in previous else previous.get("unchanged") is True):
        return Ignored("unchanged", channel, t)
    return Event(Kind.EDIT, channel, t, ts, user, text=text, event_id=event_id, line=line)


def parse_reaction(inner: dict[str, Any], rules: Rules, event_id: str | None, line: bytes) -> Event | Ignored:
    """A reaction that was added or removed."""
    item = inner.get("item")
    if not isinstance(item, dict):
        raise Rejected("bad_type")
    t = None if inner.get("event_ts") is None else micros(inner["event_ts"])
    if item.get("type") != "message":
        channel = item.get("channel")
        return Ignored("not_a_message", channel if isinstance(channel, str) else None, t)
    channel, ts = channel_of(item), micros(item.get("ts"))
    user, name = inner.get("user") or "", inner.get("reaction") or ""
    if not isinstance(user, str):
        raise Rejected("bad_user")
    unnamed = not user and t is None and isinstance(inner.get("unnamed"), int)
    if unnamed and rules.horizon is not None:
        return Ignored("unnamed_reactors")
    if not user and not unnamed:
        return Ignored("no_author", channel, ts if t is None else t)
    if user == "USLACKBOT":
        return Ignored("bot", channel, ts if t is None else t)
    if t is None and rules.horizon is not None:
        return Ignored("untimed")
    return Event(
        Kind.REACT, channel, ts if t is None else t, ts, user, name, removed=inner["type"] == "reaction_removed",
        timed=t is not None, bot=user == "USLACKBOT", event_id=event_id, line=line,
    )  # fmt: skip
