"""One worker of a run: how far it is, whether it is to stop, and how it ended; and a process of a Bytewax cluster."""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from prometheus_client.registry import Collector

from beepgpt import __version__
from beepgpt.clock import now_us
from beepgpt.config.settings import BadSettings, Settings
from beepgpt.connectors.log import KAFKA, parse_address
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.shard import SHARDS, Shard
from beepgpt.errors import Interrupted
from beepgpt.runtime import logs, metrics
from beepgpt.runtime.console import console, printed, quiet_engine, says_events
from beepgpt.runtime.destinations import Topics, destination_of
from beepgpt.runtime.outages import Reached, watching
from beepgpt.runtime.places import Origin, SourceListener, patience_of
from beepgpt.runtime.recovery import RecoveryFolder

log = logging.getLogger("beepgpt")

ProgressCallback = Callable[[int, float], None]
"""Called with the number of records read so far, and the share of the input that is read."""


@dataclass
class Stop:
    """Whether this process is to stop: it was asked to, by a signal, or it can't go on."""

    signal: int = 0
    why: Exception | None = None
    """What it can't go on for."""

    def __call__(self) -> bool:
        return self.signal != 0 or self.why is not None

    def because(self, why: Exception) -> None:
        """Stop the process; the first reason counts."""
        self.why = self.why or why

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the `with` block, SIGINT and SIGTERM let the engine finish its epoch; a second one ends the process at once."""
        before = self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen(self) -> dict[int, Any]:
        """Install the signal handlers for good; returns the previous ones."""

        def ask(number: int, _frame: object) -> None:
            if self.signal:
                console.show_cursor()
                with suppress(OSError, ValueError):
                    os.write(console.file.fileno(), at_once().encode())  # printing may be what is interrupted
                os._exit(128 + number)
            self.signal = number

        return {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}


def at_once() -> str:
    """The line with which a process ends that was asked to for the second time."""
    message = "asked twice, so it ends at once: the same command goes on from the last snapshot, and begins again where there is none"
    if says_events():
        return json.dumps({"level": "WARNING", "logger": printed.name, "message": message}) + "\n"
    return f"beepgpt: {message}\n"


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Inside the `with` block, SIGINT and SIGTERM raise Interrupted with this message; for the main thread."""

    def interrupt(number: int, _frame: object) -> None:
        raise Interrupted(message)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class PreparedFlow:
    """A worker's flow, ready to run."""

    flow: Dataflow
    figures: Collector
    """What is served at `/metrics`."""
    contexts: Sequence[AbstractContextManager[Any]] = ()
    """What is open while it runs."""
    logged: Mapping[str, Any] = field(default_factory=dict)
    """More for the log line of its start."""
    results: Callable[[], Mapping[str, Any]] = dict
    """More for the worker's report at the end."""


