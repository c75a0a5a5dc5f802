"""How long the local model takes to train, and to predict: one point alone, and a hundred at once, on one thread.

On HubSpot's examples where they are, else on a simulated workspace's. A prediction begins with points as they come, decoded JSON, and ends
with everybody's probabilities; reading the JSON itself is not counted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # before this folder, which has a training.py, too

import orjson  # noqa: E402

from beepgpt.training.models import load_model  # noqa: E402
from beepgpt.training.points import Model, points_of  # noqa: E402
from benchmarks import common  # noqa: E402

WANTED = {"train_seconds": 300.0, "alone_us": 4_000.0, "in_hundreds_us": 350.0}
BATCH = 100
POINTS = 2_000
CUT = "2022-12-07T22:58:13Z"
"""Where HubSpot's last 20 % of time begin."""


def options() -> argparse.Namespace:
    """The flags that all benchmarks have, and where a set is that was made before."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small simulated workspace, to see that it works; nothing is written")
    parser.add_argument("--made", type=Path, help="HubSpot's examples, made before: MADE.jsonl, and their training set")
    parser.add_argument("--set", type=Path)
    return parser.parse_args()


def training_set(folder: Path, *, quick: bool) -> tuple[Path, list[bytes]]:
    """The folder that is trained on, and points to predict."""
    real = None if quick else common.hubspot_file()
    source = real or common.made_file(20_000 if quick else 300_000, channels=50, days=365, people=300)
    made = folder / "made.jsonl"
    common.run_program(source, made)
    cut = ["--cut", CUT] if real else []
    beepgpt("prepare", made, "--to", folder / "set", "--format", "candidates", "--no-progress", *cut)
    return folder / "set", some_lines(made)


def some_lines(made: Path) -> list[bytes]:
    """Examples from all over the file."""
    with made.open("rb") as file:
        count = sum(1 for _ in file)
    step = max(count // POINTS, 1)
    with made.open("rb") as file:
        return list(islice(islice(file, 0, None, step), POINTS))


def beepgpt(*arguments: object) -> float:
    """One command to its end; gives the seconds it took."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "beepgpt", *map(str, arguments)], env=common.environment(), check=True, capture_output=True)
    return time.perf_counter() - began


def predict_us(model: Model, lines: list[bytes], batch: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Microseconds a point, in batches of this size, each decoded just before."""
    seconds = 0.0
    for first in range(0, len(lines), batch):
        bodies = [orjson.loads(line) for line in lines[first : first + batch]]
        began = clock()
        model.predict(points_of(bodies))
        seconds += clock() - began
    return seconds / len(lines) * 1e6


def main() -> None:
    """Measures, prints, and writes benchmarks/results/training.json."""
    given = options()
    runs = 1 if given.quick else given.runs
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        if given.made and given.set:
            trained_on, lines = given.set, some_lines(given.made)
        else:
            trained_on, lines = training_set(Path(folder), quick=given.quick)
        seconds = [beepgpt("train", trained_on) for _ in range(runs)]
        trained = load_model(trained_on / "models" / "local")
        predict_us(trained.model, lines[:300], BATCH)  # what is loaded when it is first used
        alone = [predict_us(trained.model, lines[:300], 1) for _ in range(runs)]
        hundreds = [predict_us(trained.model, lines, BATCH) for _ in range(runs)]
        processor = [predict_us(trained.model, lines, BATCH, time.process_time) for _ in range(runs)]
    found = {
        "examples": trained.card["trained_on"]["examples"],
        "rounds": trained.card["fit"]["rounds"],
        "train_seconds": common.spread(seconds, 1),
        "alone_us": common.spread(alone, 0),
        "in_hundreds_us": common.spread(hundreds, 0),
        "in_hundreds_processor_us": common.spread(processor, 0),
    }
    print(f"{found['examples']:,} examples, {found['rounds']} trees")
    for name, wanted in WANTED.items():
        print(f"{name:<16} {found[name]['median']:>9,.1f} (wanted: under {wanted:,.0f})")
    print(f"in hundreds, processor time alone: {found['in_hundreds_processor_us']['median']:,.0f}")
    if not given.quick:
        common.write_results("training", runs, {**found, "wanted": WANTED})


if __name__ == "__main__":
    main()
