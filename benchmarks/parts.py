"""Microseconds a record and a point, by part of the work, in the plain loop (`floor.py`): what to look at before making anything faster.

A stopwatch is put around each part's own function, and its price, measured beforehand, taken off. `the rest` is what the whole takes
without stopwatches, less the parts: conversations, windows, points, the account. Rounds with and without take turns. The targets are
given for a machine on which `orjson.loads` of a record takes 1.5 microseconds, so `normalised` is times 1.5 over what it takes here.

The same loop with the compiled build (setup.py), in a process of its own and without stopwatches, which find no place there.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from beepgpt.connectors.tokenizer import load_encoding  # noqa: E402
from beepgpt.conversations import channel, events, examples, output, shard  # noqa: E402
from beepgpt.conversations import features as people  # noqa: E402
from beepgpt.conversations.channel import FOREVER  # noqa: E402
from beepgpt.conversations.reorder import ReorderBuffer  # noqa: E402
from beepgpt.conversations.rules import Rules  # noqa: E402
from beepgpt.conversations.shard import Shard  # noqa: E402
from benchmarks import common  # noqa: E402
from tests.mutations.running import planted  # noqa: E402

PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "decode": ((events, "parse"),),
    "buffer": ((ReorderBuffer, "add"), (ReorderBuffer, "is_duplicate"), (shard, "heappop")),
    "clean": ((examples, "clean"),),
    "tokens": ((examples, "unit_tokens"),),
    "facts": ((examples, "words_of"), (people.People, "posted"), (people.People, "candidates"), (output, "fill_in")),
    "prompt": ((examples, "build_prompt"),),
    "encode": ((examples, "example_bytes"), (channel, "example_id")),
}
"""The functions of each part, where they are looked up. None of them calls another."""
WANTED = {"without": ("us_per_record", 40.0), "with": ("us_per_point", 250.0)}
clock = time.perf_counter


class Stopwatch:
    """The time that calls take together, and how many there were."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = clock()
            result = function(*args, **kwargs)
            self.seconds += clock() - began
            self.calls += 1
            return result

        return timed


def price() -> tuple[float, float]:
    """Seconds that a stopwatch adds to a call: what it sees of that itself, and all of it."""
    watch = Stopwatch()
    calls = 100_000

    def nothing(value: int) -> int:
        return value

    timed = watch.around(nothing)
    began = clock()
    for number in range(calls):
        nothing(number)
    plain = clock() - began
    began = clock()
    for number in range(calls):
        timed(number)
    return watch.seconds / calls, (clock() - began - plain) / calls


def put_around(stack: ExitStack) -> dict[str, Stopwatch]:
    """Stopwatches around all parts' functions, until the stack is closed."""
    watches = {part: Stopwatch() for part in PARTS}
    for part, functions in PARTS.items():
        for place, name in functions:
            function = getattr(place, name)
            setattr(place, name, watches[part].around(function))
            stack.callback(setattr, place, name, function)
    return watches


def one_round(records: list[bytes], warm: int, rules: Rules, *, timed: bool) -> dict[str, Any]:
    """The plain loop; the result is of the records after the first `warm`."""
    followed = Shard(rules, load_encoding(rules.encoding), recoverable=False)
    with ExitStack() as stack:
        watches = put_around(stack) if timed else {}
        for record in records[:warm]:
            followed.read(events.parse(record, FOREVER), "all")
        followed.drain()
        points = followed.account["points"]
        before = {part: (watch.seconds, watch.calls) for part, watch in watches.items()}
        gc.collect()
        began = clock()
        for record in records[warm:]:
            followed.read(events.parse(record, FOREVER), "all")
        seconds = clock() - began
    made = followed.drain().examples
    columns = [len(orjson.loads(example)["candidates"]["user"]) for example in made[-2_000:]] if rules.candidates else [0]
    return {
        "seconds": seconds,
        "points": followed.account["points"] - points,
        "parts": {part: (watch.seconds - before[part][0], watch.calls - before[part][1]) for part, watch in watches.items()},
        "candidates": sum(columns) / max(1, len(columns)),
    }


def loads_us(records: list[bytes]) -> float:
    """Microseconds of `orjson.loads` of a record, as it comes."""
    readable = []
    for record in records:
        try:
            orjson.loads(record)
            readable.append(record)
        except orjson.JSONDecodeError:
            continue
    began = clock()
    for record in readable:
        orjson.loads(record)
    return (clock() - began) / len(readable) * 1e6


def records_of(source: Path, most: int) -> list[bytes]:
    """The first records of a stream."""
    with source.open("rb") as lines:
        return [line.strip() for line in islice(lines, most)]


def whole_loops(source: Path, candidates: str, runs: int, most: int) -> dict[str, list[float]]:
    """Seconds of each round without stopwatches, and what `orjson.loads` took beside it."""
    records = records_of(source, most)
    warm = len(records) // 2
    rules = Rules(candidates=candidates == "with")
    rounds = [(loads_us(records[warm:]), one_round(records, warm, rules, timed=False)["seconds"]) for _ in range(runs)]
    return {"loads_us": [loads for loads, _ in rounds], "seconds": [seconds for _, seconds in rounds]}


