"""What scoring says, and when: nothing overtakes what it is about, nothing comes too late, and nobody's guess counts as known."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from beepgpt.conversations.outcomes import PredictedPoint, Probabilities, RollingMetrics, outcome_body
from beepgpt.conversations.points import PointSettled
from beepgpt.dataflows.score_points import ScorePoints, ScoringRun
from beepgpt.training.reloading import ModelAnswer
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

    def expected(self, model: str, answered: int) -> Mapping[str, float]:
        """Nothing."""
        return {}


def kinds_in(outputs: Any) -> list[str]:
    return [each.kind for kind, items in outputs if kind == "scored" for each in items]


def test_a_deletion_waits_behind_the_prediction_that_shows_its_message():
    """The model takes its time, and the message is deleted meanwhile: a reader that hears of the deletion first would keep the text."""
    told = run_of([post("ana", minute=0), delete(of=0, minute=1)], RULES, points_since=0).points
    model = Held()
    step = ScorePoints(ScoringRun(model, model, SPEC), None)

    assert kinds_in(step.on_batch([(time.time(), told)])[0]) == []
    model.answers[0].set_result(ANSWER)
    assert kinds_in(step.on_notify()[0]) == ["prediction", "deletion", "outcome", "outcome"]


def test_an_answer_that_comes_after_its_deadline_is_no_prediction():
    """It is counted as missed, though it is there before anybody has looked for what is late."""
    told = run_of([post("ana", minute=0)], RULES, points_since=0).points
    model = Held()
    step = ScorePoints(ScoringRun(model, model, SPEC, deadline=0.1, bounded_deadline=True), None)
    step.on_batch([(time.time(), told[:1])])
    time.sleep(0.15)  # the deadline is a time on the wall
    model.answers[0].set_result(ANSWER)

    assert kinds_in(step.on_notify()[0]) == []
    assert (step.counts_here().get("scored", 0), step.counts_here()["missed"]) == (0, 1)


def test_an_outcome_that_nobody_knows_names_no_people_and_counts_for_nothing():
    """A point that was superseded, or censored: whether somebody would have answered is not known."""
    predicted = PredictedPoint("id", 1, "m", b'{"people": [{"user": "bo", "p": 0.9}], "nobody": 0.05, "other": 0.05}')
    for how in ("superseded", "censored", "merged", "elsewhere"):
        ended = PointSettled("C1", "C1:1700000000.000000:session", 1_700_000_000_000_000, how, 1_700_000_001_000_000, None, ())
        body = outcome_body(predicted, ended, SPEC)
        lately = RollingMetrics(threshold=0.5)
        lately.add({**body, "people": [{"user": "bo", "p": 0.9}]})

        assert body["people"] == [] and lately.figures() == {}
