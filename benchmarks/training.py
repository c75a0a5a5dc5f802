"""How long the local model takes to train, and to predict: one point alone, and a hundred at once, on one thread.

On HubSpot's examples where they are, else on a made-up workspace's. A prediction begins with points as they come, decoded JSON, and ends
with everybody's chances; reading the JSON itself is not counted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from benchmarks import common  # noqa: E402
from training.models import load_model  # noqa: E402
from training.points import points_of  # noqa: E402
from training.predictions import Model  # noqa: E402

WANTED = {"train_seconds": 300.0, "alone_us": 4_000.0, "in_hundreds_us": 350.0}
BATCH = 100
POINTS = 2_000
CUT = "2022-12-07T22:58:13Z"
"""Where HubSpot's last 20 % of time begin."""


def training_set(folder: Path, *, quick: bool) -> tuple[Path, list[dict[str, Any]]]:
    """The folder that is trained on, and points to predict."""
    real = None if quick else common.hubspot_file()
    source = real or common.made_file(20_000 if quick else 300_000, channels=50, days=365, people=300)
    made = folder / "made.jsonl"
    common.run_program(source, made)
    cut = ["--cut", CUT] if real else []
    beepgpt("prepare", made, "--to", folder / "set", "--format", "candidates", "--no-progress", *cut)
    with made.open("rb") as lines:
        points = [orjson.loads(line) for line, _ in zip(lines, range(POINTS), strict=False)]
    return folder / "set", points


def beepgpt(*arguments: object) -> float:
    """One command to its end; gives the seconds it took."""
    began = time.perf_counter()
    subprocess.run([sys.executable, str(common.PROGRAM), *map(str, arguments)], env=common.environment(), check=True, capture_output=True)
    return time.perf_counter() - began


def predict_us(model: Model, points: list[dict[str, Any]], batch: int) -> float:
    """Microseconds a point, in batches of this size."""
    batches = [points[first : first + batch] for first in range(0, len(points), batch)]
    for each in batches[:3]:
        model.predict(points_of(each))
    began = time.perf_counter()
    for each in batches:
        model.predict(points_of(each))
    return (time.perf_counter() - began) / len(points) * 1e6


def main() -> None:
    """Measures, prints, and writes benchmarks/results/training.json."""
    given = common.options(main.__doc__ or "")
    runs = 1 if given.quick else given.runs
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        trained_on, points = training_set(Path(folder), quick=given.quick)
        seconds = [beepgpt("train", trained_on) for _ in range(runs)]
        trained = load_model(trained_on / "models" / "local")
        alone = [predict_us(trained.model, points[:300], 1) for _ in range(runs)]
        hundreds = [predict_us(trained.model, points, BATCH) for _ in range(runs)]
    found = {
        "examples": trained.card["trained_on"]["examples"],
        "rounds": trained.card["fit"]["rounds"],
        "train_seconds": common.spread(seconds, 1),
        "alone_us": common.spread(alone, 0),
        "in_hundreds_us": common.spread(hundreds, 0),
    }
    print(f"{found['examples']:,} examples, {found['rounds']} trees")
    for name, wanted in WANTED.items():
        print(f"{name:<16} {found[name]['median']:>9,.1f} (wanted: under {wanted:,.0f})")
    if not given.quick:
        common.write_results("training", runs, {**found, "wanted": WANTED})


if __name__ == "__main__":
    main()
