"""The loop of `beepgpt alert`: read records, apply them with their read position, deliver."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from beepgpt.alerts.delivery import AlertDelivery
from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.events import micros

REST = 0.1
"""Seconds until the next look when there was nothing to do."""


class AlertRecord(NamedTuple):
    """A record of a source: where it stands (for the log), its value, and when its point was released (microseconds), if that is known."""

    place: str
    value: bytes | None
    """None: a tombstone."""
    released: int | None = None
    key: bytes = b""


class Partition(Protocol):
    """A partition of a source, being read: one of a connector's."""

    def next_batch(self) -> Iterable[Any]:
        """The next chunks, without waiting. Raises StopIteration at the end."""

    def snapshot(self) -> Iterable[Any]:
        """Where to go on reading; its values fit into JSON."""

    def close(self) -> None:
        """Stop reading."""


Apply = Callable[[bytes, int, int | None, str], None]
"""Applies a record: its value, the time now, when its point was released, and its place."""


class AlertSource:
    """One of the sources, read a chunk at a time; a chunk's effects and the read position are committed together."""

    def __init__(
        self,
        name: str,
        partitions: Mapping[str, Partition],
        records_of: Callable[[Any], Iterable[AlertRecord]],
        store: AlertStore,
        apply: Apply,
        *,
        clock: Callable[[], int],
        follows: bool = False,
        apply_tombstone: Callable[[bytes, int], None] = lambda key, now: None,
        prepare: Callable[[Sequence[bytes], int], None] | None = None,
        ends: Mapping[str, int] | None = None,
        lags: Mapping[tuple[str, int], int] | None = None,
        comes_first: bool = False,
    ) -> None:
        """Set up reading.

        `name`: the key of its read positions. `records_of` takes the records out of a partition's chunk. `clock`: microseconds.
        `follows`: whether more may come after the end. `apply_tombstone` gets the key of a record without a value, and the time.
        `prepare` gets a chunk's values before the transaction begins. `ends`: where each partition ended when the run began. `lags`:
        records not read yet, by topic and partition, kept up to date by the partitions. `comes_first`: the sources after it wait until it
        is read to where it ended at the start, since what people asked for holds for all that they are alerted to.
        """
        self._name, self._records_of, self._store, self._apply, self._clock = name, records_of, store, apply, clock
        self._partitions = dict(partitions)
        self._follows, self._prepare, self._apply_tombstone = follows, prepare, apply_tombstone
        self._behind = dict(ends or {})
        self.comes_first = comes_first
        self.lags = lags if lags is not None else {}
        self.records = 0
        """Read since the start."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return not self._partitions and not self._follows

    @property
    def is_awaited(self) -> bool:
        """Whether the sources after it wait for it."""
        return self.comes_first and (bool(self.missing()) if self._follows else bool(self._partitions))

    def missing(self) -> str:
        """What of the records that were there when this run began is still to be read; empty once all are."""
        for name, end in list(self._behind.items()):
            partition: Any = self._partitions.get(name)
            if partition is None or partition.has_come_to(end):
                del self._behind[name]
        if not self._behind:
            return ""
        return f"{self._name}: {len(self._behind)} of {len(self._partitions)} partitions are not read to where they ended at the start"

    def read(self) -> bool:
        """Read and apply a chunk of each partition; whether there was any."""
        found = False
        for name, partition in list(self._partitions.items()):
            try:
                chunks = partition.next_batch()
            except StopIteration:
                self._partitions.pop(name).close()
                continue
            records = [record for chunk in chunks for record in self._records_of(chunk)]
            if not records:
                continue
            found = True
            self.records += len(records)
            if self._prepare is not None:
                self._prepare([record.value for record in records if record.value is not None], self._clock())
            now = self._clock()
            with self._store.transaction():
                for record in records:
                    if record.value is None:
                        self._apply_tombstone(record.key, now)
                    else:
                        self._apply(record.value, now, record.released, record.place)
                self._store.set_position(self._name, name, list(partition.snapshot()))
        return found

    def close(self) -> None:
        """Stop reading."""
        for partition in self._partitions.values():
            partition.close()


def released_at(headers: Iterable[tuple[str, bytes]]) -> int | None:
    """When a record's point was released (microseconds), from the header that scoring writes; None if it isn't there."""
    with suppress(ValueError):
        return micros(dict(headers).get("released_at", b"").decode("ascii", "replace"))
    return None


class LoopHealth(Protocol):
    """The state that `/healthz` and `/readyz` show."""

    missing: str
    """What is still to be read before the process is ready."""

    def beat(self) -> None:
        """Record that the loop is alive."""

    def end(self) -> None:
        """Reading is over, and delivery still waits for something."""


def run_loop(sources: Sequence[AlertSource], delivery: AlertDelivery, pulse: LoopHealth, stop: Callable[[], bool]) -> None:
    """Read, decide and deliver until everything is read and delivered, or `stop` returns true."""
    while not stop():
        pulse.beat()
        found = read_in_order(sources)
        if pulse.missing:
            pulse.missing = "; ".join(missing for source in sources if (missing := source.missing()))
        delivered = delivery.work()
        if not found and not delivered:
            if all(source.is_over for source in sources):
                if delivery.is_idle():
                    break
                pulse.end()
            time.sleep(REST)


def read_in_order(sources: Sequence[AlertSource]) -> bool:
    """Read a chunk of each source up to one that the others wait for; whether there was any.

    What comes first is then read once more: an answer that made a prediction come stands in the events before the prediction does.
    """
    found = False
    for source in sources:
        found |= source.read()
        if source.is_awaited:
            return found
    for source in sources if found else ():
        if source.comes_first:
            source.read()
    return found


def closing_account(store: AlertStore, threshold: float) -> dict[str, Any]:
    """The closing account: all counters since the store was created, and how many of the kept alerts are in each state."""
    counts = store.counts()
    answered, not_answered = counts.get("answer:answered", 0), counts.get("answer:not_answered", 0)
    reacted, not_reacted = counts.get("answer:reacted", 0), counts.get("answer:not_reacted", 0)
    return {
        "command": "alert",
        "threshold": threshold,
        "alerts": store.alert_states(),
        "counts": counts,
        "right": None if not answered + not_answered else round(answered / (answered + not_answered), 4),
        "reacted": round(reacted / (reacted + not_reacted), 4) if reacted else None,
    }
