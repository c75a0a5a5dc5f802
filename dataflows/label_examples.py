"""The step that labels examples: it queues them for the labeler and accounts for each record."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import orjson
from bytewax.operators import StatefulBatchLogic

from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.shard import OtherState
from beepgpt.conversations.signals import SignalVerdict
from beepgpt.dataflows.asking import AskingLogic, Gate
from beepgpt.dataflows.records import (
    DeadLetter,
    Formats,
    LogMessage,
    TaggedItems,
    as_lines,
    dead_letter_lines,
    dead_letter_messages,
)
from beepgpt.labeling.questions import CannotGoOn, CannotLabel, Labeler, LabelQuestion, labeled_line, question_in

VERSION = 1
"""Of the state in a recovery store."""
KEY = "labels"
"""All examples meet under one key, where the same prompt is asked once."""
AHEAD = 48
"""Prompts that a labeler has at a time."""


class Read(NamedTuple):
    """A record of the input."""

    place: str
    line: bytes | None
    """None: a tombstone."""
    key: bytes | None = None
    retracted_ts: str = ""


class LabeledRecord(NamedTuple):
    """A record of the output."""

    id: str
    line: bytes | None
    """None: a retraction."""
    retracted_ts: str = ""


@dataclass(frozen=True)
class LabelingRun:
    """How one run labels: values, and no settings."""

    labeler: Labeler
    known: Mapping[str, SignalVerdict] = field(default_factory=dict)
    """By id: examples that a person has labeled, about which nobody is asked."""
    retracted: Collection[str] = frozenset()
    """Ids of examples that are known to be retracted: they are neither asked about nor passed on."""
    is_excluded: Callable[[LabelQuestion], bool] = lambda question: False
    ahead: int = AHEAD
    gate: Gate = field(default_factory=Gate)
    is_stopping: Callable[[], bool] = lambda: False
    stop: Callable[[CannotGoOn], None] = lambda error: None
    """Called when no more can be labeled; from then on `is_stopping` has to be true."""
    on_error: Callable[[Exception], None] = lambda error: None
    """Called with the error that stops the flow, before it is raised."""
    steps_here: list[LabelExamples] = field(default_factory=list)
    """The steps of this process, for metrics."""

    def figures(self) -> dict[str, Callable[[], Any]]:
        """The run's figures for metrics: the counts of this process, and how many examples wait. Safe to call from other threads."""
        return {
            "counts": lambda: sum_of(Account(step.counts_here()) for step in list(self.steps_here)).counts,
            "waiting": lambda: sum(step.waiting_here() for step in list(self.steps_here)),
        }


@dataclass(frozen=True)
class LabelingResult:
    """The result of one run."""

    account: Account
    ended: bool
    records: int
    """That this start has read."""
    seconds: float
    status: int
    """The exit status."""
    why: Exception | None
    """Why it stopped, if nothing more could be labeled."""


def read_records(batch: Iterable[Chunk]) -> Iterator[tuple[str, list[Read]]]:
    """Each chunk's records with their places, under the one key."""
    for partition, first, values in batch:
        if reads := [read_of(partition, number, value) for number, value in enumerate(values, start=first)]:
            yield KEY, reads


def read_of(partition: str, number: int, value: Any) -> Read:
    """A line of a file, or a record of a topic."""
    if isinstance(value, bytes):
        return Read(f"{partition}:{number}", value)
    retracted = dict(value.headers).get("retracted_ts", b"").decode("utf-8", "replace") if value.value is None else ""
    return Read(f"{partition}:{value.offset}", value.value, value.key, retracted)


class _Waiting(NamedTuple):
    read: Read
    question: LabelQuestion


