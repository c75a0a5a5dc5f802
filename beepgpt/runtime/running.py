"""A run of the examples flow: in one process, in several, on a cluster; and what it closes with."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from beepgpt.config.settings import BadSettings, Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.slack import export as slack_export
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.shard import SHARDS, Shard
from beepgpt.dataflows.examples import (
    Chunk,
    Following,
    close_account,
    make_examples,
    send_examples,
    send_letters,
    write_letters,
    write_lines,
)
from beepgpt.errors import BadCommand
from beepgpt.runtime import logs, metrics
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.connections import is_kafka
from beepgpt.runtime.console import console
from beepgpt.runtime.places import Destination, Origin, Topics, destination_of, not_read, origin_of, source_of
from beepgpt.runtime.recovery import RecoveryFolder
from beepgpt.runtime.workers import (
    ProgressCallback,
    Stop,
    Worker,
    asked_by,
    begin_part,
    check_source,
    collect_rarely,
    finished,
    open_memory,
    pulse_of,
    run_processes,
    served,
    shard_figures,
    status_of,
    tell_of_part,
)

log = logging.getLogger("beepgpt")


@dataclass(frozen=True)
class ExamplesJob:
    """An `examples` command, as it was given."""

    source: str
    to: Destination
    settings: Settings
    include: tuple[slack_export.ChannelKind, ...] = ("channels",)
    until: int | None = None
    warmup: int | None = None
    recovery: Path | None = None


def flow_of(source: Source[Chunk], following: Following, sinks: Mapping[str, Sink[Any]], taken: Callable[[Account], None]) -> Dataflow:
    """Slack events to training examples: to files, or to topics."""
    flow = Dataflow("examples")
    chunks = op.input("read_records", flow, source)
    made = make_examples("make_examples", chunks, following)
    if "messages" in sinks:
        send_examples("send_examples", made.made, sinks["messages"])
        topic_id = source.topic.id if isinstance(source, kafka.KafkaSource) else None
        send_letters("send_late", made.late, sinks["late"], topic_id)
        send_letters("send_dead_letters", made.rejects, sinks["dead_letters"], topic_id)
    else:
        write_lines("write_examples", made.examples, sinks["examples"])
        if "retractions" in sinks:
            write_lines("write_retractions", made.retractions, sinks["retractions"])
            write_letters("write_late", made.late, sinks["late"])
            write_letters("write_dead_letters", made.rejects, sinks["dead_letters"])
    close_account("close_account", made.accounts, taken)
    return flow


def run_part(
    job: ExamplesJob,
    origin: Origin,
    number: int,
    parts: int,
    memory: RecoveryFolder | None,
    told: ProgressCallback,
    shards: list[Shard],
    share: Sequence[str] = SHARDS,
) -> dict[str, Any]:
    """One process's `share` of a run, to its end or until it is stopped. What it follows is put into `shards`."""
    settings = job.settings
    part = Worker(settings, number, parts, memory, told, shards)
    following = following_of(
        job,
        origin,
        part.started_at,
        shards=share,
        recoverable=memory is not None,
        is_stopping=part.is_stopping,
        shards_here=shards,
    )
    source = source_of(
        origin,
        following,
        settings,
        ended=part.end,
        progress=part.read,
        partitions=part.owns,
        warmup=job.warmup,
        on_lag=part.heard,
        group=settings.kafka.group if memory is not None else None,
    )
    sinks = job.to.of_part(number, parts).sinks(fresh=part.is_fresh, on_closed=part.lose_reader)
    flow = flow_of(source, following, sinks, part.accounts.append)
    part.run(flow, job, metrics.Figures(**shard_figures(shards, part.lags, origin, settings.rules.spec)))
    return part.report()


def following_of(job: ExamplesJob, origin: Origin, now: int, **more: Any) -> Following:
    """How the job follows channels: a topic's `from` chooses what is written, its `to` is `--until`."""
    rules, address = job.settings.rules, origin.address
    since = 0 if address is None else address.since or 0
    until = job.until if address is None or address.until is None else address.until
    return Following(rules, load_encoding(rules.encoding), now, since=since, until=until, **more)


def check_job(job: ExamplesJob, origin: Origin) -> None:
    """What can't be, before anything is begun."""
    rules, address = job.settings.rules, origin.address
    check_source(
        job.source, origin, job.settings, until=job.until, since=None, recovery=job.recovery, writes_files=not isinstance(job.to, Topics)
    )
    if job.warmup is not None and (address is None or address.since is None):
        raise BadCommand("--warmup goes with a topic's from: kafka://host:port/topic?from=2024-01-01T00:00:00Z")
    if job.recovery is not None and not job.to.is_seekable:
        raise BadCommand("--recovery needs a file or a topic as --to: what was printed can't be cut back to a snapshot")
    if isinstance(job.to, Topics):
        if address is not None and (address.bootstrap, address.topic) == (job.to.connection.bootstrap, job.to.examples):
            raise BadCommand(f"--to {job.to}: is SOURCE: name another topic")
        job.to.check(rules.spec)


