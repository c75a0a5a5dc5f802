"""A run of the examples flow: in one process, in several, on a cluster; and what it closes with."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink
from bytewax.testing import run_main

from commands.common import BadCommand, connection_of, is_kafka, now_us
from commands.places import Destination, Origin, Topics, destination_of, not_read, origin_of, source_of
from config.settings import BadSettings, Settings
from connectors import jsonl, kafka, logs, metrics, slack_export
from connectors.console import Watched, console, quiet_engine
from connectors.processes import PartsInterrupted, run_parts, stop_with_parent, tell
from connectors.recovery import BadRecovery, RecoveryFolder, open_recovery
from connectors.tokenizer import load_encoding
from conversations.account import Account, sum_of
from conversations.events import channels_in, ts_text
from conversations.shard import SHARDS, ChannelMoved, Shard, shard_of, shard_of_bytes, shares_of
from dataflows.examples import Chunk, Following, close_account, make_examples, send_examples, send_letters, write_letters, write_lines

PROGRAM = Path(__file__).parent.parent / "beepgpt.py"
TELL_EVERY = 0.2
"""Seconds between two lines that a process tells of itself."""

log = logging.getLogger("beepgpt")


@dataclass(frozen=True)
class Job:
    """An `examples` command, as it was given."""

    source: str
    to: Destination
    settings: Settings
    include: tuple[slack_export.Kind, ...] = ("channels",)
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


@dataclass
class Stop:
    """Whether somebody asked this process to stop, and by which signal."""

    signal: int = 0

    def __call__(self) -> bool:
        return self.signal != 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While in here, an interrupt lets the engine finish its epoch; a second one does not wait for it."""
        before = self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen(self) -> dict[int, Any]:
        """From now on; returns the handlers that were there."""

        def ask(number: int, _frame: object) -> None:
            if self.signal:
                console.show_cursor()
                os._exit(128 + number)
            self.signal = number

        return {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}


def run_part(
    job: Job,
    origin: Origin,
    part: int,
    parts: int,
    memory: RecoveryFolder | None,
    told: Callable[[int, float], None],
    shards: list[Shard],
    share: Sequence[str] = SHARDS,
) -> dict[str, Any]:
    """One process's `share` of a run, to its end or until it is stopped. What it follows is put into `shards`."""
    collect_rarely()
    stop = Stop()
    settings = job.settings
    pulse = pulse_of(settings)
    following = following_of(
        job,
        origin,
        memory.note["started_at"] if memory is not None else now_us(),
        shards=share,
        recoverable=memory is not None,
        is_stopping=asked_by(pulse, stop),
        shards_here=shards,
    )
    watch = Watch(settings, origin, following, pulse)
    records = 0
    ended = False

    def read(count: int, done: float) -> None:
        nonlocal records
        records += count
        told(records, done)

    def end() -> None:
        nonlocal ended
        ended = True
        pulse.end()

    source = source_of(
        origin,
        following,
        settings,
        ended=end,
        progress=read,
        partitions=lambda partition: partition % parts == part,
        warmup=job.warmup,
        on_lag=watch.heard,
        group=settings.kafka.group if memory is not None else None,
    )
    fresh = memory is None or not memory.has_store(part)
    sinks = job.to.of_part(part, parts).sinks(fresh=fresh, on_closed=lambda: setattr(stop, "signal", signal.SIGPIPE))
    accounts: list[Account] = []
    flow = flow_of(source, following, sinks, accounts.append)
    log.info("started", extra={"part": part, "parts": parts, "source": job.source, "to": str(job.to), "resumed": not fresh})
    with ExitStack() as stack:
        stack.enter_context(memory.told() if memory is not None else nullcontext())
        stack.enter_context(stop.listening())
        stack.enter_context(watch.served(part))
        stack.enter_context(quiet_engine())
        run_main(  # type: ignore[no-untyped-call]
            flow,
            epoch_interval=timedelta(microseconds=settings.run.snapshot_every),
            recovery_config=memory.store(part) if memory is not None else None,
        )
    log.info("ended" if ended and not stop() else "stopped", extra={"part": part, "records": records, "signal": stop.signal})
    return {
        "ended": ended and not stop(),
        "signal": stop.signal,
        "records": records,
        "counts": sum_of(accounts).counts,
        "peak_memory_mb": peak_memory_mb(),
    }


