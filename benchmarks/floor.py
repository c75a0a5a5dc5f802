"""The floor: the same work in a plain loop, no dataflow, against `beepgpt examples` as a user runs it.

Both read the same file and write the same lines, each in a process of its own, in turn: A B A B A B. A ratio is the median of the rounds'
own ratios. `after start-up` is what each tells of itself once it has imported what it needs.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from beepgpt.connectors.tokenizer import load_encoding  # noqa: E402
from beepgpt.conversations.channel import FOREVER  # noqa: E402
from beepgpt.conversations.events import parse  # noqa: E402
from beepgpt.conversations.rules import Rules  # noqa: E402
from beepgpt.conversations.shard import Shard  # noqa: E402
from benchmarks import common  # noqa: E402
from benchmarks.common import Run  # noqa: E402

TARGETS = {"without": 0.8, "with": 0.9}
CHUNK = 1_000


def plain_loop(source: Path, to: Path, report: Path, *, candidates: bool) -> None:
    """All that the flow does with a file, without a dataflow."""
    began = time.monotonic()
    rules = Rules(candidates=candidates)
    shard = Shard(rules, load_encoding(rules.encoding), recoverable=False)
    # As the program has it: nothing of ours makes cycles, and a full collection looks at all that is kept.
    gc.freeze()
    gc.set_threshold(20_000, 20, 1_000)
    read = 0
    with source.open("rb") as lines, to.open("wb") as out:
        for read, line in enumerate(lines, start=1):
            shard.read(parse(line.strip(), FOREVER), "all")
            if read % CHUNK == 0:
                out.writelines(example + b"\n" for example in shard.drain().examples)
        shard.end()
        out.writelines(example + b"\n" for example in shard.drain().examples)
    account = shard.account_now()
    report.write_text(json.dumps({"seconds": time.monotonic() - began, "read": read, "account": account.as_json()}))


def run_loop(source: Path, to: Path, candidates: str) -> Run:
    """The plain loop in a process of its own."""
    report = common.report_of(to)
    return common.run([sys.executable, __file__, "loop", str(source), str(to), str(report), candidates], to.parent, report)


def digest(path: Path) -> str:
    """Of the lines, whatever their order: shards come in another one than the loop's channels."""
    return hashlib.sha256(b"".join(sorted(path.read_bytes().splitlines(keepends=True)))).hexdigest()


def compare(name: str, source: Path, candidates: str, runs: int, folder: Path) -> dict[str, Any]:
    """The loop and the flow in turn, over one file."""
    loops: list[Run] = []
    flows: list[Run] = []
    for _ in range(runs):
        loops.append(run_loop(source, folder / "loop.jsonl", candidates))
        flags = () if candidates == "with" else ("--no-candidates",)
        flows.append(common.run_program(source, folder / "flow.jsonl", *flags))
    ratios = {
        "whole": [loop.seconds / flow.seconds for loop, flow in zip(loops, flows, strict=True)],
        "after start-up": [loop.report["seconds"] / flow.report["seconds"] for loop, flow in zip(loops, flows, strict=True)],
        "processor": [loop.cpu_seconds / flow.cpu_seconds for loop, flow in zip(loops, flows, strict=True)],
    }
    records = loops[0].report["read"]
    return {
        "stream": name,
        "candidates": candidates,
        "records": records,
        "loop_seconds": common.spread([each.seconds for each in loops]),
        "flow_seconds": common.spread([each.seconds for each in flows]),
        "loop_per_second": common.spread([records / each.report["seconds"] for each in loops], 0),
        "flow_per_second": common.spread([records / each.report["seconds"] for each in flows], 0),
        "flow_peak_mb": max(each.peak_mb for each in flows),
        "ratio": {what: common.spread(values) for what, values in ratios.items()},
        "target": TARGETS[candidates],
        "equal": digest(folder / "loop.jsonl") == digest(folder / "flow.jsonl"),
    }


def main() -> None:
    """Measures, prints, and writes benchmarks/results/floor.json."""
    given = common.options(main.__doc__ or "")
    events = 15_000 if given.quick else 300_000
    streams: dict[str, Path | None] = {
        f"{events:,} records, {events // 60:,} channels": common.made_file(events, channels=events // 60, days=90),
        "HubSpot": common.hubspot_file(),
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="floor-") as folder:
        for name, source in streams.items():
            if source is None:
                print(f"{name}: not measured, {common.HUBSPOT.name} is not in ../shared/data")
                continue
            for candidates in TARGETS:
                row = compare(name, source, candidates, 1 if given.quick else given.runs, Path(folder))
                rows.append(row)
                ratios = ", ".join(f"{what} {values['median']:.2f}" for what, values in row["ratio"].items())
                print(
                    f"{name}, {candidates} candidates: loop {row['loop_per_second']['median']:,.0f} records/s, flow"
                    f" {row['flow_per_second']['median']:,.0f}; flow to floor: {ratios} (wanted: {row['target']});"
                    f" {'equal' if row['equal'] else 'DIFFERENT'} lines",
                    flush=True,
                )
                if given.quick:
                    break
    if not given.quick:
        common.write_results("floor", given.runs, {"rows": rows})


if __name__ == "__main__":
    if sys.argv[1:2] == ["loop"]:
        plain_loop(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), candidates=sys.argv[5] == "with")
    else:
        main()
