"""`beepgpt train`: a model of a training set."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import orjson
import typer

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json, duration_of, with_settings
from beepgpt.commands.output import moment
from beepgpt.config.settings import Settings
from beepgpt.errors import BadCommand
from beepgpt.packages import needing
from beepgpt.runtime.console import console
from beepgpt.runtime.places import check_names_folder
from beepgpt.training.folder import CARD, MANIFEST, MODELS

HERE = ("local", "text")
"""Kinds that are trained on this machine."""
KINDS = (*HERE, "openai", "served", "export")
NAMED = ("openai", "served")
MOST_SUFFIX = 64
"""Characters."""


@with_settings
def train(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A training set, as beepgpt prepare makes it.")],
    settings: Settings,
    model: Annotated[
        str,
        typer.Option(
            help="local: by features; text: by the prompt alone; openai:NAME: a fine-tuning job; served:NAME: one that a"
            " server has; export: files to train one elsewhere."
        ),
    ] = "local",
    to: Annotated[Path | None, typer.Option(help="The model's folder; DIR/models/NAME if not given.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="local, text, openai: of what is left to chance; 1.", min=0, show_default=False)] = None,
    threads: Annotated[int | None, typer.Option(help="local, text: 0, as many as are idle.", min=0, show_default=False)] = None,
    epochs: Annotated[
        int | None, typer.Option(help="openai: how often the rows are gone through; the provider chooses.", min=1, show_default=False)
    ] = None,
    suffix: Annotated[str | None, typer.Option(help="openai: part of the model's name.", show_default=False)] = None,
    way: Annotated[str | None, typer.Option(help="served: chat, or completions, or decisions over candidates.", show_default=False)] = None,
    every: Annotated[str | None, typer.Option(help="openai: how often the job is looked at; 10s.", show_default=False)] = None,
    again: Annotated[bool, typer.Option("--again", help="openai: start the job again if it has failed or was cancelled.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="openai: stop the job that the model's folder remembers.")] = False,
    json: Json = False,
) -> None:
    """Train a model that predicts who will answer: on this machine, without a key, in minutes; or by a provider's fine-tuning job."""
    kind, _, name = model.partition(":")
    if kind not in KINDS or bool(name) != (kind in NAMED):
        raise BadCommand(f"--model {model}: {', '.join(HERE)}, openai:NAME, served:NAME or export is expected")
    check_flags(kind, epochs=epochs, suffix=suffix, again=again, cancel=cancel, every=every, way=way, seed=seed, threads=threads)
    into = to or folder / MODELS / (f"{kind}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}" if name else kind)
    check_names_folder("--to", into)
    check_training_set(folder)
    if kind in HERE:
        train_local(folder, kind, into, seed=1 if seed is None else seed, threads=threads or 0)
    else:
        from beepgpt.commands import train_elsewhere
        from beepgpt.training.fine_tuning import JobOptions

        if kind == "served":
            train_elsewhere.adopt_served(folder, into, settings, name, way or "chat")
        elif kind == "export":
            train_elsewhere.export_chats(folder, into, settings)
            return
        else:
            if suffix is not None and not 0 < len(suffix) <= MOST_SUFFIX:
                raise BadCommand(f"--suffix {suffix}: has {len(suffix)} characters, and 1 to {MOST_SUFFIX} are allowed")
            seconds = max((duration_of("--every", every or "10s") or 0) / 1e6, 0.05)
            if cancel:
                console.print(f"The job is {train_elsewhere.cancel_job(into, settings)}.")
                return
            options = JobOptions(name, epochs, suffix, 1 if seed is None else seed)
            train_elsewhere.run_job(folder, into, options, settings, every=seconds, again=again)
    if json:
        show_summary(orjson.loads((into / CARD).read_bytes()), json, console.print)
    say_next("validate", folder, "--model", into)


OWN = {
    **dict.fromkeys(("epochs", "suffix", "again", "cancel", "every"), ("openai",)),
    "way": ("served",),
    "seed": (*HERE, "openai"),
    "threads": HERE,
}
"""The kinds of models for which a flag changes something, where that isn't so for all."""


def check_flags(kind: str, **given: object) -> None:
    """Raise BadCommand for a flag that changes nothing for this kind of model."""
    for name, value in given.items():
        if value not in (None, False) and kind not in OWN[name]:
            named = " or ".join(f"{each}:NAME" if each in NAMED else each for each in OWN[name])
            raise BadCommand(f"--{name} is for --model {named}, and this is --model {kind}: leave it out")


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
    """Raise MissingPackage if what training needs is not installed, BadCommand if the folder is no training set."""
    with needing("beepgpt train", "train"):
        import beepgpt.training.models
        import beepgpt.training.runs  # noqa: F401
    if not (folder / MANIFEST).exists():
        raise BadCommand(f"{folder} is no training set ({MANIFEST} is missing): beepgpt prepare SOURCE --to {folder} --format candidates")
