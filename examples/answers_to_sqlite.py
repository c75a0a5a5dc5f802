"""A flow with a sink of its own: who answers whom, in a SQLite table that forgets what people delete.

python -m bytewax.run 'examples/answers_to_sqlite.py:flow("events.jsonl", "answers.sqlite")'
"""

import json
import sqlite3
from typing import Any

import bytewax.operators as op
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition

import beepgpt
from beepgpt.dataflows import follow_channels

TABLE = "create table if not exists answers (id text primary key, channel text, asked_by text, answered_by text, seconds real)"


class StatementSink(DynamicSink[tuple[str, tuple[Any, ...]]]):
    """Runs SQL statements with their values. They may come twice, after a kill: so they have to do the same twice."""

    def __init__(self, path: str) -> None:
        self.path = path

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "StatementPartition":
        return StatementPartition(sqlite3.connect(self.path, timeout=30))


class StatementPartition(StatelessSinkPartition[tuple[str, tuple[Any, ...]]]):
    """One worker's connection; each batch is a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        with connection:
            connection.execute(TABLE)

    def write_batch(self, items: list[tuple[str, tuple[Any, ...]]]) -> None:
        with self.connection:
            for statement, values in items:
                self.connection.execute(statement, values)

    def close(self) -> None:
        self.connection.close()


def insert(line: bytes) -> tuple[str, tuple[Any, ...]]:
    """An example as a row: the last who spoke, who answered, and after how many seconds."""
    example = beepgpt.Example.from_line(line)
    seconds = None if example.answer_ts is None else (example.answer_ts - example.prompt_ts) / 1e6
    row = (example.id, example.channel, example.window[-1].user, ", ".join(example.answer) or None, seconds)
    return "insert or ignore into answers values (?, ?, ?, ?, ?)", row


def clear(line: bytes) -> tuple[str, tuple[Any, ...]]:
    """A retraction leaves its id alone: in which order two streams come together isn't known, so the example may still come."""
    return "insert or replace into answers (id) values (?)", (json.loads(line)["id"],)


def flow(events: str, database: str) -> Dataflow:
    """The flow: examples and retractions become statements of one sink."""
    flow = Dataflow("answers_to_sqlite")
    records = op.map("encode", op.input("read_events", flow, FileSource(events)), str.encode)
    followed = follow_channels("follow_channels", records, beepgpt.rules(candidates=False))
    inserts, clears = op.map("insert", followed.examples, insert), op.map("clear", followed.retractions, clear)
    op.output("write_answers", op.merge("merge_statements", inserts, clears), StatementSink(database))
    return flow
