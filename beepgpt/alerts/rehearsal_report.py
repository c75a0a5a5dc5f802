"""The values of a rehearsal's page and JSON report: the model beside baselines and other thresholds, people, bars, examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from beepgpt.alerts.decisions import NO_QUIET_HOURS, Policy, Preferences
from beepgpt.alerts.predictions import newest_text, shortened
from beepgpt.alerts.rehearsal import (
    Baseline,
    MaySee,
    RehearsalHistory,
    Rehearsed,
    RehearsedAlert,
    latest_other_author,
    most_frequent,
    rehearse,
    rehearse_matched,
    share,
)

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MOST_BARS = 90
PEOPLE = 20
SHOWN = 8
"""Alerts that the page shows."""


def rehearsal_report(
    history: RehearsalHistory,
    policy: Policy,
    *,
    asked: Mapping[str, Preferences],
    may_see: MaySee,
    names: Mapping[str, str],
    everybody: bool,
) -> dict[str, Any]:
    """Rehearse the model, the baselines and other thresholds. `names`: of people and channels by id; `everybody`: all count as opted in."""
    how: dict[str, Any] = {"asked": asked, "may_see": may_see}
    ours = rehearse(history, policy, **how)
    wanted = len(ours.direct)
    rules = [ours]
    baselines: dict[str, Callable[[], Baseline]] = {
        "latest other author": latest_other_author,
        "channel's most frequent": lambda: most_frequent(history),
    }
    plain = replace(policy, threshold=1e-9, list_from=None)
    for name, rule in baselines.items():
        rules += [rehearse(history, plain, name=name, people=rule(), **how)]
        rules += [rehearse_matched(history, policy, wanted, f"{name}, as many", rule, **how)]
    others = [rehearse(history, replace(policy, threshold=each), name=f"{each:.0%}", **how) for each in THRESHOLDS]
    return {
        "points": len(history.points),
        "begin": day_of(history.points[0].prompt_ts),
        "end": day_of(history.points[-1].prompt_ts),
        "everybody": everybody,
        "threshold": policy.threshold,
        "per_hour": policy.per_hour,
        "quiet": "" if policy.quiet == NO_QUIET_HOURS else " to ".join(f"{each // 60:02d}:{each % 60:02d}" for each in policy.quiet),
        "figures": ours.figures,
        "rules": [row_of(each, ours=each is ours) for each in rules],
        "thresholds": [row_of(each) for each in others],
        "people": people_of(ours, names),
        "passed": [(reason.replace("_", " "), count) for reason, count in ours.passed.most_common()],
        "shown": shown_of(ours, names),
        **bars_of(ours),
    }


def row_of(rehearsed: Rehearsed, *, ours: bool = False) -> dict[str, Any]:
    """A row of a table: name and figures; `ours` marks the model under the live policy."""
    name = f"the model, from {rehearsed.threshold:.1%}" if ours and rehearsed.threshold is not None else rehearsed.name
    return {"name": name, "ours": ours, **rehearsed.figures}


def people_of(rehearsed: Rehearsed, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The people with the most alerts."""
    by_user: dict[str, list[RehearsedAlert]] = defaultdict(list)
    for each in rehearsed.direct:
        by_user[each.alert.user].append(each)
    most = sorted(by_user.items(), key=lambda item: (-len(item[1]), item[0]))[:PEOPLE]
    return [
        {
            "name": names.get(user, user),
            "alerts": len(alerts),
            "joined": share(sum(each.joined for each in alerts), len(alerts)),
            "a_day": share(len(alerts), rehearsed.days),
        }
        for user, alerts in most
    ]


def bars_of(rehearsed: Rehearsed) -> dict[str, Any]:
    """A bar chart of alerts by day, or by week or month if there would be too many bars."""
    counted = {what: count_by(period, rehearsed) for what, period in (("day", "%Y-%m-%d"), ("week", "%G-W%V"), ("month", "%Y-%m"))}
    bars_are = next((what for what, (total, _) in counted.items() if len(total) <= MOST_BARS), "month")
    total, joined = counted[bars_are]
    highest = max(total.values(), default=1)
    bars = [
        {
            "name": name,
            "alerts": total[name],
            "joined": joined[name],
            "all": round(95 * total[name] / highest, 2),
            "right": round(95 * joined[name] / highest, 2),
        }
        for name in sorted(total)
    ]
    return {"bars": bars, "bars_are": bars_are, "highest": highest}


def count_by(period: str, rehearsed: Rehearsed) -> tuple[Counter[str], Counter[str]]:
    """Alerts, and those whose reader joined, by a period of the calendar (a `strftime` format)."""
    total: Counter[str] = Counter()
    joined: Counter[str] = Counter()
    for each in rehearsed.direct:
        name = f"{utc_time(each.alert.point.prompt_ts):{period}}"
        total[name] += 1
        joined[name] += each.joined
    return total, joined


def shown_of(rehearsed: Rehearsed, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Some alerts, chosen by their ids: as many whose reader joined as whose reader did not."""
    in_order = sorted(rehearsed.direct, key=lambda each: each.alert.id)
    chosen = [each for joined in (True, False) for each in [one for one in in_order if one.joined is joined][: SHOWN // 2]]
    return [
        {
            "joined": each.joined,
            "who": names.get(each.alert.user, each.alert.user),
            "when": f"{utc_time(each.alert.point.prompt_ts):%Y-%m-%d %H:%M} UTC",
            "channel": names.get(each.alert.point.channel, each.alert.point.channel),
            "excerpt": shortened(newest_text(each.alert.point.prompt)),
            "why": each.alert.why,
        }
        for each in sorted(chosen, key=lambda each: each.alert.id)
    ]


def utc_time(t: int) -> datetime:
    """Microseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(t // 1_000_000, UTC)


def day_of(t: int) -> str:
    """The day of a time in microseconds, in UTC."""
    return f"{utc_time(t):%Y-%m-%d}"
