"""The closing account: a ledger in which every record and every point stands in exactly one row (docs/semantics.md, "The account")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

# Names of rows are a public contract: reports, metrics and the glossary have them. Plain strings, not an enum: the compiled build
# counts with these as fast as with literals, and an enum's members would be slower keys.

READ: Final = "read"
APPLIED: Final = "applied"
DUPLICATE: Final = "duplicate"
LATE: Final = "late"
HELD: Final = "held"
"""Events in the reorder buffers when a run was stopped."""
HEARTBEATS: Final = "heartbeats"
CHANNELS: Final = "channels"

IGNORED: Final = "ignored"
REJECTED: Final = "rejected"
"""These two are counted by reason, as `ignored:bot`."""
UNKNOWN_MESSAGE: Final = "ignored:unknown_message"
UNTIMED: Final = "ignored:untimed"
UNNAMED: Final = "ignored:unnamed_reactors"
AFTER_UNTIL: Final = "ignored:after_until"

POINTS: Final = "points"
ANSWERED: Final = "answered"
SILENT: Final = "silent"
SUPERSEDED: Final = "superseded"
ELSEWHERE: Final = "elsewhere"
CENSORED: Final = "censored"
MOVED: Final = "moved"
"""Censored, since the channel went on under another id."""
WITHHELD: Final = "withheld"
EMPTY: Final = "empty"
MERGED: Final = "merged"
OPEN: Final = "open"
"""Points that had not settled when a run was stopped."""
POINT_ENDS: Final = (ANSWERED, SILENT, SUPERSEDED, ELSEWHERE, CENSORED, MOVED, WITHHELD, EMPTY, MERGED)
EXAMPLE_ENDS: Final = (ANSWERED, SILENT)
"""How a point ends that becomes an example."""

EXAMPLES: Final = "examples"
BEFORE_FROM: Final = "before_from"
RETRACTIONS: Final = "retractions"

EMITTED: Final = "told"
"""Points that were logged to be scored."""
TOGETHER: Final = "together"
"""Points that stand in the line of another one."""
BEFORE_START: Final = "before_start"
"""Points from before the time from which points are logged."""


class Account:
    """Counts of records and points, and whether they add up.

    >>> account = Account()
    >>> account.count("read"), account.count("ignored:bot")
    (None, None)
    >>> account.check()
    []
    >>> account.count("read")
    >>> account.check()
    ['2 events read, but 1 accounted for']
    """

    __slots__ = ("counts",)

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self.counts: dict[str, int] = {} if counts is None else counts

    def count(self, row: str, times: int = 1) -> None:
        """Add `times` to a row."""
        self.counts[row] = self.counts.get(row, 0) + times

    def __getitem__(self, row: str) -> int:
        return self.counts.get(row, 0)

    def add(self, other: Account) -> None:
        """Add another account's counts to these."""
        for row, times in other.counts.items():
            self.count(row, times)

    def by_reason(self, row: str) -> dict[str, int]:
        """Counts of a row such as `ignored` by reason, the most frequent first."""
        found = {key.partition(":")[2]: times for key, times in self.counts.items() if key.startswith(f"{row}:")}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def check(self) -> list[str]:
        """The sums that don't add up, in words; empty if all do. `held` and `open` are 0 unless a run was stopped before its end."""
        ignored, rejected = sum(self.by_reason(IGNORED).values()), sum(self.by_reason(REJECTED).values())
        events = self[APPLIED] + self[DUPLICATE] + ignored + rejected + self[LATE] + self[HELD]
        points = sum(self[end] for end in POINT_ENDS) + self[OPEN]
        settled, written = sum(self[end] for end in EXAMPLE_ENDS), self[EXAMPLES] + self[BEFORE_FROM]
        wrong = []
        if events != self[READ]:
            wrong.append(f"{self[READ]} events read, but {events} accounted for")
        if points != self[POINTS]:
            wrong.append(f"{self[POINTS]} points made, but {points} accounted for")
        if written != settled:
            wrong.append(f"{settled} points ended as examples, but {written} were made")
        return wrong

    def as_json(self) -> dict[str, Any]:
        """The account as a report writes it."""
        return {
            "events": {
                READ: self[READ],
                APPLIED: self[APPLIED],
                DUPLICATE: self[DUPLICATE],
                IGNORED: self.by_reason(IGNORED),
                REJECTED: self.by_reason(REJECTED),
                LATE: self[LATE],
                HELD: self[HELD],
            },
            HEARTBEATS: self[HEARTBEATS],
            POINTS: {"made": self[POINTS], **{end: self[end] for end in POINT_ENDS}, OPEN: self[OPEN]},
            EXAMPLES: self[EXAMPLES],
            BEFORE_FROM: self[BEFORE_FROM],
            RETRACTIONS: self[RETRACTIONS],
            CHANNELS: self[CHANNELS],
            "adds_up": not self.check(),
        }


def sum_of(accounts: Iterable[Account]) -> Account:
    """One account of several shards or processes."""
    total = Account()
    for account in accounts:
        total.add(account)
    return total
