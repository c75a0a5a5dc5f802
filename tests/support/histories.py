"""Random Slack histories, small enough to read and full of ties, limits and duplicates."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.oracle_records import DAY, MINUTE, SECOND, Rules, stamp

START = 1_690_000_000 * SECOND
CHANNELS = ("C1", "C2", "C3")
PEOPLE = ("ana", "bo", "cy", "di", "ed", "flo", "gus")

TEXTS = (
    "hello",
    "why?",
    "/remind me",
    "what is the plan for today",
    "see <https://example.com/a|the docs> now",
    "<https://example.com/a>",
    "<https://example.com/a|https://example.com/a> helps",
    "bare https://example.com/b?c=d link",
    "<@U1> ping <!here> and <#C1|general>",
    "ship it :tada: at 10:30:45 :+1:",
    "std::vector::iterator img:tag:x a:b:c :wave::skin-tone-3: fine:tada: \u306d:pray:\u3002 10:30: :x:y :a::",
    "due <!date^1716200000^{date_short}|20 May> <!date^1^{date}> <!subteam^S01ABC|@oncall>",
    "run ``` x = <@U1>\n\n### ``` please",
    "a &amp; b &lt;c&gt; &amp;lt;",
    "###",
    " ### ",
    "no ### way",
    "two\n\nlines\tand\u00a0more",
    "",
    "  \n ",
    ":tada:",
    "über 🎉 naïve",
    "日本語 の 質問 です",
)
"""Texts on which every reading of the cleaning rules should agree."""

PLAIN = TEXTS[:5]

NAMING = (
    "<@bo> what is the plan?",
    "<@di> what is the plan?",
    "<@cy> and <@UBOT>: hello",
    "why not ask <@di> or <@gus|gus>?",
    "```<@ana>``` <@USLACKBOT> <@UBOT>",
)
"""Texts that name people and bots, who may have posted before, or never, or later."""

ODD_TEXTS = (
    "glued```code```here",
    "an open ``` block",
    "<http://example.com|example.com>",
    "<mailto:bo@example.com|bo@example.com>",
    "see https://example.com/a, then go",
    "a:b:c",
    "smile:smile:",
    ":日本:",
    ":wave::skin-tone-3:",
    "dear<@U1>, hi",
    "1 < 2 > 0",
    "zero\u200bwidth",
)
"""Texts on which a rule for cleaning has room to differ."""


@dataclass(frozen=True)
class Record:
    """One record of a history; those that can't be read have neither channel nor time."""

    line: bytes
    data: dict[str, Any] | None = None
    channel: str | None = None
    t: int | None = None

    def __repr__(self) -> str:
        """Only what matters when a test fails."""
        return self.line.decode(errors="replace")


def lines_of(history: Iterable[Record]) -> list[bytes]:
    """The bytes of a history."""
    return [record.line for record in history]


def record_of(data: dict[str, Any], channel: str | None, t: int | None) -> Record:
    """A record of some JSON."""
    return Record(json.dumps(data, ensure_ascii=False).encode(), data, channel, t)


# Events by hand, as Slack sends them; times in microseconds


def post(channel: str, t: int, user: str, text: str | None = "hello", thread: int | None = None, **more: object) -> Record:
    """A message, a reply if it names a `thread`."""
    data: dict[str, Any] = {"type": "message", "channel": channel, "ts": stamp(t), "user": user, "text": text}
    if thread is not None:
        data["thread_ts"] = stamp(thread)
    return record_of(data | more, channel, t)


def edit(channel: str, t: int, ts: int, text: str | None, user: str = "ana", previous: str | None = None) -> Record:
    """A `message_changed`, with the earlier text where it is given."""
    data: dict[str, Any] = {
        "type": "message",
        "subtype": "message_changed",
        "channel": channel,
        "ts": stamp(t),
        "event_ts": stamp(t),
    }
    data["message"] = {"type": "message", "ts": stamp(ts), "user": user, "text": text}
    if previous is not None:
        data["previous_message"] = {"type": "message", "ts": stamp(ts), "user": user, "text": previous}
    return record_of(data, channel, t)


def said_elsewhere(record: Record, fields: dict[str, Any]) -> Record:
    """A post with other fields."""
    return record_of((record.data or {}) | fields, record.channel, record.t)


