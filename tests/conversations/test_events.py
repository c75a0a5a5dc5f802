"""Records in: docs/semantics.md, "Records", point by point, and whatever the bytes, an event or a reject, never an exception."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.conversations.events import (
    DELETE,
    EDIT,
    ONE_DAY,
    POST,
    REACT,
    Event,
    Heartbeat,
    Ignored,
    Parsed,
    Reject,
    micros,
    parse,
    ts_text,
)
from beepgpt.conversations.record_order import timed_record
from beepgpt.conversations.shard import SHARDS, shard_of_bytes, shard_of_parsed
from beepgpt.ingest.feeds import sort_row
from beepgpt.simulation.workspace import BROKEN_KINDS, broken_record
from tests.support import oracle_records

T = 1_690_360_253_041_239
NOW = T + 1_000_000
TS = "1690360253.041239"
EARLIER = "1690360240.229079"

MESSAGE = {"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": TS}
CHANGED = {
    "type": "message", "subtype": "message_changed", "channel": "C1", "ts": TS, "event_ts": TS,
    "message": {"type": "message", "user": "U1", "text": "new", "ts": EARLIER},
    "previous_message": {"type": "message", "user": "U1", "text": "old", "ts": EARLIER},
}  # fmt: skip
DELETED = {"type": "message", "subtype": "message_deleted", "channel": "C1", "ts": TS, "event_ts": TS, "deleted_ts": EARLIER}
ITEM = {"type": "message", "channel": "C1", "ts": EARLIER}
REACTION = {"type": "reaction_added", "user": "U2", "reaction": "eyes", "item": ITEM, "event_ts": TS}
HEARTBEAT = {"type": "heartbeat", "at": TS}
CALLBACK = {"type": "event_callback", "event_id": "Ev1", "team_id": "T1", "received_at": TS, "event": MESSAGE}


def parsed(record: Any, **how: Any) -> Parsed:
    """What some JSON becomes."""
    found: Parsed = parse(json.dumps(record).encode(), NOW, **how)
    return found


def event(record: Any, **how: Any) -> Event:
    """The event that some JSON becomes."""
    found = parsed(record, **how)
    assert isinstance(found, Event), found
    return found


def reason(record: Any, **how: Any) -> str:
    """Why some JSON becomes none: `ignored` or `rejected`, and the reason."""
    found = parsed(record, **how)
    assert isinstance(found, Ignored | Reject), found
    return f"{'rejected' if isinstance(found, Reject) else 'ignored'}: {found.reason}"


# The table


@pytest.mark.parametrize("subtype", [None, "thread_broadcast", "me_message", "file_share"])
def test_people_post(subtype: str | None):
    """A message without subtype, a broadcast, a /me and a file are posts, at their `ts` to the microsecond."""
    found = event(MESSAGE | ({} if subtype is None else {"subtype": subtype}))

    assert (found.kind, found.t, found.ts, found.user, found.text, found.channel) == (POST, T, T, "U1", "hi", "C1")
    assert ts_text(found.t) == TS


def test_an_edit_happens_at_the_outer_time():
    """A changed text is an edit of the inner message, at the outer `event_ts`: not at its post's time."""
    found = event(CHANGED | {"ts": "1690360299.000000"})

    assert (found.kind, ts_text(found.t), ts_text(found.ts), found.text) == (EDIT, TS, EARLIER, "new")


