"""What a supervisor does to a pod, with the manifests' own command and grace period: updates, kills, restarts."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from beepgpt.connectors.kafka import Connection, Writer, records_of
from beepgpt.connectors.log import OutgoingRecord
from tests.deploy.test_commands import PATIENCE, Here, answers, count, stopped_at_the_end
from tests.support.deploy import base_settings, environment, expanded, of_kind, services, without_security
from tests.support.histories import heartbeat
from tests.support.kafka_kills import administering
from tests.support.ports import free_ports
from tests.support.speed import slowness, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

WORKERS = 2
PARTITIONS = 12


class Pod:
    """The pod of `deploy/kubernetes/one-pod`, with two workers, on this machine."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection = connection
        self.manifest = of_kind("one-pod", "StatefulSet")["spec"]
        pod = self.manifest["template"]["spec"]
        (self.container,) = pod["containers"]
        self.grace: float = pod["terminationGracePeriodSeconds"]
        self.port = free_ports(2 * WORKERS)
        self.recovery = folder / "recovery"
        self.recovery.mkdir()
        self.here = Here(folder, {"/recovery": str(self.recovery), "--workers=4": f"--workers={WORKERS}"})
        self.processes: list[subprocess.Popen[bytes]] = []
        self.logs = 0

    def command(self, topic: str = "slack.events") -> tuple[list[str], dict[str, str]]:
        """The container's command and variables."""
        given = environment(self.container, "beepgpt-examples-0", base_settings() | without_security(self.connection))
        return [expanded(each, given).replace("slack.events", topic) for each in self.container["command"]], given

    def start(self, port: int | None = None, topic: str = "slack.events") -> subprocess.Popen[bytes]:
        """Start it, with a log of its own."""
        command, given = self.command(topic)
        self.logs += 1
        process = self.here.start(command, given | {"BEEPGPT_RUN__METRICS_PORT": str(port or self.port)}, f"log-{self.logs}")
        self.processes.append(process)
        return process

    def said(self) -> str:
        return self.here.said(f"log-{self.logs}")

    def started(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it is ready."""
        process = self.start()

        def is_ready() -> bool:
            assert process.poll() is None, self.said()
            return all(answers(port, "/readyz") for port in range(self.port, self.port + WORKERS))

        wait_until(is_ready, "it is ready", said=self.said)
        return process

    def snapshots(self) -> dict[str, int]:
        """When each file of the recovery store was written last."""
        return {str(path): path.stat().st_mtime_ns for path in self.recovery.rglob("*.sqlite3*")}


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to all processes of a pod."""
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    for pid in (process.pid, *map(int, listed.stdout.split())):
        os.kill(pid, signal.SIGKILL)
    process.wait(30 * slowness())


@pytest.fixture
def pod(connection: Connection, export: Path, tmp_path: Path) -> Pod:
    """A topic with an export's events, in partitions that are all used."""
    here = Here(tmp_path, {"kafka:19092": connection.bootstrap, "/import/export.zip": str(export)})
    here.run(services()["topics"]["command"])
    here.run(services()["ingest"]["command"])
    return Pod(connection, tmp_path)


def settle(connection: Connection, topic: str = "slack.events", partitions: int = PARTITIONS) -> None:
    """Let time go on until nothing of the export is open, in every partition."""
    beat = heartbeat(time.time_ns() // 1000).line
    with Writer(connection, topic) as writer:
        writer.send([OutgoingRecord(None, beat, (), number) for number in range(partitions)])


def examples_on(connection: Connection, topic: str = "slack.examples") -> dict[bytes, set[bytes]]:
    """By key: what was written under it; the same bytes again count once."""
    found: dict[bytes, set[bytes]] = {}
    for _, record in records_of(connection, topic):
        found.setdefault(record.key or b"", set()).add(record.value or b"")
    return found


def undisturbed(pod: Pod, folder: Path) -> set[bytes]:
    """What one run makes of the whole topic."""
    made = folder / "undisturbed.jsonl"
    pod.here.run(["beepgpt", "examples", f"kafka://{pod.connection.bootstrap}/slack.events", f"--to={made}"], pod.command()[1])
    return set(made.read_bytes().splitlines())


def test_an_update_and_a_kill_in_the_midst_of_a_snapshot_change_no_example(pod: Pod, tmp_path: Path):
    """An update: a second process is refused while the first has the volume, the first ends within its grace period, and the next goes on.

    A pod that is deleted and killed while it writes its last snapshot: the next one goes on from the snapshot before.
    """
    with stopped_at_the_end(pod.processes):
        first = pod.started()
        wait_until(lambda: count(pod.connection, "slack.examples"), "there are examples", said=pod.said)
        beside = pod.start(pod.port + WORKERS)
        assert beside.wait(PATIENCE) == 1
        assert "another run is using" in pod.said(), pod.said()
        began = time.monotonic()
        first.send_signal(signal.SIGTERM)
        assert first.wait(pod.grace) == 0
        print(f"updated: stopped in {time.monotonic() - began:.1f} s")

        second = pod.started()
        before = pod.snapshots()
        second.send_signal(signal.SIGTERM)
        wait_until(lambda: pod.snapshots() != before, "it writes a snapshot")
        is_over = second.poll() is not None
        kill_all(second)
        assert not is_over, "it was killed, and had not ended"

        third = pod.started()
        settle(pod.connection)
        expected = undisturbed(pod, tmp_path)
        wait_until(lambda: len(examples_on(pod.connection)) >= len(expected), "all examples are there", said=pod.said)
        third.send_signal(signal.SIGTERM)
        assert third.wait(pod.grace) == 0
    found = examples_on(pod.connection)
    assert {len(values) for values in found.values()} == {1}
    assert {value for values in found.values() for value in values} == expected


def test_a_topic_that_got_partitions_is_refused_at_every_restart(pod: Pod, tmp_path: Path):
    """Also by the worker that is not the first. Nothing is written meanwhile; by what the message says, it goes on on a new topic."""
    with stopped_at_the_end(pod.processes):
        running = pod.started()
        wait_until(lambda: count(pod.connection, "slack.examples"), "there are examples", said=pod.said)
        with administering(pod.connection) as admin:
            admin.create_partitions({"slack.events": PARTITIONS + 2})
        assert running.wait(PATIENCE) == 1, pod.said()
        written = count(pod.connection, "slack.examples")
        for _ in range(2):
            assert pod.start().wait(PATIENCE) == 1
            assert f"had {PARTITIONS} partitions" in pod.said() and f"has {PARTITIONS + 2}" in pod.said(), pod.said()
            assert "--with dead-letters,late" in pod.said()
        assert count(pod.connection, "slack.examples") == written
