"""Who takes part in which conversation, in the alert store: by predictions, and by Slack's events before any point shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from beepgpt.alerts.database import AlertDatabase
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.rules import HOUR


class ParticipantStore(AlertDatabase):
    """Who wrote where, and which session holds a thread's root. It is kept as long as alerts are."""

    def record_participants(self, wrote: Iterable[tuple[str, str]], sessions: Mapping[str, str], at: int) -> None:
        """Note who wrote in which conversations (key, user), and the session that holds each thread's root."""
        rows = [(conversation, user, at) for conversation, user in wrote]
        again = "ON CONFLICT DO UPDATE SET at = max(at, excluded.at)"
        self._db.executemany(f"INSERT INTO speaker VALUES (?, ?, ?) {again}", rows)
        self._db.executemany(f"INSERT INTO session_of VALUES (?, ?, ?) {again}", [(*each, at) for each in sessions.items()])

    def record_post(self, channel: str, ts: int, thread: int | None, user: str) -> None:
        """Note that somebody wrote a message, as an event says; `thread`: the root it replies to, None for a root."""
        conversations = (f"{channel}:{ts_text(ts if thread is None else thread)}:thread", f"{channel}:channel:{ts // HOUR}")
        self.record_participants([(each, user) for each in conversations], {}, ts)
        if thread is None:
            self._db.execute("INSERT OR IGNORE INTO root VALUES (?, ?, ?)", (channel, ts, user))

    def took_part(self, user: str, conversations: Sequence[str], session_gap: int) -> bool:
        """Whether a person was seen to write in one of the conversations: by predictions, or by events that no point shows yet."""
        return any(
            self._one("SELECT 1 FROM speaker WHERE conversation = ? AND user = ?", each, user)
            or (each.endswith(":session") and self._wrote_root_in(user, each, session_gap))
            for each in conversations
        )

    def _wrote_root_in(self, user: str, session: str, gap: int) -> bool:
        """Whether one of a session's roots is a person's: each root up to theirs came at most `gap` after the one before."""
        channel, began, _ = session.rsplit(":", 2)
        try:
            since = micros(began)
        except ValueError:
            return False  # the scoring flow gives no session such a name
        (first,) = self._one("SELECT min(ts) FROM root WHERE channel = ? AND ts >= ? AND user = ?", channel, since, user)
        if first is None:
            return False
        sql = """SELECT max(ts - before) FROM
                 (SELECT ts, lag(ts, 1, ?) OVER (ORDER BY ts) AS before FROM root WHERE channel = ? AND ts BETWEEN ? AND ?)"""
        return bool(self._one(sql, since, channel, since, first)[0] <= gap)

    def session_of(self, thread: str) -> str | None:
        """The session that holds a thread's root, if it is known."""
        row = self._one("SELECT session FROM session_of WHERE thread = ?", thread)
        return None if row is None else str(row[0])
