"""`beepgpt check`: what is missing to go live."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from beepgpt.commands.checking import CheckFinding, check_log, check_model, check_packages, check_slack, check_workspace
from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Include, Json, with_settings
from beepgpt.commands.topic_names import topic_names
from beepgpt.commands.topics import place_and_topic
from beepgpt.config.settings import Settings
from beepgpt.ingest.write_plan import sum_of_ends
from beepgpt.library.arguments import kinds_in
from beepgpt.runtime.console import results
from beepgpt.runtime.places import is_topic, log_of

SHOWN = {True: ("ok", "green"), False: ("missing", "bold red"), None: ("not checked", "yellow")}
LOCAL = "kafka://localhost:9092"


@with_settings
def check(
    settings: Settings,
    broker: Annotated[
        str | None, typer.Option(help=f"The log, if not that of cluster.source, or {LOCAL}.", metavar="<address>", show_default=False)
    ] = None,
    model: Annotated[Path | None, typer.Option(help="The model's folder, if not cluster.model.", show_default=False)] = None,
    include: Include = "channels",
    json: Json = False,
) -> None:
    """Say what is missing to go live, without changing anything: settings, packages, tokens, scopes, clock, topics, model.

    Ends with status 1 if something is missing.
    """
    source = settings.cluster.source
    at = broker or (source.partition("?")[0].rpartition("/")[0] if is_topic(source) else LOCAL)
    place, _ = place_and_topic(at)
    folder = model or settings.cluster.model
    checks: list[Callable[[], Iterator[CheckFinding]]] = [
        lambda: check_workspace(settings),
        check_packages,
        lambda: check_slack(settings, kinds_in("--include", include)),
        lambda: check_log(settings, place),
        lambda: check_model(settings, folder),
    ]
    found = [finding for each in checks for finding in each()]
    show_summary([dict(zip(("check", "is_ok", "found"), each, strict=True)) for each in found], json, print_findings)
    if all(each[1] for each in found):
        events = topic_names(settings)["events"]
        more = ["--to", f"{at}/{events}", *([] if include == "channels" else ["--include", include])]
        if sum_of_ends(log_of(settings, place), events):
            say_next("ingest", "slack", *more)
        else:
            say_next("ingest", "EXPORT.zip", *more, why="The history, before anything live")
        return
    raise typer.Exit(1)


def print_findings(found: list[dict[str, Any]]) -> None:
    """Print a line for each check."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in found:
        table.add_row(each["check"], Text(*SHOWN[each["is_ok"]]), Text(each["found"]))
    results.print(table)
    failed, unknown = (sum(each["is_ok"] is state for each in found) for state in (False, None))
    not_made = f", {unknown} could not be made" if unknown else ""
    ready = not failed and not unknown
    results.print("Ready to go live." if ready else f"{failed} of {len(found)} checks failed{not_made}. Nothing was changed.")
