"""`beepgpt up --rebuild`: when it is done, when it is not, and what becomes of one that fails."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from datetime import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from beepgpt.commands.up_begun import check_begun
from beepgpt.config.settings import Settings, read_settings
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.record_order import heartbeat_record
from beepgpt.conversations.rules import HOUR, SECOND, Rules
from beepgpt.errors import BadCommand, RunStopped
from beepgpt.runtime.recovery import NOTE
from beepgpt.runtime.workers import Stop
from beepgpt.up.folder import DataFolder
from beepgpt.up.jobs import EndedJob
from beepgpt.up.plan import UpPlan, variables_of
from beepgpt.up.rebuilding import NextGeneration
from beepgpt.up.run import FIRST_MODEL, LiveRun
from beepgpt.up.status import StatusWatch
from beepgpt.web.status_page import verdict_of

WIDER = {"BEEPGPT_CONVERSATIONS__WINDOW": "8"}


def begun(folder: Path, **state: object) -> DataFolder:
    """A folder that is live, with nothing on its log."""
    data = DataFolder(folder / "live")
    data.take()
    data.note(**{"history": "slack", "rules": asdict(read_settings(environ={}).rules)} | state)
    SqliteLog(data.log).create([TopicSpec("slack.events", 1)])
    return data


def plan_of(data: DataFolder, since: str | None = None, environ: dict[str, str] | None = None, *, rebuilds: bool = True) -> UpPlan:
    """An `up --rebuild` on it."""
    return UpPlan(data, read_settings(environ=environ or {}), None, None, since, "channels", time(3), rebuilds)


@pytest.mark.parametrize(
    ("state", "since", "environ", "is_done"),
    [
        ({}, "60d", {}, True),
        ({"rebuilt": ["60d", "channels"]}, "60d", {}, False),
        ({"rebuilt": ["60d", "channels"]}, "90d", {}, True),
        ({"rebuilt": ["60d", "channels"]}, None, {}, True),
        ({"rebuilt": ["60d", "groups"]}, "60d", {}, True),
        ({"rebuilt": ["60d", "channels"]}, "60d", WIDER, True),
        ({"history": None}, "60d", {}, False),
    ],
)
def test_a_rebuild_is_done_once(
    state: dict[str, object], since: str | None, environ: dict[str, str], is_done: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Though each start asks for it, as that of a service: another history, or other settings, is another one. A first start has nothing
    to make anew."""
    stop, done = Stop(), list[bool]()
    run = LiveRun(plan_of(begun(tmp_path, **state), since, environ), stop)
    monkeypatch.setattr(run.jobs, "run", lambda name, *arguments, **how: EndedJob(0.0, name, 1 if name == FIRST_MODEL else 0, []))
    monkeypatch.setattr(run, "_rebuild", lambda: done.append(True))
    monkeypatch.setattr(run, "_bring_generation", lambda: None)
    monkeypatch.setattr(run, "_start", lambda *names: setattr(stop, "signal", 15))

    assert run.run() == 0 and bool(done) == is_done


def test_it_says_that_it_was_done_and_a_start_without_the_flag_lets_it_be_done_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Whoever gives it by hand, a month later, means it."""
    data, stop = begun(tmp_path, rebuilt=["", "channels"]), Stop(signal=15)
    LiveRun(plan_of(data), stop).run()
    assert "all is made of this history already, with these settings, and is not made again. Leave the flag out" in capfd.readouterr().err
    assert data.rebuilt == ["", "channels"]

    LiveRun(plan_of(data, rebuilds=False), stop).run()
    assert data.rebuilt is None and "--rebuild" not in capfd.readouterr().err


def test_other_settings_are_refused_with_the_way_to_them_and_how_long_it_takes(tmp_path: Path):
    """By a plain start. What this release would not make as it was made can't go on meanwhile."""
    data, wider = begun(tmp_path), read_settings(environ=WIDER)
    words = (
        "window was 5 and is 8: give what was given first, or add --rebuild, which makes all of it anew with these settings, from its log"
    )
    with pytest.raises(BadCommand, match=f"{words}: less than a minute, while alerts go on as before"):
        check_begun(data, wider, None, rebuilds=False)
    check_begun(data, wider, None, rebuilds=True)
    check_begun(data, read_settings(environ={}), None, rebuilds=False)

    data.note(rules=asdict(wider.rules) | {"spec": "0123456789ab"})
    with pytest.raises(BadCommand, match=r"spec was 0123456789ab and is .*: less than a minute, in which nobody is alerted"):
        check_begun(data, wider, None, rebuilds=False)


