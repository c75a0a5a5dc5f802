"""`beepgpt up`: live on one machine, with no broker."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beepgpt.commands.check import print_findings
from beepgpt.commands.checking import check_packages, check_slack, check_workspace
from beepgpt.commands.flags import Include, with_settings
from beepgpt.commands.topics import place_and_topic
from beepgpt.config.settings import Settings
from beepgpt.connectors.log import KAFKA
from beepgpt.errors import BadCommand
from beepgpt.ingest.slack.backfill import about
from beepgpt.ingest.slack.histories import beginning_of
from beepgpt.library.arguments import kinds_in
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.console import print_event
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.places import log_of
from beepgpt.runtime.workers import Stop
from beepgpt.up.generations import rebuild_seconds

if TYPE_CHECKING:
    from beepgpt.up.folder import DataFolder


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
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make all of it anew first: from its log, and what --history has of before.")
    ] = False,
    log: Annotated[str | None, typer.Option(help="Of the first start: kafka://host:port, for a log elsewhere.", show_default=False)] = None,
    include: Include = "channels",
    port: Annotated[int, typer.Option(help="Where its page is; 0: on any port that is free.", min=0, max=65_535)] = 0,
    night: Annotated[str, typer.Option(help="When to train anew, by the clock of alerts.zone.")] = "03:00",
) -> None:
    """Live on one machine: Slack's events, examples, scores and alerts, and each night a newer model.

    Ctrl-C or SIGTERM stops all of it in order; the same command goes on where it was.
    """
    if export is not None and not export.exists():
        raise BadCommand(f"--export {export}: there is no such file or folder: give the zip that Slack's export page made")
    if history is not None:
        beginning_of("--history", history, now_us())
        if export is not None:
            raise BadCommand("--history: goes without --export: give one of them")
    if log is not None:
        check_place(log)
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
        folder.choose_log(log)
        changed = folder.difference(settings.rules)
        if changed and not rebuild:
            raise BadCommand(f"--data {data}: {changed}: give what was given first, or add --rebuild, {what_it_takes(folder, settings)}")
        folder.check_list(forgotten_of(settings))
        since = history if export is not None or history is not None else folder.since
        plan = UpPlan(folder, settings, config, export, since, include, at, rebuild, bool(changed))
        with stop.listening(), closing(local_server.listen(port)) as listener:
            run = LiveRun(plan, stop)
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


def check_place(log: str) -> None:
    """Raise BadCommand unless a log of brokers is named."""
    place, topic = place_and_topic(log)
    if topic is not None or not place.startswith(KAFKA):
        raise BadCommand(f"--log {log}: kafka://host:port is expected; without it, the log is in the folder of --data")


def what_it_takes(data: DataFolder, settings: Settings) -> str:
    """What --rebuild does, and about how long."""
    log, events = log_of(settings, data.log), data.topic_name("events")
    records = sum(end - begin for topic in log.topics([events]) for begin, end in log.bounds(topic).values())
    return f"which makes all of it anew with these settings, from its log: {about(rebuild_seconds(records))}, in which nobody is alerted"
