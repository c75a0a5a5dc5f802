"""What became of the last days' alerts, day by day, read beside the process that writes their store."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from beepgpt.alerts.database import BUSY


def alerts_by_day(store: Path, since: int, zone: str) -> dict[date, Counter[str]]:
    """Counts of the alerts since then (microseconds) that were delivered, by the day on which they were, the newest first.

    `message` and `list`: how; `joined`, `not_joined`, `open`: whether the reader joined within a day, `open` until that is over; `good` and
    `bad`: the reader's rating.
    """
    found: dict[date, Counter[str]] = {}
    sql = "SELECT made_at, way, answered, feedback FROM alert WHERE state = 'cleared' AND made_at >= ? ORDER BY made_at DESC"
    for made_at, way, joined, rating in _rows(store, sql, since):
        day = found.setdefault(datetime.fromtimestamp(made_at / 1e6, ZoneInfo(zone)).date(), Counter())
        day["message" if way == "direct" else "list"] += 1
        day[{None: "open", 0: "not_joined", 1: "joined"}[joined]] += 1
        if rating is not None:
            day[rating] += 1
    return found


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