class LabelExamples(AskingLogic[list[Read], TaggedItems, _Waiting, SignalVerdict]):
    """Asks the labeler about examples, and passes on records of the kinds `labeled`, `dead_letters` and, at the end, `account`."""

    wait = 0.05

    def __init__(self, labeling: LabelingRun, state: dict[str, Any] | None) -> None:
        super().__init__(labeling.is_stopping)
        self._labeling = labeling
        self._waiting: deque[_Waiting] = deque()
        self._labeled: list[LabeledRecord] = []
        self._dead_letters: list[DeadLetter] = []
        if state is not None:
            self._resume(state)
        labeling.steps_here.append(self)

    def waiting_here(self) -> int:
        """Examples that have no verdict yet. Safe to call from other threads."""
        return len(self._waiting) + len(self._calls)

    def on_batch(self, values: list[list[Read]]) -> tuple[Iterable[TaggedItems], bool]:
        for reads in values:
            for read in reads:
                self._take(read)
        self._advance()
        return self._drain(), StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        pending = [waiting for waiting, _ in self._calls.values()] + list(self._waiting)
        return {"version": VERSION, "pending": [tuple(each.read) for each in pending], "counts": dict(self._account.counts)}

    def _resume(self, state: dict[str, Any]) -> None:
        if state["version"] != VERSION:
            raise OtherState(
                f"the recovery store holds a state of version {state['version']}, and this program has {VERSION}: start again without"
                " it; what was answered is still in the store of answers, and is not asked again"
            )
        reads = [Read(*each) for each in state["pending"]]
        self._waiting.extend(_Waiting(read, question_in(read.line or b"")) for read in reads)
        self._account = Account(dict(state["counts"]))
        self._resumed = dict(state["counts"])
        self._labeling.gate.is_open = not self._waiting

    def _drain(self) -> list[TaggedItems]:
        tagged: list[TaggedItems] = [("labeled", self._labeled), ("dead_letters", self._dead_letters)]
        self._labeled, self._dead_letters = [], []
        return [(kind, items) for kind, items in tagged if items]

    def _close(self) -> list[TaggedItems]:
        account = Account(dict(self._account.counts))
        account.count("waiting", self.waiting_here())
        return [("account", [account])]

    # One record

    def _take(self, read: Read) -> None:
        self._account.count("read")
        if read.line is None:
            self._retract(read)
            return
        try:
            question = question_in(read.line)
        except CannotLabel as error:
            self._reject(read, error.reason)
            return
        if question.id in self._labeling.retracted:
            self._account.count("retracted")
        elif question.is_silent:
            self._account.count("silent")
            self._labeled.append(LabeledRecord(question.id, read.line))
        elif (verdict := self._labeling.known.get(question.id)) is not None:
            self._account.count("by_hand")
            self._label(read, question, verdict)
        elif self._labeling.is_excluded(question):
            self._reject(read, "excluded")
        else:
            self._waiting.append(_Waiting(read, question))

    def _retract(self, read: Read) -> None:
        """Pas on a tombstone; drop its example if that has no label yet, so that it can't come after its retraction."""
        name = (read.key or b"").decode("utf-8", "replace")
        if not name:
            self._reject(read, "no_key")
            return
        before = self.waiting_here()
        self._waiting = deque(each for each in self._waiting if each.question.id != name)
        self._calls = {number: call for number, call in self._calls.items() if call[0].question.id != name}
        self._account.count("retracted", before - self.waiting_here())
        self._account.count("retractions")
        self._labeled.append(LabeledRecord(name, None, read.retracted_ts))

    def _label(self, read: Read, question: LabelQuestion, verdict: SignalVerdict) -> None:
        self._account.count(verdict.signal)
        self._labeled.append(LabeledRecord(question.id, labeled_line(read.line or b"", verdict, self._labeling.labeler.fingerprint)))

    def _reject(self, read: Read, reason: str) -> None:
        self._account.count(f"dead_letters:{reason}")
        self._dead_letters.append(DeadLetter(reason, read.place, read.line or b"", read.key))

    # Asking

    def _has_waiting(self) -> bool:
        return bool(self._waiting)

    def _submit_waiting(self) -> None:
        while self._waiting and len(self._calls) < self._labeling.ahead and not self._is_stopping():
            waiting = self._waiting.popleft()
            self._hold(waiting, self._labeling.labeler.label(waiting.question.prompt))

    def _advance(self) -> None:
        try:
            super()._advance()
        except Exception as error:
            self._labeling.on_error(error)
            raise
        self._labeling.gate.is_open = not self._waiting

    def _settle(self, waiting: _Waiting, answer: Future[SignalVerdict]) -> None:
        try:
            self._label(waiting.read, waiting.question, answer.result())
        except CannotGoOn as error:
            self._waiting.appendleft(waiting)
            self._labeling.stop(error)
        except CannotLabel as error:
            self._reject(waiting.read, error.reason)
        except CancelledError:
            self._waiting.appendleft(waiting)


