"""`beepgpt rehearse`: past predictions replayed with alerts, as a table and a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.table import Table

from beepgpt.commands.alert import INSTALL, PANEL
from beepgpt.commands.flags import with_settings
from beepgpt.commands.output import number, write_report
from beepgpt.config.settings import Settings, with_flags
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.runtime.places import check_apart, lines_with_places
from beepgpt.training.folder import ALERTS, CARD

if TYPE_CHECKING:
    from beepgpt.alerts.choosing import WantedAlerts
    from beepgpt.alerts.decisions import Policy, Preferences
    from beepgpt.alerts.rehearsal import MaySee, RehearsalHistory


@with_settings
def rehearse(
    source: Annotated[str, typer.Argument(metavar="PREDICTIONS", help="What was predicted: a .jsonl path, or kafka://host:port/topic.")],
    settings: Settings,
    to: Annotated[Path, typer.Option(help="The page: an .html path.")],
    outcomes: Annotated[str | None, typer.Option(help="Outcomes, if they aren't in PREDICTIONS, too.", show_default=False)] = None,
    model: Annotated[
        Path | None, typer.Option(help="The model's folder, where the threshold that is found is written.", rich_help_panel=PANEL)
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="The least probability for a direct message.", rich_help_panel=PANEL)] = None,
    list_from: Annotated[float | None, typer.Option(help="The least probability for the list in App Home.", rich_help_panel=PANEL)] = None,
    per_hour: Annotated[int | None, typer.Option(help="Direct messages to one person an hour, at most.", rich_help_panel=PANEL)] = None,
    precision: Annotated[
        float | None, typer.Option(help="How many alerted people should join within a day: the threshold is looked for.", min=0, max=1)
    ] = None,
    per_week: Annotated[
        float | None, typer.Option(help="Alerts to a person in a week, at most: the threshold is looked for.", min=0, show_default=False)
    ] = None,
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
    """Replay past predictions with alerts: whom they would have alerted, how often rightly, and from which threshold on is best."""
    for name in ("jinja2", "slack_sdk", "scipy", "matplotlib"):
        if find_spec(name) is None:
            raise BadCommand(f"beepgpt rehearse needs {name}, which is not installed: {INSTALL}")
    from beepgpt.alerts.choosing import WantedAlerts
    from beepgpt.commands.review import names_in
    from beepgpt.web.report import rehearsal_page

    settings = with_flags(settings, "alerts", {"threshold": threshold, "list_from": list_from, "per_hour": per_hour})
    jsonl.check_writable(to)
    given_names = {f"names {each}": each for each in names or []}
    check_apart(source, [to, *([report] if report is not None else [])], outcomes=outcomes, store=store, members=members, **given_names)
    wanted = WantedAlerts(0.5 if precision is None and per_week is None else precision, per_week)
    values = rehearsal_of(source, outcomes, settings, model, wanted, store, members, names_in(names or []))
    jsonl.write_file(to, rehearsal_page(values).encode())
    if report is not None:
        write_report(report, {name: value for name, value in values.items() if name not in ON_THE_PAGE})
    print_figures(values)
    if model is not None:
        keep(values["recommended"], model, values["models"])
    console.print(f"For reading: {to}")


ON_THE_PAGE = ("people", "shown", "bars", "bars_are", "highest")
"""What a report leaves out."""


def rehearsal_of(
    source: str,
    outcomes: str | None,
    settings: Settings,
    model: Path | None,
    wanted: WantedAlerts,
    store: Path | None,
    members: Path | None,
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Rehearse what stands in files or on topics. Returns the values of the page and the report."""
    from beepgpt.alerts.rehearsal_report import rehearsal_report
    from beepgpt.commands.alert import policy_of, threshold_of

    history = history_in(source, outcomes, settings, model)
    asked, may_see = preferences_in(store, members, {user for point in history.points for user, _ in point.people})

    def policy_at(threshold: float) -> Policy:
        policy = policy_of(settings, threshold)
        return replace(policy, opted_in=True) if store is None else policy

    given = settings.alerts.threshold
    how: dict[str, Any] = {"asked": asked, "may_see": may_see, "names": names, "everybody": store is None, "wanted": wanted}
    with console.status("replaying the past"):
        values = rehearsal_report(history, None if given is None else policy_at(given), policy_at, **how)
        if values["figures"] is None:  # there is nothing to recommend
            console.print(f"No threshold is recommended: {values['recommended']['why']}.")
            values = rehearsal_report(history, policy_at(threshold_of(settings, model)), policy_at, **how)
    return {**values, "models": sorted({point.model for point in history.points})}


