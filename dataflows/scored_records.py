"""Predictions, outcomes and deletions as lines of files and messages of topics, and the account of a run that scores."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from beepgpt.conversations.account import Account
from beepgpt.conversations.events import ts_text
from beepgpt.dataflows.records import Formats, KafkaMessage, TaggedItems, as_lines


class Scored(NamedTuple):
    """A record of the output."""

    kind: str
    """`prediction`, `outcome` or `deletion`."""
    key: str
    line: bytes
    released: float = 0.0
    """When the point was released, seconds since 1970."""
    alert: dict[str, Any] | None = None
    """The record as a value for the sink of alerts, if there is one."""


def scored_lines(kind: str, tagged: TaggedItems) -> bytes | None:
    """Records of one kind as lines of a file; None: there are none."""
    lines = [each.line for each in tagged[1] if each.kind == kind] if tagged[0] == "scored" else []
    return as_lines(lines) if lines else None


def scored_messages(kinds: tuple[str, ...], tagged: TaggedItems) -> list[KafkaMessage] | None:
    """Records of these kinds as messages; None: there are none. Wall times stand in headers alone, so that a replay sends the same values.

    >>> scored_messages(("prediction",), ("scored", [Scored("prediction", "C1:1.0:thread", b"{}", 1690360253.041239)]))
    [(b'C1:1.0:thread', b'{}', [('kind', b'prediction'), ('released_at', b'1690360253.041239')], None, None)]
    """
    messages: list[KafkaMessage] = []
    for each in tagged[1] if tagged[0] == "scored" else ():
        if each.kind in kinds:
            headers = [("kind", each.kind.encode())]
            if each.released:
                headers.append(("released_at", ts_text(round(each.released * 1e6)).encode()))
            messages.append((each.key.encode(), each.line, headers, None, None))
    return messages or None


SCORED_LINES: Formats = {f"{kind}s": partial(scored_lines, kind) for kind in ("prediction", "deletion", "outcome")}
"""The scoring flow's outputs as lines of files."""
SCORED_MESSAGES: Formats = {
    "predictions": partial(scored_messages, ("prediction", "deletion")),
    "outcomes": partial(scored_messages, ("outcome",)),
}
"""The scoring flow's outputs as messages of topics: predictions and outcomes under their conversations, deletions under their channels."""


def alerts_in(tagged: TaggedItems) -> list[tuple[str, dict[str, Any]]]:
    """Predictions, outcomes and deletions for a sink that alerts people: `(kind, value)` each."""
    return [(each.kind, each.alert) for each in tagged[1] if each.alert is not None] if tagged[0] == "scored" else []


# The account

ENDS = ("scored", "missed", "waiting")
"""How an emitted point ends, failures apart; `waiting` is not 0 only where a run was stopped."""


def check_scores(account: Account) -> list[str]:
    """The sums that don't add up, in words: of the shards' accounts and the scoring's together."""
    failed = sum(account.by_reason("failed").values())
    found = sum(account[each] for each in ENDS) + failed
    wrong = [] if found == account["told"] else [f"{account['told']:,} points emitted, but {found:,} accounted for"]
    made = sum(account[each] for each in ("told", "together", "before_start", "withheld", "empty"))
    if made != account["points"]:
        wrong.append(f"{account['points']:,} points made, but {made:,} accounted for")
    return wrong


def scores_as_json(account: Account) -> dict[str, Any]:
    """The account as a report writes it."""
    return {
        "points": {
            "made": account["points"],
            "scored": account["scored"],
            "missed": account["missed"],
            "failed": account.by_reason("failed"),
            "before_start": account["before_start"],
            "together": account["together"],
            "withheld": account["withheld"],
            "empty": account["empty"],
            "waiting": account["waiting"],
        },
        "outcomes": {**account.by_reason("outcome"), "unsettled": account["unsettled"]},
        "deletions": account["deletions"],
        "adds_up": not check_scores(account),
    }