# Lines and messages


def labeled_lines(tagged: TaggedItems) -> bytes | None:
    """Labeled examples as lines of a file; None: there are none."""
    lines = [each.line for each in tagged[1] if each.line is not None] if tagged[0] == "labeled" else []
    return as_lines(lines) if lines else None


def retraction_lines(tagged: TaggedItems) -> bytes | None:
    """Retractions as lines of a file; None: there are none.

    >>> retraction_lines(("labeled", [LabeledRecord("6f1c", b"{}"), LabeledRecord("6f1d", None, "1690360253.041239")]))
    b'{"id":"6f1d","retracted_ts":"1690360253.041239"}\\n'
    """
    gone = [each for each in tagged[1] if each.line is None] if tagged[0] == "labeled" else []
    return as_lines([orjson.dumps({"id": each.id, "retracted_ts": each.retracted_ts}) for each in gone]) if gone else None


def labeled_messages(tagged: TaggedItems) -> list[LogMessage] | None:
    """Labeled examples under their ids, retractions as tombstones under the same: an example never comes after its retraction.

    >>> labeled_messages(("labeled", [LabeledRecord("6f1d", None, "1690360253.041239")]))
    [(b'6f1d', None, [('retracted_ts', b'1690360253.041239')], None, None)]
    """
    return [_message(each) for each in tagged[1]] if tagged[0] == "labeled" else None


def _message(record: LabeledRecord) -> LogMessage:
    headers = [("retracted_ts", record.retracted_ts.encode())] if record.line is None and record.retracted_ts else []
    return record.id.encode(), record.line, headers, None, None


LABELED_LINES: Formats = {
    "examples": labeled_lines,
    "retractions": retraction_lines,
    "dead_letters": partial(dead_letter_lines, "dead_letters"),
}
"""The labeling flow's outputs as lines of files."""


def labeled_topics(topic_id: str | None) -> Formats:
    """The labeling flow's outputs as messages of topics. `topic_id`: of the source, if it is one."""
    return {"examples": labeled_messages, "dead_letters": partial(dead_letter_messages, "dead_letters", topic_id)}


# The account

ENDS = ("strong", "weak", "silent", "retracted", "retractions", "waiting")
"""How a record ends, dead letters apart; `waiting` is not 0 only where a run was stopped."""


def check_labels(account: Account) -> list[str]:
    """The sums that don't add up, in words."""
    found = sum(account[each] for each in ENDS) + sum(account.by_reason("dead_letters").values())
    return [] if found == account["read"] else [f"{account['read']:,} records read, but {found:,} accounted for"]


def labels_as_json(account: Account) -> dict[str, Any]:
    """The account as a report writes it."""
    return {
        "read": account["read"],
        "labeled": {"strong": account["strong"], "weak": account["weak"]},
        "by_hand": account["by_hand"],
        "silent": account["silent"],
        "dead_letters": account.by_reason("dead_letters"),
        "retracted": account["retracted"],
        "retractions": account["retractions"],
        "waiting": account["waiting"],
        "adds_up": not check_labels(account),
    }
