"""What has to be remembered about alerts, in one SQLite file: what people asked for, what they were told, and how far reading came.

All that follows from a record, and how far it was read, is written in one transaction: so a record is decided on once, through any
kill. A letter (a direct message) is written down before it is sent, and its answer after; between the two it is in doubt.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from beepgpt.errors import BeepGPTError
from beepgpt.locks import lock

BUSY = 30.0
"""Seconds for which another process may hold the file."""

SCHEMA = (
    """
    CREATE TABLE person (
        user TEXT PRIMARY KEY, opted_in INTEGER, threshold REAL, per_hour INTEGER, quiet_from INTEGER, quiet_to INTEGER, zone TEXT,
        low TEXT, home_opened INTEGER NOT NULL DEFAULT 0, home_dirty INTEGER NOT NULL DEFAULT 0, digested TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE TABLE muted (user TEXT, channel TEXT, PRIMARY KEY (user, channel)) STRICT, WITHOUT ROWID;
    CREATE TABLE topic (user TEXT, words TEXT, PRIMARY KEY (user, words)) STRICT, WITHOUT ROWID;
    CREATE TABLE alert (
        id TEXT PRIMARY KEY, user TEXT NOT NULL, kind TEXT NOT NULL, way TEXT NOT NULL, reason TEXT NOT NULL, state TEXT NOT NULL,
        prediction TEXT NOT NULL, conversation TEXT NOT NULL, channel TEXT NOT NULL, ts INTEGER NOT NULL, prompt_ts INTEGER NOT NULL,
        model TEXT NOT NULL, p REAL NOT NULL, why TEXT NOT NULL, excerpt TEXT NOT NULL, made_at INTEGER NOT NULL, permalink TEXT,
        letter TEXT, handed_on INTEGER NOT NULL DEFAULT 0, answered INTEGER, feedback TEXT
    ) STRICT;
    CREATE INDEX alert_of_user ON alert (user, made_at);
    CREATE INDEX alert_by_state ON alert (state) WHERE state = 'due';
    CREATE INDEX alert_of_letter ON alert (letter);
    CREATE INDEX alert_of_prediction ON alert (prediction);
    CREATE INDEX alert_to_hand_on ON alert (handed_on) WHERE handed_on < 3;
    CREATE TABLE alert_message (channel TEXT, ts INTEGER, alert TEXT, PRIMARY KEY (channel, ts, alert)) STRICT, WITHOUT ROWID;
    CREATE TABLE told (user TEXT, key TEXT, at INTEGER NOT NULL, PRIMARY KEY (user, key)) STRICT, WITHOUT ROWID;
    CREATE TABLE speaker (conversation TEXT, user TEXT, at INTEGER NOT NULL, PRIMARY KEY (conversation, user)) STRICT, WITHOUT ROWID;
    CREATE TABLE session_of (thread TEXT PRIMARY KEY, session TEXT NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE deleted (channel TEXT, ts INTEGER, at INTEGER NOT NULL, PRIMARY KEY (channel, ts)) STRICT, WITHOUT ROWID;
    CREATE TABLE letter (
        id TEXT PRIMARY KEY, user TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, dm TEXT, dm_ts TEXT, tried_at INTEGER,
        tries INTEGER NOT NULL DEFAULT 0, chore TEXT, made_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX letter_by_state ON letter (state) WHERE state IN ('due', 'sending');
    CREATE INDEX letter_with_chore ON letter (chore) WHERE chore IS NOT NULL;
    CREATE TABLE place (source TEXT, part TEXT, state TEXT NOT NULL, PRIMARY KEY (source, part)) STRICT, WITHOUT ROWID;
    CREATE TABLE counted (name TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE word (bucket INTEGER PRIMARY KEY, count INTEGER NOT NULL) STRICT;
    """,
    "ALTER TABLE alert ADD COLUMN released_at INTEGER; ALTER TABLE alert ADD COLUMN excerpt_at INTEGER",
    "ALTER TABLE alert ADD COLUMN edited_at INTEGER",
)
"""The statements that lead from each version to the next."""
VERSION = len(SCHEMA)

WISHES = ("opted_in", "threshold", "per_hour", "quiet_from", "quiet_to", "zone", "low")
"""What a person can ask for, as columns."""

StoreRow = dict[str, Any]


class BadAlertStore(BeepGPTError):
    """The file can't be used; the message names it and says what to do."""


def _locked(path: Path) -> int:
    """Locks the store for this process."""
    beside = path.with_name(f"{path.name}.lock")
    in_use = BadAlertStore(f"{path}: another beepgpt alert has it: stop that one first, or people would be told twice")
    try:
        return lock(beside, in_use, mode=0o600)
    except OSError as error:
        raise BadAlertStore(f"{beside}: can't be written ({error.strerror}): check the folder, or name another store") from error


class AlertStore:
    """The file, open."""

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        """Made if it isn't there. `alone`: who sends letters has it alone, or they would be sent twice. Raises BadStore."""
        self.path = path
        self._lock = _locked(path) if alone else None
        try:
            self._db = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")  # what was deleted in Slack is not to be found in the file
            self._upgrade()
        except sqlite3.Error as error:
            raise BadAlertStore(f"{path}: is no store of alerts, or can't be opened ({error}): name another file") from error
        self._asked: dict[str, StoreRow] = {}
        self._muted: dict[str, frozenset[str]] = {}

    def _upgrade(self) -> None:
        with self.transaction():
            version = self._one("PRAGMA user_version")[0]
            if version > VERSION:
                raise BadAlertStore(
                    f"{self.path}: was written by a newer beepgpt (version {version}, and this one knows {VERSION}): run that one, or name"
                    " another file: what people asked for is then forgotten, and nobody is told twice of anything older than max_alert_age"
                )
            if version == 0 and self._db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                raise BadAlertStore(f"{self.path}: is another program's database: name another file")
            for step in SCHEMA[version:]:
                for statement in step.split(";"):  # executescript would end the transaction
                    if statement.strip():
                        self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Nothing is lost without it."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in here, or nothing; one within another is a part of it."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            self.forget_cached()
            raise
        self._db.execute("COMMIT")

    def forget_cached(self) -> None:
        """What people asked for is read anew: another process may have changed it."""
        self._asked, self._muted = {}, {}

    def _one(self, sql: str, *values: Any) -> Any:
        return self._db.execute(sql, values).fetchone()

    def _rows(self, sql: str, *values: Any) -> list[StoreRow]:
        return [dict(row) for row in self._db.execute(sql, values)]

    # How far reading came

    def place(self, source: str, part: str) -> Any:
        """Where the reading of a part of a source stands; None: at its beginning."""
        row = self._one("SELECT state FROM place WHERE source = ? AND part = ?", source, part)
        return None if row is None else json.loads(row[0])

    def set_place(self, source: str, part: str, state: Any) -> None:
        """To be told in the transaction of what was read."""
        self._db.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (source, part, json.dumps(state)))

    def count(self, name: str, times: int = 1) -> None:
        """Once more, or so many times."""
        self._db.execute("INSERT INTO counted VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count", (name, times))

    def counts(self) -> dict[str, int]:
        """All that was counted since the file was made."""
        return {row["name"]: row["count"] for row in self._db.execute("SELECT name, count FROM counted ORDER BY name")}

    # What people asked for

    def asked(self, user: str) -> StoreRow:
        """What a person asked for, by column; None for what they said nothing about."""
        if (row := self._asked.get(user)) is None:
            found = self._one(f"SELECT {', '.join(WISHES)} FROM person WHERE user = ?", user)
            row = self._asked[user] = dict(found) if found is not None else dict.fromkeys(WISHES)
        return row

    def ask(self, user: str, **wishes: Any) -> None:
        """Something is asked for; None takes it back."""
        self._db.execute("INSERT OR IGNORE INTO person (user) VALUES (?)", (user,))
        for name, value in wishes.items():
            if name not in WISHES:
                raise ValueError(f"nobody can ask for {name}")
            self._db.execute(f"UPDATE person SET {name} = ?, home_dirty = 1 WHERE user = ?", (value, user))
        self._asked.pop(user, None)

    def muted(self, user: str) -> frozenset[str]:
        """The channels of which they want to hear nothing."""
        if (channels := self._muted.get(user)) is None:
            channels = frozenset(row[0] for row in self._db.execute("SELECT channel FROM muted WHERE user = ?", (user,)))
            self._muted[user] = channels
        return channels

    def mute(self, user: str, channels: Iterable[str]) -> None:
        """These, and no others."""
        self._db.execute("DELETE FROM muted WHERE user = ?", (user,))
        self._db.executemany("INSERT OR IGNORE INTO muted VALUES (?, ?)", [(user, each) for each in channels])
        self._muted.pop(user, None)
        self.ask(user)
        self.spoil_home(user)

    def topics(self, user: str | None = None) -> list[tuple[str, str]]:
        """Who asked for what in words."""
        rows = self._db.execute("SELECT user, words FROM topic WHERE ? IS NULL OR user = ? ORDER BY user, words", (user, user))
        return [(row[0], row[1]) for row in rows]

    def ask_topic(self, user: str, words: str, *, wanted: bool = True) -> None:
        """A topic in words, or not any more."""
        sql = "INSERT OR IGNORE INTO topic VALUES (?, ?)" if wanted else "DELETE FROM topic WHERE user = ? AND words = ?"
        self._db.execute(sql, (user, words))
        self.ask(user)
        self.spoil_home(user)

    # App Home

    def open_home(self, user: str) -> None:
        """They look at it, so that it has to be up to date from now on."""
        self.ask(user)
        self._db.execute("UPDATE person SET home_opened = 1, home_dirty = 1 WHERE user = ?", (user,))

    def spoil_home(self, user: str) -> None:
        """What stands there is no longer true."""
        self._db.execute("UPDATE person SET home_dirty = 1 WHERE user = ?", (user,))

    def spoilt_homes(self) -> list[str]:
        """Of people who looked at theirs before."""
        return [row[0] for row in self._db.execute("SELECT user FROM person WHERE home_dirty = 1 AND home_opened = 1 ORDER BY user")]

    def home_is_up_to_date(self, user: str) -> None:
        """It was published as it is now."""
        self._db.execute("UPDATE person SET home_dirty = 0 WHERE user = ?", (user,))

    # What was seen and told

    def see(self, conversations: Sequence[str], users: Iterable[str], sessions: Mapping[str, str], at: int) -> None:
        """Who wrote where, and which threads' roots stand in which session."""
        rows = [(conversation, user, at) for conversation in conversations for user in users]
        again = "ON CONFLICT DO UPDATE SET at = max(at, excluded.at)"
        self._db.executemany(f"INSERT INTO speaker VALUES (?, ?, ?) {again}", rows)
        self._db.executemany(f"INSERT INTO session_of VALUES (?, ?, ?) {again}", [(*each, at) for each in sessions.items()])

    def took_part(self, user: str, conversations: Sequence[str]) -> bool:
        """Whether they were seen to write there."""
        return any(self._one("SELECT 1 FROM speaker WHERE conversation = ? AND user = ?", each, user) for each in conversations)

    def session_of(self, thread: str) -> str | None:
        """Where a thread's root stands."""
        row = self._one("SELECT session FROM session_of WHERE thread = ?", thread)
        return None if row is None else str(row[0])

    def was_told(self, user: str, keys: Sequence[str]) -> bool:
        """Whether they were told of any of it."""
        return any(self._one("SELECT 1 FROM told WHERE user = ? AND key = ?", user, key) for key in keys)

    def told_directly(self, user: str, since: int) -> int:
        """How often they were told at once after `since`, or are to be."""
        sql = "SELECT count(*) FROM alert WHERE user = ? AND made_at > ? AND way = 'direct' AND state NOT LIKE 'refused:%'"
        return int(self._one(sql, user, since)[0])

    def is_deleted(self, channel: str, ts: int) -> bool:
        """Whether a message is gone."""
        return self._one("SELECT 1 FROM deleted WHERE channel = ? AND ts = ?", channel, ts) is not None

    # Alerts

    def add(self, alert: Mapping[str, Any], keys: Sequence[str], messages: Iterable[int]) -> bool:
        """An alert that is due, and by what it counts as told; whether it is new."""
        columns = ("id", "user", "kind", "way", "reason", "prediction", "conversation", "channel", "ts", "prompt_ts", "model", "p", "why")
        names = (*columns, "excerpt", "made_at", "released_at")
        values = [alert.get(name) if name == "released_at" else alert[name] for name in names]
        sql = f"INSERT OR IGNORE INTO alert ({', '.join(names)}, state) VALUES ({', '.join('?' * len(names))}, 'due')"
        if not self._db.execute(sql, values).rowcount:
            return False
        told = [(alert["user"], key, alert["made_at"]) for key in keys]
        self._db.executemany("INSERT OR IGNORE INTO told VALUES (?, ?, ?)", told)
        shown = [(alert["channel"], ts, alert["id"]) for ts in messages]
        self._db.executemany("INSERT OR IGNORE INTO alert_message VALUES (?, ?, ?)", shown)
        return True

    def due(self) -> list[StoreRow]:
        """Alerts of which it is not yet known whether they may be given, oldest first."""
        return self._rows("SELECT * FROM alert WHERE state = 'due' ORDER BY made_at, id LIMIT 1000")

    def alert(self, identity: str) -> StoreRow | None:
        """One of them."""
        rows = self._rows("SELECT * FROM alert WHERE id = ?", identity)
        return rows[0] if rows else None

    def refuse(self, identity: str, reason: str) -> None:
        """It is not given after all; its text is forgotten."""
        self._db.execute("UPDATE alert SET state = ?, excerpt = '' WHERE id = ? AND state = 'due'", (f"refused:{reason}", identity))
        self.count(f"refused:{reason}")

    def revoke(self, identity: str, reason: str) -> None:
        """It was to be given, or stands in a list, and no longer may; its text is forgotten."""
        row = self._one(
            "UPDATE alert SET state = ?, excerpt = '' WHERE id = ? AND state = 'cleared' RETURNING user", f"refused:{reason}", identity
        )
        if row is not None:
            self.count(f"refused:{reason}")
            self.spoil_home(row[0])

    def list_only(self, identity: str, reason: str) -> None:
        """It is not to be told at once after all."""
        self._db.execute("UPDATE alert SET way = 'list', reason = ? WHERE id = ?", (reason, identity))

    def clear(self, identity: str, permalink: str, *, letter: bool, now: int) -> None:
        """It may be given: by a letter, or in silence."""
        sql = "UPDATE alert SET state = 'cleared', permalink = ? WHERE id = ? AND state = 'due' RETURNING user"
        row = self._one(sql, permalink, identity)
        if row is None:
            return
        if letter:
            self.write_letter(identity, row[0], "alert", [identity], now)
        self.spoil_home(row[0])

    def listed(self, user: str, since: int, most: int) -> list[StoreRow]:
        """What they were told, and what is listed for them, newest first."""
        sql = "SELECT * FROM alert WHERE user = ? AND made_at > ? AND state = 'cleared' ORDER BY made_at DESC, id LIMIT ?"
        return self._rows(sql, user, since, most)

    def to_hand_on(self, to: int) -> list[StoreRow]:
        """Alerts that were given, and that the topic (1) or the webhook (2) hasn't heard of."""
        sql = """SELECT alert.* FROM alert LEFT JOIN letter ON letter.id = alert.letter
                 WHERE handed_on < 3 AND handed_on & ? = 0 AND alert.state = 'cleared'
                 AND (alert.way = 'list' OR letter.id IS NULL OR letter.state IN ('sent', 'unknown'))
                 ORDER BY alert.made_at, alert.id LIMIT 500"""
        return self._rows(sql, to)

    def handed_on(self, identities: Iterable[str], to: int) -> None:
        """It has."""
        self._db.executemany("UPDATE alert SET handed_on = handed_on | ? WHERE id = ?", [(to, each) for each in identities])

    def settle(self, prediction: str, answer: Sequence[str]) -> None:
        """What happened: whether who was told answered."""
        for row in self._rows("SELECT id, user, kind FROM alert WHERE prediction = ? AND answered IS NULL", prediction):
            answered = row["user"] in answer
            self._db.execute("UPDATE alert SET answered = ? WHERE id = ?", (answered, row["id"]))
            self.count(f"{row['kind']}:{'answered' if answered else 'not_answered'}")

    def give_feedback(self, identity: str, user: str, feedback: str) -> None:
        """What they thought of it; the last word counts."""
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
        """A message is gone, and so is it from everything that shows it."""
        self._db.execute("INSERT OR IGNORE INTO deleted VALUES (?, ?, ?)", (channel, ts, now))
        sql = "SELECT alert.* FROM alert_message AS shown JOIN alert ON alert.id = shown.alert WHERE shown.channel = ? AND shown.ts = ?"
        for row in self._rows(sql, channel, ts):
            self._db.execute("UPDATE alert SET excerpt = '' WHERE id = ?", (row["id"],))
            if row["ts"] == ts and row["state"] in ("due", "cleared"):
                self._db.execute("UPDATE alert SET state = 'withdrawn' WHERE id = ?", (row["id"],))
                self.count("withdrawn")
            if row["letter"] is not None:
                chore = "delete" if row["ts"] == ts and row["letter"] == row["id"] else "update"
                self._db.execute(
                    """UPDATE letter SET chore = ? WHERE id = ? AND state IN ('due', 'sending', 'sent', 'unknown')
                       AND chore IS NOT 'delete'""",
                    (chore, row["letter"]),
                )
            self.spoil_home(row["user"])

    def edit_message(self, channel: str, ts: int, excerpt: str, at: int, *, is_edit: bool) -> None:
        """A message says something else since `at`: so does every alert about it, but one whose excerpt is gone for good.

        `is_edit`: it is the edit that says so. A prediction knows none that came too late for the flow, and changes nothing after one.
        """
        sql = """UPDATE alert SET excerpt = ?, excerpt_at = ?, edited_at = iif(?, ?, edited_at)
                 WHERE (? OR edited_at IS NULL)
                 AND id IN (SELECT alert FROM alert_message WHERE channel = ? AND ts = ?) AND ts = ? AND state IN ('due', 'cleared')
                 AND excerpt NOT IN ('', ?) AND prompt_ts < ? AND coalesce(excerpt_at, 0) < ? RETURNING user, letter"""
        for row in self._rows(sql, excerpt, at, is_edit, at, is_edit, channel, ts, ts, excerpt, at, at):
            self.count("excerpts_changed")
            self._db.execute(
                "UPDATE letter SET chore = 'edit' WHERE id = ? AND state IN ('sending', 'sent') AND chore IS NULL", (row["letter"],)
            )
            self.spoil_home(row["user"])

    # Letters

    def write_letter(self, identity: str, user: str, kind: str, alerts: Sequence[str], now: int) -> None:
        """A direct message that is to be sent, and which alerts it tells of."""
        self._db.execute(
            "INSERT OR IGNORE INTO letter (id, user, kind, state, made_at) VALUES (?, ?, ?, 'due', ?)", (identity, user, kind, now)
        )
        self._db.executemany("UPDATE alert SET letter = ? WHERE id = ?", [(identity, each) for each in alerts])

    def letters(self, state: str) -> list[StoreRow]:
        """In this state, oldest first."""
        return self._rows("SELECT * FROM letter WHERE state = ? ORDER BY made_at, id LIMIT 1000", state)

    def letter(self, identity: str) -> StoreRow | None:
        """One of them."""
        rows = self._rows("SELECT * FROM letter WHERE id = ?", identity)
        return rows[0] if rows else None

    def in_letter(self, identity: str) -> list[StoreRow]:
        """The alerts that a letter tells of and that still stand."""
        return self._rows("SELECT * FROM alert WHERE letter = ? AND state = 'cleared' ORDER BY made_at, id", identity)

    def chores(self) -> list[StoreRow]:
        """Letters that were sent and are to be changed or deleted; what shows a deleted message first."""
        sql = "SELECT * FROM letter WHERE chore IS NOT NULL AND state = 'sent' ORDER BY chore = 'edit', chore, made_at, id LIMIT 1000"
        return self._rows(sql)

    def lost(self) -> list[StoreRow]:
        """Letters of which nobody knows whether they were sent, and that are to be changed or deleted if they were."""
        return self._rows("SELECT * FROM letter WHERE chore IS NOT NULL AND state = 'unknown' ORDER BY made_at, id LIMIT 1000")

    def sending(self, identity: str, dm: str, now: int) -> None:
        """From now on it is in doubt."""
        self._db.execute("UPDATE letter SET state = 'sending', dm = ?, tried_at = ?, tries = tries + 1 WHERE id = ?", (dm, now, identity))

    def sent(self, identity: str, dm_ts: str) -> None:
        """It stands in the conversation."""
        sql = "UPDATE letter SET state = 'sent', dm_ts = ? WHERE id = ? AND state <> 'sent' RETURNING kind"
        row = self._one(sql, dm_ts, identity)
        self.count("letters_sent")
        if row is not None:
            self.count(f"told:{'digest' if row[0] == 'digest' else 'slack'}", len(self.in_letter(identity)))

    def not_sent(self, identity: str, state: str) -> None:
        """It certainly isn't there and is due again, or is given up: `unknown`, or `refused:` and why."""
        self._db.execute("UPDATE letter SET state = ? WHERE id = ?", (state, identity))
        if state != "due":
            self.count(f"letters_{state}")

    def not_tried(self, identity: str) -> None:
        """Slack had no time for it: it is due again, and that was no try."""
        self._db.execute("UPDATE letter SET state = 'due', tries = tries - 1 WHERE id = ? AND state = 'sending'", (identity,))

    def chore_done(self, identity: str, state: str) -> None:
        """The letter shows no longer what it shouldn't."""
        self._db.execute("UPDATE letter SET chore = NULL, state = ? WHERE id = ?", (state, identity))

    def states(self) -> dict[str, int]:
        """How many alerts that are remembered stand where."""
        return {row[0]: row[1] for row in self._db.execute("SELECT state, count(*) FROM alert GROUP BY state ORDER BY state")}

    # Digests

    def waiting_for_digest(self) -> list[str]:
        """People who want what is less likely once a day."""
        sql = """SELECT DISTINCT user FROM person JOIN alert USING (user)
                 WHERE low = 'digest' AND alert.way = 'list' AND alert.letter IS NULL AND alert.state = 'cleared' ORDER BY user"""
        return [row[0] for row in self._db.execute(sql)]

    def for_digest(self, user: str, since: int, most: int) -> list[StoreRow]:
        """What is listed for them and no letter told yet, likeliest first."""
        sql = """SELECT * FROM alert WHERE user = ? AND way = 'list' AND letter IS NULL AND state = 'cleared' AND made_at > ?
                 ORDER BY p DESC, made_at DESC, id LIMIT ?"""
        return self._rows(sql, user, since, most)

    def digested(self, user: str) -> str:
        """The local day of their last digest."""
        row = self._one("SELECT digested FROM person WHERE user = ?", user)
        return "" if row is None else str(row[0])

    def set_digested(self, user: str, day: str) -> None:
        """This day they had theirs."""
        self._db.execute("UPDATE person SET digested = ? WHERE user = ?", (day, user))

    # Words

    def words_seen(self) -> dict[int, int]:
        """How many messages each bucket stood in, and under -1 how many there were."""
        return {row[0]: row[1] for row in self._db.execute("SELECT bucket, count FROM word")}

    def see_words(self, buckets: Iterable[int]) -> None:
        """Those of one message."""
        again = "ON CONFLICT DO UPDATE SET count = count + 1"
        self._db.executemany(f"INSERT INTO word VALUES (?, 1) {again}", [(bucket,) for bucket in (-1, *buckets)])

    # Forgetting

    def forget(self, before: int) -> None:
        """What is older than this; what people asked for stays."""
        for table in ("told", "speaker", "session_of", "deleted"):
            self._db.execute(f"DELETE FROM {table} WHERE at < ?", (before,))
        old = "SELECT id FROM alert WHERE made_at < ?"
        self._db.execute(f"DELETE FROM alert_message WHERE alert IN ({old})", (before,))
        self._db.execute("DELETE FROM letter WHERE made_at < ?", (before,))
        self._db.execute("DELETE FROM alert WHERE made_at < ?", (before,))

    def forget_person(self, user: str) -> None:
        """All that is known of them."""
        self._db.execute("DELETE FROM alert_message WHERE alert IN (SELECT id FROM alert WHERE user = ?)", (user,))
        for table in ("person", "muted", "topic", "alert", "told", "speaker", "letter"):
            self._db.execute(f"DELETE FROM {table} WHERE user = ?", (user,))
        self.forget_cached()


class AlertView:
    """A store as another thread looks at it, while it is at work: what is committed, by a connection for each look."""

    def __init__(self, store: AlertStore) -> None:
        self._address = f"{store.path.resolve().as_uri()}?mode=ro"
        self._before = store.counts()

    def counts(self) -> dict[str, int]:
        """What was counted since this view was made."""
        now = self._looked("SELECT name, count FROM counted")
        return {name: count - self._before.get(name, 0) for name, count in now.items()}

    def feedback(self) -> dict[str, int]:
        """How many alerts people found `good`, and how many `bad`, since the file was made: the last word of each counts."""
        return self._looked("SELECT substr(name, 10), count FROM counted WHERE name IN ('feedback:good', 'feedback:bad')")

    def people(self) -> dict[str, int]:
        """How many said that they want to be told (`in`), and how many that they don't (`out`)."""
        sql = "SELECT iif(opted_in, 'in', 'out'), count(*) FROM person WHERE opted_in IS NOT NULL GROUP BY 1"
        return {"in": 0, "out": 0} | self._looked(sql)

    def waiting(self) -> dict[str, int]:
        """What is left to do, by what it waits for."""
        return self._looked(WAITING)

    def _looked(self, sql: str) -> dict[str, int]:
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
"""Alerts before it is asked whether they may be seen; letters to be sent, looked up, or changed; alerts until a digest; and so on."""
