"""A rehearsal's threshold: chosen by alerts of one part of time, judged on the next, and kept where alerts and scores take it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beepgpt.alerts.choosing import WantedAlerts, recommend
from beepgpt.alerts.decisions import Policy
from beepgpt.alerts.predictions import read_prediction
from beepgpt.alerts.rehearsal import RehearsalHistory, Rehearsed, read_outcome
from beepgpt.alerts.rehearsal_report import RUNS, rehearsal_report
from beepgpt.alerts.replay import Replay
from beepgpt.commands.alert import threshold_of
from beepgpt.commands.rehearse import keep
from beepgpt.config.settings import read_settings
from beepgpt.conversations.rules import DAY, HOUR, MINUTE
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import time_left
from beepgpt.training.folder import ALERTS, LIVE
from beepgpt.training.live import THRESHOLD, LiveThresholds, live_in, name_of, threshold_in
from tests.support.alerts import NOON, outcome, prediction
from tests.support.scoring import save
from tests.training.test_live import validate

LEVELS = (0.2, 0.4, 0.6, 0.8)


def history(*, of_each: int = 20, turned: bool = False) -> RehearsalHistory:
    """Two parts of ten days: at 0.2 nobody joins, at 0.4 a quarter, at 0.6 a half, at 0.8 three quarters; all of them if `turned`."""
    predictions: list[dict[str, Any]] = []
    outcomes: list[dict[str, Any]] = []
    for part, begin in (("choose", NOON), ("judge", NOON + 12 * DAY)):
        for number in range(of_each):
            for place, p in enumerate(LEVELS):
                at = begin + number * 10 * DAY // of_each + place * HOUR
                point = prediction(at, people={f"bo{place}-{number % 5}": p}, part=part, id=f"{part}-{number}-{place}")
                joins = number % 4 < place or (turned and part == "judge")
                predictions.append(point)
                outcomes.append(outcome(point, MINUTE, *([f"bo{place}-{number % 5}"] if joins else [])))
    last = predictions[-1]
    outcomes.append(outcome(last, 2 * DAY, conversation="C1:later:session"))
    return RehearsalHistory(list(map(read_prediction, predictions)), map(read_outcome, outcomes))


def tried(past: RehearsalHistory) -> list[Rehearsed]:
    replay = Replay(past)
    return [replay.under(Policy(threshold=level, opted_in=True, per_hour=9), name=f"{level:.0%}") for level in LEVELS]


def test_the_least_threshold_at_which_alerts_are_as_wanted():
    """From 0.4 on half join, from 0.6 on five eighths, from 0.8 on three quarters; the part that judges has no say."""
    for turned in (False, True):
        past = history(turned=turned)
        found = {wanted: recommend(tried(past), past, WantedAlerts(wanted))["threshold"] for wanted in (0.5, 0.6, 0.7, 0.9)}
        assert found == {0.5: 0.4, 0.6: 0.6, 0.7: 0.8, 0.9: None}

    judged = recommend(tried(past), past, WantedAlerts(0.7))["judged"]
    assert (judged["alerts"], judged["joined"]) == (20, 1.0)


def test_a_wanted_number_a_person_and_week():
    """Each of the five or more people is alerted 4 times in 10 days, whatever the threshold: 2.8 a week."""
    past = history()
    assert recommend(tried(past), past, WantedAlerts(None, 3))["threshold"] == 0.2
    found = recommend(tried(past), past, WantedAlerts(None, 2))
    assert found["threshold"] is None and "a person gets at most 2 a week" in found["why"]


def test_a_wanted_number_is_of_all_alerts_of_the_part():
    """One an hour for two days: of 48, those of the second day are not over when judging begins, and bo got them all the same."""
    points = [prediction(NOON + hour * HOUR, part="choose" if hour < 48 else "judge") for hour in range(96)]
    past = RehearsalHistory(list(map(read_prediction, points)), [])
    only = Replay(past).under(Policy(threshold=0.5, opted_in=True, per_hour=9))
    known = only.figures_of("choose", past.parts["judge"][0].prompt_ts)

    assert (known["alerts"], known["intervals"]["joined"]["count"]) == (25, 25)
    assert known["per_person_per_day"] == only.figures_of("choose")["per_person_per_day"] == round(48 / (47 / 24), 4)  # 171.6 a week
    assert [recommend([only], past, WantedAlerts(None, most))["threshold"] for most in (100, 171, 172)] == [None, None, 0.5]
    assert recommend([only], past, WantedAlerts(None, 172))["chosen"] == known, "what was not over then chooses nothing"


def test_too_few_alerts_tell_nothing():
    """Two at each level; and of fourteen, of whom half joined, nobody can say that it is not nine tenths, and it says that, too."""
    past = history(of_each=2)
    assert recommend(tried(past), past, WantedAlerts(0.5))["why"].startswith(
        "too few to tell: of the days before those that judge, at most 8 alerts in 8"
    )
    past = history(of_each=12)
    assert recommend(tried(past), past, WantedAlerts(0.9))["why"].startswith(
        "too few to tell: on the days before those that judge, at no threshold 90 %"
    )


def test_predictions_of_a_retrained_model_choose_nothing():
    """It has learned from all that could choose: what came since judges it. That is said, and not that more days would help."""
    past = history()
    judging = RehearsalHistory(past.parts["judge"], past.outcomes)
    assert recommend(tried(judging), judging, WantedAlerts(0.5))["why"] == "no prediction is of the part to choose by (they are of: judge)"


def test_alerts_whose_day_is_not_over_when_judging_begins_choose_nothing():
    """What they came to is known only in the part that judges."""
    past = history()
    until = past.parts["judge"][0].prompt_ts
    (lowest, *_) = tried(past)
    assert len(lowest.direct("choose", until)) == len(lowest.direct("choose"))
    assert len(lowest.direct("choose", until - 2 * DAY)) < len(lowest.direct("choose"))


@pytest.mark.parametrize(("wanted", "threshold"), [(0.5, 0.22), (0.9, 0.4)])
def test_a_report_says_how_often_it_goes_through_the_points(wanted: float, threshold: float):
    """For the time that is left; where no threshold can be recommended it asks for one, says why, and doesn't begin anew."""
    runs: list[None] = []
    asked: list[str] = []

    def otherwise(why: str) -> float:
        asked.append(why)
        return 0.4

    report = rehearsal_report(
        history(), None, lambda level: Policy(threshold=level, opted_in=True, per_hour=9), otherwise, asked={}, may_see=lambda *_: True,
        names={}, everybody=True, wishes=[WantedAlerts(wanted)], on_run=lambda: runs.append(None),
    )  # fmt: skip

    assert len(runs) == RUNS
    assert (report["threshold"], bool(asked), report["recommended"]["threshold"] is None) == (threshold, wanted == 0.9, wanted == 0.9)
    assert [each for each in report["people"] if not 0 <= each["joined"] <= each["known"] <= each["alerts"]] == []


