"""What is forgotten is left out as if it had never been said."""

import json
import re
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.events import Ignored, parse
from beepgpt.conversations.forgetting import Forgotten, without_forgotten
from beepgpt.conversations.points import PointEmitted
from beepgpt.conversations.shard import RunOutput, run_through
from tests.support import NOW, ours
from tests.support.histories import CHANNELS, FORWARDS, PEOPLE, Record, forward, histories, inner_of, messages_of, post, react
from tests.support.oracle_records import Rules, stamp

NOBODY = Forgotten(b"a salt")
RULES = ours(Rules())
Message = tuple[str, str]


def authors_in(body: dict[str, Any]) -> set[Any]:
    """Who wrote a message: until 2018 a comment on a file named its author within alone."""
    return {body.get("user"), (body.get("comment") or {}).get("user")}


def forgotten_messages(history: Iterable[Record], people: set[str]) -> set[Message]:
    """The messages of some people."""
    return {(each.channel or "", stamp(each.t or 0)) for each in messages_of(history) if authors_in(inner_of(each)) & people}


def without_mentions(body: Any, people: set[str]) -> Any:
    """JSON without the parts of blocks that mention some people."""
    if isinstance(body, list):
        return [without_mentions(each, people) for each in body if not (isinstance(each, dict) and each.get("user_id") in people)]
    return {name: without_mentions(each, people) for name, each in body.items()} if isinstance(body, dict) else body


def without_quotes(inner: dict[str, Any], people: set[str], channels: set[str], messages: set[Message]) -> dict[str, Any]:
    """A post without what it forwards of some people, channels and messages."""
    if not isinstance(inner.get("attachments"), list):
        return inner
    kept = []
    for each in inner["attachments"]:
        block = (each.get("message_blocks") or [{}])[0]
        link = re.search(r"/archives/(\w+)/p(\d{10})(\d{6})", each.get("from_url", ""))
        channel, ts = (link[1], f"{link[2]}.{link[3]}") if link else (each.get("channel_id") or block.get("channel"), each.get("ts"))
        author = each.get("author_id") or each.get("author_link", "").rpartition("/")[2]
        if not (author in people or channel in channels or (channel, ts or block.get("ts")) in messages):
            kept.append(each)
    return inner | {"attachments": kept}


def log_without(history: Iterable[Record], people: set[str], channels: set[str], messages: set[Message]) -> list[bytes]:
    """The log as if it had never been said, by looking at the few places where these histories name anybody."""
    kept = []
    for record in history:
        if record.data is None:
            if not any(f'"{name}"'.encode() in record.line for name in people | channels):
                kept.append(record.line)
            continue
        inner = inner_of(record)
        part = inner.get("message") or {}
        item = inner.get("item") or {}
        channel = item.get("channel") or inner.get("channel")
        moved = {inner.get("old_channel_id"), inner.get("new_channel_id")}
        authors = authors_in(inner) | authors_in(part)
        named = {(channel, ts) for ts in (inner.get("ts"), part.get("ts"), inner.get("deleted_ts"), item.get("ts"))}
        if not (authors & people or ({channel} | moved) & channels or named & messages):
            text = record.line.decode()
            for person in people:
                text = re.sub(rf"<@{person}(\|[^<>]*)?>", "<@>", text)
            for name in channels:
                text = re.sub(rf"<#{name}(\|[^<>]*)?>", "<#>", text)
            # Of two records of one time the smaller one stays, byte for byte: so what changed is written as the product writes it.
            body = without_mentions(orjson.loads(text), people)
            if "event" in body:
                body["event"] = without_quotes(body["event"], people, channels, messages)
            body = without_quotes(body, people, channels, messages)
            kept.append(record.line if body == orjson.loads(record.line) else orjson.dumps(body))
    return kept


def run(lines: Iterable[bytes], forgotten: Forgotten | None = None) -> RunOutput:
    """A run with points, whose account adds up."""
    made = run_through(lines, RULES, load_encoding(RULES.encoding), now=NOW, points_since=0, forgotten=forgotten)
    assert made.account.check() == []
    return made


TWICE = [post("C1", 1690000015_000000, "ana"), post("C1", 1690000015_000000, "ana", "<@bo> what is the plan?")]
"""Two records of one time, of which the one that stays is shorter without the mention."""


ORIGIN = post("C2", 1690000001_000000, "bo", "a private plan")
FORWARDED = [
    ORIGIN,
    *(forward(post("C1", 1690000002_000000 + each, "ana"), ORIGIN, each, "") for each in range(len(FORWARDS))),
    post("C1", 1690000003_000000, "cy", "look at <#C2|secret>"),
    post("C1", 1690000004_000000, "di"),
]
"""Somebody's words, forwarded into another channel in every form."""


