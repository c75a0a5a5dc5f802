"""What the benchmarks share: simulated streams, runs of the program, medians with their spread, files of results."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # run as a script, each finds ours beside it, installed or not

import beepgpt.simulation  # noqa: E402
from beepgpt.connectors.slack.export import UnreadableDay, open_export, read_days  # noqa: E402
from beepgpt.conversations.export import records_of  # noqa: E402
from beepgpt.simulation.workspace import Plan, live_records  # noqa: E402

RESULTS = Path(__file__).parent / "results"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beepgpt" / "benchmarks"
HUBSPOT = ROOT.parent / "shared" / "data" / "hubspot-dev-2016-2023.zip"
LOADS_US = 1.5
"""Microseconds that `orjson.loads` of a record takes on the machine that the targets are given for."""
JAVA = ("-Xms1g", "-Xmx1g", "-XX:+UseG1GC")
"""For a broker, as Kafka's own start script has it."""
RECORDS_PER_POST = 1.3
"""About: posts, and the edits, reactions and all else that comes with them."""


class Failed(Exception):
    """A run of the program failed; the message is its last words."""


@dataclass(frozen=True)
class Run:
    """One run of the program, in a process of its own."""

    seconds: float
    """Of the whole process, start-up and all."""
    cpu_seconds: float
    waited: float
    """Seconds in which its main thread could have gone on, and the machine did other things; 0 without Linux's /proc."""
    peak_mb: float
    report: dict[str, Any]
    """What the program says of itself; its own `seconds` begin after start-up."""


def machine() -> dict[str, Any]:
    """Where this was measured."""
    models = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(re.findall(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)[0])
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**20, 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def last_words(said: str) -> str:
    """The last error that a program printed, or its last lines, without the paths and addresses of this machine.

    >>> last_words("at /home/ana/run.py\\nMemoryError: no more in /home/ana/run.py\\nBye.\\n")
    'MemoryError: no more in …/run.py'
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Panic)\b", line)]
    words = errors[-1] if errors else " | ".join(lines[-4:])
    words = re.sub(r"\w+://\S+", "…", words)
    return re.sub(r"(?:/[\w.@+~-]+)+/(?=[\w.@+~-])", "…/", words)[:600]


def options(what: str) -> argparse.Namespace:
    """The flags that all benchmarks have."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the size, to see that it works; nothing is written")
    return parser.parse_args()


# Streams


def made_records(events: int, *, channels: int, days: float, people: int) -> Iterator[bytes]:
    """A simulated workspace's live stream, with all that goes wrong on the way, cut at so many records, a line each."""
    plan = Plan(messages=int(events / RECORDS_PER_POST) + 1_000, days=days, channels=channels, people=people)
    for record in islice(live_records(plan), events):
        yield record.replace(b"\n", b" ") + b"\n"


def simulator_digest(*more: Path) -> str:
    """A digest of the simulator's source, and of more files: the key under which simulated inputs are cached."""
    sources = [*sorted(Path(beepgpt.simulation.__file__).parent.glob("*.py")), *more]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def made_file(events: int, *, channels: int, days: float, people: int = 2_000) -> Path:
    """The same as a file: made once, and again when the simulator changes."""
    path = CACHE / f"{events}-{channels}-{days:g}-{people}-{simulator_digest()}.jsonl"
    if not path.exists():
        write_once(path, made_records(events, channels=channels, days=days, people=people))
    return path


def hubspot_file() -> Path | None:
    """HubSpot's export as a file of events, as the export reader tells them; None where it is not."""
    if not HUBSPOT.exists():
        return None
    path = CACHE / f"hubspot-{HUBSPOT.stat().st_size}.jsonl"
    if not path.exists():
        export = open_export(HUBSPOT)
        days = ((channel, [day for day in read_days(export, channel) if not isinstance(day, UnreadableDay)]) for channel in export.channels)
        write_once(path, (record + b"\n" for channel, each in days for record in records_of(channel.id, each)))
    return path


def write_once(path: Path, lines: Iterator[bytes]) -> None:
    """All of it, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as out:
        out.writelines(lines)
    part.rename(path)


# Runs


def command_of(source: Path, to: Path, *flags: str) -> list[str]:
    """`beepgpt examples` as a user runs it, in one process, with the report that says how it went."""
    return [
        sys.executable,
        "-m",
        "beepgpt",
        "examples",
        str(source),
        "--to",
        str(to),
        "--no-progress",
        "--workers",
        "1",
        "--report",
        str(report_of(to)),
        *flags,
    ]


def report_of(to: Path) -> Path:
    """Where a run to `to` writes its report."""
    return to.with_suffix(".report.json")


def environment() -> dict[str, str]:
    """Without anybody's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BEEPGPT_")}


def run_program(source: Path, to: Path, *flags: str) -> Run:
    """One run to its end."""
    return run(command_of(source, to, *flags), to.parent, report_of(to))


def run(command: Sequence[str], folder: Path, report: Path) -> Run:
    """One process to its end, with its time, its processor time and its peak memory; `report` is a JSON file that it writes."""
    log = folder / "log.txt"
    with log.open("wb") as out:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        waited = 0.0
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            waited = max(waited, _waited(process.pid))
            time.sleep(0.005)
        _, status, used = ended
        seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"exit status {process.returncode}: {last_words(log.read_text('utf-8', 'replace'))}")
    kilobyte = 1 if sys.platform == "darwin" else 1 << 10
    peak_mb = used.ru_maxrss * kilobyte / (1 << 20)
    return Run(
        round(seconds, 3), round(used.ru_utime + used.ru_stime, 3), round(waited, 3), round(peak_mb, 1), json.loads(report.read_bytes())
    )


def _waited(process: int) -> float:
    with suppress(OSError):
        return int(Path(f"/proc/{process}/task/{process}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


# Results


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median, least and most.

    >>> spread([1.0, 3.0, 2.0])
    {'median': 2.0, 'min': 1.0, 'max': 3.0}
    """
    return {"median": round(median(values), digits), "min": round(min(values), digits), "max": round(max(values), digits)}


def write_results(name: str, runs: int, results: Mapping[str, Any]) -> None:
    """A benchmark's file of results, with where and with what it was measured."""
    versions = {package: version(package) for package in ("bytewax", "orjson", "tiktoken")}
    RESULTS.mkdir(exist_ok=True)
    body = {"machine": machine(), "versions": versions, "runs": runs, **results}
    (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", "utf-8")
