"""A model in a folder: how it is asked, reloaded while it is in use when another one is put there, and what its validation found."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from beepgpt import clock
from beepgpt.conversations.events import micros
from beepgpt.conversations.outcomes import Probabilities
from beepgpt.conversations.rules import Rules, differing
from beepgpt.errors import BadCommand, BeepGPTError
from beepgpt.training.folder import ALERTS, CARD, LIVE, METRICS
from beepgpt.training.live import NOT_VALIDATED, figures_in, hits_in, is_of_card, live_in, name_of, newer_beside, threshold_in
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

    def expected(self, model: str, answered: int, at: int | None = None) -> Mapping[str, float]:
        """The least `hit@1` and `hit@5` to expect among so many answers, by the model's validation and its noise; empty: not known.

        `at`: the time of the newest of their points, microseconds. Nothing is expected of points that the validation itself looked at.
        """


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
        now = clock.now()
        return [self._submit(point, None if due is None else max(due - now, 0.0)) for point, due in zip(points, deadlines, strict=True)]


if TYPE_CHECKING:
    from beepgpt.training.models import Trained
    from beepgpt.training.people import StrangersCheck
    from beepgpt.training.points import Prediction

IN_PROCESS = ("local", "text")
"""Kinds of models that predict in this process; all others are on a server."""
REASONS = {"RequestRefused": "Refused"}
"""Reasons in the account, where they are not the names of errors."""

TWO_SIDED = 1.96
"""Standard errors on each side of a 95 % interval."""
SURE = 3.0
"""Standard errors that a share may fall short: it is looked at every ten answers, so two would be too few."""

log = logging.getLogger("beepgpt")

ModelOpener = Callable[[Path], AbstractContextManager["Trained"]]
"""Opens the model of a folder for as long as it is needed. Raises BadModel or BadCommand."""


class WatchedModel:
    """The model in a folder. Once another one stands there, it takes its place without a restart."""

    def __init__(self, folder: Path, rules: Rules, open_model: ModelOpener) -> None:
        """Raise BadCommand if there is no model, if it was trained on examples that other rules made, or if its server can't be asked."""
        from beepgpt.training.models import BadModel

        self.folder = folder
        self._rules = rules
        self._open_model = open_model
        self._open = ExitStack()
        self._lock = threading.Lock()
        self._at = live_in(folder)
        self._seen = self._stamp()
        self._strangers: dict[str, StrangersCheck] = {}
        self._validated: dict[str, dict[str, dict[str, Any]]] = {}
        self._judged_until: dict[str, int] = {}
        """By model: the time of the last point that its validation looked at, microseconds."""
        self._parts: dict[str, Parts | None] = {}
        try:
            self._trained, self._name = self._load(self._at)
        except BadModel as error:
            raise BadCommand(f"--model {error}") from error
        self._has_threshold = threshold_in(self._at) is not None
        if (newer := newer_beside(folder)) is not None:
            log.warning(NOT_VALIDATED, folder, newer, self._name, extra={"model": newer})

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
            predictions = trained.model.predict(points_of(points))
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

        trained.model.submit(points_of([point]), deadline=seconds).add_done_callback(forward)
        return answer

    def part_of(self, model: str, prompt_ts: int) -> Part | None:
        """The part of a model's time in which a point was made, as its card says."""
        parts = self._parts.get(model)
        return None if parts is None else parts.of(prompt_ts)

    def expected(self, model: str, answered: int, at: int | None = None) -> Mapping[str, float]:
        """The least `hit@1` and `hit@5` to expect among so many answers, by a model's validation and its noise; empty: not validated.

        `at`: the time of the newest of their points, microseconds. Nothing is expected of points that the validation itself looked at.
        """
        with self._lock:
            card, name = self._trained.card, self._name
        if not self._validated.get(model) and model == name:  # it may be validated after it was loaded
            figures = figures_in(self._at)
            if is_of_card(figures, card):  # the folder may have those of the model before, or of the next one already
                self._validated[model] = {
                    what: {**each, "spread": {count: of[what] for count, of in figures.get("spread", {}).items()}}
                    for what, each in hits_in(figures).items()
                }
                self._judged_until[model] = micros(until) if (until := figures.get("judged_until")) else 0
        if at is not None and at <= self._judged_until.get(model, 0):
            return {}
        return {what: least_expected(each, answered) for what, each in self._validated.get(model, {}).items()}

    def look(self) -> bool:
        """Load another model if the folder has one by now. The old one stays, and it is logged why, if the other can't be used, or if the
        old one was validated and the other isn't yet."""
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return False
        self._seen = stamp
        at = live_in(self.folder)
        try:
            if name_of(at) == self._name:
                self._at, self._has_threshold = at, threshold_in(at) is not None
                return False
            if self._has_threshold and threshold_in(at) is None:
                log.warning(NOT_VALIDATED, at, name_of(at), self._name, extra={"model": self._name})
                return False
            trained, name = self._load(at)
        except Exception as error:
            log.warning("the new model is not taken up: %s", error, extra={"model": self._name})
            return False
        if (trained.card["kind"] in IN_PROCESS) != self.is_in_process:
            log.warning("%s: the new model is of another kind: start again with it", self.folder, extra={"model": self._name})
            return False
        with self._lock:
            self._trained, self._name = trained, name
        self._at, self._has_threshold = at, threshold_in(at) is not None
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

    def _stamp(self) -> list[tuple[int, int, int]] | None:
        """What changes with a folder's model, its figures or its live version; None: no model is there now."""
        at = live_in(self.folder)
        if not (at / CARD).exists():
            return None
        found = []
        for path in (self.folder / LIVE, self.folder / CARD, *(at / name for name in (CARD, METRICS, ALERTS))):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return found

    def _load(self, at: Path) -> tuple[Trained, str]:
        from beepgpt.training.people import StrangersCheck

        trained = self._open.enter_context(self._open_model(at))
        check_made_by(at, trained.card, self._rules.spec, self._rules)
        name = name_of(at)
        self._parts[name] = parts_of(trained.card)
        self._strangers[name] = StrangersCheck(at, trained.card["manifest"], log.warning)
        return trained, name


