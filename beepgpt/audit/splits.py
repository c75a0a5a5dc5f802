"""Law 7: a training and a validation side share no message and no conversation, and training comes first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import orjson

from beepgpt.audit.example_rows import ExampleRow
from beepgpt.audit.findings import Findings
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import Rules


def check_split(train: Sequence[ExampleRow], valid: Sequence[ExampleRow], rules: Rules, cut: int | None, findings: Findings) -> None:
    """Find examples on the wrong side of the cut, and messages and conversations on both sides. `cut`: None if it isn't known."""
    if not train or not valid:
        return
    if cut is None:
        cut = _best_cut(sorted(row.settled_ts for row in train), sorted(row.prompt_ts for row in valid))
    messages: dict[tuple[str, str], str] = {}
    conversations: dict[str, str] = {}
    for row in valid:
        conversations.setdefault(row.conversation, row.where)
        body = orjson.loads(row.line)
        for each in body["window"]:
            messages.setdefault((body["channel"], each["ts"]), row.where)
        if row.prompt_ts < cut:
            why = f"prompt_ts {ts_text(row.prompt_ts)} is not after the cut at {ts_text(cut)}"
            findings.add(7, "validation prompts from before the cut", row.where, why)
    for row in train:
        if row.settled_ts >= cut:
            why = f"settled at {ts_text(row.settled_ts)}, the cut is at {ts_text(cut)}"
            findings.add(7, "training examples settled after the cut", row.where, why)
        body = orjson.loads(row.line)
        shared = next(((body["channel"], each["ts"]) for each in body["window"] if (body["channel"], each["ts"]) in messages), None)
        if shared is not None:
            findings.add(7, "messages in windows on both sides", row.where, f"{shared[1]} stands in the window of {messages[shared]}, too")
        if rules.scope == "conversation" and row.conversation in conversations:
            other = conversations[row.conversation]
            findings.add(7, "conversations on both sides", row.where, f"{row.conversation} is that of {other}, too")


def _best_cut(settled: Sequence[int], prompts: Sequence[int]) -> int:
    """The first validation prompt; if the sides overlap, the time with the fewest examples on the wrong side.

    >>> _best_cut([1, 2, 3, 9], [2, 5, 6])
    5
    """
    return min(prompts, key=lambda cut: (len(settled) - bisect_left(settled, cut) + bisect_left(prompts, cut), cut))
