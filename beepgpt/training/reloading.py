"""A model in a folder: how it is asked, reloaded while it is in use when another one is put there, and what its validation found."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from beepgpt.conversations.outcomes import Probabilities
from beepgpt.errors import BadCommand, BeepGPTError
from beepgpt.training.folder import ALERTS
from beepgpt.training.parts import Part, Parts, parts_of


class CannotScore(BeepGPTError):
    """A model can't be asked about some points, though it may be about others. The message says why, and quotes nobody."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason`: the name under which it is counted."""
        super().__init__(message)
        self.reason = reason


class ScoringModel(Protocol):
    """A model, or the newer one that has taken its place."""

    def predict(self, points: Sequence[Mapping[str, Any]]) -> tuple[str, list[Probabilities]]:
        """The name of the model that was asked, and its probabilities for each point. Raises CannotScore; all other errors stop the run."""

    def part_of(self, model: str, prompt_ts: int) -> Part | None:
        """The part of the model's time in which a point was made: what it was fitted on, chosen on, or is judged by; None: not known."""

    def expected(self, model: str, answered: int) -> Mapping[str, float]:
        """The least `hit@1` and `hit@5` among so many answers that the model's validation and chance explain; empty: it is not known."""


ModelAnswer = tuple[str, Probabilities]
"""The model's name, and its probabilities for one point."""


class ModelCaller(Protocol):
    """Asks a model about points."""

    together: int
    """Points in one call."""
    ahead: int
    """Points that may be under way at a time."""

    def ask(self, points: Sequence[Mapping[str, Any]], deadlines: Sequence[float | None]) -> Sequence[Future[ModelAnswer]]:
        """An answer for each point, now or later. `deadlines`: until when each is wanted, seconds since 1970."""


class LocalModel:
    """A model in this process, asked about many points in a call: one by one they take ten times as long."""

    def __init__(self, predictor: ScoringModel, together: int = 100) -> None:
        self._predictor = predictor
        self.together = self.ahead = together

    def ask(self, points: Sequence[Mapping[str, Any]], deadlines: Sequence[float | None]) -> Sequence[Future[ModelAnswer]]:
        futures: list[Future[ModelAnswer]] = [Future() for _ in points]
        try:
            name, probabilities = self._predictor.predict(points)
        except CannotScore as error:
            for future in futures:
                future.set_exception(error)
            return futures
        for future, each in zip(futures, probabilities, strict=True):
            future.set_result((name, each))
        return futures


class RemoteCaller:
    """A model on a server, asked about one point a call, by many calls at a time."""

    def __init__(self, submit: Callable[[Mapping[str, Any], float | None], Future[ModelAnswer]], concurrency: int) -> None:
        """`submit` asks about a point, within so many seconds from now on."""
        self._submit = submit
        self.together, self.ahead = 1, concurrency

    def ask(self, points: Sequence[Mapping[str, Any]], deadlines: Sequence[float | None]) -> Sequence[Future[ModelAnswer]]:
        now = time.time()
        return [self._submit(point, None if due is None else max(due - now, 0.0)) for point, due in zip(points, deadlines, strict=True)]


if TYPE_CHECKING:
    from beepgpt.training.models import Trained
    from beepgpt.training.people import StrangersCheck
    from beepgpt.training.points import Prediction

CARD, METRICS = "model.json", "metrics.json"
IN_PROCESS = ("local", "text")
"""Kinds of models that predict in this process; all others are on a server."""
REASONS = {"RequestRefused": "Refused"}
"""Reasons in the account, where they are not the names of errors."""
THRESHOLD = 0.5
"""Where a model's validation found none."""

TWO_SIDED = 1.96
"""Standard errors on each side of a 95 % interval."""
SURE = 3.0
"""Standard errors that a share may fall short: it is looked at every ten answers, so two would be too few."""

log = logging.getLogger("beepgpt")

ModelOpener = Callable[[Path], AbstractContextManager["Trained"]]
"""Opens the model of a folder for as long as it is needed. Raises BadModel or BadCommand."""


