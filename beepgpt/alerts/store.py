"""The alert store: what people asked for, who was alerted to what, and which direct messages (DMs) are queued, in flight or sent.

Everything that follows from a record, and how far it was read, is committed in one transaction: so each record is decided on once, through
any kill. A DM is marked as in flight before Slack is called, and as sent after; a kill between the two leaves it in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from beepgpt.alerts.database import AlertDatabase, StoreRow
from beepgpt.alerts.decisions import Preferences, QuietHours
from beepgpt.alerts.participants import ParticipantStore
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.rules import DAY, HOUR

PREFERENCES = ("opted_in", "threshold", "per_hour", "quiet_from", "quiet_to", "zone", "low")
"""Columns of `person` that a person can set; `low` is what becomes of less likely alerts: `list` or `digest`."""

OF_CHANNELS = (
    *(("muted", "channel"), ("alert", "channel"), ("alert_message", "channel"), ("deleted", "channel"), ("root", "channel")),
    *(("alert", "conversation"), ("told", "key"), ("speaker", "conversation"), ("session_of", "thread"), ("session_of", "session")),
)
"""Tables and their columns that hold a channel, or the name of something that begins with its channel and a colon."""


class SentMessage(Protocol):
    """A DM as it stands in Slack: its id, `alert` or `digest`, its time, and the keys of what it shows."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def ts(self) -> str: ...
    @property
    def keys(self) -> Sequence[str]: ...


def quiet_hours_of(row: StoreRow) -> QuietHours | None:
    """A person's own quiet hours, if both ends are set."""
    return None if row["quiet_from"] is None or row["quiet_to"] is None else (row["quiet_from"], row["quiet_to"])


class PreferenceStore(AlertDatabase):
    """People's preferences in the alert store. They are kept until the person changes them."""

    def __init__(self, path: Path, *, alone: bool = False, now: int | None = None) -> None:
        self._rows_by_user: dict[str, StoreRow] = {}
        self._muted: dict[str, frozenset[str]] = {}
        super().__init__(path, alone=alone, now=now)

    def drop_cache(self) -> None:
        """Read preferences again: they were rolled back, or another process may have changed them."""
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
        """Mark a person's App Home as out of date."""
        self._db.execute("UPDATE person SET home_dirty = 1 WHERE user = ?", (user,))

    def mark_home_published(self, user: str) -> None:
        """A person's App Home shows what is true now."""
        self._db.execute("UPDATE person SET home_dirty = 0 WHERE user = ?", (user,))

    def stale_homes(self) -> list[str]:
        """People whose App Home is to be published: of those who opened theirs before."""
        return [row[0] for row in self._db.execute("SELECT user FROM person WHERE home_dirty = 1 AND home_opened = 1 ORDER BY user")]


