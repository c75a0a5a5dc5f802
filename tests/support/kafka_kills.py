"""Runs on a real broker that somebody disturbs, and what they must give all the same."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beepgpt.connectors.kafka import Connection
from beepgpt.connectors.log import Log
from beepgpt.connectors.log.records import DEFAULT_LIMIT
from beepgpt.conversations.rules import DAY, Rules
from beepgpt.simulation.workspace import Plan
from tests.support import program
from tests.support.broker import Broker
from tests.support.kafka import (
    Outcome,
    Running,
    Stream,
    Topics,
    account_of,
    examples_on,
    letters_on,
    new_topics,
    outcome_in,
    outcome_of,
    put,
    report_in,
    started,
    stream_of,
)
from tests.support.speed import slowness, wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType


PARTITIONS = 4
RULES = Rules(candidates=False, window=3, kept_roots=40, thread_ttl=2 * DAY, remember=2 * DAY)
"""Little to keep, and little to write: what is tested here is what becomes of it."""
FLAGS = ("--no-candidates", "--window", 3, "--kept-roots", 40, "--thread-ttl", "2d", "--remember", "2d")
SHORT = Plan(
    seed=32, messages=12_000, days=30, channels=16, people=40, heartbeat_every=7_200,
    edits=0.1, deletions=0.05, reactions=0.3, duplicates=0.03, too_late=0.005, broken=0.002, elsewhere=0.1, moves=0.5,
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """A topic of events, all of them written, and what a run gives that nobody disturbs."""

    events: str
    stream: Stream
    outcome: Outcome
    account: dict[str, Any]

    def topics(self, connection: Connection | Log) -> Topics:
        """New ones for what is made of it."""
        return new_topics(connection, PARTITIONS, events=self.events)


def given_on(connection: Connection | Log, plan: Plan) -> Given:
    """A simulated workspace, on a topic of its own."""
    topics, stream = new_topics(connection, PARTITIONS), stream_of(plan, RULES)
    put(topics, stream.messages(PARTITIONS))
    outcome = outcome_of(stream.run)
    assert all(vars(outcome).values()), "there is some of everything to lose"
    return Given(topics.events, stream, outcome, stream.run.account.as_json())


def arguments(topics: Topics, folder: Path, to: str, *more: object, **query: str) -> list[object]:
    """The command that is disturbed."""
    dest = topics.to if to == "topic" else folder / "made.jsonl"
    return [
        *("examples", topics.source(**query), "--to", dest, *FLAGS),
        *("--recovery", folder / "memory", "--snapshot-every", "200ms", "--report", folder / "report.json", *more),
    ]


def once(topics: Topics) -> Outcome:
    """What the topics hold for those who read them: of each id one value, which is the only one, and of each source one letter."""
    found = examples_on(topics)
    assert all(len(set(values)) == 1 for values in found.values.values()), "an id has two values"
    assert found.is_in_order, "a tombstone stands before its example"
    letters = sorted(set(letters_on(topics.connection, topics.dead_letters)), key=repr)
    late = sorted(set(letters_on(topics.connection, topics.late)), key=repr)
    assert len({source for _, source, _, _ in letters + late}) == len(letters + late), "a record has two letters"
    return Outcome(
        sorted(values[0] for values in found.values.values()),
        sorted(set(found.tombstones)),
        sorted(record for _, _, _, record in late),
        sorted((reason, record) for reason, _, _, record in letters),
    )


def assert_undisturbed(given: Given, topics: Topics, folder: Path, to: str):
    """All of it, each once, and the same account."""
    assert_same(once(topics) if to == "topic" else outcome_in(folder), given.outcome)
    report = report_in(folder / "report.json")
    assert report["does_not_add_up"] == []
    assert account_of(report, PARTITIONS) == given.account


def assert_same(found: Outcome, expected: Outcome):
    """Byte for byte, and each once."""
    for name, lines in vars(found).items():
        here, there = Counter(lines), Counter(vars(expected)[name])
        more, less = here - there, there - here
        assert not more, f"{more.total()} {name} too much, or twice, such as {next(iter(more))!r}"
        assert not less, f"{less.total()} {name} are missing, such as {next(iter(less))!r}"


def is_at_work(folder: Path) -> Callable[[], bool]:
    """Whether a run's snapshots have changed since this was asked for."""

    def newest() -> float:
        times = [0.0]
        for path in (folder / "memory").glob("worker-*/*"):
            with suppress(FileNotFoundError):
                times.append(path.stat().st_mtime)
        return max(times)

    before = newest()
    return lambda: newest() > before


