"""A run of a flow, the same for all flows: in this process or in several, with or without a recovery store."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from beepgpt.clock import now_us
from beepgpt.config.settings import Settings
from beepgpt.connectors.log import Topic, check_kept, check_same
from beepgpt.conversations.shard import SHARDS, ChannelMoved
from beepgpt.errors import BadCommand, BeepGPTError, Interrupted
from beepgpt.runtime import logs
from beepgpt.runtime.console import Watched, console
from beepgpt.runtime.destinations import FlowOutput
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.places import Origin, log_of
from beepgpt.runtime.recovery import BadRecovery, RecoveryFolder, open_recovery
from beepgpt.runtime.shares import shares_among
from beepgpt.runtime.workers import PreparedFlow, ProgressCallback, Stop, Worker

STOPPED = (0, 130, 143)
"""Exit statuses of a process that ended as it should: by itself, or because it was asked to."""


_REPORTING = threading.Lock()
"""Log lines come from several threads."""


class WorkerFailed(BeepGPTError):
    """A process of the run failed; the message is its own, or says how it was killed."""


WORKER = "beepgpt.commands.worker"
"""The module that a process of the run starts as: it reads what to do from its standard input."""


def run_processes(
    name: str, tasks: Sequence[Callable[[], None]], on_report: Callable[[int, dict[str, Any]], None], keep: Sequence[int] = ()
) -> None:
    """Do all tasks at once, each in a process of its own, to their ends; a task can be pickled. `ps` shows the `name`.

    `on_report` gets each line with its process's number; they share the open files `keep`.

    If one fails, the others are stopped: what they did is in their snapshots. Raises WorkerFailed or Interrupted.
    """
    # Sessions of their own: a terminal's Ctrl-C comes here alone, and is passed on once.
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", WORKER, name, f"{number} of {len(tasks)}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=keep,
            start_new_session=True,
        )
        for number in range(1, len(tasks) + 1)
    ]
    interrupted = False

    def stop_all() -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()

    def interrupt(number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        stop_all()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}

    def listen(number: int) -> str:
        process = processes[number]
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        with process.stdin, process.stdout, process.stderr, ThreadPoolExecutor(1) as reader:
            stderr = reader.submit(process.stderr.read)
            # A pipe that is broken: it has ended already, and says why on its standard error.
            with suppress(BrokenPipeError), open(process.stdin.fileno(), "wb", closefd=False) as task:
                pickle.dump(tasks[number], task)
            for line in process.stdout:
                with suppress(ValueError):  # half a line: the process was killed while it wrote it
                    on_report(number, json.loads(line))
            if process.wait() not in STOPPED:
                stop_all()
            return stderr.result().decode(errors="replace").strip()

    try:
        with ThreadPoolExecutor(len(processes)) as pool:
            messages = list(pool.map(listen, range(len(processes))))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    statuses = [process.returncode for process in processes]
    # A process that was stopped before it could listen for it, or that was asked twice, went without its account.
    if interrupted and any(status in (-signal.SIGTERM, 143) for status in statuses):
        raise Interrupted("interrupted at once: with --recovery the same command goes on from the last snapshot; without, it starts again")
    failed = [
        message.removeprefix("beepgpt: ") or _killed(status)
        for status, message in zip(statuses, messages, strict=True)
        if status not in STOPPED and status != -signal.SIGTERM
    ]
    if failed or any(status not in (0, 130) for status in statuses):
        raise WorkerFailed(next(iter(failed), _killed(-signal.SIGTERM)))


def _killed(status: int) -> str:
    """A message about a process that ended without writing one."""
    if status >= 0:
        return f"one of the run's processes ended with status {status}, and did not say why"
    name = signal.Signals(-status).name
    why = ": perhaps memory ran out, and fewer --workers need less" if -status == signal.SIGKILL else ""
    rest = "With --recovery, the same command goes on where it was; without, it starts again"
    return f"one of the run's processes was killed ({name}){why}. {rest}"


def stop_with_parent() -> None:
    """Stop this process, as if it had been asked to, when the one that started it is gone, even while it has nothing to report."""

    def watch() -> None:
        os.read(0, 1)  # nothing ever comes: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def report(what: dict[str, Any]) -> None:
    """Write a line to the process that started this one. If that is gone, this one stops as if it had been asked to."""
    try:
        with _REPORTING:
            sys.stdout.write(json.dumps(what) + "\n")
            sys.stdout.flush()
    except BrokenPipeError:
        os.kill(os.getpid(), signal.SIGTERM)


REPORT_EVERY = 0.2
"""Seconds between two lines in which a worker reports its progress."""

BuildFlow = Callable[[Worker], PreparedFlow]
"""Builds a worker's flow."""
WorkerRun = Callable[[int, Sequence[str]], None]
"""Runs one worker of several in a process of its own, by its number and its shards; it can be pickled."""


