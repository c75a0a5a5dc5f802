"""The values of a rehearsal's page and JSON report: the model beside baselines and other thresholds, people, bars, examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain, zip_longest
from math import ceil
from typing import Any

import numpy as np

from beepgpt.alerts.choosing import WantedAlerts, recommend
from beepgpt.alerts.decisions import NO_QUIET_HOURS, Policy, Preferences, local_time
from beepgpt.alerts.predictions import newest_text, shortened
from beepgpt.alerts.rehearsal import RehearsalHistory, Rehearsed, RehearsedAlert, share
from beepgpt.alerts.replay import MATCHING, Baseline, MaySee, Replay, latest_other_author, most_frequent, who_will_join
from beepgpt.alerts.spread import tenth_of, with_caps
from beepgpt.conversations.events import ts_text
from beepgpt.figures import percent, threshold
from beepgpt.training.intervals import needed_to_see, paired_gain

THRESHOLDS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.2, 0.22, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Those that are tried: the trade-off is drawn of them, and one of them recommended."""
MOST_BARS = 90
PEOPLE = 20
SHOWN = 8
"""Alerts that the page shows."""
BASELINES: dict[str, Callable[[RehearsalHistory], Baseline]] = {
    "who wrote last in the channel": lambda history: latest_other_author(),
    "who answers most in the channel": most_frequent,
}
RUNS = len(THRESHOLDS) + 1 + len(BASELINES) * (1 + MATCHING) + 1
"""How often a report goes through the points: at each threshold, with the live policy, for each baseline, and for the oracle."""
SEEN_IN_A_TRIAL = (0.1, 0.2)
"""How many more of those alerted would join in a trial: its length is given for each."""
JUDGED = frozenset({"choose", "judge"})
"""The parts in which thresholds and baselines are replayed."""