def pulse_of(settings: Settings) -> metrics.Pulse:
    """Whether a flow goes on. A sink that waits for its brokers keeps the source waiting, too, as long as it has patience."""
    patience = settings.kafka.patience / 1e6
    return metrics.Pulse(asked_within=max(60, patience + 30), heard_within=patience + 30)


def asked_by(pulse: metrics.Pulse, stop: Callable[[], bool]) -> Callable[[], bool]:
    """Whether the input stops; sources ask it whenever they are asked for records, which is the flow's pulse."""

    def is_stopping() -> bool:
        pulse.beat()
        return stop()

    return is_stopping


def program_version() -> str:
    """Of this program, as it is installed."""
    with suppress(PackageNotFoundError):
        return version("beepgpt")
    return "not installed"


def collect_rarely() -> None:
    """What is kept of channels has no cycles, and a full collection looks at all of it again and again: a quarter of a run's time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 1_000)


class Watch:
    """What a monitor is told of one process of a run."""

    def __init__(self, settings: Settings, origin: Origin, following: Following, pulse: metrics.Pulse) -> None:
        self._pulse = pulse
        self._run = settings.run
        self._lags: dict[int, int] = {}
        shards = following.shards_here
        self._figures = metrics.Figures(
            counts=lambda: sum_of(Account(shard.counts_here()) for shard in list(shards)).counts,
            lags=lambda: dict(self._lags),
            state=lambda: sum_of(Account(shard.size()) for shard in list(shards)).counts,
            newest=lambda: newest_of(list(shards)),
            topic=origin.address.topic if origin.address is not None else "",
            build={"version": program_version(), "spec": settings.rules.spec},
        )

    def heard(self, ahead: Mapping[int, int]) -> None:
        """The brokers answered, and told how many records each partition has ahead."""
        self._pulse.heard()
        self._lags.update(ahead)

    @contextmanager
    def served(self, part: int = 0) -> Iterator[None]:
        """While in here, the settings' port answers; each further process has the next one. Raises CannotServe."""
        if not self._run.metrics_port:
            yield
            return
        with metrics.serve(self._run.metrics_port + part, self._run.metrics_host, self._figures, self._pulse):
            yield


def newest_of(shards: Sequence[Shard]) -> dict[str, int]:
    """By partition: the time of the newest event or heartbeat that any shard read, microseconds."""
    newest: dict[str, int] = {}
    for shard in shards:
        for partition, at in shard.newest().items():
            newest[partition] = max(newest.get(partition, 0), at)
    return newest


def following_of(job: Job, origin: Origin, now: int, **more: Any) -> Following:
    """How the job follows channels: a topic's `from` chooses what is written, its `to` is `--until`."""
    rules, address = job.settings.rules, origin.address
    since = 0 if address is None else address.since or 0
    until = job.until if address is None or address.until is None else address.until
    return Following(rules, load_encoding(rules.encoding), now, since=since, until=until, **more)


def check_job(job: Job, origin: Origin) -> None:
    """What can't be, before anything is begun."""
    rules, address = job.settings.rules, origin.address
    if address is not None and address.follow and rules.horizon is None:
        raise BadCommand("--horizon unlimited is for bounded input: what is followed has no end at which all could settle")
    if address is not None and address.follow and job.until is not None:
        raise BadCommand("--until is for bounded input: what is followed has no end")
    if address is not None and address.until is not None and job.until not in (None, address.until):
        raise BadCommand(f"--until and to in {job.source} say the same thing differently: give one")
    if job.warmup is not None and (address is None or address.since is None):
        raise BadCommand("--warmup goes with a topic's from: kafka://host:port/topic?from=2024-01-01T00:00:00Z")
    if job.settings.run.idle_clock == "wall" and not origin.is_followed:
        raise BadCommand("--idle-clock wall is for a followed topic: kafka://host:port/topic?follow=true")
    if origin.is_followed and job.recovery is not None and job.settings.run.workers > 1 and not isinstance(job.to, Topics):
        raise BadCommand(
            f"--to {job.to}: several --workers with --recovery make one file at the end of their input, and what is followed has none:"
            " name a topic, or use one worker"
        )
    if job.recovery is not None and not job.to.is_seekable:
        raise BadCommand("--recovery needs a file or a topic as --to: what was printed can't be cut back to a snapshot")
    if isinstance(job.to, Topics):
        if address is not None and (address.bootstrap, address.topic) == (job.to.connection.bootstrap, job.to.examples):
            raise BadCommand(f"--to {job.to}: is SOURCE: name another topic")
        job.to.check(rules.spec)


