"""Topic to topic on a real broker on the same machine: how fast, how late, and how much of that is the broker's and its client's.

| part | what it measures |
|---|---|
| `floor` | `beepgpt examples` from topic to topic, against kafka-python that reads the same events and writes the same examples |
| `candidates` | the same with candidates |
| `files` | two processes against one, from a file to a file; and what a process does with another's records |
| `workers` | the same from topic to topic |
| `ingest` | `beepgpt ingest` of HubSpot's export, against the same records sent when they are already made |
| `latency` | how long an example takes, at 200 events a second: from the record that settles it, and from the answer itself |
| `rebuild` | a whole topic gone through with nothing written: what a scorer does when it has lost its state |
| `idle` | a busy partition alone, and beside 64 idle ones, all followed |

Each comparison runs its sides in turn, A B A B A B; a ratio is the median of the rounds' own ratios. Linux only: processor time is read
from /proc. `KAFKA_BOOTSTRAP_SERVERS` names a broker to use; without it one is started.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import accumulate, islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # run as a script, it finds ours beside it, installed or not

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition  # noqa: E402

from beepgpt.commands.topics import COMPACTED, FOR_EVER  # noqa: E402
from beepgpt.connectors import kafka  # noqa: E402
from beepgpt.connectors.kafka import Connection, Writer  # noqa: E402
from beepgpt.connectors.log import LogFailed, OutgoingRecord, TopicSpec, parse_address  # noqa: E402
from beepgpt.conversations.events import micros, ts_text  # noqa: E402
from beepgpt.conversations.rules import Rules  # noqa: E402
from beepgpt.simulation.workspace import Plan, keyed_records  # noqa: E402
from benchmarks import common  # noqa: E402
from benchmarks.common import CACHE, HUBSPOT, machine, simulator_digest, spread  # noqa: E402
from tests.support.broker import Broker  # noqa: E402

RESULTS = common.RESULTS / "kafka_speed.json"
EVENTS = 1_000_000
PARTITIONS = 12
IDLE = 64
IDLE_EVENTS = 300_000
"""As much as the busy partition of `idle` gets: all of it in one."""
RATE = 200
"""Events a second, of `latency`."""
SECONDS = 60
"""For which they are measured."""
LEAD_SECONDS = 10
"""For which they come before that: the flow starts, and the first five seconds settle nothing."""
TALKING = 40
"""Channels of `latency`: each has five events a second, so that an answer comes at once."""
MB = 1 << 20

FLOOR_TARGET, FILES_TARGET, TOPICS_TARGET, IDLE_TARGET = 0.35, 1.7, 1.25, 0.8


class NotMeasured(Exception):
    """A part can't be measured here; the message says why."""


@dataclass(frozen=True)
class Run:
    """One run of one process and those that it started."""

    seconds: float
    cpu_seconds: float
    """Of these processes: the broker's are not among them."""
    busy_cores: float
    """Of the whole machine meanwhile, the broker and whoever else runs among them."""
    peak_mb: float
    """Of the largest of these processes."""
    report: dict[str, Any]
    """What it says of itself on standard output."""


# The input


def plan_of(events: int) -> Plan:
    """A simulated year of 2,000 channels and 2,000 people, with duplicates, disorder, late and broken records."""
    return Plan(messages=int(events / common.RECORDS_PER_POST) + 1_000, days=365, channels=2_000, people=2_000)


def events_of(events: int) -> Path:
    """The events of a size, a line each; and beside it their keys. Made once, and again when the simulator changes."""
    path = CACHE / f"kafka-{events}-{simulator_digest()}" / "events.jsonl"
    if not path.exists():
        say(f"making {events:,} events, once")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as lines, keys_of(path).open("wb") as keys:
            for key, value in islice(keyed_records(plan_of(events)), events):
                lines.write(value + b"\n")
                keys.write((key or "").encode() + b"\n")
        part.rename(path)
    return path


def keys_of(path: Path) -> Path:
    """Where the keys of these events stand, a line each."""
    return path.with_name("keys.txt")


def messages_of(path: Path, partition: int | None = None) -> Iterator[OutgoingRecord]:
    """The events as messages; all to one partition if it is named."""
    with path.open("rb") as lines, keys_of(path).open("rb") as keys:
        for line, key in zip(lines, keys, strict=True):
            yield OutgoingRecord(key[:-1] or None, line[:-1], partition=partition)


