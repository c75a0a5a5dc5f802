"""Offsets of a partition: what is snapshot, and what is committed when.

No broker: it shows the latest commit alone, and not when it was made. So what polls and what commits are stand-ins here; the rest of the
source is tried on a real one in test_kafka.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.log import LogState, Record
from beepgpt.connectors.log.source import LogPartition


@dataclass
class Noted:
    """Stands in for the reader and the committer of a partition."""

    offsets: list[int] = field(default_factory=list)
    waiting: int = 0

    def note(self, _: int, offset: int) -> None:
        self.offsets.append(offset)

    def add(self, _: object) -> None:
        """A partition to poll for."""

    remove = add


VALUES = st.sampled_from([None, b"", b"{broken", b'{"type":"message"}'])


@given(st.lists(st.lists(st.tuples(VALUES, st.integers(1, 3)), min_size=1, max_size=4), min_size=1, max_size=6))
def test_a_run_resumes_behind_what_it_has_handed_out_and_commits_what_is_kept(batches: list[list[tuple[bytes | None, int]]]):
    """Whatever the values, with gaps between offsets: a snapshot stands behind the last record, and a commit is of the one before it."""
    noted: Any = Noted()
    source: Any = SimpleNamespace(name="events", stopping=lambda: False, took=lambda count: None, covered=noted.note)
    part = LogPartition(source, noted, 0, LogState(0, None, "an-id", 1))
    offset, snapshots = -1, list[int]()
    for batch in batches:
        polled = [Record(value, offset := offset + step, 0, None, []) for value, step in batch]
        part.put(polled)

        ((name, first, records),) = part.next_batch()

        assert (name, first) == ("events/0", polled[0].offset)
        assert records == polled
        snapshots.append(part.snapshot().next)
        assert snapshots[-1] == offset + 1
        assert noted.offsets == snapshots[:-1], "the newest snapshot may not be in the recovery store yet"
    part.close()
    assert noted.offsets == snapshots