def changed_elsewhere(record: Record, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Record:
    """An edit of a message whose words are in its blocks."""
    data = record.data or {}
    parts = {"message": data["message"] | {"blocks": after}, "previous_message": data["previous_message"] | {"text": "", "blocks": before}}
    return record_of(data | parts, record.channel, record.t)


def delete(channel: str, t: int, ts: int) -> Record:
    """A `message_deleted`."""
    data = {"type": "message", "subtype": "message_deleted", "channel": channel, "ts": stamp(t), "event_ts": stamp(t)}
    return record_of({**data, "deleted_ts": stamp(ts)}, channel, t)


def tombstone(channel: str, t: int, ts: int) -> Record:
    """How a root with replies is deleted: a `message_changed` to a tombstone."""
    message = {
        "type": "message",
        "subtype": "tombstone",
        "ts": stamp(ts),
        "user": "USLACKBOT",
        "text": "This message was deleted.",
    }
    data = {"type": "message", "subtype": "message_changed", "channel": channel, "ts": stamp(t), "event_ts": stamp(t)}
    return record_of({**data, "message": message}, channel, t)


def react(channel: str, t: int | None, ts: int, user: str, name: str = "+1", kind: str = "reaction_added") -> Record:
    """A reaction; without a time it is untimed, as in an export."""
    item = {"type": "message", "channel": channel, "ts": stamp(ts)}
    data: dict[str, Any] = {"type": kind, "user": user, "reaction": name, "item": item}
    if t is not None:
        data["event_ts"] = stamp(t)
    # With an unlimited horizon an untimed reaction is ordered by its message, and can be late by that.
    return record_of(data, channel, ts if t is None else t)


def unnamed(channel: str, ts: int) -> Record:
    """Reactions of people whom Slack left out: an export has their number alone."""
    item = {"type": "message", "channel": channel, "ts": stamp(ts)}
    return record_of({"type": "reaction_added", "reaction": "+1", "item": item, "unnamed": 3}, channel, ts)


def heartbeat(at: int) -> Record:
    """All before `at` has been read."""
    return record_of({"type": "heartbeat", "at": stamp(at)}, None, at)


def callback(record: Record, event_id: str, **more: object) -> Record:
    """A record in the envelope of the Events API."""
    data = {"type": "event_callback", "event_id": event_id, "team_id": "T1", **more, "event": record.data}
    return record_of(data, record.channel, record.t)


# Strategies


POSTS = (
    "root",
    "root",
    "reply",
    "reply",
    "reply",
    "broadcast",
    "me_message",
    "file_share",
    "edited_post",
    "unknown_text",
    "elsewhere",
    "forward",
)
CHANGES = ("edit", "edit", "same_text", "edit_to_null", "edit_first_seen", "edit_elsewhere", "delete", "delete", "tombstone")
REACTIONS = ("react", "react", "react", "unreact", "untimed", "unnamed")
ELSEWHERE: tuple[Callable[[str, str], dict[str, Any]], ...] = (
    lambda user, text: {"text": "", "attachments": [{"is_share": True, "text": text}, {"text": "a preview", "from_url": "https://x.org"}]},
    lambda user, text: {"text": "look", "attachments": [{"is_share": True, "message_blocks": [{"message": {"blocks": rich(text)}}]}]},
    lambda user, text: {"text": "", "blocks": [*rich(text), {"type": "header", "text": {"type": "plain_text", "text": "a <b> & c"}}]},
    lambda user, text: {
        "text": "This content can't be displayed.",
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}],
    },
    lambda user, text: {"text": f"<@{user}> uploaded a file: <https://x.org/f|plan> and commented: {text}", "file": {"title": "A & B"}},
    lambda user, text: {"text": f"<@{user}|x> shared a file: <https://x.org/f|plan>", "file": {"initial_comment": {"comment": text}}},
    lambda user, text: {"text": "what Slack wrote", "comment": {"user": user, "comment": text}, "user": "", "subtype": "file_comment"},
    lambda user, text: {
        "text": f"<@{user.upper()}> commented on <@U1>\u2019s file <https://x.org/f|plan>: {text}",
        "subtype": "file_comment",
    },
)
"""Posts whose words stand elsewhere than in `text`, or whose author elsewhere than in `user`."""
FORWARDS: tuple[Callable[[str, str, str], dict[str, Any]], ...] = (
    lambda user, channel, ts: {"author_id": user, "channel_id": channel, "ts": ts},
    lambda user, channel, ts: {"author_id": user, "from_url": permalink(channel, ts)},
    lambda user, channel, ts: {"author_link": f"https://x.slack.com/team/{user}", "from_url": permalink(channel, ts)},
    lambda user, channel, ts: {"from_url": permalink(channel, ts) + "?thread_ts=1.1"},
    lambda user, channel, ts: {"message_blocks": [{"channel": channel, "ts": ts, "message": {"blocks": []}}]},
)
"""What a forward says of where it comes from: Slack's has it all, older ones have links, some name nobody."""