# Runs


def timed(command: Sequence[object], env: Mapping[str, str]) -> Run:
    """Runs a command to its end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        busy, began = _busy_seconds(), time.monotonic()
        process = subprocess.Popen([str(each) for each in command], stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=dict(env))
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            raise common.Failed(errors.read()[-2000:].decode(errors="replace").strip())
        output = out.read()
    return Run(
        round(seconds, 3),
        round(used.ru_utime + used.ru_stime, 3),
        round((_busy_seconds() - busy) / seconds, 2),
        round(used.ru_maxrss / 1024, 1),
        json.loads(output) if output.startswith(b"{") else {},
    )


def _busy_seconds() -> float:
    """Processor time that anybody on this machine used since it was started."""
    user, nice, system, _, _, irq, soft_irq = map(int, Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + soft_irq) / os.sysconf("SC_CLK_TCK")


def in_turn(sides: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """Each side as often as there are rounds, one after the other in each."""
    done: dict[str, list[Run]] = {what: [] for what in sides}
    for each in range(rounds):
        for what, run in sides.items():
            done[what].append(run())
            last = done[what][-1]
            say(f"  {what}, run {each + 1} of {rounds}: {last.seconds:.2f} s, {last.busy_cores:.1f} cores busy")
    return done


def say(line: str) -> None:
    """To whoever waits."""
    print(line, file=sys.stderr, flush=True)


# Rows of results


def row_of(what: str, runs: Sequence[Run], events: int, start_up: float = 0.0) -> dict[str, Any]:
    """What is known of one side; the time after start-up is reported unless nearly all is start-up."""
    seconds = spread([run.seconds for run in runs])
    working = seconds["median"] - start_up
    return {
        "what": what,
        "events": events,
        "seconds": seconds,
        "start_up_seconds": round(start_up, 3),
        "events_per_second": round(events / seconds["median"]),
        "events_per_second_after_start_up": round(events / working) if working > seconds["median"] / 10 else None,
        "cpu_seconds": spread([run.cpu_seconds for run in runs]),
        "busy_cores": spread([run.busy_cores for run in runs], 2),
        "peak_mb": max(run.peak_mb for run in runs),
    }


def ratio_of(
    what: str, sides: Mapping[str, Sequence[Run]], target: float | None = None, value: Callable[[Run], float] = lambda run: run.seconds
) -> dict[str, Any]:
    """How many times as fast the second of two sides is as the first, round by round."""
    first, second = sides.values()
    ratio = spread([value(a) / value(b) for a, b in zip(first, second, strict=True)])
    return {"what": what, "ratio": ratio, "target": target, "reached": None if target is None else ratio["median"] >= target}


def own_seconds(run: Run) -> float:
    """Without imports and what else comes before: as the process tells."""
    return float(run.report["seconds"])


def before_own(runs: Sequence[Run]) -> float:
    """Seconds of the rest."""
    return median(run.seconds - own_seconds(run) for run in runs)


# The parts


class Bench:
    """A broker with the topics that the parts need, made when the first one asks."""

    def __init__(self, folder: Path, events: int, rounds: int, seconds: int) -> None:
        self.folder = folder
        self.events = events
        self.rounds = rounds
        self.seconds = seconds
        self._stack = ExitStack()
        self._connection: Connection | None = None
        self._events_topic: str | None = None
        self._examples: dict[bool, Path] = {}
        self._start_ups: dict[str, float] = {}
        self._prefix = f"kafka-speed-{os.getpid()}"
        self._made: list[str] = []
        self._count = 0

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            if self._connection is not None:
                with suppress(LogFailed):
                    delete_topics(self._connection, self._made)

    @property
    def connection(self) -> Connection:
        """To the broker that is named, or to one that is started."""
        if self._connection is None:
            bootstrap = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or self._started()
            self._connection = Connection(bootstrap)
            self.new_topic("late", 1, FOR_EVER)
            self.new_topic("dead-letters", 1, FOR_EVER)
        return self._connection

    def _started(self) -> str:
        folder = self.folder / "broker"
        folder.mkdir()
        broker = Broker(folder, java=common.JAVA)
        broker.start()
        self._stack.callback(broker.kill)
        return str(broker.bootstrap)

    @property
    def env(self) -> dict[str, str]:
        """For the program: no settings but where the rest goes."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("BEEPGPT_")},
            "BEEPGPT_KAFKA__LATE_TOPIC": f"{self._prefix}-late",
            "BEEPGPT_KAFKA__DEAD_LETTER_TOPIC": f"{self._prefix}-dead-letters",
        }

    def new_topic(self, name: str, partitions: int, settings: Mapping[str, str]) -> str:
        """A topic of this run."""
        assert self._connection is not None
        topic = f"{self._prefix}-{name}"
        kafka.create_topics(self._connection, [TopicSpec(topic, partitions, settings, 1)])
        self._made.append(topic)
        return topic

    @contextmanager
    def topic(self, name: str, partitions: int = PARTITIONS, settings: Mapping[str, str] = COMPACTED) -> Iterator[str]:
        """A topic for one run, of which nothing is left."""
        connection = self.connection
        self._count += 1
        topic = self.new_topic(f"{name}-{self._count}", partitions, settings)
        try:
            yield topic
        finally:
            delete_topics(connection, [topic])
            self._made.remove(topic)

    def address(self, topic: str) -> str:
        """As a command line names it."""
        return f"kafka://{self.connection.bootstrap}/{topic}"

    @property
    def events_file(self) -> Path:
        return events_of(self.events)

    def sizes(self) -> dict[str, int]:
        """Of what is read by all parts but `ingest` and `latency`."""
        return {"events": self.events, "bytes": self.events_file.stat().st_size - self.events}

    @property
    def events_topic(self) -> str:
        """The events, in as many partitions as `beepgpt topics` makes."""
        if self._events_topic is None:
            path, connection = self.events_file, self.connection
            self._events_topic = self.new_topic("events", PARTITIONS, FOR_EVER)
            fill(connection, self._events_topic, messages_of(path))
        return self._events_topic

    def examples_file(self, candidates: bool) -> Path:
        """What a run over the file makes: how many examples there must be, and their bytes."""
        if candidates not in self._examples:
            path = self.folder / f"examples-{'with' if candidates else 'no'}-candidates.jsonl"
            self.examples(self.events_file, path, candidates)
            self._examples[candidates] = path
        return self._examples[candidates]

    def examples(self, source: object, to: object, candidates: bool, workers: int = 1) -> Run:
        """`beepgpt examples`, as a user runs it."""
        flags = ["--candidates" if candidates else "--no-candidates", "--workers", workers, "--no-progress"]
        return timed([sys.executable, "-m", "beepgpt", "examples", source, "--to", to, *flags], self.env)

    def child(self, what: str, *arguments: object) -> Run:
        """A process of this script."""
        return timed([sys.executable, __file__, "--child", what, *arguments], self.env)

    def to_topic(self, candidates: bool, workers: int = 1) -> Run:
        """From topic to topic; what came is counted."""
        with self.topic("examples") as topic:
            run = self.examples(self.address(self.events_topic), self.address(topic), candidates, workers)
            there = sum(end - begin for begin, end in kafka.begin_and_end_offsets(self.connection, topic).values())
            expected = count_lines(made := self.examples_file(candidates)) + count_lines(made.with_suffix(".retractions.jsonl"))
            if there != expected:
                raise common.Failed(f"{there:,} records came to the topic of examples, and not {expected:,}")
            return run

    def floor(self, candidates: bool) -> Run:
        """kafka-python alone, doing the same to the brokers."""
        examples = self.examples_file(candidates)
        with self.topic("examples") as topic:
            return self.child("floor", self.connection.bootstrap, self.events_topic, topic, examples, count_lines(examples), self.events)

    def start_up(self, what: str, run: Callable[[], Run]) -> float:
        """Seconds of a run with nothing to do: the median of the rounds'."""
        if what not in self._start_ups:
            self._start_ups[what] = median(run().seconds for _ in range(self.rounds))
        return self._start_ups[what]

    def start_up_of_topics(self, workers: int) -> float:
        """The flow's, from an empty topic to another."""

        def run() -> Run:
            with self.topic("empty", settings=FOR_EVER) as nothing, self.topic("examples") as to:
                return self.examples(self.address(nothing), self.address(to), False, workers)

        return self.start_up(f"topics {workers}", run)

    def start_up_of_floor(self) -> float:
        """The floor's."""

        def run() -> Run:
            with self.topic("empty", settings=FOR_EVER) as nothing, self.topic("examples") as to:
                return self.child("floor", self.connection.bootstrap, nothing, to, os.devnull, 0, 0)

        return self.start_up("floor", run)

    def start_up_of_files(self, workers: int) -> float:
        """The flow's, from an empty file to another."""
        empty = self.folder / "empty.jsonl"
        empty.touch()
        return self.start_up(f"files {workers}", lambda: self.examples(empty, self.folder / "none.jsonl", False, workers))


