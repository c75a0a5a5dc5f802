"""A model on a server: asked for one label at a time, from any thread; its answer as probabilities of people, nobody and somebody else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from beepgpt.errors import BadAnswer, BeepGPTError, RequestRefused
from beepgpt.training.checks import NIL, OTHER, WEAK
from beepgpt.training.points import Points, Prediction, Predictions
from beepgpt.training.uploads import MayLeave

RemoteEndpoint = Literal["chat", "completions", "decisions"]
REMOTE_ENDPOINTS: tuple[RemoteEndpoint, ...] = ("chat", "completions", "decisions")
AHEAD = 4
"""Queued questions for each one in flight: a hundred thousand points are not all in memory at once."""
FEATURES = ("in_window", "answers_30d", "share_30d", "first_60d", "to_author", "seen_hours", "closeness")
"""Features of a candidate that a decision is given, where the points have them."""
DECIDING = (
    "The user's message is a conversation in a company's chat. Who answers next? Each number is somebody, with what is known of them:"
    " in_window, how many messages back they last spoke (0: not at all); answers they gave in this channel lately, and their share of all;"
    " first answers; answers to this author; hours since they were seen (-1: never); closeness of the text to what they answered before."
)
"""The instructions of a model that was not trained on our examples."""


class Unanswered(BeepGPTError):
    """The server refuses this question, now and later; the message says why."""


class PointQuestion(NamedTuple):
    """A question about a point."""

    text: str
    """The prompt, byte for byte as it was trained on."""
    options: tuple[tuple[str, str], ...]
    """Options of a decision, each with its features in words; empty: the labels are the options."""


AskModel = Callable[[PointQuestion, float | None], "Future[dict[str, float]]"]
"""A question and a deadline in seconds to the probability of each label; labels that the server doesn't return are missing."""


def anything_may_leave(channel: str, people: Collection[str]) -> bool:
    """A `may_leave` that excludes nothing."""
    return True


@dataclass(frozen=True)
class RemoteModel:
    """A model that a server answers for. It is immutable but for the `counts` of `predict`."""

    way: RemoteEndpoint
    people: Mapping[str, str]
    """People by label; empty for decisions, whose labels are candidates' numbers."""
    ask: AskModel
    at_once: int = 16
    """Questions in flight at a time."""
    may_leave: MayLeave = anything_may_leave
    progress: Callable[[int, int], None] = lambda done, of: None
    """Called by `predict` with the points done and all points."""
    counts: dict[str, int] = field(default_factory=dict)
    """Points that `predict` got no answer for, by reason."""

    @property
    def labels(self) -> list[str]:
        """People who have a label."""
        return list(self.people.values())

    def submit(self, points: Points, place: int = 0, *, deadline: float | None = None) -> Future[Prediction]:
        """The prediction of one point, within `deadline` seconds. Thread-safe; any number may be in flight.

        The future raises Unanswered if the server refuses the question, and ProviderFailed for all else, a missed deadline too.
        """
        ended: Future[Prediction] = Future()
        if not self.may_leave(points.channel[place], set(points.window_user[place])):
            ended.set_result(Prediction([], 0.0, 1.0))
            return ended
        people = self._people_at(points, place)
        author = points.author[place]

        def hand_on(asked: Future[dict[str, float]]) -> None:
            if not ended.set_running_or_notify_cancel():
                return
            try:
                ended.set_result(prediction_of(asked.result(), people, author))
            except (BadAnswer, RequestRefused) as error:
                unanswered = Unanswered(str(error))
                unanswered.__cause__ = error
                ended.set_exception(unanswered)
            except BaseException as error:
                ended.set_exception(error)

        self.ask(question_of(points, place, self.way), deadline).add_done_callback(hand_on)
        return ended

    def predict(self, points: Points) -> Predictions:
        """Probabilities of people, nobody and somebody else for each point; equal questions are asked once.

        A refused question counts as somebody else, and in `counts`. Any other failure is raised.
        """
        found: list[Prediction] = []
        waiting: deque[Future[Prediction]] = deque()
        same: dict[PointQuestion, Future[dict[str, float]]] = {}
        plain = self.ask

        def ask(question: PointQuestion, deadline: float | None) -> Future[dict[str, float]]:
            if question not in same:
                same[question] = plain(question, deadline)
            return same[question]

        asking = RemoteModel(self.way, self.people, ask, self.at_once, self.may_leave)
        try:
            for place in range(len(points)):
                if not self.may_leave(points.channel[place], set(points.window_user[place])):
                    self._count("kept back")
                waiting.append(asking.submit(points, place))
                while len(waiting) > AHEAD * self.at_once or (waiting and waiting[0].done()):
                    found.append(self._ended(waiting.popleft()))
                    self.progress(len(found), len(points))
            while waiting:
                found.append(self._ended(waiting.popleft()))
                self.progress(len(found), len(points))
        finally:
            for each in waiting:
                each.cancel()
        return predictions_of(found)

    def _ended(self, future: Future[Prediction]) -> Prediction:
        try:
            return future.result()
        except Unanswered as error:
            self._count(str(error))
            return Prediction([], 0.0, 1.0)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _people_at(self, points: Points, place: int) -> Mapping[str, str]:
        if self.way != "decisions":
            return self.people
        return {str(number): user for number, user in enumerate(points.candidates(place))}


