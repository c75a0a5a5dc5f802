"""What is said outside `text`, and by whom: forwarded messages, blocks, comments on files (docs/semantics.md, "Speech")."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from beepgpt.conversations.events import EDIT, Event, Ignored, parse
from beepgpt.conversations.export import events_of
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.speech import author_of, elsewhere_in, speech_of
from tests.support import NOW, ours, run_of
from tests.support.oracle_records import Rules

SHARE = {"is_share": True, "is_msg_unfurl": True, "author_id": "U0EVE", "text": "The invoice run failed again, who can look?"}
PREVIEW = {"from_url": "https://x.org", "title": "A page", "text": "What the page says"}


def message(user: str, ts: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "channel": "C1", "user": user, "ts": ts, "text": text, **more}


def examples_of(*records: dict[str, Any] | bytes) -> list[tuple[list[str], str]]:
    """Answers and prompts, the prompt without its suffix."""
    lines = [each if isinstance(each, bytes) else orjson.dumps(each) for each in records]
    found = map(json.loads, run_of(lines, ours(Rules())).examples)
    return [(each["answer"], each["prompt"].removesuffix("\n\n###\n\n")) for each in found]


GOOD_MORNING = message("U0EVE", "1716290000.000100", "Good morning")


def test_forwarded_message():
    """A message forwarded without a comment shows what was forwarded, and is answered."""
    forward = message("U0ANA", "1716200000.000100", "", attachments=[SHARE, PREVIEW])

    examples = examples_of(forward, message("U0BO", "1716200060.000100", "On it"), GOOD_MORNING)

    assert examples[0] == (["U0BO"], "The invoice run failed again, who can look?")
    assert examples[1] == ([], "The invoice run failed again, who can look?\n\nOn it")


def test_a_comment_stands_before_what_is_forwarded():
    """A reader sees both; a preview of a link is nobody's word."""
    assert speech_of({"text": "Who can?", "attachments": [PREVIEW, SHARE]}) == f"Who can?\n{SHARE['text']}"


def test_a_forwarded_message_in_blocks():
    """Its own attachment has no text."""
    inside = [{"type": "section", "text": {"type": "mrkdwn", "text": "Lunch *now*?"}}]
    share = {"is_share": True, "text": "", "message_blocks": [{"team": "T1", "message": {"blocks": inside}}]}

    assert speech_of({"text": "", "attachments": [share]}) == "Lunch *now*?"


RICH = [
    {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_section", "elements": [{"type": "text", "text": "a < b "}, {"type": "user", "user_id": "U1"}]},
            {"type": "rich_text_list", "elements": [{"type": "rich_text_section", "elements": [{"type": "channel", "channel_id": "C2"}]}]},
            {"type": "rich_text_quote", "elements": [{"type": "link", "url": "https://x.org", "text": "the docs"}]},
            {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "x = 1"}]},
            {
                "type": "rich_text_section",
                "elements": [
                    {"type": "emoji", "name": "tada"},
                    {"type": "date", "timestamp": 1, "format": "{date}", "fallback": "20 May"},
                    {"type": "usergroup", "usergroup_id": "S1"},
                    {"type": "broadcast", "range": "here"},
                    {"type": "color", "value": "#fff"},
                ],
            },
        ],
    }
]


@pytest.mark.parametrize("text", ["", "  ", "This content can't be displayed.", "This message contains interactive elements."])
def test_words_in_blocks_are_those_of_a_message_without_text(text: str):
    """Written as a text would have them, so that they are cleaned like one; what Slack writes instead is no text."""
    said = "a &lt; b <@U1>\n<#C2>\n<https://x.org|the docs>\n```x = 1```\n:tada:20 May<!subteam^S1><!here>"

    assert speech_of({"text": text, "blocks": RICH}) == said
    assert speech_of({"text": "a text", "blocks": RICH}) == "a text"


def test_sections_headers_and_markdown():
    """Plain text is no markup; dividers, images and footers say nothing."""
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "Q & A"}},
        {"type": "divider"},
        {"type": "section", "fields": [{"type": "mrkdwn", "text": "<#C1|general>"}, {"type": "plain_text", "text": "<#C1>"}]},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "sent by a bot"}]},
        {"type": "markdown", "text": "**bold**"},
    ]

    assert speech_of({"text": "", "blocks": blocks}) == "Q &amp; A\n<#C1|general>\n&lt;#C1&gt;\n**bold**"


@pytest.mark.parametrize(
    "odd", [7, None, "x", [], {}, [7], [{}], [{"type": ["x"]}], [{"type": "rich_text", "elements": [7, {"elements": [7]}]}]]
)
def test_whatever_stands_there_nothing_breaks(odd: Any):
    """A foreign record may hold anything."""
    for subtype in ("file_comment", "file_share", None):
        fields = {"subtype": subtype, "blocks": odd, "attachments": odd, "comment": odd, "file": odd, "text": ""}

        assert (speech_of(fields) or "").strip() == ""
        assert author_of({**fields, "user": "U1"}) == "U1"
        assert speech_of({"attachments": [{"is_share": True, "message_blocks": odd}]}) == ""
        assert isinstance(elsewhere_in(fields), dict)


