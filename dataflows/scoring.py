"""Slack events to predictions, as a dataflow: points as they are made, a model that is asked about them, and what became of them."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol

import bytewax.operators as op
import orjson
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream, StatefulBatchLogic
from bytewax.outputs import Sink

from beepgpt.conversations.account import Account
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.outcomes import PredictedPoint, Probabilities, RollingMetrics, outcome_body, prediction_body
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointSettled, deletion_bytes
from beepgpt.conversations.shard import OtherState
from beepgpt.dataflows.examples import Chunk, Following, KafkaMessage, TakenSink, as_lines, make_examples
from beepgpt.dataflows.labeling import Gate
from beepgpt.errors import BeepGPTError

VERSION = 1
"""Of the state in a recovery store."""
KEY = "scores"
"""All points of a process meet in one place, where a model is asked about many of them at once."""
WAIT = 0.005
"""Seconds that the step waits for a model's answer at a time: so long may a new record wait."""
PATIENCE = 10.0
"""Seconds that a run that is to stop waits for what the model was already asked."""
STALE = 2_000
"""Points without a deadline that wait for the model before the input is closed."""
ENOUGH = 300
"""Answered outcomes from which on a drop is no accident."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds from a point's release to its prediction."""


# Models


class CannotScore(BeepGPTError):
    """A model can't be asked about some points, though it may be about others; the message says why, and holds nothing that was written."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason`: for counts."""
        super().__init__(message)
        self.reason = reason


class Predictor(Protocol):
    """A model, or whichever stands in its place by now."""

    def predict(self, points: Sequence[Mapping[str, Any]]) -> tuple[str, list[Probabilities]]:
        """The name of the model that was asked, and what it says of each point. Raises CannotScore; all other errors stop the run."""

    def validated(self, model: str) -> Mapping[str, float]:
        """The least that a model's validation lets one expect: `hit@1`, `hit@5`; nothing where that is not known."""


ModelAnswer = tuple[str, Probabilities]
"""The model's name, and what it says of one point."""


class ModelCaller(Protocol):
    """How a model is asked."""

    together: int
    """Points that are asked about at a time."""
    ahead: int
    """Points that may be asked about before the first answer is there."""

    def ask(self, points: Sequence[Mapping[str, Any]], dues: Sequence[float | None]) -> Sequence[Future[ModelAnswer]]:
        """An answer for each, now or later. `dues`: until when each is wanted, seconds since 1970."""


class LocalModel:
    """A model in this process, asked about as many points as there are: one by one they take ten times as long."""

    def __init__(self, predictor: Predictor, together: int = 100) -> None:
        self._predictor = predictor
        self.together = self.ahead = together

    def ask(self, points: Sequence[Mapping[str, Any]], dues: Sequence[float | None]) -> Sequence[Future[ModelAnswer]]:
        futures: list[Future[ModelAnswer]] = [Future() for _ in points]
        try:
            name, said = self._predictor.predict(points)
        except CannotScore as error:
            for future in futures:
                future.set_exception(error)
            return futures
        for future, each in zip(futures, said, strict=True):
            future.set_result((name, each))
        return futures


class RemoteCaller:
    """A model elsewhere, asked about one point a call, by many calls at a time."""

    def __init__(self, submit: Callable[[Mapping[str, Any], float | None], Future[ModelAnswer]], concurrency: int) -> None:
        """`submit`: asks about a point, within so many seconds from now on."""
        self._submit = submit
        self.together, self.ahead = 1, concurrency

    def ask(self, points: Sequence[Mapping[str, Any]], dues: Sequence[float | None]) -> Sequence[Future[ModelAnswer]]:
        now = time.time()
        return [self._submit(point, None if due is None else max(due - now, 0.0)) for point, due in zip(points, dues, strict=True)]


# The flow


class Scored(NamedTuple):
    """A record of the output."""

    kind: str
    """`prediction`, `outcome` or `deletion`."""
    key: str
    line: bytes
    released: float = 0.0
    """When the point was released, seconds since 1970."""
    alert: dict[str, Any] | None = None
    """The same for the sink of alerts, if there is one."""


