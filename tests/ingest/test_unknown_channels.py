"""Live Slack: channels that Slack does not describe, so that nobody can say whether they are public."""

from __future__ import annotations

from typing import NoReturn

import pytest

from beepgpt.connectors.kafka import Connection
from beepgpt.connectors.slack.live import web
from beepgpt.ingest.slack import loop as slack_loop
from tests.ingest.test_catching_up import Gate, edited_unseen, edits_in
from tests.ingest.test_ingest_slack import Place
from tests.ingest.test_ingest_slack_faults import Turned, begun, posted, turned
from tests.ingest.test_moved_channels import keyed, move
from tests.support.broker import Broker
from tests.support.slack_server import ApiError, Server

WITHOUT_GROUPS = "channels:history,channels:read,users:read,connections:write"


@pytest.fixture
def place(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Heartbeats as often as they are true, and questions again at once."""
    monkeypatch.setattr(slack_loop, "HEARTBEAT_EVERY", 0.0)
    monkeypatch.setattr(web, "BACKOFF", (0.05,))
    return Place(Connection(broker.bootstrap), partitions=1)


def said_in(turning: Turned, channel: str, text: str) -> str:
    """Somebody says something there, and it comes, and is acknowledged; its `ts`."""
    slack, before = turning.server.workspace, len(turning.acknowledged)
    ts = slack.post(channel, "U1", text)
    turning.bring(slack.events[-1])
    turning.until(lambda: len(turning.acknowledged) == before + 1, "it is acknowledged")
    return ts


def test_what_is_said_in_a_channel_that_slack_does_not_describe_is_left_out(slack_server: Server, place: Place):
    """Acknowledged and counted; heartbeats go on, after the second event as after the first; once Slack describes it, it is written."""
    slack = slack_server.workspace
    slack_server.scopes = WITHOUT_GROUPS
    slack.add_channel("C1")
    slack.add_channel("G1", is_private=True)
    with turned(slack_server, place) as turning:
        begun(turning)
        for number in (1, 2):
            said_in(turning, "G1", f"quokka {number}")
            assert turning.live.account["left_out:unknown"] == number
            turning.until_promised(slack.now())
        slack.channels["G1"]["is_private"] = False
        said_in(turning, "G1", "in public")
        turning.until_promised(slack.now())
    assert place.said() == ["first", "in public"]
    assert not [record for _, record in place.records() if b"quokka" in (record.value or b"")]


def test_a_channel_that_is_hidden_after_an_outage_is_left_out(slack_server: Server, place: Place):
    """It was on the topic, and became private meanwhile: what is held for it is not written, and its history is not read."""
    slack = slack_server.workspace
    slack_server.scopes = WITHOUT_GROUPS
    for channel in ("C1", "C2"):
        slack.add_channel(channel)
    with turned(slack_server, place) as turning:
        begun(turning)
        said = said_in(turning, "C2", "in public")
        turning.until_promised(slack.now())
        turning.down()
        slack.channels["C2"]["is_private"] = True
        slack.edit("C2", said, "quokka")  # an event that doesn't say what kind of channel it is in
        turning.bring(slack.events[-1])
        turning.up()
        turning.until_promised(posted(turning, "goes on"))
        assert (turning.live.account["left_out:unknown"], turning.live.account["fills_refused"]) == (1, 1)
        asked = [given["channel"] for method, given in slack_server.record if method == "conversations.history"]
        assert "C2" not in asked
    assert sorted(place.said()) == ["first", "goes on", "in public"]
    assert not [record for _, record in place.records() if b"quokka" in (record.value or b"")]


def refuse(code: str) -> NoReturn:
    raise ApiError(code)


@pytest.mark.parametrize("code", ["", "channel_not_found"])
def test_a_thread_of_a_channel_that_is_hidden_by_now_is_not_read_to_the_topic(slack_server: Server, place: Place, code: str):
    """It was asked for before an outage, and its answer comes while Slack is asked what the channel is."""
    slack = slack_server.workspace
    if code:
        slack_server.methods["conversations.info"] = lambda given: refuse(code)
    gates = Gate(slack_server, "conversations.replies"), Gate(slack_server, "conversations.info")
    with turned(slack_server, place) as turning:
        reply = edited_unseen(turning)
        slack.channels["C1"]["is_archived"] = True  # so that it is not listed
        turning.down()
        turning.up()
        turning.until(lambda: turning.live.backfill.has_gap("C1"), "it is asked for")
        gates[0].is_open = True
        asked = slack_server.asked["conversations.replies"]
        turning.until(lambda: slack_server.asked["conversations.replies"] > asked + 1, "its thread is read")
        gates[1].is_open = True
        turning.until(lambda: turning.live.backfill.checks.left == 0 and turning.live.backfill.is_complete, "it is left out, or written")
    assert [edit["event"]["message"]["ts"] for _, edit in edits_in(place)] == ([] if code else [reply])


def test_a_move_that_comes_in_an_outage_is_written(slack_server: Server, place: Place):
    """Slack describes no channel under its old id, and the move has no text: flows need it, to end what was open there."""
    slack_server.workspace.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        turning.down()
        move(turning, "C1", "C9")
        turning.up()
        turning.until_promised(said_in(turning, "C9", "after"))
    assert sorted(keyed(place)) == [("C1", "channel_id_changed"), ("C1", "first"), ("C9", "after")]