def fill(connection: Connection, topic: str, messages: Iterator[OutgoingRecord]) -> None:
    """Puts messages on a topic, and returns when all are there."""
    with Writer(connection, topic) as writer:
        while batch := list(islice(messages, 1_000)):
            writer.send(batch)


def delete_topics(connection: Connection, topics: Sequence[str]) -> None:
    """What was made for a run goes."""
    if not topics:
        return
    client = KafkaAdminClient(**connection.options())
    try:
        client.delete_topics(list(topics))
    finally:
        client.close()


def count_lines(path: Path) -> int:
    """None where there is no file."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(blob.count(b"\n") for blob in iter(lambda: file.read(MB), b""))


def measure_floor(candidates: bool, bench: Bench) -> dict[str, Any]:
    """The flow against its floor."""
    name = "with candidates" if candidates else "without candidates"
    sides = {
        f"kafka-python alone, {name}": partial(bench.floor, candidates),
        f"the flow, {name}": partial(bench.to_topic, candidates),
    }
    done = in_turn(sides, bench.rounds)
    start_ups = (bench.start_up_of_floor(), bench.start_up_of_topics(1))
    made = bench.examples_file(candidates)
    return {
        "rows": [row_of(*side, bench.events, start_up) for side, start_up in zip(done.items(), start_ups, strict=True)],
        "ratios": [ratio_of(f"the flow / its floor, {name}", done, None if candidates else FLOOR_TARGET)],
        "partitions": PARTITIONS,
        "examples": {"count": count_lines(made), "bytes": made.stat().st_size},
    }


def measure_workers(bench: Bench) -> dict[str, Any]:
    """Two processes against one, from topic to topic."""
    topics = in_turn({f"topics, {count}": partial(bench.to_topic, False, count) for count in (1, 2)}, bench.rounds)
    start_ups = [bench.start_up_of_topics(count) for count in (1, 2)]
    return {
        "rows": [row_of(*side, bench.events, start_up) for side, start_up in zip(topics.items(), start_ups, strict=True)],
        "ratios": [ratio_of("two processes / one, topics", topics, TOPICS_TARGET)],
    }


def measure_files(bench: Bench) -> dict[str, Any]:
    """Two processes against one, from file to file; and what each does with all of a file, whoever's channels they are."""
    source, to = bench.events_file, bench.folder / "out.jsonl"
    files = in_turn({f"files, {count}": partial(bench.examples, source, to, False, count) for count in (1, 2)}, bench.rounds)
    reading = in_turn({what: partial(bench.child, "read", source, what) for what in READINGS}, bench.rounds)
    start_ups = [bench.start_up_of_files(count) for count in (1, 2)]
    return {
        "rows": [row_of(*side, bench.events, start_up) for side, start_up in zip(files.items(), start_ups, strict=True)],
        "ratios": [ratio_of("two processes / one, files", files, FILES_TARGET)],
        "microseconds_a_record": {what: round(median(map(own_seconds, runs)) * 1e6 / bench.events, 2) for what, runs in reading.items()},
    }


