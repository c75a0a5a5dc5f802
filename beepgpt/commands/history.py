"""`beepgpt history`: the history of Slack's channels, where there is no export."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Include, Json, with_settings
from beepgpt.config.settings import Settings
from beepgpt.errors import BadCommand
from beepgpt.figures import counted
from beepgpt.ingest.slack.histories import HistoryJob, read_histories
from beepgpt.library.arguments import kinds_in
from beepgpt.runtime.console import console, results


@with_settings
def history(
    to: Annotated[Path, typer.Option(help="A folder for it, shaped like a Slack export.")],
    settings: Settings,
    since: Annotated[str, typer.Option(help="How far back: for so long, or from a time like 2026-01-31 on.")] = "180d",
    include: Include = "channels",
    json: Json = False,
) -> None:
    """Read the history of the channels that the app is in: where there is no export. What reads exports reads the folder.

    Slack limits the rate. The same command goes on where it was stopped; what came after its first start is left out.
    """
    if "unlisted" in (kinds := kinds_in("--include", include)):
        raise BadCommand("--include unlisted: is for folders of an export; live, Slack says of each channel what it is")
    report = read_histories(HistoryJob(to, since, kinds, settings))
    show_summary(report, json, print_history)
    if not report["messages"]:
        then = "name an earlier time as --since, and a new folder" if report["channels"] else "see to that, and give the same command again"
        console.print(f"Nothing was read: {then}.")
        raise typer.Exit(1)
    also = [] if include == "channels" else ["--include", include]
    say_next("try", to, "--to", f"{to}-tried", *also, why="A model of it, and a verdict")
    say_next("up", "--data", "live", "--export", to, *also, why="Live on this machine, after it")


def print_history(report: Mapping[str, Any]) -> None:
    """Print what was read, and what Slack refused."""
    for channel, why in report["refused"].items():
        results.print(f"not read: {channel} ({why})")
    said = f"{counted(report['messages'], 'message')} of {counted(report['channels'], 'channel')} in {report['to']}"
    if report["first"]:
        first, last = (f"{datetime.fromtimestamp(float(report[each]), UTC):%Y-%m-%d}" for each in ("first", "last"))
        said += f", from {first} to {last}"
    results.print(f"{said}.")
