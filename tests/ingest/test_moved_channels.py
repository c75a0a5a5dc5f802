"""Live ingest and a channel that gets another id: the move stands under the old id, and the new one begins there."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from beepgpt.connectors import kafka
from beepgpt.simulation.slack.server import SlackServer
from tests.ingest.test_ingest_slack import Place
from tests.ingest.test_ingest_slack_faults import Turned, begun, place, posted, turned

__all__ = ["place"]


def move(turning: Turned, old: str, new: str, **more: Any) -> dict[str, Any]:
    """Slack gives a channel another id, and says so; its messages are under the new one."""
    slack = turning.server.workspace
    messages = slack.messages.pop(old)
    slack.channels.pop(old)
    slack.add_channel(new, **more)
    slack.messages[new] = messages
    event = {"type": "channel_id_changed", "old_channel_id": old, "new_channel_id": new, "event_ts": slack.now()}
    turning.bring(event)
    return event


def said_in(turning: Turned, channel: str, text: str, *, comes: bool = True) -> str:
    slack = turning.server.workspace
    ts = slack.post(channel, "U1", text)
    if comes:
        turning.bring(slack.events[-1])
    return ts


def keyed(place: Place) -> list[tuple[str, str]]:
    """Key, and text or type, of each record."""
    found = [(record.key or b"", json.loads(record.value or b"{}")) for _, record in kafka.records_of(place.connection, place.events)]
    return [(key.decode(), body["event"].get("text") or body["event"]["type"]) for key, body in found if body["type"] != "heartbeat"]


def test_the_move_stands_under_the_old_id(slack_server: SlackServer, place: Place, caplog: pytest.LogCaptureFixture):
    """What was said before it is not filled in again under the new id, now or after a restart, and nobody asks for the old one."""
    caplog.set_level(logging.WARNING)
    slack_server.workspace.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        posted(turning, "before")
        event = move(turning, "C1", "C9")
        turning.until_promised(said_in(turning, "C9", "after"))
        said_in(turning, "C9", "missed", comes=False)
        turning.down()
        turning.up()
        turning.until(lambda: "missed" in place.said(), "it is filled in")
        turning.bring(event | {"event_ts": event["event_ts"]})
        turning.until_promised(slack_server.workspace.now())
    expected = [("C1", "first"), ("C1", "before"), ("C1", "channel_id_changed"), ("C9", "after"), ("C9", "missed")]
    assert keyed(place) == expected
    assert "refused a channel's history" not in caplog.text and "a channel has another id" in caplog.text

    with turned(slack_server, place) as turning:
        turning.up()
        turning.until_promised(said_in(turning, "C9", "a new run"))
        turning.until(lambda: turning.live.backfill.is_complete, "gaps are closed")

    assert keyed(place) == [*expected, ("C9", "a new run")]
    assert "refused a channel's history" not in caplog.text


def test_a_channel_that_is_shared_by_its_move_ends_there(slack_server: SlackServer, place: Place):
    """Slack Connect's channels are left out: the move itself is not, since it ends what was open."""
    slack_server.workspace.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        slack = slack_server.workspace
        slack.channels["C1"]["is_ext_shared"] = True  # as the envelope says of the move
        event = {"type": "channel_id_changed", "channel": "C1", "old_channel_id": "C1", "new_channel_id": "C9", "event_ts": slack.now()}
        turning.bring(event)
        turning.until_promised(slack.now())
        turning.bring(slack.events[-1] | {"ts": slack.now(), "text": "told in a shared channel"})
        turning.until_promised(slack.now())

    assert keyed(place) == [("C1", "first"), ("C1", "channel_id_changed")]
