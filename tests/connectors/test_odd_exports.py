"""Exports as public reports of other tools tell of them: each is read, or said to be left out, with the examples that it should give."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import orjson
import pytest

from beepgpt.connectors.slack.export import open_export, read_days, read_users
from beepgpt.conversations.export import records_of
from tests.support import ours, run_of
from tests.support.exports import zipped
from tests.support.oracle_records import Rules

CHANNELS = [{"id": "C1", "name": "general"}]
DAY = "2024-05-20.json"


def said(user: str, minute: int, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "user": user, "text": text, "ts": f"{1716200000 + 60 * minute}.000100", **more}


TALK = [said("U0ANA", 0, "Who is on call?"), said("U0BO", 1, "I am"), said("U0EVE", 1500, "Good morning")]
BOTH = [["U0BO"], []]


def answers(folder: Path, *files: tuple[str, Any]) -> list[list[str]]:
    """Who answered each example of an export's channels."""
    export = open_export(zipped(folder, *files))
    found = [list(records_of(each.id, read_days(export, each), people=export.people)) for each in export.channels]
    return [json.loads(line)["answer"] for records in found for line in run_of(records, ours(Rules())).examples]


def test_an_enterprise_export_names_its_people_in_another_list(tmp_path: Path):
    """Enterprise Grid has org_users.json and no users.json: what a person posts through an app is theirs all the same."""
    talk = [TALK[0], TALK[1] | {"bot_id": "B0VOICE"}, TALK[2]]
    users = ("org_users.json", [{"id": "U0BO", "is_bot": False, "name": "bo"}, {"id": "UBOT", "is_bot": True}])
    files = (("channels.json", CHANNELS), (f"general/{DAY}", talk))

    assert answers(tmp_path, *files, users) == BOTH
    assert answers(tmp_path, *files) == [[]]
    assert [each["id"] for each in read_users(zipped(tmp_path, *files, users))] == ["U0BO", "UBOT"]


def test_a_huddle_opens_a_thread_without_its_root(tmp_path: Path):
    """Slackbot's note of it is no talk; what people write beside it is."""
    root = said("USLACKBOT", 0, "", subtype="huddle_thread", room={"id": "R1"})
    talk = [root, *(said(user, minute, text, thread_ts=root["ts"]) for user, minute, text in (("U0ANA", 1, "notes?"), ("U0BO", 2, "here")))]

    assert answers(tmp_path, ("channels.json", CHANNELS), (f"general/{DAY}", [*talk, TALK[2]])) == BOTH


def test_canvases_and_their_comments_are_no_channels(tmp_path: Path):
    """Of a canvas there is a file beside the day files, and a folder with its comments, which may be private."""
    canvas = ("general/canvas_in_the_conversation.json", [{"id": "F1", "title": "Notes"}])
    comments = (f"FC:F1:Notes/{DAY}", [said("U0EVE", 0, "a comment")])
    files: list[tuple[str, Any]] = [("channels.json", CHANNELS), (f"general/{DAY}", TALK), canvas, comments, ("canvases.json", [])]

    assert answers(tmp_path, *files) == BOTH
    assert open_export(zipped(tmp_path, *files)).unread == (f"FC:F1:Notes/{DAY}", canvas[0])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_mac_writes_accents_apart(tmp_path: Path, form: Any):
    """A folder whose name was decomposed is the listed channel's."""
    folder = unicodedata.normalize(form, "café")

    assert answers(tmp_path, ("channels.json", [{"id": "C1", "name": "café"}]), (f"{folder}/{DAY}", TALK)) == BOTH


def test_what_a_mac_adds_to_an_archive_is_not_read(tmp_path: Path):
    """Its own folder, and files beside the day files."""
    added = [(name, b"\0\5") for name in (f"__MACOSX/general/._{DAY}", "__MACOSX/._channels.json", "general/.DS_Store", f"general/._{DAY}")]

    assert answers(tmp_path, ("channels.json", CHANNELS), (f"general/{DAY}", TALK), *added) == BOTH


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    """Editors write one in front of listings and day files."""
    listing, day = (b"\xef\xbb\xbf" + orjson.dumps(each) for each in (CHANNELS, TALK))

    assert answers(tmp_path, ("channels.json", listing), (f"general/{DAY}", day)) == BOTH


def test_what_an_admin_suspended_is_said_by_nobody(tmp_path: Path):
    """Enterprise keys taken away: a note stands where the message was, and answers nothing."""
    gone = said("UREVOKEDU", 1, "Your admins have suspended everyone's access to this content.", subtype="ekm_access_denied")

    assert answers(tmp_path, ("channels.json", CHANNELS), (f"general/{DAY}", [TALK[0], gone, TALK[2]])) == [[]]


def test_a_reply_that_was_shown_in_the_channel_in_2017_answers_once(tmp_path: Path):
    """Slack wrote a second message without a text, `reply_broadcast`."""
    root = TALK[0] | {"thread_ts": TALK[0]["ts"]}
    reply = TALK[1] | {"thread_ts": root["ts"]}
    shown = said("U0BO", 1, "", subtype="reply_broadcast", broadcast_thread_ts=root["ts"]) | {"ts": "1716200060.000200"}

    assert answers(tmp_path, ("channels.json", CHANNELS), (f"general/{DAY}", [root, reply, shown, TALK[2]])) == BOTH
