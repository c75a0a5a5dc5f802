"""`beepgpt alert`: alert people to conversations, from predictions. It is a process of its own, so that Slack's pace holds up no score."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from beepgpt.commands.flags import with_settings
from beepgpt.config.settings import Settings, with_flags
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.runtime.places import check_apart, is_kafka

PANEL = "Alerts"
INSTALL = "pip install 'beepgpt[slack]'"


@with_settings
def alert(
    source: Annotated[
        str, typer.Argument(metavar="PREDICTIONS", help="kafka://host:port/slack.predictions?follow=true, or a .jsonl path.")
    ],
    settings: Settings,
    interactions: Annotated[
        str | None, typer.Option(help="What people do in Slack: kafka://host:port/slack.interactions?follow=true, or a .jsonl path.")
    ] = None,
    outcomes: Annotated[str | None, typer.Option(help="Outcomes, as scoring writes them: counts how often alerts were right.")] = None,
    deletions: Annotated[
        str | None, typer.Option(help="Deletions of messages: slack.events itself, or what scoring writes of them.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Also write each alert there: kafka://host:port/slack.alerts, a .jsonl path, or -.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="The model's folder: its validated threshold is taken.", rich_help_panel=PANEL)] = None,
    threshold: Annotated[float | None, typer.Option(help="The least probability for a direct message.", rich_help_panel=PANEL)] = None,
    list_from: Annotated[float | None, typer.Option(help="The least probability for the list in App Home.", rich_help_panel=PANEL)] = None,
    per_hour: Annotated[int | None, typer.Option(help="Direct messages to one person an hour, at most.", rich_help_panel=PANEL)] = None,
    opted_in: Annotated[
        bool | None, typer.Option("--opted-in/--opt-in", help="Alert everybody who doesn't opt out.", rich_help_panel=PANEL)
    ] = None,
    store: Annotated[Path | None, typer.Option(help="The file of preferences and alerts.", rich_help_panel=PANEL)] = None,
    members: Annotated[
        Path | None, typer.Option(help="Without Slack: an export that says who may see which channel.", show_default=False)
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the closing account here, as JSON.")] = None,
) -> None:
    """Alert people to conversations they would want to be in: in Slack, on a topic, by a webhook, here."""
    flags = {"threshold": threshold, "list_from": list_from, "per_hour": per_hour, "opted_in": opted_in, "store": store}
    settings = with_flags(settings, "alerts", flags)
    for place in (source, interactions, outcomes, deletions):
        if place is not None and "://" not in place:
            jsonl.check_readable(Path(place))  # before a store is made
    written = [Path(each) for each in (to, report) if each is not None and each != "-" and not is_kafka(str(each))]
    for path in written:
        jsonl.check_writable(path)
    read = {"interactions": interactions, "outcomes": outcomes, "deletions": deletions, "members": members}
    check_apart(source, written, **read, store=settings.alerts.store)
    if find_spec("slack_sdk") is None:
        raise BadCommand(f"beepgpt alert needs slack_sdk, which is not installed: {INSTALL}")
    from beepgpt.commands.alert_run import AlertJob, run_alerts

    job = AlertJob(source, interactions, outcomes, deletions, to, model, members, settings)
    account = run_alerts(job)
    print_account(account)
    if report is not None:
        jsonl.write_file(report, orjson.dumps(account, option=orjson.OPT_INDENT_2) + b"\n")


def print_account(account: Mapping[str, Any]) -> None:
    """Print the closing account as a table."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, count in account["counts"].items():
        table.add_row(name.replace("_", " ").replace(":", ", "), f"{count:,}")
    console.print(table)
    if account["right"] is not None:
        console.print(f"{account['right']:.1%} of those who were alerted to a conversation with a known outcome were the next to answer.")