class Worker(SourceListener):
    """One process of a run. Sources report their progress to it, and ask it whether to stop."""

    def __init__(
        self,
        settings: Settings,
        number: int = 0,
        workers: int = 1,
        shards: Sequence[str] = SHARDS,
        recovery: RecoveryFolder | None = None,
        on_progress: ProgressCallback = lambda records, done: None,
        stop: Stop | None = None,
        *,
        follows: bool = False,
    ) -> None:
        """`shards`: the names of those that it follows. `follows`: its input is followed, and has no end."""
        collect_rarely()
        self.settings = settings
        self.number, self.workers = number, workers
        self.shard_names = shards
        self.recovery = recovery
        self.shards: list[Shard] = []
        """The shards that its flow follows, once it runs."""
        self.stop = Stop() if stop is None else stop
        self.patience = patience_of(settings, follows=follows)
        self.pulse = metrics.Pulse(heard_within=self.patience + 30)
        self.started_at: int = recovery.note["started_at"] if recovery is not None else now_us()
        """The time of the run's first start, microseconds."""
        self.is_fresh = recovery is None or not recovery.has_store(number)
        """Whether there is no snapshot to go on from."""
        self.lags: dict[int, int] = {}
        self.accounts: list[Account] = []
        self._on_progress = on_progress
        self._records = 0
        self._has_ended = False

    # What a source reports

    def reached(self) -> Reached:
        """How far it has read."""
        beats = _latest_of(dict(shard.heartbeats) for shard in list(self.shards))
        return Reached(self._records, sum(list(self.lags.values())), min(beats.values(), default=0))

    def is_stopping(self) -> bool:
        self.pulse.beat()
        return self.stop()

    def begin(self) -> None:
        self.pulse.begin()

    def read(self, count: int, done: float) -> None:
        self._records += count
        self._on_progress(self._records, done)

    def heard(self, ahead: Mapping[int, int]) -> None:
        self.pulse.heard()
        self.lags.update(ahead)

    def end(self) -> None:
        self._has_ended = True
        self.pulse.end()

    def owns(self, partition: int) -> bool:
        return partition % self.workers == self.number

    def lose_reader(self) -> None:
        """Stop the run, since nobody reads standard output any more."""
        self.stop.signal = signal.SIGPIPE

    # The run

    def run(self, prepared: PreparedFlow, origin: Origin, to: str) -> dict[str, Any]:
        """Run a flow to its end, or until it is stopped; returns the worker's report."""
        place = {"part": self.number, "parts": self.workers}
        log.info("started", extra={**place, "source": origin.text, "to": to, "resumed": not self.is_fresh, **prepared.logged})
        with ExitStack() as stack:
            stack.enter_context(self.recovery.translated(resumes=not self.is_fresh) if self.recovery is not None else nullcontext())
            stack.enter_context(self.stop.listening())
            for each in prepared.contexts:
                stack.enter_context(each)
            stack.enter_context(self.serving(prepared.figures))
            stack.enter_context(watching(reached=self.reached))
            stack.enter_context(quiet_engine())
            run_main(  # type: ignore[no-untyped-call]
                prepared.flow,
                epoch_interval=timedelta(microseconds=self.settings.run.snapshot_every),
                recovery_config=self.recovery.store(self.number) if self.recovery is not None else None,
            )
        ended = self._has_ended and not self.stop()
        log.info("ended" if ended else "stopped", extra={"part": self.number, "records": self._records, "signal": self.stop.signal})
        return {
            "ended": ended,
            "signal": self.stop.signal,
            "records": self._records,
            "counts": sum_of(self.accounts).counts,
            "peak_memory_mb": peak_memory_mb(),
            **prepared.results(),
        }

    @contextmanager
    def serving(self, figures: Collector) -> Iterator[None]:
        """Inside the `with` block, metrics are served on the settings' port, each further worker's on the next one. Raises CannotServe."""
        section = self.settings.run
        if not section.metrics_port:
            yield
            return
        with metrics.serve(section.metrics_port + self.number, section.metrics_host, figures, self.pulse):
            yield

    def figures(self, topic: str, spec: str) -> dict[str, Any]:
        """The figures of the shards that a worker follows, for metrics: arguments of `metrics.Figures`."""
        shards = self.shards
        return {
            "counts": lambda: sum_of(Account(shard.counts_here()) for shard in list(shards)).counts,
            "lags": lambda: dict(self.lags),
            "state": lambda: sum_of(Account(shard.size()) for shard in list(shards)).counts,
            "newest": lambda: _latest_of(shard.newest() for shard in list(shards)),
            "topic": topic,
            "build": {"version": __version__, "spec": spec},
        }


def _latest_of(times: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """By partition: the latest time that any shard has."""
    latest: dict[str, int] = {}
    for each in times:
        for partition, at in each.items():
            latest[partition] = max(latest.get(partition, 0), at)
    return latest


def collect_rarely() -> None:
    """Let the garbage collector look rarely: what a run keeps has no cycles, and full collections take up to a quarter of its time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 1_000)


def peak_memory_mb() -> float:
    """The most memory that this process has used since it started."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def cluster_topics(settings: Settings, source: str, to: str) -> tuple[Origin, Topics]:
    """The topics in the settings' section `cluster`, which machines share: Kafka's. Raises BadSettings if they name none.

    `source` and `to`: topics that its message has as examples.
    """
    section = settings.cluster
    if not (section.source.startswith(KAFKA) and section.to.startswith(KAFKA)):
        raise BadSettings(
            [
                f"a cluster reads and writes topics of Kafka: set BEEPGPT_CLUSTER__SOURCE={KAFKA}host:port/{source}?follow=true and"
                f" BEEPGPT_CLUSTER__TO={KAFKA}host:port/{to} (or the same in the file that BEEPGPT_CONFIG names)"
            ]
        )
    destination = destination_of(section.to, settings)
    assert isinstance(destination, Topics)
    return Origin(section.source, address=parse_address(section.source)), destination


class ClusterWorker(Worker):
    """One process of a Bytewax cluster. Bytewax decides which partitions it reads and which shards it follows."""

    def __init__(self, settings: Settings, origin: Origin) -> None:
        """From now on it logs as the settings say, and SIGTERM and SIGINT stop its reading."""
        super().__init__(settings, follows=origin.is_followed)
        logs.configure(settings.run.log_level, settings.run.log_format, whole=True)
        self.stop.listen()

    def fail(self, error: Exception) -> None:
        """Log the error that stops the flow: the engine does not say what was raised in a step."""
        log.error("%s", error, extra={"kind": type(error).__name__})

    def start(self, origin: Origin, to: str, figures: Collector, *contexts: AbstractContextManager[Any]) -> None:
        """Serve metrics, and open `contexts`, until the process ends; then log the account, which a flow that failed hasn't."""
        stack = ExitStack()
        for each in (self.serving(figures), watching(reached=self.reached), *contexts):
            stack.enter_context(each)
        atexit.register(stack.close)
        atexit.register(self._log_account)
        log.info("started", extra={"source": origin.text, "to": to})

    def _log_account(self) -> None:
        if self.accounts:
            log.info("account", extra={"account": sum_of(self.accounts).as_json()})
