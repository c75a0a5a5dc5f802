"""The units for systemd on two pages: systemd reads them, and what the first starts runs, ends, and can be started again."""

import configparser
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from beepgpt.connectors.kafka import Connection
from tests.deploy.test_commands import PATIENCE, Here, answers, stopped_at_the_end
from tests.support.deploy import ROOT, services
from tests.support.ports import free_ports
from tests.support.scoring import save
from tests.support.speed import wait_until

PROGRAM = "/opt/beepgpt/bin/beepgpt"


def unit(page: str = "cluster.md") -> str:
    """As it stands on the page."""
    (found,) = re.findall(r"```ini\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)
    return str(found)


def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit())
    return parser["Service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize("is_spoiled", [False, True])
@pytest.mark.parametrize("page", ["cluster.md", "guides/live.md"])
def test_systemd_takes_the_unit(tmp_path: Path, page: str, is_spoiled: bool):
    """It knows every setting and value, and says nothing; of a setting that it doesn't know it would."""
    text = unit(page).replace(PROGRAM, "/bin/true").replace("User=beepgpt", "User=root")
    assert text.count("/bin/true") == 1
    path = tmp_path / "beepgpt-score.service"
    path.write_text(text.replace("RestartSec", "RestartSeconds") if is_spoiled else text)
    verify = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)

    assert ("RestartSeconds" in done.stderr) == is_spoiled
    assert is_spoiled or (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_the_unit_starts_runs_and_ends_in_time(connection: Connection, tmp_path: Path):
    """Without brokers it fails, so that `Restart=on-failure` starts it again; with them it is ready, and SIGTERM ends it with 0."""
    port = free_ports(2)
    nobody = port + 1
    places = {"/var/lib/beepgpt/model": str(save(tmp_path / "trained")), "/var/lib/beepgpt/score": str(tmp_path / "score")}
    program, *arguments = shlex.split(service()["ExecStart"])
    assert (program, service()["Restart"]) == (PROGRAM, "on-failure")
    metrics = {"BEEPGPT_RUN__METRICS_PORT": str(port)}
    away = Here(tmp_path, {**places, "localhost:9092": f"127.0.0.1:{nobody}"})
    with stopped_at_the_end([failed := away.start(["beepgpt", *arguments], metrics, "away")]):
        assert failed.wait(PATIENCE) == 1, away.said("away")
    assert f"127.0.0.1:{nobody}" in away.said("away")

    here = Here(tmp_path, {**places, "localhost:9092": connection.bootstrap, "kafka:19092": connection.bootstrap})
    here.run(services()["topics"]["command"])
    with stopped_at_the_end([flow := here.start(["beepgpt", *arguments], metrics)]):
        wait_until(lambda: answers(port, "/readyz"), "it is ready", said=here.said)
        flow.send_signal(signal.SIGTERM)
        assert flow.wait(float(service()["TimeoutStopSec"])) == 0, here.said()
