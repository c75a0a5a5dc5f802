"""Examples to labeled examples, as a dataflow: which of them teach something, as a labeler says in its own time."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol

import bytewax.operators as op
import orjson
from bytewax.dataflow import Stream, operator
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import KeyedStream, StatefulBatchLogic
from bytewax.outputs import Sink

from beepgpt.conversations.account import Account
from beepgpt.conversations.shard import OtherState
from beepgpt.conversations.signals import SignalVerdict
from beepgpt.dataflows.examples import Chunk, DeadLetter, KafkaMessage, TakenSink, as_lines, only
from beepgpt.errors import BeepGPTError

VERSION = 1
"""Of the state in a recovery store."""
KEY = "labels"
"""All examples meet in one place, where the same prompt is asked once."""
AHEAD = 48
"""Prompts that a labeler has at a time."""
WAIT = 0.05
"""Seconds that the step waits for an answer at a time: so long may a new record wait."""
CLOSED = timedelta(milliseconds=10)
"""How long the input is left alone while it is closed."""
PATIENCE = 10.0
"""Seconds that a run that is to stop waits for what was already asked, and is paid for."""


# Labelers


class CannotLabel(BeepGPTError):
    """A prompt can't be labeled; the message says why, and holds nothing that anybody wrote."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason`: for counts and dead letters."""
        super().__init__(message)
        self.reason = reason


class CannotGoOn(CannotLabel):
    """No prompt can be labeled now: the run stops, and what is not done waits until it goes on."""


class Labeler(Protocol):
    """Says whether a prompt teaches something."""

    @property
    def told(self) -> str:
        """A hash of all that it was told, which is written as `signal_instructions`."""

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """The verdict, or CannotLabel; one that is made here and now is done already."""


# An example, looked at


class LabelQuestion(NamedTuple):
    """What is looked at of an example."""

    id: str
    prompt: str
    is_silent: bool
    """Nobody answered: that needs no label."""
    channel: str
    people: frozenset[str]
    """Who wrote what stands in the window."""


def question_in(line: bytes) -> LabelQuestion:
    """What is to be asked about a line. Raises CannotLabel if it is no example.

    >>> question_in(b'{"id": "6f1c", "channel": "C1", "prompt": "hello", "answer": [], "window": [{"ts": "1.0", "user": "U1"}]}')
    Question(id='6f1c', prompt='hello', is_silent=True, channel='C1', people=frozenset({'U1'}))
    """
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise CannotLabel("not_json", "the line is no JSON") from None
    try:
        question = LabelQuestion(
            body["id"], body["prompt"], body["answer"] == [], body["channel"], frozenset(each["user"] for each in body["window"])
        )
        told = [question.id, question.prompt, question.channel, *question.people]
        if all(isinstance(each, str) for each in told) and isinstance(body["answer"], list) and question.id:
            return question
    except (KeyError, TypeError):
        pass
    raise CannotLabel("not_an_example", "the line lacks what an example has")


_LABELED = re.compile(
    rb',"signal":"(?:strong|weak)","signal_p":[^,"{}\[\]]+,"signal_model":"(?:[^"\\]|\\.)*+","signal_instructions":"[0-9a-f]*"\}$'
)
_NAMES = ("signal", "signal_p", "signal_model", "signal_instructions")


def labeled_line(line: bytes, verdict: SignalVerdict, told: str) -> bytes:
    """An example's line with its label behind all else; one that it had is replaced.

    >>> once = labeled_line(b'{"id":"6f1c"}', SignalVerdict("strong", 0.93, "gpt-6-luna"), "0123456789ab")
    >>> once
    b'{"id":"6f1c","signal":"strong","signal_p":0.93,"signal_model":"gpt-6-luna","signal_instructions":"0123456789ab"}'
    >>> labeled_line(once, SignalVerdict("weak", None, "person"), "ba9876543210")
    b'{"id":"6f1c","signal":"weak","signal_p":null,"signal_model":"person","signal_instructions":"ba9876543210"}'
    """
    if b'"signal' in line:
        line = _LABELED.sub(b"}", line)
        if any(name in (body := orjson.loads(line)) for name in _NAMES):  # somewhere else in it
            line = orjson.dumps({name: value for name, value in body.items() if name not in _NAMES})
    label = orjson.dumps(dict(zip(_NAMES, (verdict.signal, verdict.p, verdict.model, told), strict=True)))
    return line.rstrip()[:-1] + b"," + label[1:]