def measure_ingest(bench: Bench) -> dict[str, Any]:
    """An export put on a topic, against its records sent as they are."""
    if not HUBSPOT.exists():
        raise NotMeasured(f"the export is not here: it is expected as ../shared/data/{HUBSPOT.name} beside the repository")
    report = bench.folder / "ingest.json"
    bootstrap = bench.connection.bootstrap

    def ingest(topic: str) -> Run:
        command = [sys.executable, "-m", "beepgpt", "ingest", HUBSPOT, "--to", bench.address(topic), "--no-progress", "--report", report]
        return replace(timed(command, bench.env), report={"seconds": json.loads(report.read_text("utf-8"))["seconds"]})

    def fresh(run: Callable[[str], Run]) -> Run:
        with bench.topic("ingested", settings=FOR_EVER) as topic:
            return run(topic)

    with bench.topic("ingested", settings=FOR_EVER) as kept:
        ingest(kept)
        records = sum(end - begin for begin, end in kafka.begin_and_end_offsets(bench.connection, kept).values())
        sides = {
            "the same records, already made": lambda: fresh(lambda topic: bench.child("send", bootstrap, kept, topic)),
            "ingest": lambda: fresh(ingest),
        }
        done = in_turn(sides, bench.rounds)
    rows = [row_of(what, runs, records, before_own(runs)) for what, runs in done.items()]
    return {"rows": rows, "ratios": [ratio_of("ingest / sending alone", done, value=own_seconds)]}


