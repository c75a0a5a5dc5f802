"""`beepgpt ingest`: put events on a topic, from an export, a file, another topic, or live from Slack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from beepgpt.commands.closing import print_unlisted, say_next, say_rejected, show_summary
from beepgpt.commands.flags import Include, Json, Report, with_settings
from beepgpt.commands.output import account_table, add_counts, add_reasons, print_verdict, write_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.log import EITHER
from beepgpt.errors import BadCommand
from beepgpt.figures import counted
from beepgpt.ingest.run import IngestJob, SideTopic, run_ingest
from beepgpt.ingest.slack import run as ingest_slack
from beepgpt.library.arguments import kinds_in
from beepgpt.runtime.console import console
from beepgpt.runtime.pacing import pace_of
from beepgpt.runtime.places import check_apart, is_topic, topic_of


@with_settings
def ingest(
    source: Annotated[
        str,
        typer.Argument(help="A Slack export (zip or folder), a .jsonl of events, a topic (kafka://…, sqlite://…), or slack: live."),
    ],
    to: Annotated[str, typer.Option(help="The topic to write, which nobody else writes, at kafka://host:port/ or sqlite:///folder/.")],
    settings: Settings,
    pace: Annotated[
        str | None,
        typer.Option(help="Of history: so much faster than real time (60x), with heartbeats."),
    ] = None,
    with_: Annotated[str | None, typer.Option("--with", help="For a topic as SOURCE, what to merge in: dead-letters,late,EXPORT.")] = None,
    include: Include = "channels",
    scratch: Annotated[Path | None, typer.Option(help="A folder with space to sort all events of a topic.")] = None,
    report: Report = None,
    http: Annotated[int | None, typer.Option(help="For slack: over HTTP on this port, not by Socket Mode.", min=0, max=65_535)] = None,
    http_host: Annotated[str, typer.Option(help="The address to listen on for --http.")] = "127.0.0.1",
    json: Json = False,
) -> None:
    """Put events on a topic: an export, a file, another topic in order, or live from Slack. The same command resumes."""
    if report is not None:
        jsonl.check_writable(report)
        check_apart(source, [report])
    if source == ingest_slack.NAME:
        if (pace, with_, scratch) != (None, None, None):
            raise BadCommand("slack is live: --pace, --with and --scratch don't go with it")
        if not is_topic(to):
            raise BadCommand(f"--to {to}: a topic is expected: {EITHER}")
        if "unlisted" in (kinds := kinds_in("--include", include)):
            raise BadCommand("--include unlisted: is for folders of an export; live, Slack says of each channel what it is")
        live = ingest_slack.SlackIngestJob(to, topic_of(to, "--to"), settings, kinds, http, http_host)
        closing, status = ingest_slack.run_slack(live)
        show_summary(closing, json, print_slack)
    else:
        if http is not None:
            raise BadCommand("--http goes with slack as SOURCE")
        beside, history = merged_of(with_)
        job = IngestJob(source, to, settings, pace_of(pace), beside, history, kinds_in("--include", include), scratch)
        closing, status = run_ingest(job)
        show_summary(closing, json, print_ingest)
        print_unlisted(closing)
    write_report(report, closing)
    if status == 130:
        console.print("Interrupted; what was written is kept: run the same command again to go on.")
    if status == 0 and source != ingest_slack.NAME:
        account = closing["account"]
        status = say_rejected(account["read"], account["unusable"])
        if not status and not closing["does_not_add_up"]:
            say_next("examples", f"{to}?follow=true", "--to", "examples.jsonl", "--recovery", "state")
    raise typer.Exit(1 if closing["does_not_add_up"] else status)


def merged_of(text: str | None) -> tuple[tuple[SideTopic, ...], Path | None]:
    """Parse `--with`: the side topics, and the export of what was said before. Raises BadCommand."""
    chosen = [] if text is None else [text] if Path(text).exists() else [each.strip() for each in text.split(",")]
    exports = {each for each in chosen if each not in get_args(SideTopic)}
    if unknown := sorted(each for each in exports if not Path(each).exists()):
        raise BadCommand(f"--with {', '.join(unknown)}: must be of {', '.join(get_args(SideTopic))}, or an export that is there")
    if len(exports) > 1:
        raise BadCommand(f"--with {', '.join(sorted(exports))}: one export can be merged in at a time")
    return tuple(each for each in get_args(SideTopic) if each in chosen), next(map(Path, exports), None)


# The closing accounts

RECORDS = {
    "written": "to the topic now",
    "there": "there already, written by an earlier start",
    "copies": "of what is written: events that came twice, and heartbeats, which each partition has",
    "letters_of_unusable": "dead letters whose records stand in SOURCE, and are counted below",
    "elsewhere": "dead letters and late events of other topics, or of an earlier one of this name",
    "waiting": "not written yet",
    "heartbeats_added": "each in every partition; without --pace none are added",
}
ARRIVALS = {
    "written": "to the topic, and acknowledged",
    "duplicate": "on the topic already: acknowledged, not written",
    "interactions": "buttons, forms and visits of the app's home, written to the other topic",
    "held": "wait for their channel's backfill, unacknowledged: Slack sends them again",
}
BACKFILLS = {
    "filled": "events backfilled from histories after an outage; their edits have times to the second",
    "untimed": "reactions in these histories: not written, since their time is unknown",
    "vanished": "messages on the topic that the history lacks: their deletions were written",
    "retention": "messages older than slack.retention: their deletions were written",
    "unreadable": "messages of a history without a time",
    "fills_refused": "histories that Slack refused: the events of these gaps are missing",
    "delayed": "came after a heartbeat with a later time: late in a flow that follows",
    "outages": "times at which events may have been missed",
    "heartbeats": "to every partition",
}


def print_ingest(report: Mapping[str, Any]) -> None:
    """Print the closing account of an export, a file or a topic."""
    account = report["account"]
    table = account_table()
    table.add_row("records read", f"{account['read']:,}", "")
    add_counts(table, account, RECORDS)
    add_reasons(table, "unusable", account["unusable"])
    console.print(table)
    if report["ended"] and account["there"] and not account["written"] and not account["heartbeats_added"]:
        console.print(f"All of it is in {report['to']} already: nothing was written.")
    print_verdict(
        account["adds_up"],
        f"; {counted(report['partitions'], 'partition')}, {report['seconds']:,.1f} s,"
        f" {report['records_per_second']:,.0f} records/s, {report['peak_memory_mb']:,.0f} MB at most",
    )


def print_slack(report: Mapping[str, Any]) -> None:
    """Print the closing account of a live run."""
    account = report["account"]
    table = account_table()
    table.add_row("arrived", f"{account['arrived']:,}", "envelopes that Slack sent")
    add_counts(table, account, ARRIVALS)
    add_reasons(table, "left out", account["left_out"])
    add_counts(table, account, BACKFILLS, indent="")
    console.print(table)
    print_verdict(account["adds_up"], f"; {report['seconds']:,.1f} s, {report['peak_memory_mb']:,.0f} MB at most")