def run_job(job: Job, command: list[str]) -> tuple[dict[str, Any], int]:
    """A whole run, in one process or several. Returns its report and exit status."""
    began = time.monotonic()
    parts = job.settings.run.workers
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
    if memory is not None and memory.spoilt is not None:
        raise ChannelMoved(memory.spoilt)
    if memory is not None and memory.ended is not None:
        console.print(f"This run has ended already, and nothing was done: delete {memory.path} to run it again.")
        return memory.ended, 0
    with Watched("examples", shown=job.settings.run.progress) as watched:
        if parts == 1:
            done = [run_part(job, origin, 0, 1, memory, lambda records, share: watched.update(0, 1, records, share), [])]
        else:
            shares = shares_among(origin, parts) if memory is None else [tuple(share) for share in memory.note["shares"]]
            done = run_in_parts(command, shares, watched, memory)
    ended = all(each["ended"] for each in done)
    if parts > 1 and (ended or memory is None):
        job.to.join(parts)
    if ended or memory is None:
        job.to.tidy()
    report = report_of(job, done, time.monotonic() - began) | {
        "left_out": left_out,
        "unread": len(origin.export.unread) if origin.export else 0,
        "ended": ended,
    }
    if ended and memory is not None:
        memory.end(report)
    interrupted = next((each["signal"] for each in done if each["signal"]), 0)
    stopped_early = interrupted in (signal.SIGINT, signal.SIGTERM) and not origin.is_followed  # what is followed ends in no other way
    return report, 130 if stopped_early else 0


def shares_among(origin: Origin, parts: int) -> list[tuple[str, ...]]:
    """The shards of each process. A topic's processes share its partitions instead, and each has all shards.

    Channels differ in size a thousandfold, so shares are weighed: of a file by some of its lines, of an export by its files' sizes.
    """
    if origin.address is not None:
        return [SHARDS] * parts
    weights: Counter[str] = Counter()
    if origin.export is not None:
        for channel in origin.export.channels:
            weights[shard_of(channel.id)] += sum(copy.stored for day in channel.days for copy in day.copies)
    elif origin.file is not None:
        weights.update(shard_of_bytes(name) for line in jsonl.samples(origin.file) for name in channels_in(line)[:1])
    return shares_of(weights, parts)


def run_in_parts(
    command: list[str], shares: Sequence[Sequence[str]], watched: Watched, memory: RecoveryFolder | None
) -> list[dict[str, Any]]:
    """The same command once for each process, each with its own share of the channels."""
    parts = len(shares)
    reports: list[dict[str, Any]] = [{} for _ in range(parts)]
    owners: dict[str, int] = {}
    moved: list[str] = []

    def told(part: int, what: dict[str, Any]) -> None:
        if "log" in what:
            logs.write_line(what["log"])
            return
        for channel in what.pop("channels", ()):
            if owners.setdefault(channel, part) != part and not moved:
                moved.append(channel)
                os.kill(os.getpid(), signal.SIGTERM)  # stops them all
        if "counts" in what:
            reports[part] = what
        elif "records" in what:
            watched.update(part, parts, what["records"], what["done"])

    keep = [memory.lock] if memory is not None and memory.lock is not None else []
    try:
        own = [[f"--part={part}", f"--share={','.join(share)}"] for part, share in enumerate(shares)]
        run_parts([[sys.executable, str(PROGRAM), *command, *each] for each in own], told, keep)
    except PartsInterrupted:  # a process that was over before it could be asked to stop
        if not moved:
            raise
    if moved:
        why = (
            f"channel {moved[0]} was read from partitions of two processes: their order can't be known. Put all of a channel's events into "
            "one partition (`beepgpt ingest kafka://… --with dead-letters,late --to kafka://…` does), and start anew from there"
        )
        if memory is not None:
            memory.spoil(why)
        raise ChannelMoved(why)
    return reports


def begin_part(settings: Settings) -> None:
    """A process that another one started: it logs by that one, and ends with it."""
    logs.configure(settings.run.log_level, settings.run.log_format, lambda line: tell({"log": line}))
    stop_with_parent()


def work_on_part(job: Job, part: int, share: Sequence[str]) -> None:
    """A process that another one started: it tells how far it is, and at the end its account."""
    begin_part(job.settings)
    origin = origin_of(job.source, job.include)
    memory = remember(job, origin, shared=True) if job.recovery is not None else None
    tell_of_part(origin, lambda told, shards: run_part(job, origin, part, job.settings.run.workers, memory, told, shards, share))


