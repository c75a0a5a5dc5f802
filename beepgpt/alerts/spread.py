"""How a rehearsal's direct messages spread over people, and what a cap a week would cost."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from beepgpt.alerts.rehearsal import Rehearsed, RehearsedAlert
from beepgpt.conversations.rules import DAY

WEEK = 7 * DAY
CAPS = (1, 2, 5)
"""Direct messages to a person within seven days, at most, that are tried."""


class CappedAlerts(NamedTuple):
    """Alerts under a cap, and the people whom it kept from some messages."""

    alerts: list[RehearsedAlert]
    over: set[str]


def capped(alerts: Sequence[RehearsedAlert], cap: int) -> CappedAlerts:
    """Alerts with at most `cap` direct messages to a person within seven days: those beyond are listed."""
    sent: dict[str, deque[int]] = defaultdict(deque)
    found, over = [], set()
    for each in sorted(alerts, key=lambda each: (each.alert.point.prompt_ts, each.alert.id)):
        user, at, times = each.alert.user, each.alert.point.prompt_ts, sent[each.alert.user]
        while times and times[0] <= at - WEEK:
            times.popleft()
        if each.alert.way == "direct" and len(times) >= cap:
            over.add(user)
            found.append(replace(each, alert=each.alert._replace(way="list", reason="weekly_limit")))
            continue
        if each.alert.way == "direct":
            times.append(at)
        found.append(each)
    return CappedAlerts(found, over)


def tenth_of(alerts: Sequence[RehearsedAlert]) -> dict[str, int]:
    """How many `alerts` the tenth of the alerted `people` got that got the most."""
    counts = sorted(Counter(each.alert.user for each in alerts).values(), reverse=True)
    people = ceil(len(counts) / 10)
    return {"people": people, "alerts": sum(counts[:people])}


def with_caps(rehearsed: Rehearsed) -> list[tuple[int, int, Rehearsed]]:
    """Each cap, the people who are over it in the part that judges, and what is left of the alerts under it."""
    judged = [each for each in rehearsed.alerts if each.part == "judge"]
    left = ((cap, capped(judged, cap)) for cap in CAPS)
    return [(cap, len(each.over), replace(rehearsed, name=f"at most {cap} a week", alerts=each.alerts)) for cap, each in left]
