"""A model and its threshold are one pair: swapped by one rename, followed by those that use it, and never taken unvalidated."""

import json
import logging
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from beepgpt.commands.checking import check_model
from beepgpt.commands.rehearse import keep
from beepgpt.config.settings import read_settings
from beepgpt.conversations.rules import DAY
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import print_event
from beepgpt.runtime.logs import configure
from beepgpt.training.folder import ALERTS, CARD, LIVE, METRICS, VERSIONS
from beepgpt.training.intervals import Figure
from beepgpt.training.live import (
    KEPT,
    LiveThresholds,
    SayPair,
    card_in,
    let_own_be_live,
    live_in,
    name_of,
    newer_beside,
    put_live,
    threshold_in,
)
from beepgpt.training.metrics import Outcomes
from beepgpt.training.retraining import Comparison
from tests.support import quiet
from tests.support.scoring import save, watched_model

SETTINGS = read_settings(environ={})


def validate(folder: Path, threshold: float) -> None:
    """Figures of the very model in the folder."""
    card = {name: value for name, value in card_in(folder).items() if name not in ("files", "labels")}
    (folder / METRICS).write_text(json.dumps({"model": card, "threshold": {"threshold": threshold}}))


def pair(folder: Path, seed: int, threshold: float) -> Path:
    """Makes a pair live."""

    def write(to: Path) -> None:
        save(to, seed=seed)
        validate(to, threshold)

    return put_live(folder, write)


def live_threshold(folder: Path) -> float:
    """That of the live pair."""
    return LiveThresholds(folder).current


def test_a_pair_is_swapped_whole(tmp_path: Path):
    """Model and threshold come from one version; as many as are kept stay, so that whoever reads one can end."""
    versions = [pair(tmp_path, seed, seed / 10) for seed in range(1, 6)]

    assert live_in(tmp_path) == versions[-1] and live_threshold(tmp_path) == 0.5
    assert {each.name for each in (tmp_path / VERSIONS).iterdir()} == {each.name for each in versions[-KEPT:]}
    assert all(name_of(each) == each.name for each in versions[-KEPT:])


KILLED = """
import os, signal, sys
from functools import partial
from pathlib import Path
from beepgpt.training.live import put_live

folder, source, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rename, count = Path.rename, 0

def renamed(path, to):
    global count
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, to)

Path.rename = renamed
def write(to):
    for each in source.iterdir():
        (to / each.name).write_bytes(each.read_bytes())
put_live(folder, write)
"""


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_kill_before_either_rename_leaves_a_whole_pair(tmp_path: Path, last: int):
    """Before the version has its name, or before it is named as the live one: the old pair; afterwards the new one. Never half of each."""
    folder, new = tmp_path / "live", save(tmp_path / "new", seed=2)
    validate(new, 0.7)
    old = pair(folder, 1, 0.3)

    done = subprocess.run([sys.executable, "-c", KILLED, folder, new, str(last)], env=quiet(), check=False)

    assert done.returncode == (-signal.SIGKILL if last < 3 else 0)
    assert (name_of(live_in(folder)), live_threshold(folder)) == ((old.name, 0.3) if last < 3 else (name_of(new), 0.7))
    assert watched_model(folder, SETTINGS).name == name_of(live_in(folder))
    assert pair(folder, 3, 0.6) == live_in(folder) and not (folder / VERSIONS / ".making").exists()


def test_what_is_scored_follows_the_pair_and_its_threshold(tmp_path: Path):
    """A prediction counts from its own model's threshold on, also while those of the last model still come."""
    first = pair(tmp_path, 1, 0.3)
    model, thresholds = watched_model(tmp_path, SETTINGS), LiveThresholds(tmp_path, every=0)
    second = pair(tmp_path, 2, 0.7)

    assert model.look() and model.name == second.name
    assert [thresholds(each) for each in (first.name, second.name, first.name)] == [0.3, 0.7, 0.3]
    assert thresholds.current == 0.7
    given = LiveThresholds(tmp_path, 0.1)
    assert [given(each) for each in (first.name, second.name)] == [0.1, 0.1]