def tell_of_part(origin: Origin, run: Callable[[Callable[[int, float], None], list[Shard]], dict[str, Any]]) -> None:
    """Runs a process's part and tells the process that started it how far it is, and at the end its account."""
    last = 0.0
    shards: list[Shard] = []
    seen: set[str] = set()
    telling = threading.Lock()

    def new_channels() -> list[str]:
        """Of a topic: another process may have the same channel, from its own partitions or from a snapshot."""
        with telling:
            new = {name for shard in list(shards) for name in list(shard.followed)} - seen
            seen.update(new)
            return sorted(new)

    def tell_channels() -> None:
        while True:
            time.sleep(TELL_EVERY)
            if new := new_channels():
                tell({"channels": new})

    def told(records: int, done: float) -> None:
        nonlocal last
        if time.monotonic() - last > TELL_EVERY:
            last = time.monotonic()
            tell({"records": records, "done": done})

    if origin.address is not None:
        threading.Thread(target=tell_channels, name="channels", daemon=True).start()
    report = run(told, shards)
    tell(report | ({} if origin.address is None else {"channels": new_channels()}))


def remember(job: Job, origin: Origin, *, shared: bool = False) -> RecoveryFolder:
    """The recovery folder of this run; `shared` by the process that started this one."""
    assert job.recovery is not None
    run = {
        **asdict(job.settings.rules),
        "spec": job.settings.rules.spec,
        "source": origin.identity,
        "to": job.to.identity,
        "include": list(job.include),
        "until": None if job.until is None else ts_text(job.until),
        "warmup": job.warmup,
        "workers": job.settings.run.workers,
    }
    first: dict[str, Any] = {"started_at": now_us()}
    if not shared:
        first["shares"] = shares_among(origin, job.settings.run.workers)
    if origin.address is not None:
        # The engine panics when it resumes a partition that is no longer there, before anybody can look.
        connection = connection_of(job.settings, origin.address.bootstrap)
        first["topic"] = asdict(kafka.describe_topic(connection, origin.address.topic))
    if isinstance(job.to, Topics):
        first["to_topics"] = {name: asdict(topic) for name, topic in job.to.as_they_are().items()}
    memory = open_recovery(job.recovery, run, first, shared=shared)
    if "shares" not in memory.note:
        raise BadRecovery(f"{memory.path}: was made by an older version of beepgpt: delete it and start anew")
    if origin.address is not None:
        kafka.check_same(kafka.Topic(**memory.note["topic"]), kafka.Topic(**first["topic"]), connection)
    for name, topic in first.get("to_topics", {}).items():
        kafka.check_kept(kafka.Topic(**memory.note["to_topics"][name]), kafka.Topic(**topic))
    return memory


def report_of(job: Job, done: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
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


def peak_memory_mb() -> float:
    """Of this process, since it started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


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
    job = Job(settings.cluster.source, destination_of(settings.cluster.to, settings), settings)
    origin = origin_of(job.source, job.include)
    check_job(job, origin)
    collect_rarely()
    logs.configure(settings.run.log_level, settings.run.log_format)
    stop = Stop()
    stop.listen()
    pulse = pulse_of(settings)
    following = following_of(job, origin, now_us(), recoverable=True, is_stopping=asked_by(pulse, stop), on_error=tell_error)
    watch = Watch(settings, origin, following, pulse)
    accounts: list[Account] = []
    serving = ExitStack()
    serving.enter_context(watch.served())
    atexit.register(serving.close)
    atexit.register(tell_account, accounts)
    source = source_of(
        origin, following, settings, on_lag=watch.heard, group=settings.kafka.group, on_error=tell_error, on_start=pulse.begin
    )
    log.info("started", extra={"source": job.source, "to": str(job.to)})
    return flow_of(source, following, job.to.sinks(fresh=False, on_closed=lambda: None, on_error=tell_error), accounts.append)


def tell_account(accounts: list[Account]) -> None:
    """What this process's shards closed with; a flow that failed closed nothing."""
    if accounts:
        log.info("account", extra={"account": sum_of(accounts).as_json()})


def tell_error(error: Exception) -> None:
    """In a cluster, the engine says nothing of what was raised in a step: it is logged where it happens."""
    log.error("%s", error, extra={"kind": type(error).__name__})
