"""The models by which the scoring flow scores: which one is taken up, and which validation it is held to."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from beepgpt.config.settings import read_settings
from beepgpt.connectors.slack.export import UnreadableDay, open_export, read_days
from beepgpt.conversations.export import records_of
from beepgpt.conversations.points import PointEmitted
from beepgpt.conversations.rules import HOUR, shaping_settings
from beepgpt.errors import BadCommand
from beepgpt.training.folder import CARD, METRICS
from beepgpt.training.live import put_live
from tests.support import run_of
from tests.support.scoring import RULES, assert_served_as_trained, save, watched_model, workspace

SETTINGS = read_settings(environ={})


def test_what_a_model_was_validated_by_warns_of_no_drop(tmp_path: Path):
    """It was trained just now, and looks no worse than it did: some hundreds in a row of what judged it may be worse than all of it."""
    validate(folder := save(tmp_path / "model"))
    figures = json.loads((folder / METRICS).read_bytes())
    (folder / METRICS).write_text(json.dumps({**figures, "judged_until": "1700000000.000001"}))
    model = watched_model(folder, SETTINGS)
    until = 1_700_000_000_000_001

    assert [model.expected(model.name, 100, each) == {} for each in (until - 1, until, until + 1, None)] == [True, True, False, False]


def test_a_model_that_is_validated_later_is_held_to_it(tmp_path: Path):
    """The monitor may have asked before there was anything to say."""
    model = watched_model(folder := save(tmp_path / "model"), SETTINGS)
    assert model.expected(model.name, 100) == {}
    validate(folder)

    assert model.expected(model.name, 100) == pytest.approx(EXPECTED, abs=1e-3) and model.expected("another", 100) == {}


EXPECTED = {"hit@1": 0.284, "hit@5": 0.484}
"""Of `validate` below, among 100 answers: three standard errors of two hundreds' difference, each a twentieth (0.1 / 1.96)."""


def validate(folder: Path) -> None:
    """What `beepgpt validate` writes of the model that stands there, as far as it is asked for."""
    figures = {
        "hit@1": {"value": 0.5, "low": 0.4, "high": 0.6, "count": 100},
        "hit@5": {"value": 0.7, "low": 0.6, "high": 0.8, "count": 100},
    }
    card = {name: value for name, value in json.loads((folder / CARD).read_text()).items() if name not in ("files", "labels")}
    (folder / METRICS).write_text(json.dumps({"model": card, "rows": {"answered": [{"figures": figures}]}}))


def test_no_model_is_held_to_the_validation_of_another(tmp_path: Path):
    """The folder has the next one already, validated and not taken up yet; or the model is new, and the figures are the old one's."""
    model = watched_model(folder := save(tmp_path / "model"), SETTINGS)
    save(folder, seed=2)
    validate(folder)
    before = model.name
    assert model.expected(before, 100) == {}
    assert model.look() and model.expected(model.name, 100) == pytest.approx(EXPECTED, abs=1e-3) and model.expected(before, 100) == {}

    save(folder, seed=3)
    assert model.look() and model.expected(model.name, 100) == {}


def test_a_new_version_is_held_to_its_own_validation(tmp_path: Path):
    """Each version has a folder of its own, and its figures stand there."""
    put_live(tmp_path / "model", lambda at: validate(save(at)))
    model = watched_model(tmp_path / "model", SETTINGS)

    put_live(tmp_path / "model", lambda at: validate(save(at, seed=2)))

    assert model.look() and model.expected(model.name, 100) == pytest.approx(EXPECTED, abs=1e-3)


def test_a_new_model_is_taken_up_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Predictions say which model made them; a model that can't be used is told of, and the old one goes on."""
    caplog.set_level(logging.INFO)
    folder = save(tmp_path / "model")
    model = watched_model(folder, SETTINGS)
    first = model.name
    point = json.loads(next(each.line for each in run_of(workspace(), RULES, points_since=0).points if isinstance(each, PointEmitted)))

    assert (model.look(), model.predict([point])[0]) == (False, first)
    save(folder, seed=2)
    assert model.look() and model.name != first
    assert model.predict([point])[0] == model.name
    second = model.name
    (folder / CARD).write_bytes(b"{}")
    assert (model.look(), model.predict([point])[0]) == (False, second)
    assert "the new model is not taken up" in caplog.text
    save(folder, spec="another")
    assert (model.look(), model.name) == (False, second)


def test_a_model_of_other_examples_is_refused(tmp_path: Path):
    """It says which settings differ, if they are known, and what to do."""
    with pytest.raises(BadCommand, match=r"other settings: spec another there, .* here; which settings differ is not recorded"):
        watched_model(save(tmp_path / "model", spec="another"), SETTINGS)
    hours = replace(RULES, horizon=2 * HOUR)
    with pytest.raises(BadCommand, match="other settings: horizon is 2 hours there, 1 day here: give the settings"):
        watched_model(save(tmp_path / "hours", spec=hours.spec, settings=shaping_settings(hours)), SETTINGS)
    with pytest.raises(BadCommand, match="is no trained model"):
        watched_model(tmp_path, SETTINGS)


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_law_5_on_a_real_workspace(shared: Path):
    """dd2030: every example of it is among the points that were told, with the same words and facts."""
    export = open_export(shared / "data" / "dd2030.zip")
    days = ((channel, [day for day in read_days(export, channel) if not isinstance(day, UnreadableDay)]) for channel in export.channels)
    records = [record for channel, each in days for record in records_of(channel.id, each)]
    run = run_of(records, RULES, points_since=0)

    assert len(run.examples) > 1_000
    assert_served_as_trained(run.examples, [json.loads(each.line) for each in run.points if isinstance(each, PointEmitted)])
