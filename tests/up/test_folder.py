"""The data folder, and what may come into it."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from beepgpt.config.settings import read_settings
from beepgpt.errors import BadCommand
from beepgpt.runtime.workers import Stop
from beepgpt.simulation.workspace import Plan, write_export
from beepgpt.up.folder import DataFolder, fingerprint_of
from beepgpt.up.run import LiveRun, UpPlan


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


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"begun": "half of another"}, "another export's history in part"),
        ({"history": ""}, "began with live events"),
        ({"history": "x"}, "began with another export"),
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
        LiveRun(UpPlan(folder, read_settings(environ={}), None, export, "channels", time(3)), stop).run()
    folder.note(history=fingerprint_of(export))

    assert LiveRun(UpPlan(folder, read_settings(environ={}), None, export, "channels", time(3)), stop).run() == 0