@dataclass(frozen=True)
class ScoredStreams:
    """All that the scoring flow makes, in order."""

    scored: KeyedStream[list[Scored]]
    accounts: KeyedStream[list[Account]]
    """The shards', and one of what was scored, when the input ends or the run is stopped."""


def _never() -> bool:
    return False


def _nothing(*_: object) -> None:
    return None


@dataclass(frozen=True)
class ScoringRun:
    """How one run scores: values, and no settings."""

    predictor: Predictor
    asker: ModelCaller
    spec: str
    live_since: int | None = None
    """Points from this time on are of now, microseconds: they have a deadline. None: it is history, which has none, and is always fresh."""
    deadline: float = 2.0
    """Seconds from a point's release to its prediction."""
    bounded_deadline: bool = False
    """History has that deadline, too."""
    max_alert_age: int = 600_000_000
    """Microseconds: nobody is told of a point that is older by then."""
    most: int = 40
    """People that a prediction names."""
    threshold: float = 0.5
    """From which chance on a person would be told, for the figures."""
    with_candidates: bool = False
    with_alerts: bool = False
    gate: Gate = field(default_factory=Gate)
    is_stopping: Callable[[], bool] = _never
    on_drop: Callable[[str, str, float, float], None] = _nothing
    """Is told of a model, a figure's name, what it is lately and what its validation lets one expect, when it falls below that."""
    on_failure: Callable[[CannotScore], None] = _nothing
    on_error: Callable[[Exception], None] = _nothing
    """Is told of what stops the flow, before it is raised."""
    steps_here: list[ScorePoints] = field(default_factory=list)
    """The steps of this process, for whoever watches the run."""

    def is_fresh(self, t: int, now: float) -> bool:
        """Whether a point is young enough that somebody may be told of it."""
        return self.live_since is None or now * 1e6 - t <= self.max_alert_age

    def due(self, t: int, released: float) -> float | None:
        """Until when a point's prediction is wanted. What piled up while nothing ran has no deadline: it closes the input instead."""
        if self.live_since is None:
            return released + self.deadline if self.bounded_deadline else None
        return min(released + self.deadline, (t + self.max_alert_age) / 1e6) if t >= self.live_since else None


@operator
def score_points(step_id: str, chunks: Stream[Chunk], following: Following, scoring: ScoringRun) -> ScoredStreams:
    """Records in chunks, as the sources give them, to predictions and what became of them."""
    made = make_examples("make_points", chunks, following)
    told = op.flat_map_batch("gather_points", made.made, gathered)
    scored = op.stateful_batch("score", told, lambda state: ScorePoints(scoring, state))
    accounts = op.merge("merge_accounts", made.accounts, op.filter_map_value("take_account", scored, account_in))
    return ScoredStreams(op.filter_map_value("take_scored", scored, scored_in), accounts)


@operator
def write_predictions(step_id: str, scored: KeyedStream[list[Scored]], sink: Sink[Any]) -> None:
    """Predictions to a file."""
    op.output("write", op.filter_map_value("join", scored, lambda each: lines_of(each, "prediction")), sink)


@operator
def write_deletions(step_id: str, scored: KeyedStream[list[Scored]], sink: Sink[Any]) -> None:
    """Messages that are gone to a file beside it."""
    op.output("write", op.filter_map_value("join", scored, lambda each: lines_of(each, "deletion")), sink)


@operator
def write_outcomes(step_id: str, scored: KeyedStream[list[Scored]], sink: Sink[Any]) -> None:
    """Outcomes to a file."""
    op.output("write", op.filter_map_value("join", scored, lambda each: lines_of(each, "outcome")), sink)


@operator
def send_predictions(step_id: str, scored: KeyedStream[list[Scored]], sink: Sink[Any]) -> None:
    """Predictions to a topic under their conversations; messages that are gone under their channels."""
    op.output("write", op.filter_map_value("to_messages", scored, lambda each: messages_of(each, ("prediction", "deletion"))), sink)