def with_limits(connection: Connection, topics: Topics) -> Topics:
    """All of them take what topics take by default."""
    for name in (topics.events, topics.examples, topics.late, topics.dead_letters):
        alter(connection, name, "max.message.bytes", str(DEFAULT_LIMIT))
    return topics


@contextmanager
def administering(connection: Connection) -> Iterator[Any]:
    """What no flow does to a topic."""
    admin = KafkaAdminClient(bootstrap_servers=connection.bootstrap)
    try:
        yield admin
    finally:
        admin.close()


def alter(connection: Connection, topic: str, name: str, value: str) -> None:
    """Sets one of a topic's settings."""
    with administering(connection) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])


def last_line(run: Running) -> str:
    """What it ended with."""
    return run.said.rstrip().rpartition("\n")[2]


# Kills


@dataclass
class Hits:
    """How many kills there were."""

    flow: int = 0
    broker: int = 0


def run_with_kills(
    given: Given,
    topics: Topics,
    folder: Path,
    to: str,
    draws: random.Random,
    kills: Hits,
    broker: Broker | None,
    seconds: float,
    workers: int = 1,
) -> Hits:
    """Kills the flow and the broker at random moments, so often, and starts the flow again until it is done.

    `seconds` is about what the run takes alone. If it comes to its end before, it starts over.
    """
    command = program(*arguments(topics, folder, to, "--workers", workers))
    share = seconds / (kills.flow + kills.broker + 1)
    schedule = ["flow"] * kills.flow + ["broker"] * kills.broker
    draws.shuffle(schedule)
    hits = Hits()
    starts = 0
    while True:
        at_work = is_at_work(folder)
        starts += 1
        with started(command, folder, topics.settings) as run:
            killed = False
            while schedule and not killed:
                if schedule[-1] == "broker" or draws.random() < 0.8:  # a run whose broker is away at its start gives up at once
                    wait_until_at_work(run, at_work)
                with suppress(subprocess.TimeoutExpired):
                    run.process.wait(draws.uniform(0, 2 * share))
                if run.process.poll() is not None:
                    break
                if schedule[-1] == "broker":
                    assert broker is not None
                    broker.kill()
                    time.sleep(draws.uniform(0, 1))
                    broker.start()
                    hits.broker += 1
                elif workers == 1:
                    run.kill()
                    hits.flow += 1
                    killed = True
                else:
                    killed = kill_one(run, draws)
                    hits.flow += killed
                    if not killed:
                        continue
                schedule.pop()
            status = run.process.wait(200 * slowness())
            if status == 0 and killed:  # it was faster
                hits.flow -= 1
                schedule.append("flow")
            if status == 0 and not schedule:
                print(f"{hits}, {starts} starts")
                return hits
            if status == 0:  # done before the last kill
                assert_undisturbed(given, topics, folder, to)
                shutil.rmtree(folder / "memory")
            else:
                assert killed, run.said
                assert workers == 1 or "one of the run's processes was killed (SIGKILL)" in run.said, run.said
            run.said_in.unlink()


def wait_until_at_work(run: Running, at_work: Callable[[], bool]) -> None:
    """Or done."""
    wait_until(lambda: run.process.poll() is not None or at_work(), "the run is at work")


def kill_one(run: Running, draws: random.Random) -> bool:
    """SIGKILL to one of the processes that the run has started, if there are any by now."""
    workers = run.workers()
    if workers:
        subprocess.run(["kill", "-9", str(draws.choice(workers))], check=False, capture_output=True)
    return bool(workers)
