"""A first model that could not be made: for a fault, or since there is too little to learn from."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import time
from pathlib import Path

import orjson
import pytest

from beepgpt.config.settings import read_settings
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.runtime.workers import Stop
from beepgpt.simulation.workspace import Plan, write_export
from beepgpt.up.folder import DataFolder
from beepgpt.up.plan import UpPlan
from beepgpt.up.run import LiveRun
from beepgpt.up.status import StatusWatch
from beepgpt.web.status_page import verdict_of
from tests.support.speed import wait_until

pytestmark = pytest.mark.slow


@contextmanager
def running(folder: DataFolder) -> Iterator[LiveRun]:
    """A run with an export of twenty messages; no Slack is there."""
    write_export(Plan(messages=20, days=1, channels=1, people=3), export := folder.path.parent / "acme.zip")
    folder.take()
    stop = Stop()
    run = LiveRun(UpPlan(folder, read_settings(environ={}), None, export, None, "channels", time(3)), stop)
    thread = threading.Thread(target=run.run)
    thread.start()
    try:
        wait_until(lambda: "first model" in run.jobs.ended, "there was a try")
        yield run
    finally:
        stop.signal = 15
        thread.join()


def test_how_many_examples_are_there_is_said_now_and_then(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """At each tenth of what is needed, and not in between; more than is needed is enough."""
    folder = DataFolder(tmp_path / "live")
    folder.take()
    run = LiveRun(UpPlan(folder, read_settings(environ={}), None, None, None, "channels", time(3)), Stop())
    log = run.so_far.log
    log.create([TopicSpec("slack.examples", 1, {"cleanup.policy": "compact"})])

    def make(count: int) -> None:
        with log.writer("slack.examples") as writer:
            times = [f"{1_700_000_000 + number}.000000" for number in range(run.so_far.count, count)]
            writer.send([OutgoingRecord(each.encode(), orjson.dumps({"answer": ["U1"], "prompt_ts": each})) for each in times])
            writer.flush()

    for count in (0, 10, 25, 30, 199):
        make(count)
        run._collect()
    make(421)
    run.so_far.look()

    words = "of the 200 answered examples that a first model needs are there."
    assert capfd.readouterr().err.splitlines() == [f"Collecting: {count} {words}" for count in (0, 25, 199)]
    assert run.so_far.says == "421 answered examples are there, enough for a first model"


def test_too_little_is_no_fault(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """What is said from now on is collected."""
    with running(DataFolder(tmp_path / "live")) as run:
        wait_until(lambda: run.so_far.count, "the examples of the export are counted")
        values = StatusWatch(run).values()

    said = capfd.readouterr().err
    assert "There is no model yet: what is said from now on is collected, until there is enough for one; more history comes in" in said
    assert "beepgpt try ended" not in said
    assert re.search(r"Collecting: \d+ of the 200 answered examples that a first model needs are there\.", said)
    assert [each["fault"] for each in values["jobs"]] == ["", "", ""] and "of the 200 answered examples" in values["no_model"]


def test_why_a_command_ends_again_and_again_stands_in_the_first_line(tmp_path: Path):
    """Also while it runs for a moment in between: what is wrong must be seen without looking for it."""
    with running(DataFolder(tmp_path / "live")) as run:
        ingest = run.services["ingest"]
        wait_until(lambda: ingest.ends > 1, "it ended twice")
        wait_until(lambda: ingest.child.pid is not None, "it was started again")
        verdict = verdict_of(StatusWatch(run).values())

    assert "times in a row it ended with status 2, and said last: slack.bot_token is missing: set BEEPGPT_SLACK__BOT_TOKEN" in verdict


def test_a_full_disk_is_a_fault_and_called_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """On the terminal, and in the first line of the page."""
    folder = DataFolder(tmp_path / "live")
    folder.first.mkdir(parents=True)
    (folder.first / "steps.json").write_text("{}")
    (folder.first / "examples.jsonl").symlink_to("/dev/full")
    (folder.path / "up.json").write_text("{}")
    with running(folder) as run:
        verdict = verdict_of(StatusWatch(run).values())

    fault = f"first model: beepgpt try ended with status 1, and said last: {folder.first}/examples.jsonl: the disk is full: free some space"
    assert fault in verdict
    said = capfd.readouterr().err
    assert fault in said and "The first model could not be made: what is said from now on is collected" in said
    assert "There is no model yet" not in said
