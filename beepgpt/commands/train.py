"""`beepgpt train`: a model of a training set."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from beepgpt.commands.flags import duration_of
from beepgpt.commands.output import moment
from beepgpt.config.settings import read_settings
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.training.folder import MANIFEST, MODELS

HERE = ("local", "text")
"""Kinds that are trained on this machine."""
KINDS = (*HERE, "openai", "served", "export")
NAMED = ("openai", "served")
MOST_SUFFIX = 64
"""Characters."""


def train(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A training set, as beepgpt prepare makes it.")],
    model: Annotated[
        str,
        typer.Option(
            help="local: ranks each point's candidates by their features; text: by the prompt alone; openai:NAME: a fine-tuning job;"
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
    again: Annotated[bool, typer.Option("--again", help="openai: start the job again if it has failed or was cancelled.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="openai: stop the job that the model's folder remembers.")] = False,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.")] = None,
) -> None:
    """Train a model that predicts who will answer: on this machine, without a key, in minutes; or by a provider's fine-tuning job."""
    kind, _, name = model.partition(":")
    if kind not in KINDS or bool(name) != (kind in NAMED):
        raise BadCommand(f"--model {model}: {', '.join(HERE)}, openai:NAME, served:NAME or export is expected")
    jobs_own = {"--epochs": epochs is not None, "--suffix": suffix is not None, "--again": again, "--cancel": cancel}
    if kind != "openai" and (alien := [flag for flag, is_given in jobs_own.items() if is_given]):
        raise BadCommand(f"{alien[0]} is for a fine-tuning job: --model openai:NAME")
    into = to or folder / MODELS / (f"{kind}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}" if name else kind)
    check_training_set(folder)
    if kind in HERE:
        train_local(folder, kind, into, seed=seed, threads=threads)
    else:
        from beepgpt.commands import train_elsewhere
        from beepgpt.training.fine_tuning import JobOptions

        settings = read_settings(config)
        if kind == "served":
            train_elsewhere.adopt_served(folder, into, settings, name, way)
        elif kind == "export":
            train_elsewhere.export_chats(folder, into, settings)
            return
        else:
            if suffix is not None and not 0 < len(suffix) <= MOST_SUFFIX:
                raise BadCommand(f"--suffix {suffix}: has {len(suffix)} characters, and 1 to {MOST_SUFFIX} are allowed")
            seconds = max((duration_of("--every", every) or 0) / 1e6, 0.05)
            if cancel:
                console.print(f"The job is {train_elsewhere.cancel_job(into, settings)}.")
                return
            train_elsewhere.run_job(folder, into, JobOptions(name, epochs, suffix, seed), settings, every=seconds, again=again)
    console.print(f"What it is worth: beepgpt validate {folder} --model {into}")


def train_local(folder: Path, kind: str, into: Path, *, seed: int, threads: int) -> None:
    """Train a model of this machine, and say of what."""
    from beepgpt.training.models import train_here

    began = time.monotonic()
    with console.status("reading") as status:
        card = train_here(folder, kind, into, seed=seed, threads=threads, status=status.update)
    on = card["trained_on"]
    console.print(
        f"A {kind} model of {on['examples']:,} examples, {on['answered']:,} of them answered, settled until"
        f" {moment(on['settled_until'])[:19]}Z, in {time.monotonic() - began:,.0f} s: {into}"
    )


def check_training_set(folder: Path) -> None:
    """Raise BadCommand if what training needs is not installed, or if the folder is no training set."""
    try:
        import beepgpt.training.models
        import beepgpt.training.runs  # noqa: F401
    except ModuleNotFoundError as error:
        raise BadCommand(f"this needs {error.name}: pip install 'beepgpt[training]'") from error
    if not (folder / MANIFEST).exists():
        raise BadCommand(f"{folder} is no training set ({MANIFEST} is missing): beepgpt prepare SOURCE --to {folder} --format candidates")
