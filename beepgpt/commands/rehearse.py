"""`beepgpt rehearse`: past predictions replayed with alerts, as a table and a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from beepgpt.commands.alert import INSTALL, PANEL
from beepgpt.commands.flags import with_settings
from beepgpt.commands.output import write_report
from beepgpt.config.settings import Settings, with_flags
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import beside_of
from beepgpt.runtime.places import check_apart, is_kafka, lines_with_places

if TYPE_CHECKING:
    from beepgpt.alerts.decisions import Preferences
    from beepgpt.alerts.rehearsal import MaySee, RehearsalHistory


@with_settings
def rehearse(
    source: Annotated[str, typer.Argument(metavar="PREDICTIONS", help="What was predicted: a .jsonl path, or kafka://host:port/topic.")],
    settings: Settings,
    to: Annotated[Path, typer.Option(help="The page: an .html path.")],
    outcomes: Annotated[
        str | None, typer.Option(help="Outcomes, if they are neither in PREDICTIONS, too, nor in the file beside it.", show_default=False)
    ] = None,
    model: Annotated[Path | None, typer.Option(help="The model's folder: its validated threshold is taken.", rich_help_panel=PANEL)] = None,
    threshold: Annotated[float | None, typer.Option(help="The least probability for a direct message.", rich_help_panel=PANEL)] = None,
    list_from: Annotated[float | None, typer.Option(help="The least probability for the list in App Home.", rich_help_panel=PANEL)] = None,
    per_hour: Annotated[int | None, typer.Option(help="Direct messages to one person an hour, at most.", rich_help_panel=PANEL)] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="People's preferences, from this store of `beepgpt alert`; without it all count as opted in.", show_default=False
        ),
    ] = None,
    members: Annotated[
        Path | None, typer.Option(help="An export that says who may see which channel, and where people are.", show_default=False)
    ] = None,
    names: Annotated[list[Path] | None, typer.Option(help="An export's users.json, channels.json: names for ids.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Replay predictions of the past with alerts: whom they would have alerted, and how often rightly; figures, and a page."""
    for name in ("jinja2", "slack_sdk"):
        if find_spec(name) is None:
            raise BadCommand(f"beepgpt rehearse needs {name}, which is not installed: {INSTALL}")
    from beepgpt.commands.alert import threshold_of
    from beepgpt.commands.review import names_in
    from beepgpt.web.pages import rehearsal_page

    settings = with_flags(settings, "alerts", {"threshold": threshold, "list_from": list_from, "per_hour": per_hour})
    jsonl.check_writable(to)
    if outcomes is None and not is_kafka(source) and (beside := beside_of(Path(source), "outcomes")) is not None and beside.exists():
        outcomes = str(beside)
    given_names = {f"names {each}": each for each in names or []}
    check_apart(source, [to, *([report] if report is not None else [])], outcomes=outcomes, store=store, members=members, **given_names)
    values = rehearsal_of(source, outcomes, settings, threshold_of(settings, model), store, members, names_in(names or []))
    jsonl.write_file(to, rehearsal_page(values).encode())
    if report is not None:
        figures = {name: values[name] for name in ("points", "begin", "end", "threshold", "figures", "rules", "thresholds", "passed")}
        write_report(report, figures)
    print_figures(values)
    console.print(f"For reading: {to}")


def rehearsal_of(
    source: str,
    outcomes: str | None,
    settings: Settings,
    threshold: float,
    store: Path | None,
    members: Path | None,
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Rehearse what stands in files or on topics. Returns the values of the page and the report."""
    from beepgpt.alerts.rehearsal_report import rehearsal_report
    from beepgpt.commands.alert import policy_of

    history = history_in(source, outcomes, settings)
    asked, may_see = preferences_in(store, members, {user for point in history.points for user, _ in point.people})
    policy = policy_of(settings, threshold)
    if store is None:
        policy = replace(policy, opted_in=True)
    with console.status("replaying the past"):
        return rehearsal_report(history, policy, asked=asked, may_see=may_see, names=names, everybody=store is None)


def history_in(source: str, outcomes: str | None, settings: Settings) -> RehearsalHistory:
    """Read predictions and outcomes. Raises BadCommand if one of the two is missing altogether."""
    from beepgpt.alerts.rehearsal import read_history

    named = [("PREDICTIONS", source), *([] if outcomes is None else [("--outcomes", outcomes)])]
    gone: set[bytes] = set()
    history, unreadable = read_history((each for name, place in named for each in lines_with_places(name, place, settings, gone)), gone)
    if gone:
        console.print(f"{len(gone):,} predictions are gone, since a message that they held was deleted.")
    if unreadable:
        console.print(
            f"{len(unreadable):,} lines are neither predictions nor outcomes, and are left out, the first of them {unreadable[0]}."
        )
    if not history.points:
        raise BadCommand(f"PREDICTIONS {source}: holds no prediction: give what `beepgpt score` wrote")
    if not history.outcomes:
        raise BadCommand("there is no outcome: give what `beepgpt score` wrote of what happened, with --outcomes")
    return history


def preferences_in(store: Path | None, members: Path | None, users: Collection[str]) -> tuple[dict[str, Preferences], MaySee]:
    """People's preferences from the alert store, their time zones from the export, and who may see which channel."""
    from beepgpt.alerts.decisions import Preferences
    from beepgpt.alerts.store import AlertStore
    from beepgpt.connectors.slack.members import Everybody, ListedMembers

    asked: dict[str, Preferences] = {}
    if store is not None:
        jsonl.check_readable(store)
        with closing(AlertStore(store)) as opened:
            asked = {user: opened.preferences(user) for user in users}
    listed = Everybody() if members is None else ListedMembers(members)
    for user in users:
        theirs = asked.get(user, Preferences())
        if theirs.zone is None and (zone := listed.person(user).zone) is not None:
            asked[user] = replace(theirs, zone=zone)
    return asked, lambda user, channel: listed.may_see(user, channel, listed.person(user))


def print_figures(values: Mapping[str, Any]) -> None:
    """Print the model, the baselines and the other thresholds as a table."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("alerts", "people", "joined", "next", "coverage", "a day each"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in (*values["rules"], *values["thresholds"]):
        shares = ["–" if row[name] is None else f"{row[name]:.1%}" for name in ("joined", "next", "announced")]
        a_day = row["per_person_per_day"]
        table.add_row(row["name"], f"{row['alerts']:,}", f"{row['people']:,}", *shares, "–" if a_day is None else f"{a_day:.2f}")
    console.print(table)
