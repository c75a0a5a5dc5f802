"""Replays of past points: decided on by the live rules under one policy after another, by what a model predicted or a simple rule.

Each point is decided on at its own time, as if it had been scored at once. What happened later only judges alerts, and never decides on
one. What no threshold and no earlier alert changes is found out once for all policies: keys, who took part, whom a simple rule names.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from beepgpt.alerts.decisions import (
    Alert,
    AlertVerdict,
    Policy,
    Preferences,
    alert_id,
    exclusion_reason,
    explanation,
    in_quiet_hours,
    stale_reason,
    verdict_unless_excluded,
)
from beepgpt.alerts.predictions import PredictedConversation
from beepgpt.alerts.rehearsal import EVERY_PART, PastOutcome, RehearsalHistory, Rehearsed, RehearsedAlert, judged
from beepgpt.conversations.rules import SECOND

MaySee = Callable[[str, str], bool]
"""Whether a person may see a channel."""
Baseline = Callable[[PredictedConversation], Sequence[tuple[str, float]]]
"""A baseline: whom it predicts for a point in the place of the model, likeliest first."""

MATCHING = 12
"""Halvings of the interval in which a baseline's threshold is searched."""
_NO_PREFERENCES = Preferences()
_NEVER = 1 << 62


@dataclass
class _Known:
    """What the rules ask about, at one point of one replay: who took part before it, and who was alerted."""

    asked: Mapping[str, Preferences]
    spoke: Mapping[str, Mapping[str, int]]
    at: int = 0
    """The place of the point that is decided on."""
    alerted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    direct_times: dict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))

    def preferences(self, user: str) -> Preferences:
        return self.asked.get(user, _NO_PREFERENCES)

    def took_part(self, user: str, conversations: Sequence[str], session_gap: int) -> bool:
        first = self.spoke.get(user)
        return first is not None and any(first.get(each, _NEVER) < self.at for each in conversations)

    def was_alerted(self, user: str, keys: Sequence[str]) -> bool:
        return not self.alerted[user].isdisjoint(keys)

    def direct_alerts(self, user: str, since: int) -> int:
        """How many direct messages a person got after `since`; older ones are dropped."""
        times = self.direct_times[user]
        while times and times[0] <= since:
            times.popleft()
        return len(times)

    def is_deleted(self, channel: str, ts: int) -> bool:
        return False  # what was deleted is no prediction any more


class _Standing:
    """What holds under a policy whatever its threshold: which points are stale, whom it excludes, and whose hours are quiet."""

    def __init__(self, policy: Policy, history: RehearsalHistory, known: _Known, candidates: int) -> None:
        self.policy = policy
        stale = [stale_reason(point, known, policy, point.prompt_ts + SECOND) for point in history.points]
        self.stale = stale
        """Why nobody is alerted to a point; empty if somebody may be."""
        self.is_open = np.array([not reason for reason in stale], bool)
        self.passed = Counter(reason for reason, part in zip(stale, history.part_at, strict=True) if reason and part == "judge")
        self.reasons = [""]
        """Why somebody is excluded; nobody is for the first."""
        self.excluded = np.full(candidates, -1, np.int8)
        """The place of the reason of each candidate; -1: not asked yet."""
        self.is_quiet: dict[int, bool] = {}
        """Of those who are not excluded."""


