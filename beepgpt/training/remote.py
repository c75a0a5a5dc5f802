"""A model on a server: asked for one label at a time, from any thread, and told as people, nobody and somebody else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from beepgpt.errors import BeepGPTError
from beepgpt.training.checks import NIL, OTHER
from beepgpt.training.points import Points
from beepgpt.training.predictions import Prediction, Predictions

RemoteEndpoint = Literal["chat", "completions", "decisions"]
WAYS: tuple[RemoteEndpoint, ...] = ("chat", "completions", "decisions")
AHEAD = 4
"""Questions that wait for their turn, for each that is under way: a hundred thousand points are not all in memory at once."""
FACTS = ("in_window", "answers_30d", "share_30d", "first_60d", "to_author", "seen_hours", "closeness")
"""What a decision is told of each candidate, where the points have it."""
DECIDING = (
    "The user's message is a conversation in a company's chat. Who answers next? Each number is somebody, with what is known of them:"
    " in_window, how many messages back they last spoke (0: not at all); answers they gave in this channel lately, and their share of all;"
    " first answers; answers to this author; hours since they were seen (-1: never); closeness of the text to what they answered before."
)
"""What a model that was trained on nothing of ours is told."""


class Unanswered(BeepGPTError):
    """The server doesn't answer this question, as it wouldn't at another time; the message says why."""


class PointQuestion(NamedTuple):
    """What is asked about a point."""

    text: str
    """The prompt, byte for byte as it was trained on."""
    options: tuple[tuple[str, str], ...]
    """Of a decision, each with what is known of it; empty: the labels."""


AskModel = Callable[[PointQuestion, float | None], "Future[dict[str, float]]"]
"""How likely each label is, within so many seconds; what isn't told is left out."""


def _everything(channel: str, people: Collection[str]) -> bool:
    return True


@dataclass(frozen=True)
class RemoteModel:
    """Asks a server. Nothing of it changes but the counts of `RemoteModel.predict`."""

    way: RemoteEndpoint
    people: Mapping[str, str]
    """Who has which label; for decisions nobody has one beforehand."""
    ask: AskModel
    at_once: int = 16
    """Questions under way at the same time, as the server is used."""
    may_leave: Callable[[str, Collection[str]], bool] = _everything
    """Whether what was said in a channel, by these people, may be asked about."""
    told: Callable[[int, int], None] = lambda done, of: None
    """Hears how far `predict` is."""
    counts: dict[str, int] = field(default_factory=dict)
    """Of `predict`: how often something else than an answer came, by what it was."""

    @property
    def labels(self) -> list[str]:
        """Who can be named."""
        return list(self.people.values())

    def submit(self, points: Points, place: int = 0, *, deadline: float | None = None) -> Future[Prediction]:
        """What it says of one point, within so many seconds from now on. For any thread; as many as one likes may be under way.

        What the server does wrong is the future's exception, a missed deadline among it.
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
            except BaseException as error:
                ended.set_exception(error)

        self.ask(question_of(points, place, self.way), deadline).add_done_callback(hand_on)
        return ended

    def predict(self, points: Points) -> Predictions:
        """For each point, chances of people, of nobody and of somebody else; the same question is asked once.

        A question that the server turns down gives somebody else, and is counted; whatever else goes wrong ends it.
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
                    self.told(len(found), len(points))
            while waiting:
                found.append(self._ended(waiting.popleft()))
                self.told(len(found), len(points))
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
    """What is asked: the prompt as it stands, and for a decision the candidates, by number and without their names."""
    prompt = points.prompt[place]
    if way != "decisions":
        return PointQuestion(prompt, ())
    names = [name for name in FACTS if name in points.names]
    columns = [points.names.index(name) for name in names]
    rows = points.facts[points.starts[place] : points.starts[place + 1]]
    told = [", ".join(f"{name} {row[column]:g}" for name, column in zip(names, columns, strict=True)) for row in rows]
    people = [(str(number), each) for number, each in enumerate(told)]
    return PointQuestion(prompt, (*people, (NIL, "nobody, within a day"), (OTHER, "somebody else")))


def prediction_of(likelihoods: Mapping[str, float], people: Mapping[str, str], author: str) -> Prediction:
    """Likelihoods of labels as chances that sum to 1: what no label says is somebody else's.

    Nobody answers themselves, so that the author's own is somebody else's, too.

    >>> prediction_of({"0": 0.5, "1": 0.2, "nil": 0.1}, {"0": "ana", "1": "bo", "2": "cy"}, "bo")
    Prediction(people=[('ana', 0.5)], nobody=0.1, other=0.4)
    """
    named = [(people[label], p) for label, p in likelihoods.items() if label in people and people[label] != author]
    named.sort(key=lambda each: (-each[1], each[0]))
    nobody = likelihoods.get(NIL, 0.0)
    return Prediction(named, nobody, round(max(1.0 - nobody - sum(p for _, p in named), 0.0), 6))


def predictions_of(said: list[Prediction]) -> Predictions:
    """One by one, as columns."""
    starts = np.cumsum([0, *(len(each.people) for each in said)], dtype=np.int64)
    people = [person for each in said for person, _ in each.people]
    chances = np.array([p for each in said for _, p in each.people], np.float64)
    nobody, other = (np.array([getattr(each, name) for each in said], np.float64) for name in ("nobody", "other"))
    return Predictions(starts, people, chances, nobody, other)


def labels_in(told: Mapping[str, Any]) -> dict[str, str]:
    """Who has which label, as labels.json tells it."""
    return {str(each["label"]): str(each["user"]) for each in told["people"]}
