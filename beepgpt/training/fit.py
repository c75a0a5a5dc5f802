"""A model of this machine, fitted on a training set and written to a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from beepgpt.conversations.events import ts_text
from beepgpt.training.folder import MANIFEST, TRAIN
from beepgpt.training.models import save_model
from beepgpt.training.points import read_examples
from beepgpt.training.ranking import fit_ranker
from beepgpt.training.text import fit_text


def train_here(folder: Path, kind: str, into: Path, *, seed: int, threads: int, status: Callable[[str], None]) -> dict[str, Any]:
    """Fit a `local` or a `text` model on the training set `folder`, and write it to `into`; its card.

    `threads`: 0 for as many as there are processors; the model is the same. `status` is called with the current step.
    Raises BadTable, OtherFeatures, TooLittle.
    """
    manifest = (folder / MANIFEST).read_bytes()
    status("reading")
    examples = read_examples(folder / TRAIN)
    card: dict[str, Any] = {
        "spec": orjson.loads(manifest).get("examples", {}).get("spec"),
        "trained_on": {
            "examples": len(examples),
            "answered": sum(bool(answer) for answer in examples.answers),
            "settled_until": ts_text(int(examples.settled_ts.max(initial=0))),
        },
    }
    status("fitting")
    if kind == "text":
        return save_model(into, fit_text(examples), card, manifest)
    ranker, fit = fit_ranker(examples, seed=seed, threads=threads, progress=lambda tree, most: status(f"tree {tree} of at most {most}"))
    return save_model(into, ranker, {**card, "seed": seed, "fit": fit}, manifest)
