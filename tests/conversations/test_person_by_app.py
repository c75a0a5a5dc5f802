"""What people post through apps is theirs (docs/semantics.md, "Records")."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.slack.export import open_export, read_days
from beepgpt.conversations.events import DELETE, EDIT, REACT, asked_about
from beepgpt.conversations.export import records_of
from tests.support import ours, run_of
from tests.support.exports import zipped
from tests.support.oracle_records import Rules

CASE: list[dict[str, Any]] = [
    {"type": "message", "channel": "C1", "user": "U0ANA", "ts": "1716200000.000100", "text": "Who is on call tonight?"},
    {"type": "message", "channel": "C1", "user": "U0BO", "ts": "1716200060.000100", "text": "I am, until eight", "bot_id": "B0VOICE"},
    {"type": "message", "channel": "C1", "user": "U0EVE", "ts": "1716290000.000100", "text": "Good morning"},
]


def answers(records: list[Any], **more: Any) -> list[tuple[list[str], str | None]]:
    """Who answered each example, and when."""
    lines = [each if isinstance(each, bytes) else orjson.dumps(each) for each in records]
    return [(each["answer"], each["answer_ts"]) for each in map(json.loads, run_of(lines, ours(replace(Rules(), **more))).examples)]


@pytest.mark.parametrize("bots", ["ignore", "context"])
def test_person_by_app(bots: str):
    """Bo answers by voice: his record has the mark, or names another user as the app's own. Else it is judged as a bot's."""
    marked = CASE[1] | {"by_person": True}
    enveloped = {"type": "event_callback", "event_id": "Ev1", "by_person": True, "event": CASE[1]}
    profiled = CASE[1] | {"bot_profile": {"id": "B0VOICE", "user_id": "U0VOICEBOT"}}
    own = CASE[1] | {"bot_profile": {"id": "B0VOICE", "user_id": "U0BO"}}

    for post in (marked, enveloped, profiled):
        assert answers([CASE[0], post, CASE[2]], bots=bots)[0] == (["U0BO"], "1716200060.000100")
    for post in (CASE[1], own, marked | {"by_person": "yes"}, marked | {"subtype": "bot_message"}):
        assert not any("U0BO" in answer for answer, _ in answers([CASE[0], post, CASE[2]], bots=bots))


@pytest.mark.parametrize(("is_bot", "answer"), [(False, [["U0BO"], []]), (True, [[]]), (None, [[]])])
def test_an_export_tells_people_from_bots_by_its_users(is_bot: bool | None, answer: list[list[str]], tmp_path: Any):
    """users.json says `is_bot`; where it doesn't, nobody knows."""
    stored = [{name: value for name, value in each.items() if name != "channel"} for each in CASE]
    users = [{"id": "U0BO"} | ({} if is_bot is None else {"is_bot": is_bot}), 7, {"is_bot": False}]
    path = zipped(
        tmp_path, ("channels.json", [{"id": "C1", "name": "general"}]), ("users.json", users), ("general/2024-05-20.json", stored)
    )
    export = open_export(path)

    records = list(records_of("C1", read_days(export, export.channels[0]), people=export.people))

    assert [each for each, _ in answers(records)] == answer


MARKS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=6)


@given(MARKS, st.sampled_from(["ignore", "context"]), st.booleans(), st.data())
def test_marked_and_unmarked_copies_in_any_order_give_one_result(
    copies: list[tuple[bool, bool, int]], bots: str, is_reply: bool, data: st.DataObject
):
    """Of buffered copies the marked one is applied, whatever the others' bytes are and whichever comes first."""
    posts = [CASE[1] | ({"thread_ts": CASE[0]["ts"]} if is_reply else {}) | {"text": f"as of copy {number}"} for _, _, number in copies]
    written = [
        {"type": "event_callback", "event_id": f"Ev{number}" if has_id else "", "event": post} | ({"by_person": True} if is_marked else {})
        for (is_marked, has_id, number), post in zip(copies, posts, strict=True)
    ]
    marked = {"type": "event_callback", "event": posts[0] | {"text": "I am"}, "by_person": True}
    others = [each for each in written if not each.get("by_person")]
    arrived = data.draw(st.permutations([marked, *others]))

    once = answers([CASE[0], marked, CASE[2]], bots=bots)
    assert once[0] == (["U0BO"], "1716200060.000100")
    assert answers([CASE[0], *arrived, CASE[2]], bots=bots) == once


def test_edits_deletions_and_reactions_follow():
    """They find the message that a person posted through an app, and are unknown for a bot's."""
    about = {"type": "message", "channel": "C1", "event_ts": "1716200070.000100"}
    acts = [
        about | {"subtype": "message_changed", "message": {"ts": CASE[1]["ts"], "text": "I am", "bot_id": "B0VOICE", "user": "U0BO"}},
        {
            "type": "reaction_added",
            "user": "U0EVE",
            "reaction": "+1",
            "event_ts": "1716200071.000100",
            "item": {"channel": "C1", "ts": CASE[1]["ts"]},
        },
        about | {"subtype": "message_deleted", "deleted_ts": CASE[1]["ts"], "event_ts": "1716200072.000100"},
    ]
    assert (EDIT, DELETE, REACT) == (1, 2, 3)

    marked = run_of(map(orjson.dumps, [CASE[0], CASE[1] | {"by_person": True}, *acts]), ours(Rules())).account
    plain = run_of(map(orjson.dumps, [CASE[0], CASE[1], *acts]), ours(Rules())).account

    assert (marked["applied"], marked["ignored:unknown_message"]) == (5, 0)
    assert (plain["applied"], plain["ignored:unknown_message"]) == (1, 3)


def test_who_is_asked_about():
    """The user of a post through an app, and nobody else's."""
    assert asked_about(CASE[1]) == "U0BO"
    plain = [CASE[0], CASE[1] | {"subtype": "bot_message"}, CASE[1] | {"user": ""}, CASE[1] | {"bot_profile": {"user_id": "U0VOICE"}}]
    assert [asked_about(each) for each in [*plain, CASE[1] | {"subtype": "message_changed"}, CASE[1] | {"type": "app_mention"}]] == [
        None
    ] * 6