def test_how_long_the_rest_takes_is_said_where_no_line_can_change(capsys: pytest.CaptureFixture[str]):
    """A line each time it is due, and none once all is done."""
    for every in (0, 60):
        with time_left("replaying", 3, every) as on_run:
            for _ in range(3):
                on_run()

    said = capsys.readouterr().err.splitlines()
    assert said == ["replaying: 1 of 3 times, about 0 s left", "replaying: 2 of 3 times, about 0 s left"]


def test_one_threshold_for_all_who_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Alerts, scores and outcomes ask for that of the model whose predictions they have: what is set, else rehearsed, else validated. A
    model that is trained over that one waits, without a threshold, and figures of another model are none."""
    folder, settings = save(tmp_path / "model"), read_settings(environ={})

    def asked(model: str) -> tuple[float, float, float]:
        """By an alert that starts now, and by what scores, alerts and shows outcomes of a model."""
        thresholds = LiveThresholds(folder, every=0)
        return threshold_of(settings, folder).value, thresholds.current, thresholds(model)

    first = name_of(folder)
    validate(folder, 0.45)
    assert asked(first) == (0.45, 0.45, 0.45)
    keep({"threshold": 0.25, "why": "…"}, folder, [first], stays=True)
    assert asked(first) == (0.25, 0.25, 0.25)
    assert LiveThresholds(folder, 0.4)(first) == 0.4

    assert f"Alerts from 25 % on: {folder / ALERTS}, which" in " ".join(capsys.readouterr().err.split())
    keep({"threshold": 0.25, "why": "…"}, folder, [first], stays=False)  # another place has it later
    assert capsys.readouterr().err == "Alerts from 25 % on.\n"
    keep({"threshold": 0.35, "why": "…"}, folder, [first, "another"], stays=True)
    assert json.loads((folder / ALERTS).read_bytes())["threshold"] == 0.25
    save(folder, seed=2)
    assert (threshold_in(folder), asked(first), asked(name_of(folder))) == (None, (0.25, 0.25, 0.25), (0.25, 0.25, 0.25))
    assert name_of(live_in(folder)) == first != name_of(folder)
    (folder / LIVE).unlink()
    with pytest.raises(BadCommand, match="is of another model"):
        threshold_of(settings, folder)
    assert LiveThresholds(folder).current == THRESHOLD
