"""Records in chunks, as sources pass them to flows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class UnreadableRecord(Protocol):
    """Stands for a record that a source could not read, with the reason."""

    @property
    def reason(self) -> str: ...

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
