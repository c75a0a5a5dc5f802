"""`beepgpt alert`: alert people to conversations, from predictions. It is a process of its own, so that Slack's pace holds up no score."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from beepgpt.alerts.decisions import Policy
from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json, Report, with_settings
from beepgpt.commands.output import account_table, write_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.figures import percent
from beepgpt.runtime.console import console
from beepgpt.runtime.places import check_apart, is_kafka

INSTALL = "pip install 'beepgpt[slack]'"


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
            jsonl.check_readable(Path(place))  # before a store is made
    written = [Path(each) for each in (to, report) if each is not None and each != "-" and not is_kafka(str(each))]
    for path in written:
        jsonl.check_writable(path)
    read = {"interactions": interactions, "outcomes": outcomes, "deletions": deletions, "members": members}
    check_apart(source, written, **read, store=settings.alerts.store)
    if find_spec("slack_sdk") is None:
        raise BadCommand(f"beepgpt alert needs slack_sdk, which is not installed: {INSTALL}")
    from beepgpt.commands.alert_run import run_alerts

    places = {"predictions": source, "interactions": interactions, "outcomes": outcomes, "deletions": deletions}
    account = run_alerts(places, to, model, members, settings)
    show_summary(account, json, print_account)
    write_report(report, account)
    given = () if model is None else ("--model", model)
    if outcomes is not None:
        say_next("outcomes", outcomes.partition("?")[0], *given)
    else:
        may_see = () if members is None else ("--members", members)
        say_next("rehearse", source.partition("?")[0], *given, *may_see, "--to", "rehearsal.html")


def print_account(account: Mapping[str, Any]) -> None:
    """Print the closing account as a table."""
    table = account_table()
    for name, count in account["counts"].items():
        table.add_row(name.replace("_", " ").replace(":", ", "), f"{count:,}")
    console.print(table)
    counts = account["counts"]
    for what, is_known, words in (("answered", "right", "joined the conversation"), ("reacted", "reacted", "reacted to the message")):
        if account[is_known] is not None:
            so, not_so = (counts.get(f"answer:{name}", 0) for name in (what, f"not_{what}"))
            console.print(
                f"Of {so + not_so:,} people alerted whose day is over, {so:,} {words} within it. How sure that is: beepgpt rehearse."
            )


def threshold_of(settings: Settings, model: Path | None) -> float:
    """The least probability for a direct message: as it was set, as a rehearsal recommended for the model, or as its validation found.

    Raises BadCommand.
    """
    if settings.alerts.threshold is not None:
        return settings.alerts.threshold
    if model is None:
        raise BadCommand("how likely must an answer be? Give --model DIR, whose rehearsed threshold is taken, or --threshold 0.5")
    from beepgpt.training.folder import CARD
    from beepgpt.training.live import is_of_card, live_in, newer_beside, recommended_in

    given, model = model, live_in(model)
    if (newer := newer_beside(given)) is not None:
        console.print(f"{given}: the model {newer} there has no threshold yet: going on with {model.name}, which has.")
    if (recommended := recommended_in(model)) is not None:
        return recommended
    path = model / "metrics.json"
    if not path.exists():
        validate = "was not validated: beepgpt validate SET --model"
        what = validate if (model / "model.json").is_file() else "is no trained model: beepgpt train SET --to"
        raise BadCommand(f"--model {model}: {what} {model}, or give --threshold 0.5 in its place")
    jsonl.check_readable(path)
    try:
        figures = orjson.loads(path.read_bytes())
        chosen = figures["threshold"]
        if (card := model / CARD).exists() and not is_of_card(figures, orjson.loads(card.read_bytes())):
            raise BadCommand(f"{path}: is of another model than the one that stands there now: validate that one, or give --threshold")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCommand(f"{path}: is nothing that `beepgpt validate` wrote: validate the model, or give --threshold") from error
    if chosen is None:
        raise BadCommand(
            f"{path}: no threshold reached the precision that was asked for: give --threshold, or validate with a lower --precision"
        )
    console.print(
        f"From {percent(chosen['threshold'], 1)} on, as {model} was validated: by all next answers, most of them of people who take part"
        f" already. For a threshold that is chosen by alerts: beepgpt rehearse PREDICTIONS --model {model} --to rehearsal.html"
    )
    return float(chosen["threshold"])


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