@example(FORWARDED, {"bo"}, set(), [])
@example(FORWARDED, set(), {"C2"}, [])
@example(FORWARDED, set(), set(), [0])
@example(TWICE, {"bo"}, set(), [])
@example([post("C1", 1690000001_000000, "ana", edited={"user": "bo", "ts": "1690000002.000000"})], {"bo"}, set(), [])
@example(
    [post("C1", 1690000001_000000, "ana", edited={"user": "ana", "ts": "1690000002.000000"}), post("C1", 1690000002_000000, "bo")],
    {"bo"},
    set(),
    [],
)
@given(
    histories(),
    st.sets(st.sampled_from([*PEOPLE, "U1"]), max_size=2),
    st.sets(st.sampled_from(CHANNELS), max_size=1),
    st.lists(st.integers(0, 30), max_size=3),
)
def test_a_run_with_the_list_is_a_run_over_the_log_without_it(
    history: list[Record], people: set[str], channels: set[str], numbers: list[int]
):
    """Examples, retractions, late records and points, byte for byte; what is left out is one row of the account, and all adds up."""
    posts = messages_of(history)
    named = {(posts[each].channel or "", stamp(posts[each].t or 0)) for each in numbers if each < len(posts)}
    messages = named | forgotten_messages(history, people)
    forgotten = NOBODY.with_names(people, channels, messages)
    lines = [record.line for record in history]

    made, without = run(lines, forgotten), run(log_without(history, people, channels, messages))

    left_out = made.account.counts.pop("ignored:forgotten", 0)
    assert (made.examples, made.retractions, made.late, made.points) == (
        without.examples,
        without.retractions,
        without.late,
        without.points,
    )
    assert made.account.counts.pop("read", 0) - left_out == without.account.counts.pop("read", 0)
    assert made.account.counts == without.account.counts


@given(histories(), st.sets(st.sampled_from([*PEOPLE, "U1"]), min_size=1, max_size=2))
def test_a_rewritten_log_gives_what_a_reader_with_the_list_gives(history: list[Record], people: set[str]):
    """And nothing of these people is left in it, also where the list doesn't know their messages."""
    forgotten = NOBODY.with_names(people)
    lines = [record.line for record in history]

    rewritten = [kept for line in lines if (kept := without_forgotten(line, forgotten)) is not None]

    made, again = run(lines, forgotten), run(rewritten)
    assert (made.examples, made.retractions, made.late, made.points) == (again.examples, again.retractions, again.late, again.points)
    assert not [line for line in rewritten if any(f'"{name}"'.encode() in line or f"<@{name}>".encode() in line for name in people)]
    assert all(without_forgotten(line, forgotten) is line for line in rewritten)


CALLBACK: dict[str, Any] = {
    "type": "event_callback",
    "event_id": "Ev1",
    "authorizations": [{"team_id": "T1", "user_id": "U9"}],
    "event": {"type": "message", "channel": "C1", "user": "U9", "text": "mine", "ts": "1690360253.041239"},
}
OTHERS: dict[str, Any] = {"type": "message", "channel": "C1", "user": "U2", "ts": "1690360260.000100"}
QUOTE = {"author_id": "U9", "text": "mine", "ts": "1690360253.041239", "channel_id": "C1"}


@pytest.mark.parametrize(
    ("record", "left"),
    [
        (CALLBACK, None),
        (OTHERS | {"text": "so says <@U9|nine>"}, OTHERS | {"text": "so says <@>"}),
        (OTHERS | {"text": "", "attachments": [QUOTE, {"title": "a page"}]}, OTHERS | {"text": "", "attachments": [{"title": "a page"}]}),
        (OTHERS | {"text": "", "root": CALLBACK["event"]}, OTHERS | {"text": ""}),
        (OTHERS | {"reply_users": ["U2", "U9"], "reply_count": 2}, OTHERS | {"reply_users": ["U2"], "reply_count": 2}),
        (OTHERS | {"reactions": [{"name": "+1", "users": ["U9", "U2"]}]}, OTHERS | {"reactions": [{"name": "+1", "users": ["U2"]}]}),
        (OTHERS | {"blocks": [{"elements": [{"type": "user", "user_id": "U9"}]}]}, OTHERS | {"blocks": [{"elements": []}]}),
        (OTHERS | {"files": [{"id": "F1", "user": "U9", "title": "mine"}]}, OTHERS | {"files": []}),
        (OTHERS | {"subtype": "file_comment", "text": "on mine", "file": {"user": "U9", "title": "mine"}}, None),
        (OTHERS | {"attachments": [{"author_link": "https://x.slack.com/team/U9", "text": "mine"}]}, OTHERS | {"attachments": []}),
        (OTHERS | {"subtype": "message_changed", "message": {"user": "U9", "text": "mine again", "ts": "1690360253.041239"}}, None),
        (OTHERS | {"subtype": "message_deleted", "previous_message": {"user": "U9", "text": "mine"}}, None),
        ({"type": "reaction_added", "user": "U2", "item_user": "U9", "reaction": "+1", "item": {"channel": "C1", "ts": "1.1"}}, None),
        ({"U9": "Nine", "U2": "Two"}, {"U2": "Two"}),
        ({"id": "C1", "members": ["U9", "U2"], "topic": {"value": "mine", "creator": "U9"}}, {"id": "C1", "members": ["U2"]}),
        ({"type": "heartbeat", "at": "1690360260.000000"}, {"type": "heartbeat", "at": "1690360260.000000"}),
    ],
)
def test_a_person_is_gone_from_all_places_of_a_record(record: dict[str, Any], left: dict[str, Any] | None):
    """Their messages, quotes, files, reactions and names; what others wrote stays, and a mention in it names nobody."""
    assert NOBODY.with_names(["U9"]).without(record) == left


