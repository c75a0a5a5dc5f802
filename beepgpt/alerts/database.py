"""The alert store's SQLite file: lock, schema and migrations, transactions, counters, read positions; and a read-only view for metrics."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from beepgpt.clock import now_us
from beepgpt.errors import BeepGPTError
from beepgpt.locks import lock

BUSY = 30.0
"""Seconds to wait while another process holds the file."""
WAL_BUSY = 0.2
"""Seconds to wait for readers of the write-ahead log, before it is truncated; what is not done then is done later."""

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
    "ALTER TABLE alert_message ADD COLUMN author TEXT",
    "ALTER TABLE alert ADD COLUMN joined INTEGER; ALTER TABLE alert ADD COLUMN reacted INTEGER",
    "CREATE TABLE birth (at INTEGER NOT NULL) STRICT; ALTER TABLE person ADD COLUMN restored INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE root (channel TEXT, ts INTEGER, user TEXT NOT NULL, PRIMARY KEY (channel, ts)) STRICT, WITHOUT ROWID",
)
"""Migrations: the statements that lead from each schema version to the next; the first one creates the tables.

Append only: a store that any release wrote goes through those that it lacks. A table `letter` holds direct messages, `told` the keys
under which people were alerted, `place` read positions; their names are part of the file's format. `birth` is empty in a store that was
made before it had one. `root` holds who wrote in a channel itself, as events say.
"""
VERSION = len(SCHEMA)
"""The schema version that this code reads and writes, kept in SQLite's `user_version`."""

StoreRow = dict[str, Any]


class BadAlertStore(BeepGPTError):
    """The file can't be used as an alert store."""


class AlertDatabase:
    """An open alert store file, migrated to this version."""

    def __init__(self, path: Path, *, alone: bool = False, now: int | None = None) -> None:
        """Open the file, or create it. `alone`: lock it against a second sender. Raises BadAlertStore, and leaves such a file untouched.

        `now`: microseconds, a new file's birth.
        """
        self.path = path
        self._now = now_us() if now is None else now
        self.is_new = False
        """Whether the file was made just now: what a store before it knew is lost, if there was one."""
        self._is_wal_due = True
        """Whether a deleted text may stand in the write-ahead log: a process that was killed may have left one there, too."""
        with ExitStack() as opened:
            if alone:
                opened.callback(os.close, lock_store(path))
            try:
                self._db = opened.enter_context(closing(sqlite3.connect(path, timeout=BUSY, isolation_level=None)))
                self._db.row_factory = sqlite3.Row
                self._version()  # before the log's mode is set, which is written into the file
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA secure_delete = ON")  # what was deleted in Slack is not to be found in the file
                self.migrate()
            except sqlite3.Error as error:
                raise BadAlertStore(f"{path}: is no store of alerts, or can't be opened ({error}): name another file") from error
            self._opened = opened.pop_all()

    def _version(self) -> int:
        """The file's schema version; 0 for an empty file. Raises BadAlertStore for one that this code can't migrate."""
        version = int(self._one("PRAGMA user_version")[0])
        if version > VERSION:
            raise BadAlertStore(
                f"{self.path}: was written by a newer beepgpt (version {version}, and this one knows {VERSION}): run that one, or name"
                ' another file: what people asked for is then forgotten (docs/alerts.md, "A lost store")'
            )
        if version == 0 and self._one("SELECT 1 FROM sqlite_master LIMIT 1"):
            raise BadAlertStore(f"{self.path}: is another program's database: name another file")
        return version

    def migrate(self) -> None:
        """Run the migrations that the file lacks, all or none."""
        with self.transaction():
            self.is_new = self._version() == 0
            for step in SCHEMA[self._version() :]:
                for statement in step.split(";"):  # executescript would end the transaction
                    if statement.strip():
                        self._db.execute(statement)
            if self.is_new:
                self._db.execute("INSERT INTO birth VALUES (?)", (self._now,))
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    @property
    def born(self) -> int:
        """When the file was made, microseconds; 0: by a release that did not note it. Of what was before, another store may have known."""
        row = self._one("SELECT at FROM birth")
        return 0 if row is None else int(row[0])

    def close(self) -> None:
        """Close the file and release the lock."""
        self._opened.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything written inside, or nothing; a nested transaction joins the outer one."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            self.drop_cache()
            raise
        self._db.execute("COMMIT")
        self.empty_wal()

    def empty_wal(self) -> None:
        """Truncate the write-ahead log if a text was deleted, since it holds pages as they were; later, while somebody reads them."""
        if self._is_wal_due:
            self._db.execute(f"PRAGMA busy_timeout = {int(WAL_BUSY * 1000)}")
            (self._is_wal_due, _, _) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._db.execute(f"PRAGMA busy_timeout = {int(BUSY * 1000)}")

    def drop_cache(self) -> None:
        """Forget cached rows: they were rolled back, or another process may have changed them."""

    def _one(self, sql: str, *values: Any) -> Any:
        return self._db.execute(sql, values).fetchone()

    def _rows(self, sql: str, *values: Any) -> list[StoreRow]:
        return [dict(row) for row in self._db.execute(sql, values)]

    def position(self, source: str, partition: str) -> Any:
        """Where to go on reading a source's partition, as saved by `set_position`; None: from its beginning."""
        row = self._one("SELECT state FROM place WHERE source = ? AND part = ?", source, partition)
        return None if row is None else json.loads(row[0])

    def set_position(self, source: str, partition: str, state: Any) -> None:
        """Save a read position (JSON), in the transaction that holds the effects of what was read."""
        self._db.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (source, partition, json.dumps(state)))

    def count(self, name: str, times: int = 1) -> None:
        """Add to a counter of the closing account."""
        self._db.execute("INSERT INTO counted VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count", (name, times))

    def counts(self) -> dict[str, int]:
        """All counters since the file was created, by name."""
        return {row["name"]: row["count"] for row in self._db.execute("SELECT name, count FROM counted ORDER BY name")}


