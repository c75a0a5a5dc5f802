"""Kills, for real: a process is killed at random moments and resumed until it is done; its files are as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from beepgpt.simulation.workspace import Plan, live_records
from tests.support import beep, files_in, program, quiet
from tests.support.speed import slowness

PLAN = Plan(
    seed=3, messages=8_000, days=20, channels=12, people=40, heartbeat_every=1_200,
    edits=0.1, deletions=0.05, reactions=0.3, duplicates=0.05, too_late=0.01, broken=0.01, elsewhere=0.1, moves=0.5,
)  # fmt: skip

Victim = Literal["all", "the run", "a worker"]
INF = float("inf")


@dataclass(frozen=True)
class Undisturbed:
    """A history, and what a run gives that nobody kills."""

    source: Path
    files: dict[str, list[bytes]]
    account: dict[str, Any]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The run that all others are compared to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    source = folder / "events.jsonl"
    source.write_bytes(b"".join(line + b"\n" for line in live_records(PLAN)))
    beep(*arguments(source, folder))
    report = report_in(folder)
    assert all(files_in(folder).values()), "each of the files has something to lose"
    return Undisturbed(source, files_in(folder), report["account"], report["seconds"])


def arguments(source: Path, folder: Path, *more: object) -> list[object]:
    """The command that is killed."""
    return ["examples", source, "--to", folder / "made.jsonl", "--report", folder / "report.json", "--snapshot-every", "50ms", *more]


def report_in(folder: Path) -> dict[str, Any]:
    """The closing report of a run."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_bytes())
    return report


def start(command: list[str]) -> subprocess.Popen[str]:
    """The program, to be killed."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=quiet())


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a run has started."""
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


def kill(process: subprocess.Popen[str], victim: Victim, draws: random.Random):
    """SIGKILL, to the run with its workers, to the run alone, or to one of its workers."""
    workers = workers_of(process)
    victims = {"all": [process.pid, *workers], "the run": [process.pid], "a worker": [draws.choice(workers or [process.pid])]}[victim]
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run_with_kills(undisturbed: Undisturbed, folder: Path, seed: int, kills: int, workers: int = 1, victim: Victim = "all") -> int:
    """Kills a run at random moments, so often at most, and resumes it until it is done; returns how many kills hit it at work."""
    draws = random.Random(seed)
    command = program(*arguments(undisturbed.source, folder, "--recovery", folder / "memory", "--workers", workers))
    print(f"seed {seed}, {workers} workers, {victim}")
    hits, last_hit = 0, -INF
    while True:
        process, hit = start(command), False
        if hits < kills:
            with suppress(subprocess.TimeoutExpired):
                process.wait(draws.uniform(0.3, 0.9 + undisturbed.seconds / 2))
            if process.poll() is None:
                kill(process, victim, draws)
                hits, hit, last_hit = hits + 1, True, time.monotonic()
        _, said = process.communicate(timeout=100 * slowness())
        if process.returncode == 0:
            return hits
        # Workers that outlive their run hold its lock until they see that it is gone.
        is_locked = "another run is using it now" in said and time.monotonic() - last_hit < 30
        assert hit or is_locked, said
        time.sleep(0.2 if is_locked else 0)


def assert_undisturbed(undisturbed: Undisturbed, folder: Path):
    """The same lines in each file, each once, and the same account."""
    for name, lines in files_in(folder).items():
        assert lines == undisturbed.files[name], f"{name} differs"
    assert report_in(folder)["account"] == undisturbed.account


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "victim", "kills"), [(1, "all", 3), (2, "the run", 1), (2, "a worker", 1)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    undisturbed: Undisturbed, tmp_path: Path, workers: int, victim: Victim, kills: int
):
    """`kill -9` at random moments: the examples, retractions, late records, dead letters and account of the undisturbed run."""
    hits = run_with_kills(undisturbed, tmp_path, seed=11 + workers, kills=kills, workers=workers, victim=victim)

    assert hits > 0
    assert_undisturbed(undisturbed, tmp_path)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("workers", "victim"), [(1, "all"), (2, "all"), (2, "the run"), (2, "a worker")])
def test_hundreds_of_kills(undisturbed: Undisturbed, tmp_path: Path, seed: int, workers: int, victim: Victim):
    """The same at other moments, four kills a run."""
    run_with_kills(undisturbed, tmp_path, seed=1_000 + seed, kills=4, workers=workers, victim=victim)

    assert_undisturbed(undisturbed, tmp_path)


def has_lines(path: Path) -> bool:
    """Whether something has been written."""
    return path.exists() and path.stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_is_no_end(undisturbed: Undisturbed, tmp_path: Path, asked: signal.Signals, workers: int):
    """Asked to stop, it leaves with status 130 and closes nothing as if the input had ended; started again, it comes to the same result."""
    command = program(*arguments(undisturbed.source, tmp_path, "--recovery", tmp_path / "memory", "--workers", workers))
    parts = [tmp_path / "made.jsonl.parts" / f"examples-{part}.jsonl" for part in range(workers)]
    process = start(command)
    while process.poll() is None and not all(map(has_lines, [tmp_path / "made.jsonl"] if workers == 1 else parts)):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    process.send_signal(asked)
    _, said = process.communicate(timeout=60 * slowness())

    assert process.returncode == 130, said
    account = report_in(tmp_path)["account"]
    assert account["points"]["censored"] == 0
    assert account["points"]["open"] > 0
    assert account["adds_up"]

    beep(*command[3:])
    assert_undisturbed(undisturbed, tmp_path)