def test_a_message_goes_with_its_edits_reactions_and_quotes_and_its_replies_stay():
    """They are about it; a reply is somebody else's."""
    forgotten = NOBODY.with_names(messages=[("C1", "1690360253.041239")])
    about = [
        OTHERS | {"subtype": "message_changed", "message": {"text": "again", "ts": "1690360253.041239"}},
        OTHERS | {"subtype": "message_deleted", "deleted_ts": "1690360253.041239"},
        {"type": "reaction_added", "user": "U2", "reaction": "+1", "item": {"channel": "C1", "ts": "1690360253.041239"}},
    ]
    reply = OTHERS | {"thread_ts": "1690360253.041239", "text": "well"}

    assert [forgotten.without(each) for each in about] == [None, None, None]
    assert forgotten.without(reply) is reply
    quoted_by_link = {"from_url": "https://x.slack.com/archives/C1/p1690360253041239?thread_ts=1.1", "text": "mine"}
    for quote in (QUOTE | {"author_id": "U3"}, quoted_by_link):
        assert forgotten.without(OTHERS | {"channel": "C2", "attachments": [quote]}) == OTHERS | {"channel": "C2", "attachments": []}
    assert NOBODY.with_names(channels=["C1"]).without(OTHERS | {"channel": "C2", "attachments": [quoted_by_link]})["attachments"] == []
    assert not forgotten.holds(CALLBACK | {"event": CALLBACK["event"] | {"channel": "C2"}})


def test_the_messages_of_a_forgotten_person_are_found():
    """So that edits and reactions that don't say whose they are can be left out, too."""
    forgotten = NOBODY.with_names(["ana"])
    forgotten.found = set()
    window = {"channel": "C2", "window": [{"ts": "1690360253.041239", "user": "ana"}, {"ts": "1690360254.000000", "user": "bo"}]}
    for body in (post("C1", 1690360240_000100, "ana").data, react("C1", None, 1690360241_000100, "bo").data, window):
        forgotten.without(body)

    assert forgotten.found == {("C1", "1690360240.000100"), ("C2", "1690360253.041239")}


LINKED = "https://x.slack.com/archives/C024BE91L/p1690360253041239"
CLIENT = "https://app.slack.com/client/T1/C024BE91L"


@pytest.mark.parametrize(
    ("said", "of_channel", "of_message"),
    [
        (f"see <{LINKED}>", "see <#>", "see <#>"),
        (f"see <{LINKED}?thread_ts=1.1&cid=C024BE91L|the plan>!", "see <#>!", "see <#>!"),
        (f"{LINKED} and {CLIENT}", "<#> and <#>", f"<#> and {CLIENT}"),
        ("<https://x.slack.com/archives/C024BE91L|here>", "<#>", "<https://x.slack.com/archives/C024BE91L|here>"),
        ("in <#C024BE91L|secret>, C024BE91L", "in <#>, <#>", "in <#C024BE91L|secret>, C024BE91L"),
        ("slack://channel?team=T1&id=C024BE91L", "slack://channel?team=T1&id=<#>", "slack://channel?team=T1&id=C024BE91L"),
        (LINKED.replace("39", "38"), "<#>", LINKED.replace("39", "38")),
        (LINKED.replace("C024BE91L", "C024BE91M"), LINKED.replace("C024BE91L", "C024BE91M"), LINKED.replace("C024BE91L", "C024BE91M")),
    ],
)
def test_links_to_what_is_forgotten_lead_nowhere(said: str, of_channel: str, of_message: str):
    """In what others wrote: to a channel, to a message, and by a bare id; links to other places stay."""
    channel, message = NOBODY.with_names(channels=["C024BE91L"]), NOBODY.with_names(messages=[("C024BE91L", "1690360253.041239")])

    assert (channel.without({"text": said}), message.without({"text": said})) == ({"text": of_channel}, {"text": of_message})
    assert channel.in_bytes(b'{"text": "' + LINKED.encode())