# The input, which waits for the labeler


class Gate:
    """Whether more is to be read."""

    def __init__(self) -> None:
        self.is_open = True


def _never() -> bool:
    return False


class Gated(FixedPartitionedSource[Any, Any]):
    """A source that gives nothing while its gate is closed: so memory is bounded, however slow the labeler is."""

    def __init__(self, source: FixedPartitionedSource[Any, Any], gate: Gate, is_stopping: Callable[[], bool] = _never) -> None:
        self.source = source
        self.gate = gate
        self.is_stopping = is_stopping

    def list_parts(self) -> list[str]:
        return self.source.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> _GatedPartition:
        return _GatedPartition(self, self.source.build_part(step_id, for_part, resume_state))


class _GatedPartition(StatefulSourcePartition[Any, Any]):
    def __init__(self, source: Gated, part: StatefulSourcePartition[Any, Any]) -> None:
        self._source = source
        self._part = part
        self._is_waiting = False

    def next_batch(self) -> Iterable[Any]:
        self._is_waiting = not self._source.gate.is_open and not self._source.is_stopping()
        return [] if self._is_waiting else self._part.next_batch()

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + CLOSED if self._is_waiting else self._part.next_awake()

    def snapshot(self) -> Any:
        return self._part.snapshot()

    def close(self) -> None:
        self._part.close()


# The flow


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


LabeledOutput = tuple[str, list[Any]]
"""What was made of one kind: `made`, `letters`, `account`."""


@dataclass(frozen=True)
class LabeledStreams:
    """All that the labeling flow makes."""

    made: KeyedStream[list[LabeledRecord]]
    letters: KeyedStream[list[DeadLetter]]
    accounts: KeyedStream[list[Account]]
    """One, when the input ends or the run is stopped."""


def _ignore(error: Exception) -> None:
    """Nobody has to know."""


@dataclass(frozen=True)
class LabelingRun:
    """How one run labels: values, and no settings."""

    labeler: Labeler
    known: Mapping[str, SignalVerdict] = field(default_factory=dict)
    """By id: examples that a person has labeled, which nobody is asked about."""
    retracted: Collection[str] = frozenset()
    """Ids of examples that are known to be retracted: they are neither asked about nor passed on."""
    is_excluded: Callable[[LabelQuestion], bool] = lambda question: False
    ahead: int = AHEAD
    gate: Gate = field(default_factory=Gate)
    is_stopping: Callable[[], bool] = _never
    stop: Callable[[CannotGoOn], None] = _ignore
    """Is told why no more can be labeled; from then on `is_stopping` has to be true."""
    steps_here: list[LabelExamples] = field(default_factory=list)
    """The steps of this process, for whoever watches the run."""


@operator
def label_examples(step_id: str, chunks: Stream[Chunk], labeling: LabelingRun) -> LabeledStreams:
    """Examples in chunks, as the sources give them, to labeled ones and all that comes beside them."""
    keyed = op.flat_map_batch("take_records", chunks, by_key)
    labeled = op.stateful_batch("label", keyed, lambda state: LabelExamples(labeling, state))
    return LabeledStreams(
        made=only("take_made", labeled, "made"),
        letters=only("take_letters", labeled, "letters"),
        accounts=only("take_accounts", labeled, "account"),
    )


@operator
def write_labeled(step_id: str, made: KeyedStream[list[LabeledRecord]], sink: Sink[Any]) -> None:
    """Labeled examples to a file."""
    op.output("write", op.filter_map_value("join", made, labeled_lines), sink)


@operator
def write_retractions(step_id: str, made: KeyedStream[list[LabeledRecord]], sink: Sink[Any]) -> None:
    """Retractions to a file beside it."""
    op.output("write", op.filter_map_value("join", made, retraction_lines), sink)


@operator
def send_labeled(step_id: str, made: KeyedStream[list[LabeledRecord]], sink: Sink[Any]) -> None:
    """Labeled examples to a topic under their ids, and a tombstone under the id of one that is retracted: never before it."""
    op.output("write", op.map_value("to_messages", made, lambda each: [labeled_message(one) for one in each]), sink)


