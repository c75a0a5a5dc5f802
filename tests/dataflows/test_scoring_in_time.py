"""What scoring says, and when: nothing overtakes what it is about, nothing comes too late, and nobody's guess counts as known."""

import pickle
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from beepgpt.commands.score import scorers
from beepgpt.commands.scoring import closing_figures, figures_lately
from beepgpt.conversations.account import Account
from beepgpt.conversations.outcomes import PredictedPoint, Probabilities, RollingMetrics, outcome_body
from beepgpt.conversations.points import PointEmitted, PointSettled
from beepgpt.dataflows import asking
from beepgpt.dataflows.score_points import ScorePoints, ScoringRun
from beepgpt.dataflows.scored_records import scores_as_json
from beepgpt.training.reloading import CannotScore, ModelAnswer
from tests.support import delete, post, run_of
from tests.support.scoring import RULES, SPEC

ANSWER: ModelAnswer = ("held", Probabilities([("bo", 0.5)], 0.25, 0.25))


class Held:
    """A model whose answers come when the test says so."""

    ahead, together = 8, 1

    def __init__(self) -> None:
        self.answers: list[Future[ModelAnswer]] = []

    def ask(self, points: Sequence[Mapping[str, Any]], due: Sequence[float | None]) -> list[Future[ModelAnswer]]:
        """One answer for each point."""
        made: list[Future[ModelAnswer]] = [Future() for _ in points]
        self.answers += made
        return made

    def predict(self, points: Sequence[Mapping[str, Any]]) -> tuple[str, list[Probabilities]]:
        """Not asked here."""
        raise NotImplementedError

    def part_of(self, model: str, prompt_ts: int) -> None:
        return None

    def expected(self, model: str, answered: int, at: int | None = None) -> Mapping[str, float]:
        """Nothing."""
        return {}


def kinds_in(outputs: Any) -> list[str]:
    return [each.kind for kind, items in outputs if kind == "scored" for each in items]


def test_a_deletion_waits_behind_the_prediction_that_shows_its_message():
    """The model takes its time, and the message is deleted meanwhile: a reader that hears of the deletion first would keep the text."""
    told = run_of([post("ana", minute=0), delete(of=0, minute=1)], RULES, points_since=0).points
    model = Held()
    step = ScorePoints(ScoringRun(model, model, RULES), None)

    assert kinds_in(step.on_batch([(time.time(), told)])[0]) == []
    model.answers[0].set_result(ANSWER)
    assert kinds_in(step.on_notify()[0]) == ["prediction", "deletion", "outcome", "outcome"]


def test_a_prediction_that_waits_for_its_outcome_takes_no_more_memory_than_it_needs():
    """A day's predictions wait: a tenth of each buffer in which one was encoded would do."""
    model = Held()
    step = ScorePoints(ScoringRun(model, model, RULES), None)
    said = Probabilities([(f"U{number:010}", 0.02) for number in range(40)], 0.1, 0.1)
    told = run_of([post("ana", minute=60 * number) for number in range(100)], RULES, points_since=0).points
    points = [each for each in told if isinstance(each, PointEmitted)]

    tracemalloc.start()
    try:
        for each in points:
            step.on_batch([(time.time(), [each])])
            model.answers.pop().set_result(("held", said))
            step.on_notify()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    (kept,) = pickle.loads(pickle.dumps(step.snapshot()))["predicted"].values()
    assert len(points) == 100 and taken < 2.5 * len(kept)


def test_an_answer_that_comes_after_its_deadline_is_no_prediction():
    """It is counted as missed, though it is there before anybody has looked for what is late."""
    told = run_of([post("ana", minute=0)], RULES, points_since=0).points
    model = Held()
    step = ScorePoints(ScoringRun(model, model, RULES, deadline=0.1, bounded_deadline=True), None)
    step.on_batch([(time.time(), told[:1])])
    time.sleep(0.15)  # the deadline is a time on the wall
    model.answers[0].set_result(ANSWER)

    assert kinds_in(step.on_notify()[0]) == []
    assert (step.counts_here().get("scored", 0), step.counts_here()["missed"]) == (0, 1)


def two_points() -> list[PointEmitted]:
    """Of one channel, one behind the other."""
    points = run_of([post("ana", minute=0), post("bo", minute=30)], RULES, points_since=0).points
    one, other = (each for each in points if isinstance(each, PointEmitted))
    return [one, other]


def test_each_model_s_predictions_are_counted_also_across_a_restart():
    """Another model is live when the run ends: the closing account gives it no prediction that it did not make."""
    said = Probabilities([("bo", 0.5)], 0.25, 0.25)
    model, state = Held(), None
    for number, name in enumerate(("old", "new", "new")):
        step = ScorePoints(ScoringRun(model, model, RULES), state)
        step.on_batch([(time.time(), [two_points()[number % 2]])])
        model.answers[-1].set_result((name, said))
        assert kinds_in(step.on_notify()[0]) == ["prediction"]
        state = pickle.loads(pickle.dumps(step.snapshot()))

    assert state is not None
    points = scores_as_json(Account(state["counts"]))["points"]
    assert (points["scored"], points["scored_by"]) == (3, {"new": 2, "old": 1})
    assert scorers({"model": "newest", "account": {"points": points}}) == "models new (2), old (1)"
    assert scorers({"model": "newest", "account": {"points": {"scored_by": {"old": 3}}}}) == "model old"
    assert scorers({"model": "newest", "account": {"points": {"scored_by": {}}}}) == "model newest"


