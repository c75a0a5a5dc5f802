"""What the Kafka tests share: topics of their own, a simulated workspace on one of them, and the program while it runs."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

from beepgpt.connectors.kafka import Connection, KafkaLog
from beepgpt.connectors.log import Log, OutgoingRecord, TopicSpec, partition_of
from beepgpt.conversations.events import Heartbeat, parse, ts_text
from beepgpt.conversations.rules import DAY, Rules
from beepgpt.conversations.shard import RunOutput
from beepgpt.simulation.workspace import Plan, keyed_records
from tests.support import NOW, files_in, program, quiet, run_of, run_program, start
from tests.support.ports import free_ports
from tests.support.speed import slowness, wait_until

KEPT = {"retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": str(2 << 20)}
"""Records of years ago, and records of over 1 MiB that are to be rejected."""
PATIENCE = 60.0 * slowness()
"""Seconds to wait for something on a busy machine."""

Keyed = tuple[str | None, bytes]
"""A record and its key; a heartbeat has none and belongs in every partition."""


# Topics


@dataclass(frozen=True)
class Topics:
    """The topics of one test, and how they are named to the program."""

    connection: Any
    """A connection to the broker, or another log."""
    partitions: int
    events: str
    examples: str
    late: str
    dead_letters: str

    def source(self, **query: str) -> str:
        """SOURCE, as `source(follow="true")`."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return address(self.connection, self.events) + (f"?{asked}" if asked else "")

    @property
    def to(self) -> str:
        """DEST."""
        return address(self.connection, self.examples)

    @property
    def settings(self) -> dict[str, str]:
        """An environment that names the other two topics."""
        return {"BEEPGPT_KAFKA__LATE_TOPIC": self.late, "BEEPGPT_KAFKA__DEAD_LETTER_TOPIC": self.dead_letters}


def log_at(connection: Connection | Log) -> Log:
    """The log behind a connection."""
    return connection if isinstance(connection, Log) else KafkaLog(connection)


def new_topics(connection: Connection | Log, partitions: int = 1, *, events: str | None = None) -> Topics:
    """Empty ones, with names of their own; `events`: the topic of events is there, and what is made of it goes to new ones."""
    name = f"test-{uuid4().hex[:12]}"
    topics = Topics(connection, partitions, events or f"{name}.events", f"{name}.examples", f"{name}.late", f"{name}.dead-letters")
    specs = [TopicSpec(topics.examples, partitions, KEPT), *(TopicSpec(each, 1, KEPT) for each in (topics.late, topics.dead_letters))]
    log_at(connection).create(specs if events else [TopicSpec(topics.events, partitions, KEPT), *specs])
    return topics


def address(connection: Connection | Log, topic: str) -> str:
    """A topic, as a command line names it."""
    return f"{log_at(connection).place}/{topic}"


@dataclass(frozen=True)
class Contents:
    """What a topic of examples holds."""

    values: dict[str, list[bytes]]
    """All that was written under each id, tombstones apart, in order."""
    tombstones: list[tuple[str, str]]
    """Id and time of each retraction."""
    is_in_order: bool
    """Whether each tombstone stands behind the example that it takes back."""


def examples_on(topics: Topics) -> Contents:
    """A topic of examples, read back."""
    values: dict[str, list[bytes]] = {}
    tombstones: list[tuple[str, str]] = []
    is_in_order = True
    for _, record in log_at(topics.connection).records(topics.examples):
        key = (record.key or b"").decode()
        if record.value is None:
            tombstones.append((key, dict(record.headers)["retracted_ts"].decode()))
            is_in_order = is_in_order and key in values
        else:
            values.setdefault(key, []).append(record.value)
    return Contents(values, tombstones, is_in_order)


def letters_on(connection: Connection | Log, topic: str) -> list[tuple[str, str, bytes | None, bytes]]:
    """Reason, source, key and bytes of each dead letter, or late record."""
    records = [(dict(record.headers), record) for _, record in log_at(connection).records(topic)]
    return sorted(
        ((headers["reason"].decode(), headers["source"].decode(), record.key, record.value or b"") for headers, record in records), key=repr
    )


# A workspace, as it happens


