"""`beepgpt train`: a model of a training set."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from commands.common import BadCommand
from connectors.console import console
from conversations.events import ts_text

TRAIN, VALID, MANIFEST = "candidates_train.parquet", "candidates_valid.parquet", "manifest.json"
MODELS = "models"
"""Where a training set's models are, if nobody says otherwise."""
KINDS = ("local", "text")
EXTRA = "training"


def train(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A training set, as beepgpt prepare makes it.")],
    model: Annotated[str, typer.Option(help="local: ranks each point's candidates by their facts; text: by the prompt alone.")] = "local",
    to: Annotated[Path | None, typer.Option(help="The model's folder; DIR/models/NAME if not given.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of what is left to chance.", min=0)] = 1,
    threads: Annotated[int, typer.Option(help="As many as there are processors, if 0. The model is the same.", min=0)] = 0,
) -> None:
    """Train a model that says who will answer: on this machine, without a key, in minutes."""
    if model not in KINDS:
        raise BadCommand(f"--model {model}: {' or '.join(KINDS)} is expected")
    into = to or folder / MODELS / model
    with in_our_words(folder):
        card, seconds = trained(folder, model, into, seed=seed, threads=threads)
    on = card["trained_on"]
    console.print(
        f"A {model} model of {on['examples']:,} examples, {on['answered']:,} of them answered, settled until {on['settled_until']},"
        f" in {seconds:,.0f} s: {into}"
    )
    console.print(f"What it is worth: beepgpt validate {folder} --model {into}")


def trained(folder: Path, kind: str, into: Path, *, seed: int, threads: int) -> tuple[dict[str, Any], float]:
    """Fits and writes a model; gives its card and the seconds it took."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on a busy machine, threads that wait busily wait for each other
    from training.models import save_model
    from training.points import read_examples
    from training.ranking import fit_ranker
    from training.text import fit_text

    began = time.monotonic()
    manifest = (folder / MANIFEST).read_bytes()
    with console.status("reading") as status:
        examples = read_examples(folder / TRAIN)
        told: dict[str, Any] = {
            "spec": orjson.loads(manifest).get("examples", {}).get("spec"),
            "trained_on": {
                "examples": len(examples),
                "answered": sum(bool(answer) for answer in examples.answers),
                "settled_until": ts_text(int(examples.settled_ts.max(initial=0))),
            },
        }
        status.update("fitting")
        if kind == "local":
            ranker, fit = fit_ranker(
                examples, seed=seed, threads=threads, progress=lambda tree, most: status.update(f"tree {tree} of at most {most}")
            )
            card = save_model(into, ranker, {**told, "seed": seed, "fit": fit}, manifest)
        else:
            card = save_model(into, fit_text(examples), told, manifest)
    return card, time.monotonic() - began


@contextmanager
def in_our_words(folder: Path) -> Iterator[None]:
    """What can be wrong with a training set or a model, as the user is told it."""
    with in_words_of_training():
        if not (folder / MANIFEST).exists():
            raise BadCommand(
                f"{folder} is no training set ({MANIFEST} is missing): beepgpt prepare SOURCE --to {folder} --format candidates"
            )
        yield


@contextmanager
def in_words_of_training() -> Iterator[None]:
    """What goes wrong in training/, as the user is told it."""
    try:
        from training.models import BadModel
        from training.points import BadTable
        from training.predictions import OtherFacts, TooLittle
        from training.runs import BadRun
    except ModuleNotFoundError as error:
        raise BadCommand(f"this needs {error.name}: pip install 'beepgpt[{EXTRA}]'") from error
    try:
        yield
    except (BadModel, BadRun, BadTable, OtherFacts, TooLittle) as error:
        raise BadCommand(str(error)) from error
