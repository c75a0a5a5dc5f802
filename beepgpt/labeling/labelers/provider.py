"""A labeler that asks an LLM at a provider."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple, Protocol

from beepgpt.connectors.openai.values import ProviderAnswer, Request
from beepgpt.conversations.signals import SignalVerdict
from beepgpt.errors import BadAnswer, NoMoney, NotAllowed, ProviderFailed, TooBusy
from beepgpt.labeling.asking import Asking, Budget, dollars, is_final, verdict_in
from beepgpt.labeling.questions import CannotGoOn, CannotLabel

AHEAD = 3
"""Requests handed to the client for each that may be in flight, so that the next one is ready when one is done."""
TROUBLES = 3
"""Starts in which a request may be among those that failed together; then the failure counts as its own."""


class AnswerClient(Protocol):
    """What is needed of a provider's client."""

    def submit(self, request: Request) -> Future[ProviderAnswer]: ...


class AnswerStore(Protocol):
    """What is needed of the store of answers."""

    def get(self, request_id: str) -> ProviderAnswer | BadAnswer | None: ...
    def put(self, request_id: str, answer: ProviderAnswer | BadAnswer, spent: Any) -> None: ...
    def trouble(self, request_id: str) -> int: ...


class _Asked(NamedTuple):
    """A request in flight, or one that failed while no other was answered."""

    id: str
    request: Request
    future: Future[SignalVerdict]
    good: int = -1
    """Answers that had come when it was sent again; -1: it was not sent again."""
    error: ProviderFailed | None = None