def question_of(points: Points, place: int, way: RemoteEndpoint) -> PointQuestion:
    """The question about a point: its prompt, and for a decision its candidates, by number and without their names."""
    prompt = points.prompt[place]
    if way != "decisions":
        return PointQuestion(prompt, ())
    names = [name for name in FEATURES if name in points.feature_names]
    columns = [points.feature_names.index(name) for name in names]
    rows = points.features[points.starts[place] : points.starts[place + 1]]
    described = [", ".join(f"{name} {row[column]:g}" for name, column in zip(names, columns, strict=True)) for row in rows]
    people = [(str(number), each) for number, each in enumerate(described)]
    return PointQuestion(prompt, (*people, (NIL, "nobody, within a day"), (OTHER, "somebody else")))


def prediction_of(likelihoods: Mapping[str, float], people: Mapping[str, str], author: str) -> Prediction:
    """Likelihoods of labels as probabilities that sum to 1: what no label has is somebody else's.

    Nobody answers themselves, so that the author's own share is somebody else's, too.

    >>> prediction_of({"0": 0.5, "1": 0.2, "nil": 0.1}, {"0": "ana", "1": "bo", "2": "cy"}, "bo")
    Prediction(people=[('ana', 0.5)], nobody=0.1, other=0.4)
    """
    named = [(people[label], p) for label, p in likelihoods.items() if label in people and people[label] != author]
    named.sort(key=lambda each: (-each[1], each[0]))
    nobody = likelihoods.get(NIL, 0.0)
    return Prediction(named, nobody, round(max(1.0 - nobody - sum(p for _, p in named), 0.0), 6))


def predictions_of(predictions: list[Prediction]) -> Predictions:
    """Single predictions as columns."""
    starts = np.cumsum([0, *(len(each.people) for each in predictions)], dtype=np.int64)
    people = [person for each in predictions for person, _ in each.people]
    p = np.array([p for each in predictions for _, p in each.people], np.float64)
    nobody, other = (np.array([getattr(each, name) for each in predictions], np.float64) for name in ("nobody", "other"))
    return Predictions(starts, people, p, nobody, other)


def labels_in(content: Mapping[str, Any]) -> dict[str, str]:
    """People by label, from a parsed labels.json."""
    return {str(each["label"]): str(each["user"]) for each in content["people"]}


def options_in(content: Mapping[str, Any]) -> list[str]:
    """The labels of a parsed labels.json that name nobody; `weak` only where the training set has it: its share is somebody else's.

    >>> options_in({"people": [], "nil": "nil", "other": "other", "weak": "weak"})
    ['nil', 'other', 'weak']
    """
    return [NIL, OTHER, *([WEAK] if content.get(WEAK) == WEAK else [])]
