"""Live ingest and what public reports tell of Slack: channels that become private, emojis cut in half."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from beepgpt.connectors.slack.live import Web
from beepgpt.connectors.slack.live.sockets import decoded
from tests.ingest.test_ingest_slack import Place
from tests.ingest.test_ingest_slack_faults import begun, place, posted, turned
from tests.support.slack_server import BOT_TOKEN, Server

__all__ = ["place"]

HALF = "cut \ud83d"


def test_a_channel_that_becomes_private_is_left_out_from_then_on(slack_server: Server, place: Place):
    """Slack sends its messages on, as a group's; nothing of them is written, nor filled in after an outage or a restart."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    slack.add_channel("C2")
    with turned(slack_server, place) as turning:
        begun(turning)
        slack.channels["C1"]["is_private"] = True
        posted(turning, "for us alone")
        turning.until(lambda: turning.live.account["left_out:groups"] == 1, "it is left out")
        item = {"type": "message", "channel": "C1", "ts": slack.events[-1]["ts"]}
        turning.bring({"type": "reaction_added", "user": "U1", "reaction": "+1", "item": item, "event_ts": slack.now()})
        turning.down()
        posted(turning, "and this", comes=False)
        turning.up()
        turning.until_promised(slack.now())

    assert place.said() == ["first"] and turning.live.account["left_out:groups"] == 2


@pytest.mark.parametrize("comes", [True, False])
def test_a_channel_that_became_private_in_an_outage_is_asked_about_again(slack_server: Server, place: Place, comes: bool):
    """It is not among the channels that are listed any more, so what was known of it counts no more."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        turning.down()
        slack.channels["C1"]["is_private"] = True
        posted(turning, "for us alone", comes=False)
        turning.up()
        turning.until_promised(slack.now())
        if comes:
            item = {"type": "message", "channel": "C1", "ts": slack.events[-1]["ts"]}
            turning.bring({"type": "reaction_added", "user": "U1", "reaction": "+1", "item": item, "event_ts": slack.now()})
            turning.until(lambda: turning.live.account["left_out:groups"] == 1, "it is left out")

    assert place.said() == ["first"] and len(place.bodies()) == 1


def test_half_an_emoji_is_written_as_a_mark(slack_server: Server, place: Place, monkeypatch: pytest.MonkeyPatch):
    """Live and filled in: an event that is no UTF-8 was lost, and ended a fill."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    ask = Web.ask

    def asked(web: Web, method: str, **params: Any) -> dict[str, Any]:
        answer = ask(web, method, **params)
        for each in answer.get("messages") or []:  # as Slack's own JSON would have it
            assert HALF not in each["text"]
        return answer

    monkeypatch.setattr(Web, "ask", asked)
    with turned(slack_server, place) as turning:
        begun(turning)
        turning.bring(decoded(json.dumps({"event": slack_event(slack_server, HALF)}))["event"])
        posted(turning, HALF, comes=False)
        turning.down()
        turning.up()
        turning.until(lambda: len(place.said()) == 3, "both are there")

    assert place.said() == ["first", "cut \ufffd", "cut \ufffd"]


def slack_event(server: Server, text: str) -> dict[str, Any]:
    """A message's event, as Slack sends it."""
    server.workspace.post("C1", "U1", text)
    return server.workspace.events[-1]


def test_an_answer_of_the_web_api_can_be_written_again(slack_server: Server):
    """Whatever half of a character stands in it."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    slack.post("C1", "U1", HALF)
    answer = Web(BOT_TOKEN, slack_server.base_url, threading.Event()).ask("conversations.history", channel="C1")

    assert [each["text"] for each in answer["messages"]] == ["cut \ufffd"]
