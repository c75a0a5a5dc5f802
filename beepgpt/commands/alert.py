"""`beepgpt alert`: alert people to conversations, from predictions. It is a process of its own, so that Slack's pace holds up no score."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beepgpt.alerts.decisions import Policy
from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json, Report, with_settings
from beepgpt.commands.output import account_table, write_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl, parquet
from beepgpt.connectors.log import parse_address
from beepgpt.errors import BadCommand
from beepgpt.figures import percent
from beepgpt.packages import need
from beepgpt.runtime.console import console
from beepgpt.runtime.places import check_apart, is_topic
from beepgpt.training.folder import METRICS

if TYPE_CHECKING:
    from beepgpt.alerts.store import AlertStore
    from beepgpt.training.live import FoundThreshold


@with_settings
def alert(
    source: Annotated[str, typer.Argument(metavar="PREDICTIONS", help="kafka://…/slack.predictions?follow=true, or a .jsonl path.")],
    settings: Settings,
    interactions: Annotated[str | None, typer.Option(help="What people do in Slack: kafka://…/slack.interactions?follow=true.")] = None,
    outcomes: Annotated[str | None, typer.Option(help="Outcomes: counts how often alerts were right.")] = None,
    deletions: Annotated[str | None, typer.Option(help="Deletions: slack.events, or what scoring writes of them.")] = None,
    to: Annotated[str | None, typer.Option(help="Write alerts here, too: a topic, a .jsonl path, or -.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="The model's folder, whose threshold is taken."),
    ] = None,
    members: Annotated[Path | None, typer.Option(help="Without Slack: an export that says who may see what.", show_default=False)] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Alert people to conversations they would want to be in: in Slack, on a topic, by a webhook, here."""
    if json and to == "-":
        raise BadCommand("--json: the alerts go to standard output already: name a file as --to, or leave it out")
    for place in (source, interactions, outcomes, deletions):
        if place is not None and "://" not in place:
            if parquet.is_table(Path(place)):
                raise BadCommand(
                    f"{place}: lines of JSON or a topic are expected, and this is a table: beepgpt score … --to predictions.jsonl"
                )
            jsonl.check_readable(Path(place))  # before a store is made
    written = [Path(each) for each in (to, report) if each is not None and each != "-" and not is_topic(str(each))]
    for path in written:
        jsonl.check_writable(path)
    read = {"interactions": interactions, "outcomes": outcomes, "deletions": deletions, "members": members}
    check_apart(source, written, **read, store=settings.alerts.store)
    need("beepgpt alert", ["slack_sdk"], "slack")
    from beepgpt.commands.alert_run import run_alerts

    places = {"predictions": source, "interactions": interactions, "outcomes": outcomes, "deletions": deletions}
    account = run_alerts(places, to, model, members, settings)
    how_it_went = () if outcomes is None else ("--outcomes", outcomes.partition("?")[0])
    rehearsal = ("rehearse", source.partition("?")[0], *how_it_went)
    show_summary(account, json, lambda found: print_account(found, join(("beepgpt", *rehearsal, "--to", "rehearsal.html"))))
    write_report(report, account)
    given = () if model is None else ("--model", model)
    if outcomes is not None:
        say_next("outcomes", *how_it_went[1:], *given)
    else:
        may_see = () if members is None else ("--members", members)
        say_next(*rehearsal, *given, *may_see, "--to", "rehearsal.html")


def print_account(account: Mapping[str, Any], rehearsal: str) -> None:
    """Print the closing account as a table; `rehearsal`: the command that says how sure its shares are."""
    table = account_table()
    for name, count in account["counts"].items():
        what, _, reason = name.partition(":")  # a reason is called as docs/alerts.md calls it
        table.add_row(", ".join(filter(None, (what.replace("_", " "), reason))), f"{count:,}")
    console.print(table)
    counts = account["counts"]
    for what, is_known, words in (("answered", "right", "joined the conversation"), ("reacted", "reacted", "reacted to the message")):
        if account[is_known] is not None:
            so, not_so = (counts.get(f"answer:{name}", 0) for name in (what, f"not_{what}"))
            console.print(
                f"Of {so + not_so:,} people alerted whose day is over, {so:,} {words} within it. How sure that is: {rehearsal}",
                soft_wrap=True,
            )


