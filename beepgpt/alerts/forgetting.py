"""The alert store without what is forgotten."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.forgetting import Forgotten

OF_PEOPLE = ("person", "muted", "topic", "told", "speaker", "alert", "letter")
"""Tables with a column `user`: rows of a forgotten person go, what they asked for included; alerts go to people who opted in only."""
OF_CONVERSATIONS = (("speaker", "conversation"), ("session_of", "thread"), ("told", "key"), ("muted", "channel"))
"""Tables with a channel, or a conversation, which begins with its channel."""


class _OnlyCounted(Exception):
    """Ends a transaction without writing."""


def forget_in_store(path: Path, forgotten: Forgotten, now: int, *, apply: bool) -> int:
    """Remove what is forgotten from an alert store, and overwrite it in the file; returns how many rows changed or went.

    A forgotten message goes as if it had been deleted in Slack: its excerpt is emptied at once, and the next `beepgpt alert` deletes or
    changes the direct messages that show it. `now`: microseconds. Without `apply` rows are only counted. Raises BadAlertStore.
    """
    store = AlertStore(path, alone=apply)
    found = 0
    try:
        with suppress(_OnlyCounted), store.transaction():
            found = _forget(store, forgotten, now)
            if not apply:
                raise _OnlyCounted
        if apply:
            overwrite_deleted(store._db)
    finally:
        store.close()
    return found


def overwrite_deleted(database: sqlite3.Connection) -> None:
    """Leave nothing of deleted rows in a file: neither in free pages nor in its log."""
    database.execute("PRAGMA secure_delete = ON")
    database.execute("VACUUM")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _forget(store: AlertStore, forgotten: Forgotten, now: int) -> int:
    database, found = store._db, 0
    shown = database.execute(
        "SELECT DISTINCT m.channel, m.ts FROM alert_message AS m JOIN alert ON alert.id = m.alert"
        " WHERE alert.excerpt != '' OR (alert.ts = m.ts AND alert.state IN ('due', 'cleared'))"
        " UNION SELECT DISTINCT channel, ts FROM alert WHERE excerpt != ''"
    ).fetchall()
    for channel, ts in shown:
        if forgotten.has_channel(channel) or forgotten.has_message(channel, ts_text(ts)):
            database.execute(
                "INSERT OR IGNORE INTO alert_message SELECT channel, ts, id FROM alert WHERE channel = ? AND ts = ?", (channel, ts)
            )
            store.delete_message(channel, ts, now)
            found += 1
    for table in OF_PEOPLE:
        for (user,) in database.execute(f"SELECT DISTINCT user FROM {table}").fetchall():
            if forgotten.has_person(user):
                found += database.execute(f"DELETE FROM {table} WHERE user = ?", (user,)).rowcount
    database.execute("DELETE FROM alert_message WHERE alert NOT IN (SELECT id FROM alert)")
    for table, column in OF_CONVERSATIONS:
        for (name,) in database.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():
            channel, _, rest = name.partition(":")
            if forgotten.has_channel(channel) or (":" not in rest and forgotten.has_message(channel, rest)):
                found += database.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,)).rowcount
    return found