def rehearsal_report(
    history: RehearsalHistory,
    policy: Policy | None,
    policy_at: Callable[[float], Policy],
    otherwise: Callable[[str], float],
    *,
    asked: Mapping[str, Preferences],
    may_see: MaySee,
    names: Mapping[str, str],
    everybody: bool,
    wishes: Sequence[WantedAlerts],
    on_run: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Rehearse the model, the baselines and all thresholds. `names`: of people and channels by id; `everybody`: all count as opted in.
    `wishes`: the first that some threshold meets is recommended. `on_run`: called after each of `RUNS` runs through the points.

    `policy`: None for the one at the threshold that is recommended (`policy_at` makes it); if none can be, at the one that `otherwise`
    returns, which is told why.
    """
    model = Replay(history, asked=asked, may_see=may_see)
    others = [model.under(policy_at(each), name=percent(each), parts=JUDGED, on_end=on_run) for each in THRESHOLDS]
    found = [recommend(others, history, each) for each in wishes]
    recommended = next((each for each in found if each["threshold"] is not None), found[0])
    if policy is None:
        best = recommended["threshold"]
        policy = policy_at(otherwise(recommended["why"]) if best is None else best)
    ours = model.under(policy, on_end=on_run)
    wanted_alerts = len(ours.direct())
    name = f"the model, from {threshold(policy.threshold)}"
    rules = [row_of(ours) | {"name": name, "ours": True, "rule": None, "as_many": False, "gain": None}]
    plain = replace(policy, threshold=1e-9, list_from=None)
    for name, rule in BASELINES.items():
        baseline = Replay(history, asked=asked, people=rule(history), may_see=may_see)
        matched = baseline.matched(policy, wanted_alerts, f"{name}, as many", parts=JUDGED, on_end=on_run)
        for each, as_many in ((baseline.under(plain, name=name, parts=JUDGED, on_end=on_run), False), (matched, True)):
            rules.append(row_of(each) | {"rule": name, "as_many": as_many, "gain": gain_of(ours, each)})
    oracle = Replay(history, asked=asked, people=who_will_join(history), may_see=may_see)
    most = oracle.under(plain, name="the most that can be had", parts=JUDGED, on_end=on_run)
    likely = [each for each in ours.alerts if each.part == "judge"]
    reached = {each.alert.user for each in likely}
    judges = history.parts.get("judge", [])

    def own_zone(user: str) -> str | None:
        return asked.get(user, Preferences()).zone

    return {
        "models": history.models.tolist(),
        "days": round(history.days("judge"), 4),
        "points": len(history.points),
        "parts": {part: len(points) for part, points in history.parts.items()},
        "begin": day_of(judges[0].prompt_ts, policy.zone) if judges else None,
        "end": day_of(judges[-1].prompt_ts, policy.zone) if judges else None,
        "everybody": everybody,
        "threshold": policy.threshold,
        "per_hour": policy.per_hour,
        "list_from": policy.list_from,
        "quiet": "" if policy.quiet == NO_QUIET_HOURS else " to ".join(f"{each // 60:02d}:{each % 60:02d}" for each in policy.quiet),
        "zone": policy.zone,
        "own_zones": sum(own_zone(user) is not None for user in reached),
        "unzoned": sum(own_zone(user) is None for user in reached),
        "in_quiet_hours": sum(each.alert.reason == "quiet_hours" for each in likely),
        "figures": ours.figures,
        "apart": {part: ours.figures_of(part) for part in history.parts if part != "judge"},
        "recommended": recommended,
        "rules": rules,
        "oracle": row_of(most),
        "thresholds": [row_of(each) for each in others],
        "tenth": tenth_of(ours.direct()),
        "caps": [row_of(each) | {"cap": cap, "over": over} for cap, over, each in with_caps(ours)],
        "trial": trial_of(ours),
        "most_joined": max(Counter(each.alert.user for each in ours.direct() if each.joined).values(), default=0),
        "people": people_of(ours, names),
        "channels": channels_of(ours, names),
        "passed": counted_reasons(ours.passed),
        "kept_back": counted_reasons(ours.kept_back),
        "alerts": alerts_of(ours),
        "shown": shown_of(ours, names, lambda user: own_zone(user) or policy.zone),
        **bars_of(ours, policy.zone),
    }


def counted_reasons(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Reasons in words with their counts, the commonest first."""
    return [(reason.replace("_", " "), -count) for count, reason in sorted((-count, reason) for reason, count in counts.items())]


def alerts_of(rehearsed: Rehearsed) -> list[dict[str, Any]]:
    """Every alert that a report's figures are of, of all parts of time, in the order of time, without texts.

    `joined`: true, false, or None while it isn't known; `known_ts`: when it is.
    """
    return [
        {
            "id": each.alert.id,
            "user": each.alert.user,
            "conversation": each.alert.point.conversations[0],
            "channel": each.alert.point.channel,
            "prompt_ts": ts_text(each.alert.point.prompt_ts),
            "prediction": each.alert.point.id,
            "p": each.alert.p,
            "way": each.alert.way,
            "part": each.part,
            "joined": each.joined,
            "known_ts": ts_text(each.known_at),
        }
        for each in sorted(rehearsed.alerts, key=lambda each: (each.alert.point.prompt_ts, each.alert.id))
    ]


def row_of(rehearsed: Rehearsed) -> dict[str, Any]:
    """A row of a table: name, threshold (of the model alone) and figures."""
    return {"name": rehearsed.name, "ours": False, "threshold": rehearsed.threshold, **rehearsed.figures}


def gain_of(ours: Rehearsed, other: Rehearsed) -> dict[str, Any]:
    """How many more of those alerted by the model joined than of those alerted by a rule, as a share, with the interval of that."""

    def joined_by(rehearsed: Rehearsed) -> tuple[np.ndarray[Any, np.dtype[np.float64]], list[str]]:
        known = [each for each in rehearsed.direct() if each.joined is not None]
        sessions = [rehearsed.history.session_name(each.alert.point.conversations[0]) for each in known]
        return np.array([float(each.joined is True) for each in known]), sessions

    return paired_gain(joined_by(ours), joined_by(other)).as_json()


def trial_of(ours: Rehearsed) -> list[dict[str, Any]]:
    """How long a trial must be to show that more join when they are alerted: `alerts` of two halves of people, one of which gets none, and
    `weeks` at the rate of these alerts. Empty where the alerts are too few to tell how many join unaided.
    """
    joined, a_week = ours.figures["intervals"]["joined"], 7 * len(ours.direct()) / ours.history.rate_days("judge")
    if joined["low"] is None:
        return []
    found = [(more, needed_to_see(joined["value"], more)) for more in SEEN_IN_A_TRIAL]
    return [{"more": more, "alerts": 2 * each, "weeks": ceil(2 * each / a_week)} for more, each in found if each is not None]


def people_of(rehearsed: Rehearsed, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The people with the most alerts."""
    by_user: dict[str, list[RehearsedAlert]] = defaultdict(list)
    for each in rehearsed.direct():
        by_user[each.alert.user].append(each)
    most = sorted(by_user.items(), key=lambda item: (-len(item[1]), item[0]))[:PEOPLE]
    return [
        {
            "name": names.get(user, user),
            **_counts_of(alerts),
            "a_day": share(len(alerts), rehearsed.history.rate_days("judge")),
        }
        for user, alerts in most
    ]


def channels_of(rehearsed: Rehearsed, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The channels with the most alerts."""
    by_channel: dict[str, list[RehearsedAlert]] = defaultdict(list)
    for each in rehearsed.direct():
        by_channel[each.alert.point.channel].append(each)
    most = sorted(by_channel.items(), key=lambda item: (-len(item[1]), item[0]))[:PEOPLE]
    return [
        {
            "name": names.get(channel, channel),
            **_counts_of(alerts),
            "people": len({each.alert.user for each in alerts}),
        }
        for channel, alerts in most
    ]


def _counts_of(alerts: Sequence[RehearsedAlert]) -> dict[str, int]:
    joined = [each.joined for each in alerts if each.joined is not None]
    return {"alerts": len(alerts), "joined": sum(joined), "known": len(joined)}


def bars_of(rehearsed: Rehearsed, zone: str = "UTC") -> dict[str, Any]:
    """The alerts that judge by day, or by week or month if there would be too many bars; days without any are among them.

    Each bar says how many `joined`, and of how many it is `open` whether they will; the rest of its `alerts` did not.
    """
    direct = [(local_time(each.alert.point.prompt_ts, zone), each) for each in rehearsed.direct()]
    bars_are, period = "day", "%Y-%m-%d"
    days = sorted({at.date() for at, _ in direct})
    if days and (days[-1] - days[0]).days >= MOST_BARS:
        bars_are, period = ("week", "%G-W%V") if (days[-1] - days[0]).days < 7 * MOST_BARS else ("month", "%Y-%m")
    every = [days[0] + timedelta(days=number) for number in range((days[-1] - days[0]).days + 1)] if days else []
    counts = {f"{day:{period}}": {"alerts": 0, "joined": 0, "open": 0} for day in every}
    for at, each in direct:
        counted = counts[f"{at:{period}}"]
        counted["alerts"] += 1
        counted["joined"] += each.joined is True
        counted["open"] += each.joined is None
    return {"bars": [{"name": name, **counted} for name, counted in counts.items()], "bars_are": bars_are}


def shown_of(rehearsed: Rehearsed, names: Mapping[str, str], zones: Callable[[str], str] = lambda user: "UTC") -> list[dict[str, Any]]:
    """Some alerts, chosen by their ids: in turns one whose reader joined, and one whose reader did not. `zones`: of each person."""
    in_order = sorted(rehearsed.direct(), key=lambda each: each.alert.id)
    halves = ([each for each in in_order if each.joined is joined][: SHOWN // 2] for joined in (True, False))
    chosen = [each for each in chain.from_iterable(zip_longest(*halves)) if each is not None]
    return [
        {
            "joined": each.joined,
            "who": names.get(each.alert.user, each.alert.user),
            "when": f"{local_time(each.alert.point.prompt_ts, zone):%Y-%m-%d %H:%M} {zone}",
            "channel": names.get(each.alert.point.channel, each.alert.point.channel),
            "excerpt": shortened(newest_text(each.alert.point.prompt)),
            "why": each.alert.why,
        }
        for each in chosen
        for zone in [zones(each.alert.user)]
    ]


def day_of(t: int, zone: str) -> str:
    """The day of a time in microseconds, in a time zone."""
    return f"{local_time(t, zone):%Y-%m-%d}"