def measure_rebuild(bench: Bench) -> dict[str, Any]:
    """A topic gone through, and nothing written."""
    source = bench.address(bench.events_topic)
    sides = {
        "without candidates": partial(bench.examples, source, os.devnull, False),
        "with candidates": partial(bench.examples, source, os.devnull, True),
    }
    done = in_turn(sides, bench.rounds)
    return {"rows": [row_of(what, runs, bench.events, bench.start_up_of_topics(1)) for what, runs in done.items()]}


def measure_idle(bench: Bench) -> dict[str, Any]:
    """A busy partition, alone and beside idle ones."""
    events = min(bench.events, IDLE_EVENTS)
    rows, ratios = [], []
    with bench.topic("alone", 1, FOR_EVER) as alone, bench.topic("beside", IDLE + 1, FOR_EVER) as beside:
        for topic in (alone, beside):
            fill(bench.connection, topic, messages_of(events_of(events), partition=0))
        for what in ("the source", "the flow"):
            sides = {
                f"{what}, alone": partial(bench.child, "follow", bench.address(alone), events, what),
                f"{what}, beside {IDLE} idle ones": partial(bench.child, "follow", bench.address(beside), events, what),
            }
            done = in_turn(sides, bench.rounds)
            rows += [row_of(side, runs, events, before_own(runs)) for side, runs in done.items()]
            ratios.append(ratio_of(f"{what}, beside {IDLE} idle partitions / alone", done, IDLE_TARGET, own_seconds))
    return {"rows": rows, "ratios": ratios}


# Latency


def measure_latency(bench: Bench) -> dict[str, Any]:
    """How long an example takes, at a steady rate."""
    rounds = []
    for number in range(bench.rounds):
        rounds.append(latencies(bench))
        say(f"  run {number + 1} of {bench.rounds}: {rounds[-1]}")
    names = [name for name in rounds[0] if name != "examples"]
    figures = {name: spread([each[name] for each in rounds], 1) for name in names}
    return {
        "events_per_second": RATE,
        "seconds": bench.seconds,
        "lateness_ms": Rules().lateness / 1000,
        "examples": [each["examples"] for each in rounds],
        "milliseconds": figures,
    }