def run_job(job: ExamplesJob, command: list[str]) -> tuple[dict[str, Any], int]:
    """A whole run, in one process or several. Returns its report and exit status."""
    began = time.monotonic()
    origin = origin_of(job.source, job.include)
    check_job(job, origin)
    left_out, told = not_read(origin.export) if origin.export is not None else ({}, [])
    if job.settings.run.idle_clock == "wall":
        told.append("The machine's clock settles quiet channels (--idle-clock wall): this run can't be repeated exactly.")
    if job.warmup is not None:
        told.append(
            "Windows and facts begin at the warm-up: earlier ones are not known, and examples may differ from a run over everything."
        )
    for each in told:
        console.print(each)
    memory = remember(job, origin) if job.recovery is not None else None
    if (before := finished(memory)) is not None:
        return before, 0
    done, ended = run_processes("examples", job, origin, memory, lambda told: run_part(job, origin, 0, 1, memory, told, []), command)
    report = report_of(job, done, time.monotonic() - began) | {
        "left_out": left_out,
        "unread": len(origin.export.unread) if origin.export else 0,
        "ended": ended,
    }
    if ended and memory is not None:
        memory.end(report)
    return report, status_of(done, origin)


def work_on_part(job: ExamplesJob, part: int, share: Sequence[str]) -> None:
    """A process that another one started: it tells how far it is, and at the end its account."""
    begin_part(job.settings)
    origin = origin_of(job.source, job.include)
    memory = remember(job, origin, shared=True) if job.recovery is not None else None
    tell_of_part(origin, lambda told, shards: run_part(job, origin, part, job.settings.run.workers, memory, told, shards, share))


def remember(job: ExamplesJob, origin: Origin, *, shared: bool = False) -> RecoveryFolder:
    """The recovery folder of this run; `shared` by the process that started this one."""
    assert job.recovery is not None
    run = {
        "to": job.to.identity,
        "include": list(job.include),
        "until": None if job.until is None else ts_text(job.until),
        "warmup": job.warmup,
    }
    to = job.to
    return open_memory(job.recovery, job.settings, origin, run, lambda: to.as_they_are() if isinstance(to, Topics) else {}, shared=shared)


def report_of(job: ExamplesJob, done: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The closing report, as `--report` writes it; time and speed are this start's, the account is the whole run's."""
    account = sum_of(Account(each["counts"]) for each in done)
    return {
        "command": "examples",
        "source": job.source,
        "to": str(job.to),
        "spec": job.settings.rules.spec,
        "rules": {name: value for name, value in asdict(job.settings.rules).items() if name != "spec"},
        "beside": job.to.written(),
        "workers": job.settings.run.workers,
        "seconds": round(seconds, 3),
        "events_per_second": round(sum(each["records"] for each in done) / seconds, 1),
        "peak_memory_mb": round(sum(each["peak_memory_mb"] for each in done), 1),
        "account": account.as_json(),
        "does_not_add_up": account.check(),
    }


# A cluster


def cluster_flow(settings: Settings) -> Dataflow:
    """The flow for Bytewax's own runner, which brings processes together, keeps the recovery store and says when a snapshot is taken.

    SIGTERM and SIGINT stop this process's reading; when all processes have stopped, a last snapshot is taken and they end. Raises
    BadSettings if the settings name no topics.
    """
    if not (is_kafka(settings.cluster.source) and is_kafka(settings.cluster.to)):
        raise BadSettings(
            [
                "a cluster reads and writes topics: set BEEPGPT_CLUSTER__SOURCE=kafka://host:port/slack.events?follow=true and"
                " BEEPGPT_CLUSTER__TO=kafka://host:port/slack.examples (or the same in the file that BEEPGPT_CONFIG names)"
            ]
        )
    job = ExamplesJob(settings.cluster.source, destination_of(settings.cluster.to, settings), settings)
    origin = origin_of(job.source, job.include)
    check_job(job, origin)
    collect_rarely()
    logs.configure(settings.run.log_level, settings.run.log_format)
    stop = Stop()
    stop.listen()
    pulse = pulse_of(settings)
    following = following_of(job, origin, now_us(), recoverable=True, is_stopping=asked_by(pulse, stop), on_error=tell_error)
    lags: dict[int, int] = {}
    accounts: list[Account] = []

    def heard(ahead: Mapping[int, int]) -> None:
        pulse.heard()
        lags.update(ahead)

    serving = ExitStack()
    figures = metrics.Figures(**shard_figures(following.shards_here, lags, origin, settings.rules.spec))
    serving.enter_context(served(settings, figures, pulse))
    atexit.register(serving.close)
    atexit.register(tell_account, accounts)
    source = source_of(origin, following, settings, on_lag=heard, group=settings.kafka.group, on_error=tell_error, on_start=pulse.begin)
    log.info("started", extra={"source": job.source, "to": str(job.to)})
    return flow_of(source, following, job.to.sinks(fresh=False, on_closed=lambda: None, on_error=tell_error), accounts.append)


def tell_account(accounts: list[Account]) -> None:
    """What this process's shards closed with; a flow that failed closed nothing."""
    if accounts:
        log.info("account", extra={"account": sum_of(accounts).as_json()})


def tell_error(error: Exception) -> None:
    """In a cluster, the engine says nothing of what was raised in a step: it is logged where it happens."""
    log.error("%s", error, extra={"kind": type(error).__name__})
