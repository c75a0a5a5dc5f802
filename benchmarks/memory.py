"""Whether memory follows what is kept, and not what was read: two years of a workspace, and four of the same one.

Twice the events over twice the time, so as many a day. The streams are written to a temporary folder, which needs 3 GB.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import common  # noqa: E402

CHANNELS = 1_000
PEOPLE = 2_000
YEAR = 365
WANTED = {"two_years_mb": 600, "growth": 1.1}


def measure(events: int, days: int, folder: Path, channels: int) -> dict[str, Any]:
    """One run; memory differs little between runs, so one is enough."""
    source = folder / "events.jsonl"
    common.write_once(source, common.made_records(events, channels=channels, days=days, people=PEOPLE))
    done = common.run_program(source, folder / "examples.jsonl")
    size = source.stat().st_size
    source.unlink()
    return {
        "events": events,
        "days": days,
        "channels": channels,
        "file_mb": round(size / 2**20),
        "peak_mb": done.peak_mb,
        "seconds": done.seconds,
        "events_per_second": round(events / done.seconds),
        "adds_up": done.report["account"]["adds_up"],
    }


def main() -> None:
    """Measures, prints, and writes benchmarks/results/memory.json."""
    given = common.options(main.__doc__ or "")
    share = 20 if given.quick else 1
    rows = []
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        for years in (2, 4):
            row = measure(1_000_000 * years // share, YEAR * years // share, Path(folder), CHANNELS // share)
            rows.append(row)
            print(
                f"{row['events']:,} events over {row['days']:,} days in {row['channels']:,} channels: {row['peak_mb']:,.0f} MB at most,"
                f" {row['events_per_second']:,} events/s",
                flush=True,
            )
    growth = rows[1]["peak_mb"] / rows[0]["peak_mb"]
    print(f"twice the events: {growth:.2f} times the memory (wanted: under {WANTED['two_years_mb']} MB, and {WANTED['growth']} times)")
    if not given.quick:
        common.write_results("memory", 1, {"rows": rows, "growth": round(growth, 3), "wanted": WANTED})


if __name__ == "__main__":
    main()