@dataclass(frozen=True)
class Stream:
    """Records in order of arrival, and what a run over all of them gives."""

    records: Sequence[Keyed]
    rules: Rules

    @cached_property
    def run(self) -> RunOutput:
        """The batch run: the plain loop."""
        return run_of(self.lines, self.rules)

    @property
    def lines(self) -> list[bytes]:
        """As a file has them."""
        return [value for _, value in self.records]

    def messages(self, partitions: int) -> list[OutgoingRecord]:
        """As a live ingest writes them."""
        return list(messages_of(self.records, partitions))


def stream_of(plan: Plan, rules: Rules | None = None) -> Stream:
    """A simulated workspace, and at its end a heartbeat from so much later that everything is settled by it."""
    rules = rules or Rules()
    settling = heartbeat_at(plan.end_us + 3 * max(rules.horizon or DAY, DAY))
    return Stream([*keyed_records(plan), (None, settling)], rules)


def heartbeat_at(at: int) -> bytes:
    """All that happened before this time (microseconds) is in the partition."""
    return b'{"type":"heartbeat","at":"%s"}' % ts_text(at).encode()


def messages_of(records: Sequence[Keyed], partitions: int) -> Iterator[OutgoingRecord]:
    """Events where their channel belongs (a move: its old id), heartbeats everywhere; what names none has no key, and stands anywhere."""
    for (key, value), stamp in zip(records, stamps_of(records), strict=True):
        if key is None:
            yield from (OutgoingRecord(None, value, (), number, stamp) for number in range(partitions))
        elif b'"channel":' in value or b'"old_channel_id":' in value:
            yield OutgoingRecord(key.encode(), value, (), partition_of(key.encode(), partitions), stamp)
        else:
            yield OutgoingRecord(None, value, (), crc32(value) % partitions, stamp)


def stamps_of(records: Sequence[Keyed]) -> list[int]:
    """When each is written, microseconds: at the latest time that was heard of by then."""
    return list(accumulate((time_of(value) for _, value in records), max))


def time_of(value: bytes) -> int:
    """Of an event or a heartbeat, microseconds; 0 of what has none."""
    parsed = parse(value, NOW)
    return parsed.at if isinstance(parsed, Heartbeat) else getattr(parsed, "t", None) or 0


def put(topics: Topics, messages: Sequence[OutgoingRecord], *, seconds: float = 0.0, steps: int = 10) -> None:
    """Writes messages to the topic of events: at once, or in steps over some time."""
    size = len(messages) // steps + 1 if seconds else max(len(messages), 1)
    with log_at(topics.connection).writer(topics.events) as writer:
        for first in range(0, len(messages), size):
            writer.send(messages[first : first + size])
            writer.flush()
            time.sleep(seconds / steps)


# What came out


