"""A look at the alert store from another thread, for metrics."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from beepgpt.alerts.database import BUSY
from beepgpt.alerts.store import AlertStore


class AlertStoreView:
    """The committed state of a store that another thread writes; each method opens its own read-only connection."""

    def __init__(self, store: AlertStore) -> None:
        self._address = f"{store.path.resolve().as_uri()}?mode=ro"
        self._before = store.counts()

    def counts(self) -> dict[str, int]:
        """Counters since this view was made."""
        now = self._query("SELECT name, count FROM counted")
        return {name: count - self._before.get(name, 0) for name, count in now.items()}

    def feedback(self) -> dict[str, int]:
        """Alerts rated `good` and `bad` since the file was created; each alert counts by its last rating."""
        return self._query("SELECT substr(name, 10), count FROM counted WHERE name IN ('feedback:good', 'feedback:bad')")

    def people(self) -> dict[str, int]:
        """People who opted in (`in`) and out (`out`)."""
        sql = "SELECT iif(opted_in, 'in', 'out'), count(*) FROM person WHERE opted_in IS NOT NULL GROUP BY 1"
        return {"in": 0, "out": 0} | self._query(sql)

    def waiting(self) -> dict[str, int]:
        """Items left to process, by what they wait for."""
        return self._query(WAITING)

    def _query(self, sql: str) -> dict[str, int]:
        with closing(sqlite3.connect(self._address, uri=True, timeout=BUSY, isolation_level=None)) as db:
            return {str(row[0]): int(row[1]) for row in db.execute(sql)}


WAITING = """
    SELECT 'check', count(*) FROM alert WHERE state = 'due'
    UNION ALL SELECT 'letter', count(*) FROM letter WHERE state = 'due'
    UNION ALL SELECT 'doubt', count(*) FROM letter WHERE state = 'sending'
    UNION ALL SELECT 'change', count(*) FROM letter WHERE chore IS NOT NULL AND state IN ('sent', 'unknown')
    UNION ALL SELECT 'digest', count(*) FROM alert JOIN person USING (user)
        WHERE low = 'digest' AND way = 'list' AND letter IS NULL AND state = 'cleared'
    UNION ALL SELECT 'hand_on', count(*) FROM alert LEFT JOIN letter ON letter.id = alert.letter
        WHERE handed_on < 3 AND alert.state = 'cleared' AND (alert.way = 'list' OR letter.id IS NULL OR letter.state IN ('sent', 'unknown'))
    UNION ALL SELECT 'home', count(*) FROM person WHERE home_dirty = 1 AND home_opened = 1
"""
"""`check`: alerts not checked yet; `letter`, `doubt`, `change`: DMs to be sent, looked up, changed; `digest`, `hand_on`: alerts; `home`."""