class ProviderLabeler:
    """Asks about each prompt once, stores every answer before passing it on, and separates a prompt's failure from the provider's.

    A request that failed in all its tries is held until another one is answered. Then it is sent again, and if it fails again while others
    are answered, the fault is its own. If all requests in flight have failed, the run can't continue, unless they are few because the
    others were answered.
    """

    def __init__(
        self, client: AnswerClient, asking: Asking, store: AnswerStore, budget: Budget, redacted: Counter[str], spent: Callable[[], Any]
    ) -> None:
        """`redacted`: counts, by kind, of what was taken out of texts; `spent`: what this start has spent so far."""
        self.fingerprint = asking.fingerprint
        self.from_store = 0
        """Verdicts from the store."""
        self.together = 0
        """Prompts that another example was asking about at the same time."""
        self._client = client
        self._asking = asking
        self._store = store
        self._budget = budget
        self._redacted = redacted
        self._spent = spent
        self._asked: dict[str, _Asked] = {}
        self._held: list[_Asked] = []
        self._good = 0
        self._most = 0
        self._lock = threading.RLock()

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """The verdict: from the store, from a request in flight, or by a request of its own. It may raise CannotLabel, CannotGoOn."""
        prepared = self._asking.request(prompt)
        with self._lock:
            if (known := self._store.get(prepared.id)) is not None:
                self.from_store += 1
                return _resolved(verdict_in(known) if isinstance(known, ProviderAnswer) else _cannot(known))
            if (asked := self._asked.get(prepared.id)) is not None:
                self.together += 1
                return asked.future
            if self._budget.is_spent(self._spent()):
                return _resolved(CannotGoOn("max_cost", self._out_of_money()))
            self._redacted.update(prepared.redacted)
            asked = _Asked(prepared.id, prepared.request, Future())
            self._asked[asked.id] = asked
            self._most = max(self._most, len(self._asked))
        self._submit(asked)
        return asked.future

    def _out_of_money(self) -> str:
        cost = self._budget.cost(self._budget.before + self._spent()) or 0.0
        return (
            f"{dollars(cost)} is spent, as much as is allowed: what is done is kept, and the same command with a higher --max-cost goes on"
            " from here, without asking anything twice"
        )

    def _submit(self, asked: _Asked) -> None:
        self._client.submit(asked.request).add_done_callback(lambda theirs: self._answered(asked, theirs))

    def _answered(self, asked: _Asked, theirs: Future[ProviderAnswer]) -> None:
        """Process an answer, in the client's thread: every error here must reach the waiting future."""
        try:
            try:
                answer: ProviderAnswer | ProviderFailed = theirs.result()
            except ProviderFailed as error:
                answer = error
            with self._lock:
                self._resolve_all(self._settle(asked, answer))
                if self._held and len(self._held) >= len(self._asked):  # all requests in flight have failed
                    self._resolve_all(self._retry_or_give_up())
        except (Exception, CancelledError) as error:
            with self._lock:
                self._asked.pop(asked.id, None)
            _resolve(asked.future, error)

    def _resolve_all(self, settled: Iterable[tuple[_Asked, SignalVerdict | Exception]]) -> None:
        for asked, verdict in settled:
            del self._asked[asked.id]
            _resolve(asked.future, verdict)

    def _settle(self, asked: _Asked, answer: ProviderAnswer | ProviderFailed) -> list[tuple[_Asked, SignalVerdict | Exception]]:
        """Requests that an answer settles, with their verdicts: its own, and held ones."""
        if isinstance(answer, ProviderAnswer):
            self._store.put(asked.id, answer, self._spent())
            self._good += 1
            return [(asked, verdict_in(answer)), *self._release()]
        if isinstance(answer, NoMoney | NotAllowed):
            return [(asked, CannotGoOn(answer.reason, f"{answer}; what is done is kept, and the same command goes on from here"))]
        if isinstance(answer, BadAnswer) and is_final(answer):
            self._store.put(asked.id, answer, self._spent())
            self._good += 1
            return [(asked, _cannot(answer)), *self._release()]
        is_held = asked.good in (-1, self._good) if may_work_later(answer) else self._good == 0
        if not is_held:  # others were answered
            return [(asked, _cannot(answer))]
        self._held.append(asked._replace(error=answer))
        return []

    def _release(self) -> Iterator[tuple[_Asked, Exception]]:
        """After an answer, send held requests that failed again, and settle refused ones."""
        held, self._held = self._held, []
        for each in held:
            assert each.error is not None
            if may_work_later(each.error):
                self._submit(each._replace(good=self._good, error=None))
            else:
                yield each, _cannot(each.error)

    def _retry_or_give_up(self) -> list[tuple[_Asked, Exception]]:
        """Send each held request again, give it up, or stop the run."""
        are_few = self._good > 0 and 2 * len(self._held) < self._most
        held, self._held = self._held, []
        if not are_few:
            return [(each, self._given_up(each)) for each in held]
        for each in held:
            if each.good == -1:
                self._submit(each._replace(good=self._good, error=None))
        return [(each, _cannot(each.error)) for each in held if each.good != -1 and each.error is not None]

    def _given_up(self, asked: _Asked) -> CannotLabel:
        """The error of a request that failed while nothing was answered; after `TROUBLES` starts it counts as its own fault."""
        assert asked.error is not None
        if self._store.trouble(asked.id) >= TROUBLES:
            return _cannot(asked.error)
        return CannotGoOn(
            asked.error.reason,
            f"no request is answered any more: {asked.error}; what is done is kept, and the same command goes on from here",
        )


def may_work_later(error: ProviderFailed) -> bool:
    """Whether the failure may not be the request's fault."""
    return error.passes or isinstance(error, TooBusy)


def _cannot(error: ProviderFailed) -> CannotLabel:
    return CannotLabel(error.reason, str(error))


def _resolved(verdict: SignalVerdict | CannotLabel) -> Future[SignalVerdict]:
    future: Future[SignalVerdict] = Future()
    _resolve(future, verdict)
    return future


def _resolve(future: Future[SignalVerdict], verdict: SignalVerdict | BaseException) -> None:
    if isinstance(verdict, BaseException):
        future.set_exception(verdict)
    else:
        future.set_result(verdict)
