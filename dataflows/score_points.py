"""The step that scores points: points that wait for the model, and predictions that wait for their outcomes."""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import orjson
from bytewax.operators import StatefulBatchLogic

from beepgpt import clock
from beepgpt.conversations.account import Account
from beepgpt.conversations.events import kept_json, micros, ts_text
from beepgpt.conversations.outcomes import PredictedPoint, Probabilities, RollingMetrics, outcome_body, prediction_body
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointSettled, deletion_bytes
from beepgpt.conversations.rules import Rules, shaping_settings
from beepgpt.conversations.shard import check_settings, check_version
from beepgpt.conversations.state import MessageIndex
from beepgpt.dataflows.asking import AskingLogic, Gate
from beepgpt.dataflows.records import TaggedItems
from beepgpt.dataflows.scored_records import Scored
from beepgpt.training.live import THRESHOLD
from beepgpt.training.reloading import CannotScore, ModelAnswer, ModelCaller, ScoringModel

VERSION = 2
"""Of the state in a recovery store."""
KEY = "scores"
"""All points of a process meet under one key, where a model is asked about many of them at once."""
STALE = 2_000
"""Points without a deadline that wait for the model before the input is closed."""
ENOUGH = 300
"""Answered outcomes that are needed before a drop is reported."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds from a point's release to its prediction."""

log = logging.getLogger("beepgpt")


def _log_drop(model: str, name: str, lately: float, least: float) -> None:
    log.warning(
        "%s of model %s fell to %.3f, and by its validation and chance it would be %.3f or more: train it again, or look what changed",
        name, model, lately, least, extra={"model": model, "figure": name, "lately": round(lately, 4), "validated_low": round(least, 4)},
    )  # fmt: skip


def _log_failure(error: CannotScore) -> None:
    log.warning("%s", error, extra={"reason": error.reason})


@dataclass(frozen=True)
class ScoringRun:
    """How one run scores: values, and no settings."""

    predictor: ScoringModel
    caller: ModelCaller
    rules: Rules
    """That made the points."""
    live_since: int | None = None
    """Points from this time on are live and have a deadline: microseconds. None: all are history, without a deadline and always fresh."""
    deadline: float = 2.0
    """Seconds from a point's release to its prediction."""
    bounded_deadline: bool = False
    """Whether history has that deadline, too."""
    max_alert_age: int = 600_000_000
    """Microseconds: nobody is alerted to a point that is older by then."""
    most: int = 40
    """People that a prediction names."""
    threshold_for: Callable[[str], float] = lambda model: THRESHOLD
    """The probability from which on a person would be alerted, by the model's name: for the figures."""
    kept: int | None = None
    """Microseconds for which predictions stay on their topic: as long, a deletion finds those that held its message. None: no topic."""
    with_candidates: bool = False
    with_alerts: bool = False
    gate: Gate = field(default_factory=Gate)
    is_stopping: Callable[[], bool] = lambda: False
    on_drop: Callable[[str, str, float, float], None] = _log_drop
    """Called with a model, a figure's name, its recent value and the least that validation lets one expect, when it falls below that."""
    on_failure: Callable[[CannotScore], None] = _log_failure
    """Called when the model could not be asked about points."""
    on_error: Callable[[Exception], None] = lambda error: None
    """Called with the error that stops the flow, before it is raised."""
    steps_here: list[ScorePoints] = field(default_factory=list)
    """The steps of this process, for metrics."""

    def figures(self, serving: str = "") -> dict[str, Any]:
        """The run's figures for metrics, once there is a step. `serving`: the model that is asked now. Safe to call from other threads."""
        if not self.steps_here:
            return {}
        step = self.steps_here[0]
        lately = {name: self.followed(name, each) for name, each in dict(step.lately).items()}
        return {
            "counts": step.counts_here(),
            "predicted": dict(step.predicted_by),
            "outcomes": dict(step.outcomes_by),
            "waiting": step.waiting_here(),
            "buckets": BUCKETS,
            "waits": list(step.waits),
            "waited": step.waited,
            "totals": {name: dict(each.counts) for name, each in lately.items()},
            "lately": {name: each.figures() for name, each in lately.items()},
            "answered_lately": {name: each.answered for name, each in lately.items()},
            "validated": {
                name: dict(self.predictor.expected(name, lately[name].answered if name in lately else 0)) for name in {serving, *lately}
            },
        }

    def followed(self, model: str, lately: RollingMetrics) -> RollingMetrics:
        """A model's recent figures, by the threshold that it has now."""
        lately.threshold = self.threshold_for(model)
        return lately

    def is_fresh(self, t: int, now: float) -> bool:
        """Whether a point is young enough that somebody may be alerted to it."""
        return self.live_since is None or now * 1e6 - t <= self.max_alert_age

    def due(self, t: int, released: float) -> float | None:
        """Deadline of a prediction, seconds since 1970; None for a backlog, which pauses the input instead."""
        if self.live_since is None:
            return released + self.deadline if self.bounded_deadline else None
        return min(released + self.deadline, (t + self.max_alert_age) / 1e6) if t >= self.live_since else None