class Replay:
    """Points of the past with the candidates for each: of their model, or of a baseline."""

    def __init__(
        self,
        history: RehearsalHistory,
        *,
        asked: Mapping[str, Preferences] | None = None,
        people: Baseline | None = None,
        may_see: MaySee = lambda user, channel: True,
    ) -> None:
        """`asked`: people's preferences; `people`: a baseline in the place of the model."""
        self._history, self._may_see, self._asked, self._is_baseline = history, cache(may_see), asked or {}, people is not None
        self._people = [point.people if people is None else tuple(people(point)) for point in history.points]
        self._at = np.repeat(np.arange(len(self._people)), [len(each) for each in self._people])
        """The place of each candidate's point."""
        self._user = [user for each in self._people for user, _ in each]
        self._p = np.array([p for each in self._people for _, p in each], np.float64)
        own = {user: each.threshold for user, each in self._asked.items() if each.threshold is not None}
        self._own = np.array([own.get(user, np.inf) for user in self._user]) if own else np.inf
        self._is_judged = (history.part_at == "judge")[self._at]
        self._standing: dict[Policy, _Standing] = {}
        self._made: dict[tuple[int, AlertVerdict], RehearsedAlert] = {}

    def under(
        self, policy: Policy, *, name: str = "the model", parts: Collection[str] = EVERY_PART, on_end: Callable[[], None] = lambda: None
    ) -> Rehearsed:
        """Decide on the points in order. `parts`: where alerts are decided on; points of the others only tell who took part.

        `on_end`: called when it is done.
        """
        history, known = self._history, _Known(self._asked, self._history.spoke)
        standing = self._standing_under(policy, known)
        policies = {model: policy.of(model) for model in history.models}
        least = np.array([policies[model].least for model in history.models])[history.model_at]
        is_replayed = np.isin(history.part_at, list(parts))
        is_asked = standing.is_open & is_replayed
        thresholds = np.array([policies[model].threshold for model in history.models])[history.model_at]
        is_likely = self._is_judged & is_replayed[self._at] & (self._p >= thresholds[self._at])
        kept_back = Counter(standing.stale[at] for at in self._at[is_likely & ~standing.is_open[self._at]].tolist())
        # Most candidates are below: whatever the other rules say, nothing comes of them.
        chosen = np.flatnonzero(is_asked[self._at] & ((self._p >= least[self._at]) | (self._p >= self._own)))
        for index in chosen[standing.excluded[chosen] < 0].tolist():
            self._stand(index, standing, known)
        excluded, counts = standing.excluded[chosen], self._is_judged[chosen] & (self._p[chosen] >= least[self._at[chosen]])
        passed = Counter(standing.passed if "judge" in parts else ())
        for reason, count in zip(standing.reasons, np.bincount(excluded[counts], minlength=len(standing.reasons)).tolist(), strict=True):
            passed[reason] += count if reason not in ("", "not_opted_in") else 0
        kept_back.update(standing.reasons[place] for place in excluded[is_likely[chosen]].tolist() if place)
        alerts, left = [], excluded == 0
        columns = (chosen[left], self._at[chosen[left]], self._p[chosen[left]], counts[left], is_likely[chosen[left]])
        for index, at, p, does_count, likely in zip(*(each.tolist() for each in columns), strict=True):
            user, point, keys = self._user[index], history.points[at], history.keys[at]
            now, own = point.prompt_ts + SECOND, policies[point.model]
            verdict = verdict_unless_excluded(user, p, keys, known, own, now, is_quiet=standing.is_quiet[index])
            if verdict.route is None:
                passed[verdict.reason] += does_count
                kept_back[verdict.reason] += likely
            elif not self._may_see(user, point.channel):
                passed["not_a_member"] += history.part_at[at] == "judge"
                kept_back["not_a_member"] += likely
            else:
                known.alerted[user].update(keys)
                if verdict.route == "direct":
                    known.direct_times[user].append(now)
                else:
                    kept_back[verdict.reason] += likely
                alerts.append(self._alert(index, at, p, verdict))
        on_end()
        return Rehearsed(name, None if self._is_baseline else policy.threshold, alerts, +passed, history, +kept_back)

    def matched(self, policy: Policy, wanted: int, name: str, *, parts: Collection[str], on_end: Callable[[], None]) -> Rehearsed:
        """Decide at the threshold at which a baseline gives about `wanted` alerts, and no more than that if it can."""
        low, high = 0.0, 1.0
        best: Rehearsed | None = None
        for _ in range(MATCHING):
            middle = (low + high) / 2
            found = self.under(replace(policy, threshold=middle, list_from=None), name=name, parts=parts, on_end=on_end)
            if len(found.direct()) > wanted:
                low = middle
            else:
                high, best = middle, found
        return best or found

    def _standing_under(self, policy: Policy, known: _Known) -> _Standing:
        apart = replace(policy, threshold=0.0, list_from=None, thresholds=None)
        if apart not in self._standing:
            self._standing[apart] = _Standing(apart, self._history, known, len(self._p))
        return self._standing[apart]

    def _stand(self, index: int, standing: _Standing, known: _Known) -> None:
        """Find out whether a candidate is excluded, and else whether their hours are quiet."""
        user, known.at = self._user[index], int(self._at[index])
        point, policy = self._history.points[known.at], standing.policy
        reason = exclusion_reason(user, point, self._history.keys[known.at], known, policy)
        if reason not in standing.reasons:
            standing.reasons.append(reason)
        standing.excluded[index] = standing.reasons.index(reason)
        if not reason:
            standing.is_quiet[index] = in_quiet_hours(point.prompt_ts + SECOND, known.preferences(user), policy)

    def _alert(self, index: int, at: int, p: float, verdict: AlertVerdict) -> RehearsedAlert:
        made = self._made.get((index, verdict))
        if made is None:
            user, point = self._user[index], self._history.points[at]
            if self._is_baseline:
                point = point._replace(people=self._people[at], features={})
            assert verdict.route is not None
            why, identity = explanation(point, user, p), alert_id(user, "answer", point)
            alert = Alert(identity, user, "answer", verdict.route, verdict.reason, p, why, point, self._history.keys[at])
            made = self._made[index, verdict] = judged(alert, self._history.part_at[at], self._history)
        return made