def test_an_unfurl_is_no_edit():
    """The same text again is ignored; where nobody says what the text was, it is an edit."""
    same = CHANGED | {"previous_message": CHANGED["message"]}

    assert reason(same) == "ignored: unchanged"
    assert event({name: value for name, value in same.items() if name != "previous_message"}).kind == EDIT


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_message_said_before_is_kept_nowhere(wrapped: bool):
    """Not by an edit, an unfurl, a tombstone or a deletion; that the text is the same is still known; a second time nothing changes."""
    before = {"type": "message", "user": "U1", "text": "a secret", "ts": EARLIER, "blocks": [{"text": "a secret"}]}
    same = CHANGED | {"message": before | {"text": "open", "blocks": []}, "previous_message": before | {"text": "open"}}
    tombstone = CHANGED | {"message": {"subtype": "tombstone", "ts": EARLIER, "text": "gone"}, "previous_message": before}
    nameless = {name: value for name, value in DELETED.items() if name != "deleted_ts"} | {"previous_message": before}
    for record in (CHANGED | {"previous_message": before}, same, tombstone, DELETED | {"previous_message": before}, nameless):
        found = parsed(CALLBACK | {"event": record} if wrapped else record)
        assert isinstance(found, Event | Ignored) and b"a secret" not in found.record
        whole = json.dumps(CALLBACK | {"event": record} if wrapped else record).encode()
        assert timed_record(whole, "a file").record == sort_row(whole, "a topic", found, NOW)[2] == found.record, "as it is ingested"
        assert parse(found.record, NOW) == found
    assert parsed(same) == Ignored("unchanged", parsed(same).record, "C1", T)  # type: ignore[union-attr]
    assert event(DELETED).record == json.dumps(DELETED).encode(), "what holds no text is as it came"


def test_a_tombstone_is_a_deletion():
    """A deleted root with replies arrives as a change to a tombstone, any other as `message_deleted`."""
    tombstone = CHANGED | {"message": {"type": "message", "subtype": "tombstone", "ts": EARLIER, "text": "This message was deleted."}}

    for record in (tombstone, DELETED):
        found = event(record)
        assert (found.kind, ts_text(found.t), ts_text(found.ts)) == (DELETE, TS, EARLIER)


def test_a_reaction_happens_at_its_own_time():
    """Added or removed, by whom, to which message; without a time of its own it is untimed."""
    added, removed = event(REACTION), event(REACTION | {"type": "reaction_removed"})
    untimed = event({name: value for name, value in REACTION.items() if name != "event_ts"})

    assert (added.kind, ts_text(added.t), ts_text(added.ts), added.user, added.reaction) == (REACT, TS, EARLIER, "U2", "eyes")
    assert (added.removed, removed.removed) == (False, True)
    assert (added.untimed, untimed.untimed, ts_text(untimed.t)) == (False, True, EARLIER)


@pytest.mark.parametrize("bot", [{"subtype": "bot_message"}, {"bot_id": "B1"}, {"user": "USLACKBOT"}, {"subtype": "slackbot_response"}])
def test_bots_are_ignored_or_context(bot: dict[str, str]):
    """Whatever marks a bot: ignored with the reason, or a post that says it is a bot's."""
    assert reason(MESSAGE | bot) == "ignored: bot"
    assert event(MESSAGE | bot, bots="context").bot


def test_a_bot_is_named_by_its_user_else_its_id():
    """A bot without either is called `bot`."""
    nameless = {"type": "message", "subtype": "bot_message", "channel": "C1", "text": "hi", "ts": TS}

    assert event(nameless | {"user": "U9", "bot_id": "B1"}, bots="context").user == "U9"
    assert event(nameless | {"bot_id": "B1"}, bots="context").user == "B1"
    assert event(nameless, bots="context").user == "bot"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (MESSAGE | {"subtype": "channel_join"}, "ignored: subtype:channel_join"),
        (MESSAGE | {"subtype": "channel_topic"}, "ignored: subtype:channel_topic"),
        (MESSAGE | {"subtype": "please call Ana"}, "ignored: subtype:other"),
        (MESSAGE | {"subtype": "x" * 41}, "ignored: subtype:other"),
        (MESSAGE | {"user": ""}, "ignored: no_author"),
        (MESSAGE | {"user": None}, "ignored: no_author"),
        (REACTION | {"item": {"type": "file", "file": "F1"}}, "ignored: not_a_message"),
        (REACTION | {"user": ""}, "ignored: no_author"),
        (REACTION | {"user": "USLACKBOT"}, "ignored: bot"),
        ({"type": "pin_added", "channel": "C1", "event_ts": TS}, "ignored: other_event"),
    ],
)
def test_what_is_of_no_use_is_ignored_with_its_reason(record: dict[str, Any], why: str):
    """Joins, topics, messages without an author, reactions to files, other events."""
    assert reason(record) == why


