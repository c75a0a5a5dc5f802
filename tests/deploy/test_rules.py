"""Rules of what matters first fire when what they are for is done to a real process."""

import time
from pathlib import Path

import pytest

from tests.commands.test_alert_command import just_now, settings_of, write
from tests.support import program
from tests.support.alerts import prediction
from tests.support.figures import rules
from tests.support.kafka import free_block, started
from tests.support.prometheus import Prometheus
from tests.support.slack_web_api import Workspace
from tests.support.speed import wait_until

FIRST = ("ProcessGone", "BrokerAway", "NoHeartbeats", "FarBehind", "BehindEventTime", "DirectMessagesWait")

Firing = dict[str, list[dict[str, str]]]


def watching(**targets: int) -> Prometheus:
    """One that knows our rules."""
    return Prometheus(targets, rules())


def until(prometheus: Prometheus, name: str, pause: float = 0.2) -> Firing:
    """Scrapes until a rule fires; returns all that fire then."""
    seen: Firing = {}

    def fires() -> bool:
        nonlocal seen
        time.sleep(pause)
        seen = prometheus.scrape()
        return name in seen

    wait_until(fires, f"{name} fires", said=lambda: str(seen))
    return seen


def test_the_rules_of_what_matters_first_stand_first():
    """As many as this file tries."""
    assert tuple(each["alert"] for each in rules()[: len(FIRST)]) == FIRST


@pytest.mark.slow
def test_direct_messages_that_wait(slack: Workspace, tmp_path: Path):
    """Slack is busy, and says for how long."""
    source = write(tmp_path / "predictions.jsonl", prediction(just_now()))
    slack.faults = {"chat.postMessage:Dbo": ["429:3600"]}
    port = free_block(1)
    command = program("alert", source, "--threshold", 0.5, "--metrics-port", port)
    with started(command, tmp_path / "run", settings_of(slack, tmp_path), port, 1):
        wait_until(lambda: slack.calls("chat.postMessage"), "Slack is asked")
        fires = until(watching(alert=port), "DirectMessagesWait")

    assert fires == {"DirectMessagesWait": [{"job": "alert"}]}