def test_what_is_taken_up_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Another model, and another threshold of the same one: which, instead of which, and from when; where the log is JSON, with fields."""
    first = pair(tmp_path, 1, 0.3)
    thresholds = LiveThresholds(tmp_path, every=0)
    pair_of = SayPair(tmp_path, "alerts", lambda: ((name := thresholds.model), thresholds(name)), print_event)
    pair_of.look()
    assert capsys.readouterr().err == ""

    second = pair(tmp_path, 2, 0.7)
    pair_of.look()
    pair_of.look()
    words = f"model {second.name} with threshold 70 % for alerts, in place of {first.name} with 30 %\n"
    assert re.fullmatch(r"From 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC on: " + re.escape(words), capsys.readouterr().err)

    keep({"threshold": 0.6, "why": "…"}, second, [second.name], stays=True)
    lines: list[str] = []
    configure("warning", "json", lines.append, whole=True)
    try:
        pair_of.look()
    finally:
        configure("warning", "text", whole=True)
    (event,) = map(json.loads, lines)
    told = {"model": second.name, "threshold": 0.6, "before": second.name, "threshold_before": 0.7}
    assert told.items() <= event.items() and f"model {second.name} with threshold 60 % for alerts" in event["message"]


def test_the_threshold_in_use_is_that_of_the_live_pair_and_follows_what_a_rehearsal_writes(tmp_path: Path):
    """For who is asked for the first time, and for who runs since before: predictions of a model that is not live keep their own."""
    first = pair(tmp_path, 1, 0.3)
    thresholds = LiveThresholds(tmp_path, every=0)
    assert (thresholds.current, thresholds.model, thresholds(first.name)) == (0.3, first.name, 0.3)

    keep({"threshold": 0.25, "why": "…"}, first, [first.name], stays=True)
    assert (thresholds(first.name), thresholds.current, thresholds("")) == (0.25, 0.25, 0.25)
    second = pair(tmp_path, 2, 0.7)
    assert (thresholds.current, thresholds.model, thresholds("")) == (0.7, second.name, 0.7), "before any of its predictions came"
    assert (thresholds(first.name), thresholds(second.name)) == (0.25, 0.7)
    keep({"threshold": 0.6, "why": "…"}, second, [second.name], stays=True)
    assert (thresholds.current, thresholds(second.name), thresholds(first.name)) == (0.6, 0.6, 0.25)


def test_files_are_looked_at_now_and_then_alone(tmp_path: Path):
    """Predictions come by the hundred; a new threshold is taken within seconds."""
    first = pair(tmp_path, 1, 0.3)
    thresholds = LiveThresholds(tmp_path, every=3600)
    assert thresholds(first.name) == 0.3
    keep({"threshold": 0.25, "why": "…"}, first, [first.name], stays=True)
    assert thresholds(first.name) == 0.3


def test_the_same_model_with_another_threshold_is_another_pair(tmp_path: Path):
    """It is fitted again on the same examples: what is made live last counts, and a kill before it leaves the pair before."""
    first = pair(tmp_path, 1, 0.3)
    thresholds, running = LiveThresholds(tmp_path, every=0), watched_model(tmp_path, SETTINGS)

    def write(to: Path) -> None:
        shutil.copytree(first, to, dirs_exist_ok=True)
        validate(to, 0.7)

    again = put_live(tmp_path, write)

    assert name_of(again) == name_of(first) == first.name and live_in(tmp_path) == again != first
    assert (thresholds.current, thresholds(first.name), LiveThresholds(tmp_path)(first.name)) == (0.7, 0.7, 0.7)
    assert (running.look(), running.name) == (False, first.name)
    third = pair(tmp_path, 2, 0.5)
    assert (thresholds.current, thresholds(first.name), LiveThresholds(tmp_path)(first.name)) == (0.5, 0.7, 0.7)
    assert {each.name for each in (tmp_path / VERSIONS).iterdir()} == {first.name, f"{first.name}-2", third.name}


def test_the_newest_threshold_of_a_model_counts_after_its_oldest_version_is_gone(tmp_path: Path):
    """The first version's name is free again then, and a newer version does not take it."""
    versions = [pair(tmp_path, 1, threshold) for threshold in (0.3, 0.4, 0.5, 0.6, 0.7)]
    pair(tmp_path, 2, 0.2)

    assert not versions[0].exists()
    assert LiveThresholds(tmp_path)(name_of(versions[-1])) == 0.7


