"""Where everything went: law 6 of the README (docs/semantics.md, "The account")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

POINT_ENDS = ("answered", "silent", "superseded", "elsewhere", "censored", "withheld", "empty", "merged")


class Account:
    """Counts of events and points, and whether they add up.

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

    def count(self, what: str, times: int = 1) -> None:
        """Counts `what`: `ignored` and `rejected` go by their reason, as `ignored:bot`."""
        self.counts[what] = self.counts.get(what, 0) + times

    def __getitem__(self, what: str) -> int:
        return self.counts.get(what, 0)

    def add(self, other: Account) -> None:
        """Adds another's counts to these."""
        for what, times in other.counts.items():
            self.count(what, times)

    def by_reason(self, what: str) -> dict[str, int]:
        """`ignored` or `rejected`, by reason, the most frequent first."""
        found = {key.partition(":")[2]: times for key, times in self.counts.items() if key.startswith(f"{what}:")}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def check(self) -> list[str]:
        """What doesn't add up, in words; empty if all does. `held` and `open` are not 0 only where a run was stopped before its end."""
        ignored, rejected = sum(self.by_reason("ignored").values()), sum(self.by_reason("rejected").values())
        events = self["applied"] + self["duplicate"] + ignored + rejected + self["late"] + self["held"]
        points = sum(self[end] for end in POINT_ENDS) + self["open"]
        wrong = []
        if events != self["read"]:
            wrong.append(f"{self['read']} events read, but {events} accounted for")
        if points != self["points"]:
            wrong.append(f"{self['points']} points made, but {points} accounted for")
        if self["examples"] + self["before_from"] != self["answered"] + self["silent"]:
            wrong.append(
                f"{self['answered'] + self['silent']} points ended as examples, but {self['examples'] + self['before_from']} were made"
            )
        return wrong

    def as_json(self) -> dict[str, Any]:
        """The account as a report writes it."""
        return {
            "events": {
                "read": self["read"],
                "applied": self["applied"],
                "duplicate": self["duplicate"],
                "ignored": self.by_reason("ignored"),
                "rejected": self.by_reason("rejected"),
                "late": self["late"],
                "held": self["held"],
            },
            "heartbeats": self["heartbeats"],
            "points": {"made": self["points"], **{end: self[end] for end in POINT_ENDS}, "open": self["open"]},
            "examples": self["examples"],
            "before_from": self["before_from"],
            "retractions": self["retractions"],
            "channels": self["channels"],
            "adds_up": not self.check(),
        }


def sum_of(accounts: Iterable[Account]) -> Account:
    """One account of several shards or processes."""
    total = Account()
    for account in accounts:
        total.add(account)
    return total
