"""What a run of any flow has: its processes, how it stops, what it remembers, how it ends."""

from __future__ import annotations

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
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import orjson
import typer
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.events import channels_in
from beepgpt.conversations.shard import SHARDS, ChannelMoved, Shard, assign_shards, shard_of, shard_of_bytes
from beepgpt.errors import BadCommand, Interrupted
from beepgpt.runtime import logs, metrics
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.connections import connection_of
from beepgpt.runtime.console import Watched, console, quiet_engine
from beepgpt.runtime.places import Origin
from beepgpt.runtime.processes import run_parts, stop_with_parent, tell
from beepgpt.runtime.recovery import BadRecovery, RecoveryFolder, open_recovery

TELL_EVERY = 0.2
"""Seconds between two lines that a process tells of itself."""

log = logging.getLogger("beepgpt")

ProgressCallback = Callable[[int, float], None]
"""Hears of records that were read, and the share of all that was."""


class GoesTo(Protocol):
    """Where a run's lines go."""

    def join(self, parts: int) -> None:
        """The processes' shares become one."""

    def tidy(self) -> None:
        """What holds nothing goes."""


class RunJob(Protocol):
    """What a command says of its run, whichever flow it is."""

    @property
    def source(self) -> str:
        """As it was given."""

    @property
    def to(self) -> GoesTo:
        """Where it goes."""

    @property
    def settings(self) -> Settings:
        """With what the command's flags say."""

    @property
    def recovery(self) -> Path | None:
        """The folder that remembers it."""


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


class Worker:
    """One process of a run: how far it is, whether it is to stop, and what it ends with."""

    def __init__(
        self, settings: Settings, number: int, of: int, memory: RecoveryFolder | None, told: ProgressCallback, shards: list[Shard]
    ) -> None:
        """`shards`: what it follows is put there."""
        collect_rarely()
        self.settings = settings
        self.number, self.of = number, of
        self.memory = memory
        self.shards = shards
        self.stop = Stop()
        self.pulse = pulse_of(settings)
        self.is_stopping = asked_by(self.pulse, self.stop)
        self.started_at: int = memory.note["started_at"] if memory is not None else now_us()
        """The first start's time."""
        self.is_fresh = memory is None or not memory.has_store(number)
        self.lags: dict[int, int] = {}
        self.accounts: list[Account] = []
        self._told = told
        self._records = 0
        self._has_ended = False

    def read(self, count: int, done: float) -> None:
        """So many more records were read."""
        self._records += count
        self._told(self._records, done)

    def end(self) -> None:
        """The input is over."""
        self._has_ended = True
        self.pulse.end()

    def heard(self, ahead: Mapping[int, int]) -> None:
        """The brokers answered, and told how many records each partition has ahead."""
        self.pulse.heard()
        self.lags.update(ahead)

    def lose_reader(self) -> None:
        """Nobody reads standard output any more."""
        self.stop.signal = signal.SIGPIPE

    def owns(self, partition: int) -> bool:
        """Whether a topic's partition is this process's."""
        return partition % self.of == self.number

    def run(self, flow: Dataflow, job: RunJob, figures: metrics.Figures, *beside: AbstractContextManager[Any], **extra: Any) -> None:
        """To the end, or until it is stopped. `beside`: what is open while it runs; `extra`: what the log tells of its start."""
        place = {"part": self.number, "parts": self.of}
        log.info("started", extra={**place, "source": job.source, "to": str(job.to), "resumed": not self.is_fresh, **extra})
        with ExitStack() as stack:
            stack.enter_context(self.memory.told() if self.memory is not None else nullcontext())
            stack.enter_context(self.stop.listening())
            for each in beside:
                stack.enter_context(each)
            stack.enter_context(served(self.settings, figures, self.pulse, self.number))
            stack.enter_context(quiet_engine())
            run_main(  # type: ignore[no-untyped-call]
                flow,
                epoch_interval=timedelta(microseconds=self.settings.run.snapshot_every),
                recovery_config=self.memory.store(self.number) if self.memory is not None else None,
            )
        how = "ended" if self._has_ended and not self.stop() else "stopped"
        log.info(how, extra={"part": self.number, "records": self._records, "signal": self.stop.signal})

    def report(self) -> dict[str, Any]:
        """What whoever started it is told at the end."""
        return {
            "ended": self._has_ended and not self.stop(),
            "signal": self.stop.signal,
            "records": self._records,
            "counts": sum_of(self.accounts).counts,
            "peak_memory_mb": peak_memory_mb(),
        }


def shard_figures(shards: list[Shard], lags: Mapping[int, int], origin: Origin, spec: str) -> dict[str, Any]:
    """What a monitor is told of one process, of whichever flow: the arguments of `metrics.Figures`."""
    return {
        "counts": lambda: sum_of(Account(shard.counts_here()) for shard in list(shards)).counts,
        "lags": lambda: dict(lags),
        "state": lambda: sum_of(Account(shard.size()) for shard in list(shards)).counts,
        "newest": lambda: newest_of(list(shards)),
        "topic": origin.address.topic if origin.address is not None else "",
        "build": {"version": program_version(), "spec": spec},
    }


@contextmanager
def served(settings: Settings, figures: metrics.Figures, pulse: metrics.Pulse, part: int = 0) -> Iterator[None]:
    """While in here, the settings' port answers; each further process has the next one. Raises CannotServe."""
    if not settings.run.metrics_port:
        yield
        return
    with metrics.serve(settings.run.metrics_port + part, settings.run.metrics_host, figures, pulse):
        yield


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