@dataclass(frozen=True)
class FlowRun:
    """One run of a flow, as a command describes it."""

    command: str
    """`examples`, `label` or `score`."""
    origin: Origin
    to: FlowOutput
    settings: Settings
    flow: str
    """The flow's name, with the version of its state."""
    steps: Sequence[str]
    """Ids of the flow's steps that have state."""
    note: Mapping[str, Any]
    """What must be the same in every start that goes on from the same recovery store."""
    recovery: Path | None = None
    workers: int = 1
    stop: Stop = field(default_factory=Stop)


def run_flow(
    run: FlowRun, build: BuildFlow, recovery: RecoveryFolder | None, elsewhere: WorkerRun | None = None
) -> tuple[list[dict[str, Any]], bool]:
    """Run all workers. Returns the report of each, and whether the input came to its end. `elsewhere`: runs one of several."""
    workers = run.workers
    with Watched(run.command, shown=run.settings.run.progress) as watched:
        if recovery is not None and recovery.reports is not None:
            reports = recovery.reports
        elif workers == 1:
            reports = [run_worker(run, build, 0, SHARDS, recovery, lambda records, done: watched.update(0, 1, records, done))]
        else:
            assert elsewhere is not None, f"{run.command} has one worker"
            shares = shares_among(run.origin, workers) if recovery is None else [tuple(share) for share in recovery.note["shares"]]
            with run.to.held() as held:
                reports = _run_all(run.command, elsewhere, shares, watched, recovery, held)
    ended = all(each["ended"] for each in reports)
    if ended and recovery is not None:
        recovery.note_reports(reports)  # first: from here on files are no more as the snapshots know them
    if ended or (workers > 1 and recovery is None):
        run.to.put_in_order(workers)
    if ended or recovery is None:
        run.to.tidy()
    return reports, ended


def run_worker(
    run: FlowRun, build: BuildFlow, number: int, shards: Sequence[str], recovery: RecoveryFolder | None, on_progress: ProgressCallback
) -> dict[str, Any]:
    """Run one worker, which follows these shards, in this process; returns its report."""
    worker = Worker(run.settings, number, run.workers, shards, recovery, on_progress, run.stop, follows=run.origin.is_followed)
    return worker.run(build(worker), run.origin, str(run.to))


def status_of(reports: Sequence[Mapping[str, Any]], origin: Origin) -> int:
    """A run's exit status: 130 if it was interrupted, unless it follows a topic, which ends in no other way."""
    interrupted = next((each["signal"] for each in reports if each["signal"]), 0)
    return 130 if interrupted in (signal.SIGINT, signal.SIGTERM) and not origin.is_followed else 0


# Several workers


def _run_all(
    command: str,
    elsewhere: WorkerRun,
    shares: Sequence[Sequence[str]],
    watched: Watched,
    recovery: RecoveryFolder | None,
    held: Sequence[int],
) -> list[dict[str, Any]]:
    """Run each worker in a process of its own, with its own shards; they share the open files `held`."""
    workers = len(shares)
    reports: list[dict[str, Any]] = [{} for _ in range(workers)]
    owners: dict[str, int] = {}
    moved: list[str] = []

    def on_report(number: int, line: dict[str, Any]) -> None:
        if "log" in line:
            logs.write_line(line["log"])
            return
        for channel in line.pop("channels", ()):
            if owners.setdefault(channel, number) != number and not moved:
                moved.append(channel)
                os.kill(os.getpid(), signal.SIGTERM)  # stops them all
        if "counts" in line:
            reports[number] = line
        elif "records" in line:
            watched.update(number, workers, line["records"], line["done"])

    keep = [*held, recovery.lock] if recovery is not None and recovery.lock is not None else held
    try:
        run_processes(command, [partial(elsewhere, number, tuple(share)) for number, share in enumerate(shares)], on_report, keep)
    except Interrupted:  # a process that had ended before it could be asked to stop
        if not moved:
            raise
    if moved:
        why = (
            f"channel {moved[0]} was read from partitions of two processes: their order can't be known. Put all of a channel's events into "
            "one partition (`beepgpt ingest kafka://… --with dead-letters,late --to kafka://…` does), and start again from there"
        )
        if recovery is not None:
            recovery.mark_unusable(why)
        raise ChannelMoved(why)
    return reports