@operator
def send_outcomes(step_id: str, scored: KeyedStream[list[Scored]], sink: Sink[Any]) -> None:
    """Outcomes to a topic under their conversations."""
    op.output("write", op.filter_map_value("to_messages", scored, lambda each: messages_of(each, ("outcome",))), sink)


@operator
def hand_over(step_id: str, scored: KeyedStream[list[Scored]], sink: Sink[Any]) -> None:
    """Predictions, outcomes and deletions to whoever tells people about them: `(kind, value)` each."""
    op.output("hand_over", op.flat_map("take_alerts", scored, lambda keyed: alerts_in(keyed[1])), sink)


@operator
def close_scores(step_id: str, accounts: KeyedStream[list[Account]], taken: Callable[[Account], None]) -> None:
    """The accounts to whoever runs this."""
    op.output("close", op.flat_map("take", accounts, lambda keyed: keyed[1]), TakenSink(taken))


Released = tuple[float, list[PointEmitted | PointSettled | MessageDeleted]]
"""When a shard gave these away, seconds since 1970, and what it told."""


def gathered(batch: Iterable[tuple[str, tuple[str, list[Any]]]]) -> Iterable[tuple[str, Released]]:
    """What the shards told, to one place."""
    return [(KEY, released) for _, (kind, told) in batch if kind == "told" for released in told]


def scored_in(made: list[Any]) -> list[Scored] | None:
    """What is no account."""
    return made if isinstance(made[0], Scored) else None


def account_in(made: list[Any]) -> list[Account] | None:
    """The account, when it comes."""
    return made if isinstance(made[0], Account) else None


# Items of a channel, in order: what comes after a point that is not predicted yet waits behind it.


class _Point:
    """A point on its way to its prediction."""

    __slots__ = ("body", "due", "is_over", "released", "said", "told")

    def __init__(self, told: PointEmitted, released: float, due: float | None) -> None:
        self.told = told
        self.released = released
        self.due = due
        self.body: dict[str, Any] = {}
        """Its line, read when the model is asked."""
        self.is_over = False
        """It was predicted, or it never will be."""
        self.said: ModelAnswer | None = None


_Item = _Point | PointSettled | MessageDeleted


