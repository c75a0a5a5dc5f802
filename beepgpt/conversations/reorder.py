"""Reordering: a channel's events come out in the order of their time, without duplicates (docs/semantics.md, "Order")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any

from beepgpt.conversations.events import POST, REACT, Event
from beepgpt.conversations.rules import MINUTE

DUPLICATES_KEPT = 10 * MINUTE
"""For so long, plus the allowed lateness, an applied event is remembered, so that its duplicates are recognized."""

EventKey = tuple[int | str, ...] | int | str
"""An event's id, or what it is about: equal for duplicates."""

_STATE = ("_forget_at", "applied", "buffered", "clock")
"""The fields that a snapshot keeps."""


class ReorderBuffer:
    """One channel's clock, and the events that were read and wait for the watermark.

    The watermark is the clock minus the allowed lateness: events before it are applied, and what comes before it is late.

    >>> buffer = ReorderBuffer(lateness=5)
    >>> buffer.clock = 100
    >>> buffer.watermark, buffer.is_late(95), buffer.is_late(94)
    (95, False, True)
    """

    __slots__ = (*_STATE, "lateness")

    def __init__(self, lateness: int) -> None:
        self.lateness = lateness
        """Microseconds that an event may come behind the clock."""
        self.clock = 0
        """The greatest event time read for the channel, or of a heartbeat in its partition."""
        self.buffered: list[Event] = []
        """A heap, in the order of application."""
        self.applied: dict[EventKey, int] = {}
        """When each event of the last minutes was applied, by its id and by what it is about."""
        self._forget_at = 64

    @property
    def watermark(self) -> int:
        """The time up to which events are complete: microseconds."""
        return self.clock - self.lateness

    def is_late(self, t: int) -> bool:
        """Whether an event at `t` comes too late to be applied in order."""
        return t < self.watermark

    def add(self, event: Event) -> None:
        """Buffer an event that is not late."""
        heappush(self.buffered, event)

    def release(self, before: int) -> Iterator[Event]:
        """Take out the buffered events from before `before`, in order, duplicates among them."""
        buffered = self.buffered
        while buffered and buffered[0].t < before:
            yield heappop(buffered)

    def is_duplicate(self, event: Event) -> bool:
        """Whether an equal event was applied already; if not, the event is remembered as applied.

        It is asked in the order of application, so that the answer doesn't depend on the order of arrival: of two duplicates the one
        that sorts first is applied, which is the one with the smaller bytes.
        """
        key: EventKey = event.ts  # a post has no other time: as tuples, ten busy minutes would take a third more memory
        if event.kind == REACT:
            key = (event.kind, event.ts, event.t, event.user, event.reaction, event.removed)
        elif event.kind != POST:
            key = (event.kind, event.ts, event.t)
        oldest = max(0, event.t - self.lateness - DUPLICATES_KEPT)
        applied = self.applied
        if applied.get(key, -1) >= oldest or (event.event_id and applied.get(event.event_id, -1) >= oldest):
            return True
        if len(applied) >= self._forget_at:
            self.applied = applied = {each: t for each, t in applied.items() if t >= oldest}
            self._forget_at = max(64, len(applied) + len(applied) // 4)
        applied[key] = event.t
        if event.event_id:
            applied[event.event_id] = event.t
        return False

    def state(self) -> tuple[Any, ...]:
        """The fields that a snapshot keeps, in the order of `_STATE`."""
        values: tuple[Any, ...] = attrgetter(*_STATE)(self)
        return values

    def restore(self, state: tuple[Any, ...]) -> None:
        """Take over another buffer's `state()`."""
        for name, value in zip(_STATE, state, strict=True):
            setattr(self, name, value)


def without_duplicates(events: Iterable[Event], lateness: int) -> list[Event]:
    """Events in the order of application, each once."""
    buffer = ReorderBuffer(lateness)
    return [event for event in events if not buffer.is_duplicate(event)]
