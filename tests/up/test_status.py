"""What the page of `beepgpt up` shows, as values: from the processes' metrics, the alert store and the jobs that run."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beepgpt.alerts.decisions import OF_POINTS
from beepgpt.alerts.store import AlertStore
from beepgpt.config.settings import read_settings
from beepgpt.ingest.slack.loop import SlackFigures, SlackPulse
from beepgpt.runtime import metrics
from beepgpt.runtime.workers import Stop
from beepgpt.up.folder import DataFolder
from beepgpt.up.jobs import TRAINING
from beepgpt.up.plan import UpPlan
from beepgpt.up.run import FIRST_MODEL, LiveRun
from beepgpt.up.status import Seen, StatusWatch
from beepgpt.web.pages import REASONS
from beepgpt.web.status_page import verdict_of
from tests.support import MONDAY_AT_TEN
from tests.support.ports import free_ports


@pytest.fixture
def run(tmp_path: Path) -> LiveRun:
    """Of which nothing is started."""
    folder = DataFolder(tmp_path / "live")
    folder.take()
    return LiveRun(UpPlan(folder, read_settings(environ={}), None, None, None, "channels", time(3)), Stop())


class Serving:
    """A process of `ingest`, as far as it is looked at; it was started just now, and is ready."""

    def __init__(self, written: int, filled: int = 0, channels: int = 3) -> None:
        self.counts, self.gauges = Counter(written=written, filled=filled), {"channels": channels}
        self.port, self.starts, self.since, self.ends, self.fault = free_ports(), 1, 0.0, 0, ""
        self.child = SimpleNamespace(pid=1, words=["Slack: Test"])
        pulse = SlackPulse()
        pulse.beat()
        pulse.missing = ""
        self.server = metrics.serve(self.port, "127.0.0.1", SlackFigures(lambda: self.counts, lambda: self.gauges), pulse)


def watched(run: LiveRun, *processes: Serving) -> list[Any]:
    """What each of them, one after the other, made in the last minute, by the first look."""
    watch, found = StatusWatch(run), []
    for process in processes:
        run.services = {"ingest": process}  # type: ignore[dict-item]
        with process.server:
            watch.look()
        found.append(watch.services()[0]["last_minute"])
    return found


def test_what_a_process_made_before_the_first_look_at_it_counts(run: LiveRun):
    """What was filled in, too; another process begins anew, whether it has made less than the one before or more."""
    assert watched(run, Serving(written=3, filled=2), Serving(written=1), Serving(written=7)) == [5, 1, 7]


def test_the_last_minute_is_no_rate():
    """What came in five seconds is not multiplied; of looks over two minutes, half counts."""
    seen = Seen()
    seen.begin(1, at=100.0)
    assert seen.last_minute is None
    seen.counts.append((105.0, 2.0))
    assert seen.last_minute == 2
    seen.counts.append((220.0, 4.0))
    assert seen.last_minute == 2


def test_an_app_in_no_channel_stands_in_the_first_line(run: LiveRun):
    """Though all that runs is well, and there is no model yet."""
    run.services = {"ingest": (process := Serving(written=0, channels=0))}  # type: ignore[dict-item]
    watch = StatusWatch(run)
    with process.server:
        assert verdict_of(watch.values()).startswith("It begins") is False
        watch.look()
    assert verdict_of(watch.values()) == "The app is in no channel: /invite @BeepGPT in those that it is to follow."


@pytest.mark.parametrize(
    ("job", "says", "sentence"),
    [
        (FIRST_MODEL, "2/6 training set: 2,731 to learn from (1 s)", "It learns its first model: step 3 of 6."),
        (FIRST_MODEL, "6/6 rehearsal: 24 alerts (0 s)", "It learns its first model: step 6 of 6."),
        (FIRST_MODEL, "Alerts from 30 % on", "It learns its first model."),
        (TRAINING, "", "It learns its first model."),
        ("", "", "It collects: 0 of the 200 answered examples that a first model needs are there."),
    ],
)
def test_without_a_model_the_page_says_what_is_done_for_one(run: LiveRun, job: str, says: str, sentence: str):
    """Examples are counted between jobs alone: while it learns, their number says nothing."""
    run.jobs.name, run.jobs.says = job, says
    assert StatusWatch(run).values()["no_model"] == sentence


def test_a_training_that_goes_on_is_not_the_next_one(run: LiveRun):
    """Since when it does stands in its place."""
    now = datetime.now(UTC)
    run.night, run.jobs.name = now - timedelta(hours=1), TRAINING
    found = [StatusWatch(run).values()["night"]]
    run.night = now + timedelta(hours=1)  # a first model is trained by day
    found.append(StatusWatch(run).values()["night"])
    assert found == [f"now, since {now - timedelta(hours=1):%H:%M}", f"{now + timedelta(hours=1):%a %H:%M}"]


def test_the_docs_have_the_name_of_every_reason():
    """So that who reads one can look it up."""
    docs = Path("docs/alerts.md").read_text()
    assert [each for each in REASONS if f"`{each.replace(' ', '_')}`" not in docs] == []
    assert [each for each in OF_POINTS if each.replace("_", " ") not in REASONS] == []


def test_why_nobody_is_alerted_is_in_the_values(run: LiveRun):
    """And since when it is counted; before there is a store, nothing is."""
    values = StatusWatch(run).values()
    assert (values["alerts"], values["no_alerts"]["passed"], values["no_alerts"]["since"]) == ([], {}, "")
    with closing(AlertStore(run.plan.data.alerts, now=MONDAY_AT_TEN)) as store:
        store.count("passed:participant", 5)
        store.count("refused:participant")
        store.count("passed:root_alone", 8)
        for user, is_on in (("U1", 1), ("U2", 1), ("U3", 0)):
            store.set_preferences(user, opted_in=is_on)
    none = StatusWatch(run).values()["no_alerts"]
    assert (none["passed"], none["points"], none["people"]) == ({"participant": 6}, {"root_alone": 8}, {0: 1, 1: 2})
    assert (none["since"], none["is_for_all"]) == ("2024-01-01 10:00", False)