def lock_store(path: Path) -> int:
    """Lock the store for this process; returns the descriptor that holds the lock. Raises BadAlertStore."""
    beside = path.with_name(f"{path.name}.lock")
    in_use = BadAlertStore(f"{path}: another beepgpt alert has it: stop that one first, or people would be alerted twice")
    try:
        return lock(beside, in_use)
    except OSError as error:
        raise BadAlertStore(f"{beside}: can't be written ({error.strerror}): check the folder, or name another store") from error


class AlertStoreView:
    """The committed state of a store that another thread writes; each method opens its own read-only connection."""

    def __init__(self, store: AlertDatabase, is_quiet: Callable[[int | None, int | None, str | None], bool] = lambda *_: False) -> None:
        """`is_quiet`: whether it is somebody's quiet hours now, by the beginning, end and time zone that they chose, if they did."""
        self._is_quiet = is_quiet
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
            db.create_function("is_quiet", 3, self._is_quiet)
            return {str(row[0]): int(row[1]) for row in db.execute(sql)}


WAITING = """
    SELECT 'check', count(*) FROM alert WHERE state = 'due'
    UNION ALL SELECT iif(kind = 'digest' AND is_quiet(quiet_from, quiet_to, zone), 'quiet', 'letter') AS what, count(*)
        FROM letter LEFT JOIN person USING (user) WHERE state = 'due' GROUP BY what
    UNION ALL SELECT 'doubt', count(*) FROM letter WHERE state = 'sending'
    UNION ALL SELECT 'change', count(*) FROM letter WHERE chore IS NOT NULL AND state IN ('sent', 'unknown')
    UNION ALL SELECT 'digest', count(*) FROM alert JOIN person USING (user)
        WHERE low = 'digest' AND way = 'list' AND letter IS NULL AND state = 'cleared'
    UNION ALL SELECT 'hand_on', count(*) FROM alert LEFT JOIN letter ON letter.id = alert.letter
        WHERE handed_on < 3 AND alert.state = 'cleared' AND (alert.way = 'list' OR letter.id IS NULL OR letter.state IN ('sent', 'unknown'))
    UNION ALL SELECT 'home', count(*) FROM person WHERE home_dirty = 1 AND home_opened = 1
"""
"""`check`: alerts not checked yet; `letter`, `doubt`, `change`: DMs to be sent, looked up, changed; `quiet`: digests that wait for the end
of their readers' quiet hours; `digest`, `hand_on`: alerts; `home`."""