def has_compiler() -> bool:
    """Whether the compiled build can be made here."""
    return shutil.which(os.environ.get("CC", "cc")) is not None


def build_in(tree: Path) -> Path:
    """Compiles a copy of the code in place. Raises CalledProcessError."""
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(build, cwd=tree, env={**os.environ, "BEEPGPT_COMPILE": "1"}, check=True, stdout=subprocess.DEVNULL)
    return tree


def compiled(tree: Path, source: Path, candidates: str, runs: int, most: int, here: int, per_point: float) -> dict[str, Any]:
    """The same stream by the compiled build."""
    ask = f"import sys, json; from benchmarks import parts; from pathlib import Path; parts.set_up(); print(json.dumps(parts.whole_loops(Path({str(source)!r}), {candidates!r}, {runs}, {most})))"  # noqa: E501
    env = {**os.environ, "PYTHONPATH": str(tree)}
    output = subprocess.run([sys.executable, "-c", ask], cwd=tree, env=env, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[float]] = json.loads(output)
    us = [seconds / here * 1e6 for seconds in found["seconds"]]
    normal = common.LOADS_US / median(found["loads_us"])
    return {
        "us_per_record": common.spread(us, 1),
        "us_per_point": common.spread([each * per_point for each in us], 1),
        "normalised": {"us_per_record": round(median(us) * normal, 1), "us_per_point": round(median(us) * normal * per_point, 1)},
    }


def measure(name: str, source: Path, candidates: str, runs: int, most: int, tree: Path | None) -> dict[str, Any]:
    """One stream, with or without candidates, over its second half: by then there are people to be candidates."""
    records = records_of(source, most)
    warm = len(records) // 2
    here = len(records) - warm
    rules = Rules(candidates=candidates == "with")
    seen, added = price()
    wholes, loads, by_part = [], [], []
    for _ in range(runs):
        loads.append(loads_us(records[warm:]))
        wholes.append(one_round(records, warm, rules, timed=False))
        by_part.append(one_round(records, warm, rules, timed=True))
    whole = median(each["seconds"] for each in wholes) / here * 1e6
    per_point = here / wholes[0]["points"]
    parts = {part: median((each["parts"][part][0] - each["parts"][part][1] * seen) / here * 1e6 for each in by_part) for part in PARTS}
    watched = median((each["seconds"] - added * sum(calls for _, calls in each["parts"].values())) / here * 1e6 for each in by_part)
    parts["the rest"] = watched - sum(parts.values())
    normal = common.LOADS_US / median(loads)
    return {
        "stream": name,
        "candidates": candidates,
        "records": here,
        "points": wholes[0]["points"],
        "candidates_per_example": round(wholes[0]["candidates"], 1),
        "loads_us": common.spread(loads, 2),
        "us_per_record": common.spread([each["seconds"] / here * 1e6 for each in wholes], 1),
        "us_per_point": common.spread([each["seconds"] / here * 1e6 * per_point for each in wholes], 1),
        "normalised": {"us_per_record": round(whole * normal, 1), "us_per_point": round(whole * normal * per_point, 1)},
        "wanted": {WANTED[candidates][0]: WANTED[candidates][1]},
        "sum_of_parts_us": round(watched, 1),
        "parts_us_per_record": {part: round(us, 2) for part, us in parts.items()},
        "parts_us_per_point": {part: round(us * per_point, 2) for part, us in parts.items()},
        "compiled": None if tree is None else compiled(tree, source, candidates, runs, most, here, per_point),
    }


def main() -> None:
    """Measures, prints, and writes benchmarks/results/parts.json."""
    given = common.options(main.__doc__ or "")
    most = 10_000 if given.quick else 120_000
    set_up()
    streams = {
        "5,000 channels": common.made_file(15_000 if given.quick else 300_000, channels=250 if given.quick else 5_000, days=90),
        "4 channels": common.made_file(15_000 if given.quick else 120_000, channels=4, days=180),  # where all 40 candidates are there
    }
    rows = []
    with planted(None) if has_compiler() else nullcontext() as copy:
        tree = None if copy is None else build_in(copy)
        for name, source in streams.items():
            for candidates, (what, wanted) in WANTED.items():
                row = measure(name, source, candidates, 1 if given.quick else given.runs, most, tree)
                rows.append(row)
                print_row(row, what, wanted)
    if not given.quick:
        common.write_results("parts", given.runs, {"rows": rows})


def set_up() -> None:
    """As the program has it: nothing of ours makes cycles."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 1_000)


def print_row(row: dict[str, Any], what: str, wanted: float) -> None:
    """A row, for whoever waits."""
    parts = ", ".join(f"{part} {us:.1f}" for part, us in row["parts_us_per_record"].items())
    with_c = f", compiled {row['compiled']['normalised'][what]:.1f}" if row["compiled"] else ""
    print(
        f"{row['stream']}, {row['candidates']} candidates ({row['candidates_per_example']:.0f} an example): "
        f"{row['us_per_record']['median']:.1f} us a record, {row['us_per_point']['median']:.1f} a point, orjson.loads"
        f" {row['loads_us']['median']:.2f}; normalised {row['normalised'][what]:.1f}{with_c} (wanted: {wanted:.0f})."
        f" By part, a record: {parts}; together {row['sum_of_parts_us']:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