class WatchedModel:
    """The model in a folder. Once another one stands there, it takes its place without a restart."""

    def __init__(self, folder: Path, spec: str, open_model: ModelOpener) -> None:
        """Raise BadCommand if there is no model, if it was trained on examples of another `spec`, or if its server can't be asked."""
        from beepgpt.training.models import BadModel

        self.folder = folder
        self._spec = spec
        self._open_model = open_model
        self._open = ExitStack()
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._strangers: dict[str, StrangersCheck] = {}
        self._validated: dict[str, dict[str, dict[str, Any]]] = {}
        self._parts: dict[str, Parts | None] = {}
        try:
            self._trained, self._name = self._load()
        except BadModel as error:
            raise BadCommand(f"--model {error}") from error

    @property
    def name(self) -> str:
        """The first 12 hex digits of the sha256 of the model's card: the `model` of its predictions."""
        return self._name

    @property
    def fitted_until(self) -> int | None:
        """The time before which points may have been learned from, microseconds; None: the model's card doesn't say."""
        parts = self._parts.get(self._name)
        return None if parts is None else parts.choose_from

    @property
    def is_in_process(self) -> bool:
        """Whether it predicts in this process; else it is on a server."""
        return self._trained.card["kind"] in IN_PROCESS

    def caller(self, batch: int, concurrency: int) -> ModelCaller:
        """The caller of this model: `batch` points a call in this process, or `concurrency` calls at a time on a server."""
        return LocalModel(self, batch) if self.is_in_process else RemoteCaller(self.submit, concurrency)

    def predict(self, points: Sequence[Mapping[str, Any]]) -> tuple[str, list[Probabilities]]:
        """The name of a model in this process, and its probabilities for each point."""
        from beepgpt.training.points import OtherFeatures, points_of

        with self._lock:
            trained, name = self._trained, self._name
        self._strangers[name].see(points)
        try:
            predictions = trained.model.predict(points_of([as_example(point) for point in points]))
        except OtherFeatures as error:
            raise BadCommand(f"{self.folder}: {error}") from error
        found = [predictions.of(place) for place in range(len(points))]
        return name, [Probabilities(each.people, each.nobody, each.other) for each in found]

    def submit(self, point: Mapping[str, Any], seconds: float | None) -> Future[ModelAnswer]:
        """The name of a model on a server, and its probabilities for a point, within so many seconds; or CannotScore."""
        from beepgpt.training.points import points_of
        from beepgpt.training.remote import RemoteModel

        with self._lock:
            trained, name = self._trained, self._name
        assert isinstance(trained.model, RemoteModel)
        self._strangers[name].see([point])
        answer: Future[ModelAnswer] = Future()

        def forward(asked: Future[Prediction]) -> None:
            error = asked.exception()
            if error is None:
                found = asked.result()
                answer.set_result((name, Probabilities(found.people, found.nobody, found.other)))
            else:
                kind = type(error.__cause__ or error).__name__  # and not its message, which may quote what people wrote
                kind = REASONS.get(kind, kind)
                answer.set_exception(CannotScore(kind, f"the model's server did not answer about a point: {kind}"))

        trained.model.submit(points_of([as_example(point)]), deadline=seconds).add_done_callback(forward)
        return answer

    def part_of(self, model: str, prompt_ts: int) -> Part | None:
        """The part of a model's time in which a point was made, as its card says."""
        parts = self._parts.get(model)
        return None if parts is None else parts.of(prompt_ts)

    def expected(self, model: str, answered: int) -> Mapping[str, float]:
        """The least `hit@1` and `hit@5` among so many answers that a model's validation and chance explain; empty: not validated."""
        with self._lock:
            card, name = self._trained.card, self._name
        if not self._validated.get(model) and model == name:  # it may be validated after it was loaded
            figures = figures_in(self.folder)
            if is_of_card(figures, card):  # the folder may have those of the model before, or of the next one already
                self._validated[model] = {
                    what: {**each, "spread": {count: of[what] for count, of in figures.get("spread", {}).items()}}
                    for what, each in hits_in(figures).items()
                }
        return {what: least_expected(each, answered) for what, each in self._validated.get(model, {}).items()}

    def look(self) -> bool:
        """Load another model if the folder has one by now. One that can't be used is logged, and the old one stays."""
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return False
        self._seen = stamp
        try:
            trained, name = self._load()
        except Exception as error:
            log.warning("the new model is not taken up: %s", error, extra={"model": self._name})
            return False
        if name == self._name:
            return False
        if (trained.card["kind"] in IN_PROCESS) != self.is_in_process:
            log.warning("%s: the new model is of another kind: start again with it", self.folder, extra={"model": self._name})
            return False
        before = self._name
        with self._lock:
            self._trained, self._name = trained, name
        log.info("another model", extra={"model": name, "before": before})
        return True

    @contextmanager
    def watched(self, every: float) -> Iterator[None]:
        """Look at the folder every so many seconds. Afterwards the model is closed: one on a server can't be asked any more."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(every):
                self.look()

        thread = threading.Thread(target=watch, name="model", daemon=True)
        thread.start()
        with self._open:
            try:
                yield
            finally:
                is_over.set()
                thread.join(5)
                self._strangers[self._name].end()

    def close(self) -> None:
        """Close the model: one on a server can't be asked any more."""
        self._open.close()

    def _stamp(self) -> tuple[int, int, int] | None:
        with suppress(OSError):
            status = (self.folder / CARD).stat()
            return status.st_ino, status.st_mtime_ns, status.st_size
        return None

    def _load(self) -> tuple[Trained, str]:
        from beepgpt.training.people import StrangersCheck

        trained = self._open.enter_context(self._open_model(self.folder))
        if trained.card.get("spec") != self._spec:
            raise BadCommand(
                f"--model {self.folder}: was trained on examples of spec {trained.card.get('spec')}, and this run makes spec {self._spec}:"
                " give the settings that its examples were made with, or train it again"
            )
        name = name_of(self.folder)
        self._parts[name] = parts_of(trained.card)
        self._strangers[name] = StrangersCheck(self.folder, trained.card["manifest"], log.warning)
        return trained, name