# Baselines


class _InOrder:
    """People of a channel, each with a number, in the order of these."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}
        self.pairs: list[tuple[int, str]] = []

    def put(self, user: str, number: int) -> None:
        """Give somebody another number."""
        before = self.number.get(user)
        if before == number:
            return
        if before is not None:
            del self.pairs[bisect_left(self.pairs, (before, user))]
        self.number[user] = number
        insort(self.pairs, (number, user))


def latest_other_author() -> Baseline:
    """Predict the latest author in the channel who isn't in the window; the later, the likelier."""
    wrote: dict[str, _InOrder] = defaultdict(_InOrder)

    def predicted(point: PredictedConversation) -> list[tuple[str, float]]:
        here = wrote[point.channel]
        inside = {user for _, user in point.window}
        latest = next((pair for pair in reversed(here.pairs) if pair[1] not in inside), None)
        for ts, user in point.window:
            here.put(user, max(ts, here.number.get(user, 0)))
        if latest is None:
            return []
        ts, user = latest
        return [(user, 1.0 / (1.0 + max(point.prompt_ts - ts, 0) / (3600 * SECOND)))]

    return predicted


def most_frequent(history: RehearsalHistory) -> Baseline:
    """Predict the person who answered most in the channel so far and isn't in the window, by their share of its answers."""
    answered: dict[str, _InOrder] = defaultdict(_InOrder)
    totals: Counter[str] = Counter()
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
            channel = outcome.conversation.partition(":")[0]
            totals[channel] += len(outcome.answer)
            for user in outcome.answer:
                answered[channel].put(user, answered[channel].number.get(user, 0) - 1)  # who answered most is first
        inside = {user for _, user in point.window}
        best = next((pair for pair in answered[point.channel].pairs if pair[1] not in inside), None)
        return [] if best is None else [(best[1], -best[0] / totals[point.channel])]

    return predicted


def who_will_join(history: RehearsalHistory) -> Baseline:
    """An oracle, which shows the most that can be had: it predicts those of the people whom the model names who will join within a day."""

    def predicted(point: PredictedConversation) -> list[tuple[str, float]]:
        return [(user, 1.0) for user, _ in point.people if history.joined_at(user, point) is not None]

    return predicted
