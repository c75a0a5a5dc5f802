"""Tables of examples against lines of JSON: how large they are, how fast pandas reads them, and what writing them costs a default run.

Needs pandas, which is in the development environment. Runs to lines and to a table take turns. Of a run both are measured: its seconds, in
which a second processor may write the table, less those in which the machine's other work kept it waiting; and its processor seconds.
"""

from __future__ import annotations

import os
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
    made: dict[str, list[common.Run]] = {"lines": [], "table": []}
    read: dict[str, list[float]] = {"read_json": [], "orjson": [], "read_parquet": []}
    load = os.getloadavg()[1]
    with tempfile.TemporaryDirectory(prefix="tables-") as named:
        folder = Path(named)
        source, lines, table = folder / "events.jsonl", folder / "examples.jsonl", folder / "examples.parquet"
        common.write_once(source, common.made_records(events, channels=40, days=180, people=400))
        for _ in range(given.runs):
            made["lines"].append(common.run_program(source, lines))
            made["table"].append(common.run_program(source, table))
        for _ in range(given.runs):
            read["read_json"].append(seconds_of(lambda: pd.read_json(lines, lines=True, dtype=False)))
            read["orjson"].append(seconds_of(lambda: pd.DataFrame([orjson.loads(each) for each in lines.open("rb")])))
            read["read_parquet"].append(seconds_of(lambda: pd.read_parquet(table)))
        size = {"lines": lines.stat().st_size, "table": table.stat().st_size}
        examples = sum(1 for _ in lines.open("rb"))
    cpu = {name: [run.cpu_seconds for run in runs] for name, runs in made.items()} | read
    cpu_seconds = {name: common.spread(values) for name, values in cpu.items()}
    seconds = {name: common.spread([run.seconds - run.waited for run in runs]) for name, runs in made.items()}
    used = {name: each["median"] for name, each in cpu_seconds.items()}
    share = {
        "size": size["table"] / size["lines"],
        "read": used["read_json"] / used["read_parquet"],
        "read_orjson": used["orjson"] / used["read_parquet"],
        "write": seconds["table"]["median"] / seconds["lines"]["median"] - 1,
        "write_cpu": used["table"] / used["lines"] - 1,
    }
    print(
        f"{examples:,} examples of {events:,} events: {size['lines']:,} bytes as lines, {size['table']:,} as a table: {share['size']:.1%}"
    )
    print(f"into pandas: {used['read_json']:.2f} s by read_json, {used['orjson']:.2f} s by orjson, {used['read_parquet']:.2f} s of it")
    print(f"           : {share['read']:.1f} and {share['read_orjson']:.1f} times as fast")
    print(f"a run: {seconds['lines']['median']:.2f} s to lines, {seconds['table']['median']:.2f} s to a table ({share['write']:+.1%})")
    print(f"     : of a processor {used['lines']:.2f} s, {used['table']:.2f} s ({share['write_cpu']:+.1%}), beside a load of {load:.1f}")
    print(f"wanted: at most {WANTED['size']:.0%}, at least {WANTED['read']:.0f} times as fast, at most {WANTED['write']:+.0%}")
    if not given.quick:
        shares = {name: round(value, 3) for name, value in share.items()}
        times = {"seconds": seconds, "cpu_seconds": cpu_seconds, "load_before": round(load, 1)}
        common.write_results(
            "tables", given.runs, {"events": events, "examples": examples, "bytes": size, **times, "shares": shares, "wanted": WANTED}
        )


if __name__ == "__main__":
    main()
