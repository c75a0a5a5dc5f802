"""`beepgpt up`: live on one machine, with no broker."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import time
from pathlib import Path
from typing import Annotated

import typer

from beepgpt.clock import now_us
from beepgpt.commands.check import print_findings
from beepgpt.commands.checking import check_packages, check_slack, check_workspace
from beepgpt.commands.flags import Include, with_settings
from beepgpt.config.settings import Settings
from beepgpt.errors import BadCommand
from beepgpt.ingest.slack.histories import beginning_of
from beepgpt.library.arguments import kinds_in
from beepgpt.runtime.console import print_event
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.workers import Stop


@with_settings
def up(
    context: typer.Context,
    settings: Settings,
    data: Annotated[Path, typer.Option(help="The folder that it owns: the log, the model, who was alerted.")],
    export: Annotated[
        Path | None, typer.Option(help="Of the first start: a Slack export, zip or folder, as history.", show_default=False)
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(help="Of the first start, without an export: how far back Slack's own history is read.", show_default=False),
    ] = None,
    include: Include = "channels",
    port: Annotated[int, typer.Option(help="Where its page is; 0: on any port that is free.", min=0, max=65_535)] = 0,
    night: Annotated[str, typer.Option(help="When to train anew, by the clock of alerts.zone.")] = "03:00",
) -> None:
    """Live on one machine, with no broker: Slack's events, examples, scores and alerts, and each night a newer model.

    Ctrl-C or SIGTERM stops all of it in order; the same command goes on where it was.
    """
    if export is not None and not export.exists():
        raise BadCommand(f"--export {export}: there is no such file or folder: give the zip that Slack's export page made")
    if history is not None:
        beginning_of("--history", history, now_us())
        if export is not None:
            raise BadCommand("--history: is for a first start without --export: give one of them")
    from beepgpt.up.folder import DataFolder

    at, folder, config = hour_of(night), DataFolder(data.resolve()), context.params["config"]
    folder.check_own()
    found = [*check_workspace(settings), *check_packages(), *check_slack(settings, kinds_in("--include", include))]
    if not all(is_ok for _, is_ok, _ in found):
        print_findings([dict(zip(("check", "is_ok", "found"), each, strict=True)) for each in found])
        raise typer.Exit(1)
    from beepgpt.up.run import LiveRun, UpPlan
    from beepgpt.up.status import StatusWatch
    from beepgpt.web import local_server
    from beepgpt.web.status_page import StatusPage

    held = folder.take()
    stop = Stop()
    try:
        folder.check_made_with(settings.rules, forgotten_of(settings))
        with stop.listening(), closing(local_server.listen(port)) as listener:
            run = LiveRun(UpPlan(folder, settings, config, export if history is None else folder.fetched, history, include, at), stop)
            watch, keys = StatusWatch(run), local_server.Keys(listener.getsockname()[1], "up")
            print_event(f"What runs, and how well: {keys.address()}")
            with watch.watching(), local_server.serving(StatusPage(watch.values, folder.pages).app(keys), listener):
                status = run.run()
    finally:
        os.close(held)
    raise typer.Exit(status)


def hour_of(text: str) -> time:
    """A time of day. Raises BadCommand."""
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise BadCommand(f"--night {text}: a time of day like 03:00 is expected") from None
