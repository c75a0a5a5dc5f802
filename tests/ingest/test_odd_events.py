"""Live ingest and what public reports tell of Slack: channels that become private, emojis cut in half."""

from __future__ import annotations

import json
import threading

import pytest

from beepgpt.connectors.slack.live import Web
from beepgpt.connectors.slack.live.sockets import decoded
from beepgpt.conversations.events import Event, parse
from beepgpt.conversations.export import events_of
from beepgpt.ingest.slack.known_records import backfilled_record, record_of
from beepgpt.simulation.slack.server import BOT_TOKEN, SlackServer
from tests.ingest.test_ingest_slack import Place
from tests.ingest.test_ingest_slack_faults import Turned, begun, place, posted, turned
from tests.support import NOW

__all__ = ["place"]

HALF = "cut \ud83d"


def said_in_the_open(turning: Turned) -> str:
    """A message of a public channel, which proves that a new connection brings what is said; its `ts`."""
    slack = turning.server.workspace
    ts = slack.post("C2", "U1", "in the open")
    turning.bring(slack.events[-1])
    return ts


def test_a_channel_that_becomes_private_is_left_out_from_then_on(slack_server: SlackServer, place: Place):
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
        turning.until_promised(said_in_the_open(turning))

    assert place.said() == ["first", "in the open"] and turning.live.account["left_out:groups"] == 2


@pytest.mark.parametrize("comes", [True, False])
def test_a_channel_that_became_private_in_an_outage_is_asked_about_again(slack_server: SlackServer, place: Place, comes: bool):
    """It is not among the channels that are listed any more, so what was known of it counts no more."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    slack.add_channel("C2")
    with turned(slack_server, place) as turning:
        begun(turning)
        turning.down()
        slack.channels["C1"]["is_private"] = True
        posted(turning, "for us alone", comes=False)
        turning.up()
        turning.until_promised(said_in_the_open(turning))
        if comes:
            item = {"type": "message", "channel": "C1", "ts": slack.events[-1]["ts"]}
            turning.bring({"type": "reaction_added", "user": "U1", "reaction": "+1", "item": item, "event_ts": slack.now()})
            turning.until(lambda: turning.live.account["left_out:groups"] == 1, "it is left out")

    assert place.said() == ["first", "in the open"] and len(place.bodies()) == 2


def test_half_an_emoji_is_a_mark_in_what_comes_live():
    """Such an event is no UTF-8: it was read as nothing, so that it was never acknowledged."""
    event = {"type": "message", "channel": "C1", "user": "U1", "ts": "1690360253.041239", "text": HALF}
    payload = decoded(json.dumps({"type": "event_callback", "event_id": "Ev1", "event": event}))

    found = parse(record_of(payload, NOW), NOW)
    assert isinstance(found, Event) and found.text == "cut \ufffd"


def test_half_an_emoji_in_a_history_ends_no_fill(slack_server: SlackServer):
    """What the Web API answers can be written again, whatever half of a character stands in it."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    slack.post("C1", "U1", HALF)
    answer = Web(BOT_TOKEN, slack_server.base_url, threading.Event()).ask("conversations.history", channel="C1")

    ((at, _, event),) = (each for message in answer["messages"] for each in events_of("C1", message))
    found = parse(backfilled_record(at, event, "T1", NOW)[1], NOW)
    assert isinstance(found, Event) and found.text == "cut \ufffd"
