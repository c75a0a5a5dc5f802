"""The data folder, and what may come into it."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from beepgpt.config.settings import read_settings
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.rules import HOUR, Rules
from beepgpt.errors import BadCommand, CannotWrite, RunStopped
from beepgpt.runtime.recovery import NOTE
from beepgpt.runtime.workers import Stop
from beepgpt.simulation.workspace import Plan, write_export
from beepgpt.up.folder import DataFolder, fingerprint_of
from beepgpt.up.jobs import EndedJob
from beepgpt.up.plan import UpPlan
from beepgpt.up.run import LiveRun


def test_a_folder_has_one_owner(tmp_path: Path):
    """It is for its owner alone, whatever it was; what is none of ours is refused."""
    folder = DataFolder(tmp_path / "live")
    folder.path.mkdir(mode=0o755)
    folder.check_own()
    folder.take()

    assert folder.path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(BadCommand, match="another `beepgpt up` runs on it"):
        folder.take()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BadCommand, match="holds files that are not of `beepgpt up`"):
        DataFolder(tmp_path).check_own()
    with pytest.raises(CannotWrite, match=r"/proc/live: can't be written .*: check the folder and its permissions, or name another"):
        DataFolder(Path("/proc/live")).take()


def test_what_was_made_with_other_settings_or_another_list_is_seen_at_the_start(tmp_path: Path):
    """With both values, and with what to do; the settings of the first start are those that count."""
    folder, first = DataFolder(tmp_path / "live"), Rules(workspace="acme")
    folder.take()
    assert folder.difference(first) == ""
    note = folder.recovery("score") / NOTE
    note.parent.mkdir(parents=True)
    note.write_text('{"forgotten": null}')
    folder.check_list(None)

    changed = folder.difference(Rules(workspace="other", horizon=4 * HOUR))
    assert changed == "workspace was acme and is other, horizon was 1 day and is 4 hours" and folder.difference(first) == ""
    with pytest.raises(BadCommand, match=rf"has changed since\. .*: beepgpt forget --from {folder.path} --yes, with"):
        folder.check_list(Forgotten(b"salt").with_names(people=["U1"]))


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"begun": "half of another"}, "another history is in by a part"),
        ({"history": ""}, "began with live events"),
        ({"history": "x"}, "began with another history"),
    ],
)
def test_a_history_comes_first_and_whole_or_not_at_all(tmp_path: Path, state: dict[str, str], why: str):
    """Behind live events it would be late, and two halves are no whole."""
    write_export(Plan(messages=20, days=1, channels=1, people=3), export := tmp_path / "acme.zip")
    folder = DataFolder(tmp_path / "live")
    folder.take()
    folder.note(**state)
    stop = Stop(signal=15)  # nothing is started
    with pytest.raises(BadCommand, match=why):
        LiveRun(UpPlan(folder, read_settings(environ={}), None, export, None, "channels", time(3)), stop).run()
    folder.note(history=fingerprint_of(export))

    assert LiveRun(UpPlan(folder, read_settings(environ={}), None, export, None, "channels", time(3)), stop).run() == 0


def test_what_the_first_model_was_made_of_goes_and_its_pages_stay(tmp_path: Path):
    """The folders of `try` and of `history` hold messages, which a later deletion would not reach."""
    folder = DataFolder(tmp_path / "live")
    folder.take()
    stay = {"index.html", "rehearsal.html", "rehearsal.alerts.jsonl"}
    for each in (*stay, "examples.jsonl", "predictions.jsonl", "set/rows_train.jsonl", "set/models/local/model.skops"):
        (folder.first / each).parent.mkdir(parents=True, exist_ok=True)
        (folder.first / each).write_text("what was said")
    (folder.fetched / "C1").mkdir(parents=True)
    (folder.fetched / "C1" / "2026-01-01.json").write_text("what was said")
    folder.clear_first()

    left = {str(each.relative_to(folder.path)) for each in folder.path.rglob("*") if each.is_file()}
    assert left == {"up.json", *(f"first/{each}" for each in stay)}


def test_a_history_that_was_stopped_is_not_in(tmp_path: Path):
    """The next start goes on with it, before anything is live."""
    write_export(Plan(messages=20, days=1, channels=1, people=3), export := tmp_path / "acme.zip")
    folder = DataFolder(tmp_path / "live")
    folder.take()
    plan = UpPlan(folder, read_settings(environ={}), None, export, None, "channels", time(3))

    assert LiveRun(plan, Stop(signal=15)).run() == 0 and folder.history is None
    folder.check_history(fingerprint_of(export))


def test_a_history_that_somebody_else_ended_is_not_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`kill` of its process, or whatever it ended with but 0, is no end of it, though a first model may be put off for it."""
    write_export(Plan(messages=20, days=1, channels=1, people=3), export := tmp_path / "acme.zip")
    folder = DataFolder(tmp_path / "live")
    folder.take()
    plan = UpPlan(folder, read_settings(environ={"BEEPGPT_CONVERSATIONS__WORKSPACE": "acme"}), None, export, None, "channels", time(3))
    run = LiveRun(plan, Stop())
    ends = {"topics": 0, "history": 143}  # a kill of the real process would have to meet it within its second
    monkeypatch.setattr(run.jobs, "run", lambda name, *arguments, **how: EndedJob(0.0, "ingest", ends[name], ["stopped"]))

    with pytest.raises(RunStopped, match="history: beepgpt ingest was stopped, and said last: stopped"):
        run.run()
    assert folder.history is None
