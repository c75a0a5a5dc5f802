"""What channels put out: examples, retractions, late records, points; lines are written of many at once."""

from __future__ import annotations

from beepgpt.conversations.account import Account
from beepgpt.conversations.examples import ExampleDraft, count_tokens, fill_in
from beepgpt.conversations.points import PointLog

DRAFTS = 32
"""Examples or points whose lines are written together, at most."""


class Output:
    """The output of channels since it was last drained."""

    __slots__ = ("account", "are_packed", "drafts", "examples", "late", "points", "retractions", "since")

    def __init__(self, account: Account, since: int = 0, points: PointLog | None = None, *, are_packed: bool = False) -> None:
        self.account = account
        self.since = since
        """Examples whose `prompt_ts` is before this time, in microseconds, are counted and not written."""
        self.are_packed = are_packed
        """Whether the columns of examples are packed, for a table."""
        self.drafts: list[ExampleDraft] = []
        """Examples that follow, whose lines are not written yet."""
        self.examples: list[bytes] = []
        self.retractions: list[bytes] = []
        self.late: list[bytes] = []
        self.points = points
        """Points as they are made, and how they end; None where nobody needs them, since logging takes time."""

    def finish(self) -> None:
        """Write the lines of all drafts: call it before `examples` or `points` are read."""
        if self.points is not None and self.points.drafts:
            self.points.finish()
        if self.drafts:
            points = [draft.point for draft in self.drafts]
            fill_in(points, are_packed=self.are_packed)
            count_tokens(points, self.drafts[0].encoding)
            self.examples += [draft.line() for draft in self.drafts]
            self.drafts = []
