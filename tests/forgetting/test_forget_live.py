"""Live Slack with a list of the forgotten: what it names is written neither as it comes nor from a history, once it is on the list."""

import json
from pathlib import Path

import pytest

from beepgpt.connectors.kafka import Connection
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.runtime.forgotten import write_forgotten
from beepgpt.simulation.slack.server import SlackServer
from tests.ingest.test_ingest_slack import Place, connected, ingesting
from tests.support.broker import Broker

pytestmark = pytest.mark.slow


def test_what_is_forgotten_is_not_written_live_and_not_from_a_history(broker: Broker, slack_server: SlackServer, tmp_path: Path):
    """It is acknowledged and counted; a mention of the person names nobody; the connection is not taken for silent."""
    place, slack, path = Place(Connection(broker.bootstrap)), slack_server.workspace, tmp_path / "forgotten.json"
    channel = slack.add_channel("C1")
    ours = Forgotten(b"a salt").with_names(["U1"])
    write_forgotten(path, ours)
    with ingesting(slack_server, place, tmp_path, "--forgotten", path, "--report", tmp_path / "report.json") as run:
        connected(run)
        slack.post(channel, "U1", "quokkasaid")
        slack.post(channel, "U0", "so says <@U1>")
        place.wait_for(["so says <@>"])
        write_forgotten(path, ours.with_names(["U2"]))
        slack.post(channel, "U2", "quokkasaid")
        ts = slack.post(channel, "U0", "well")
        place.wait_for(["so says <@>", "well"])
        run.wait_until_ready()
        place.wait_for_beat(ts)
        assert run.stop() == 0, run.said
    account = json.loads((tmp_path / "report.json").read_text())["account"]
    assert account["left_out"]["forgotten"] == 2 and account["adds_up"]

    slack.post(channel, "U1", "quokkasaid while it was away")
    ts = slack.post(channel, "U0", "again")
    with ingesting(slack_server, place, tmp_path, "--forgotten", path) as run:
        place.wait_for(["so says <@>", "well", "again"])
        run.wait_until_ready()
        place.wait_for_beat(ts)
        assert run.stop() == 0, run.said
    assert not [record for _, record in place.records() if b"quokka" in (record.value or b"") or b"U1" in (record.value or b"")]
