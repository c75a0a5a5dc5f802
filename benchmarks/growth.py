"""How speed and memory grow with the number of channels and the length of the window. One channel with everything in it is the hot one.

`beepgpt examples` over as many simulated events each time. Speed is of the time after start-up.
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
from benchmarks.common import Run  # noqa: E402

CHANNELS = (1, 10, 100, 1_000, 10_000, 100_000)
WINDOWS = (5, 20, 100)
USUAL_CHANNELS = 1_000
USUAL_WINDOW = 5
EVENTS = 100_000


def main() -> None:
    """Measures, prints, and writes benchmarks/results/growth.json."""
    given = common.options(main.__doc__ or "")
    events, runs = (EVENTS // 20, 1) if given.quick else (EVENTS, given.runs)
    settings = [(channels, USUAL_WINDOW) for channels in CHANNELS] + [(USUAL_CHANNELS, window) for window in WINDOWS]
    done: dict[tuple[int, int], list[Run]] = {each: [] for each in settings}
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        for _ in range(runs):
            for (channels, window), runs_so_far in done.items():
                source = common.made_file(events, channels=channels, days=90)
                runs_so_far.append(common.run_program(source, Path(folder) / "examples.jsonl", "--window", str(window)))
    rows: list[dict[str, Any]] = []
    for (channels, window), measured in done.items():
        row: dict[str, Any] = {
            "channels": channels,
            "window": window,
            "events": events,
            "events_per_second": common.spread([events / each.report["seconds"] for each in measured], 0),
            "peak_mb": common.spread([each.peak_mb for each in measured], 0),
        }
        rows.append(row)
        print(
            f"{channels:>7,} channels, window {window:>3}: {row['events_per_second']['median']:>7,.0f} events/s,"
            f" {row['peak_mb']['median']:>5,.0f} MB at most",
            flush=True,
        )
    if not given.quick:
        common.write_results("growth", runs, {"rows": rows})


if __name__ == "__main__":
    main()
