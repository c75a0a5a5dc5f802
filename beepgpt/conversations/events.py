"""Parsing: a record is an event, ignored, rejected, or a heartbeat (docs/semantics.md, "Records")."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import orjson

from beepgpt.conversations.rules import Bots, Edits
from beepgpt.conversations.speech import FILE_COMMENT, author_of, speech_of
from beepgpt.lenient_json import decode_json

if TYPE_CHECKING:
    from beepgpt.conversations.forgetting import Forgotten

POST, EDIT, DELETE, REACT, MOVE = 0, 1, 2, 3, 4
"""Kinds of event, in the order in which they are applied at one time."""

MAX_RECORD_BYTES = 1 << 20
ONE_DAY = 86_400_000_000
MISDATED = 0
"""The time at which a record was received, for `parse`, if the log's timestamp can't be one."""
_EARLIEST, _LATEST = 1_262_304_000_000_000, 4_102_444_800_000_000
"""2010 to 2100, microseconds: no Slack record was written outside."""
MOVED = "channel_id_changed"
"""Type of the event that gives a channel another id: it stands under the old one."""
BY_PERSON = "by_person"
"""Field of a record, beside its inner event: `true` says that the `user` of a post through an app is a person, and no bot."""
POSTED_SUBTYPES = frozenset({"thread_broadcast", "me_message", "file_share", FILE_COMMENT})
BOT_SUBTYPES = frozenset({"bot_message", "slackbot_response"})

_SUBTYPE = re.compile(r"[a-z0-9_]{1,40}")
_CHANNELS = re.compile(rb'"channel"\s*:\s*"([^"]*)"')
_TS = re.compile(r"([0-9]{9,10})(?:\.([0-9]{1,6}))?")


class Event(NamedTuple):
    """A post, an edit, a deletion, a reaction, or a channel's move to another id.

    The first eight fields are the order of application (docs/semantics.md, "Order"): tuples compare by them.
    """

    t: int
    """Event time, microseconds since 1970."""
    kind: int
    ts: int
    """The message it is about: channel and ts identify a message. Of a move: `t`."""
    user: str
    """Author of a post, or who reacted; empty for edits and deletions, which anybody may make, and for reactions of people unnamed."""
    reaction: str
    removed: bool
    bot: bool
    """Whether a bot posted it. Of duplicates the one that is known to be a person's comes first."""
    record: bytes
    channel: str
    text: str | None
    """None: unknown (an export keeps an edited message's last text only). Of a move: the channel's new id."""
    thread_ts: int | None
    """The root that a reply belongs to; None for a root."""
    event_id: str
    untimed: bool
    """A reaction whose time is unknown; `t` is then its message's `ts`."""


class Ignored(NamedTuple):
    """A record that examples don't use. If it has a channel and a time, it still moves the channel's clock."""

    reason: str
    record: bytes
    channel: str | None
    t: int | None


class Reject(NamedTuple):
    """A record that can't be used: it goes to the dead letters."""

    reason: str
    record: bytes
    channel: str | None = None
    """The channel it names, if it could be read so far."""


class Heartbeat(NamedTuple):
    """A promise: everything that happened before `at` has been written to this partition."""

    at: int


Parsed = Event | Ignored | Reject | Heartbeat


class _Bad(Exception):
    """Ends the parsing of one record; its message is the reject's reason."""


def kept_json(value: object) -> bytes:
    """An object, which may have columns of NumPy, as JSON that is kept for a while, in no more memory than it needs.

    What orjson gives stands in the buffer that it was written to; where many are kept, the rest of each buffer is lost to all others.

    >>> kept_json({"ts": "1.000000"})
    b'{"ts":"1.000000"}'
    """
    return bytes(memoryview(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)))


def micros(ts: str) -> int:
    """Slack's `ts` as integer microseconds; a float would lose its last digit.

    >>> micros("1690360253.041239")
    1690360253041239

    Raises ValueError for anything but 9 or 10 digits, a point and up to 6 digits.
    """
    if len(ts) == 17 and ts[10] == ".":  # as nearly all are; the pattern takes twice the time
        digits = ts[:10] + ts[11:]
        if digits.isascii() and digits.isdigit():
            return int(digits)
    match = _TS.fullmatch(ts)
    if match is None:
        raise ValueError(f"not a Slack timestamp: {ts[:40]!r}")
    seconds, fraction = match.groups()
    return int(seconds) * 1_000_000 + (int(fraction.ljust(6, "0")) if fraction else 0)


@lru_cache(maxsize=1 << 14)
def one_object(name: str) -> str:
    """Intern a name, so that equal names share one object: conversations, windows and features keep people's names."""
    return name