def permalink(channel: str, ts: str) -> str:
    """A link to a message."""
    return f"https://x.slack.com/archives/{channel}/p{ts.replace('.', '')}"


def forward(record: Record, target: Record | None, kind: int, text: str) -> Record:
    """A post that forwards another one, and says a word of its own or none."""
    known = inner_of(target) if target else {}
    origin = FORWARDS[kind % len(FORWARDS)](known.get("user") or "U1", (target and target.channel) or "C1", known.get("ts") or stamp(START))
    quote = origin | {"is_share": True, "text": known.get("text") or text}
    return record_of((record.data or {}) | {"text": "look" if kind % 2 else "", "attachments": [quote]}, record.channel, record.t)


def rich(text: str) -> list[dict[str, Any]]:
    """Blocks that show a text and more."""
    more = [{"type": "user", "user_id": "di"}, {"type": "emoji", "name": "tada"}, {"type": "link", "url": "https://x.org", "text": "there"}]
    entry = {"type": "rich_text_section", "elements": [{"type": "text", "text": text}, *more]}
    code = {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "x = 1"}]}
    return [{"type": "rich_text", "elements": [entry, code, {"type": "rich_text_list", "elements": [entry, entry]}]}]


REST = (
    "moved",
    "bot_id",
    "bot_message",
    "slackbot",
    "bot_reply",
    "app_post",
    "person_by_app",
    "voice_post",
    "no_author",
    "join",
    "pin",
    "file_reaction",
    "heartbeat",
    "garbage",
)
DUPLICATES = ("copy", "copy_other_order", "copy_other_id", "other_text", "other_author", "same_id", "other_mark")


@dataclass(frozen=True)
class Move:
    """What happens next; a history is a list of moves, so that it shrinks by dropping and simplifying them."""

    what: str
    gap: int
    since_target: bool
    channel: int
    person: int
    target: int
    text: str
    enveloped: bool


def limits(rules: Rules) -> list[int]:
    """Durations at which something happens."""
    kept = {rules.thread_ttl, rules.remember or SECOND, rules.lateness + 10 * MINUTE, 30 * DAY}
    return sorted({rules.lateness, rules.session_gap, rules.horizon or rules.session_gap, *kept})


def gaps(rules: Rules) -> st.SearchStrategy[int]:
    """Time between events: none, little, and exactly at or beside a limit."""
    near = [limit + side for limit in limits(rules)[:-3] for side in (0, -1, 1) if limit + side > 0] or [SECOND]
    far = [limit + side for limit in limits(rules)[-3:] for side in (0, -1, 1)]
    small = st.sampled_from([SECOND, 0, 1, 0, SECOND])
    return st.one_of(
        small, small, small, small, small, st.sampled_from(near), st.sampled_from(near), st.one_of(small, st.sampled_from(far))
    )


def moves(rules: Rules, texts: Sequence[str]) -> st.SearchStrategy[Move]:
    """One thing that happens."""
    kinds = st.one_of(*(st.sampled_from(kinds) for kinds in (POSTS, POSTS, POSTS, CHANGES, REACTIONS, REST, DUPLICATES)))
    return st.builds(
        Move,
        what=kinds,
        gap=gaps(rules),
        since_target=st.sampled_from([False, False, True]),
        channel=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2]),
        person=st.integers(0, len(PEOPLE) - 1) | st.integers(0, 1),
        target=st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7]),
        text=st.sampled_from(PLAIN) | st.sampled_from(PLAIN) | st.sampled_from(texts) | st.sampled_from(NAMING),
        enveloped=st.booleans(),
    )