def test_predictions_of_a_model_that_no_pair_has_are_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The live threshold is taken, since nobody knows theirs."""
    pair(tmp_path, 1, 0.3)
    thresholds = LiveThresholds(tmp_path, every=0)

    assert [thresholds("0123456789ab") for _ in range(3)] == [0.3] * 3
    assert [each.message for each in caplog.records if "no threshold of the model 0123456789ab" in each.message] != []
    assert len(caplog.records) == 1


def test_a_model_that_was_written_over_a_validated_one_waits_for_its_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The validated one was kept: it goes on, also after a restart, and both say so; once the new one is validated, it is live."""
    caplog.set_level(logging.INFO)
    save(tmp_path, seed=1)
    validate(tmp_path, 0.3)
    first, running = name_of(tmp_path), watched_model(tmp_path, SETTINGS)
    thresholds = LiveThresholds(tmp_path, every=0)
    pair_of = SayPair(tmp_path, "alerts", lambda: (thresholds.model, thresholds.current), print_event)
    save(tmp_path, seed=2)
    pair_of.look()
    pair_of.look()

    assert (running.look(), running.name) == (False, first)
    restarted = watched_model(tmp_path, SETTINGS)
    assert (restarted.name, live_threshold(tmp_path)) == (first, 0.3)
    said = [each.message for each in caplog.records if "has no threshold yet" in each.message]
    assert len(said) == 2 and all(f"the model {name_of(tmp_path)} there" in each and f"going on with {first}" in each for each in said)

    assert not let_own_be_live(tmp_path) and live_in(tmp_path).name == first, "it has no threshold yet"
    validate(tmp_path, 0.6)
    assert let_own_be_live(tmp_path)
    assert running.look() and running.name == name_of(tmp_path) and not (tmp_path / LIVE).exists()
    assert (thresholds(running.name), thresholds(first)) == (0.6, 0.3)


def test_figures_of_a_folder_s_older_model_change_nothing(tmp_path: Path):
    """It is validated again after a retrained version took its place: that one stays live."""
    validate(save(tmp_path, seed=1), 0.3)
    version = put_live(tmp_path, lambda to: validate(save(to, seed=2), 0.4))
    validate(tmp_path, 0.5)

    assert not let_own_be_live(tmp_path)
    assert live_in(tmp_path) == version and live_threshold(tmp_path) == 0.4


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_model_that_was_copied_over_a_validated_one_is_not_taken_up_before_it_is_validated(tmp_path: Path, meanwhile: bool):
    """Nothing kept the old one, but it is in memory; also if it was validated only while it ran (`meanwhile`)."""
    save(tmp_path / "live", seed=1)
    if not meanwhile:
        validate(tmp_path / "live", 0.3)
    running = watched_model(tmp_path / "live", SETTINGS)
    if meanwhile:
        validate(tmp_path / "live", 0.3)
        assert not running.look()
    first = running.name
    other = save(tmp_path / "other", seed=2)
    for each in other.iterdir():
        (tmp_path / "live" / each.name).write_bytes(each.read_bytes())

    assert (running.look(), running.name) == (False, first)
    validate(tmp_path / "live", 0.6)
    assert running.look() and running.name == name_of(other)


def test_figures_of_another_model_are_no_threshold(tmp_path: Path):
    """Neither those of validation nor those of a rehearsal."""
    folder = save(tmp_path / "model")
    validate(folder, 0.3)
    assert threshold_in(folder) == (0.3, "validated", "as it was validated")
    card = json.loads((folder / CARD).read_bytes())
    (folder / CARD).write_text(json.dumps({**card, "seed": 9}))
    (folder / ALERTS).write_text(json.dumps({"model": "0123456789ab", "threshold": 0.2}))
    assert threshold_in(folder) is None
    (folder / ALERTS).write_text(json.dumps({"model": name_of(folder), "threshold": 0.2, "why": "…"}))
    assert threshold_in(folder) == (0.2, "rehearsed", "…")


WORSE = "it is worse: its log loss is 0.0100 higher (0.0010 to 0.0300) on {} points"
ASKED = "and 100 in 8 are asked for"