def latencies(bench: Bench) -> dict[str, float]:
    """One run: milliseconds to an example's arrival at the broker, from the record that settled it, and from its answer's record."""
    stamped = {**COMPACTED, "message.timestamp.type": "LogAppendTime"}  # the broker's own time: the delivery counts, too
    with bench.topic("live", settings=FOR_EVER) as events, bench.topic("made", settings=stamped) as examples:
        source = f"{bench.address(events)}?follow=true"
        command = [sys.executable, "-m", "beepgpt", "examples", source, "--to", bench.address(examples), "--no-progress"]
        flow = subprocess.Popen(command, env=bench.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            began = talk(bench.connection, events, LEAD_SECONDS + bench.seconds)
        finally:
            flow.send_signal(signal.SIGTERM)
            status = flow.wait(60)
        if status:
            raise common.Failed(f"the flow ended with status {status}")
        spans = settle_spans(bench.connection, events, examples, began + LEAD_SECONDS * 1_000_000)
    if len(spans) < 0.9 * RATE * bench.seconds:
        raise common.Failed(f"only {len(spans):,} examples came in time")
    since_settled, in_all = ([span[side] / 1000 for span in spans] for side in (0, 1))
    return {
        "examples": len(spans),
        **{f"settled_p{share}": percentile(since_settled, share) for share in (50, 99)},
        **{f"answered_p{share}": percentile(in_all, share) for share in (50, 99)},
    }


def talk(connection: Connection, topic: str, seconds: int) -> int:
    """Messages at a steady rate, stamped with the time at which they are sent, each an answer to the one before it in its channel; a
    heartbeat each second to every partition, as a live ingest writes them. Returns when it began."""
    texts = [line for line, _ in zip(talk_texts(), range(5_000), strict=False)]
    began = now_us()
    with Writer(connection, topic) as writer:
        next_beat = began + 1_000_000
        last = began + (seconds + 8) * 1_000_000  # heartbeats go on until all that was said is settled
        for number in range(RATE * (seconds + 8)):
            due = began + number * 1_000_000 // RATE
            time.sleep(max(due - now_us(), 0) / 1e6)
            if (now := now_us()) >= next_beat and now < last:
                next_beat += 1_000_000
                beat = b'{"type":"heartbeat","at":"%s"}' % ts_text(now).encode()
                writer.send(OutgoingRecord(None, beat, partition=each) for each in range(PARTITIONS))
            if number < RATE * seconds:
                channel, user = number % TALKING, number // TALKING % 7
                said = {
                    "type": "message",
                    "channel": f"C{channel:03}",
                    "user": f"U{user}",
                    "ts": ts_text(now),
                    "text": texts[number % len(texts)],
                }
                value = json.dumps({"type": "event_callback", "event_id": f"Ev{number}", "event": said}).encode()
                writer.send([OutgoingRecord(said["channel"].encode(), value)])
    return began


def talk_texts() -> Iterator[str]:
    """Texts of people, from the simulator."""
    for _, value in keyed_records(Plan(messages=5_000, bots=0, broken=0, edits=0, deletions=0, reactions=0)):
        if text := json.loads(value).get("event", {}).get("text"):
            yield text


def settle_spans(connection: Connection, events: str, examples: str, since: int) -> list[tuple[int, int]]:
    """Of each example whose answer came at `since` or later: microseconds from the record that settled it, and from the answer's record."""
    lateness = Rules().lateness
    heard: dict[str, list[tuple[int, int]]] = defaultdict(list)
    """By channel: event time and timestamp of all that moves its clock, in order."""
    channels_in: dict[int, set[str]] = defaultdict(set)
    written: dict[tuple[str, int], int] = {}
    all_records = list(kafka.records_of(connection, events))
    for partition, record in all_records:
        if record.key is not None:
            channels_in[partition].add(record.key.decode())
    for partition, record in all_records:
        body = json.loads(record.value or b"{}")
        if record.key is None:
            for channel in channels_in[partition]:
                heard[channel].append((micros(body["at"]), record.timestamp))
        else:
            t = micros(body["event"]["ts"])
            heard[record.key.decode()].append((t, record.timestamp))
            written[record.key.decode(), t] = record.timestamp
    clocks = {channel: list(accumulate((t for t, _ in records), max)) for channel, records in heard.items()}
    spans = []
    for _, record in kafka.records_of(connection, examples):
        example = json.loads(record.value or b"{}")
        answered = micros(example["settled_ts"]) if example.get("answer") else 0
        if answered >= since:
            channel = example["conversation"].split(":")[0]
            settling = bisect_right(clocks[channel], answered + lateness)
            spans.append((record.timestamp - heard[channel][settling][1], record.timestamp - written[channel, answered]))
    return spans


def percentile(values: Sequence[float], share: int) -> float:
    """Of 100.

    >>> percentile(list(range(101)), 99)
    99.0
    """
    return round(float(quantiles(values, n=100, method="inclusive")[share - 1]), 1)


def now_us() -> int:
    """The machine's time, microseconds."""
    return time.time_ns() // 1000


# What runs in processes of its own


def floor(bootstrap: str, source: str, to: str, examples: str, count: str, events: str) -> None:
    """kafka-python as one would write it for speed: reads the events, writes the examples at the same pace, and does nothing between."""
    connection = Connection(bootstrap)
    wanted, expected = int(count), int(events)
    consumer = KafkaConsumer(
        **connection.options(),
        group_id=None,
        enable_auto_commit=False,
        fetch_max_bytes=4 * MB,
        max_partition_fetch_bytes=4 * MB,
        metrics_enabled=False,
    )
    producer = KafkaProducer(**connection.options(), linger_ms=20, batch_size=256 * 1024, metrics_enabled=False)
    partitions = [TopicPartition(source, each) for each in range(PARTITIONS)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    pending: deque[Any] = deque()
    read = sent = 0
    with Path(examples).open("rb") as lines:
        while read < expected:
            read += sum(map(len, consumer.poll(timeout_ms=200, max_records=sys.maxsize).values()))
            until = wanted * read // expected
            for line in islice(lines, until - sent):
                pending.append(producer.send(to, line[:-1], line[7:39]))
                if len(pending) > 20_000:  # it takes what comes without a limit
                    pending.popleft().get(timeout=60)
            sent = until
    producer.flush()
    while pending:
        pending.popleft().get(timeout=60)
    producer.close()
    consumer.close()


READINGS = ("reading", "reading and decoding", "reading and parsing", "reading what is another's")


def read(path: str, what: str) -> None:
    """A file's lines in chunks, as the flow's source reads them; and decoded; and parsed."""
    import orjson

    from beepgpt.connectors.files.jsonl import PARTITION, JsonlSource
    from beepgpt.conversations.events import parse
    from beepgpt.conversations.shard import shard_of_parsed

    now = now_us()
    part = JsonlSource(Path(path)).build_part("read", PARTITION, None)
    began = time.perf_counter()
    with suppress(StopIteration):
        while True:
            for _, _, lines in part.next_batch():
                for line in lines:
                    if what == "reading and parsing":
                        shard_of_parsed(parse(line, now))
                    elif what == "reading what is another's":
                        parse(line, now, wanted=lambda channel: False)
                    elif what == "reading and decoding":
                        with suppress(ValueError):
                            orjson.loads(line)
    print(json.dumps({"seconds": time.perf_counter() - began}))


def send(bootstrap: str, source: str, to: str) -> None:
    """All of a topic, read beforehand, sent to another one as it is."""
    connection = Connection(bootstrap)
    # In the order of the ingest, as far as times show: a partition after the other would be another work.
    records = sorted(kafka.records_of(connection, source), key=lambda placed: placed[1].timestamp)
    messages = [OutgoingRecord(record.key, record.value, record.headers, partition, record.timestamp) for partition, record in records]
    began = time.perf_counter()
    fill(connection, to, iter(messages))
    print(json.dumps({"seconds": time.perf_counter() - began}))


def follow(source: str, events: str, what: str) -> None:
    """Follows a topic until so many records are read; seconds from the first of them to the last."""
    expected = int(events)
    times: list[float] = []

    def is_all(read: int) -> bool:
        times.append(time.perf_counter())
        return read >= expected

    if what == "the source":
        read_alone(source, is_all)
    else:
        follow_with_flow(source, is_all)
    print(json.dumps({"seconds": times[-1] - times[0]}))


def read_alone(source: str, is_all: Callable[[int], bool]) -> None:
    """The source alone, in the engine."""
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.testing import run_main

    from beepgpt.dataflows.records import CallbackSink

    address = parse_address(source)
    connection = Connection(address.place.removeprefix("kafka://"))
    read = 0
    over = False

    def count(records: int, _share: float) -> None:
        nonlocal read, over
        read += records
        over = is_all(read)

    flow = Dataflow("reading")
    chunks = op.input(
        "read",
        flow,
        kafka.KafkaSource(connection, address.topic, follow=True, stopping=lambda: over, progress=count),
    )
    op.output("drop", chunks, CallbackSink(lambda _: None))
    run_main(flow)  # type: ignore[no-untyped-call]


def follow_with_flow(source: str, is_all: Callable[[int], bool]) -> None:
    """The whole flow, which writes nothing."""
    from beepgpt.commands.examples import ExamplesJob
    from beepgpt.config.settings import read_settings
    from beepgpt.conversations.shard import SHARDS
    from beepgpt.runtime.destinations import destination_of
    from beepgpt.runtime.places import origin_of
    from beepgpt.runtime.running import run_worker

    def on_progress(records: int, *_: object) -> None:
        if is_all(records):
            os.kill(os.getpid(), signal.SIGTERM)  # as anybody stops it

    settings = read_settings(overrides={"conversations": {"candidates": False}})
    source = f"{source}?follow=true"
    job, origin = ExamplesJob(source, destination_of(os.devnull, settings), settings), origin_of(source, ("channels",))
    run_worker(job.run_of(origin), lambda worker: job.build(origin, worker), 0, SHARDS, None, on_progress)


CHILDREN: dict[str, Callable[..., None]] = {"floor": floor, "read": read, "send": send, "follow": follow}


# Results

PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "floor": partial(measure_floor, False),
    "files": measure_files,
    "workers": measure_workers,
    "ingest": measure_ingest,
    "latency": measure_latency,
    "rebuild": measure_rebuild,
    "idle": measure_idle,
    "candidates": partial(measure_floor, True),
}


def versions() -> dict[str, str]:
    """Of all that takes part."""
    pom = (ROOT / "tests" / "broker" / "pom.xml").read_text("utf-8")
    broker = pom.partition("<artifactId>kafka_2.13</artifactId>")[2].partition("<version>")[2].partition("</version>")[0]
    asked = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr.splitlines()
    return {
        **{name: version(name) for name in ("bytewax", "crc32c", "kafka-python", "orjson", "tiktoken")},
        "Apache Kafka": "as given" if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") else broker,
        "Java": asked[0].split('"')[1] if asked and '"' in asked[0] else "?",
    }


def write_results(bench: Bench, name: str, result: Mapping[str, Any]) -> None:
    """A part's results, beside those of other parts that were measured in the same way on a machine like this one."""
    here = {"machine": machine(), "versions": versions(), "runs": bench.rounds, **bench.sizes()}
    kept: dict[str, Any] = {}
    if RESULTS.exists():
        before = json.loads(RESULTS.read_text("utf-8"))
        kept = before["parts"] if all(before.get(each) == value for each, value in here.items()) else {}
    parts = {each: found for each in PARTS if (found := result if each == name else kept.get(each))}
    common.write_results(RESULTS.stem, bench.rounds, {**here, "parts": parts})


def summary(name: str, result: Mapping[str, Any]) -> list[str]:
    """A part's lines of the printed table."""
    lines = [f"== {name}"]
    if "not_measured" in result:
        lines.append(f"not measured: {result['not_measured']}")
    for row in result.get("rows", ()):
        after, seconds = row["events_per_second_after_start_up"], row["seconds"]
        lines.append(
            f"{row['what']:<45}{row['events']:>10,}{seconds['median']:>9.2f} s ({seconds['min']:.2f}-{seconds['max']:.2f})"
            f"{row['events_per_second']:>9,}/s{'-' if after is None else f'{after:,}':>9}/s after start-up"
            f"{row['busy_cores']['median']:>6.2f} cores{row['peak_mb']:>7,.0f} MB"
        )
    for each in result.get("ratios", ()):
        target = "" if each["target"] is None else f", target {each['target']}: {'reached' if each['reached'] else 'MISSED'}"
        lines.append(f"{each['what']:<55}{each['ratio']['median']:>7.3f} ({each['ratio']['min']:.3f}-{each['ratio']['max']:.3f}){target}")
    for what, micro in result.get("microseconds_a_record", {}).items():
        lines.append(f"{what:<45}{micro:>9.2f} us a record")
    for what, figure in result.get("milliseconds", {}).items():
        lines.append(f"{what:<20}{figure['median']:>9.1f} ms ({figure['min']:.1f}-{figure['max']:.1f})")
    return lines


def main() -> None:
    """Measures, prints, and writes benchmarks/results/kafka_speed.json."""
    parser = argparse.ArgumentParser(description="Topic to topic: how fast, how late.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for which latency is measured")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one small run of everything, to see that it works; nothing is written")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        CHILDREN[given.child[0]](*given.child[1:])
        return
    if sys.platform != "linux":
        parser.exit(message="benchmarks/kafka_speed.py needs Linux: it reads processor time from /proc\n")
    if shutil.which("java") is None and not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        parser.exit(
            message="not measured: there is neither Java nor KAFKA_BOOTSTRAP_SERVERS (tests/support/broker.py says what is needed)\n"
        )
    if unknown := set(given.only.split(",")) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if given.quick:
        given.events, given.seconds, given.runs = min(given.events, 50_000), min(given.seconds, 10), 1
    chosen = given.only.split(",")
    with (
        tempfile.TemporaryDirectory(prefix="kafka-speed-") as folder,
        Bench(Path(folder), given.events, given.runs, given.seconds) as bench,
    ):
        for name, measure in PARTS.items():
            if name not in chosen:
                continue
            say(f"== {name}")
            began = time.monotonic()
            try:
                result = measure(bench)
            except NotMeasured as why:
                result = {"not_measured": str(why)}
            result["took_seconds"] = round(time.monotonic() - began)
            print("\n".join(summary(name, result)), flush=True)
            if not given.quick:
                write_results(bench, name, result)


if __name__ == "__main__":
    main()
