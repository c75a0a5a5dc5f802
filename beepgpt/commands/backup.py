"""`beepgpt backup`: a copy of what `beepgpt up` has, made while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from beepgpt.commands.closing import show_summary
from beepgpt.commands.flags import Json
from beepgpt.errors import BadCommand
from beepgpt.folders import UP_NOTE
from beepgpt.runtime.console import results
from beepgpt.runtime.places import check_names_folder


def backup(
    data: Annotated[Path, typer.Option(help="The folder of `beepgpt up`, which may run on it meanwhile.")],
    to: Annotated[Path, typer.Option(help="The copy: a folder that is not there yet.")],
    json: Json = False,
) -> None:
    """Copy all that `beepgpt up` has, while it runs: the log, models, snapshots, who was alerted.

    To go back: stop it, put the copy where the folder stood, and start it again. What was said since is filled in from Slack.
    """
    from beepgpt.up.backup import back_up
    from beepgpt.up.folder import DataFolder

    check_names_folder("--to", to)
    folder = DataFolder(data.resolve())
    if not (folder.path / UP_NOTE).exists():
        raise BadCommand(f"--data {data}: is no folder of `beepgpt up`: name that which it was given as --data")
    if to.exists() or to.resolve().is_relative_to(folder.path):
        raise BadCommand(f"--to {to}: is there already, or in what is copied: name a folder that is not there yet, as one for each day")

    def show(report: Mapping[str, object]) -> None:
        results.print(f"{report['files']:,} files, {int(str(report['bytes'])) / 1e6:,.0f} MB, are copied to {to}, and were looked through.")

    show_summary(back_up(folder, to.resolve()), json, show)
