"""The examples flow on a real broker: runs that follow, replay, are stopped, and what they give."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bytewax.recovery import init_db_dir

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.rules import SECOND
from beepgpt.conversations.shard import RunOutput, Shard
from beepgpt.simulation.workspace import Plan
from tests.support import read_into
from tests.support.kafka import (
    NOTHING,
    PATIENCE,
    Outcome,
    Running,
    Stream,
    Topics,
    outcome_in,
    outcome_on,
    put,
    report_in,
    running,
    started,
    to_the_end,
)
from tests.support.ports import free_ports
from tests.support.speed import wait_until

ROOT = Path(__file__).parents[2]
NOON = 1_704_110_400 * SECOND


PLAN = Plan(
    seed=12, messages=1_200, days=6, channels=10, people=30, heartbeat_every=1_800,
    edits=0.1, deletions=0.05, reactions=0.3, duplicates=0.05, too_late=0.01, broken=0.01, elsewhere=0.1, moves=0.5,
)  # fmt: skip


def assert_the_same(found: Outcome, expected: Outcome):
    """Byte for byte, and each once."""
    assert found - expected == NOTHING, "too much"
    assert expected - found == NOTHING, "too little"
    assert found == expected, "something stands there twice"


def made_in(topics: Topics, folder: Path, to: str) -> Outcome:
    """What a run wrote to DEST."""
    return outcome_on(topics) if to == "topic" else outcome_in(folder)


def dest(topics: Topics, folder: Path, to: str) -> str:
    """DEST, a topic or a file."""
    return topics.to if to == "topic" else str(folder / "made.jsonl")


# Live equals replay equals batch


def follow(topics: Topics, folder: Path, stream: Stream, workers: int, to: str) -> dict[str, Any]:
    """A run that follows the topic while it is filled, and is stopped when it has read everything; its report."""
    messages = stream.messages(topics.partitions)
    report = folder / "report.json"
    command = (topics.source(follow="true"), "--to", dest(topics, folder, to), "--report", report)
    with running(topics, folder, *command, workers=workers) as run:
        run.wait_until_ready()
        put(topics, messages, seconds=1)
        run.wait_until_read(len(messages))
        assert run.stop() == 0, run.said
    return report_in(report)


def replay(
    topics: Topics, folder: Path, workers: int, to: str, *arguments: object, asked: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A run to the topic's end as it stands; its report. `asked`: the address' from and to."""
    report = folder / "report.json"
    command = (topics.source(**(asked or {})), "--to", dest(topics, folder, to), "--report", report, "--workers", workers)
    done = to_the_end(topics, "examples", *command, *arguments)
    assert done.returncode == 0, done.stderr
    return report_in(report)


# A Bytewax cluster


@contextmanager
def cluster(topics: Topics, folder: Path, count: int, level: str = "info") -> Iterator[list[Running]]:
    """So many processes of Bytewax's own runner, over one recovery store."""
    store = folder / "store"
    if not store.exists():
        store.mkdir()
        init_db_dir(store, 3)
    first = free_ports(count)
    addresses = ";".join(f"127.0.0.1:{first + number}" for number in range(count))
    command = [sys.executable, "-m", "bytewax.run", "beepgpt.dataflows.examples:flow()", "-r", str(store), "-s", "1", "-b", "0"]
    settings = topics.settings | {
        "PYTHONPATH": str(ROOT),
        "BEEPGPT_CLUSTER__SOURCE": topics.source(follow="true"),
        "BEEPGPT_CLUSTER__TO": topics.to,
        "BEEPGPT_RUN__LOG_LEVEL": level,
        "BEEPGPT_RUN__LOG_FORMAT": "json",
    }
    with ExitStack() as stack:
        processes = []
        for number in range(count):
            port = free_ports()
            place = ["-i", str(number), "-a", addresses] if count > 1 else []
            each = started([*command, *place], folder, settings | {"BEEPGPT_RUN__METRICS_PORT": str(port)}, port, 1)
            processes.append(stack.enter_context(each))
        yield processes


def wait_until_cluster_read(processes: Sequence[Running], records: int):
    """All of them together, since they were started."""
    wait_until(lambda: sum(each.records_read() for each in processes) >= records, f"the cluster read {records} records")


def stop_all(processes: Sequence[Running]) -> list[int]:
    """SIGTERM to each, and then their exit statuses."""
    for each in processes:
        each.process.send_signal(signal.SIGTERM)
    return [each.process.wait(PATIENCE) for each in processes]


def sum_of(accounts: Sequence[Any]) -> Any:
    """Of accounts as reports and logs write them, name by name."""
    if isinstance(accounts[0], dict):
        names = dict.fromkeys(name for each in accounts for name in each)
        return {name: sum_of([each[name] for each in accounts if name in each]) for name in names}
    return all(accounts) if isinstance(accounts[0], bool) else sum(accounts)


def once(outcome: Outcome) -> Outcome:
    """Without what was sent again, which after a kill there may be."""
    return Outcome(*(sorted(set(each)) for each in vars(outcome).values()))


# A stop is no end


def so_far(stream: Stream, count: int) -> RunOutput:
    """What the first records of a stream give while nobody knows how it goes on."""
    shard = Shard(stream.rules, load_encoding(stream.rules.encoding))
    read_into(shard, stream.lines[:count])
    shard.account.count("heartbeats", sum(key is None for key, _ in stream.records[:count]))
    made = shard.drain()
    run = RunOutput()
    run.examples, run.retractions, run.late, run.account = made.examples, made.retractions, made.late, shard.account_now()
    return run


ADVICE = "beepgpt ingest"


def stopped_run(topics: Topics, folder: Path, stream: Stream) -> list[object]:
    """A followed run that has read everything and was stopped; its command."""
    put(topics, messages := stream.messages(topics.partitions))
    command = [topics.source(follow="true"), "--to", topics.to, "--recovery", folder / "memory"]
    with running(topics, folder, *command) as run:
        run.wait_until_read(len(messages))
        assert run.stop() == 0, run.said
    return command