def test_what_runs_keeps_the_settings_that_it_was_made_with(tmp_path: Path):
    """All of them, through the variables of its commands; those of the next generation have the new ones."""
    was = Rules("acme", "reactors", "channel", None, 7, HOUR, 3, edits="final", bots="context", candidates=False, encoding="cl100k_base")
    data = begun(tmp_path, rules=asdict(was))
    plan = plan_of(data, None, WIDER)

    def rules_in(env: dict[str, str]) -> Rules:
        return read_settings(environ=env).rules

    assert rules_in(plan.env) == was and variables_of(asdict(was) | {"spec": "0123456789ab"}) is None
    assert plan_of(data.next, None, WIDER).former is not None
    assert not {name for name in plan_of(data.next, None, WIDER).env if "CONVERSATIONS" in name}


def failing(data: DataFolder, monkeypatch: pytest.MonkeyPatch, settings: Settings | None = None) -> LiveRun:
    """A run whose next log can't be written."""
    run = LiveRun(UpPlan(data, settings or read_settings(environ={}), None, None, None, "channels", time(3), True), Stop())
    ends = {"topics": 0, "next log": 1}

    def run_job(name: str, *arguments: object, **how: object) -> EndedJob:
        run.jobs.ended[name] = job = EndedJob(0.0, "ingest", ends[name], ["the disk is full"])
        return job

    monkeypatch.setattr(run.jobs, "run", run_job)
    monkeypatch.setattr(run, "_start", lambda *names: run.services.update(dict.fromkeys(names)))
    return run


def test_what_runs_goes_on_where_a_rebuild_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """It is told, on the page, too, and nothing is left of it."""
    data = begun(tmp_path)
    run = failing(data, monkeypatch)
    SqliteLog(data.log).create([TopicSpec("slack.events.2", 1)])
    run._rebuild()

    assert data.generation == 1 and list(run.services) == ["ingest", "examples"]
    assert {*run.log.topics()} == {"slack.events"} and not data.next.recovery("").exists()
    why = "next log: beepgpt ingest ended with status 1, and said last: the disk is full"
    said = capfd.readouterr().err
    assert "built beside the live one (less than a minute)" in said
    assert f"The rebuild failed: {why}. All goes on as it was; the same command tries again." in said
    run.services.clear()
    verdict = verdict_of(StatusWatch(run).values())
    assert verdict == f"rebuild: beepgpt up --rebuild ended with status 1, and said last: {why}."


def test_a_disk_without_room_for_two_generations_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What runs must not meet a full disk for it."""
    run = failing(begun(tmp_path), monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    run._rebuild()

    assert "0 MB are free, and about 0 are needed: free some space" in run.jobs.ended["rebuild"].words[0]


def test_it_ends_where_nothing_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What another release made, this one would make otherwise."""
    data = begun(tmp_path, rules=asdict(Rules()) | {"spec": "0123456789ab"})
    with pytest.raises(RunStopped, match="the disk is full"):
        failing(data, monkeypatch).run()


def test_who_asks_it_to_stop_while_it_builds_gets_no_half_of_a_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Though its training ended as asked, which is no fault."""
    data = begun(tmp_path)
    run = failing(data, monkeypatch)
    monkeypatch.setattr(NextGeneration, "write_log", lambda *_: None)
    monkeypatch.setattr(NextGeneration, "build", lambda *_: setattr(run.stop, "signal", 15))

    with pytest.raises(RunStopped):
        run._rebuild()
    assert data.generation == 1 and list(run.services) == ["ingest", "examples"]


def test_what_runs_scores_all_from_before_the_next_generation_does(tmp_path: Path):
    """A point is made once a heartbeat is past it by the allowed lateness, of 5 seconds."""
    data, at = begun(tmp_path), 1_690_360_260_000_000
    run = LiveRun(plan_of(data), Stop())
    building = NextGeneration(run.plan, run.jobs, run.log)
    assert building.is_passed(), "nothing is scored there"

    (note := data.next.recovery("score") / NOTE).parent.mkdir(parents=True)
    note.write_text(f'{{"started_at": {at}}}')
    with run.log.writer("slack.events") as writer:
        for seconds, is_passed in ((0, False), (4, False), (5, True)):
            writer.send([OutgoingRecord(None, heartbeat_record(at + seconds * SECOND), (), 0)])
            writer.flush()
            assert building.is_passed() == is_passed
