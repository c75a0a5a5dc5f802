"""What labels are worth to the local model: the same examples, split and trees, without labels, and with what they call weak taken out.

Labelers are the rules, and the local classifier that learned from 50 few-shots; as a control, as many answers at random are weak. Every arm
is judged on the same later points, by who answered. Differences to no labels are paired, point by point; intervals are by conversation.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # before this folder, which has a training.py, too

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from beepgpt.training.folder import TRAIN, VALID  # noqa: E402
from beepgpt.training.metrics import Outcomes, outcomes_of  # noqa: E402
from beepgpt.training.points import Examples, read_examples  # noqa: E402
from beepgpt.training.ranking import fit_ranker  # noqa: E402
from benchmarks import common  # noqa: E402

EXPORTS = {"dd2030": "dd2030.zip", "hubspot": "hubspot-dev-2016-2023.zip"}
FEW_SHOTS = "{}-few-shots.json"
"""Ids of examples of the training side, labeled one by one, each by its last message: `strong` and `weak`."""
DRAWS, BINS = 1_000, 10
ALERTS = {"dd2030": 100, "hubspot": 2_000}
"""The likeliest people, among those who had not spoken in the window, that are taken as alerts."""
Floats = NDArray[np.float64]


def beepgpt(*arguments: object) -> str:
    """Run the program; returns what it says. Raises Failed."""
    done = subprocess.run([sys.executable, "-m", "beepgpt", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise common.Failed(common.last_words(done.stderr))
    return " ".join(done.stderr.split())


def few_shots_in(folder: Path, chosen: Path, lines: Sequence[bytes]) -> None:
    """Write the few-shots' files. Raises Failed if the examples are others than those that were labeled."""
    signals = {each: signal for signal, ids in json.loads(chosen.read_text()).items() for each in ids}
    found = {each["id"]: each for each in map(json.loads, lines) if each["id"] in signals}
    if len(found) != len(signals):
        raise common.Failed(f"{chosen}: {len(signals) - len(found)} of its examples are not there: they were made by other settings")
    folder.mkdir()
    for name, signal in (("pos", "strong"), ("neg", "weak")):
        some = [json.dumps({**each, "signal": signal}, ensure_ascii=False) for each in found.values() if signals[each["id"]] == signal]
        (folder / f"examples_{name}.jsonl").write_text("\n".join(some) + "\n")


def accuracy_in(said: str) -> str:
    """The labeler's accuracy, as it says it."""
    begin = said.index("labeler is ") + len("labeler is ")
    return said[begin : said.index(" %", said.index("would get", begin)) + 2]


def arms(labeled: dict[str, Examples], plain: Examples, is_weak: dict[str, NDArray[np.bool_]]) -> Iterator[tuple[str, Examples]]:
    """Training sides by name: without labels, with weak answers as nobody's, and without them."""
    yield "no labels", plain
    for name, some in labeled.items():
        yield f"{name}: weak is nobody", some
        yield f"{name}: weak is left out", plain.at(np.flatnonzero(~is_weak[name]))
    answered = [place for place, answer in enumerate(plain.answers) if answer]
    drawn = set(random.Random(1).sample(answered, int(is_weak["local"].sum())))
    answers = [[] if place in drawn else answer for place, answer in enumerate(plain.answers)]
    yield "at random, as many as local: weak is nobody", Examples(plain.points, plain.ids, answers, plain.settled_ts)


def judged(outcomes: Outcomes, valid: Examples, most: int) -> dict[str, tuple[Floats, Floats]]:
    """For each figure the sum's part and the count of each point, of which the figure is the ratio."""
    count, answered = len(valid), outcomes.answered.astype(np.float64)
    scores, alerts = outcomes.scores, outcomes.alerts
    apart = np.array([person not in valid.points.window_user[point] for point, person in zip(alerts.point, alerts.person, strict=True)])
    rows = np.flatnonzero(apart)
    rows = rows[np.argsort(-alerts.p[rows], kind="stable")][:most]
    hit = {k: answered * ((outcomes.rank > 0) & (outcomes.rank <= k)) for k in (1, 5)}
    return {
        "hit@1": (hit[1], answered),
        "hit@5": (hit[5], answered),
        "log_loss": (-np.log(np.maximum(scores.p_true, 1e-12)), np.ones(count)),
        f"alerts right, of {most:,}": (
            np.bincount(alerts.point[rows], alerts.right[rows].astype(np.float64), minlength=count),
            np.bincount(alerts.point[rows], minlength=count).astype(np.float64),
        ),
    }


