"""Records in chunks, as sources pass them to flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from beepgpt.conversations.events import Ignored, Parsed, Reject, log_time, parse
from beepgpt.conversations.rules import Rules

if TYPE_CHECKING:
    from beepgpt.conversations.forgetting import Forgotten


class UnreadableRecord(Protocol):
    """Stands for a record that a source could not read, with the reason."""

    @property
    def reason(self) -> str: ...

    @property
    def channel(self) -> str: ...

    @property
    def record(self) -> bytes: ...

    @property
    def place(self) -> str: ...


class StoredRecord(Protocol):
    """A record of a topic, with its offset and the time it was written, microseconds; a tombstone's value is None."""

    @property
    def value(self) -> bytes | None: ...

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


Chunk = tuple[str, int, list[Any]]
"""Partition, number of the first value in it, and values: each `bytes` or an UnreadableRecord, or all of them StoredRecords.

Without values: the partition's input was stopped here.
"""


def parsed_value(
    value: Any, now: int, rules: Rules, forgotten: Forgotten | None = None, wanted: Callable[[bytes], bool] | None = None
) -> Parsed | None:
    """Parse a value of a chunk by the rules, without what is forgotten; None if its channel isn't `wanted`.

    `now`: when our side received it, microseconds; a record of a topic has the time that the log has for it, so that a replay judges as the
    first run did.
    """
    if isinstance(value, bytes):
        return parse(value, now, bots=rules.bots, edits=rules.edits, wanted=wanted, forgotten=forgotten)
    if hasattr(value, "offset"):
        if value.value is None:
            return Reject("no_value", b"")
        written = log_time(value.timestamp, now)
        return parse(value.value, written, bots=rules.bots, edits=rules.edits, wanted=wanted, forgotten=forgotten)
    if forgotten is not None and forgotten.in_bytes(value.record):
        return Ignored("forgotten", value.record, value.channel, None)
    return Reject(value.reason, value.record, value.channel)
