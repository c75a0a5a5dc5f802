"""A provider's answers in a SQLite file, so that no run pays for the same request again.

The key is a request's hash, so the file holds no text of a message. An answer is written before it is used.
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
"""Seconds to wait while another process writes to the file."""

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
    """Counts of a run, over all its starts."""

    asked: int = 0
    """Requests, including those of batches."""
    answered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    tries: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    batch_usage: Usage = field(default_factory=Usage)
    untold: int = 0
    redacted: Mapping[str, int] = field(default_factory=dict)
    """Redactions in texts before they were sent, by kind."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(**{each.name: _sum(getattr(self, each.name), getattr(other, each.name)) for each in fields(Spent)})


class Started(NamedTuple):
    """A batch whose results are not yet read."""

    digest: str
    id: str | None
    """None: it may have been started, or not."""


class Responses:
    """The open file, for any thread; other processes may use it at the same time."""

    def __init__(self, path: Path) -> None:
        """Create the file if it is missing. Raises BadResponseStore."""
        self.path = path
        self._lock = threading.RLock()
        self._start = 0
        with self._translating():
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
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Responses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Answers

    def get(self, request_id: str) -> ProviderAnswer | BadAnswer | None:
        """The answer to a request; None: there is none yet."""
        with self._translating(), self._lock:
            row = self._db.execute("SELECT choice, p, model, why FROM answers WHERE id = ?", (_key(request_id),)).fetchone()
        if row is None:
            return None
        choice, p, model, why = row
        return BadAnswer(why) if choice is None else ProviderAnswer(choice, p, model, None)

    def put(self, request_id: str, answer: ProviderAnswer | BadAnswer, spent: Spent) -> None:
        """Write an answer, and this start's counts."""
        with self._translating(), self._changed():
            self._put(request_id, answer)
            self._note(spent)

    def trouble(self, request_id: str) -> int:
        """Count a failure of this request in a time when no other request worked either; returns the count."""
        with self._translating(), self._changed():
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
        """Add a start of a run."""
        with self._translating(), self._changed():
            self._start = self._db.execute("INSERT INTO starts (run, account) VALUES (?, '{}')", (run,)).lastrowid or 0

    def note(self, spent: Spent) -> None:
        """Write this start's counts."""
        with self._translating(), self._changed():
            self._note(spent)

    def spent(self, run: str) -> Spent:
        """The sum of counts over all starts of a run."""
        with self._translating(), self._lock:
            rows = self._db.execute("SELECT account FROM starts WHERE run = ?", (run,)).fetchall()
        return sum((_read(account) for (account,) in rows), Spent())

    def _note(self, spent: Spent) -> None:
        self._db.execute("UPDATE starts SET account = ? WHERE number = ?", (json.dumps(asdict(spent)), self._start))

    # Batches

    def plan(self, run: str, digest: str, request_ids: Iterable[str]) -> None:
        """Write down a batch before it is started, so that it can be found again after a crash."""
        with self._translating(), self._changed():
            self._db.execute("INSERT OR IGNORE INTO batches (digest, run) VALUES (?, ?)", (digest, run))
            self._db.executemany("INSERT OR REPLACE INTO batched VALUES (?, ?)", ((_key(each), digest) for each in request_ids))

    def started(self, digest: str, batch_id: str) -> None:
        """Write down a batch's id."""
        with self._translating(), self._changed():
            self._db.execute("UPDATE batches SET id = ? WHERE digest = ?", (batch_id, digest))

    def forget(self, digest: str) -> None:
        """Delete a batch that was not started, or has no results."""
        with self._translating(), self._changed():
            self._forget(digest)

    def _forget(self, digest: str) -> None:
        self._db.execute("DELETE FROM batches WHERE digest = ?", (digest,))
        self._db.execute("DELETE FROM batched WHERE digest = ?", (digest,))

    def batches(self, run: str) -> list[Started]:
        """A run's batches whose results are not yet read, in the order of `plan`."""
        with self._translating(), self._lock:
            rows = self._db.execute("SELECT digest, id FROM batches WHERE run = ? ORDER BY rowid", (run,)).fetchall()
        return [Started(*row) for row in rows]

    def batch_of(self, request_id: str) -> str | None:
        """The digest of the batch that holds a request, until its results are read."""
        with self._translating(), self._lock:
            row = self._db.execute("SELECT digest FROM batched WHERE id = ?", (_key(request_id),)).fetchone()
        return None if row is None else str(row[0])

    def read(self, digest: str, answers: Iterable[tuple[str, Any]], spent: Spent) -> None:
        """Write all answers of a batch and this start's counts in one transaction, and delete the batch."""
        with self._translating(), self._changed():
            for request_id, answer in answers:
                self._put(request_id, answer)
            self._forget(digest)
            self._note(spent)

    # The file

    @contextmanager
    def _changed(self) -> Iterator[None]:
        """A context in which all changes are one transaction."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # a full disk has rolled it back already
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            full = "full" in str(error)
            what = "free some space" if full else "check its folder and permissions, name another file (labeling.store), or delete it"
            raise BadResponseStore(f"{self.path}: can't be used as a store of answers ({error}): {what}") from error


def spent_of(account: ClientUsage, redacted: Mapping[str, int]) -> Spent:
    """A client's counts, with redactions."""
    mine = {each.name: getattr(account, each.name) for each in fields(Spent) if each.name != "redacted"}
    return Spent(**mine, redacted=dict(redacted))


def _read(text: str) -> Spent:
    counts: dict[str, Any] = json.loads(text)
    for name in {"usage", "batch_usage"} & set(counts):
        counts[name] = Usage(**counts[name])
    return Spent(**counts)


def _sum(one: Any, other: Any) -> Any:
    """Of numbers or usages; of counts by kind, with the kinds that one start alone has.

    >>> _sum({"email": 4, "secret": 1}, {"secret": 2, "refused": 3})
    {'email': 4, 'refused': 3, 'secret': 3}
    """
    if isinstance(one, Mapping):
        return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}
    return one + other


def _key(request_id: str) -> bytes:
    return bytes.fromhex(request_id)