def calibration_error(outcomes: Outcomes) -> float:
    """How far predicted probabilities are off, over tenths of the likeliest outcome's."""
    scores = outcomes.scores
    tenth = np.minimum((scores.likeliest * BINS).astype(int), BINS - 1)
    return float(sum(abs(np.sum(scores.likeliest[tenth == each] - scores.right[tenth == each])) for each in range(BINS)) / len(tenth))


def resampler(conversation: Sequence[str]) -> Callable[[Floats], Floats]:
    """A function that sums values of points over draws of whole conversations."""
    names, place = np.unique(np.asarray(conversation), return_inverse=True)
    drawn = np.random.default_rng(1).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS).astype(np.float64)
    return lambda values: np.asarray(drawn @ np.bincount(place, values, minlength=len(names)), np.float64)


def compared(found: dict[str, list[Outcomes]], valid: Examples, most: int) -> dict[str, Any]:
    """Each arm's figures, the mean over seeds, and their paired differences to no labels with intervals."""
    sums = resampler(valid.points.conversation)
    figures = {name: [judged(each, valid, most) for each in outcomes] for name, outcomes in found.items()}
    results: dict[str, Any] = {}
    for name, some in figures.items():
        row: dict[str, Any] = {"calibration_error": round(float(np.mean([calibration_error(each) for each in found[name]])), 4)}
        for figure in some[0]:
            pairs = [(each[figure], plain[figure]) for each, plain in zip(some, figures["no labels"], strict=True)]
            values = [above.sum() / below.sum() for (above, below), _ in pairs]
            drawn = np.mean([sums(one[0]) / sums(one[1]) - sums(other[0]) / sums(other[1]) for one, other in pairs], axis=0)
            plain = float(np.mean([above.sum() / below.sum() for _, (above, below) in pairs]))
            low, high = np.quantile(drawn, [0.025, 0.975])
            row[figure] = {
                "value": round(float(np.mean(values)), 4),
                "to_no_labels": round(float(np.mean(values)) - plain, 4),
                "low": round(float(low), 4),
                "high": round(float(high), 4),
            }
        results[name] = row
    return results


def measured(export: str, examples: Path, folder: Path, seeds: int, threads: int) -> dict[str, Any]:
    """All arms on these examples."""
    few_shots_in(folder / "few-shots", Path(__file__).parent / FEW_SHOTS.format(export), examples.read_bytes().splitlines())
    said, weak, labeled = {}, {}, {}
    plain: Examples | None = None
    valid: Examples | None = None
    for labeler in ("rules", "local"):
        to = folder / f"{labeler}.jsonl"
        told = beepgpt("label", examples, "--to", to, "--labeler", labeler, "--few-shots", folder / "few-shots", "--force", "--no-progress")
        said[labeler] = accuracy_in(told)
        made = folder / labeler
        beepgpt("prepare", to, "--to", made, "--format", "candidates", "--few-shots", folder / "few-shots", "--no-progress")
        happened = read_examples(made / TRAIN, as_happened=True)
        assert plain is None or plain.ids == happened.ids, "labels must not change the split"
        plain, valid = happened, read_examples(made / VALID, as_happened=True)
        labeled[labeler] = read_examples(made / TRAIN)
        weak[labeler] = np.array([bool(a) and not b for a, b in zip(plain.answers, labeled[labeler].answers, strict=True)])
    assert plain is not None and valid is not None
    found: dict[str, list[Outcomes]] = {}
    for name, train in arms(labeled, plain, weak):
        for seed in range(1, seeds + 1):
            began = time.monotonic()
            ranker, _ = fit_ranker(train, seed=seed, threads=threads)
            found.setdefault(name, []).append(outcomes_of(ranker.predict(valid.points), valid))
            print(f"{name}, seed {seed}: {time.monotonic() - began:,.0f} s", file=sys.stderr)
    return {
        "export": EXPORTS[export],
        "seeds": seeds,
        "train": len(plain),
        "answered": sum(map(bool, plain.answers)),
        "judged": len(valid),
        "judged_answered": sum(map(bool, valid.answers)),
        "labelers": {name: {"accuracy": said[name], "weak": int(weak[name].sum())} for name in said},
        "arms": compared(found, valid, ALERTS[export]),
    }


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", choices=EXPORTS, default="dd2030")
    parser.add_argument("--examples", type=Path, help="examples of the export that were made before")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        examples = wanted.examples or folder / "examples.jsonl"
        if wanted.examples is None:
            beepgpt("examples", ROOT.parent / "shared" / "data" / EXPORTS[wanted.export], "--to", examples, "--no-progress")
        results = measured(wanted.export, examples, folder, wanted.seeds, wanted.threads)
    print(json.dumps(results, indent=2))
    common.write_results("label_worth" if wanted.export == "dd2030" else f"label_worth_{wanted.export}", 1, results)


if __name__ == "__main__":
    main()
