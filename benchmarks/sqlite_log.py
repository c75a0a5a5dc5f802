"""A topic in a folder: how many records a second are written to it, and read from it.

| part | what it measures | wanted |
|---|---|---|
| `write` | a writer that gets batches of 1,000, to the last commit | 50,000/s |
| `read` | a source without an engine, from the first record to the last | 100,000/s |
| `flow` | the same source in Bytewax, and nothing behind it | |

Records are Slack's events of a simulated workspace, under their channels, in 12 partitions. Each part runs so often as `--runs` says, with
a new folder; the medians count. Beside the seconds stands the processor time of this process, which a busy machine changes less.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [str(ROOT), *(each for each in sys.path if each not in (str(ROOT), str(Path(__file__).parent)))]

from beepgpt.commands.topics import FOR_EVER  # noqa: E402
from beepgpt.connectors.log import OutgoingRecord, TopicSpec, chunks_of, folder_place  # noqa: E402
from beepgpt.connectors.sqlite.log import SqliteLog  # noqa: E402
from beepgpt.conversations.events import channels_in  # noqa: E402
from beepgpt.runtime.workers import collect_rarely  # noqa: E402
from benchmarks import common  # noqa: E402

RECORDS = 200_000
QUICK = 20_000
BATCH = 1_000
TOPIC = "slack.events"
WANTED = {"write": 50_000, "read": 100_000}
START = 1_704_110_400_000_000


def made(count: int) -> list[OutgoingRecord]:
    """Events under their channels, a second apart."""
    lines = common.made_records(count, channels=200, days=60, people=400)
    keyed = ((next(iter(channels_in(line)), b"C0"), line) for line in lines)
    return [OutgoingRecord(key, line, (), None, START + number * 1_000_000) for number, (key, line) in enumerate(keyed)]


def timed(count: int, what: Callable[[], object]) -> dict[str, float]:
    """Records a second, and records a second of processor time."""
    began, cpu = time.perf_counter(), time.process_time()
    what()
    return {"per_second": count / (time.perf_counter() - began), "per_cpu_second": count / (time.process_time() - cpu)}


def write(log: SqliteLog, records: list[OutgoingRecord]) -> None:
    """All of them, in batches."""
    with log.writer(TOPIC) as writer:
        for batch in batches(records):
            writer.send(batch)


def batches(records: list[OutgoingRecord]) -> list[list[OutgoingRecord]]:
    """Of `BATCH` each."""
    return [records[first : first + BATCH] for first in range(0, len(records), BATCH)]


def read(log: SqliteLog) -> int:
    """All of them; returns their number."""
    return sum(len(chunk) for _, _, chunk in chunks_of(log.source(TOPIC)))


def flow(log: SqliteLog) -> None:
    """All of them, in the engine."""
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.testing import run_main

    from beepgpt.dataflows.records import CallbackSink

    reading = Dataflow("reading")
    op.output("drop", op.input("read", reading, log.source(TOPIC)), CallbackSink(lambda _: None))
    run_main(reading)  # type: ignore[no-untyped-call]


def one_run(folder: Path, records: list[OutgoingRecord]) -> dict[str, dict[str, float]]:
    """All parts, one after the other."""
    log = SqliteLog(folder_place(str(folder)))
    log.create([TopicSpec(TOPIC, 12, FOR_EVER)])
    count = len(records)
    parts: dict[str, Callable[[], object]] = {"write": lambda: write(log, records), "read": lambda: read(log), "flow": lambda: flow(log)}
    found = {name: timed(count, part) for name, part in parts.items()}
    if (there := read(log)) != count:
        raise common.Failed(f"{there:,} of {count:,} records are there")
    return found


def main() -> None:
    """Measures, prints, and writes benchmarks/results/sqlite_log.json."""
    given = common.options("A topic in a folder: records a second.")
    records = made(QUICK if given.quick else RECORDS)
    collect_rarely()  # as a run of the program has it
    runs = []
    for _ in range(1 if given.quick else given.runs):
        with tempfile.TemporaryDirectory(prefix="sqlite-log-") as folder:
            runs.append(one_run(Path(folder), records))
    size = sum(len(each.value or b"") for each in records) / len(records)
    result: dict[str, Any] = {"records": len(records), "bytes_each": round(size), "parts": {}}
    for part in runs[0]:
        figures = {name: round(median(run[part][name] for run in runs)) for name in ("per_second", "per_cpu_second")}
        wanted = WANTED.get(part)
        result["parts"][part] = figures | ({"wanted": wanted, "reached": figures["per_second"] >= wanted} if wanted else {})
        asked = f" (wanted: {wanted:,}/s)" if wanted else ""
        print(f"{part}: {figures['per_second']:,}/s, {figures['per_cpu_second']:,} a processor second{asked}")
    if not given.quick:
        common.write_results("sqlite_log", len(runs), result)


if __name__ == "__main__":
    main()
