"""Each rule of what matters first fires when what it is for is done to real processes, and none does while all is well."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from beepgpt.connectors.kafka import Connection, create_topics
from beepgpt.connectors.log import TopicSpec
from beepgpt.simulation.slack import server as slack_server
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from tests.commands.test_alert_command import just_now, settings_of, write
from tests.support import program, quiet
from tests.support.alerts import prediction
from tests.support.broker import Broker, GivenBroker
from tests.support.deploy import ROOT
from tests.support.figures import queries, rules
from tests.support.kafka import KEPT, address, new_topics, put, started, stream_of
from tests.support.kafka_flow import PLAN
from tests.support.ports import free_ports
from tests.support.prometheus import Prometheus
from tests.support.speed import wait_until

FIRST = ("ProcessGone", "BrokerAway", "NoHeartbeats", "FarBehind", "BehindEventTime", "DirectMessagesWait")

RULES = ROOT / "deploy" / "prometheus-rules.yml"
BEGUN = ("beepgpt_slack_heartbeats_total", "beepgpt_heartbeats_total")

Firing = dict[str, list[dict[str, str]]]


def watching(**targets: int) -> Prometheus:
    """One that knows our rules."""
    return Prometheus(targets, rules())


def until(prometheus: Prometheus, name: str, pause: float = 0.2, *, fires: bool = True) -> Firing:
    """Scrapes until a rule fires, or does no more; returns all that fire then, as the real Prometheus does, where it is installed.

    `pause`: seconds from scrape to scrape, which are 10 to the rules: heartbeats must not be late for these.
    """
    seen: Firing = {}

    def is_so() -> bool:
        nonlocal seen
        time.sleep(pause)
        seen = prometheus.scrape()
        return (name in seen) == fires

    wait_until(is_so, f"{name} fires: {fires}", said=lambda: str(seen))
    for _ in range(2):  # windows begin a scrape earlier in Prometheus 2 than in 3
        assert is_so(), seen
    assert prometheus.by_promtool(RULES) == ""
    return seen


def test_the_rules_of_what_matters_first_stand_first():
    """As many as this file tries."""
    assert tuple(each["alert"] for each in rules()[: len(FIRST)]) == FIRST


@pytest.mark.slow
def test_direct_messages_that_wait(slack: AlertedWorkspace, tmp_path: Path):
    """Slack is busy, and says for how long."""
    source = write(tmp_path / "predictions.jsonl", prediction(just_now()))
    slack.faults = {"chat.postMessage:Dbo": ["429:3600"]}
    port = free_ports()
    command = program("alert", source, "--threshold", 0.5, "--metrics-port", port)
    with started(command, tmp_path / "run", settings_of(slack, tmp_path), port, 1):
        wait_until(lambda: slack.calls("chat.postMessage"), "Slack is asked")
        fires = until(watching(alert=port), "DirectMessagesWait")

    assert fires == {"DirectMessagesWait": [{"job": "alert"}]}


@contextmanager
def stuck(command: list[str], folder: Path, settings: dict[str, str]) -> Iterator[None]:
    """The program, whose standard output nobody reads."""
    folder.mkdir()
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, stdin=subprocess.DEVNULL, env=quiet() | settings)
    try:
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_reader_that_is_far_behind(broker: Broker | GivenBroker, tmp_path: Path):
    """Whoever reads its examples takes no more, so it reads no more events; they are years old, and no heartbeat says otherwise."""
    topics = new_topics(Connection(broker.bootstrap))
    for _ in range(4):
        put(topics, stream_of(PLAN).messages(1))
    port = free_ports()
    command = program("examples", topics.source(follow="true"), "--to", "-", "--metrics-port", port)
    with stuck([str(each) for each in command], tmp_path / "run", topics.settings):
        prometheus = watching(examples=port)
        wait_until(lambda: not prometheus.scrape() and prometheus.evaluate("up == 1"), "it serves")
        fires = until(prometheus, "FarBehind") | until(prometheus, "BehindEventTime")

    assert fires == {"FarBehind": [{"job": "examples"}], "BehindEventTime": [{"job": "examples"}]}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_what_is_live_is_watched(mortal_broker: Broker, tmp_path: Path):
    """While all is well, nothing fires. Then Slack can't be reached; the brokers are away, and back; a process is killed."""
    connection, name = Connection(mortal_broker.bootstrap), f"test-{uuid4().hex[:12]}"
    topics = {each: f"{name}.{each}" for each in ("events", "interactions", "examples", "late", "dead-letters")}
    create_topics(connection, [TopicSpec(each, 1, KEPT) for each in topics.values()])
    ports = free_ports(2)
    commands = [
        program("ingest", "slack", "--to", address(connection, topics["events"]), "--metrics-port", ports),
        program(
            *("examples", address(connection, topics["events"]) + "?follow=true", "--to", address(connection, topics["examples"])),
            *("--metrics-port", ports + 1),
        ),
    ]
    with slack_server.serving(ack_within=1.0, retries=(0.2, 1.0, 3.0)) as server, ExitStack() as stack:
        server.workspace.add_channel("C1")
        settings = server.settings | {
            "BEEPGPT_SLACK__INTERACTIONS_TOPIC": topics["interactions"],
            "BEEPGPT_SLACK__DELAY": "1s",
            "BEEPGPT_KAFKA__LATE_TOPIC": topics["late"],
            "BEEPGPT_KAFKA__DEAD_LETTER_TOPIC": topics["dead-letters"],
        }
        runs = [
            stack.enter_context(started(command, tmp_path / str(number), settings, ports + number, 1))
            for number, command in enumerate(commands)
        ]
        for run in runs:
            run.wait_until_ready()
        prometheus = watching(slack=ports, examples=ports + 1)
        server.workspace.post("C1", "UANA", "Is it red?")  # the connection's first event: it is known to bring them
        wait_until(lambda: all(run.figure(name) > 1 for run, name in zip(runs, BEGUN, strict=True)), "heartbeats come")
        for _ in range(40):  # longer than the longest `for:`, and slower than heartbeats are late: a quiet line is sure at its pings alone
            time.sleep(1)
            assert prometheus.scrape() == {}, [run.said for run in runs]
        assert prometheus.by_promtool(RULES) == ""
        assert all(prometheus.evaluate(text) for title, text, _ in queries("beepgpt-operations") if "messages" not in title)

        server.faults.refuse["apps.connections.open"] = "internal_error"
        server.reset()
        assert until(prometheus, "NoHeartbeats", pause=0.5)["NoHeartbeats"] == [{"job": "slack"}]
        server.faults.refuse.clear()
        wait_until(lambda: runs[0].figure("beepgpt_slack_connected"), "it is connected again")
        server.workspace.post("C1", "UANA", "And now?")
        until(prometheus, "NoHeartbeats", pause=0.5, fires=False)

        mortal_broker.kill()
        away = until(prometheus, "BrokerAway", pause=1.0)["BrokerAway"]
        assert "examples" in {each["job"] for each in away}
        mortal_broker.start()
        until(prometheus, "BrokerAway", pause=0.5, fires=False)

        runs[1].process.send_signal(signal.SIGKILL)
        assert until(prometheus, "ProcessGone")["ProcessGone"] == [{"job": "examples", "instance": f"127.0.0.1:{ports + 1}"}]
