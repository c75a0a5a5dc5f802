"""Labeling in a provider's batches: half the price, done within a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from beepgpt.connectors.openai.values import Batch, BatchPart, ProviderAnswer, Request
from beepgpt.errors import BadAnswer, ProviderFailed
from beepgpt.labeling.asking import Asking, PreparedRequest, is_final

LOOKS = 10.0
"""Seconds between two looks at a batch."""
ROUNDS = 5
"""Rounds of batches, each for what earlier ones left without an answer."""


class BatchClient(Protocol):
    """What is needed of a provider's client."""

    def start_batch(self, part: Any) -> Batch: ...
    def wait_for_batch(self, batch_id: str, *, every: float, progress: Callable[[Any], None]) -> Batch: ...
    def batch_results(self, batch_id: str) -> Iterable[tuple[str, ProviderAnswer | ProviderFailed]]: ...


class BatchStore(Protocol):
    """What is needed of the store of answers: it records batches before they are started."""

    def get(self, request_id: str) -> ProviderAnswer | BadAnswer | None: ...
    def plan(self, run: str, digest: str, request_ids: Iterable[str]) -> None: ...
    def started(self, digest: str, batch_id: str) -> None: ...
    def forget(self, digest: str) -> None: ...
    def note(self, spent: Any) -> None: ...
    def batches(self, run: str) -> Iterable[Any]: ...
    def batch_of(self, request_id: str) -> str | None: ...
    def read(self, digest: str, answers: Iterable[tuple[str, Any]], spent: Any) -> None: ...


@dataclass
class Batches:
    """Asks everything in batches; their answers are in the store when they are done."""

    client: BatchClient
    asking: Asking
    store: BatchStore
    run: str
    prompts: Callable[[], Iterable[str]]
    """Reads all prompts that have to be labeled."""
    split: Callable[[Iterable[Request]], Iterable[BatchPart]]
    """Splits requests into batches as large as the provider takes."""
    report: Callable[[Any], None]
    """Called with a batch's state, whenever it is looked at."""
    redacted: Counter[str]
    spent: Callable[[], Any]
    """What this start has spent so far."""

    def complete(self) -> None:
        """Return when no batch has answers to come. Raises ProviderFailed; called again later, it resumes the same batches."""
        self._start_planned()
        self._read_all()
        left = -1
        for _ in range(ROUNDS):
            before, left = left, self._start_new()
            self._read_all()
            if left in (0, before):  # the last round brought no answer: what is left is asked one by one
                return

    def _start_planned(self) -> None:
        """Start batches that a kill may have kept from being started, made of the same requests."""
        for digest in [each.digest for each in self.store.batches(self.run) if each.id is None]:
            mine = [each for each in self._unknown() if self.store.batch_of(each.id) == digest]
            parts = list(self.split(each.request for each in mine))
            if [part.digest for part in parts] == [digest]:
                for each in mine:
                    self.redacted.update(each.redacted)
                self._start(parts[0])
            else:  # the input has changed
                self.store.forget(digest)

    def _start_new(self) -> int:
        """Start batches of all requests that have no answer and are in no batch; the number of these requests."""
        count = 0
        for part in self.split(self._unplanned()):
            self._start(part)
            count += part.requests
        return count

    def _start(self, part: BatchPart) -> None:
        self.store.plan(self.run, part.digest, [orjson.loads(line)["custom_id"] for line in part.data.splitlines()])
        batch = self.client.start_batch(part)
        self.store.started(part.digest, batch.id)
        self.store.note(self.spent())
        self.report(batch)

    def _unplanned(self) -> Iterator[Request]:
        for each in self._unknown():
            if self.store.batch_of(each.id) is None:
                self.redacted.update(each.redacted)
                yield each.request

    def _unknown(self) -> Iterator[PreparedRequest]:
        seen: set[str] = set()
        for prompt in self.prompts():
            prepared = self.asking.request(prompt)
            if prepared.id not in seen and self.store.get(prepared.id) is None:
                seen.add(prepared.id)
                yield prepared

    def _read_all(self) -> None:
        for digest, batch_id in self.store.batches(self.run):
            if batch_id is None:
                continue
            batch = self.client.wait_for_batch(batch_id, every=LOOKS, progress=self.report)
            if batch.status == "failed":  # none of it was asked, so it may be started again
                self.store.forget(digest)
            answers = list(self.client.batch_results(batch_id))
            self.store.read(digest, [each for each in answers if is_final(each[1])], self.spent())


class BatchReporter:
    """Reports a batch when its status has changed, or another tenth of it is done."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._last: dict[str, tuple[str, int]] = {}

    def __call__(self, batch: Batch) -> None:
        now = batch.status, 10 * batch.done // max(batch.total, 1)
        if self._last.get(batch.id) != now:
            self._last[batch.id] = now
            failed = f", {batch.failed:,} failed" if batch.failed else ""
            self._report(f"batch {batch.id}: {batch.status}, {batch.done:,} of {batch.total:,} done{failed}")
