"""A sink that decides on alerts in a scoring flow's own process. Delivery is another process's, over the same store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bytewax.outputs import DynamicSink, StatelessSinkPartition

from beepgpt.alerts.deciding import AlertDecider
from beepgpt.alerts.decisions import Policy
from beepgpt.alerts.store import AlertStore


class AlertSink(DynamicSink[tuple[str, Mapping[str, Any]]]):
    """Decides on items of (kind, value): `prediction`, `outcome` or `deletion`. Items that come again decide nothing new."""

    def __init__(self, path: Path, policy: Policy, clock: Callable[[], int]) -> None:
        """`path`: the alert store; `clock`: microseconds since 1970."""
        self.path, self.policy, self.clock = path, policy, clock

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _AlertSinkPartition:
        return _AlertSinkPartition(AlertDecider(AlertStore(self.path), self.policy), self.clock)


class _AlertSinkPartition(StatelessSinkPartition[tuple[str, Mapping[str, Any]]]):
    def __init__(self, decider: AlertDecider, clock: Callable[[], int]) -> None:
        self._decider, self._clock = decider, clock

    def write_batch(self, items: list[tuple[str, Mapping[str, Any]]]) -> None:
        self._decider.store.drop_cache()
        with self._decider.store.transaction():
            for kind, value in items:
                self._decider.apply(kind, value, self._clock())

    def close(self) -> None:
        self._decider.store.close()