@st.composite
def histories(
    draw: st.DrawFn, rules: Rules | None = None, max_size: int = 25, texts: Sequence[str] = TEXTS, heartbeats: bool = True
) -> list[Record]:
    """A history in the order of its event times."""
    rules = rules or Rules()
    history: list[Record] = []
    size = draw(st.sampled_from([0, max_size // 3, 2 * max_size // 3]))
    for move in draw(st.lists(moves(rules, texts), min_size=size, max_size=max_size)):
        if heartbeats or move.what != "heartbeat":
            history.append(happen(move, history))
    silence = draw(st.sampled_from([0, *limits(rules)]))
    if history and heartbeats and silence:
        history.append(heartbeat(latest_of(history) + silence + draw(st.sampled_from([0, -1, 1]))))
    # Copies and untimed reactions carry earlier times than their place, unreadable records none.
    placed: list[tuple[int, Record]] = []
    for record in history:
        placed.append((record.t if record.t is not None else placed[-1][0] if placed else START, record))
    return [record for _, record in sorted(placed, key=lambda one: one[0])]


def latest_of(history: Iterable[Record]) -> int:
    """The greatest time of a history."""
    return max((record.t for record in history if record.t is not None), default=START)


def happen(move: Move, history: Sequence[Record]) -> Record:
    """The record of a move, after all that happened before."""
    channel = CHANNELS[move.channel]
    said = messages_of(history, None if move.what == "forward" else channel)
    target = said[-1 - min(move.target, len(said) - 1)] if said else None
    now = latest_of(history)
    t = now + move.gap
    if move.since_target and target is not None:
        t = max(now, (target.t or 0) + move.gap)
    if move.what == "same_id":
        return callback(say(move, channel, t, target, {message.t for message in said}), f"Ev{max(0, len(history) - 1 - move.target)}")
    if move.what in DUPLICATES and history:
        return duplicate_of(history[-1 - min(move.target, len(history) - 1)], move, len(history))
    record = say(move, channel, t, target, {message.t for message in said})
    if record.data is None or record.data["type"] == "heartbeat" or not move.enveloped:
        return record
    if "by_person" in record.data:
        return callback(without(record, "by_person"), f"Ev{len(history)}", by_person=True)
    received = {"received_at": stamp(t - DAY - move.person + 1)} if move.what == "pin" or move.text == "no ### way" else {}
    return callback(record, f"Ev{len(history)}", **received)


def say(move: Move, channel: str, t: int, target: Record | None, taken: set[int | None]) -> Record:
    """The bare event of a move."""
    what, user, text = move.what, PEOPLE[move.person], move.text
    if what in CHANGES or what in REACTIONS:
        return act(move, channel, t, target)
    if what == "heartbeat":
        return heartbeat(t)
    if what == "garbage":
        return (GARBAGE[move.target % len(GARBAGE)])(channel, t)
    if what == "moved":
        ids = {"old_channel_id": channel, "new_channel_id": CHANNELS[move.target % len(CHANNELS)]}
        return record_of({"type": "channel_id_changed", **ids, "event_ts": stamp(t)}, channel, t)
    if what == "pin":
        return record_of({"type": "pin_added", "user": user, "channel": channel, "event_ts": stamp(t)}, channel, t)
    if what == "file_reaction":
        item = {"type": "file", "file": "F1"}
        return record_of({"type": "reaction_added", "user": user, "reaction": "+1", "item": item, "event_ts": stamp(t)}, None, t)
    while t in taken:
        t += 1
    # A reply goes to a root, to another reply's thread, or to a root that nobody saw.
    thread = START - SECOND if target is None or move.target == 5 else thread_of(target)
    thread = min(thread, t - 1)
    posted: dict[str, Record] = {
        "root": post(channel, t, user, text, t if move.enveloped else None),
        "reply": post(channel, t, user, text, thread),
        "broadcast": post(channel, t, user, text, thread, subtype="thread_broadcast"),
        "me_message": post(channel, t, user, text, subtype="me_message"),
        "file_share": post(channel, t, user, text, subtype="file_share", files=[{"id": "F1"}]),
        "elsewhere": said_elsewhere(post(channel, t, user, subtype="file_share"), ELSEWHERE[move.target % len(ELSEWHERE)](user, text)),
        "forward": forward(post(channel, t, user), target, move.target + move.person, text),
        "edited_post": post(channel, t, user, text, edited={"user": user, "ts": stamp(t + SECOND)}),
        "unknown_text": post(channel, t, user, None),
        "bot_id": post(channel, t, "UBOT", text, bot_id="B1"),
        "bot_message": without(post(channel, t, "", text, subtype="bot_message", bot_id="B1"), "user"),
        "slackbot": post(channel, t, "USLACKBOT", text),
        "bot_reply": post(channel, t, "UBOT", text, thread, bot_id="B1"),
        "app_post": post(channel, t, user, text, bot_id="B2"),
        "person_by_app": post(channel, t, user, text, thread if move.target > 3 else None, bot_id="B2", by_person=True),
        "voice_post": post(channel, t, user, text, bot_id="B2", bot_profile={"id": "B2", "user_id": "UVOICE"}),
        "no_author": without(post(channel, t, "", text), "user") if move.enveloped else post(channel, t, "", text),
        "join": post(channel, t, user, text, subtype="channel_join"),
    }
    return posted.get(what, posted["root"])


def act(move: Move, channel: str, t: int, target: Record | None) -> Record:
    """An edit, deletion or reaction of a target that may never have been seen."""
    user, text = PEOPLE[move.person], move.text
    ts = START - MINUTE if target is None or target.t is None else target.t
    known = inner_of(target).get("text") if target else None
    author = inner_of(target).get("user", "") if target else user
    return {
        "edit": lambda: edit(channel, t, ts, text, author, known),
        "same_text": lambda: edit(channel, t, ts, known or "hello", author, known or "hello"),
        "edit_to_null": lambda: edit(channel, t, ts, None, author, known),
        "edit_first_seen": lambda: edit(channel, t, ts, text, author),
        "edit_elsewhere": lambda: changed_elsewhere(edit(channel, t, ts, "", author, known or ""), rich(known or ""), rich(text)),
        "delete": lambda: delete(channel, t, ts),
        "tombstone": lambda: tombstone(channel, t, ts),
        "react": lambda: react(channel, t, ts, user, "+1"),
        "unreact": lambda: react(channel, t, ts, user, "+1", "reaction_removed"),
        "untimed": lambda: react(channel, None, ts, user, "eyes"),
        "unnamed": lambda: unnamed(channel, ts),
    }[move.what]()


def duplicate_of(record: Record, move: Move, number: int) -> Record:
    """A duplicate of a record: the same bytes, or the same event written in another way."""
    if record.data is None or record.data["type"] == "heartbeat":
        return record
    inner = inner_of(record)
    is_post = inner["type"] == "message" and inner.get("subtype") not in ("message_changed", "message_deleted")
    if move.what == "copy_other_order":
        return record_of(dict(reversed(record.data.items())), record.channel, record.t)
    if move.what == "copy_other_id":
        return callback(record_of(inner, record.channel, record.t), f"Ev{number}-again")
    if move.what == "other_mark":
        marked = record.data.get("by_person") is True
        return without(record, "by_person") if marked else record_of(record.data | {"by_person": True}, record.channel, record.t)
    if move.what == "other_text" and is_post:
        return record_of(inner | {"text": move.text}, record.channel, record.t)
    if move.what == "other_author" and is_post:
        return record_of(inner | {"user": PEOPLE[move.person]}, record.channel, record.t)
    return record


def messages_of(history: Iterable[Record], channel: str | None = None) -> list[Record]:
    """The posts of a history, bots' and joins too."""
    return [
        record
        for record in history
        if record.data is not None
        and record.t is not None
        and inner_of(record).get("type") == "message"
        and inner_of(record).get("subtype") not in ("message_changed", "message_deleted")
        and channel in (None, record.channel)
    ]


def inner_of(record: Record) -> dict[str, Any]:
    """The event inside a callback, or the bare one."""
    data = record.data or {}
    inner: dict[str, Any] = data["event"] if data.get("type") == "event_callback" else data
    return inner


def thread_of(message: Record) -> int:
    """The time of the root of a message's thread."""
    seconds, decimals = inner_of(message).get("thread_ts", inner_of(message)["ts"]).split(".")
    return int(seconds) * SECOND + int(decimals)


def without(record: Record, key: str) -> Record:
    """A record that lacks a key."""
    return record_of({name: value for name, value in (record.data or {}).items() if name != key}, record.channel, record.t)


def unreadable(data: dict[str, Any]) -> Record:
    """A record that is rejected, so it has no time."""
    return Record(json.dumps(data).encode())


GARBAGE: tuple[Callable[[str, int], Record], ...] = (
    lambda channel, t: Record(b"{not json"),
    lambda channel, t: unreadable({"type": "message", "channel": channel, "user": "ana", "text": "no ts"}),
    lambda channel, t: unreadable({"type": "message", "ts": stamp(t), "user": "ana", "text": "no channel"}),
    lambda channel, t: unreadable({"type": "message", "channel": channel, "ts": f"{t}", "user": "ana", "text": "bad ts"}),
    lambda channel, t: unreadable({"type": "message", "channel": channel, "ts": stamp(t), "thread_ts": stamp(t + 1), "user": "ana"}),
)


@st.composite
def arrivals(draw: st.DrawFn, history: Sequence[Record], lateness: int) -> list[Record]:
    """The same records in another order, in which nothing is late: each is delayed by at most `lateness`."""
    has_heartbeats = any((record.data or {}).get("type") == "heartbeat" for record in history)
    skews: dict[str | None, int] = {None: 0}
    for channel in CHANNELS:
        # A heartbeat speaks for all channels, so only without one may a channel be far behind another.
        skews[channel] = 0 if has_heartbeats else draw(st.sampled_from([0, 0, MINUTE, 40 * DAY]))
    times = [START if record.t is None else record.t for record in history]
    delays = draw(st.lists(delay_up_to(lateness), min_size=len(history), max_size=len(history)))
    mixed = draw(st.lists(st.integers(0, 3), min_size=len(history), max_size=len(history)))
    order = sorted(range(len(history)), key=lambda n: (times[n] + delays[n] + skews[history[n].channel], mixed[n], n))
    return [history[n] for n in order]


def delay_up_to(lateness: int) -> st.SearchStrategy[int]:
    """How much later than its event time a record arrives."""
    return st.sampled_from(sorted({0, min(1, lateness), lateness // 2, lateness})) | st.integers(0, lateness)


def any_arrivals(history: Sequence[Record], lateness: int) -> st.SearchStrategy[list[Record]]:
    """The same records as they happened, delayed within `lateness`, or in any order, in which many are late."""
    return st.one_of(st.just(list(history)), arrivals(history, lateness), late_arrivals(history))


def late_arrivals(history: Sequence[Record]) -> st.SearchStrategy[list[Record]]:
    """The same records in any order."""
    return st.permutations(list(history))


@st.composite
def rules(draw: st.DrawFn, max_prompt_tokens: Sequence[int] = (2000, 30), unlimited: bool = True) -> Rules:
    """Settings with limits so small that short histories reach them."""
    horizons: list[int | None] = [20 * SECOND, 3 * SECOND, 20 * SECOND, None if unlimited else SECOND]
    horizon = draw(st.sampled_from(horizons))
    session_gap = draw(st.sampled_from([5 * SECOND, 2 * SECOND, 10 * MINUTE]))
    idle = draw(st.sampled_from([100 * SECOND, 20 * SECOND, 30 * DAY]))
    max_candidates = draw(st.sampled_from([40, 5, 4, 3, 2, 1]))
    return Rules(
        target=draw(st.sampled_from(["next_user", "next_user", "interacting_users", "reactors"])),
        scope=draw(st.sampled_from(["conversation", "conversation", "conversation", "channel"])),
        horizon=horizon,
        lateness=draw(st.sampled_from([5 * SECOND, SECOND, 0])),
        session_gap=session_gap,
        window=draw(st.sampled_from([5, 3, 2, 1])),
        thread_ttl=max(idle, session_gap, horizon or 0),
        kept_roots=draw(st.sampled_from([500, 500, 1, 2, 3])),
        max_prompt_tokens=draw(st.sampled_from(max_prompt_tokens)),
        edits=draw(st.sampled_from(["known", "known", "final"])),
        bots=draw(st.sampled_from(["ignore", "context"])),
        encoding=draw(st.sampled_from(["o200k_base", "o200k_base", "cl100k_base"])),
        max_candidates=max_candidates,
        kept_people=max_candidates + draw(st.sampled_from([2000, 2, 1, 0])),
        remember=draw(st.sampled_from([400 * DAY, 30 * DAY, MINUTE, 0])),
    )


@st.composite
def cases(draw: st.DrawFn, /, **options: Any) -> tuple[Rules, list[Record]]:
    """Settings, and a history that knows their limits."""
    chosen = draw(rules(**options))
    return chosen, draw(histories(chosen))