def name_of(folder: Path) -> str:
    """The name of the model in a folder: the `model` of its predictions."""
    return sha256((folder / CARD).read_bytes()).hexdigest()[:12]


def least_expected(validated: Mapping[str, Any], answered: int) -> float:
    """The least share among `answered` answers that a validated share lets one expect, with the noise of both (`SURE` standard errors).

    The validation's interval says how much of it there is, since answers of one conversation go together, then as now; and so does its
    `spread`, of as many answers in a row, since weeks differ: the larger counts.

    >>> round(least_expected({"value": 0.5, "low": 0.45, "high": 0.55, "count": 400}, 400), 3)
    0.392
    >>> round(least_expected({"value": 0.5, "low": 0.45, "high": 0.55, "count": 800, "spread": {"300": 0.1}}, 400), 3)
    0.191
    """
    noise = (validated["high"] - validated["low"]) / (2 * TWO_SIDED)
    in_a_row = [value for count, value in validated.get("spread", {}).items() if int(count) <= answered]
    lately = max([noise * (validated["count"] / max(answered, 1)) ** 0.5, *in_a_row[-1:]])
    return float(max(validated["value"] - SURE * (noise**2 + lately**2) ** 0.5, 0.0))


def as_example(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point under an example's keys: it has one conversation."""
    return {**point, "conversation": point["conversations"][0]}


def figures_in(folder: Path) -> dict[str, Any]:
    """The metrics that `beepgpt validate` wrote into a model's folder; empty if it did not."""
    with suppress(OSError, ValueError):
        found = orjson.loads((folder / METRICS).read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def is_of_card(figures: Mapping[str, Any], card: Mapping[str, Any]) -> bool:
    """Whether metrics are of the model with this card."""
    return figures.get("model") == {name: value for name, value in card.items() if name not in ("files", "labels")}


def hits_in(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """`hit@1` and `hit@5` of the answered points, with their intervals."""
    with suppress(KeyError, IndexError, TypeError):
        row = figures["rows"]["answered"][0]["figures"]
        return {name: row[name] for name in ("hit@1", "hit@5") if row[name]["low"] is not None}
    return {}


def recommended_in(folder: Path) -> float | None:
    """The threshold that `beepgpt rehearse` recommended for the very model in a folder; None if there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = orjson.loads((folder / ALERTS).read_bytes())
        if found["model"] == name_of(folder):
            return float(found["threshold"])
    return None


def threshold_of(given: float | None, folder: Path | None) -> float:
    """The probability from which on a person is alerted: as given, as a rehearsal recommended, or as the model's validation found."""
    if given is not None:
        return given
    if folder is not None and (recommended := recommended_in(folder)) is not None:
        return recommended
    with suppress(KeyError, TypeError):
        return float(figures_in(folder)["threshold"]["threshold"]) if folder is not None else THRESHOLD
    return THRESHOLD
