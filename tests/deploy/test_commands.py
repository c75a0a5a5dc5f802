"""The commands of the compose file and of the manifests run, outside containers, and end well."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beepgpt.connectors.kafka import Connection, Writer, begin_and_end_offsets
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from beepgpt.simulation.slack.server import SlackServer
from tests.support.alerts import prediction
from tests.support.deploy import (
    MAKE_EXAMPLES,
    OURS,
    ROOT,
    base_settings,
    containers,
    environment,
    expanded,
    flag,
    of_kind,
    services,
    settings_in,
    without_security,
)
from tests.support.figures import shown_of
from tests.support.histories import heartbeat, post
from tests.support.ports import free_ports
from tests.support.scoring import save
from tests.support.slack_web_api import TOKEN
from tests.support.slack_web_api import serving as slack_serving
from tests.support.speed import slowness, wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # kafka-python leaves those that can't connect

PATIENCE = 60 * slowness()
"""Seconds in which a flow has to start, and to make something."""


@dataclass(frozen=True)
class Here:
    """This machine in the place of a container: which addresses and folders stand for its own."""

    folder: Path
    instead: Mapping[str, str]

    def place(self, text: str) -> str:
        for theirs, ours in self.instead.items():
            text = text.replace(theirs, ours)
        return text

    def start(self, command: list[str], variables: Mapping[str, str] | None = None, log: str = "log") -> subprocess.Popen[bytes]:
        """Starts a container's command; what it says goes to a file."""
        argv = [self.place(each) for each in command]
        programs = {"beepgpt": [sys.executable, "-m", "beepgpt"], "python": [sys.executable]}
        argv[:1] = programs.get(argv[0], argv[:1])
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("BEEPGPT_", "BYTEWAX_"))}
        ours["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
        ours["PYTHONPATH"] = str(ROOT)
        ours |= {name: self.place(value) for name, value in (variables or {}).items()}
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(argv, cwd=self.folder, env=ours, stdout=file, stderr=file, stdin=subprocess.DEVNULL)

    def run(self, command: list[str], variables: Mapping[str, str] | None = None) -> None:
        """Runs a container's command to its end, which has to be a good one."""
        status = self.start(command, variables).wait(PATIENCE)
        assert status == 0, f"{command} ended with {status}: {self.said()}"

    def said(self, log: str = "log") -> str:
        return (self.folder / log).read_text("utf-8", "replace")[-3000:]


@contextmanager
def stopped_at_the_end(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Whatever happens in here, none of them is left."""
    try:
        yield
    finally:
        for each in processes:
            if each.poll() is None:
                each.kill()
            each.wait()


def answers(port: int, path: str) -> str | None:
    """What is served there; None if nothing is, or not yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def count(connection: Connection, topic: str) -> int:
    offsets: dict[int, tuple[int, int]] = begin_and_end_offsets(connection, topic)
    return sum(end - begin for begin, end in offsets.values())


def check_served(job: str, served: str, but: Collection[str] = ()) -> None:
    """The process serves every figure of its job that a panel or a rule asks for; `but`: what it may have nothing to say of yet."""
    for name in shown_of(job) - set(but):
        assert f"# TYPE {name} " in served, name


def check_flow(
    connection: Connection, flow: list[subprocess.Popen[bytes]], ports: list[int], grace: float, said: Callable[[], str]
) -> None:
    """It gets ready, makes examples, serves every figure of the dashboard, and stops when it is asked to."""

    def is_up() -> bool:
        assert all(each.poll() is None for each in flow), f"a process ended: {said()}"
        return all(answers(port, "/readyz") for port in ports)

    wait_until(is_up, "the flow is ready", said=said)
    wait_until(lambda: count(connection, "slack.examples"), "there are examples", said=said)
    assert all(answers(port, "/healthz") for port in ports)
    served = "".join(answers(port, "/metrics") or "" for port in ports)
    check_served("examples", served)
    for each in flow:
        each.send_signal(signal.SIGTERM)
    assert [each.wait(grace) for each in flow] == [0] * len(flow), said()


@pytest.mark.slow
def test_every_command_of_the_compose_file_runs(connection: Connection, export: Path, tmp_path: Path):
    """Topics are made, an export is put on them, and examples come until they are stopped. (`up` runs in tests/up/test_up.py.)"""
    flow = services()["examples"]
    workers = int(flag(flow["command"], "--workers"))
    port = free_ports(workers)
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    places = {"kafka:19092": connection.bootstrap, "/recovery": str(recovery), "/import/export.zip": str(export), "9464": str(port)}
    here = Here(tmp_path, places)
    ours = {name for name, each in services().items() if each["image"].startswith(f"{OURS}:")}

    assert ours == {"topics", "ingest", "slack", "examples", "score", "alert", "up"}, "a new service is run here, too"
    here.run(services()["topics"]["command"])
    here.run(services()["topics"]["command"])
    here.run(services()["ingest"]["command"])
    process = here.start(flow["command"])
    with stopped_at_the_end([process]):
        wait_until(lambda: answers(port, "/readyz"), "the flow is ready", said=here.said)
        here.run(flow["healthcheck"]["test"][1:])
        grace = float(flow["stop_grace_period"].removesuffix("s"))
        check_flow(connection, [process], list(range(port, port + workers)), grace, here.said)
    with pytest.raises(AssertionError, match="ended with 1"):
        here.run(flow["healthcheck"]["test"][1:])


def variables_of(service: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """What Compose would set, where those are set for itself."""
    return {name: re.sub(r"\$\{(\w+):-\}", lambda found: given.get(found[1], ""), text) for name, text in service["environment"].items()}


@pytest.mark.slow
def test_what_slack_says_comes_to_the_compose_files_topic(connection: Connection, slack_server: SlackServer, tmp_path: Path):
    """By the service's own command, with the tokens of the environment; it is healthy, and ends well."""
    service, port = services()["slack"], free_ports()
    here = Here(tmp_path, {"kafka:19092": connection.bootstrap, "9464": str(port)})
    given = {**variables_of(service, slack_server.settings), "BEEPGPT_SLACK__BASE_URL": slack_server.base_url}
    channel = slack_server.workspace.add_channel("C1")
    here.run(services()["topics"]["command"])
    process = here.start(service["command"], given)
    with stopped_at_the_end([process]):
        wait_until(lambda: "beepgpt_slack_connected 1.0" in (answers(port, "/metrics") or ""), "it is connected", said=here.said)
        slack_server.workspace.post(channel, "U1", "hello")
        wait_until(lambda: slack_server.acknowledged, "what was said is on the topic", said=here.said)
        wait_until(lambda: answers(port, "/readyz"), "heartbeats come", said=here.said)
        check_served("slack", answers(port, "/metrics") or "")
        here.run(service["healthcheck"]["test"][1:])
        process.send_signal(signal.SIGTERM)
        assert process.wait(float(service["stop_grace_period"].removesuffix("s"))) == 0, here.said()
    assert not re.search("not-a-secret", here.said())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_scoring_service_runs(connection: Connection, tmp_path: Path):
    """The compose file's command predicts what is said from its start on."""
    port = free_ports()
    (tmp_path / "recovery").mkdir()
    places = {"kafka:19092": connection.bootstrap, "/recovery": str(tmp_path / "recovery"), "9464": str(port)}
    here = Here(tmp_path, {"/model": str(save(tmp_path / "trained")), **places})
    here.run(services()["topics"]["command"])
    scores = services()["score"]
    with stopped_at_the_end([process := here.start(scores["command"])]):
        check_scoring(connection, process, port, float(scores["stop_grace_period"].removesuffix("s")), here.said)


def check_scoring(connection: Connection, flow: subprocess.Popen[bytes], port: int, grace: float, said: Callable[[], str]) -> None:
    """It gets ready, goes through all that there is, predicts what is said from then on, and stops when it is asked to."""
    wait_until(lambda: answers(port, "/readyz"), "the flow is ready", said=said)
    now = time.time_ns() // 1000
    with Writer(connection, "slack.events") as writer:
        writer.send(
            [OutgoingRecord(b"C1", post("C1", now, "ana", "Is it red?").line), OutgoingRecord(b"C1", heartbeat(now + 60_000_000).line)]
        )
    wait_until(lambda: count(connection, "slack.predictions"), "there is a prediction", said=said)
    assert "beepgpt_predictions_total{" in (answers(port, "/metrics") or "")
    check_served("score", answers(port, "/metrics") or "")
    flow.send_signal(signal.SIGTERM)
    assert flow.wait(grace) == 0, said()


@pytest.mark.slow
@pytest.mark.parametrize("folder", MAKE_EXAMPLES)
def test_every_command_of_the_manifests_runs(connection: Connection, export: Path, tmp_path: Path, folder: str):
    """The same on Kubernetes: all pods at once, with the variables and files that they would have."""
    settings = base_settings() | without_security(connection)
    job, pod_set = of_kind(folder, "Job"), of_kind(folder, "StatefulSet")
    (topics,) = job["spec"]["template"]["spec"]["containers"]
    pod = pod_set["spec"]["template"]["spec"]
    (flow,) = pod["containers"]
    pods = [f"{pod_set['metadata']['name']}-{number}" for number in range(pod_set["spec"]["replicas"])]
    first = free_ports(len(pods) * len(flow["ports"]))
    hosts = tmp_path / "hosts"
    talk = free_ports(len(pods))
    hosts.write_text("".join(f"127.0.0.1:{talk + number}\n" for number in range(len(pods))))
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    places = {"/recovery": str(recovery), "/etc/beepgpt/hosts": str(hosts), "$BYTEWAX_POD_NAME.beepgpt-examples": "localhost"}
    here = Here(tmp_path, places)

    def command(container: dict[str, Any], variables: dict[str, str]) -> list[str]:
        return [expanded(each, variables) for each in container["command"]]

    given = environment(topics, "beepgpt-topics", settings)
    here.run(command(topics, given), given)
    Here(tmp_path, {"kafka:19092": connection.bootstrap, "/import/export.zip": str(export)}).run(services()["ingest"]["command"])
    for name in pods:
        for each in pod.get("initContainers", []):
            given = environment(each, name, settings)
            here.run(command(each, given), given)
    started: list[subprocess.Popen[bytes]] = []
    with stopped_at_the_end(started):
        for number, name in enumerate(pods):
            own_port = {"BEEPGPT_RUN__METRICS_PORT": str(first + number)}  # here they share one machine
            given = environment(flow, name, settings) | own_port
            started.append(here.start(command(flow, given), given, "flow"))
        metrics = [each for each in flow["ports"] if each["name"].startswith("metrics")]
        ports = list(range(first, first + len(pods) * len(metrics)))
        check_flow(connection, started, ports, pod["terminationGracePeriodSeconds"], lambda: here.said("flow"))
    assert list(recovery.rglob("*.sqlite3"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["compose", "kubernetes"])
def test_the_alerts_command_runs(connection: Connection, tmp_path: Path, place: str):
    """A prediction on the topic comes to somebody in Slack; and it ends well."""
    space = AlertedWorkspace()
    for user in ("ana", "bo"):
        space.user(user)
    space.channel("C1", "ana", "bo")
    (tmp_path / "recovery").mkdir()
    port = free_ports()
    places = {"kafka:19092": connection.bootstrap, "/recovery": str(tmp_path / "recovery"), "/store": str(tmp_path), "9464": str(port)}
    here = Here(tmp_path, places)
    here.run(services()["topics"]["command"])
    with slack_serving(space):
        slack = {"BEEPGPT_SLACK__BASE_URL": space.url, "BEEPGPT_SLACK__BOT_TOKEN": TOKEN, "BEEPGPT_ALERTS__QUIET": ""}
        if place == "compose":
            service = services()["alert"]
            given = {**variables_of(service, slack), **slack, "BEEPGPT_ALERTS__THRESHOLD": "0.5", "BEEPGPT_ALERTS__OPTED_IN": "true"}
            command = service["command"]
        else:
            (container,) = containers("alerts")
            given = settings_in("alerts") | without_security(connection) | {**slack, "BEEPGPT_ALERTS__OPTED_IN": "true"}
            command = [expanded(each, given) for each in container["command"]]
        with stopped_at_the_end([process := here.start(command, given)]):
            wait_until(lambda: answers(port, "/readyz"), "it has read what was there", said=here.said)
            here.run(services()["alert"]["healthcheck"]["test"][1:])
            told = prediction(time.time_ns() // 1000, people={"bo": 0.9})
            with Writer(connection, "slack.predictions") as writer:
                writer.send([OutgoingRecord(b"C1", json.dumps(told).encode())])
            wait_until(lambda: space.sent_to("bo"), "somebody is told", said=here.said)
            wait_until(lambda: count(connection, "slack.alerts"), "it is on the topic, too", said=here.said)
            wait_until(lambda: 'told_total{by="topic"} 1.0' in (answers(port, "/metrics") or ""), "it is counted", said=here.said)
            check_served("alert", answers(port, "/metrics") or "")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60 * slowness()) == 0, here.said()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_scoring_pod_runs(connection: Connection, tmp_path: Path):
    """Its command, with the variables that it would have, predicts what is said from its start on."""
    settings = base_settings() | without_security(connection)
    pod_set = of_kind("scoring", "StatefulSet")
    pod = pod_set["spec"]["template"]["spec"]
    (flow,) = pod["containers"]
    port = free_ports()
    (tmp_path / "recovery").mkdir()
    here = Here(tmp_path, {"/model": str(save(tmp_path / "trained")), "/recovery": str(tmp_path / "recovery")})
    here.run(["beepgpt", "topics", f"kafka://{connection.bootstrap}"])
    given = environment(flow, "beepgpt-scoring-0", settings) | {"BEEPGPT_RUN__METRICS_PORT": str(port)}
    with stopped_at_the_end([process := here.start([expanded(each, given) for each in flow["command"]], given)]):
        check_scoring(connection, process, port, pod["terminationGracePeriodSeconds"], here.said)
