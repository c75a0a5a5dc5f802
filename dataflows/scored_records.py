"""Predictions, outcomes and deletions as lines of files and messages of topics, and the account of a run that scores."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from beepgpt.conversations.account import Account
from beepgpt.conversations.events import ts_text
from beepgpt.dataflows.records import Formats, LogMessage, TaggedItems, as_lines


class Scored(NamedTuple):
    """A record of the output."""

    kind: str
    """`prediction`, `outcome`, `deletion`, or `tombstone` of a prediction that held a deleted message."""
    key: str
    line: bytes | None
    """None: a tombstone."""
    channel: str
    released: float = 0.0
    """When the point was released, seconds since 1970."""
    alert: dict[str, Any] | None = None
    """The record as a value for the sink of alerts, if there is one."""


def scored_lines(kind: str, tagged: TaggedItems) -> bytes | None:
    """Records of one kind as lines of a file; None: there are none."""
    lines = [each.line for each in tagged[1] if each.kind == kind] if tagged[0] == "scored" else []
    return as_lines(lines) if lines else None


def prediction_messages(tagged: TaggedItems) -> list[LogMessage] | None:
    """Predictions, deletions and tombstones as messages, in their channel's partition; None: there are none.

    Wall times stand in headers alone, so that a replay sends the same values.

    >>> scored = [Scored("prediction", "00ff", b"{}", "C1", 1690360253.041239), Scored("tombstone", "00ff", None, "C1")]
    >>> for message in prediction_messages(("scored", scored)): print(message)
    (b'00ff', b'{}', [('kind', b'prediction'), ('released_at', b'1690360253.041239')], b'C1', None)
    (b'00ff', None, [('kind', b'tombstone')], b'C1', None)
    """
    messages: list[LogMessage] = []
    for each in tagged[1] if tagged[0] == "scored" else ():
        if each.kind != "outcome":
            headers = [("kind", each.kind.encode())]
            if each.released:
                headers.append(("released_at", ts_text(round(each.released * 1e6)).encode()))
            messages.append((each.key.encode(), each.line, headers, each.channel.encode(), None))
    return messages or None


def outcome_messages(tagged: TaggedItems) -> list[LogMessage] | None:
    """Outcomes as messages under their conversations; None: there are none."""
    outcomes = [each for each in tagged[1] if each.kind == "outcome"] if tagged[0] == "scored" else []
    return [(each.key.encode(), each.line, [("kind", b"outcome")], None, None) for each in outcomes] or None


SCORED_LINES: Formats = {f"{kind}s": partial(scored_lines, kind) for kind in ("prediction", "deletion", "outcome")}
"""The scoring flow's outputs as lines of files."""
SCORED_MESSAGES: Formats = {"predictions": prediction_messages, "outcomes": outcome_messages}
"""The scoring flow's outputs as messages of topics: predictions under their points' ids and deletions under `CHANNEL:TS`, both in the
channel's partition, since what reads them needs a conversation in order; outcomes under their conversations."""


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
            "scored_by": account.by_reason("scored_by"),
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
        "tombstones": account["tombstones"],
        "adds_up": not check_scores(account),
    }