def check_made_by(folder: Path, card: Mapping[str, Any], spec_here: str, settings: Rules | Mapping[str, Any] | None) -> None:
    """Raise BadCommand if a model was trained on examples of another spec. `settings`: those behind the spec here, if they are known."""
    if (spec := card.get("spec")) != spec_here:
        raise BadCommand(
            f"--model {folder}: was trained on examples that were made with other settings:"
            f" {differing(str(spec), spec_here, card.get('settings'), settings)}: give the settings that its examples were made with, or"
            " train it again"
        )


def least_expected(validated: Mapping[str, Any], answered: int) -> float:
    """The least share among `answered` answers that a validated share lets one expect, with the noise of both (`SURE` standard errors).

    The validation's interval says how much of it there is, since answers of one conversation go together, then as now; and so does its
    `spread`, of as many answers in a row, since weeks differ: the larger counts.

    >>> round(least_expected({"value": 0.5, "low": 0.45, "high": 0.55, "count": 400}, 400), 3)
    0.392
    >>> round(least_expected({"value": 0.5, "low": 0.45, "high": 0.55, "count": 800, "spread": {"300": 0.1}}, 400), 3)
    0.19
    """
    noise = (validated["high"] - validated["low"]) / (2 * TWO_SIDED)
    in_a_row = [value for count, value in validated.get("spread", {}).items() if int(count) <= answered]
    lately = max([noise * (validated["count"] / max(answered, 1)) ** 0.5, *in_a_row[-1:]])
    return float(max(validated["value"] - SURE * (noise**2 + lately**2) ** 0.5, 0.0))