def run_child(run: FlowRun, build: BuildFlow, number: int, shards: Sequence[str]) -> None:
    """Run one worker of several in a process that `run_flow` started: it reports its progress, its log lines and its account there."""
    logs.configure(run.settings.run.log_level, run.settings.run.log_format, lambda line: report({"log": line}))
    stop_with_parent()
    seen: set[str] = set()
    lock = threading.Lock()
    last = 0.0
    with recovery_of(run, shared=True) as recovery:

        def new_channels() -> list[str]:
            """Of a topic: another worker may have the same channel, from its own partitions or from a snapshot."""
            with lock:
                new = {name for shard in list(worker.shards) for name in list(shard.followed)} - seen
                seen.update(new)
                return sorted(new)

        def report_channels() -> None:
            while True:
                time.sleep(REPORT_EVERY)
                if new := new_channels():
                    report({"channels": new})

        def on_progress(records: int, done: float) -> None:
            nonlocal last
            if time.monotonic() - last > REPORT_EVERY:
                last = time.monotonic()
                report({"records": records, "done": done})

        worker = Worker(run.settings, number, run.workers, shards, recovery, on_progress, run.stop, follows=run.origin.is_followed)
        if run.origin.address is not None:
            threading.Thread(target=report_channels, name="channels", daemon=True).start()
        result = worker.run(build(worker), run.origin, str(run.to))
        report(result | ({} if run.origin.address is None else {"channels": new_channels()}))


# The recovery store


@contextmanager
def recovery_of(run: FlowRun, *, shared: bool = False) -> Iterator[RecoveryFolder | None]:
    """The run's recovery folder, locked inside the `with` block; None if it has none. `shared`: the parent process has locked it.

    Raises BadRecovery if the folder is another run's, or in use.
    """
    if run.recovery is None:
        yield None
        return
    folder = _open_recovery(run, run.recovery, shared=shared)
    try:
        yield folder
    finally:
        if folder.lock is not None:
            os.close(folder.lock)


def _open_recovery(run: FlowRun, path: Path, *, shared: bool) -> RecoveryFolder:
    first: dict[str, Any] = {"started_at": now_us()}
    if not shared:
        first["shares"] = shares_among(run.origin, run.workers)
    address = run.origin.address
    if address is not None:
        # The engine panics when it resumes a partition that is no longer there, before anybody can look.
        log = log_of(run.settings, address)
        first["topic"] = asdict(log.topic(address.topic))
    first["to_topics"] = {name: asdict(topic) for name, topic in run.to.topics_now().items()}
    state = {"flow": run.flow, "steps": list(run.steps)}
    forgotten = forgotten_of(run.settings)
    note = {"source": run.origin.identity, **run.note, "forgotten": None if forgotten is None else forgotten.digest}
    folder = open_recovery(path, note, first, state, shared=shared)
    if "shares" not in folder.note:
        raise BadRecovery(f"{path}: was made by an older version of beepgpt: delete it and start again")
    if address is not None:
        check_same(Topic(**folder.note["topic"]), Topic(**first["topic"]), log.place)
    for name, topic in first["to_topics"].items():
        check_kept(Topic(**folder.note["to_topics"][name]), Topic(**topic))
    return folder


def note_of_rules(settings: Settings) -> dict[str, Any]:
    """The settings that a recovery folder notes of a run that makes points."""
    return {**asdict(settings.rules), "spec": settings.rules.spec, "workers": settings.run.workers or 1}


def ended_before(recovery: RecoveryFolder | None) -> dict[str, Any] | None:
    """The report of a run that has ended already, after saying so. Raises ChannelMoved if the run can't go on."""
    if recovery is None:
        return None
    if recovery.why_unusable is not None:
        raise ChannelMoved(recovery.why_unusable)
    if recovery.ended is not None:
        console.print(f"This run has ended already, and nothing was done: delete {recovery.path} to run it again.")
    return recovery.ended


def check_source(
    origin: Origin,
    settings: Settings,
    *,
    until: int | None = None,
    since: int | None = None,
    recovery: Path | None = None,
    writes_files: bool = False,
) -> None:
    """Check SOURCE against the flags of a run that makes points. Raises BadCommand."""
    if origin.is_followed and settings.rules.horizon is None:
        raise BadCommand("--horizon unlimited is for bounded input: what is followed has no end at which all could settle")
    if origin.is_followed and until is not None:
        raise BadCommand("--until is for bounded input: what is followed has no end")
    if origin.until is not None and until not in (None, origin.until):
        raise BadCommand(f"--until and to in {origin.text} say the same thing differently: give one")
    if origin.since is not None and since not in (None, origin.since):
        raise BadCommand(f"--since and from in {origin.text} say the same thing differently: give one")
    if settings.run.idle_clock == "wall" and not origin.is_followed:
        raise BadCommand("--idle-clock wall is for a followed topic: kafka://host:port/topic?follow=true")
    if origin.is_followed and recovery is not None and (settings.run.workers or 1) > 1 and writes_files:
        raise BadCommand(
            "several --workers with --recovery make one file at the end of their input, and what is followed has none:"
            " name a topic, or use one worker"
        )
