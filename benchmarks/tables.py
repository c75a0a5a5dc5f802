"""Tables of examples against lines of JSON: how large they are, how fast pandas reads them, and what writing them costs a default run.

Needs pandas, which is in the development environment. Processor seconds are compared, since the machine may do other things, too.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402
import pandas as pd  # noqa: E402

from benchmarks import common  # noqa: E402

EVENTS = 40_000
WANTED = {"size": 0.35, "read": 5.0, "write": 0.15}


def seconds_of(job: Callable[[], object]) -> float:
    """Processor seconds of a job."""
    began = time.process_time()
    job()
    return time.process_time() - began


def main() -> None:
    """Measures, prints, and writes benchmarks/results/tables.json."""
    given = common.options(main.__doc__ or "")
    events = EVENTS // (20 if given.quick else 1)
    found: dict[str, list[float]] = {name: [] for name in ("lines", "table", "read_json", "orjson", "read_parquet")}
    with tempfile.TemporaryDirectory(prefix="tables-") as named:
        folder = Path(named)
        source, lines, table = folder / "events.jsonl", folder / "examples.jsonl", folder / "examples.parquet"
        common.write_once(source, common.made_records(events, channels=40, days=180, people=400))
        for _ in range(given.runs):
            found["lines"].append(common.run_program(source, lines).cpu_seconds)
            found["table"].append(common.run_program(source, table).cpu_seconds)
            found["read_json"].append(seconds_of(lambda: pd.read_json(lines, lines=True, dtype=False)))
            found["orjson"].append(seconds_of(lambda: pd.DataFrame([orjson.loads(each) for each in lines.open("rb")])))
            found["read_parquet"].append(seconds_of(lambda: pd.read_parquet(table)))
        size = {"lines": lines.stat().st_size, "table": table.stat().st_size}
        examples = sum(1 for _ in lines.open("rb"))
    best = {name: min(values) for name, values in found.items()}
    share = {
        "size": size["table"] / size["lines"],
        "read": best["read_json"] / best["read_parquet"],
        "read_orjson": best["orjson"] / best["read_parquet"],
        "write": best["table"] / best["lines"] - 1,
    }
    print(
        f"{examples:,} examples of {events:,} events: {size['lines']:,} bytes as lines, {size['table']:,} as a table: {share['size']:.1%}"
    )
    print(f"into pandas: {best['read_json']:.2f} s by read_json, {best['orjson']:.2f} s by orjson, {best['read_parquet']:.2f} s of it")
    print(f"           : {share['read']:.1f} and {share['read_orjson']:.1f} times as fast")
    print(f"a run: {best['lines']:.2f} s to lines, {best['table']:.2f} s to a table ({share['write']:+.1%})")
    print(f"wanted: at most {WANTED['size']:.0%}, at least {WANTED['read']:.0f} times as fast, at most {WANTED['write']:+.0%}")
    if not given.quick:
        seconds = {name: common.spread(values) for name, values in found.items()}
        shares = {name: round(value, 3) for name, value in share.items()}
        body = {"events": events, "examples": examples, "bytes": size, "cpu_seconds": seconds, "shares": shares, "wanted": WANTED}
        common.write_results("tables", given.runs, body)


if __name__ == "__main__":
    main()