def history_in(source: str, outcomes: str | None, settings: Settings, model: Path | None) -> RehearsalHistory:
    """Read predictions and outcomes. Raises BadCommand if one of the two is missing altogether, or --model is no model."""
    from beepgpt.alerts.rehearsal import read_history
    from beepgpt.training.parts import parts_of
    from beepgpt.training.reloading import name_of

    if model is not None and not (model / CARD).is_file():
        raise BadCommand(f"--model {model}: is no trained model: beepgpt train SET --to {model}")
    parts = None if model is None else {name_of(model): parts_of(orjson.loads((model / CARD).read_bytes()))}
    named = [("PREDICTIONS", source), *([] if outcomes is None else [("--outcomes", outcomes)])]
    history, unreadable = read_history((each for name, place in named for each in lines_with_places(name, place, settings)), parts)
    if unreadable:
        console.print(
            f"{len(unreadable):,} lines are neither predictions nor outcomes, and are left out, the first of them {unreadable[0]}."
        )
    if not history.points:
        raise BadCommand(f"PREDICTIONS {source}: holds no prediction: give what `beepgpt score` wrote")
    if not history.outcomes:
        raise BadCommand("there is no outcome: give what `beepgpt score` wrote of what happened, with --outcomes")
    return history


def keep(recommended: Mapping[str, Any], model: Path, models: Sequence[str]) -> None:
    """Write a recommendation where `beepgpt alert` and `beepgpt score` read it, if all predictions are of that model."""
    from beepgpt.training.reloading import name_of

    name = name_of(model)
    if list(models) != [name]:
        console.print(f"PREDICTIONS are of {', '.join(models)}, and --model {model} is {name}: nothing is written there.")
        return
    jsonl.write_file(model / ALERTS, orjson.dumps({"model": name, **recommended}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if recommended["threshold"] is not None:
        console.print(f"Alerts from {recommended['threshold']:.0%} on: {model / ALERTS}, which `beepgpt alert` and `beepgpt score` take.")


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
    """Print the recommendation, the model, the baselines and the other thresholds."""
    from beepgpt.web.pages import with_interval

    found, parts = values["recommended"], values["parts"]
    apart = ", ".join(f"{name} {count:,}" for name, count in parts.items() if name != "judge")
    rest = f"; apart from these: {apart}" if apart else ""
    console.print(f"Figures are of the {parts.get('judge', 0):,} points that judge{rest}.", highlight=False)
    if found["threshold"] is not None:
        joined = with_interval(found["judged"]["intervals"]["joined"], "joined")
        console.print(
            f"Recommended: {found['threshold']:.0%}, {found['why']}. Judged: {found['judged']['alerts']:,} alerts, joined {joined}.",
            highlight=False,
        )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("alerts", "people", "joined", "next", "coverage", "a day each"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in (*values["rules"], *values["thresholds"]):
        joined = row["intervals"]["joined"]
        shares = [number(joined, "joined") if joined["low"] is None else with_interval(joined, "joined")]
        shares += [number(row["intervals"][name], name) for name in ("next", "announced")]
        a_day = row["per_person_per_day"]
        table.add_row(row["name"], f"{row['alerts']:,}", f"{row['people']:,}", *shares, "–" if a_day is None else f"{a_day:.2f}")
    console.print(table)