class AlertStore(PreferenceStore, ParticipantStore):
    """The alert store, open. Implements `beepgpt.alerts.decisions.AlertHistory`."""

    # Who was alerted

    def conversations_of(self, alert: StoreRow) -> tuple[str, ...]:
        """An alert's conversation and what counts as one with it by now: its session, and the threads of the messages that it shows."""
        if alert["conversation"].endswith(":channel"):
            return (f"{alert['conversation']}:{alert['ts'] // HOUR}",)
        shown = self._rows("SELECT channel, ts FROM alert_message WHERE alert = ?", alert["id"])
        threads = [alert["conversation"], *(f"{each['channel']}:{ts_text(each['ts'])}:thread" for each in shown)]
        return (*threads, *filter(None, map(self.session_of, threads)))

    def was_alerted(self, user: str, keys: Sequence[str]) -> bool:
        """Whether a person was alerted under one of the keys (see `beepgpt.alerts.predictions.keys_of`)."""
        return any(self._one("SELECT 1 FROM told WHERE user = ? AND key = ?", user, key) for key in keys)

    def direct_alerts(self, user: str, since: int, without: str = "") -> int:
        """How many direct messages a person got after `since` (microseconds), or is about to get, apart from the alert `without`.

        A message that they got counts even if its alert may not be shown any more.
        """
        sql = """SELECT count(*) FROM alert LEFT JOIN letter ON letter.id = alert.letter
                 WHERE alert.user = ? AND alert.made_at > ? AND way = 'direct' AND alert.id <> ?
                 AND (alert.state NOT LIKE 'refused:%' OR letter.state IN ('sending', 'sent', 'unknown', 'deleted'))"""
        return int(self._one(sql, user, since, without)[0])

    def is_deleted(self, channel: str, ts: int) -> bool:
        """Whether a message was deleted."""
        return self._one("SELECT 1 FROM deleted WHERE channel = ? AND ts = ?", channel, ts) is not None

    # What a lost store knew

    def lacks_history(self, user: str, now: int, kept: int) -> bool:
        """Whether DMs to a person may stand in Slack that this store knows nothing of: it is younger than what it would keep."""
        row = self._one("SELECT restored FROM person WHERE user = ?", user)
        return 0 <= now - self.born < kept and (row is None or not row[0])

    def restore_dms(self, user: str, dm: str, sent: Iterable[SentMessage]) -> None:
        """Note DMs that a store before this one sent to a person: they are not sent again, and count for the hourly limit."""
        for each in sent:
            at = micros(each.ts)
            letter = (each.id, user, each.kind, dm, each.ts, at, at)
            self._db.execute("INSERT OR IGNORE INTO letter VALUES (?, ?, ?, 'sent', ?, ?, ?, 1, NULL, ?)", letter)
            if each.kind == "alert":
                restored = (each.id, user, at, at, at, each.id)
                self._db.execute(
                    """INSERT INTO alert (id, user, kind, way, reason, state, prediction, conversation, channel, ts, prompt_ts,
                       model, p, why, excerpt, made_at, letter, handed_on)
                       VALUES (?, ?, 'answer', 'direct', 'restored', 'restored', '', '', '', ?, ?, '', 0, '', '', ?, ?, 3)
                       ON CONFLICT DO UPDATE SET letter = excluded.letter""",
                    restored,
                )
            again = "ON CONFLICT DO UPDATE SET at = min(at, excluded.at)"
            self._db.executemany(f"INSERT INTO told VALUES (?, ?, ?) {again}", [(user, key, at) for key in each.keys])
            self.count("direct_messages_restored")
        self.set_preferences(user)
        self._db.execute("UPDATE person SET restored = 1 WHERE user = ?", (user,))

    def was_sent_before(self, alert: StoreRow) -> bool:
        """Whether a store before this one sent the alert, or another one to its conversation."""
        if self._one("SELECT 1 FROM letter WHERE id = ? AND user = ?", alert["id"], alert["user"]):
            return True
        sql = "SELECT 1 FROM told WHERE user = ? AND key = ? AND at < ? AND at < ?"
        return any(self._one(sql, alert["user"], key, alert["made_at"], self.born) for key in self.keys_of_alert(alert))

    def keys_of_alert(self, alert: StoreRow) -> tuple[str, ...]:
        """The keys under which a person is alerted once, as `beepgpt.alerts.predictions.keys_of` makes them of a point."""
        return (f"{alert['channel']}:{alert['ts']}", *self.conversations_of(alert))

    # Alerts

    def add_alert(self, alert: Mapping[str, Any], keys: Sequence[str], messages: Iterable[tuple[int, str]]) -> bool:
        """Add an alert that is due, with the keys it counts under, and time and author of each message shown. Returns whether it is new."""
        columns = ("id", "user", "kind", "way", "reason", "prediction", "conversation", "channel", "ts", "prompt_ts", "model", "p", "why")
        names = (*columns, "excerpt", "made_at", "released_at")
        values = [alert.get(name) if name == "released_at" else alert[name] for name in names]
        sql = f"INSERT OR IGNORE INTO alert ({', '.join(names)}, state) VALUES ({', '.join('?' * len(names))}, 'due')"
        if not self._db.execute(sql, values).rowcount:
            return False
        alerted = [(alert["user"], key, alert["made_at"]) for key in keys]
        self._db.executemany("INSERT OR IGNORE INTO told VALUES (?, ?, ?)", alerted)
        shown = [(alert["channel"], ts, alert["id"], author) for ts, author in messages]
        self._db.executemany("INSERT OR IGNORE INTO alert_message (channel, ts, alert, author) VALUES (?, ?, ?, ?)", shown)
        return True

    def alerts_to_check(self) -> list[StoreRow]:
        """Alerts whose reader's membership is not checked yet, oldest first."""
        return self._rows("SELECT * FROM alert WHERE state = 'due' ORDER BY made_at, id LIMIT 1000")

    def refuse(self, identity: str, reason: str) -> None:
        """Drop an alert before delivery, with its excerpt."""
        self._is_wal_due = True
        self._db.execute("UPDATE alert SET state = ?, excerpt = '' WHERE id = ? AND state = 'due'", (f"refused:{reason}", identity))
        self.count(f"refused:{reason}")

    def revoke(self, identity: str, reason: str) -> None:
        """Drop an alert that was cleared and may no longer be shown, with its excerpt."""
        row = self._one(
            "UPDATE alert SET state = ?, excerpt = '' WHERE id = ? AND state = 'cleared' RETURNING user", f"refused:{reason}", identity
        )
        if row is not None:
            self._is_wal_due = True
            self.count(f"refused:{reason}")
            self.mark_home_stale(row[0])

    def downgrade_to_list(self, identity: str, reason: str) -> None:
        """Show an alert in App Home or the digest only, in the place of a DM."""
        self._db.execute("UPDATE alert SET way = 'list', reason = ? WHERE id = ?", (reason, identity))

    def clear(self, identity: str, permalink: str, *, dm: bool, now: int) -> None:
        """Mark an alert as checked and deliverable; with `dm`, queue a DM for it."""
        sql = "UPDATE alert SET state = 'cleared', permalink = ? WHERE id = ? AND state = 'due' RETURNING user"
        row = self._one(sql, permalink, identity)
        if row is None:
            return
        if dm:
            self.queue_dm(identity, row[0], "alert", [identity], now)
        self.mark_home_stale(row[0])

    def listed(self, user: str, since: int, most: int) -> list[StoreRow]:
        """A person's delivered and listed alerts, newest first."""
        sql = "SELECT * FROM alert WHERE user = ? AND made_at > ? AND state = 'cleared' ORDER BY made_at DESC, id LIMIT ?"
        return self._rows(sql, user, since, most)

    def alerts_to_forward(self, to: int) -> list[StoreRow]:
        """Alerts that were delivered and not yet forwarded to the `--to` destination (1) or the webhook (2)."""
        sql = """SELECT alert.* FROM alert LEFT JOIN letter ON letter.id = alert.letter
                 WHERE handed_on < 3 AND handed_on & ? = 0 AND alert.state = 'cleared'
                 AND (alert.way = 'list' OR letter.id IS NULL OR letter.state IN ('sent', 'unknown'))
                 ORDER BY alert.made_at, alert.id LIMIT 500"""
        return self._rows(sql, to)

    def mark_forwarded(self, identities: Iterable[str], to: int) -> None:
        """Note that alerts were forwarded: to the destination (1), the webhook (2), or both (3)."""
        self._db.executemany("UPDATE alert SET handed_on = handed_on | ? WHERE id = ?", [(to, each) for each in identities])

    def record_posts(self, channel: str, conversation: str, users: Sequence[str], at: int) -> None:
        """Note that people posted in a conversation: who was alerted to it, its session or its threads within a day before has joined.

        They count once their day is over (`record_time`), as those do who don't join: else the last day's alerts would look better. Who
        posted after the prompt and before the alert came to them has not joined, whatever they post later.
        """
        session = self.session_of(conversation) or conversation
        for user in users:
            sql = """SELECT alert.*, dm_ts FROM alert LEFT JOIN letter USING (id)
                     WHERE alert.user = ? AND channel = ? AND prompt_ts < ? AND prompt_ts >= ? AND joined IS NULL"""
            for row in self._rows(sql, user, channel, at, at - DAY):
                if (self.session_of(row["conversation"]) or row["conversation"]) == session:
                    alerted_at = micros(row["dm_ts"]) if row["dm_ts"] else row["made_at"]
                    self._db.execute("UPDATE alert SET joined = ? WHERE id = ?", (at > alerted_at, row["id"]))

    def record_time(self, channel: str, now: int) -> None:
        """Note that all is known of a channel up to `now`: count whether those who were alerted more than a day before have joined."""
        sql = "SELECT * FROM alert WHERE channel = ? AND prompt_ts <= ? AND answered IS NULL"
        for row in self._rows(sql, channel, now - DAY):
            self._settle(row, "answered", row["joined"] == 1)

    def record_reactions(self, prediction: str, users: Sequence[str]) -> None:
        """Note who reacted within the horizon of a prediction of the target `reactors`. It joins nothing, and is a figure of its own."""
        for row in self._rows("SELECT * FROM alert WHERE prediction = ? AND reacted IS NULL", prediction):
            self._settle(row, "reacted", row["user"] in users)

    def _settle(self, alert: StoreRow, what: str, is_so: bool) -> None:
        """Note and count what an alert's reader did. An alert that was refused or withdrawn reached nobody, and counts nowhere."""
        self._db.execute(f"UPDATE alert SET {what} = ? WHERE id = ?", (is_so, alert["id"]))
        if alert["state"] in ("due", "cleared"):
            self.count(f"{alert['kind']}:{'' if is_so else 'not_'}{what}")

    def record_feedback(self, identity: str, user: str, feedback: str) -> None:
        """Note a person's rating of an alert; the last one counts."""
        row = self._one("SELECT feedback FROM alert WHERE id = ? AND user = ?", identity, user)
        if row is None:
            self.count("feedback:unknown_alert")
            return
        if row[0] == feedback:
            return
        if row[0] is not None:
            self.count(f"feedback:{row[0]}", -1)
        self._db.execute("UPDATE alert SET feedback = ? WHERE id = ?", (feedback, identity))
        self.count(f"feedback:{feedback}")

    def delete_message(self, channel: str, ts: int, now: int) -> None:
        """Remove a deleted message from everything that shows it, and have the DMs about it changed or deleted."""
        self._db.execute("INSERT OR IGNORE INTO deleted VALUES (?, ?, ?)", (channel, ts, now))
        sql = "SELECT alert.* FROM alert_message AS shown JOIN alert ON alert.id = shown.alert WHERE shown.channel = ? AND shown.ts = ?"
        for row in self._rows(sql, channel, ts):
            if row["ts"] == ts and row["state"] in ("due", "cleared"):
                self._db.execute("UPDATE alert SET state = 'withdrawn' WHERE id = ?", (row["id"],))
                self.count("withdrawn")
            self.remove_excerpt(row, "delete" if row["ts"] == ts and row["letter"] == row["id"] else "update")

    def forget_prediction(self, prediction: str) -> None:
        """Remove what alerts show of a prediction that is gone; they stay as links, since their message may still be there."""
        for row in self._rows("SELECT * FROM alert WHERE prediction = ? AND excerpt <> ''", prediction):
            self.remove_excerpt(row, "update")

    def alerts_with_excerpts(self) -> list[StoreRow]:
        """All alerts that show a text."""
        return self._rows("SELECT * FROM alert WHERE excerpt <> ''")

    def remove_excerpt(self, row: StoreRow, chore: str) -> None:
        """Remove an alert's text, and have its DM changed (`update`) or deleted (`delete`)."""
        self._is_wal_due = True
        self._db.execute("UPDATE alert SET excerpt = '' WHERE id = ?", (row["id"],))
        if row["letter"] is not None:
            self._db.execute(
                """UPDATE letter SET chore = ? WHERE id = ? AND state IN ('due', 'sending', 'sent', 'unknown')
                   AND chore IS NOT 'delete'""",
                (chore, row["letter"]),
            )
        self.mark_home_stale(row["user"])

    def edit_message(self, channel: str, ts: int, excerpt: str, at: int, *, is_edit: bool) -> None:
        """Show a message's text as of `at` in every alert about it, except where the excerpt is gone for good.

        `is_edit`: the text comes from the edit itself. One from a prediction changes nothing after an edit, since the flow may have dropped
        that edit as late.
        """
        sql = """UPDATE alert SET excerpt = ?, excerpt_at = ?, edited_at = iif(?, ?, edited_at)
                 WHERE (? OR edited_at IS NULL)
                 AND id IN (SELECT alert FROM alert_message WHERE channel = ? AND ts = ?) AND ts = ? AND state IN ('due', 'cleared')
                 AND excerpt NOT IN ('', ?) AND prompt_ts < ? AND coalesce(excerpt_at, 0) < ? RETURNING user, letter"""
        for row in self._rows(sql, excerpt, at, is_edit, at, is_edit, channel, ts, ts, excerpt, at, at):
            self._is_wal_due = True
            self.count("excerpts_changed")
            self._db.execute(
                "UPDATE letter SET chore = 'edit' WHERE id = ? AND state IN ('sending', 'sent') AND chore IS NULL", (row["letter"],)
            )
            self.mark_home_stale(row["user"])

    def move_channel(self, old: str, new: str) -> None:
        """Put everything about a channel under its new id: who muted it, who takes part, and which messages alerts show."""
        for (user,) in self._db.execute("SELECT user FROM muted WHERE channel = ?", (old,)).fetchall():
            self.mark_home_stale(user)
        for table, column in OF_CHANNELS:
            self._db.execute(
                f"UPDATE OR REPLACE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (new, len(old) + 1, old, len(old) + 1, f"{old}:"),
            )
        self.drop_cache()

    # Direct messages

    def queue_dm(self, identity: str, user: str, kind: str, alerts: Sequence[str], now: int) -> None:
        """Queue a DM (`alert` or `digest`) that shows these alerts."""
        self._db.execute(
            "INSERT OR IGNORE INTO letter (id, user, kind, state, made_at) VALUES (?, ?, ?, 'due', ?)", (identity, user, kind, now)
        )
        self._db.executemany("UPDATE alert SET letter = ? WHERE id = ?", [(identity, each) for each in alerts])

    def dms(self, state: str) -> list[StoreRow]:
        """DMs in a state (`due`, `sending`: in flight, `sent`, `unknown`, …), oldest first."""
        return self._rows("SELECT * FROM letter WHERE state = ? ORDER BY made_at, id LIMIT 1000", state)

    def alerts_in_dm(self, identity: str) -> list[StoreRow]:
        """The alerts that a DM shows and that still stand."""
        return self._rows("SELECT * FROM alert WHERE letter = ? AND state = 'cleared' ORDER BY made_at, id", identity)

    def dms_to_change(self) -> list[StoreRow]:
        """Sent DMs to be changed or deleted; those that show a deleted message first."""
        sql = "SELECT * FROM letter WHERE chore IS NOT NULL AND state = 'sent' ORDER BY chore = 'edit', chore, made_at, id LIMIT 1000"
        return self._rows(sql)

    def unconfirmed_dms_to_change(self) -> list[StoreRow]:
        """DMs never confirmed as sent, to be changed or deleted if they are found after all."""
        return self._rows("SELECT * FROM letter WHERE chore IS NOT NULL AND state = 'unknown' ORDER BY made_at, id LIMIT 1000")

    def mark_in_flight(self, identity: str, dm: str, now: int) -> None:
        """Mark a DM as in flight, before Slack is called."""
        self._db.execute("UPDATE letter SET state = 'sending', dm = ?, tried_at = ?, tries = tries + 1 WHERE id = ?", (dm, now, identity))

    def mark_sent(self, identity: str, dm_ts: str) -> None:
        """Mark a DM as sent: it stands in the conversation as message `dm_ts`."""
        sql = "UPDATE letter SET state = 'sent', dm_ts = ? WHERE id = ? AND state <> 'sent' RETURNING kind"
        row = self._one(sql, dm_ts, identity)
        self.count("letters_sent")
        if row is not None:
            self.count(f"told:{'digest' if row[0] == 'digest' else 'slack'}", len(self.alerts_in_dm(identity)))

    def mark_not_sent(self, identity: str, state: str) -> None:
        """Mark a DM as certainly not sent (`due` again), or given up: `unknown`, or `refused:` and the reason."""
        self._db.execute("UPDATE letter SET state = ? WHERE id = ?", (state, identity))
        if state != "due":
            self.count(f"letters_{state}")

    def undo_try(self, identity: str) -> None:
        """Requeue a DM that Slack refused for its rate limit; that counts as no try."""
        self._db.execute("UPDATE letter SET state = 'due', tries = tries - 1 WHERE id = ? AND state = 'sending'", (identity,))

    def mark_changed(self, identity: str, state: str) -> None:
        """Note that a DM was changed, deleted or given up, and is now in `state`."""
        self._db.execute("UPDATE letter SET chore = NULL, state = ? WHERE id = ?", (state, identity))

    def alert_states(self) -> dict[str, int]:
        """How many of the kept alerts are in each state."""
        return {row[0]: row[1] for row in self._db.execute("SELECT state, count(*) FROM alert GROUP BY state ORDER BY state")}

    # Digests

    def users_awaiting_digest(self) -> list[str]:
        """People who chose a daily digest and have alerts for one."""
        sql = """SELECT DISTINCT user FROM person JOIN alert USING (user)
                 WHERE low = 'digest' AND alert.way = 'list' AND alert.letter IS NULL AND alert.state = 'cleared' ORDER BY user"""
        return [row[0] for row in self._db.execute(sql)]

    def alerts_for_digest(self, user: str, since: int, most: int) -> list[StoreRow]:
        """A person's listed alerts since `since` that no DM has shown, likeliest first."""
        sql = """SELECT * FROM alert WHERE user = ? AND way = 'list' AND letter IS NULL AND state = 'cleared' AND made_at > ?
                 ORDER BY p DESC, made_at DESC, id LIMIT ?"""
        return self._rows(sql, user, since, most)

    def last_digest(self, user: str) -> str:
        """The local day of a person's last digest; empty if they had none."""
        row = self._one("SELECT digested FROM person WHERE user = ?", user)
        return "" if row is None else str(row[0])

    def set_last_digest(self, user: str, day: str) -> None:
        """Note the local day on which a person got a digest."""
        self._db.execute("UPDATE person SET digested = ? WHERE user = ?", (day, user))

    # Word counts

    def word_counts(self) -> dict[int, int]:
        """In how many messages each word bucket stood; under -1, the number of messages."""
        return {row[0]: row[1] for row in self._db.execute("SELECT bucket, count FROM word")}

    def count_words(self, buckets: Iterable[int]) -> None:
        """Count one message's word buckets."""
        again = "ON CONFLICT DO UPDATE SET count = count + 1"
        self._db.executemany(f"INSERT INTO word VALUES (?, 1) {again}", [(bucket,) for bucket in (-1, *buckets)])

    # Forgetting

    def forget_before(self, before: int) -> None:
        """Delete everything older than this (microseconds), except preferences."""
        self._is_wal_due = True
        for table, at in (("told", "at"), ("speaker", "at"), ("session_of", "at"), ("deleted", "at"), ("root", "ts")):
            self._db.execute(f"DELETE FROM {table} WHERE {at} < ?", (before,))
        old = "SELECT id FROM alert WHERE made_at < ?"
        self._db.execute(f"DELETE FROM alert_message WHERE alert IN ({old})", (before,))
        self._db.execute("DELETE FROM letter WHERE made_at < ?", (before,))
        self._db.execute("DELETE FROM alert WHERE made_at < ?", (before,))
