"""One small job for ours and for others: events per second, peak memory, start-up, or how it failed. What the job is: benchmarks/README.md.

`--install` only makes the peers' environments, in a cache folder; without it they are made where they are missing. Linux only: memory
is read from /proc.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # run as a script, it finds ours beside it, installed or not

import orjson  # noqa: E402

from beepgpt.simulation.workspace import Plan, live_records, unchanged, undisturbed  # noqa: E402
from benchmarks.common import JAVA, last_words, machine, simulator_digest  # noqa: E402
from tests.support.broker import Broker, NoBroker  # noqa: E402

PEERS = Path(__file__).with_name("jobs")
RESULTS = Path(__file__).parent / "results" / "peers.json"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beepgpt" / "peers"

PACKAGES = {
    "loop": "orjson",
    "ours": "bytewax",
    "pandas": "pandas",
    "pathway": "pathway",
    "pyflink": "apache-flink",
    "pyspark": "pyspark",
    "quix": "quixstreams",
    "kaskada": "kaskada",
}
"""The package whose version is reported, by peer; the first two run where this runs, the others each in an environment of its own."""
AT_HOME = ("loop", "ours")
SIZES = (50_000, 500_000, 2_000_000)
FIELDS = ("ts", "conversation", "window", "label")
SAMPLE_SECONDS = (0.02, 0.1)
"""Between looks at a run's memory: in its first second, and later."""
MB = 1 << 20
_SIZE = re.compile(r"^(Vm(?:RSS|HWM|Swap)):\s+(\d+) kB", re.MULTILINE)


class DidNotInstall(Exception):
    """A peer has no environment; the message says why."""


@dataclass(frozen=True)
class Limits:
    """When a run is ended."""

    seconds: float
    bytes: int


@dataclass(frozen=True)
class Run:
    """One run of one peer."""

    seconds: float
    peak_mb: float
    """Resident and swapped memory of all its processes together."""
    failed: str | None = None


@dataclass(frozen=True)
class Row:
    """What is known of a peer at a size; times are medians of the runs."""

    peer: str
    events: int
    failed: str | None = None
    """How, if it did; then the numbers are the failed run's, or missing."""
    equal: bool | None = None
    """Whether each run's output was the loop's, line by line."""
    seconds: float | None = None
    seconds_min: float | None = None
    seconds_max: float | None = None
    start_up_seconds: float | None = None
    """A run with one event."""
    events_per_second: float | None = None
    """Of the whole time, start-up and all."""
    events_per_second_after_start_up: float | None = None
    """None where nearly all the time is start-up."""
    peak_mb: float | None = None
    runs: int = 0


# The input, and what is expected


def messages_of(events: int) -> Path:
    """The input of a size, alone in its folder: made once, and again when the simulator or this file changes."""
    path = CACHE / "inputs" / f"{events}-{simulator_digest(Path(__file__))}" / "messages.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as out:
            out.writelines(lines_of(events))
        part.rename(path)
    return path


def plan_of(events: int) -> Plan:
    """A simulated year of messages alone: 200 channels, 2,000 people."""
    return unchanged(Plan(messages=events, days=365, channels=200, people=2_000, bots=0, no_author=0, joins=0))


def lines_of(events: int) -> Iterator[bytes]:
    """The job's messages. A conversation is a thread's replies, or everything posted in the channel itself."""
    for record in live_records(undisturbed(plan_of(events))):
        said = orjson.loads(record)["event"]
        thread = said.get("thread_ts")
        conversation = said["channel"] if thread in (None, said["ts"]) else f"{said['channel']}:{thread}"
        yield orjson.dumps({"conversation": conversation, "ts": said["ts"], "user": said["user"], "text": said["text"]}) + b"\n"


def canonical_lines(output: Path) -> list[bytes]:
    """A peer's output, a file or a folder of part files, as sorted lines of the four fields, written alike."""
    files = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file() and not _is_aside(path, output)]
    lines = []
    for file in files:
        with file.open("rb") as rows:
            for row in rows:
                body = orjson.loads(row)
                lines.append(orjson.dumps({name: body.get(name) for name in FIELDS}))
    lines.sort()  # by ts, then by conversation, which are the first fields
    return lines


def _is_aside(path: Path, output: Path) -> bool:
    """Checksums and logs, which writers of folders put beside their parts."""
    return any(part.startswith("_") or (part.startswith(".") and part.endswith(".crc")) for part in path.relative_to(output).parts)