@operator
def close_labels(step_id: str, accounts: KeyedStream[list[Account]], taken: Callable[[Account], None]) -> None:
    """The account to whoever runs this."""
    op.output("close", op.flat_map("take", accounts, lambda keyed: keyed[1]), TakenSink(taken))


def by_key(batch: Iterable[Chunk]) -> Iterator[tuple[str, list[Read]]]:
    """Each chunk's records, with their places."""
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


class LabelExamples(StatefulBatchLogic[list[Read], LabeledOutput, dict[str, Any]]):
    """The one stateful step: what the labeler has, what still waits for it, and what became of all else."""

    def __init__(self, labeling: LabelingRun, state: dict[str, Any] | None) -> None:
        self._labeling = labeling
        self._account = Account()
        self._waiting: deque[_Waiting] = deque()
        self._asked: dict[int, tuple[_Waiting, Future[SignalVerdict]]] = {}
        self._done: SimpleQueue[int] = SimpleQueue()
        self._count = 0
        self._made: list[LabeledRecord] = []
        self._letters: list[DeadLetter] = []
        if state is not None:
            self._resume(state)
        self._resumed = dict(self._account.counts)
        labeling.steps_here.append(self)

    def counts_here(self) -> dict[str, int]:
        """What this process counted, and not those before it. Other threads may ask for it: the copy is made at once."""
        return {what: times - self._resumed.get(what, 0) for what, times in dict(self._account.counts).items()}

    def waiting_here(self) -> int:
        """Examples that have no verdict yet. Other threads may ask for it."""
        return len(self._waiting) + len(self._asked)

    def on_batch(self, values: list[list[Read]]) -> tuple[Iterable[LabeledOutput], bool]:
        for reads in values:
            for read in reads:
                self._take(read)
        self._go_on()
        return self._taken(), StatefulBatchLogic.RETAIN

    def on_notify(self) -> tuple[Iterable[LabeledOutput], bool]:
        self._collect(WAIT)
        self._go_on()
        return self._taken(), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[LabeledOutput], bool]:
        """All that is left, unless the input was stopped: then what the labeler has, if it doesn't take too long."""
        deadline = 0.0
        while self._asked or (self._waiting and not self._labeling.is_stopping()):
            self._go_on()
            if self._labeling.is_stopping():
                deadline = deadline or time.monotonic() + PATIENCE
                if time.monotonic() > deadline:
                    break
            if self._asked:
                self._collect(WAIT)
        account = Account(dict(self._account.counts))
        account.count("waiting", len(self._waiting) + len(self._asked))
        return [*self._taken(), ("account", [account])], StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        return datetime.now(UTC) if self._asked or (self._waiting and not self._labeling.is_stopping()) else None

    def snapshot(self) -> dict[str, Any]:
        pending = [waiting for waiting, _ in self._asked.values()] + list(self._waiting)
        return {"version": VERSION, "pending": [tuple(each.read) for each in pending], "counts": dict(self._account.counts)}

    def _resume(self, state: dict[str, Any]) -> None:
        if state["version"] != VERSION:
            raise OtherState(
                f"the recovery store holds a state of version {state['version']}, and this program has {VERSION}: start anew without"
                " it; what was answered is still in the store of answers, and is not asked again"
            )
        reads = [Read(*each) for each in state["pending"]]
        self._waiting.extend(_Waiting(read, question_in(read.line or b"")) for read in reads)
        self._account = Account(dict(state["counts"]))
        self._labeling.gate.is_open = not self._waiting

    def _taken(self) -> list[LabeledOutput]:
        tagged: list[LabeledOutput] = [("made", self._made), ("letters", self._letters)]
        self._made, self._letters = [], []
        return [(kind, lines) for kind, lines in tagged if lines]

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
            self._made.append(LabeledRecord(question.id, read.line))
        elif (verdict := self._labeling.known.get(question.id)) is not None:
            self._account.count("by_hand")
            self._give(read, question, verdict)
        elif self._labeling.is_excluded(question):
            self._reject(read, "excluded")
        else:
            self._waiting.append(_Waiting(read, question))

    def _retract(self, read: Read) -> None:
        """A tombstone: what it takes back and is not done yet is forgotten, so that nothing can come after it."""
        name = (read.key or b"").decode("utf-8", "replace")
        if not name:
            self._reject(read, "no_key")
            return
        kept = [each for each in self._waiting if each.question.id != name]
        dropped = [number for number, (each, _) in self._asked.items() if each.question.id == name]
        self._account.count("retracted", len(self._waiting) - len(kept) + len(dropped))
        self._waiting = deque(kept)
        for number in dropped:
            del self._asked[number]
        self._account.count("retractions")
        self._made.append(LabeledRecord(name, None, read.retracted_ts))

    def _give(self, read: Read, question: LabelQuestion, verdict: SignalVerdict) -> None:
        self._account.count(verdict.signal)
        self._made.append(LabeledRecord(question.id, labeled_line(read.line or b"", verdict, self._labeling.labeler.told)))

    def _reject(self, read: Read, reason: str) -> None:
        self._account.count(f"dead_letters:{reason}")
        self._letters.append(DeadLetter(reason, read.place, read.line or b"", read.key))

    # Asking

    def _go_on(self) -> None:
        """Asks as much as may be asked at a time, and takes what is there already."""
        while True:
            self._ask()
            if not self._collect():
                break
        self._labeling.gate.is_open = not self._waiting

    def _ask(self) -> None:
        while self._waiting and len(self._asked) < self._labeling.ahead and not self._labeling.is_stopping():
            waiting = self._waiting.popleft()
            number = self._count = self._count + 1
            future = self._labeling.labeler.label(waiting.question.prompt)
            self._asked[number] = waiting, future
            future.add_done_callback(lambda _, number=number: self._done.put(number))  # type: ignore[misc]

    def _collect(self, seconds: float = 0.0) -> int:
        """Takes all verdicts that are there; waits for one if there is none."""
        count = 0
        with suppress(Empty):
            self._settle(self._done.get(timeout=seconds) if seconds and self._asked else self._done.get_nowait())
            count += 1
            while True:
                self._settle(self._done.get_nowait())
                count += 1
        return count

    def _settle(self, number: int) -> None:
        waiting, future = self._asked.pop(number, (None, None))
        if waiting is None or future is None:  # retracted meanwhile
            return
        try:
            self._give(waiting.read, waiting.question, future.result())
        except CannotGoOn as error:
            self._waiting.appendleft(waiting)
            self._labeling.stop(error)
        except CannotLabel as error:
            self._reject(waiting.read, error.reason)
        except CancelledError:
            self._waiting.appendleft(waiting)


