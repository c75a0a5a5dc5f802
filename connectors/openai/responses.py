"""What a provider answered, kept in a file: what was paid for once is never asked again, by whichever run.

Requests are known by their hash, so the file holds nothing that anybody wrote. An answer is written before it is passed on.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from beepgpt.connectors.openai.values import ClientUsage, ProviderAnswer, Usage
from beepgpt.errors import BadAnswer, CannotWrite

VERSION = 1
PATIENCE = 60.0
"""Seconds that another process may keep the file for itself."""

_TABLES = """
CREATE TABLE answers (id BLOB PRIMARY KEY, choice TEXT, p REAL, model TEXT, input INT, cached INT, written INT, output INT, why TEXT) WITHOUT ROWID;
CREATE TABLE troubles (id BLOB PRIMARY KEY, times INT NOT NULL) WITHOUT ROWID;
CREATE TABLE starts (number INTEGER PRIMARY KEY, run TEXT NOT NULL, account TEXT NOT NULL);
CREATE TABLE batches (digest TEXT PRIMARY KEY, run TEXT NOT NULL, id TEXT);
CREATE TABLE batched (id BLOB PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
"""  # noqa: E501


class BadResponseStore(CannotWrite):
    """The file can't be used; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run did so far, over all its starts."""

    asked: int = 0
    """Requests, those of batches among them."""
    answered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    tries: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    batch_usage: Usage = field(default_factory=Usage)
    untold: int = 0
    redacted: Mapping[str, int] = field(default_factory=dict)
    """By kind: what was taken out of texts before they left."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(**{each.name: _sum(getattr(self, each.name), getattr(other, each.name)) for each in fields(Spent)})


class Started(NamedTuple):
    """A batch whose results weren't read yet."""

    digest: str
    id: str | None
    """None: it was about to be started, and perhaps was."""


class Responses:
    """The file, open; from any thread, and beside other processes."""

    def __init__(self, path: Path) -> None:
        """Makes it if it isn't there. Raises BadStore."""
        self.path = path
        self._lock = threading.RLock()
        self._start = 0
        with self._told():
            self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        # A killed process loses nothing by this; if the machine itself fails, the last answers may have to be asked for again.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._changed():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0 and not self._db.execute("SELECT * FROM sqlite_master").fetchall():
                for statement in filter(str.strip, _TABLES.split(";")):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise BadResponseStore(
                    f"{self.path}: is no store of answers of version {VERSION}: name another file (labeling.store), or delete it, by which"
                    " what was answered has to be paid for again"
                )

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Responses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Answers

    def get(self, request_id: str) -> ProviderAnswer | BadAnswer | None:
        """What was answered; None: nothing yet."""
        with self._told(), self._lock:
            row = self._db.execute("SELECT choice, p, model, why FROM answers WHERE id = ?", (_key(request_id),)).fetchone()
        if row is None:
            return None
        choice, p, model, why = row
        return BadAnswer(why) if choice is None else ProviderAnswer(choice, p, model, None)

    def put(self, request_id: str, answer: ProviderAnswer | BadAnswer, spent: Spent) -> None:
        """Keeps an answer, and what this start has done with it."""
        with self._told(), self._changed():
            self._put(request_id, answer)
            self._note(spent)

    def trouble(self, request_id: str) -> int:
        """Notes that a request failed when no other worked either; how often that has been."""
        with self._told(), self._changed():
            (times,) = self._db.execute(
                "INSERT INTO troubles VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET times = times + 1 RETURNING times", (_key(request_id),)
            ).fetchone()
        return int(times)

    def _put(self, request_id: str, answer: ProviderAnswer | BadAnswer) -> None:
        choice, p, model, why = None, None, None, str(answer)
        usage = Usage()
        if isinstance(answer, ProviderAnswer):
            choice, p, model, why = answer.choice, answer.probability, answer.model, ""
            usage = answer.usage or usage
        row = (_key(request_id), choice, p, model, usage.input, usage.cached, usage.written, usage.output, why)
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    # What was done

    def begin(self, run: str) -> None:
        """This process goes on with a run, or begins it."""
        with self._told(), self._changed():
            self._start = self._db.execute("INSERT INTO starts (run, account) VALUES (?, '{}')", (run,)).lastrowid or 0

    def note(self, spent: Spent) -> None:
        """What this start has done so far."""
        with self._told(), self._changed():
            self._note(spent)

    def spent(self, run: str) -> Spent:
        """What all starts of a run have done so far."""
        with self._told(), self._lock:
            rows = self._db.execute("SELECT account FROM starts WHERE run = ?", (run,)).fetchall()
        return sum((_read(account) for (account,) in rows), Spent())

    def _note(self, spent: Spent) -> None:
        self._db.execute("UPDATE starts SET account = ? WHERE number = ?", (json.dumps(asdict(spent)), self._start))

    # Batches

    def plan(self, run: str, digest: str, request_ids: Iterable[str]) -> None:
        """Notes that a batch of these requests is about to be started: whatever happens then, it is found again."""
        with self._told(), self._changed():
            self._db.execute("INSERT OR IGNORE INTO batches (digest, run) VALUES (?, ?)", (digest, run))
            self._db.executemany("INSERT OR REPLACE INTO batched VALUES (?, ?)", ((_key(each), digest) for each in request_ids))

    def started(self, digest: str, batch_id: str) -> None:
        """Notes what the provider calls it."""
        with self._told(), self._changed():
            self._db.execute("UPDATE batches SET id = ? WHERE digest = ?", (batch_id, digest))

    def forget(self, digest: str) -> None:
        """A batch that never was, or of which nothing will come."""
        with self._told(), self._changed():
            self._forget(digest)

    def _forget(self, digest: str) -> None:
        self._db.execute("DELETE FROM batches WHERE digest = ?", (digest,))
        self._db.execute("DELETE FROM batched WHERE digest = ?", (digest,))

    def batches(self, run: str) -> list[Started]:
        """A run's batches whose results weren't read yet, in the order in which they were planned."""
        with self._told(), self._lock:
            rows = self._db.execute("SELECT digest, id FROM batches WHERE run = ? ORDER BY rowid", (run,)).fetchall()
        return [Started(*row) for row in rows]

    def batch_of(self, request_id: str) -> str | None:
        """The digest of the batch that a request is part of, as long as its results weren't read."""
        with self._told(), self._lock:
            row = self._db.execute("SELECT digest FROM batched WHERE id = ?", (_key(request_id),)).fetchone()
        return None if row is None else str(row[0])

    def read(self, digest: str, answers: Iterable[tuple[str, Any]], spent: Spent) -> None:
        """Keeps all of a batch's answers at once, with what this start has done; the batch is over."""
        with self._told(), self._changed():
            for request_id, answer in answers:
                self._put(request_id, answer)
            self._forget(digest)
            self._note(spent)

    # The file

    @contextmanager
    def _changed(self) -> Iterator[None]:
        """All that is done in here, or nothing."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # a full disk ends it by itself
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            full = "full" in str(error)
            what = "free some space" if full else "check its folder and permissions, name another file (labeling.store), or delete it"
            raise BadResponseStore(f"{self.path}: can't be used as a store of answers ({error}): {what}") from error


def spent_of(account: ClientUsage, redacted: Mapping[str, int]) -> Spent:
    """What one client has done so far."""
    mine = {each.name: getattr(account, each.name) for each in fields(Spent) if each.name != "redacted"}
    return Spent(**mine, redacted=dict(redacted))


def _read(text: str) -> Spent:
    told: dict[str, Any] = json.loads(text)
    for name in {"usage", "batch_usage"} & set(told):
        told[name] = Usage(**told[name])
    return Spent(**told)


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping):
        return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}
    return one + other


def _key(request_id: str) -> bytes:
    return bytes.fromhex(request_id)
