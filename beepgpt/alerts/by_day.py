"""What became of the last days' alerts, and why others got none, read beside the process that writes their store."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from beepgpt.alerts.database import BUSY
from beepgpt.alerts.decisions import OF_POINTS


def alerts_by_day(store: Path, since: int, zone: str) -> dict[date, Counter[str]]:
    """Counts of the alerts since then (microseconds) that were delivered, by the day on which they were, the newest first.

    `message` and `list`: how; `joined`, `not_joined`, `open`: whether the reader joined within a day, `open` until that is over, and
    `so_far` for those of the `open` who joined already; `good` and `bad`: the reader's rating.
    """
    found: dict[date, Counter[str]] = {}
    sql = "SELECT made_at, way, answered, joined, feedback FROM alert WHERE state = 'cleared' AND made_at >= ? ORDER BY made_at DESC"
    for made_at, way, has_joined, so_far, rating in _rows(store, sql, since):
        day = found.setdefault(datetime.fromtimestamp(made_at / 1e6, ZoneInfo(zone)).date(), Counter())
        day["message" if way == "direct" else "list"] += 1
        day[{None: "open", 0: "not_joined", 1: "joined"}[has_joined]] += 1
        if has_joined is None and so_far == 1:
            day["so_far"] += 1
        if rating is not None:
            day[rating] += 1
    return found


@dataclass(frozen=True)
class NoAlerts:
    """Why people who were likely enough got no message, by the reasons of docs/alerts.md."""

    born: int = 0
    """When the store was made, microseconds: it counts since then."""
    people: Mapping[int, int] = field(default_factory=dict)
    """People who turned alerts on (1) and off (0)."""
    listed: Mapping[str, int] = field(default_factory=dict)
    """Alerts of the last days that stand in a list, in place of a message."""
    passed: Mapping[str, int] = field(default_factory=dict)
    """People who were not alerted, each as often as that was so."""
    points: Mapping[str, int] = field(default_factory=dict)
    """Points to which nobody is alerted, whoever they are."""


def no_alerts(store: Path, since: int) -> NoAlerts:
    """Count them; those in lists since then (microseconds)."""
    passed, points = Counter[str](), Counter[str]()
    for name, count in _rows(store, "SELECT name, count FROM counted WHERE name LIKE 'passed:%' OR name LIKE 'refused:%'"):
        end, _, reason = name.partition(":")
        (points if end == "passed" and reason in OF_POINTS else passed)[reason] += count
    listed = "SELECT reason, count(*) FROM alert WHERE way = 'list' AND state = 'cleared' AND made_at >= ? GROUP BY reason"
    people = "SELECT opted_in, count(*) FROM person WHERE opted_in IS NOT NULL GROUP BY opted_in"
    born = next((at for (at,) in _rows(store, "SELECT at FROM birth")), 0)
    return NoAlerts(born, dict(_rows(store, people)), dict(_rows(store, listed, since)), dict(passed), dict(points))


def have_joined(store: Path) -> dict[str, bool]:
    """By the ids of alerts: whether the reader joined, as soon as that is known, which is within the day for who did."""
    sql = "SELECT id, joined FROM alert WHERE joined IS NOT NULL OR answered IS NOT NULL"
    return {identity: joined == 1 for identity, joined in _rows(store, sql)}


def _rows(store: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What a query finds; nothing, where there is no store yet."""
    if not store.exists():
        return []
    with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY)) as db:
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alert'").fetchall():
            return []  # it is being made
        return db.execute(sql, parameters).fetchall()