def test_what_is_ignored_still_tells_the_time():
    """An ignored record with a channel and a time moves its channel's clock; a reaction to a file has no channel."""
    found = parsed(MESSAGE | {"subtype": "channel_join"})
    of_file = parsed(REACTION | {"item": {"type": "file", "file": "F1"}})

    assert isinstance(found, Ignored) and (found.channel, found.t) == ("C1", T)
    assert isinstance(of_file, Ignored) and of_file.channel is None


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ([MESSAGE], "rejected: not_an_object"),
        ({name: value for name, value in MESSAGE.items() if name != "channel"}, "rejected: no_channel"),
        (MESSAGE | {"channel": ""}, "rejected: no_channel"),
        (MESSAGE | {"channel": 7}, "rejected: bad_channel"),
        ({name: value for name, value in MESSAGE.items() if name != "ts"}, "rejected: no_ts"),
        (MESSAGE | {"ts": 1690360253.041239}, "rejected: bad_ts"),
        (MESSAGE | {"ts": "12345678.0"}, "rejected: bad_ts"),
        (MESSAGE | {"ts": "1690360253.0412391"}, "rejected: bad_ts"),
        (MESSAGE | {"ts": "1690360253.041239\n"}, "rejected: bad_ts"),
        (MESSAGE | {"ts": "１690360253.041239"}, "rejected: bad_ts"),
        (MESSAGE | {"user": ["U1"]}, "rejected: bad_user"),
        (MESSAGE | {"text": 7}, "rejected: bad_text"),
        (MESSAGE | {"thread_ts": "yesterday"}, "rejected: bad_thread_ts"),
        (MESSAGE | {"thread_ts": "1690360253.041240"}, "rejected: thread_after_reply"),
        (MESSAGE | {"type": 7}, "rejected: bad_type"),
        (CALLBACK | {"event": None}, "rejected: bad_event"),
        (CHANGED | {"message": None}, "rejected: bad_event"),
        (REACTION | {"item": "C1"}, "rejected: bad_event"),
        (HEARTBEAT | {"at": None}, "rejected: no_ts"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_its_reason(record: Any, why: str):
    """Wrong types, missing names, times that are no times: never a guess."""
    assert reason(record) == why


def test_a_reject_keeps_the_bytes():
    """The dead letters get what came, as it came; so do records over 1 MiB."""
    for record in (b"{not json", b"\xff\xfe", b'{"type": "message"}' + b" " * (1 << 20)):
        found = parse(record, NOW)
        assert isinstance(found, Reject) and found.record == record


def test_the_future_is_rejected():
    """A day after the record was seen is the limit, for each kind; the envelope's own `received_at` is preferred."""
    limit, beyond = ts_text(NOW + ONE_DAY), ts_text(NOW + ONE_DAY + 1)
    early = {"received_at": ts_text(T - ONE_DAY - 1)}

    assert event(MESSAGE | {"ts": limit}).t == NOW + ONE_DAY
    assert reason(MESSAGE | {"ts": beyond}) == "rejected: future"
    for record in (CHANGED, DELETED, REACTION):
        assert reason(record | {"event_ts": beyond}) == "rejected: future"
    assert reason(HEARTBEAT | {"at": beyond}) == "rejected: future"
    assert reason({"type": "pin_added", "channel": "C1", "event_ts": beyond}) == "rejected: future"
    assert reason(CALLBACK | early) == "rejected: future"
    assert event(CALLBACK | {"received_at": beyond, "event": MESSAGE | {"ts": beyond}}).t == NOW + ONE_DAY + 1


def test_a_root_has_no_thread_field():
    """`thread_ts` on a root exists only once somebody has replied: read as none. A reply keeps its own."""
    assert event(MESSAGE | {"thread_ts": TS}) == event(MESSAGE)._replace(record=json.dumps(MESSAGE | {"thread_ts": TS}).encode())
    assert ts_text(event(MESSAGE | {"thread_ts": EARLIER}).thread_ts or 0) == EARLIER


FROM_THE_FUTURE = {
    "thread_ts": TS, "reply_count": 3, "reply_users": ["U2"], "reply_users_count": 1, "latest_reply": "1690400587.318779",
    "replies": [{"user": "U2", "ts": "1690400587.318779"}], "subscribed": True, "root": {"text": "later"}, "reactions": [{"users": ["U2"]}],
}  # fmt: skip


def test_what_an_export_knows_too_late_is_not_read():
    """Reply counts, repliers, the root's copy: with them or without, the same event."""
    assert event(MESSAGE | FROM_THE_FUTURE)._replace(record=b"") == event(MESSAGE)._replace(record=b"")


def test_an_edited_post_has_unknown_text():
    """Its text is the last version, so it is not known yet; `edits = "final"` trusts it. Null is unknown, missing is empty."""
    edited = MESSAGE | {"edited": {"user": "U1", "ts": "1690360300.000000"}}

    assert event(edited).text is None
    assert event(CALLBACK | {"event": edited}).text is None
    assert event(edited, edits="final").text == "hi"
    assert event(MESSAGE | {"text": None}).text is None
    assert event({name: value for name, value in MESSAGE.items() if name != "text"}).text == ""


def test_an_envelope_adds_its_id():
    """The callback as Slack sends it and the bare inner event are the same, but for the id."""
    assert event(CALLBACK)._replace(record=b"", event_id="") == event(MESSAGE)._replace(record=b"")
    assert event(CALLBACK).event_id == "Ev1"


@given(st.integers(100_000_000, 9_999_999_999), st.integers(0, 999_999))
def test_times_are_exact(seconds: int, fraction: int):
    """Every time that Slack can write is read to the microsecond, and written as it was; a float would not do."""
    text = f"{seconds}.{fraction:06d}"

    assert micros(text) == seconds * 1_000_000 + fraction
    assert ts_text(micros(text)) == text
    assert micros(text.rstrip("0").rstrip(".")) == micros(text) if fraction else micros(str(seconds)) == micros(text)


def test_a_heartbeat_is_a_time():
    """All that happened before it is in its partition."""
    assert parsed(HEARTBEAT) == Heartbeat(T)


# Whatever the bytes


def assert_one_of_four(record: bytes):
    """Parsed without an exception, as exactly one of the four, and what is kept of it is what came, or what was kept before."""
    for bots in ("ignore", "context"):
        for edits in ("known", "final"):
            found = parse(record, NOW, bots=bots, edits=edits)
            assert sum(isinstance(found, kind) for kind in (Event, Ignored, Reject, Heartbeat)) == 1
            if not isinstance(found, Heartbeat) and found.record != record:  # less what a message said before
                assert b"previous_message" in record and parse(found.record, NOW, bots=bots, edits=edits) == found
            if isinstance(found, Event):
                assert (type(found.t), type(found.ts), type(found.user), type(found.channel)) == (int, int, str, str)
                assert found.text is None or type(found.text) is str
                assert found.channel and found.t <= NOW + 2 * ONE_DAY
    assert_has_one_home(record, parse(record, NOW))


def test_what_is_nested_too_deep_to_be_written_again_is_rejected():
    """Where a text before would have to be taken out: 300 lists in each other."""
    record = json.dumps(CHANGED)[:-1].encode() + b', "x": ' + b"[" * 300 + b"]" * 300 + b"}"
    assert parse(record, NOW) == Reject("bad_event", record, "C1")


@given(st.binary(max_size=200))
def test_any_bytes(record: bytes):
    """Bytes of any kind."""
    assert_one_of_four(record)


def is_of(shards: Collection[str | None], channel: bytes) -> bool:
    return shard_of_bytes(channel) in shards


def assert_has_one_home(record: bytes, found: Parsed):
    """Of processes that share the shards, exactly one counts a record, however little of it the others looked at; all see a heartbeat."""
    home = None if isinstance(found, Heartbeat) else shard_of_parsed(found)
    for some in ({SHARDS[0]}, {home}, set(SHARDS) - {home}, set(SHARDS[::2]), set(SHARDS[1::2])):
        got = parse(record, NOW, wanted=partial(is_of, some))
        if home is None or home in some:
            assert got == found
        else:
            assert got is None or shard_of_parsed(got) == home


def test_a_record_that_seems_to_name_a_channel_is_counted_once():
    """Channels where none is expected, written as nobody writes them, or in what is no JSON."""
    for record in (
        b'{"type":"message","\\u0063hannel":"C1","user":"U1","text":"hi","ts":"%s","item":{"channel":"C2"}}' % TS.encode(),
        b'{"type":"message","channel":"\\u0043\\u0031","user":"U1","text":"hi","ts":"%s","item":{"channel":"C2"}}' % TS.encode(),
        b'{"type":"message","channel":"C\\/1","user":"U1","text":"hi","ts":"%s","channel_id":{"channel" : "C2"}}' % TS.encode(),
        b'{"type":"message","channel":"C1","channel":"C2","user":"U1","text":"hi","ts":"%s"}' % TS.encode(),
        b'{"type":"heartbeat","at":"%s","channel":"C1"}' % TS.encode(),
        b'{"type":"heart\\u0062eat","at":"%s","channel":"C1"}' % TS.encode(),
        b'{"type":"team_join","user":{"channel":"C1"},"more":{"channel":"C2"}}',
        b'{"type":"message","channel":"C1","user":["channel"],"ts":"%s"' % TS.encode(),
        b'"channel":"C1\\" "channel":"C2"',
        b'{"channel":"C1","text":"\xff"}',
        b'{"type":"message","channel":null,"item":{"channel":"C1"}}',
    ):
        assert_has_one_home(record, parse(record, NOW))


names = st.sampled_from([*MESSAGE, *CHANGED, *REACTION]) | st.text(max_size=5)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from([TS, EARLIER, "", "message", "C1"])
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=6)


