"""Live ingest asks Slack who posts through an app, before it writes such a post."""

from __future__ import annotations

import threading

import pytest

from beepgpt.connectors.slack.live import Web
from beepgpt.errors import SlackFailed
from beepgpt.ingest.slack import web_queries
from beepgpt.ingest.slack.run import team_of
from beepgpt.simulation.slack.server import BOT_TOKEN, SlackServer
from beepgpt.simulation.slack.workspace import TEAM
from tests.ingest.test_ingest_slack import Place
from tests.ingest.test_ingest_slack_faults import Turned, begun, place, posted, turned

__all__ = ["place"]


def marks(place: Place) -> dict[str, bool]:
    """By text: whether the record says that a person posted it."""
    return {each["event"]["text"]: each.get("by_person", False) for each in place.bodies()}


def by_app(turning: Turned, user: str, text: str, *, comes: bool = True) -> str:
    slack = turning.server.workspace
    ts = slack.post("C1", user, text, bot_id="B0VOICE")
    if comes:
        turning.bring(slack.events[-1])
    return ts


def test_a_persons_post_through_an_app_is_marked_live_and_in_fills(slack_server: SlackServer, place: Place):
    """Asked once for each user; a bot's is not marked, nor that of somebody whom Slack doesn't know."""
    slack_server.workspace.add_channel("C1")
    slack_server.unknown.add("U0GONE")
    with turned(slack_server, place) as turning:
        begun(turning)
        for user in ("U0BO", "UBOT", "U0GONE", "U0BO"):
            ts = by_app(turning, user, f"{user} {slack_server.asked['users.info']}")
        turning.until_promised(ts)
        by_app(turning, "U0FILL", "said meanwhile", comes=False)
        turning.down()
        turning.up()
        turning.until(lambda: "said meanwhile" in place.said(), "it is filled in")

    found = marks(place)
    assert found.pop("first") is False and found.pop("said meanwhile") is True
    assert {text.partition(" ")[0]: mark for text, mark in found.items()} == {"U0BO": True, "UBOT": False, "U0GONE": False}
    assert slack_server.asked["users.info"] == 4


def test_without_the_scope_to_ask_it_does_not_start(slack_server: SlackServer):
    """Else the first such post would hold its channel for ever."""
    slack_server.scopes = "channels:history,channels:read,reactions:read"
    with pytest.raises(SlackFailed, match=r"slack\.bot_token lacks users:read.*config/slack-app\.yaml"):
        team_of(Web(BOT_TOKEN, slack_server.base_url, threading.Event()), ("channels",))

    slack_server.scopes += ",users:read"
    assert team_of(Web(BOT_TOKEN, slack_server.base_url, threading.Event()), ("channels",)) == TEAM


def test_a_refusal_holds_the_channel_and_the_heartbeats(slack_server: SlackServer, place: Place, monkeypatch: pytest.MonkeyPatch):
    """Nothing of the channel is written or acknowledged until Slack says who it is; then all of it is, in order."""
    monkeypatch.setattr(web_queries, "ASK_AGAIN", 0.05)
    slack_server.workspace.add_channel("C1")
    slack_server.kept_back.add("U0BO")
    with turned(slack_server, place) as turning:
        begun(turning)
        by_app(turning, "U0BO", "by voice")
        ts = posted(turning, "after it")
        turning.until(lambda: slack_server.asked["users.info"] > 2, "it is asked again")
        turning.live.turn(0.01)
        assert (place.said(), len(turning.acknowledged)) == (["first"], 2)
        assert "who posts through an app" in turning.live._pulse.missing

        slack_server.kept_back.clear()
        turning.until_promised(ts)

    assert place.said() == ["first", "by voice", "after it"]
    assert marks(place) == {"first": False, "by voice": True, "after it": False}
