"""How speed and memory grow: with channels, people of a channel, events, and messages of a window.

`beepgpt examples` with one worker, as often as `--runs` says; ten million events once. Speed is of processor time, less that of a run with
one event, so that it hangs little on what else the machine does.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import common  # noqa: E402
from benchmarks.common import Run  # noqa: E402


@dataclass(frozen=True)
class Stream:
    """What is followed."""

    channels: int = 1_000
    people: int = 2_000
    events: int = 100_000
    window: int = 5

    @property
    def days(self) -> float:
        """Long histories take long: as many events a day in all streams but the small ones."""
        return max(90.0, 90.0 * self.events / 1_000_000)


SWEEPS = {
    "channels": [Stream(channels=each) for each in (1, 10, 100, 1_000, 10_000, 100_000)],
    "people": [Stream(channels=1, people=each) for each in (10, 100, 1_000, 10_000, 50_000)],
    "events": [Stream(events=each) for each in (10_000, 100_000, 1_000_000, 10_000_000)],
    "window": [Stream(window=each) for each in (5, 20, 100)],
}
"""The streams in which one thing changes. One channel with everything in it is the hot one."""
MOST = int(os.environ.get("BENCHMARK_EVENTS", "10000000"))
"""Longer streams are left out: ten million events take most of an hour, and 7 GB of disk."""
LONG = 1_000_000
"""More events than these are followed once."""


def main() -> None:
    """Measures, prints, and writes benchmarks/results/growth.json."""
    given = common.options(main.__doc__ or "")
    smaller, most = (20, LONG) if given.quick else (1, MOST)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        start_up = measured(Stream(events=1), Path(folder), 1)[0].cpu_seconds
        known: dict[Stream, list[Run]] = {}
        for sweep, streams in SWEEPS.items():
            for each in (stream for stream in streams if stream.events <= most):
                stream = Stream(each.channels, each.people, each.events // smaller, each.window)
                if stream not in known:  # the one that all sweeps but one go through
                    known[stream] = measured(stream, Path(folder), 1 if given.quick or stream.events > LONG else given.runs)
                runs = known[stream]
                row = {
                    "sweep": sweep,
                    **asdict(stream),
                    "runs": len(runs),
                    "events_per_second": common.spread([stream.events / (run.cpu_seconds - start_up) for run in runs], 0),
                    "peak_mb": common.spread([run.peak_mb for run in runs], 0),
                }
                rows.append(row)
                print(
                    f"{sweep:<9}{getattr(stream, sweep):>11,}: {row['events_per_second']['median']:>7,.0f} events/s of a processor,"
                    f" {row['peak_mb']['median']:>6,.0f} MB at most",
                    flush=True,
                )
    if not given.quick:
        common.write_results("growth", given.runs, {"start_up_seconds": start_up, "rows": rows})


def measured(stream: Stream, folder: Path, runs: int) -> list[Run]:
    """Runs over one stream."""
    source = common.made_file(stream.events, channels=stream.channels, days=stream.days, people=stream.people)
    return [common.run_program(source, folder / "examples.jsonl", "--window", str(stream.window)) for _ in range(runs)]


if __name__ == "__main__":
    main()
