"""A channel's clock, and its events brought into the order of their time (docs/semantics.md, "Order")."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from mypy_extensions import mypyc_attr

from beepgpt.conversations.events import POST, REACT, Event
from beepgpt.conversations.rules import MINUTE

COPIES_KEPT = 10 * MINUTE
"""Copies are remembered for so long, and the lateness."""

OrderKey = tuple[int | str, ...] | int | str


@mypyc_attr(serializable=True)
class ReorderBuffer:
    """Holds events until the clock is more than `lateness` past them; tells the late and the copies.

    >>> order = ReorderBuffer(lateness=5)
    >>> order.is_late(100)
    False
    """

    __slots__ = ("_forget_at", "applied", "clock", "held", "lateness")

    def __init__(self, lateness: int) -> None:
        self.lateness = lateness
        self.clock = 0
        self.held: list[Event] = []
        self.applied: dict[OrderKey, int] = {}
        """When each event of the last minutes was applied, by its id and by what it is."""
        self._forget_at = 64

    def is_late(self, t: int) -> bool:
        """Whether the clock was already too far past `t` when it was read."""
        return self.clock - t > self.lateness

    def hold(self, event: Event) -> None:
        """An event that is not late waits for its turn."""
        heappush(self.held, event)

    def released(self, before: int) -> Iterator[Event]:
        """The held events from before `before`, in order, copies among them."""
        held = self.held
        while held and held[0].t < before:
            yield heappop(held)

    def is_copy(self, event: Event) -> bool:
        """Whether an equal event was applied already; if not, it is remembered as applied now.

        Judged in the order of application, so that it doesn't depend on the order of arrival: of two copies the one that sorts first
        counts, which is the one with the smaller bytes.
        """
        what: OrderKey = event.ts  # a post has no other time: as tuples, ten busy minutes would take a third more memory
        if event.kind == REACT:
            what = (event.kind, event.ts, event.t, event.user, event.reaction, event.removed)
        elif event.kind != POST:
            what = (event.kind, event.ts, event.t)
        oldest = max(0, event.t - self.lateness - COPIES_KEPT)
        applied = self.applied
        if applied.get(what, -1) >= oldest or (event.event_id and applied.get(event.event_id, -1) >= oldest):
            return True
        if len(applied) >= self._forget_at:
            self.applied = applied = {key: t for key, t in applied.items() if t >= oldest}
            self._forget_at = max(64, len(applied) + len(applied) // 4)
        applied[what] = event.t
        if event.event_id:
            applied[event.event_id] = event.t
        return False