@lru_cache(maxsize=8192)  # a window's times are written again with the next ones
def ts_text(t: int) -> str:
    """Microseconds as Slack writes them.

    >>> ts_text(1690360253041239)
    '1690360253.041239'
    """
    return f"{t // 1_000_000}.{t % 1_000_000:06d}"


@overload
def parse(
    record: bytes, now: int, *, bots: Bots = ..., edits: Edits = ..., wanted: None = None, forgotten: Forgotten | None = None
) -> Parsed: ...


@overload
def parse(
    record: bytes,
    now: int,
    *,
    bots: Bots = ...,
    edits: Edits = ...,
    wanted: Callable[[bytes], bool] | None,
    forgotten: Forgotten | None = None,
) -> Parsed | None: ...


def parse(
    record: bytes,
    now: int,
    *,
    bots: Bots = "ignore",
    edits: Edits = "known",
    wanted: Callable[[bytes], bool] | None = None,
    forgotten: Forgotten | None = None,
) -> Parsed | None:
    """Parse one record, whatever its bytes are. Never raises: what can't be used is a `Reject`.

    `now`: when our side received the record, microseconds; its own `received_at` is preferred. A record that claims to be from more than
    a day later is rejected, since it would move a channel's clock for good.

    `wanted`: whether the caller wants records of a channel (UTF-8). For one that isn't wanted the result is None, and it costs a fraction:
    a record is not even decoded if nothing in it could be a wanted channel.

    `forgotten`: a record of what is forgotten is ignored (`forgotten`) as if it weren't there: it doesn't move its channel's clock, and its
    bytes go nowhere. Of others, the parts that are forgotten are taken out first.

    >>> parse(b'{"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1690360253.041239"}', now=1690360254000000).text
    'hi'
    >>> parse(b'{"type": "message"', now=0).reason
    'not_json'
    """
    if len(record) > MAX_RECORD_BYTES:
        return Reject("too_large", record) if forgotten is None or not forgotten.in_bytes(record) else _left_out(record)
    if wanted is not None and (names := channels_in(record)) and not any(map(wanted, names)):
        return None
    try:
        body = decode_json(record)
    except orjson.JSONDecodeError:
        return Reject("not_json", record) if forgotten is None or not forgotten.in_bytes(record) else _left_out(record)
    if wanted is not None and (channel := _named(body)) is not None and not wanted(channel.encode()):
        return None
    if forgotten is not None and type(body) is dict:
        kept = forgotten.without(body)
        if kept is None:
            return Ignored("forgotten", b"", _named(body), None)
        if kept is not body:
            body, record = kept, kept_json(kept)
    try:
        return _parsed(body, record, now, bots == "context", edits == "final")
    except _Bad as bad:
        is_misdated = now == MISDATED and str(bad) == "future"
        return Reject("bad_record_time" if is_misdated else str(bad), record, _named(body))


def _left_out(record: bytes) -> Ignored:
    """What can't be decoded and names what is forgotten; its channel is the one by which it would have been counted."""
    names = channels_in(record)
    return Ignored("forgotten", b"", names[0].decode("utf-8", "replace") if names else None, None)


def strip_previous(event: dict[str, Any]) -> bool:
    """Take out of an inner event what its message said before: its `ts` stays, and `unchanged` where the text is the same. In place.

    Returns whether anything was taken out. A log needs no text a second time, least of all with the message's deletion.

    >>> event = {"subtype": "message_deleted", "deleted_ts": "1.0", "previous_message": {"ts": "1.0", "text": "secret"}}
    >>> strip_previous(event), event["previous_message"], strip_previous(event)
    (True, {'ts': '1.0'}, False)
    """
    previous = event.get("previous_message")
    if previous is None:
        return False
    kept: dict[str, Any] | None = None
    if type(previous) is dict:
        kept = {"ts": previous["ts"]} if "ts" in previous else {}
        if _is_unchanged(previous, event.get("message")):
            kept["unchanged"] = True
    event["previous_message"] = kept
    return bool(kept != previous)


def _is_unchanged(previous: dict[str, Any], message: Any) -> bool:
    """Whether a change left what is said as it was: by the words, or by the mark of a log that no longer has them."""
    if "text" in previous:
        return type(message) is dict and bool(speech_of(previous) == speech_of(message))
    return previous.get("unchanged") is True


def log_time(written: int, now: int) -> int:
    """When a log received a record, for `parse`; `written`: the log's timestamp, microseconds, 0 or less where it has none.

    A timestamp of another unit (seconds for Kafka's milliseconds, say) would make all events look as if they came from the future, or
    none. It is `MISDATED`: the record is rejected with a reason of its own, unless its `received_at` says when it was received.

    >>> record = b'{"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1716200000.000100"}'
    >>> parse(record, log_time(1716200000 * 1000, now=0)).reason, parse(record, log_time(1716200000000 * 1000, now=0)).text
    ('bad_record_time', 'hi')
    """
    if written <= 0:
        return now
    return written if _EARLIEST <= written < _LATEST else MISDATED


