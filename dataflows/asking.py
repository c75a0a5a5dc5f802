"""A step that calls a service and continues when the answer is there, and an input that waits while too much is unanswered."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic

from beepgpt.conversations.account import Account

CLOSED = timedelta(milliseconds=10)
"""How long the input is left alone while its gate is closed."""
PATIENCE = 10.0
"""Seconds that a run that is to stop waits for the calls that are under way."""

Value = TypeVar("Value")
Output = TypeVar("Output")
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class AskingLogic(StatefulBatchLogic[Value, Output, dict[str, Any]], Generic[Value, Output, Item, Answer]):
    """Calls a service about items, many at a time, and processes each item when its answer is there.

    A subclass takes values in `on_batch` and then calls `_advance`; it decides what to submit and what an answer means. Items that
    are submitted or wait belong into its snapshot, and are submitted again after a kill: calls repeat, so their answers should be stored.
    """

    wait: float
    """Seconds that the step waits for an answer at a time: a new record may wait that long."""

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        self._is_stopping = is_stopping
        self._account = Account()
        self._resumed: dict[str, int] = {}
        """What was counted before this process took over."""
        self._calls: dict[int, tuple[Item, Future[Answer]]] = {}
        """Items with the answers that are awaited, in the order of their submission."""
        self._answered: SimpleQueue[int] = SimpleQueue()
        """Numbers of calls that are done: put there by the callers' threads."""
        self._submitted = 0

    @abstractmethod
    def _submit_waiting(self) -> None:
        """Submit as many of the waiting items as may be under way; none when the run is stopping."""

    @abstractmethod
    def _settle(self, item: Item, answer: Future[Answer]) -> None:
        """Proces an item whose answer is there."""

    @abstractmethod
    def _has_waiting(self) -> bool:
        """Whether items wait to be submitted."""

    @abstractmethod
    def _drain(self) -> list[Output]:
        """Return the output since the last call."""

    @abstractmethod
    def _close(self) -> list[Output]:
        """The account, with the items that are left undone."""

    def counts_here(self) -> dict[str, int]:
        """What this process counted, and not those before it. Safe to call from other threads: it copies at once."""
        return {what: times - self._resumed.get(what, 0) for what, times in dict(self._account.counts).items()}

    # The engine's calls

    def on_notify(self) -> tuple[Iterable[Output], bool]:
        self._collect(self.wait)
        self._advance()
        return self._drain(), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[Output], bool]:
        """Settle all items; if the input was stopped, only the calls that are under way, for PATIENCE at most."""
        deadline = 0.0
        self._advance()
        while self._calls or (self._has_waiting() and not self._is_stopping()):
            if self._is_stopping():
                deadline = deadline or time.monotonic() + PATIENCE
                if time.monotonic() > deadline:
                    break
            self._collect(self.wait)
            self._advance()
        return [*self._drain(), *self._close()], StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        return datetime.now(UTC) if self._calls or (self._has_waiting() and not self._is_stopping()) else None

    # Calls

    def _hold(self, item: Item, answer: Future[Answer]) -> None:
        """Keep a submitted item until its answer is there."""
        number = self._submitted = self._submitted + 1
        self._calls[number] = item, answer
        answer.add_done_callback(lambda _: self._answered.put(number))

    def _advance(self) -> None:
        """Submit waiting items and settle answered ones, until there is nothing left to do at once."""
        self._submit_waiting()
        while self._collect():
            self._submit_waiting()

    def _collect(self, seconds: float = 0.0) -> bool:
        """Settle all calls that are answered; wait up to `seconds` if none is. Returns whether there was any."""
        found = False
        with suppress(Empty):
            number = self._answered.get(timeout=seconds) if seconds and self._calls else self._answered.get_nowait()
            while True:
                found = True
                if (call := self._calls.pop(number, None)) is not None:  # else it was dropped meanwhile
                    self._settle(*call)
                number = self._answered.get_nowait()
        return found


class Gate:
    """A switch that a step closes to pause the input."""

    def __init__(self) -> None:
        self.is_open = True


class GatedSource(FixedPartitionedSource[Any, Any]):
    """A source that pauses while its gate is closed, so that memory is bounded however slow the answers are."""

    def __init__(self, source: FixedPartitionedSource[Any, Any], gate: Gate, is_stopping: Callable[[], bool]) -> None:
        self.source = source
        self.gate = gate
        self.is_stopping = is_stopping

    def list_parts(self) -> list[str]:
        return self.source.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> _GatedPartition:
        return _GatedPartition(self, self.source.build_part(step_id, for_part, resume_state))


class _GatedPartition(StatefulSourcePartition[Any, Any]):
    def __init__(self, source: GatedSource, partition: StatefulSourcePartition[Any, Any]) -> None:
        self._source = source
        self._partition = partition
        self._is_waiting = False

    def next_batch(self) -> Iterable[Any]:
        self._is_waiting = not self._source.gate.is_open and not self._source.is_stopping()
        return [] if self._is_waiting else self._partition.next_batch()

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + CLOSED if self._is_waiting else self._partition.next_awake()

    def snapshot(self) -> Any:
        return self._partition.snapshot()

    def close(self) -> None:
        self._partition.close()