@pytest.mark.parametrize("how", ["failed:refused", "missed"])
def test_a_point_that_is_lost_behind_one_that_waits_is_counted_once_whatever_is_resumed(how: str):
    """It stands in the snapshot behind the other, and is asked about again: counted before and after, it would be two points (law 6)."""
    told = two_points()
    model = Held()
    live_since = told[1].t if how == "missed" else None
    scoring = ScoringRun(model, model, RULES, live_since=live_since, deadline=-1.0)
    step = ScorePoints(scoring, None)
    step.on_batch([(time.time(), [*told])])
    if how != "missed":
        model.answers[1].set_exception(CannotScore("refused", "the model refused"))
    step.on_notify()
    state = pickle.loads(pickle.dumps(step.snapshot()))

    again = Held()
    resumed = ScorePoints(ScoringRun(again, again, RULES), state)
    resumed.on_batch([])
    for answer in again.answers:
        answer.set_result(ANSWER)
    ((_, made), (_, (account,))) = resumed.on_eof()[0]

    assert [each.key for each in made] == [each.identity for each in told]
    assert (account["scored"], account[how], account["waiting"]) == (2, 0, 0)


def test_a_point_that_is_answered_behind_one_that_waits_is_counted_where_a_run_is_stopped(monkeypatch: pytest.MonkeyPatch):
    """Nothing was passed on of it, so it waits like the one before it (law 6)."""
    monkeypatch.setattr(asking, "PATIENCE", 0.05)
    told = two_points()
    stopping: list[bool] = []
    model = Held()
    step = ScorePoints(ScoringRun(model, model, RULES, is_stopping=lambda: bool(stopping)), None)
    step.on_batch([(time.time(), [*told])])
    model.answers[1].set_result(ANSWER)
    stopping.append(True)
    ((_, (account,)),) = step.on_eof()[0]

    assert (account["scored"], account["waiting"]) == (0, 2)


def test_who_was_not_predicted_is_no_hit():
    """The totals count ranks of 1, and of 1 to 5: an answer by somebody who was not named has no rank."""
    lately = RollingMetrics(threshold=0.5)
    for rank in (1, 5, 6, None):
        lately.add({"conversation": "C1", "how": "answered", "rank": rank, "people": [], "answer": ["ana"]})

    assert lately.counts == {"answered": 4, "hit@1": 1, "hit@5": 2, "alerts": 0, "right": 0}
    assert lately.figures() == {"hit@1": 0.25, "hit@5": 0.5}


def test_recent_outcomes_are_counted_by_the_threshold_that_their_model_has_now():
    """A rehearsal wrote another one while the run goes on: what is served, and what is reported at the end, follows it."""
    thresholds = {"m": 0.5}
    model = Held()
    scoring = ScoringRun(model, model, RULES, threshold_for=thresholds.__getitem__)
    step = ScorePoints(scoring, None)
    people = [{"user": "ana", "p": 0.7}, {"user": "bo", "p": 0.3}]
    for answer in ("ana", "bo"):
        step._measure({"conversation": "C1", "model": "m", "how": "answered", "rank": 1, "people": people, "answer": [answer]})
    assert (scoring.figures()["lately"]["m"]["precision"], figures_lately(step.lately["m"])["threshold"]) == (0.5, 0.5)

    thresholds["m"] = 0.2
    assert scoring.figures()["lately"]["m"]["precision"] == 0.5
    assert step.lately["m"].shares()["precision"] == [(1, 2, "C1")] * 2, "of two people each"
    thresholds["m"] = 0.8
    assert closing_figures(scoring)["m"]["threshold"] == 0.8, "also where nobody has asked for metrics since"
    found = scoring.figures()
    assert "precision" not in found["lately"]["m"]
    assert found["totals"]["m"] == {"answered": 2, "hit@1": 2, "hit@5": 2, "alerts": 2, "right": 1}, "a counter doesn't fall"


def test_an_outcome_that_nobody_knows_names_no_people_and_counts_for_nothing():
    """A point that was superseded, or censored: whether somebody would have answered is not known."""
    predicted = PredictedPoint("id", 1, "m", b'{"people": [{"user": "bo", "p": 0.9}], "nobody": 0.05, "other": 0.05}')
    for how in ("superseded", "censored", "merged", "elsewhere"):
        ended = PointSettled("C1", "C1:1700000000.000000:session", 1_700_000_000_000_000, how, 1_700_000_001_000_000, None, ())
        body = outcome_body(predicted, ended, SPEC)
        lately = RollingMetrics(threshold=0.5)
        lately.add({**body, "people": [{"user": "bo", "p": 0.9}]})

        assert body["people"] == [] and lately.figures() == {}
