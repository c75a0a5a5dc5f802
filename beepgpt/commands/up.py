"""`beepgpt up`: live on one machine, with no broker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beepgpt.clock import now_us
from beepgpt.commands.check import print_findings
from beepgpt.commands.checking import CheckFinding, check_packages, check_slack, check_workspace
from beepgpt.commands.flags import Include, with_settings
from beepgpt.commands.up_begun import check_begun
from beepgpt.config.settings import Settings
from beepgpt.errors import BadCommand
from beepgpt.ingest.slack.histories import beginning_of
from beepgpt.library.arguments import kinds_in
from beepgpt.runtime.console import print_event
from beepgpt.runtime.pacing import multiple_of
from beepgpt.runtime.workers import Stop

if TYPE_CHECKING:
    from beepgpt.up.folder import DataFolder
    from beepgpt.up.plan import UpPlan
    from beepgpt.up.status import StatusWatch


SIMULATED = "simulated"
"""The folder that a simulation has in its data folder: its history, and its clock."""
FASTEST = 3_600.0
"""At most so many times as fast as real time a simulated workspace lives: a faster one says all before anybody can be alerted."""


@with_settings
def up(
    context: typer.Context,
    settings: Settings,
    data: Annotated[
        Path | None, typer.Option(help="The folder that it owns: the log, the model, who was alerted.", show_default=False)
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Of the first start: a Slack export, zip or folder, as history.", show_default=False)
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(help="Of the first start, without an export: how far back Slack's own history is read.", show_default=False),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make all of it anew, beside what runs: of its log, and what --history has of before.")
    ] = False,
    log: Annotated[
        str | None, typer.Option(metavar="<kafka://host:port>", help="Of the first start: for a log elsewhere.", show_default=False)
    ] = None,
    include: Include = "channels",
    port: Annotated[int, typer.Option(help="Where its page is; 0: on any port that is free.", min=0, max=65_535)] = 0,
    night: Annotated[str, typer.Option(help="When to train anew, by the clock of alerts.zone.")] = "03:00",
    simulate: Annotated[
        str | None,
        typer.Option(
            help="Without a workspace of yours: a simulated one, so many times faster than real time.", metavar="600x", show_default=False
        ),
    ] = None,
) -> None:
    """Live on one machine: Slack's events, examples, scores and alerts, and each night a newer model.

    Ctrl-C or SIGTERM stops all of it in order; the same command goes on where it was.
    """
    if simulate is not None:
        refuse_real(settings, {each: context.params[each] for each in ("export", "history", "log", "config")})
        raise typer.Exit(run_simulated(data, rate_of(simulate), hour_of(night), port))
    if data is None:
        raise BadCommand("--data: name the folder that it owns; only `--simulate 600x` goes without")
    if export is not None and not export.exists():
        raise BadCommand(f"--export {export}: there is no such file or folder: give the zip that Slack's export page made")
    if history is not None:
        beginning_of("--history", history, now_us())
        if export is not None:
            raise BadCommand("--history: goes without --export: give one of them")
    from beepgpt.up.folder import DataFolder

    at, folder, config = hour_of(night), DataFolder(data.resolve()), context.params["config"]
    folder.check_own()
    if (folder.path / SIMULATED).exists():
        raise BadCommand(f"--data {data}: holds a simulated life: name another folder")
    print_faults([*check_workspace(settings), *check_packages(), *check_slack(settings, kinds_in("--include", include))])
    from beepgpt.up.plan import UpPlan

    with taken(folder):
        check_begun(folder, settings, log, rebuilds=rebuild)
        since = history if export is not None or history is not None else folder.since
        plan = UpPlan(folder, settings, config, export, since, include, at, rebuild)
        status = run_plan(plan, port, watched_alone)
    raise typer.Exit(status)


def rate_of(text: str) -> float:
    """Parse `--simulate`. Raises BadCommand."""
    rate = multiple_of("--simulate", text)
    if not 1 <= rate <= FASTEST:
        raise BadCommand(f"--simulate {text}: from 1x to {FASTEST:,.0f}x is expected")
    return rate


def refuse_real(settings: Settings, given: Mapping[str, object]) -> None:
    """Raise BadCommand where something of a real workspace is `given` beside the simulated one."""
    if named := [f"--{name}" for name, value in given.items() if value is not None]:
        raise BadCommand(f"--simulate: the workspace is made up, and so {' and '.join(named)} can't be given with it")
    if settings.slack.app_token or settings.slack.bot_token:
        raise BadCommand("--simulate: has a Slack of its own: unset the tokens of yours, slack.app_token and slack.bot_token")


def run_simulated(data: Path | None, rate: float, at: time, port: int) -> int:
    """Run on a simulated workspace, in a folder that is new, or for as long as it runs; returns the exit status. Raises BadCommand."""
    print_faults([*check_packages()])
    from beepgpt.commands.up_simulated import simulation
    from beepgpt.up.folder import DataFolder
    from beepgpt.up.plan import UpPlan

    with TemporaryDirectory(prefix="beepgpt-") if data is None else nullcontext(data) as path:
        folder = DataFolder(Path(path).resolve())
        if folder.path.is_dir() and any(folder.path.iterdir()):
            raise BadCommand(f"--data {data}: is not empty, and a simulated life begins anew each time: name a new folder, or none")
        with taken(folder), simulation(folder.path / SIMULATED, folder.alerts, rate) as job:
            check_begun(folder, job.settings, None, rebuilds=False)
            status = run_plan(UpPlan(folder, job.settings, None, job.export, None, "channels", at), port, job.beside)
        print_event(
            "Stopped: the simulated life is over." if data is None else f"Stopped: the simulated life is over, and all of it is in {data}."
        )
    return status


def print_faults(found: list[CheckFinding]) -> None:
    """End with status 1 and all findings if one of them is a fault."""
    if not all(is_ok for _, is_ok, _ in found):
        print_findings([dict(zip(("check", "is_ok", "found"), each, strict=True)) for each in found])
        raise typer.Exit(1)


@contextmanager
def taken(folder: DataFolder) -> Iterator[None]:
    """Inside the `with` block the folder is this process's. Raises BadCommand if another `up` has it."""
    held = folder.take()
    try:
        yield
    finally:
        os.close(held)


Shows = Callable[["StatusWatch"], AbstractContextManager[Callable[[], Mapping[str, Any]]]]
"""What the page shows while a run is watched."""


def watched_alone(watch: StatusWatch) -> AbstractContextManager[Callable[[], Mapping[str, Any]]]:
    """The page shows what is watched, and nothing else."""
    return nullcontext(watch.values)


def run_plan(plan: UpPlan, port: int, shows: Shows) -> int:
    """Run all of it until somebody asks to stop, and show it on a page; returns the exit status."""
    from beepgpt.up.run import LiveRun
    from beepgpt.up.status import StatusWatch
    from beepgpt.web import local_server
    from beepgpt.web.status_page import StatusPage

    stop = Stop()
    with stop.listening(), closing(local_server.listen(port)) as listener:
        run = LiveRun(plan, stop)
        watch, keys = StatusWatch(run), local_server.Keys(listener.getsockname()[1], "up")
        print_event(f"What runs, and how well: {keys.address()}")
        with (
            watch.watching(),
            shows(watch) as look,
            local_server.serving(StatusPage(look, plan.data.pages).app(keys), listener),
        ):
            return run.run()


def hour_of(text: str) -> time:
    """A time of day. Raises BadCommand."""
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise BadCommand(f"--night {text}: a time of day like 03:00 is expected") from None
