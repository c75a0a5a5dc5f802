"""What became of alerts, read beside the process that writes their store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from beepgpt.alerts.by_day import NoAlerts, alerts_by_day, have_joined, no_alerts
from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.rules import DAY
from tests.support import MONDAY_AT_TEN


def test_a_store_that_is_being_made_has_no_alerts_yet(tmp_path: Path):
    """No file, and a file without tables, as it is for a moment."""
    assert alerts_by_day(tmp_path / "none.sqlite", 0, "UTC") == have_joined(tmp_path / "none.sqlite") == {}
    (empty := tmp_path / "empty.sqlite").touch()
    assert alerts_by_day(empty, 0, "UTC") == have_joined(empty) == {}
    assert no_alerts(empty, 0) == NoAlerts()


def test_who_joined_is_known_at_once_and_counts_once_the_day_is_over(tmp_path: Path):
    """Of one alert each: joined, and the day is over or not; not joined; answered before the alert came; not known."""
    with closing(AlertStore(tmp_path / "alerts.sqlite", now=MONDAY_AT_TEN)):
        pass
    rows = {"joined": (1, 1), "early": (None, 1), "not": (0, None), "before": (None, 0), "open": (None, None)}
    with closing(sqlite3.connect(tmp_path / "alerts.sqlite")) as db:
        for identity, (answered, joined) in rows.items():
            names = "id, user, kind, way, reason, state, prediction, conversation, channel, ts, prompt_ts, model, p, why, excerpt, made_at"
            marks = "?, 'U1', 'answer', 'direct', '', 'cleared', '', '', '', 0, 0, '', 0.5, '', '', ?"
            values = (identity, MONDAY_AT_TEN, answered, joined)
            db.execute(f"INSERT INTO alert ({names}, answered, joined) VALUES ({marks}, ?, ?)", values)
        db.commit()

    assert have_joined(tmp_path / "alerts.sqlite") == {"joined": True, "early": True, "not": False, "before": False}
    ((_, counts),) = alerts_by_day(tmp_path / "alerts.sqlite", MONDAY_AT_TEN - DAY, "UTC").items()
    assert counts == {"message": 5, "joined": 1, "not_joined": 1, "open": 3, "so_far": 1}