@dataclass(frozen=True)
class Outcome:
    """All that a run gives, in a form that is the same wherever it was written."""

    examples: list[bytes]
    retractions: list[tuple[str, str]]
    late: list[bytes]
    rejects: list[tuple[str, bytes]]

    def __sub__(self, other: Outcome) -> Outcome:
        """What the other hasn't: a difference that can be read."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Outcome(*([each for each in ours if each not in theirs] for ours, theirs in pairs))


NOTHING = Outcome([], [], [], [])


def outcome_of(run: RunOutput) -> Outcome:
    """Of the plain loop."""
    retractions = [json.loads(line) for line in run.retractions]
    return Outcome(
        sorted(run.examples),
        sorted((each["id"], each["retracted_ts"]) for each in retractions),
        sorted(run.late),
        sorted((each.reason, each.record) for each in run.rejects),
    )


def outcome_on(topics: Topics) -> Outcome:
    """Of a run that wrote to topics; what stands there twice is here twice."""
    found = examples_on(topics)
    letters = letters_on(topics.connection, topics.dead_letters)
    return Outcome(
        sorted(value for values in found.values.values() for value in values),
        sorted(found.tombstones),
        sorted(record for _, _, _, record in letters_on(topics.connection, topics.late)),
        sorted((reason, record) for reason, _, _, record in letters),
    )


def outcome_in(folder: Path) -> Outcome:
    """Of a run that wrote `made.jsonl` into a folder."""
    files = {name: [json.loads(line) for line in lines] for name, lines in files_in(folder).items() if name != "made.jsonl"}
    return Outcome(
        files_in(folder)["made.jsonl"],
        sorted((each["id"], each["retracted_ts"]) for each in files["made.retractions.jsonl"]),
        sorted(letter_in(each)[1] for each in files["made.late.jsonl"]),
        sorted(map(letter_in, files["made.dead-letters.jsonl"])),
    )


def letter_in(line: dict[str, str]) -> tuple[str, bytes]:
    """Reason and bytes of a dead letter in a file."""
    return line["reason"], line["record"].encode() if "record" in line else base64.b64decode(line["record_base64"])


def account_of(report: Mapping[str, Any], beats: int = 1) -> dict[str, Any]:
    """The account of a report; `beats`: in so many partitions stands each heartbeat."""
    account: dict[str, Any] = dict(report["account"])
    assert account["heartbeats"] % beats == 0
    return account | {"heartbeats": account["heartbeats"] // beats}


# The program, while it runs


class Running:
    """A process of the program: where its figures are, and what it said."""

    def __init__(self, command: Sequence[str], folder: Path, settings: Mapping[str, str], port: int, ports: int) -> None:
        self.folder = folder
        self.ports = range(port, port + ports)
        self.said_in = folder / f"said-{uuid4().hex[:6]}.txt"
        with self.said_in.open("wb") as said, open(os.devnull, "rb") as nothing:
            self.process = start(command, quiet() | dict(settings), (nothing, said, said))

    @property
    def said(self) -> str:
        """All that it wrote to standard output and standard error so far."""
        return self.said_in.read_text("utf-8", "replace")

    def metrics(self) -> list[dict[str, float]]:
        """The figures of each of its processes, as far as they serve."""
        found = []
        for port in self.ports:
            with suppress(OSError):
                found.append(figures_in(page(port, "/metrics")[1]))
        return found

    def figure(self, name: str) -> float:
        """A figure, summed over its labels and processes."""
        return sum(value for figures in self.metrics() for each, value in figures.items() if each.partition("{")[0] == name)

    def is_ready(self) -> bool:
        """Whether all of its processes read."""
        assert self.process.poll() is None, self.said
        with suppress(OSError):
            return all(page(port, "/readyz")[0] == 200 for port in self.ports)
        return False

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, "the program is ready")

    def records_read(self) -> float:
        """How many records it read since it was started, heartbeats among them."""
        assert self.process.poll() is None, self.said
        return self.figure("beepgpt_events_read_total") + self.figure("beepgpt_heartbeats_total")

    def wait_until_read(self, records: int) -> None:
        wait_until(lambda: self.records_read() >= records, f"{records} records are read")

    def log_lines(self) -> list[dict[str, Any]]:
        """What it logged as JSON."""
        return [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to stop; its exit status."""
        self.process.send_signal(by)
        return self.process.wait(PATIENCE)

    def workers(self) -> list[int]:
        """The processes that it started."""
        listed = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in listed.stdout.split()]

    def kill(self) -> None:
        """`kill -9`, with all that it started."""
        for pid in [self.process.pid, *self.workers()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


@contextmanager
def running(
    topics: Topics, folder: Path, *arguments: object, workers: int = 1, settings: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """The `examples` command with a metrics port, followed by its arguments; killed if it still runs at the end."""
    port = free_ports(workers)
    serving = min(workers, topics.partitions)  # a process without a partition ends at once
    command = program("examples", *arguments, "--workers", workers, "--metrics-port", port)
    with started(command, folder, topics.settings | dict(settings or {}), port, serving) as run:
        yield run


@contextmanager
def started(command: Sequence[str], folder: Path, settings: Mapping[str, str], port: int = 0, ports: int = 0) -> Iterator[Running]:
    """A command, killed if it still runs at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Running(command, folder, settings, port, ports)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.kill()


def to_the_end(topics: Topics, *arguments: object, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The program with these arguments, run until it ends by itself, whatever comes of it."""
    return run_program(*arguments, env=topics.settings | dict(settings or {}), seconds=2 * PATIENCE)


def report_in(path: Path) -> dict[str, Any]:
    """The closing report of a run."""
    report: dict[str, Any] = json.loads(path.read_bytes())
    return report


def page(port: int, path: str) -> tuple[int, str]:
    """Status and text of a page of this machine; raises OSError where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def figures_in(text: str) -> dict[str, float]:
    """Prometheus' text: each figure with its labels, as it stands there.

    >>> figures_in('# TYPE a counter\\na{b="c"} 2.0')
    {'a{b="c"}': 2.0}
    """
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}