# Lines and messages


def labeled_lines(made: Sequence[LabeledRecord]) -> bytes | None:
    """The labeled examples among what was made, as whole lines; None: there are none."""
    lines = [each.line for each in made if each.line is not None]
    return as_lines(lines) if lines else None


def retraction_lines(made: Sequence[LabeledRecord]) -> bytes | None:
    """The retractions among it.

    >>> retraction_lines([LabeledRecord("6f1c", b"{}"), LabeledRecord("6f1d", None, "1690360253.041239")])
    b'{"id":"6f1d","retracted_ts":"1690360253.041239"}\\n'
    """
    lines = [orjson.dumps({"id": each.id, "retracted_ts": each.retracted_ts}) for each in made if each.line is None]
    return as_lines(lines) if lines else None


def labeled_message(made: LabeledRecord) -> KafkaMessage:
    """An example under its id; a retraction as a tombstone.

    >>> labeled_message(LabeledRecord("6f1d", None, "1690360253.041239"))
    (b'6f1d', None, [('retracted_ts', b'1690360253.041239')], None, None)
    """
    headers = [("retracted_ts", made.retracted_ts.encode())] if made.line is None and made.retracted_ts else []
    return made.id.encode(), made.line, headers, None, None


# The account

ENDS = ("strong", "weak", "silent", "retracted", "retractions", "waiting")
"""What becomes of a record, dead letters apart; `waiting` is not 0 only where a run was stopped."""


def check(account: Account) -> list[str]:
    """What doesn't add up, in words."""
    found = sum(account[each] for each in ENDS) + sum(account.by_reason("dead_letters").values())
    return [] if found == account["read"] else [f"{account['read']:,} records read, but {found:,} accounted for"]


def account_as_json(account: Account) -> dict[str, Any]:
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
        "adds_up": not check(account),
    }