def test_unknown_text_stays_unknown():
    """An export's edited message has `null` until its edit, whatever else it has."""
    assert speech_of({"text": None, "blocks": RICH, "attachments": [SHARE]}) is None


def test_an_edit_in_blocks_is_an_edit():
    """And one that leaves the words as they were is none: an unfurl adds a preview."""
    before = {"ts": "1716200000.000100", "text": "", "blocks": RICH}
    outer = {"type": "message", "subtype": "message_changed", "channel": "C1", "event_ts": "1716200005.000100"}
    other = [{"type": "markdown", "text": "now"}]

    edited = parse(orjson.dumps(outer | {"message": before | {"blocks": other}, "previous_message": before}), NOW)
    unfurled = parse(orjson.dumps(outer | {"message": before | {"attachments": [PREVIEW]}, "previous_message": before}), NOW)

    assert isinstance(edited, Event)
    assert (edited.kind, edited.text) == (EDIT, "now")
    assert isinstance(unfurled, Ignored)
    assert unfurled.reason == "unchanged"


FILE_COMMENT_2017: list[dict[str, Any]] = [
    {"type": "message", "user": "U0ANA", "ts": "1488362400.000002", "text": "Which of these do we print?"},
    {
        "type": "message", "subtype": "file_share", "user": "U0ANA", "ts": "1488362460.000003", "file": {"id": "F1"},
        "text": "<@U0ANA|ana> uploaded a file: <https://x.slack.com/files/ana/F1/poster.png|poster>",
    },
    {
        "type": "message", "subtype": "file_comment", "ts": "1488362520.000004", "file": {"id": "F1", "user": "U0ANA"},
        "text": "<@U0BO|bo> commented on <@U0ANA|ana>\u2019s file <https://x.slack.com/files/ana/F1/poster.png|poster>: The second one",
        "comment": {"id": "Fc1", "user": "U0BO", "timestamp": 1488362520, "comment": "The second one"},
    },
    {"type": "message", "user": "U0EVE", "ts": "1488452400.000005", "text": "Good morning"},
]  # fmt: skip


@pytest.mark.parametrize("is_told_in_text_only", [False, True])
def test_file_comment_2017(is_told_in_text_only: bool):
    """A comment on a file is its author's; of Slack's sentences only the title and the comment are speech."""
    stored = [dict(each) for each in FILE_COMMENT_2017]
    if is_told_in_text_only:
        del stored[2]["comment"]

    examples = examples_of(*(event for each in stored for _, _, event in events_of("C1", each)))

    assert examples[0] == (["U0BO"], "Which of these do we print?\n\nposter")
    assert examples[1] == ([], "Which of these do we print?\n\nposter\n\nThe second one")


@pytest.mark.parametrize(
    ("text", "file", "said"),
    [
        ("<@U1|a> uploaded a file: <https://x.org|plan> and commented: See <#C1>", {}, "plan\nSee <#C1>"),
        ("<@U1> shared a file: <https://x.org|plan>", {"title": "A & B", "initial_comment": {"comment": "See"}}, "A &amp; B\nSee"),
        ("<@U1> uploaded an image: <https://x.org|plan>", {}, "plan"),
        ("I uploaded a file: <https://x.org|plan>", {}, "I uploaded a file: <https://x.org|plan>"),
    ],
)
def test_of_an_upload_only_the_title_and_the_comment_are_speech(text: str, file: dict[str, Any], said: str):
    """Slack's sentence of that age stands only beside a `file`; later texts are the person's own."""
    assert speech_of({"subtype": "file_share", "text": text, "file": file}) == said
    assert speech_of({"subtype": "file_share", "text": text, "files": [file]}) == text


def test_an_edited_comment_keeps_its_author():
    """Its words are unknown until the edit, and the edit shows them alone."""
    edited = FILE_COMMENT_2017[2] | {"edited": {"user": "U0BO", "ts": "1488362600.000000"}}

    found = [parse(orjson.dumps(event), NOW) for _, _, event in events_of("C1", edited)]

    assert [(each.user, each.text) for each in found if isinstance(each, Event)] == [("U0BO", None), ("", "The second one")]


def test_a_comment_goes_with_its_author():
    """Also where only Slack's sentence says whose it is."""
    told = {name: value for name, value in FILE_COMMENT_2017[2].items() if name != "comment"} | {"channel": "C1"}

    assert Forgotten(b"salt").with_names(people=["U0BO"]).without(told) is None


def test_an_export_keeps_what_says_something():
    """Forwarded messages and blocks without text go into the record; previews, and blocks beside a text, don't."""
    stored = {"type": "message", "user": "U1", "ts": "1716200000.000100", "text": "", "blocks": RICH, "attachments": [SHARE, PREVIEW]}
    _, _, event = next(events_of("C1", stored))
    _, _, plain = next(events_of("C1", stored | {"text": "hi", "attachments": [PREVIEW]}))

    assert (event["blocks"], event["attachments"]) == (RICH, [SHARE])
    assert set(plain) == {"type", "user", "text", "ts", "channel"}