def difference(output: Path, expected: Path) -> str | None:
    """Where an output is not what is expected, if it is not."""
    try:
        lines = canonical_lines(output)
    except (FileNotFoundError, orjson.JSONDecodeError) as error:
        return f"its output can't be read: {type(error).__name__}"
    count = 0
    with expected.open("rb") as rows:
        for count, row in enumerate(rows, start=1):
            line = lines[count - 1] if count <= len(lines) else b"nothing"
            if line + b"\n" != row:
                return f"line {count:,} differs: {line.decode()} instead of {row.decode().rstrip()}"
    return None if len(lines) == count else f"{len(lines):,} lines instead of {count:,}"


# Environments


def python_of(peer: str) -> Path:
    """The Python that runs a peer."""
    return Path(sys.executable) if peer in AT_HOME else CACHE / "environments" / peer / "bin" / "python"


def install(peer: str) -> None:
    """Makes a peer's environment unless it stands; raises `DidNotInstall`."""
    if peer in AT_HOME:
        return
    requirements = PEERS / peer / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = python_of(peer).parents[1]
    note = folder / "installed.txt"
    if note.exists() and note.read_text() == wanted:
        return
    print(f"Installing {peer}, once.", file=sys.stderr, flush=True)
    for command in (
        [_python_311(), "-m", "venv", "--clear", str(folder)],
        [str(python_of(peer)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise DidNotInstall(f"did not install: {last_words(done.stderr)}")
    note.write_text(wanted)


def _python_311() -> str:
    """Not all of them have wheels for newer ones."""
    for each in (sys.executable, "python3.11"):
        with suppress(OSError):
            ask = [each, "-c", "import sys, venv; print(sys.version_info[:2])"]
            asked = subprocess.run(ask, capture_output=True, text=True, check=False)
            if asked.stdout.strip() == "(3, 11)":
                return each
    raise DidNotInstall("did not install: there is no Python 3.11")


def version_of(peer: str) -> str:
    """The version of what a peer is about."""
    ask = f"import importlib.metadata as m; print(m.version({PACKAGES[peer]!r}))"
    asked = subprocess.run([python_of(peer), "-c", ask], capture_output=True, text=True, check=False)
    return f"{PACKAGES[peer]} {asked.stdout.strip() or '?'}"


def topic_of(source: Path, bootstrap: str) -> dict[str, str]:
    """Variables for Quix: the broker, and a topic that has an input's lines, filled by the first who asks."""
    env = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "QUIX_TOPIC": f"{source.stem}-{source.stat().st_size}"}
    if (key := (bootstrap, env["QUIX_TOPIC"])) not in _filled:
        command = [str(python_of("quix")), str(PEERS / "quix" / "fill.py"), str(source), env["QUIX_TOPIC"]]
        subprocess.run(command, env={**os.environ, **env}, check=True, stdin=subprocess.DEVNULL)
        _filled.add(key)
    return env


_filled: set[tuple[str, str]] = set()


# One run


def measured(command: list[str], env: dict[str, str], folder: Path, limits: Limits) -> Run:
    """One run in its own folder, with the peak memory of all that it starts."""
    before = set(descendants(os.getpid()))
    log = folder / "log.txt"
    with log.open("wb") as out:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        watch = _Watch(before, limits, began)
        watch.start()
        status = process.wait()
        seconds = time.monotonic() - began
        watch.stop()
    for orphan in set(descendants(os.getpid())) - before:
        _kill(orphan)
        with suppress(ChildProcessError):
            os.waitpid(orphan, 0)
    failed = watch.ended_it
    if failed is None and status:
        last = last_words(log.read_text("utf-8", "replace"))
        failed = f"killed by {signal.Signals(-status).name}: {last}" if status < 0 else f"exit status {status}: {last}"
    return Run(round(seconds, 3), round(watch.peak / MB, 1), failed)


class _Watch(threading.Thread):
    """Looks at a run's processes while it lasts, and ends what goes over a limit."""

    def __init__(self, before: set[int], limits: Limits, began: float) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.ended_it: str | None = None
        self._before = before
        self._limits = limits
        self._began = began
        self._over = threading.Event()

    def run(self) -> None:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # of this thread: it takes nothing from who is held to a core
        while not self._over.wait(SAMPLE_SECONDS[time.monotonic() - self._began > 1]):
            processes = set(descendants(os.getpid())) - self._before
            now, highest = _memory(processes)
            self.peak = max(self.peak, now, highest)
            if self.ended_it is None and now > self._limits.bytes:
                self.ended_it = f"ended by us: over {self._limits.bytes / 2**30:g} GB of memory"
            if self.ended_it is None and time.monotonic() - self._began > self._limits.seconds:
                self.ended_it = f"ended by us: over {self._limits.seconds:g} s"
            if self.ended_it is not None:
                for each in processes:
                    _kill(each)

    def stop(self) -> None:
        self._over.set()
        self.join()


def descendants(process: int) -> list[int]:
    """All processes that a process and its children have started, and that still run."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                stat = Path(entry.path, "stat").read_text("utf-8", "replace")
                parent = int(stat.rpartition(")")[2].split()[1])  # a name may hold spaces
                children.setdefault(parent, []).append(int(entry.name))
    found = [process]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def _memory(processes: set[int]) -> tuple[int, int]:
    """Bytes that processes hold together, and the most that one of them ever held."""
    together, highest = 0, 0
    for each in processes:
        with suppress(OSError):
            status = Path(f"/proc/{each}/status").read_text("utf-8", "replace")
            sizes = {name: int(size) * 1024 for name, size in _SIZE.findall(status)}
            together += sizes.get("VmRSS", 0) + sizes.get("VmSwap", 0)
            highest = max(highest, sizes.get("VmHWM", 0))
    return together, highest


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def adopt_orphans() -> None:
    """What a peer leaves behind becomes our child, so that it is counted and ended."""
    ctypes.CDLL(None).prctl(36, 1)  # 36: PR_SET_CHILD_SUBREAPER


# All runs


class Bench:
    """The runs of one start of this script; `rows` grows with them."""

    def __init__(self, folder: Path, limits: Limits, runs: int) -> None:
        self.folder = folder
        self.limits = limits
        self.runs = runs
        self.rows: list[Row] = []
        self._brokers = ExitStack()
        self._bootstrap: str | None = None
        self._start_ups: dict[str, Run] = {}
        self._expected: dict[int, Path] = {}

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._brokers.close()

    def measure(self, peer: str, events: int) -> Row:
        """A peer at a size; a size that a smaller one's failure rules out is not run."""
        row = self._measured(peer, events)
        self.rows.append(row)
        return row

    def _measured(self, peer: str, events: int) -> Row:
        gave_up = [row for row in self.rows if row.peer == peer and row.failed and "ended by us" in row.failed]
        if gave_up:
            return Row(peer, events, f"not run: {gave_up[-1].events:,} events were {gave_up[-1].failed}")
        try:
            install(peer)
            start_up = self._start_up(peer)
        except (DidNotInstall, NoBroker) as error:
            return Row(peer, events, last_words(str(error)))
        if start_up.failed:
            return Row(peer, events, f"with one event: {start_up.failed}", seconds=start_up.seconds, peak_mb=start_up.peak_mb)
        done: list[Run] = []
        for _ in range(self.runs):
            run, wrong = self._run(peer, messages_of(events), self._expected_of(events))
            done.append(run)
            if run.failed or wrong:
                return Row(peer, events, run.failed or wrong, False if wrong else None, run.seconds, peak_mb=run.peak_mb, runs=len(done))
        seconds = median(run.seconds for run in done)
        working = seconds - start_up.seconds
        return Row(
            peer,
            events,
            equal=True,
            seconds=round(seconds, 3),
            seconds_min=min(run.seconds for run in done),
            seconds_max=max(run.seconds for run in done),
            start_up_seconds=start_up.seconds,
            events_per_second=round(events / seconds),
            events_per_second_after_start_up=round(events / working) if working > seconds / 10 else None,
            peak_mb=max(run.peak_mb for run in done),
            runs=len(done),
        )

    def _start_up(self, peer: str) -> Run:
        if peer not in self._start_ups:
            done = [self._run(peer, messages_of(1))[0] for _ in range(self.runs)]
            self._start_ups[peer] = sorted(done, key=lambda run: (run.failed is not None, run.seconds))[len(done) // 2]
        return self._start_ups[peer]

    def _expected_of(self, events: int) -> Path:
        if events not in self._expected:
            made = self.folder / "loop.jsonl"
            subprocess.run([sys.executable, str(PEERS / "loop" / "run.py"), str(messages_of(events)), str(made)], check=True)
            path = self._expected[events] = self.folder / f"expected-{events}.jsonl"
            with path.open("wb") as out:
                out.writelines(line + b"\n" for line in canonical_lines(made))
            made.unlink()
        return self._expected[events]

    def _run(self, peer: str, source: Path, expected: Path | None = None) -> tuple[Run, str | None]:
        folder = self.folder / peer
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        python = python_of(peer)
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"  # as if it were activated: Spark and Flink start `python` by its name
        env["TMPDIR"] = str(folder)
        if peer == "quix":
            env |= topic_of(source, self._broker())
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        run = measured([str(python), str(PEERS / peer / "run.py"), str(source), str(folder / "examples.jsonl")], env, folder, self.limits)
        os.sched_setaffinity(0, cores)
        wrong = None if expected is None or run.failed else difference(folder / "examples.jsonl", expected)
        shutil.rmtree(folder, ignore_errors=True)
        return run, wrong

    def _broker(self) -> str:
        """A broker for who can't do without: it is no part of the peer's memory, and shares the machine with it."""
        if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            return given
        if self._bootstrap is None:
            folder = self.folder / "broker"
            folder.mkdir()
            broker = Broker(folder, java=JAVA)
            broker.start()
            self._brokers.callback(broker.kill)
            self._bootstrap = broker.bootstrap
        return self._bootstrap


# Results


def write_results(to: Path, rows: list[Row], limits: Limits, runs: int) -> None:
    """The results so far; what was measured before on a machine like this one, and not again now, stays."""
    here = machine()
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    versions: dict[str, str] = {}
    if to.exists():
        before = json.loads(to.read_text("utf-8"))
        if before["machine"] == here:
            kept = {(row["peer"], row["events"]): row for row in before["rows"]}
            versions = before["versions"]
    kept |= {(row.peer, row.events): asdict(row) for row in rows}
    versions |= {peer: version_of(peer) for peer in {row.peer for row in rows} if python_of(peer).exists()}
    order = list(PACKAGES)
    results = {
        "machine": here,
        "versions": dict(sorted(versions.items())),
        "limits": {"seconds": limits.seconds, "memory_gb": limits.bytes / 2**30, "runs": runs},
        "rows": [kept[key] for key in sorted(kept, key=lambda key: (key[1], order.index(key[0])))],
    }
    to.parent.mkdir(exist_ok=True)
    to.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")


HEAD = f"{'peer':<9}{'events':>10}{'seconds':>10}{'spread':>16}{'start-up':>10}{'events/s':>11}{'after start':>13}{'peak MB':>9}  output"


def summary(row: Row) -> str:
    """A row of the printed table."""
    if row.failed:
        return f"{row.peer:<9}{row.events:>10,}  {row.failed}"
    after = "-" if row.events_per_second_after_start_up is None else f"{row.events_per_second_after_start_up:,.0f}"
    spread = f"{row.seconds_min:.2f}-{row.seconds_max:.2f}"
    return (
        f"{row.peer:<9}{row.events:>10,}{row.seconds:>10.2f}{spread:>16}{row.start_up_seconds:>10.2f}{row.events_per_second:>11,.0f}"
        f"{after:>13}{row.peak_mb:>9,.0f}  {'equal' if row.equal else 'different'}"
    )


def verdict(rows: list[Row], events: int) -> str | None:
    """How many times the best peer's speed is ours, at a size."""
    speeds = {row.peer: row.events_per_second for row in rows if row.events == events and row.events_per_second}
    ours = speeds.get("ours")
    others = {peer: speed for peer, speed in speeds.items() if peer not in AT_HOME}
    if ours is None or not others:
        return None
    best = max(others, key=lambda peer: others[peer])
    return f"{events:>10,} events: a Bytewax flow of our shape is {ours / others[best]:.1f} times the best peer, {best}"


def main() -> None:
    """Measures, prints, and writes benchmarks/results/peers.json."""
    parser = argparse.ArgumentParser(description="The same small job for ours and for others.")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="events, with commas between")
    parser.add_argument("--only", default=",".join(PACKAGES), help="peers, with commas between")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600, help="a longer run is ended")
    parser.add_argument("--memory", type=float, default=16, help="GB; a run that takes more is ended")
    parser.add_argument("--to", type=Path, default=RESULTS, help="the file of results")
    parser.add_argument("--install", action="store_true", help="make the peers' environments, and measure nothing")
    given = parser.parse_args()
    sizes, peers = [int(size) for size in given.sizes.split(",")], given.only.split(",")
    if unknown := set(peers) - set(PACKAGES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PACKAGES)}")
    if given.install:
        for peer in peers:
            try:
                install(peer)
                print(f"{peer:<9}{version_of(peer)}")
            except DidNotInstall as error:
                print(f"{peer:<9}{error}")
        return
    if sys.platform != "linux":
        parser.exit(message="benchmarks/peers.py needs Linux: it reads memory from /proc\n")
    adopt_orphans()
    limits = Limits(given.seconds, int(given.memory * 2**30))
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory(prefix="peers-") as folder, Bench(Path(folder), limits, given.runs) as bench:
        for events in sizes:
            for peer in peers:
                print(summary(bench.measure(peer, events)), flush=True)
                write_results(given.to, bench.rows, limits, given.runs)
    for events in sizes:
        if line := verdict(bench.rows, events):
            print(line)


if __name__ == "__main__":
    main()