def channels_in(record: bytes) -> list[bytes]:
    """All names that could be a record's channel, found without decoding it; empty if it has to be decoded, or may be a heartbeat.

    >>> channels_in(b'{"type": "message", "channel": "C1", "previous_message": {"channel": "C2"}}')
    [b'C1', b'C2']
    """
    names: list[bytes] = _CHANNELS.findall(record)
    if b'"heartbeat"' in record or (b"\\" in record and (b"\\u00" in record or b"\\" in b"".join(names))):
        return []  # a character may be written as an escape, in a key, too
    return names


def _named(body: Any) -> str | None:
    """The channel that a decoded record names: the one of the Event, Ignored or Reject made of it."""
    kind = body.get("type") if type(body) is dict else "heartbeat"
    if kind == "heartbeat":
        return None
    if kind == "event_callback":
        body = body.get("event")
        kind = body.get("type") if type(body) is dict else None
    if kind in ("reaction_added", "reaction_removed"):
        body = body.get("item")
    channel = body.get("old_channel_id" if kind == MOVED else "channel") if type(body) is dict else None
    return channel if type(channel) is str and channel else None


def _parsed(body: Any, record: bytes, now: int, keep_bots: bool, trust_final: bool) -> Parsed:
    if type(body) is not dict:
        raise _Bad("not_an_object")
    received_at = body.get("received_at")
    latest = (now if received_at is None else _time(received_at, "bad_received_at")) + ONE_DAY
    kind = body.get("type")
    event_id, whole = "", body
    if kind == "heartbeat":
        return Heartbeat(_time(body.get("at"), "bad_ts", latest))
    if kind == "event_callback":
        event_id = _text(body.get("event_id") or "", "bad_event_id")
        body = body.get("event")
        if type(body) is not dict:
            raise _Bad("bad_event")
        kind = body.get("type")
    if type(kind) is not str or not kind:
        raise _Bad("bad_type")
    if kind == "message":
        if body.get("subtype") in ("message_changed", "message_deleted") and strip_previous(body):
            record = _written(whole)
        return _message(body, record, latest, event_id, whole.get(BY_PERSON) is True, keep_bots, trust_final)
    if kind in ("reaction_added", "reaction_removed"):
        return _reaction(body, record, latest, event_id, kind == "reaction_removed")
    if kind == MOVED:
        return _moved(body, record, latest, event_id)
    return _ignored_other(body, record, latest, body.get("channel"), "other_event")


def names_another_user(message: dict[str, Any]) -> bool:
    """Whether a post through an app says by itself that its `user` is a person: the app's own user is another one.

    >>> names_another_user({"user": "U0BO", "bot_id": "B1", "bot_profile": {"id": "B1", "user_id": "U0VOICE"}})
    True
    """
    profile, user = message.get("bot_profile"), message.get("user")
    own = profile.get("user_id") if type(profile) is dict else None
    return type(own) is str and own != "" and type(user) is str and user not in ("", own)


def asked_about(message: dict[str, Any]) -> str | None:
    """The user of a post through an app, of whom Slack has to be asked whether it is a person; None: that is plain.

    >>> asked_about({"type": "message", "user": "U0BO", "bot_id": "B1"})
    'U0BO'
    """
    user, subtype = message.get("user"), message.get("subtype")
    is_post = message.get("type", "message") == "message" and (subtype is None or subtype in POSTED_SUBTYPES)
    if not is_post or not message.get("bot_id") or type(user) is not str or user in ("", "USLACKBOT") or names_another_user(message):
        return None
    return user


