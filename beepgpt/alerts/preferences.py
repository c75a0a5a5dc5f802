"""What people asked for: opting in and out, thresholds, limits, quiet hours, muted channels, topics; and the state of App Homes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from beepgpt.alerts.database import AlertDatabase, StoreRow
from beepgpt.alerts.decisions import Preferences, QuietHours

PREFERENCES = ("opted_in", "threshold", "per_hour", "quiet_from", "quiet_to", "zone", "low")
"""Columns of `person` that a person can set; `low` is what becomes of less likely alerts: `list` or `digest`."""


def quiet_hours_of(row: StoreRow) -> QuietHours | None:
    """A person's own quiet hours, if both ends are set."""
    return None if row["quiet_from"] is None or row["quiet_to"] is None else (row["quiet_from"], row["quiet_to"])


class PreferenceStore(AlertDatabase):
    """People's preferences in the alert store. They are kept until the person changes them."""

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        self._rows_by_user: dict[str, StoreRow] = {}
        self._muted: dict[str, frozenset[str]] = {}
        super().__init__(path, alone=alone)

    def drop_cache(self) -> None:
        """Read preferences anew: they were rolled back, or another process may have changed them."""
        self._rows_by_user, self._muted = {}, {}

    def preference_row(self, user: str) -> StoreRow:
        """A person's preferences by column; None where they set nothing."""
        if (row := self._rows_by_user.get(user)) is None:
            found = self._one(f"SELECT {', '.join(PREFERENCES)} FROM person WHERE user = ?", user)
            row = self._rows_by_user[user] = dict(found) if found is not None else dict.fromkeys(PREFERENCES)
        return row

    def preferences(self, user: str) -> Preferences:
        """A person's preferences, as a value."""
        row = self.preference_row(user)
        return Preferences(
            opted_in=None if row["opted_in"] is None else bool(row["opted_in"]),
            threshold=row["threshold"],
            per_hour=row["per_hour"],
            quiet=quiet_hours_of(row),
            zone=row["zone"],
            muted=self.muted(user),
        )

    def set_preferences(self, user: str, **values: Any) -> None:
        """Set preferences by column; None clears one. Raises ValueError for an unknown column."""
        self._db.execute("INSERT OR IGNORE INTO person (user) VALUES (?)", (user,))
        for name, value in values.items():
            if name not in PREFERENCES:
                raise ValueError(f"there is no preference {name}")
            self._db.execute(f"UPDATE person SET {name} = ?, home_dirty = 1 WHERE user = ?", (value, user))
        self._rows_by_user.pop(user, None)

    def muted(self, user: str) -> frozenset[str]:
        """The channels that a person muted."""
        if (channels := self._muted.get(user)) is None:
            channels = frozenset(row[0] for row in self._db.execute("SELECT channel FROM muted WHERE user = ?", (user,)))
            self._muted[user] = channels
        return channels

    def set_muted(self, user: str, channels: Iterable[str]) -> None:
        """Mute these channels for a person, and no others."""
        self._db.execute("DELETE FROM muted WHERE user = ?", (user,))
        self._db.executemany("INSERT OR IGNORE INTO muted VALUES (?, ?)", [(user, each) for each in channels])
        self._muted.pop(user, None)
        self.set_preferences(user)
        self.mark_home_stale(user)

    def topics(self, user: str | None = None) -> list[tuple[str, str]]:
        """Topics that people asked for, as (user, words); of one person, or of all."""
        rows = self._db.execute("SELECT user, words FROM topic WHERE ? IS NULL OR user = ? ORDER BY user, words", (user, user))
        return [(row[0], row[1]) for row in rows]

    def set_topic(self, user: str, words: str, *, wanted: bool = True) -> None:
        """Add a topic for a person, or remove it."""
        sql = "INSERT OR IGNORE INTO topic VALUES (?, ?)" if wanted else "DELETE FROM topic WHERE user = ? AND words = ?"
        self._db.execute(sql, (user, words))
        self.set_preferences(user)
        self.mark_home_stale(user)

    # App Home

    def note_home_opened(self, user: str) -> None:
        """A person looked at their App Home: publish it now, and keep it up to date from now on."""
        self.set_preferences(user)
        self._db.execute("UPDATE person SET home_opened = 1, home_dirty = 1 WHERE user = ?", (user,))

    def mark_home_stale(self, user: str) -> None:
        """What a person's App Home shows is no longer true."""
        self._db.execute("UPDATE person SET home_dirty = 1 WHERE user = ?", (user,))

    def mark_home_published(self, user: str) -> None:
        """A person's App Home shows what is true now."""
        self._db.execute("UPDATE person SET home_dirty = 0 WHERE user = ?", (user,))

    def stale_homes(self) -> list[str]:
        """People whose App Home is to be published: of those who opened theirs before."""
        return [row[0] for row in self._db.execute("SELECT user FROM person WHERE home_dirty = 1 AND home_opened = 1 ORDER BY user")]
