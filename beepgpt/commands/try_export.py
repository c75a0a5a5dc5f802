"""`beepgpt try`: from an export to a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.closing import show_summary
from beepgpt.commands.flags import Include, Json, NoNames, with_settings
from beepgpt.commands.try_job import TryJob
from beepgpt.commands.try_steps import INDEX
from beepgpt.commands.trying import tried
from beepgpt.config.settings import Settings
from beepgpt.errors import BadCommand
from beepgpt.folders import make_folder
from beepgpt.library.arguments import kinds_in
from beepgpt.locks import lock
from beepgpt.packages import MODULES, need
from beepgpt.runtime.console import console, results
from beepgpt.runtime.places import check_apart, check_names_folder
from beepgpt.runtime.steps import STEPS


@with_settings
def try_export(
    source: Annotated[Path, typer.Argument(metavar="EXPORT", help="A Slack export, zip or folder.")],
    to: Annotated[Path, typer.Option(help="A folder for all that it makes; index.html is the page to read.")],
    settings: Settings,
    include: Include = "channels",
    no_names: NoNames = False,
    pages_only: Annotated[bool, typer.Option("--pages-only", hidden=True)] = False,
    json: Json = False,
) -> None:
    """Say whether it would have helped: a model of an export's past, and whom it would have alerted lately.

    Nothing leaves this machine. A second call goes on where the first stopped.
    """
    job = TryJob(source, to, settings, kinds_in("--include", include), not no_names, pages_only)
    print_verdict(run_try(job), to, as_json=json)


def run_try(job: TryJob) -> dict[str, Any]:
    """Check the command, and do all of it. Raises BadCommand."""
    check_try(job)
    if not job.export.exists():
        raise BadCommand(f"EXPORT {job.export}: there is no such file or folder: give the zip that Slack's export page made")
    check_apart(str(job.export), [job.to / INDEX])
    make_folder(job.to)
    lock(job.to, BadCommand(f"--to {job.to}: another `beepgpt try` works in it"))
    return tried(job)


def check_try(job: TryJob) -> None:
    """Check what can be checked before anything is written. Raises BadCommand."""
    need("beepgpt try", ["slack_sdk", *MODULES["train"]], "train", "slack")
    if not job.settings.rules.candidates:
        raise BadCommand("--no-candidates: the model of this machine is asked about candidates: leave it out")
    if job.settings.conversations.target == "reactors":
        raise BadCommand(
            "--target reactors: an export doesn't say when somebody reacted, so nobody can be predicted: take next_user or"
            " interacting_users, or live events (beepgpt ingest slack)"
        )
    check_names_folder("--to", job.to)
    if job.to.is_dir() and not (job.to / STEPS).exists() and any(each != job.export for each in job.to.iterdir()):
        raise BadCommand(f"--to {job.to}: holds files that are not of `beepgpt try`: name an empty folder, or a new one")


def print_verdict(found: Mapping[str, Any], to: Path, *, as_json: bool) -> None:
    """Print the sentence and the page's place, and what to do next."""
    show_summary(found, as_json, lambda _: results.print(said_of(found, to)))
    for words, command in found["next"]:
        console.print(f"next: {command}  # {words}", highlight=False)


def said_of(found: Mapping[str, Any], to: Path) -> str:
    """The lines of the verdict: what it would have done, what must be known of the threshold, and the page's place."""
    verdict = found["verdict"]
    lines = (verdict["sentence"], verdict["says"], verdict["caveat"], " ".join(verdict["notes"]), verdict["chosen"])
    return "\n".join(each for each in (*lines, f"All of it, for reading: {to / INDEX}") if each)