@pytest.mark.parametrize(
    ("value", "low", "high", "points", "conversations", "why"),
    [
        (0.02, 0.01, 0.03, 100, 8, ""),
        (-0.01, -0.03, 0.0, 100, 8, ""),
        (-0.01, -0.03, -0.001, 100, 8, WORSE.format(100)),
        (-0.01, -0.03, -0.001, 40, 9, WORSE.format(40)),
        (-0.2554, -0.5042, 0.0370, 99, 8, f"too few to tell: 99 points in 8 conversations, {ASKED}"),
        (0.02, 0.01, 0.03, 400, 7, f"too few to tell: 400 points in 7 conversations, {ASKED}"),
        (-0.5, np.nan, np.nan, 100, 8, f"too few to tell: 100 points in 8 conversations, {ASKED}"),
    ],
)
def test_a_candidate_is_taken_if_it_is_not_worse(value: float, low: float, high: float, points: int, conversations: int, why: str):
    """That is, if there is enough to tell, and the interval of the gain has its upper end not below 0. Force asks for no points."""
    nobody: Outcomes = None  # type: ignore[assignment]  # not looked at
    figure = Figure(value, low, high, points, conversations)
    compared = Comparison("live", DAY, points, figure, figure, nobody, nobody)

    assert compared.why_not() == why and compared.can_reach_back
    assert compared.why_not(force=True) == ("" if why.startswith("too few") else why)
    later = compared._replace(learned_until=DAY)
    assert ("after 1970-01-02 00:00:00 UTC: live has learned from all that was before" in later.why_not()) == why.startswith("too few")
    assert not later.can_reach_back


BROKEN = {
    "": "no version",
    '{"version": "0f"}': "the version '0f'",
    '{"model": "NAME"}': "no version",
    '{"version": ".."}': "the version '..'",
}


@pytest.mark.parametrize(("content", "names"), BROKEN.items())
def test_a_live_json_that_names_no_version_is_refused_at_the_start_and_warned_of_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, names: str
):
    """The model in the folder itself may be one that nobody has validated: who runs goes on with its pair, and who starts is told."""
    live = tmp_path / "live"
    save(live, seed=1)
    version = pair(live, 2, 0.7)
    running, thresholds = watched_model(live, SETTINGS), LiveThresholds(live, every=0)
    (live / LIVE).write_text(content.replace("NAME", version.name))
    there = ", ".join(sorted(each.name for each in (live / VERSIONS).iterdir()))
    why = f'{live / LIVE}: names {names}, and has to be {{"version": "NAME"}} with a name of {live / VERSIONS} ({there})'

    assert not running.look() and not running.look() and (running.name, thresholds.current) == (version.name, 0.7)
    (warning,) = [each.getMessage() for each in caplog.records]
    assert warning == f"{why}; without the file the model in {live} itself is the live one: going on with {version}"
    elsewhere = shutil.copytree(live, tmp_path / "elsewhere")
    for start in (partial(watched_model, elsewhere, SETTINGS), partial(LiveThresholds, elsewhere), partial(pair, elsewhere, 3, 0.6)):
        with pytest.raises(BadCommand, match=re.escape(f"{elsewhere / LIVE}: names {names}")):
            start()
    assert [(name, is_fine) for name, is_fine, _ in check_model(SETTINGS, elsewhere)] == [("model", False)]

    caplog.clear()
    (live / LIVE).unlink()
    third = pair(live, 3, 0.6)
    assert running.look() and (running.name, thresholds.current) == (third.name, 0.6) and not caplog.records


def test_the_model_that_stood_in_the_folder_is_a_version_to_go_back_to(tmp_path: Path):
    """As `train` and `validate` leave it: before another one is live it is kept, and its name in live.json, as docs/training.md has it,
    makes it live again, for who runs and for who starts. What is gone back to outlives those that were live after it."""
    live = tmp_path / "live"
    validate(save(live, seed=1), 0.3)
    (live / "retrain.lock").touch()
    own, running, thresholds = name_of(live), watched_model(live, SETTINGS), LiveThresholds(live, every=0)
    second, third = pair(live, 2, 0.7), pair(live, 3, 0.6)
    assert running.look() and (running.name, thresholds.current) == (third.name, 0.6)
    assert {each.name for each in (live / VERSIONS).iterdir()} == {own, second.name, third.name}

    (recipe,) = (line for line in Path("docs/training.md").read_text().splitlines() if line.startswith("echo "))
    subprocess.run(recipe.replace("NAME", own), shell=True, check=True, cwd=tmp_path)

    assert running.look() and (running.name, thresholds.current, live_in(live)) == (own, 0.3, live / VERSIONS / own)
    assert watched_model(live, SETTINGS).name == own and newer_beside(live) is None
    assert {each.name for each in live_in(live).iterdir()} == {each.name for each in third.iterdir()}

    fourth = pair(live, 4, 0.5)
    assert {each.name for each in (live / VERSIONS).iterdir()} == {own, third.name, fourth.name}