def newest_of(shards: Sequence[Shard]) -> dict[str, int]:
    """By partition: the time of the newest event or heartbeat that any shard read, microseconds."""
    newest: dict[str, int] = {}
    for shard in shards:
        for partition, at in shard.newest().items():
            newest[partition] = max(newest.get(partition, 0), at)
    return newest


def check_source(
    source: str, origin: Origin, settings: Settings, *, until: int | None, since: int | None, recovery: Path | None, writes_files: bool
) -> None:
    """What can't be, of any flow, before anything is begun."""
    address = origin.address
    if address is not None and address.follow and settings.rules.horizon is None:
        raise BadCommand("--horizon unlimited is for bounded input: what is followed has no end at which all could settle")
    if address is not None and address.follow and until is not None:
        raise BadCommand("--until is for bounded input: what is followed has no end")
    if address is not None and address.until is not None and until not in (None, address.until):
        raise BadCommand(f"--until and to in {source} say the same thing differently: give one")
    if address is not None and address.since is not None and since not in (None, address.since):
        raise BadCommand(f"--since and from in {source} say the same thing differently: give one")
    if settings.run.idle_clock == "wall" and not origin.is_followed:
        raise BadCommand("--idle-clock wall is for a followed topic: kafka://host:port/topic?follow=true")
    if origin.is_followed and recovery is not None and settings.run.workers > 1 and writes_files:
        raise BadCommand(
            "several --workers with --recovery make one file at the end of their input, and what is followed has none:"
            " name a topic, or use one worker"
        )


def finished(memory: RecoveryFolder | None) -> dict[str, Any] | None:
    """The report of a run that has ended already. Raises ChannelMoved if it can't go on."""
    if memory is None:
        return None
    if memory.spoilt is not None:
        raise ChannelMoved(memory.spoilt)
    if memory.ended is not None:
        console.print(f"This run has ended already, and nothing was done: delete {memory.path} to run it again.")
    return memory.ended


def run_processes(
    name: str,
    job: RunJob,
    origin: Origin,
    memory: RecoveryFolder | None,
    run_here: Callable[[ProgressCallback], dict[str, Any]],
    command: list[str],
) -> tuple[list[dict[str, Any]], bool]:
    """All processes of a run, or this one alone. Returns what each reports, and whether the input came to its end."""
    parts = job.settings.run.workers
    with Watched(name, shown=job.settings.run.progress) as watched:
        if parts == 1:
            done = [run_here(lambda records, share: watched.update(0, 1, records, share))]
        else:
            shares = shares_among(origin, parts) if memory is None else [tuple(share) for share in memory.note["shares"]]
            done = run_in_parts(command, shares, watched, memory)
    ended = all(each["ended"] for each in done)
    if parts > 1 and (ended or memory is None):
        job.to.join(parts)
    if ended or memory is None:
        job.to.tidy()
    return done, ended


def status_of(done: list[dict[str, Any]], origin: Origin) -> int:
    """A run's exit status: what is followed ends in no other way than by being stopped."""
    interrupted = next((each["signal"] for each in done if each["signal"]), 0)
    return 130 if interrupted in (signal.SIGINT, signal.SIGTERM) and not origin.is_followed else 0


def close_command(
    closing: Mapping[str, Any], status: int, report: Path | None, recovery: Path | None, shown: Callable[[Mapping[str, Any]], None]
) -> None:
    """The end of a command: what came of it is shown and written, and says how to go on. Raises typer.Exit."""
    shown(closing)
    if report is not None:
        jsonl.write_file(report, orjson.dumps(closing, option=orjson.OPT_INDENT_2) + b"\n")
    if status == 130:
        rest = "run the same command again to go on" if recovery else "give --recovery DIR to go on where a run stopped"
        console.print(f"Interrupted; what was done is kept ({rest}).")
    elif not closing["ended"] and recovery is None:
        console.print("Stopped without --recovery DIR: the same command begins anew.")
    raise typer.Exit(1 if closing["does_not_add_up"] else status)


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
    return assign_shards(weights, parts)


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
        run_parts([[sys.executable, "-m", "beepgpt", *command, *each] for each in own], told, keep)
    except Interrupted:  # a process that was over before it could be asked to stop
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


def open_memory(
    folder: Path,
    settings: Settings,
    origin: Origin,
    run: Mapping[str, Any],
    to_topics: Callable[[], Mapping[str, kafka.Topic]],
    *,
    shared: bool,
) -> RecoveryFolder:
    """The recovery folder of a run that is told by `run`; `shared` by the process that started this one."""
    told = {**asdict(settings.rules), "spec": settings.rules.spec, "source": origin.identity, "workers": settings.run.workers, **run}
    first: dict[str, Any] = {"started_at": now_us()}
    if not shared:
        first["shares"] = shares_among(origin, settings.run.workers)
    if origin.address is not None:
        # The engine panics when it resumes a partition that is no longer there, before anybody can look.
        connection = connection_of(settings, origin.address.bootstrap)
        first["topic"] = asdict(kafka.describe_topic(connection, origin.address.topic))
    first["to_topics"] = {name: asdict(topic) for name, topic in to_topics().items()}
    memory = open_recovery(folder, told, first, shared=shared)
    if "shares" not in memory.note:
        raise BadRecovery(f"{memory.path}: was made by an older version of beepgpt: delete it and start anew")
    if origin.address is not None:
        kafka.check_same(kafka.Topic(**memory.note["topic"]), kafka.Topic(**first["topic"]), connection)
    for name, topic in first["to_topics"].items():
        kafka.check_kept(kafka.Topic(**memory.note["to_topics"][name]), kafka.Topic(**topic))
    return memory


def peak_memory_mb() -> float:
    """Of this process, since it started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
