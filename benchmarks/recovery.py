"""What recovery costs: 10,000 channels with a snapshot every 10 seconds, against the same without; and how soon a killed run goes on.

Runs with and without take turns. Then one is killed (SIGKILL) when it has written two thirds, and started again: `resume` is from that
start until it writes on, and what it has written in the end has to be what the others wrote, byte for byte.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import common  # noqa: E402
from benchmarks.common import Failed, Run  # noqa: E402
from benchmarks.floor import digest  # noqa: E402

CHANNELS = 10_000
EVENTS = 600_000
WANTED = {"ratio": 0.85, "resume_seconds": 10.0}
LOOK_EVERY = 0.01
"""Seconds between two looks at the file that a run writes."""


def size_of(path: Path) -> int:
    """Bytes so far; 0 where there is nothing yet."""
    return path.stat().st_size if path.exists() else 0


def killed_at(size: int, source: Path, to: Path, flags: list[str]) -> None:
    """A run that is killed once its file is so long."""
    with subprocess.Popen(
        common.command_of(source, to, *flags), env=common.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while size_of(to) < size:
            if process.poll() is not None:
                raise Failed("the run was over before it could be killed")
            time.sleep(LOOK_EVERY)
        process.kill()


def resumed(source: Path, to: Path, flags: list[str]) -> float:
    """The same command again, to its end: seconds until it wrote on. What came after the last snapshot is cut off before that."""
    before = size_of(to)
    began = time.monotonic()
    seconds = None
    with subprocess.Popen(
        common.command_of(source, to, *flags), env=common.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            now = size_of(to)
            if seconds is None and now > before:
                seconds = time.monotonic() - began
            before = now
            time.sleep(LOOK_EVERY)
    if process.returncode or seconds is None:
        raise Failed(f"the resumed run: exit status {process.returncode}")
    return seconds


def main() -> None:
    """Measures, prints, and writes benchmarks/results/recovery.json."""
    given = common.options(main.__doc__ or "")
    share, runs = (20, 1) if given.quick else (1, given.runs)
    source = common.made_file(EVENTS // share, channels=CHANNELS // share, days=180, people=5_000)
    without: list[Run] = []
    snapshots: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="recovery-") as name:
        folder = Path(name)
        store = folder / "store"
        to = {what: folder / f"{what}.jsonl" for what in ("without", "with", "killed")}
        flags = ["--recovery", str(store), "--snapshot-every", "1s" if given.quick else "10s"]
        for _ in range(runs):
            shutil.rmtree(store, ignore_errors=True)
            without.append(common.run_program(source, to["without"]))
            snapshots.append(common.run_program(source, to["with"], *flags))
        stored = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        resumes = []
        for _ in range(runs):
            shutil.rmtree(store)
            killed_at(to["with"].stat().st_size * 2 // 3, source, to["killed"], flags)
            resumes.append(resumed(source, to["killed"], flags))
        equal = len({digest(path) for path in to.values()}) == 1
    ratios = [one.seconds / other.seconds for one, other in zip(without, snapshots, strict=True)]
    results = {
        "channels": CHANNELS // share,
        "events": EVENTS // share,
        "seconds_without": common.spread([each.seconds for each in without]),
        "seconds_with": common.spread([each.seconds for each in snapshots]),
        "ratio": common.spread(ratios),
        "resume_seconds": common.spread(resumes, 2),
        "store_mb": round(stored / 2**20),
        "peak_mb_without": max(each.peak_mb for each in without),
        "peak_mb_with": max(each.peak_mb for each in snapshots),
        "equal": equal,
        "wanted": WANTED,
    }
    print(
        f"{results['channels']:,} channels, {results['events']:,} events: with snapshots {common.spread(ratios)['median']:.2f} of the speed"
        f" without (wanted: {WANTED['ratio']}); a killed run writes on after {common.spread(resumes, 2)['median']:.1f} s"
        f" (wanted: {WANTED['resume_seconds']:.0f}); lines {'equal' if equal else 'DIFFERENT'}; store {results['store_mb']} MB"
    )
    if not given.quick:
        common.write_results("recovery", runs, results)


if __name__ == "__main__":
    main()