class ScorePoints(StatefulBatchLogic[Released, list[Any], dict[str, Any]]):
    """The one step: points that wait for the model, predictions that wait for their outcomes, and what became of all else."""

    def __init__(self, scoring: ScoringRun, state: dict[str, Any] | None) -> None:
        self._scoring = scoring
        self._account = Account()
        self._lanes: dict[str, deque[_Item]] = {}
        """By channel: what can't be given away yet."""
        self._to_ask: deque[_Point] = deque()
        self._stale = 0
        """Points without a deadline among those."""
        self._asked: dict[int, tuple[_Point, Future[ModelAnswer]]] = {}
        self._overdue: deque[_Point] = deque()
        """Points with a deadline, in the order of their release."""
        self._done: SimpleQueue[int] = SimpleQueue()
        self._count = 0
        self._made: list[Scored] = []
        self._predicted: dict[str, dict[tuple[str, int], PredictedPoint]] = {}
        """By channel, conversation and `prompt_ts`."""
        self._encoded: dict[str, bytes] = {}
        """A channel's predictions as they were last written to a snapshot; what was touched since is in `_dirty`."""
        self._dirty: dict[str, None] = {}
        self.lately: dict[str, RollingMetrics] = {}
        """By model."""
        self._below: set[tuple[str, str]] = set()
        self.predicted_by: dict[str, int] = {}
        self.outcomes_by: dict[tuple[str, str], int] = {}
        self.waits = [0] * (len(BUCKETS) + 1)
        """Predictions by how long they took, for each bucket and beyond."""
        self.waited = 0.0
        if state is not None:
            self._resume(state)
        self._resumed = dict(self._account.counts)
        scoring.steps_here.append(self)

    # What others may ask for, from other threads

    def counts_here(self) -> dict[str, int]:
        """What this process counted, and not those before it: the copy is made at once."""
        return {what: times - self._resumed.get(what, 0) for what, times in dict(self._account.counts).items()}

    def waiting_here(self) -> dict[str, int]:
        """Points without a prediction, and predictions without an outcome."""
        return {
            "points": len(self._to_ask) + len(self._asked),
            "predictions": sum(map(len, list(self._predicted.values()))),
        }

    # The engine's calls

    def on_batch(self, values: list[Released]) -> tuple[Iterable[list[Any]], bool]:
        for released, told in values:
            for each in told:
                self._take(each, released)
        return self._went_on()

    def on_notify(self) -> tuple[Iterable[list[Any]], bool]:
        self._collect(WAIT)
        return self._went_on()

    def on_eof(self) -> tuple[Iterable[list[Any]], bool]:
        """All that is left, unless the input was stopped: then what the model was asked, if it doesn't take too long."""
        until = 0.0
        self._go_on()
        while self._asked or (self._to_ask and not self._scoring.is_stopping()):
            if self._scoring.is_stopping():
                until = until or time.monotonic() + PATIENCE
                if time.monotonic() > until:
                    break
            self._collect(WAIT)
            self._go_on()
        account = Account(dict(self._account.counts))
        account.count("waiting", sum(isinstance(item, _Point) and not item.is_over for lane in self._lanes.values() for item in lane))
        account.count("unsettled", sum(map(len, self._predicted.values())))
        return [*self._taken(), [account]], StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        return datetime.now(UTC) if self._asked or (self._to_ask and not self._scoring.is_stopping()) else None

    def snapshot(self) -> dict[str, Any]:
        for channel in self._dirty:
            if predicted := self._predicted.get(channel):
                self._encoded[channel] = pickle.dumps(predicted, protocol=5)
            else:
                self._encoded.pop(channel, None)
        self._dirty.clear()
        lanes = [[each.told if isinstance(each, _Point) else each for each in lane] for lane in self._lanes.values()]
        return {
            "version": VERSION,
            "spec": self._scoring.spec,
            "lanes": lanes,
            "predicted": dict(self._encoded),
            "counts": dict(self._account.counts),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        if state["version"] != VERSION or state["spec"] != self._scoring.spec:
            raise OtherState(
                f"the recovery store was written by scoring version {state['version']}, spec {state['spec']}; this is version {VERSION},"
                f" spec {self._scoring.spec}. Use the settings it was written with, or delete it: scoring starts warm from the topic"
            )
        self._account = Account(dict(state["counts"]))
        self._encoded = dict(state["predicted"])
        self._predicted = {channel: pickle.loads(blob) for channel, blob in self._encoded.items()}
        for lane in state["lanes"]:
            for item in lane:
                if isinstance(item, PointSettled | MessageDeleted):
                    self._put(item)
                else:
                    self._put_point(item, time.time())

    def _went_on(self) -> tuple[Iterable[list[Any]], bool]:
        try:
            self._go_on()
        except Exception as error:
            self._scoring.on_error(error)
            raise
        return self._taken(), StatefulBatchLogic.RETAIN

    def _taken(self) -> list[list[Any]]:
        made, self._made = self._made, []
        return [made] if made else []

    # What comes in

    def _take(self, told: PointEmitted | PointSettled | MessageDeleted, released: float) -> None:
        if isinstance(told, PointEmitted):
            self._put_point(told, released)
        else:
            self._put(told)

    def _put_point(self, told: PointEmitted, released: float) -> None:
        point = _Point(told, released, self._scoring.due(told.t, released))
        self._to_ask.append(point)
        if point.due is None:
            self._stale += 1
        else:
            self._overdue.append(point)
        self._lanes.setdefault(told.channel, deque()).append(point)

    def _put(self, item: PointSettled | MessageDeleted) -> None:
        if lane := self._lanes.get(item.channel):
            lane.append(item)
        else:
            self._give(item)

    # Asking

    def _go_on(self) -> None:
        """Asks as much as may be asked at a time, and takes what is there already."""
        while True:
            self._drop_late()
            self._ask()
            if not self._collect():
                break
        self._scoring.gate.is_open = self._stale < STALE

    def _drop_late(self) -> None:
        """A point whose prediction would come too late is dropped, and counted."""
        now = time.time()
        while self._overdue and (self._overdue[0].is_over or (self._overdue[0].due or 0) < now):
            point = self._overdue.popleft()
            if not point.is_over:
                self._account.count("missed")
                self._over(point, None)

    def _ask(self) -> None:
        asker = self._scoring.asker
        while self._to_ask and len(self._asked) < asker.ahead and not self._scoring.is_stopping():
            points: list[_Point] = []
            while self._to_ask and len(points) < min(asker.together, asker.ahead - len(self._asked)):
                point = self._to_ask.popleft()
                self._stale -= point.due is None
                if not point.is_over:
                    points.append(point)
            if not points:
                continue
            for point in points:
                point.body = orjson.loads(point.told.line)
            futures = asker.ask([point.body for point in points], [point.due for point in points])
            for point, future in zip(points, futures, strict=True):
                number = self._count = self._count + 1
                self._asked[number] = point, future
                future.add_done_callback(lambda _, number=number: self._done.put(number))  # type: ignore[misc]

    def _collect(self, seconds: float = 0.0) -> int:
        """Takes all answers that are there; waits for one if there is none."""
        count = 0
        with suppress(Empty):
            self._settle(self._done.get(timeout=seconds) if seconds and self._asked else self._done.get_nowait())
            count += 1
            while True:
                self._settle(self._done.get_nowait())
                count += 1
        return count

    def _settle(self, number: int) -> None:
        point, future = self._asked.pop(number)
        if point.is_over:  # too late: its answer is not wanted any more
            return
        if point.due is not None and point.due < time.time():
            self._account.count("missed")
            self._over(point, None)
            return
        try:
            self._over(point, future.result())
        except CannotScore as error:
            self._account.count(f"failed:{error.reason}")
            self._scoring.on_failure(error)
            self._over(point, None)

    def _over(self, point: _Point, said: ModelAnswer | None) -> None:
        """A point is done with: it goes, and what waited behind it."""
        point.is_over, point.said = True, said
        lane = self._lanes[point.told.channel]
        while lane:
            item = lane[0]
            if isinstance(item, _Point):
                if not item.is_over:
                    return
                lane.popleft()
                if item.said is not None:
                    self._predict(item, *item.said)
            else:
                lane.popleft()
                self._give(item)
        del self._lanes[point.told.channel]

    # What goes out

    def _predict(self, point: _Point, model: str, said: Probabilities) -> None:
        scoring, told, now = self._scoring, point.told, time.time()
        body = prediction_body(point.body, model, said, most=scoring.most, with_candidates=scoring.with_candidates)
        alert = {**body, "fresh": scoring.is_fresh(told.t, now)} if scoring.with_alerts else None
        self._made.append(Scored("prediction", told.conversations[0], orjson.dumps(body), point.released, alert))
        self._account.count("scored")
        self.predicted_by[model] = self.predicted_by.get(model, 0) + 1
        waited = max(now - point.released, 0.0)
        self.waits[next((place for place, most in enumerate(BUCKETS) if waited <= most), len(BUCKETS))] += 1
        self.waited += waited
        known = orjson.dumps({name: body[name] for name in ("people", "nobody", "other")})
        predicted = PredictedPoint(told.identity, body["speakers"], model, known)
        kept = self._predicted.setdefault(told.channel, {})
        for conversation in told.conversations:
            kept[conversation, told.t] = predicted
        self._dirty[told.channel] = None

    def _give(self, item: PointSettled | MessageDeleted) -> None:
        if isinstance(item, MessageDeleted):
            self._account.count("deletions")
            line = deletion_bytes(item)
            self._made.append(Scored("deletion", item.channel, line, 0.0, orjson.loads(line) if self._scoring.with_alerts else None))
            return
        kept = self._predicted.get(item.channel, {})
        predicted = kept.pop((item.conversation, item.prompt_ts), None)
        if predicted is None:
            self._account.count("ends_unpredicted")
            return
        self._dirty[item.channel] = None
        if not kept:
            del self._predicted[item.channel]
        body = outcome_body(predicted, item, self._scoring.spec)
        self._account.count("outcomes")
        self._account.count(f"outcome:{item.how}")
        self._made.append(Scored("outcome", item.conversation, orjson.dumps(body), 0.0, body if self._scoring.with_alerts else None))
        self._note(body)

    def _note(self, outcome: dict[str, Any]) -> None:
        """Keeps the figures, and tells of a drop once."""
        model, how = outcome["model"], outcome["how"]
        self.outcomes_by[model, how] = self.outcomes_by.get((model, how), 0) + 1
        if (lately := self.lately.get(model)) is None:
            lately = self.lately[model] = RollingMetrics(self._scoring.threshold)
        lately.add(outcome)
        if how != "answered" or lately.answered < ENOUGH or lately.counts["answered"] % 10:
            return
        figures = lately.figures()
        for name, least in self._scoring.predictor.validated(model).items():
            if figures[name] < least and (model, name) not in self._below:
                self._below.add((model, name))
                self._scoring.on_drop(model, name, figures[name], least)
            elif figures[name] >= least:
                self._below.discard((model, name))


# Lines and messages


def lines_of(scored: Sequence[Scored], kind: str) -> bytes | None:
    """Those of a kind, as whole lines; None: there are none."""
    lines = [each.line for each in scored if each.kind == kind]
    return as_lines(lines) if lines else None


def messages_of(scored: Sequence[Scored], kinds: tuple[str, ...]) -> list[KafkaMessage] | None:
    """Those of some kinds as records of a topic; wall times stand in headers alone, so that a replay sends the same values.

    >>> messages_of([Scored("prediction", "C1:1.0:thread", b"{}", 1690360253.041239)], ("prediction",))
    [(b'C1:1.0:thread', b'{}', [('kind', b'prediction'), ('released_at', b'1690360253.041239')], None, None)]
    """
    messages: list[KafkaMessage] = []
    for each in scored:
        if each.kind in kinds:
            headers = [("kind", each.kind.encode())]
            if each.released:
                headers.append(("released_at", ts_text(round(each.released * 1e6)).encode()))
            messages.append((each.key.encode(), each.line, headers, None, None))
    return messages or None


def alerts_in(scored: Sequence[Scored]) -> list[tuple[str, dict[str, Any]]]:
    """All of it for the sink of alerts."""
    return [(each.kind, each.alert) for each in scored if each.alert is not None]


# The account

ENDS = ("scored", "missed", "waiting")
"""What becomes of a point that was told, failures apart; `waiting` is not 0 only where a run was stopped."""


def check(account: Account) -> list[str]:
    """What doesn't add up, in words: of the shards' accounts and the scoring's together."""
    failed = sum(account.by_reason("failed").values())
    found = sum(account[each] for each in ENDS) + failed
    wrong = [] if found == account["told"] else [f"{account['told']:,} points told, but {found:,} accounted for"]
    parts = sum(account[each] for each in ("told", "together", "before_start", "withheld", "empty"))
    if parts != account["points"]:
        wrong.append(f"{account['points']:,} points made, but {parts:,} accounted for")
    return wrong


def account_as_json(account: Account) -> dict[str, Any]:
    """The account as a report writes it."""
    return {
        "points": {
            "made": account["points"],
            "scored": account["scored"],
            "missed": account["missed"],
            "failed": account.by_reason("failed"),
            "before_start": account["before_start"],
            "together": account["together"],
            "withheld": account["withheld"],
            "empty": account["empty"],
            "waiting": account["waiting"],
        },
        "outcomes": {**account.by_reason("outcome"), "unsettled": account["unsettled"]},
        "deletions": account["deletions"],
        "adds_up": not check(account),
    }
