"""`beepgpt train`: a model of a training set."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from beepgpt.commands.flags import duration_of
from beepgpt.config.settings import Settings, read_settings
from beepgpt.conversations.events import ts_text
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console

TRAIN, VALID, MANIFEST = "candidates_train.parquet", "candidates_valid.parquet", "manifest.json"
MODELS = "models"
"""Where a training set's models are, if nobody says otherwise."""
HERE = ("local", "text")
"""What is trained on this machine."""
KINDS = (*HERE, "openai", "served", "export")
NAMED = ("openai", "served")
CARD = "model.json"
MOST_SUFFIX = 64
"""Characters."""
EXTRA = "training"


def train(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A training set, as beepgpt prepare makes it.")],
    model: Annotated[
        str,
        typer.Option(
            help="local: ranks each point's candidates by their facts; text: by the prompt alone; openai:NAME: a fine-tuning job;"
            " served:NAME: one that a server has already; export: files to train one elsewhere."
        ),
    ] = "local",
    to: Annotated[Path | None, typer.Option(help="The model's folder; DIR/models/NAME if not given.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of what is left to chance.", min=0)] = 1,
    threads: Annotated[int, typer.Option(help="As many as there are processors, if 0. The model is the same.", min=0)] = 0,
    epochs: Annotated[
        int | None, typer.Option(help="openai: how often the rows are gone through; the provider chooses.", min=1, show_default=False)
    ] = None,
    suffix: Annotated[str | None, typer.Option(help="openai: part of the model's name.", show_default=False)] = None,
    way: Annotated[str, typer.Option(help="served: chat, completions, or decisions over candidates.")] = "chat",
    every: Annotated[str, typer.Option(help="openai: how often the job is looked at.")] = "10s",
    again: Annotated[bool, typer.Option("--again", help="openai: start the job anew if it has failed or was cancelled.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="openai: stop the job that the model's folder remembers.")] = False,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.")] = None,
) -> None:
    """Train a model that says who will answer: on this machine, without a key, in minutes; or by a provider's fine-tuning job."""
    kind, _, name = model.partition(":")
    if kind not in KINDS or bool(name) != (kind in NAMED):
        raise BadCommand(f"--model {model}: {', '.join(HERE)}, openai:NAME, served:NAME or export is expected")
    jobs_own = {"--epochs": epochs is not None, "--suffix": suffix is not None, "--again": again, "--cancel": cancel}
    if kind != "openai" and (alien := [flag for flag, is_given in jobs_own.items() if is_given]):
        raise BadCommand(f"{alien[0]} is for a fine-tuning job: --model openai:NAME")
    into = to or folder / MODELS / (f"{kind}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}" if name else kind)
    with in_our_words(folder):
        if kind == "openai":
            train_by_job(folder, into, read_settings(config), name, epochs, suffix, seed, every, again=again, cancel=cancel)
        elif kind == "served":
            train_served(folder, into, read_settings(config), name, way)
        elif kind == "export":
            train_elsewhere(folder, into, read_settings(config))
            return
        else:
            card, seconds = trained(folder, model, into, seed=seed, threads=threads)
            on = card["trained_on"]
            console.print(
                f"A {model} model of {on['examples']:,} examples, {on['answered']:,} of them answered, settled until {on['settled_until']},"
                f" in {seconds:,.0f} s: {into}"
            )
    if not cancel:
        console.print(f"What it is worth: beepgpt validate {folder} --model {into}")


def train_by_job(
    folder: Path,
    into: Path,
    settings: Settings,
    name: str,
    epochs: int | None,
    suffix: str | None,
    seed: int,
    every: str,
    *,
    again: bool,
    cancel: bool,
) -> None:
    """A provider's fine-tuning job, or its end."""
    from beepgpt.training.fine_tuning import JobOptions, cancelled, fine_tuned

    if suffix is not None and not 0 < len(suffix) <= MOST_SUFFIX:
        raise BadCommand(f"--suffix {suffix}: has {len(suffix)} characters, and 1 to {MOST_SUFFIX} are allowed")
    seconds = max((duration_of("--every", every) or 0) / 1e6, 0.05)
    if cancel:
        console.print(f"The job is {cancelled(into, settings)}.")
        return
    card, was_there = fine_tuned(folder, into, JobOptions(name, epochs, suffix, seed), settings, every=seconds, again=again)
    remote = card["remote"]
    tokens = f", trained on {remote['trained_tokens']:,} tokens" if remote["trained_tokens"] else ""
    console.print(f"{'It is trained already: ' if was_there else ''}{remote['model']}{tokens}: {into}")


def train_served(folder: Path, into: Path, settings: Settings, name: str, way: str) -> None:
    """A model that a server has: nothing is trained; it is looked at, and its folder says how it is asked."""
    from beepgpt.commands.models import check_may_leave, open_model
    from beepgpt.training.fine_tuning import told_of
    from beepgpt.training.models import save_remote
    from beepgpt.training.remote import WAYS

    if way not in WAYS:
        raise BadCommand(f"--way {way}: {', '.join(WAYS)} is expected")
    check_may_leave(settings.provider, f"--model served:{name} is asked what people wrote")
    manifest = (folder / MANIFEST).read_bytes()
    told = orjson.loads(manifest)
    remote = {"model": name, "way": way, "system": told["settings"]["system"]}
    save_remote(into, (folder / "labels.json").read_bytes(), told_of(told) | {"remote": remote}, manifest)
    try:
        with open_model(into, settings):
            console.print(f"{name} at {settings.provider.base_url} gives what a prediction needs: {into}")
    except BaseException:
        (into / CARD).unlink(missing_ok=True)
        raise


def train_elsewhere(folder: Path, into: Path, settings: Settings) -> None:
    """Files for a machine of one's own."""
    from beepgpt.training.chat_export import exported

    done = exported(folder, into, settings)
    kept = f"; {done['left_out']:,} are kept back" if done["left_out"] else ""
    console.print(f"{done['train']:,} chats to train on and {done['valid']:,} to validate with{kept}: {into}")
    console.print(f"What to do with them: {into / 'README.md'}")


def trained(folder: Path, kind: str, into: Path, *, seed: int, threads: int) -> tuple[dict[str, Any], float]:
    """Fits and writes a model; gives its card and the seconds it took."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on a busy machine, threads that wait busily wait for each other
    from beepgpt.training.models import save_model
    from beepgpt.training.points import read_examples
    from beepgpt.training.ranking import fit_ranker
    from beepgpt.training.text import fit_text

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
    """Raises BadCommand if what training needs is not installed, or if the folder is no training set."""
    try:
        import beepgpt.training.models
        import beepgpt.training.runs  # noqa: F401
    except ModuleNotFoundError as error:
        raise BadCommand(f"this needs {error.name}: pip install 'beepgpt[{EXTRA}]'") from error
    if not (folder / MANIFEST).exists():
        raise BadCommand(f"{folder} is no training set ({MANIFEST} is missing): beepgpt prepare SOURCE --to {folder} --format candidates")
    yield