Released = tuple[float, list[PointEmitted | PointSettled | MessageDeleted]]
"""When a shard released these, seconds since 1970, and what it emitted."""


def gather_points(batch: Iterable[tuple[str, TaggedItems]]) -> list[tuple[str, Released]]:
    """The entries that the shards emitted, under one key."""
    return [(KEY, released) for _, (kind, items) in batch if kind == "points" for released in items]


class _Point:
    """A point on its way to its prediction."""

    __slots__ = ("answer", "body", "due", "emitted", "is_over", "lost", "released")

    def __init__(self, emitted: PointEmitted, released: float, due: float | None) -> None:
        self.emitted = emitted
        self.released = released
        self.due = due
        self.body: dict[str, Any] = {}
        """Its line, decoded when the model is asked."""
        self.is_over = False
        """It was predicted, or never will be."""
        self.answer: ModelAnswer | None = None
        self.lost = ""
        """The row that counts it, if it is over without an answer: counted when it is passed, since until then a snapshot asks again."""


class ScorePoints(AskingLogic[Released, TaggedItems, _Point, ModelAnswer]):
    """Asks the model about points, and passes on records of the kinds `scored` and, at the end, `account`.

    Items of a channel come out in order: what follows a point that is not predicted yet waits behind it.
    """

    wait = 0.005

    def __init__(self, scoring: ScoringRun, state: dict[str, Any] | None) -> None:
        super().__init__(scoring.is_stopping)
        self._scoring = scoring
        self._lanes: dict[str, deque[_Point | PointSettled | MessageDeleted]] = {}
        """By channel: items that can't be passed on yet."""
        self._to_ask: deque[_Point] = deque()
        self._stale = 0
        """Points without a deadline among those."""
        self._overdue: deque[_Point] = deque()
        """Points with a deadline, in the order of their release."""
        self._scored: list[Scored] = []
        self._predicted: dict[str, dict[tuple[str, int], PredictedPoint]] = {}
        """By channel, conversation and `prompt_ts`."""
        self._holding: dict[str, MessageIndex] = {}
        """By channel: points on the topic of predictions, or on their way there, by when they came."""
        self._encoded: dict[str, bytes] = {}
        """A channel's predictions and index as they were last written to a snapshot; channels that changed since are in `_dirty`."""
        self._dirty: dict[str, None] = {}
        self.lately: dict[str, RollingMetrics] = {}
        """By model."""
        self._below: dict[tuple[str, str], int] = {}
        """By model and figure: how many answers there were when it was last too low."""
        self.predicted_by: dict[str, int] = {}
        self.outcomes_by: dict[tuple[str, str], int] = {}
        self.waits = [0] * (len(BUCKETS) + 1)
        """Predictions by how long they took, for each bucket and beyond."""
        self.waited = 0.0
        if state is not None:
            self._resume(state)
        scoring.steps_here.append(self)

    def waiting_here(self) -> dict[str, int]:
        """Points without a prediction, and predictions without an outcome. Safe to call from other threads."""
        return {
            "points": len(self._to_ask) + len(self._calls),
            "predictions": sum(map(len, list(self._predicted.values()))),
        }

    def on_batch(self, values: list[Released]) -> tuple[Iterable[TaggedItems], bool]:
        for released, emitted in values:
            for each in emitted:
                if isinstance(each, PointEmitted):
                    self._index(each)
                    self._put_point(each, released)
                else:
                    self._put(each)
        self._advance()
        return self._drain(), StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        self._forget_old()
        for channel in self._dirty:
            predicted, holding = self._predicted.get(channel), self._holding.get(channel)
            if predicted or holding:
                self._encoded[channel] = pickle.dumps((predicted, holding), protocol=5)
            else:
                self._encoded.pop(channel, None)
        self._dirty.clear()
        lanes = [[each.emitted if isinstance(each, _Point) else each for each in lane] for lane in self._lanes.values()]
        return {
            "version": VERSION,
            "spec": self._scoring.rules.spec,
            "settings": shaping_settings(self._scoring.rules),
            "lanes": lanes,
            "predicted": dict(self._encoded),
            "counts": dict(self._account.counts),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        check_version("scoring", state, VERSION)
        check_settings(state, self._scoring.rules)
        self._account = Account(dict(state["counts"]))
        self._resumed = dict(state["counts"])
        self._encoded = dict(state["predicted"])
        for channel, blob in self._encoded.items():
            predicted, holding = pickle.loads(blob)
            self._predicted |= {channel: predicted} if predicted else {}
            self._holding |= {channel: holding} if holding else {}
        for lane in state["lanes"]:
            for item in lane:
                if isinstance(item, PointSettled | MessageDeleted):
                    self._put(item)
                else:
                    self._put_point(item, clock.now())

    def _drain(self) -> list[TaggedItems]:
        scored, self._scored = self._scored, []
        return [("scored", scored)] if scored else []

    def _close(self) -> list[TaggedItems]:
        account = Account(dict(self._account.counts))
        account.count("waiting", sum(isinstance(item, _Point) for lane in self._lanes.values() for item in lane))
        account.count("unsettled", sum(map(len, self._predicted.values())))
        return [("account", [account])]

    # Input

    def _index(self, emitted: PointEmitted) -> None:
        """Note which messages a point holds, before it is predicted: it may have been before a kill, and be missed after it."""
        if self._scoring.kept is None:
            return
        if (index := self._holding.get(emitted.channel)) is None:
            index = self._holding[emitted.channel] = MessageIndex(self._scoring.rules.window)
        index.add(max(round(clock.now() * 1e6), emitted.t + 1, index.newest), emitted.identity, emitted.window)
        self._dirty[emitted.channel] = None

    def _forget_old(self) -> None:
        """Forget points that are on the topic no more."""
        before = round(clock.now() * 1e6) - (self._scoring.kept or 0)
        for channel, index in list(self._holding.items()):
            if index.oldest < before:
                index.forget_before(before)
                self._dirty[channel] = None
                if not index:
                    del self._holding[channel]

    def _put_point(self, emitted: PointEmitted, released: float) -> None:
        point = _Point(emitted, released, self._scoring.due(emitted.t, released))
        self._to_ask.append(point)
        if point.due is None:
            self._stale += 1
        else:
            self._overdue.append(point)
        self._lanes.setdefault(emitted.channel, deque()).append(point)

    def _put(self, item: PointSettled | MessageDeleted) -> None:
        if lane := self._lanes.get(item.channel):
            lane.append(item)
        else:
            self._close_item(item)

    # Asking

    def _has_waiting(self) -> bool:
        return bool(self._to_ask)

    def _advance(self) -> None:
        try:
            super()._advance()
        except Exception as error:
            self._scoring.on_error(error)
            raise
        self._scoring.gate.is_open = self._stale < STALE

    def _drop_late(self) -> None:
        """Drop and count points whose predictions would come too late."""
        now = clock.now()
        while self._overdue and (self._overdue[0].is_over or (self._overdue[0].due or 0) < now):
            point = self._overdue.popleft()
            if not point.is_over:
                self._finish(point, None, "missed")

    def _submit_waiting(self) -> None:
        self._drop_late()
        caller = self._scoring.caller
        while self._to_ask and len(self._calls) < caller.ahead and not self._is_stopping():
            points: list[_Point] = []
            while self._to_ask and len(points) < min(caller.together, caller.ahead - len(self._calls)):
                point = self._to_ask.popleft()
                self._stale -= point.due is None
                if not point.is_over:
                    points.append(point)
            if not points:
                continue
            for point in points:
                point.body = orjson.loads(point.emitted.line)
            answers = caller.ask([point.body for point in points], [point.due for point in points])
            for point, answer in zip(points, answers, strict=True):
                self._hold(point, answer)

    def _settle(self, point: _Point, answer: Future[ModelAnswer]) -> None:
        if point.is_over:  # too late: its answer is not wanted any more
            return
        if point.due is not None and point.due < clock.now():
            self._finish(point, None, "missed")
            return
        try:
            self._finish(point, answer.result())
        except CannotScore as error:
            self._scoring.on_failure(error)
            self._finish(point, None, f"failed:{error.reason}")

    def _finish(self, point: _Point, answer: ModelAnswer | None, lost: str = "") -> None:
        """Mark a point as over, and pass on all items of its channel that don't wait any more. `lost`: its row, without an answer."""
        point.is_over, point.answer, point.lost = True, answer, lost
        lane = self._lanes[point.emitted.channel]
        while lane:
            item = lane[0]
            if isinstance(item, _Point):
                if not item.is_over:
                    return
                lane.popleft()
                if item.answer is not None:
                    self._predict(item, *item.answer)
                else:
                    self._account.count(item.lost)
            else:
                lane.popleft()
                self._close_item(item)
        del self._lanes[point.emitted.channel]

    # Output

    def _predict(self, point: _Point, model: str, probabilities: Probabilities) -> None:
        scoring, emitted, now = self._scoring, point.emitted, clock.now()
        part = scoring.predictor.part_of(model, emitted.t)
        body = prediction_body(point.body, model, part, probabilities, most=scoring.most, with_candidates=scoring.with_candidates)
        alert = {**body, "fresh": scoring.is_fresh(emitted.t, now)} if scoring.with_alerts else None
        self._scored.append(Scored("prediction", emitted.identity, orjson.dumps(body), emitted.channel, point.released, alert))
        self._account.count("scored")
        self._account.count(f"scored_by:{model}")
        self.predicted_by[model] = self.predicted_by.get(model, 0) + 1
        waited = max(now - point.released, 0.0)
        self.waits[next((place for place, most in enumerate(BUCKETS) if waited <= most), len(BUCKETS))] += 1
        self.waited += waited
        known = kept_json({name: body[name] for name in ("target", "part", "people", "nobody", "other")})
        predicted = PredictedPoint(emitted.identity, body["speakers"], model, known)
        kept = self._predicted.setdefault(emitted.channel, {})
        for conversation in emitted.conversations:
            kept[conversation, emitted.t] = predicted
        self._dirty[emitted.channel] = None

    def _close_item(self, item: PointSettled | MessageDeleted) -> None:
        """Pass on a deletion; make an outcome of a settled point's prediction, if there is one."""
        if isinstance(item, MessageDeleted):
            self._delete(item)
            return
        kept = self._predicted.get(item.channel, {})
        predicted = kept.pop((item.conversation, item.prompt_ts), None)
        if predicted is None:
            self._account.count("ends_unpredicted")
            return
        self._dirty[item.channel] = None
        if not kept:
            del self._predicted[item.channel]
        body = outcome_body(predicted, item, self._scoring.rules.spec)
        self._account.count("outcomes")
        self._account.count(f"outcome:{item.how}")
        alert = body if self._scoring.with_alerts else None
        self._scored.append(Scored("outcome", item.conversation, orjson.dumps(body), item.channel, alert=alert))
        self._measure(body)

    def _delete(self, deleted: MessageDeleted) -> None:
        """Pass on a deletion, and behind it the tombstones of the predictions that held the message."""
        self._account.count("deletions")
        line = deletion_bytes(deleted)
        alert = orjson.loads(line) if self._scoring.with_alerts else None
        self._scored.append(Scored("deletion", f"{deleted.channel}:{ts_text(deleted.ts)}", line, deleted.channel, alert=alert))
        index = self._holding.get(deleted.channel)
        for number in index.holding(deleted.ts) if index is not None else ():
            assert index is not None
            if (identity := index.take(number)) is not None:
                self._account.count("tombstones")
                self._scored.append(Scored("tombstone", identity, None, deleted.channel))
                self._dirty[deleted.channel] = None

    def _measure(self, outcome: Mapping[str, Any]) -> None:
        """Update the figures of recent outcomes, and report once a drop that chance does not explain."""
        model, how = outcome["model"], outcome["how"]
        self.outcomes_by[model, how] = self.outcomes_by.get((model, how), 0) + 1
        if (lately := self.lately.get(model)) is None:
            lately = self.lately[model] = RollingMetrics(self._scoring.threshold_for(model))
        self._scoring.followed(model, lately).add(outcome)
        if how != "answered" or lately.answered < ENOUGH or lately.counts["answered"] % 10:
            return
        figures = lately.figures()
        for name, least in self._scoring.predictor.expected(model, lately.answered, micros(outcome["prompt_ts"])).items():
            if figures[name] >= least:
                continue
            answered, before = lately.counts["answered"], self._below.get((model, name))
            self._below[model, name] = answered
            if before is None or answered - before > lately.KEPT:  # it goes up and down around the least: that is one drop
                self._scoring.on_drop(model, name, figures[name], least)