def shown_in(made: RunOutput) -> list[Any]:
    """Examples and points, as JSON."""
    return [json.loads(each) for each in (*made.examples, *(each.line for each in made.points if isinstance(each, PointEmitted)))]


@pytest.mark.parametrize(
    ("people", "channels", "words", "holds"), [({"bo"}, set(), ["private"], 14), (set(), {"C2"}, ["private", "secret"], 15)]
)
def test_what_shows_a_quote_goes_and_what_is_made_again_stays(people: set[str], channels: set[str], words: list[str], holds: int):
    """Of examples and points, whose prompts have a forward's words or a forgotten channel's name; made with the list, none has any."""
    looking, lines = NOBODY.with_names(people, channels), [record.line for record in FORWARDED]
    for _ in range(2):  # some forwards say whose they are by the message alone
        looking.found = set()
        for line in lines:
            without_forgotten(line, looking)
        listed, shown = looking.with_names(messages=looking.found), looking.shown
        looking = listed
    ours = listed.with_names(shown=shown)
    made, again = (shown_in(run(lines, each)) for each in (None, ours))
    holding = [each for each in made if any(word in each["prompt"] for word in words)]

    assert len(shown) == len(FORWARDS) + len(words) - 1 and (len(holding), len(again)) == (holds, 12)
    assert not [each for each in holding if ours.without(each) is not None]
    assert all(ours.without(each) is each and not any(word in each["prompt"] for word in words) for each in again)


def test_a_text_is_known_when_it_is_shortened():
    """As alerts shorten it, and a prompt that is too long; not one that a message has now."""
    said = {"channel": "C1", "ts": "1690360260.000100", "text": "is this known? it is", "attachments": [QUOTE | {"is_share": True}]}
    quoted = said | {"attachments": [QUOTE | {"is_share": True, "text": "word " * 100}]}
    for message, shown, now in (
        (said, ["is this known? it is mine"], ["is this known? it is", "is this known? …", "mine"]),
        (
            quoted,
            ["is this known? it is word word …", "is this known? it is word wor", "is this known? it is wor…"],
            ["is this known? it is", "is this known? it is …"],
        ),
    ):
        looking = NOBODY.with_names(["U9"])
        looking.found = set()
        looking.without(message)
        ours = NOBODY.with_names(shown=looking.shown)
        assert [ours.is_shown("C1", "1690360260.000100", [each]) for each in (*shown, *now)] == [True] * len(shown) + [False] * len(now)
        assert not ours.is_shown("C1", "1690360260.000200", shown) and not ours.is_shown("C2", "1690360260.000100", shown)


def test_the_list_does_not_say_who_is_on_it():
    """It holds hashes with a salt of its own; lists with the same people and other salts have nothing in common."""
    one, other = (Forgotten(salt).with_names(["U1"], ["C1"], [("C1", "1690360253.041239")]) for salt in (b"one", b"other"))

    assert len(one.hashes) == 3 and not one.hashes & other.hashes
    assert one.digest != other.digest and one.digest == Forgotten(b"one", one.hashes).digest
    assert one.has_message("C1", "1690360253.041239") and not one.has_message("C2", "1690360253.041239") and not one.has_message("C1", "x")


@pytest.mark.parametrize(
    "record", [b'{"channel": "C1", "user": "U9", "text": "cut sh', b'{"user": "U9", "text": "%s"}' % (b"x" * (1 << 20))]
)
def test_what_cannot_be_decoded_does_not_become_a_dead_letter(record: bytes):
    """If it names somebody who is forgotten; its bytes go nowhere."""
    parsed = parse(record, NOW, forgotten=NOBODY.with_names(["U9"]))

    assert isinstance(parsed, Ignored) and (parsed.reason, parsed.record, parsed.t) == ("forgotten", b"", None)
    assert not isinstance(parse(record, NOW, forgotten=NOBODY.with_names(["U8"])), Ignored)


def test_records_without_anything_forgotten_keep_their_bytes():
    """Whatever their spelling."""
    line = json.dumps(OTHERS, indent=1).encode()

    assert without_forgotten(line, NOBODY.with_names(["U9"])) is line
    assert orjson.loads(without_forgotten(line.replace(b'"U2"', b'"U9"'), NOBODY.with_names(["U9"])) or b"null") is None