def threshold_of(settings: Settings, model: Path | None) -> FoundThreshold:
    """From which probability on somebody gets a direct message, as the run begins: as it was set, or the threshold of the live pair.

    Raises BadCommand if there is none.
    """
    from beepgpt.training.live import FoundThreshold, live_in, threshold_in

    if settings.alerts.threshold is not None:
        return FoundThreshold(settings.alerts.threshold, "set", "as it was set")
    if model is None:
        raise BadCommand("how likely must an answer be? Give --model DIR, whose threshold is taken, or --threshold 0.5")
    if (found := threshold_in(live_in(model))) is None:
        raise BadCommand(why_no_threshold(live_in(model)))
    return found


def why_no_threshold(model: Path) -> str:
    """Why a model has no threshold, and what to do."""
    from beepgpt.training.live import card_in, figures_in, is_of_card

    figures = figures_in(model)
    if not card_in(model):
        return f"--model {model}: is no trained model: beepgpt train SET --to {model}, or set alerts.threshold in its place"
    if not figures:
        return f"--model {model}: was not validated: beepgpt validate SET --model {model}, or set alerts.threshold in its place"
    if not is_of_card(figures, card_in(model)):
        return f"{model / METRICS}: is of another model than the one that stands there now: validate that one, or set alerts.threshold"
    if "threshold" in figures and figures["threshold"] is None:
        what = "no threshold reached the precision that was asked for"
        return f"{model / METRICS}: {what}: set alerts.threshold, or validate it for a lower one"
    return f"{model / METRICS}: is nothing that `beepgpt validate` wrote: validate the model, or set alerts.threshold"


def say_threshold(model: Path | None, found: FoundThreshold) -> None:
    """Unless it was set, print from which probability on people are alerted, why, and how to choose it better where it can be."""
    from beepgpt.training.live import live_in, name_of, newer_beside

    if model is None or found.found == "set":
        return
    if (newer := newer_beside(model)) is not None:
        console.print(f"{model}: the model {newer} there has no threshold yet: going on with {name_of(live_in(model))}, which has.")
    of = {
        "validated": ": by all next answers, most of them of people who take part already",
        "kept": ". The model has learned from all that came since, so nothing is left to choose another one by before it is retrained:"
        " beepgpt rehearse shows how alerts go at other thresholds, alerts.threshold sets one",
        "rehearsed": "",
    }
    console.print(f"Alerts from {percent(found.value, 1)} on, {found.why}{of[found.found]}.", highlight=False)
    if found.found == "validated":
        say_next("rehearse", "PREDICTIONS", "--model", model, "--to", "rehearsal.html", why="Chooses a threshold by alerts")


def say_new(store: AlertStore, *, follows: bool, is_first: bool) -> None:
    """Print that a store is new, and what that means. `follows`: a topic of predictions is followed. `is_first`: there was none before."""
    since = f"{datetime.fromtimestamp(store.born / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    means = f"points of before {since} alert nobody" if follows else "nobody counts as alerted before"
    lost = "" if is_first else " If there was one before, it is lost: docs/alerts.md, A lost store."
    console.print(f"{store.path}: is a new store: {means}.{lost}")


def say_nobody_opts(settings: Settings, opted_in: int, predictions: str) -> None:
    """Warn that nobody can turn alerts on or off, since what people do in Slack is not read; `opted_in`: how many did."""
    now = "everybody gets alerts" if settings.alerts.opted_in else f"{opted_in:,} people have turned alerts on"
    place = parse_address(predictions).place if is_topic(predictions) else "kafka://HOST:PORT"
    topic = f"{place}/{settings.slack.interactions_topic}?follow=true"
    console.print(f"Warning: without --interactions nobody can turn alerts on or off; {now}. Add --interactions '{topic}'.")


def policy_of(settings: Settings, threshold: float) -> Policy:
    """The policy that the settings describe."""
    ours = settings.alerts
    return Policy(
        threshold=threshold,
        list_from=ours.list_from,
        per_hour=ours.per_hour,
        quiet=ours.quiet,
        zone=ours.zone,
        max_age=ours.max_alert_age,
        opted_in=ours.opted_in,
        topic_from=ours.topic_from,
    )
