"""Whether a training set is made without holding it: time and memory of `beepgpt prepare` over 100,000 and over 1,000,000 examples.

The examples are those of a simulated workspace, again and again, each time later, with ids and prompts of their own. They are written to a
temporary folder, which needs 8 GB.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from beepgpt.connectors.tokenizer import load_encoding  # noqa: E402
from beepgpt.conversations.events import micros, ts_text  # noqa: E402
from beepgpt.conversations.rules import DAY, Rules  # noqa: E402
from beepgpt.conversations.shard import run_through  # noqa: E402
from beepgpt.simulation.workspace import Plan, live_records  # noqa: E402
from benchmarks import common  # noqa: E402

PLAN = Plan(messages=10_000, days=30, channels=10, people=60)
SIZES = (100_000, 1_000_000)
WANTED = {"peak_mb": 1500}


def examples() -> Iterator[bytes]:
    """As many as are asked for, in the order of their time."""
    rules = Rules()
    made = run_through(live_records(PLAN), rules, load_encoding(rules.encoding), until=PLAN.end_us + DAY).examples
    bodies = []
    for line in made:
        body = orjson.loads(line)
        bodies.append(body | {"candidates": orjson.Fragment(orjson.dumps(body["candidates"]))})
    for copy in count():
        yield from (later(body, copy) for body in bodies)


def later(body: dict[str, Any], copy: int) -> bytes:
    """The example as one of a month, some months later."""
    shift = copy * 32 * DAY
    channel, ts, kind = body["conversation"].split(":")
    moved = {name: ts_text(micros(body[name]) + shift) for name in ("prompt_ts", "settled_ts")}
    return orjson.dumps(
        {
            **body,
            **moved,
            "id": sha256(f"{body['id']} {copy}".encode()).hexdigest()[:32],
            "conversation": f"{channel}:{ts_text(micros(ts) + shift)}:{kind}",
            "window": [{**each, "ts": ts_text(micros(each["ts"]) + shift)} for each in body["window"]],
            "prompt": f"{copy}: {body['prompt']}",
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def measure(size: int, folder: Path) -> dict[str, Any]:
    """One run; memory differs little between runs, so one is enough."""
    source, report = folder / "examples.jsonl", folder / "report.json"
    common.write_once(source, islice(examples(), size))
    flags = ["--format", "chat", "--format", "candidates", "--no-progress", "--report", str(report)]
    done = common.run([sys.executable, "-m", "beepgpt", "prepare", str(source), "--to", str(folder / "set"), *flags], folder, report)
    account = done.report["account"]
    return {
        "examples": size,
        "file_mb": round(source.stat().st_size / 2**20),
        "peak_mb": done.peak_mb,
        "seconds": done.seconds,
        "cpu_seconds": done.cpu_seconds,
        "examples_per_second": round(size / done.seconds),
        "train": account["train"]["examples"],
        "valid": account["valid"]["examples"],
        "adds_up": account["adds_up"],
    }


def main() -> None:
    """Measures, prints, and writes benchmarks/results/prepare.json."""
    given = common.options(main.__doc__ or "")
    share = 20 if given.quick else 1
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="prepare-") as folder:
            row = measure(size // share, Path(folder))
        rows.append(row)
        print(
            f"{row['examples']:,} examples, {row['file_mb']:,} MB of them: {row['peak_mb']:,.0f} MB at most, {row['seconds']:,.0f} s,"
            f" {row['examples_per_second']:,} examples/s",
            flush=True,
        )
    each = (rows[1]["peak_mb"] - rows[0]["peak_mb"]) * 2**20 / (rows[1]["examples"] - rows[0]["examples"])
    print(f"{each:,.0f} bytes of memory for each example (wanted: under {WANTED['peak_mb']:,} MB for {SIZES[-1]:,})")
    if not given.quick:
        common.write_results("prepare", 1, {"rows": rows, "bytes_per_example": round(each), "wanted": WANTED})


if __name__ == "__main__":
    main()
