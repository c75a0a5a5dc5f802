"""`beepgpt try`: from an export to a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.flags import Include, kinds_of, with_settings
from beepgpt.commands.try_steps import INDEX, TryJob
from beepgpt.commands.trying import tried
from beepgpt.config.settings import Settings
from beepgpt.errors import BadCommand
from beepgpt.locks import lock
from beepgpt.runtime.console import results
from beepgpt.runtime.places import check_apart
from beepgpt.runtime.steps import STEPS

NEEDED = ("jinja2", "lightgbm", "matplotlib", "numpy", "pyarrow", "scipy", "skops", "sklearn", "slack_sdk")
"""Modules that a model and a rehearsal need, and examples do not."""
INSTALL = "pip install 'beepgpt[slack,training]'"


@with_settings
def try_export(
    source: Annotated[Path, typer.Argument(metavar="EXPORT", help="A Slack export, zip or folder.")],
    to: Annotated[Path, typer.Option(help="A folder for all that it makes; index.html is the page to read.")],
    settings: Settings,
    include: Include = "channels",
    names: Annotated[bool, typer.Option(help="Show people and channels by name; --no-names for pages that travel.")] = True,
) -> None:
    """Say whether it would have helped: a model of an export's past, and whom it would have alerted lately.

    Nothing leaves this machine. A second call goes on where the first stopped.
    """
    verdict = run_try(TryJob(source, to, settings, kinds_of(include), names))
    print_verdict(verdict, to)


def run_try(job: TryJob) -> dict[str, Any]:
    """Check the command, and do all of it. Raises BadCommand."""
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        raise BadCommand(f"beepgpt try needs {', '.join(lacking)}: {INSTALL}")
    if not job.settings.rules.candidates:
        raise BadCommand("--no-candidates: the model of this machine is asked about candidates: leave it out")
    if job.to.exists() and not job.to.is_dir():
        raise BadCommand(f"--to {job.to}: is no folder")
    if not job.export.exists():
        raise BadCommand(f"EXPORT {job.export}: there is no such file or folder: give the zip that Slack's export page made")
    check_apart(str(job.export), [job.to / INDEX])
    if job.to.is_dir() and not (job.to / STEPS).exists() and any(each != job.export for each in job.to.iterdir()):
        raise BadCommand(f"--to {job.to}: holds files that are not of `beepgpt try`: name an empty folder, or a new one")
    job.to.mkdir(parents=True, exist_ok=True)
    lock(job.to, BadCommand(f"--to {job.to}: another `beepgpt try` works in it"))
    return tried(job)


def print_verdict(found: Mapping[str, Any], to: Path) -> None:
    """Print the sentence, and what to do next."""
    results.print(found["verdict"]["sentence"])
    results.print(f"All of it, for reading: {to / INDEX}")
    for words, command in found["next"]:
        results.print(f"{words}: {command}")
