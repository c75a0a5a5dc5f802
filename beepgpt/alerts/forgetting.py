"""The alert store without what is forgotten."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.forgetting import Forgotten

OF_PEOPLE = ("person", "muted", "topic", "told", "speaker", "root", "alert", "letter")
"""Tables with a column `user`: rows of a forgotten person go, what they asked for included; alerts go to people who opted in only."""
OF_CONVERSATIONS = (
    *(("speaker", "conversation"), ("session_of", "thread"), ("session_of", "session"), ("told", "key")),
    *(("muted", "channel"), ("root", "channel")),
)
"""Tables with a channel, or with what is named after its channel and a message: its time in microseconds, or a conversation it began."""


OF_MESSAGES = ("alert_message", "deleted", "root")
"""Tables with a channel and the time of a message in it, microseconds."""


class StoreForgetting(NamedTuple):
    """What was found in an alert store."""

    found: int
    """Rows that changed or went."""
    unknown: int
    """Excerpts that an older release wrote without their messages' authors, and that stay."""


def forget_in_store(path: Path, forgotten: Forgotten, now: int, *, apply: bool) -> StoreForgetting:
    """Remove what is forgotten from an alert store, and overwrite it in the file.

    A forgotten message goes as if it had been deleted in Slack: its excerpt is emptied at once, and the next `beepgpt alert` deletes or
    changes the direct messages that show it. An alert about it stays as a row that says who was alerted when, and no longer to what: limits
    and counts need it. `now`: microseconds. Without `apply` a copy in memory is looked through. Raises BadAlertStore.
    """
    store = AlertStore(path, alone=True) if apply else _copy_of(path)
    with closing(store):
        with store.transaction():
            found = _forget(store, forgotten, now)
        if apply:
            overwrite_deleted(store._db)
    return found


def _copy_of(path: Path) -> AlertStore:
    """A store's copy in memory, in the form of this version: the file stays as it is."""
    store = AlertStore(Path(":memory:"))
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as original:
        original.backup(store._db)
    store.migrate()
    return store


def overwrite_deleted(database: sqlite3.Connection) -> None:
    """Leave nothing of deleted rows in a file: neither in free pages nor in its log."""
    database.execute("PRAGMA secure_delete = ON")
    database.execute("VACUUM")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _forget(store: AlertStore, forgotten: Forgotten, now: int) -> StoreForgetting:
    database, found = store._db, 0
    shown = database.execute(
        "SELECT channel, ts, author FROM alert_message UNION SELECT channel, ts, NULL FROM alert WHERE channel != ''"
        " UNION SELECT channel, ts, NULL FROM deleted UNION SELECT channel, ts, user FROM root"
    ).fetchall()
    theirs = [(channel, ts) for channel, ts, author in shown if author is not None and forgotten.has_person(author)]
    for channel, ts in theirs:
        forgotten.note_message(channel, ts_text(ts))
    named = [(channel, ts) for channel, ts, _ in shown if forgotten.has_channel(channel) or forgotten.has_message(channel, ts_text(ts))]
    for channel, ts in dict.fromkeys(theirs + named):
        database.execute(
            "INSERT OR IGNORE INTO alert_message (channel, ts, alert) SELECT channel, ts, id FROM alert WHERE channel = ? AND ts = ?",
            (channel, ts),
        )
        store.delete_message(channel, ts, now)
        database.execute(
            "UPDATE alert SET channel = '', ts = 0, prompt_ts = 0, conversation = '', prediction = '', why = '', permalink = NULL"
            " WHERE channel = ? AND ts = ?",
            (channel, ts),
        )
        for table in OF_MESSAGES:
            database.execute(f"DELETE FROM {table} WHERE channel = ? AND ts = ?", (channel, ts))
        found += 1
    for row in store.alerts_with_excerpts():
        if forgotten.is_shown(row["channel"], ts_text(row["ts"]), [row["excerpt"]]):
            store.remove_excerpt(row, "update")  # its message stays, and says less
            found += 1
    for table in OF_PEOPLE:
        for (user,) in database.execute(f"SELECT DISTINCT user FROM {table}").fetchall():
            if forgotten.has_person(user):
                found += database.execute(f"DELETE FROM {table} WHERE user = ?", (user,)).rowcount
    database.execute("DELETE FROM alert_message WHERE alert NOT IN (SELECT id FROM alert)")
    for table, column in OF_CONVERSATIONS:
        for (name,) in database.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():
            channel, at = f"{name}:".split(":")[:2]
            if forgotten.has_channel(channel) or forgotten.has_message(channel, ts_text(int(at)) if at.isdigit() else at):
                found += database.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,)).rowcount
    unknown = "SELECT count(DISTINCT alert.id) FROM alert JOIN alert_message ON alert = id WHERE excerpt != '' AND author IS NULL"
    return StoreForgetting(found, int(database.execute(unknown).fetchone()[0]))