def _message(
    body: dict[str, Any], record: bytes, latest: int, event_id: str, by_person: bool, keep_bots: bool, trust_final: bool
) -> Parsed:
    channel = _channel(body.get("channel"))
    subtype = body.get("subtype")
    if subtype is not None and type(subtype) is not str:
        raise _Bad("bad_subtype")
    if subtype == "message_changed":
        return _changed(body, record, channel, latest, event_id)
    if subtype == "message_deleted":
        t = _time(body.get("event_ts") or body.get("ts"), "bad_ts", latest)
        ts = _time(body.get("deleted_ts") or _inner(body.get("previous_message")).get("ts"), "bad_ts", latest)
        return Event(t, DELETE, ts, "", "", False, False, record, channel, None, None, event_id, False)

    t = _time(body.get("ts"), "bad_ts", latest)
    user = one_object(_text(author_of(body) or "", "bad_user"))
    bot_id = _text(body.get("bot_id") or "", "bad_user")
    is_app = bot_id != "" and not ((by_person and user) or names_another_user(body))
    bot = subtype in BOT_SUBTYPES or is_app or user == "USLACKBOT"
    if subtype and subtype not in POSTED_SUBTYPES and subtype not in BOT_SUBTYPES:
        # A foreign record may hold anything here: what is no plain name must not make reasons without end, or reveal what was written.
        return Ignored(f"subtype:{subtype if _SUBTYPE.fullmatch(subtype) else 'other'}", record, channel, t)
    if bot and not keep_bots:
        return Ignored("bot", record, channel, t)
    if bot:
        user = user or bot_id or "bot"
    elif not user:
        return Ignored("no_author", record, channel, t)
    text = speech_of(body)
    if text is not None and type(text) is not str:
        raise _Bad("bad_text")
    if body.get("edited") and not trust_final:
        text = None
    thread_ts = body.get("thread_ts")
    root = None if thread_ts is None else _time(thread_ts, "bad_thread_ts")
    if root is not None and root >= t:
        if root > t:
            raise _Bad("thread_after_reply")
        root = None  # Slack writes a root's own ts here, but only once somebody has replied: reading it would be a leak
    return Event(t, POST, t, user, "", False, bot, record, channel, text, root, event_id, False)


def _changed(body: dict[str, Any], record: bytes, channel: str, latest: int, event_id: str) -> Parsed:
    t = _time(body.get("event_ts") or body.get("ts"), "bad_ts", latest)
    message = _inner(body.get("message"))
    ts = _time(message.get("ts"), "bad_ts", latest)
    if message.get("subtype") == "tombstone":
        return Event(t, DELETE, ts, "", "", False, False, record, channel, None, None, event_id, False)
    text = speech_of(message)
    if text is not None and type(text) is not str:
        raise _Bad("bad_text")
    previous = body.get("previous_message")
    if type(previous) is dict and _is_unchanged(previous, message):
        return Ignored("unchanged", record, channel, t)
    return Event(t, EDIT, ts, "", "", False, False, record, channel, text, None, event_id, False)


def _reaction(body: dict[str, Any], record: bytes, latest: int, event_id: str, removed: bool) -> Parsed:
    item = _inner(body.get("item"))
    if item.get("type", "message") != "message":
        return _ignored_other(body, record, latest, item.get("channel"), "not_a_message")
    channel = _channel(item.get("channel"))
    ts = _time(item.get("ts"), "bad_ts", latest)
    event_ts = body.get("event_ts")
    t = ts if event_ts is None else _time(event_ts, "bad_ts", latest)
    user = one_object(_text(body.get("user") or "", "bad_user"))
    name = _text(body.get("reaction") or "", "bad_reaction")
    if not user and event_ts is None and type(body.get("unnamed")) is int:
        return Event(t, REACT, ts, "", name, removed, False, record, channel, None, None, event_id, True)
    if not user:
        return Ignored("no_author", record, channel, t)
    if user == "USLACKBOT":
        return Ignored("bot", record, channel, t)
    return Event(t, REACT, ts, user, name, removed, False, record, channel, None, None, event_id, event_ts is None)


def _moved(body: dict[str, Any], record: bytes, latest: int, event_id: str) -> Event:
    channel, new = _channel(body.get("old_channel_id")), _channel(body.get("new_channel_id"))
    t = _time(body.get("event_ts"), "bad_ts", latest)
    return Event(t, MOVE, t, "", "", False, False, record, channel, new, None, event_id, False)


def _ignored_other(body: dict[str, Any], record: bytes, latest: int, channel: Any, reason: str) -> Ignored:
    """Ignore another kind of event; if it has a valid channel and time, it still moves the channel's clock."""
    named = channel if type(channel) is str and channel else None
    try:
        t = _time(body.get("event_ts") or body.get("ts"), "bad_ts", latest)
    except _Bad as bad:
        if str(bad) == "future":
            raise
        return Ignored(reason, record, named, None)
    return Ignored(reason, record, named, t)


def _channel(value: Any) -> str:
    if value is None or value == "":
        raise _Bad("no_channel")
    return _text(value, "bad_channel")


def _written(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:  # deeper than can be written
        raise _Bad("bad_event") from None


def _inner(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise _Bad("bad_event")
    return value


def _text(value: Any, reason: str) -> str:
    if type(value) is not str:
        raise _Bad(reason)
    return value


def _time(value: Any, reason: str, latest: int | None = None) -> int:
    if value is None and reason == "bad_ts":
        raise _Bad("no_ts")
    if type(value) is not str:
        raise _Bad(reason)
    try:
        t = micros(value)
    except ValueError:
        raise _Bad(reason) from None
    if latest is not None and t > latest:
        raise _Bad("future")
    return t