@given(st.sampled_from([MESSAGE, CHANGED, DELETED, REACTION, HEARTBEAT, CALLBACK, CALLBACK | {"event": CHANGED}]), anything, st.data())
def test_anything_in_any_place(record: dict[str, Any], value: Any, data: st.DataObject):
    """A good record with some JSON in place of one of its values, or of one further in, or beside them."""
    body = json.loads(json.dumps(record))
    place = body
    while True:
        name = data.draw(st.sampled_from([*place, "subtype", "bot_id", "thread_ts", "edited", "received_at"]), label="name")
        if not isinstance(place.get(name), dict) or data.draw(st.booleans(), label="here"):
            break
        place = place[name]
    place[name] = value

    assert_one_of_four(json.dumps(body).encode())


@given(st.sampled_from([MESSAGE, CHANGED, REACTION, CALLBACK]), st.data())
def test_a_damaged_record(record: dict[str, Any], data: st.DataObject):
    """A good record with some bytes replaced, or cut short."""
    line = json.dumps(record).encode()
    begin = data.draw(st.integers(0, len(line)), label="from")
    end = data.draw(st.integers(begin, len(line)), label="to")

    assert_one_of_four(line[:begin] + data.draw(st.binary(max_size=6), label="instead") + line[end:])
    assert_one_of_four(line[:begin])


REASONS = {
    "not_json", "not_an_object", "bad_event", "no_channel", "bad_channel", "no_ts", "bad_ts", "future", "bad_user", "bad_text",
    "bad_thread_ts", "bad_type", "too_large",
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN_KINDS)
def test_every_broken_kind_is_rejected(kind: str):
    """The workspace maker's broken records, with a reason that a person can look for."""
    found = parse(broken_record(kind), NOW)

    assert isinstance(found, Reject)
    assert found.reason in REASONS


def test_half_an_emoji_is_a_mark_in_a_record():
    """Slack cuts previews by UTF-16: what stands there is no UTF-8. Both readings say the same."""
    record = rb'{"type":"message","channel":"C1","user":"U1","ts":"1690360253.041239","text":"cut \ud83d, whole \ud83d\ude00"}'
    event, other = parse(record, NOW), oracle_records.parse(record, oracle_records.Rules(), NOW)

    assert isinstance(event, Event) and isinstance(other, oracle_records.Event)
    assert event.text == other.text == "cut \ufffd, whole \U0001f600"
