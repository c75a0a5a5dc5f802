"""Live Slack: channels that Slack does not describe, so that nobody can say whether they are public."""

from __future__ import annotations

import pytest

from beepgpt.connectors.kafka import Connection
from beepgpt.connectors.slack.live import web
from beepgpt.ingest.slack import loop as slack_loop
from beepgpt.ingest.slack import web_queries
from beepgpt.simulation.slack.server import SlackServer
from tests.ingest.test_catching_up import Gate, edited_unseen, edits_in
from tests.ingest.test_ingest_slack import Place
from tests.ingest.test_ingest_slack_faults import Turned, begun, posted, turned
from tests.ingest.test_moved_channels import keyed, move
from tests.support.broker import Broker

WITHOUT_GROUPS = "channels:history,channels:read,users:read,connections:write"


@pytest.fixture
def place(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Heartbeats as often as they are true, and questions again at once."""
    monkeypatch.setattr(slack_loop, "HEARTBEAT_EVERY", 0.0)
    monkeypatch.setattr(web, "BACKOFF", (0.05,))
    return Place(Connection(broker.bootstrap), partitions=1)


def brought_in(turning: Turned, channel: str, text: str) -> str:
    """Somebody says something there, and it comes; its `ts`."""
    slack = turning.server.workspace
    ts = slack.post(channel, "U1", text)
    turning.bring(slack.events[-1])
    return ts


def said_in(turning: Turned, channel: str, text: str) -> str:
    """Somebody says something there, and it comes, and is acknowledged; its `ts`."""
    before = len(turning.acknowledged)
    ts = brought_in(turning, channel, text)
    turning.until(lambda: len(turning.acknowledged) == before + 1, "it is acknowledged")
    return ts


@pytest.mark.parametrize("code", ["channel_not_found", "missing_scope"])
def test_what_is_said_in_a_channel_that_slack_does_not_describe_is_left_out(
    slack_server: SlackServer, place: Place, code: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Acknowledged and counted, with what to do; heartbeats go on after each; Slack is asked again, and once it answers, it is written."""
    slack = slack_server.workspace
    slack_server.scopes = WITHOUT_GROUPS
    slack_server.hidden_code = code
    slack.add_channel("C1")
    slack.add_channel("G1", is_private=True)
    with turned(slack_server, place) as turning:
        begun(turning)
        for number in (1, 2):
            said_in(turning, "G1", f"quokka {number}")
            assert turning.live.account["left_out:unknown"] == number
            turning.until_promised(slack.now())
        assert slack_server.asked["conversations.info"] == 1, "each question holds the heartbeats"
        monkeypatch.setattr(web_queries, "ASK_UNKNOWN", 0.0)
        said_in(turning, "G1", "quokka 3")
        turning.until_promised(slack.now())
        assert (turning.live.account["left_out:unknown"], slack_server.asked["conversations.info"]) == (3, 2)
        slack.channels["G1"]["is_private"] = False
        said_in(turning, "G1", "in public")
        turning.until_promised(slack.now())
        assert turning.live.account["fills_refused"] == 0
    assert place.said() == ["first", "in public"]
    assert not [record for _, record in place.records() if b"quokka" in (record.value or b"")]
    warned = [vars(record) for record in caplog.records if "give the app the scope groups:read" in record.getMessage()]
    assert [(each["channel"], each["why"], each["events"]) for each in warned] == [("G1", code, 1)] * 2


def test_what_is_held_for_a_channel_that_the_listing_leaves_out_is_let_go(slack_server: SlackServer, place: Place):
    """It came before the listing; a channel that is left out has no history to wait for, and heartbeats go on."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    slack.add_channel("C2", is_pending_ext_shared=True)  # its events say that it isn't shared yet
    with turned(slack_server, place) as turning:
        begun(turning)
    with turned(slack_server, place) as turning:
        slack.post("C2", "U1", "quokka")
        turning.bring(slack.events[-1])
        turning.live.turn(0)
        turning.up()
        turning.until_promised(posted(turning, "goes on"))
        assert turning.live.account["left_out:shared"] == 1 and len(turning.acknowledged) == 2
    assert place.said() == ["first", "goes on"]


def test_a_channel_that_is_hidden_after_an_outage_is_left_out(slack_server: SlackServer, place: Place):
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


@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_thread_that_was_read_waits_until_slack_has_described_its_channel(slack_server: SlackServer, place: Place, is_hidden: bool):
    """It was asked for before an outage, and its answer comes while Slack is asked what the channel is, which is not listed any more."""
    slack = slack_server.workspace
    gates = Gate(slack_server, "conversations.replies"), Gate(slack_server, "conversations.info")
    with turned(slack_server, place) as turning:
        reply = edited_unseen(turning)
        slack.channels["C1"]["is_archived"] = True
        turning.down()
        turning.up()
        turning.until(lambda: turning.live.backfill.has_gap("C1"), "it is asked for")
        gates[0].is_open = True
        turning.until(lambda: turning.live.backfill._postponed, "its thread is read")
        if is_hidden:
            slack_server.scopes = WITHOUT_GROUPS
            slack.channels["C1"]["is_private"] = True
        gates[1].is_open = True
        turning.until(lambda: turning.live.backfill.checks.left == 0 and turning.live.backfill.is_complete, "it is left out, or written")
    assert [edit["event"]["message"]["ts"] for _, edit in edits_in(place)] == ([] if is_hidden else [reply])


def test_the_history_of_a_channel_that_became_private_is_not_read(slack_server: SlackServer, place: Place):
    """Its description is asked for, and nothing more: what can't be shown to be public is not even read."""
    slack = slack_server.workspace
    for channel in ("C1", "C2"):
        slack.add_channel(channel)
    with turned(slack_server, place) as turning:
        begun(turning)
        said_in(turning, "C2", "in public")
        turning.until_promised(slack.now())
        turning.down()
        slack.channels["C2"]["is_private"] = True
        turning.up()
        turning.until_promised(posted(turning, "goes on"))
    asked = [(method, given["channel"]) for method, given in slack_server.record if "channel" in given]
    assert ("conversations.info", "C2") in asked and ("conversations.history", "C2") not in asked


def test_a_move_that_comes_in_an_outage_is_written(slack_server: SlackServer, place: Place):
    """With what was said before it: Slack describes no channel under its old id, so what it is now decides. Flows end what was open."""
    slack_server.workspace.add_channel("C1")
    with turned(slack_server, place, "12") as turning:
        begun(turning)
        turning.down("1")
        posted(turning, "before", line="2")
        move(turning, "C1", "C9")
        turning.up("1")
        turning.until_promised(brought_in(turning, "C9", "after"))
    assert sorted(keyed(place)) == [("C1", "before"), ("C1", "channel_id_changed"), ("C1", "first"), ("C9", "after")]


def test_a_move_to_a_channel_that_slack_does_not_describe_is_all_that_is_written(slack_server: SlackServer, place: Place):
    """It has no text. What was said just before may have been said in private."""
    slack_server.workspace.add_channel("C1")
    slack_server.scopes = WITHOUT_GROUPS
    with turned(slack_server, place, "12") as turning:
        begun(turning)
        turning.down("1")
        posted(turning, "quokka", line="2")
        move(turning, "C1", "C9", is_private=True)
        turning.up("1")
        slack_server.workspace.add_channel("C2")
        turning.until_promised(brought_in(turning, "C2", "elsewhere"))
        assert turning.live.account["left_out:unknown"] == 1
    assert sorted(keyed(place)) == [("C1", "channel_id_changed"), ("C1", "first"), ("C2", "elsewhere")]
