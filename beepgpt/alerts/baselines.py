"""Simple rules to compare a model's alerts with. Each predicts one person for a point, who has not spoken in its window."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from beepgpt.alerts.decisions import Policy
from beepgpt.alerts.predictions import PredictedConversation
from beepgpt.alerts.rehearsal import Baseline, PastOutcome, RehearsalHistory, Rehearsed, rehearse
from beepgpt.conversations.rules import SECOND

MATCHING = 12
"""Halvings of the interval in which a baseline's threshold is searched."""


def latest_other_author() -> Baseline:
    """Predict the latest author in the channel who isn't in the window; the later, the likelier."""
    wrote: dict[str, dict[str, int]] = defaultdict(dict)

    def predicted(point: PredictedConversation) -> list[tuple[str, float]]:
        here = wrote[point.channel]
        inside = {user for _, user in point.window}
        others = [(ts, user) for user, ts in here.items() if user not in inside]
        for ts, user in point.window:
            here[user] = max(ts, here.get(user, 0))
        if not others:
            return []
        ts, user = max(others)
        return [(user, 1.0 / (1.0 + max(point.prompt_ts - ts, 0) / (3600 * SECOND)))]

    return predicted


def most_frequent(history: RehearsalHistory) -> Baseline:
    """Predict the person who answered most in the channel so far and isn't in the window, by their share of its answers."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    settled = iter([each for each in history.outcomes if each.answer])
    waiting: list[PastOutcome] = []

    def predicted(point: PredictedConversation) -> list[tuple[str, float]]:
        while True:
            outcome = waiting.pop() if waiting else next(settled, None)
            if outcome is None:
                break
            if outcome.settled_ts > point.prompt_ts:
                waiting.append(outcome)
                break
            counts[outcome.conversation.partition(":")[0]].update(outcome.answer)
        here = counts[point.channel]
        inside = {user for _, user in point.window}
        best = min(((-count, user) for user, count in here.items() if user not in inside), default=None)
        return [] if best is None else [(best[1], -best[0] / here.total())]

    return predicted


def rehearse_matched(
    history: RehearsalHistory, policy: Policy, wanted: int, name: str, rule: Callable[[], Baseline], **how: Any
) -> Rehearsed:
    """Rehearse a baseline at the threshold at which it gives about `wanted` alerts, and no more than that if it can."""
    low, high = 0.0, 1.0
    best: Rehearsed | None = None
    for _ in range(MATCHING):
        middle = (low + high) / 2
        found = rehearse(history, replace(policy, threshold=middle, list_from=None), name=name, people=rule(), **how)
        if len(found.direct) > wanted:
            low = middle
        else:
            high, best = middle, found
    return best or found
