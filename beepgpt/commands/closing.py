"""The end of a command that ran a flow: its account as a table, its report as a file, and its exit status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import typer
from rich.table import Table
from rich.text import Text

from beepgpt.connectors.files import jsonl
from beepgpt.runtime.console import console


def close_command(
    closing: Mapping[str, Any], status: int, report: Path | None, recovery: Path | None, show: Callable[[Mapping[str, Any]], None]
) -> None:
    """Shows and writes the closing report, and says how to go on. Raises typer.Exit."""
    show(closing)
    print_unlisted(closing)
    events = closing["account"]["events"]
    if closing["ended"] and (rejected := say_rejected(events["read"], events["rejected"])):
        status = status or rejected
    if report is not None:
        jsonl.write_file(report, orjson.dumps(closing, option=orjson.OPT_INDENT_2) + b"\n")
    if status == 130:
        rest = "run the same command again to go on" if recovery else "give --recovery DIR to go on where a run stopped"
        console.print(f"Interrupted; what was done is kept ({rest}).")
    elif not closing["ended"] and recovery is None:
        console.print("Stopped without --recovery DIR: the same command begins anew.")
    raise typer.Exit(1 if closing["does_not_add_up"] else status)


def print_unlisted(closing: Mapping[str, Any]) -> None:
    """Names the folders of an export that no listing names and that were not read, with their sizes."""
    folders = closing.get("unlisted", [])
    for each in folders[:MOST_NAMED]:
        files = "1 day file" if each["day_files"] == 1 else f"{each['day_files']:,} day files"
        console.print(f"Not read, as listed nowhere: {each['folder']} ({each['kind']}), {each['messages']:,} messages in {files}")
    if more := folders[MOST_NAMED:]:
        console.print(f"… and {len(more):,} more folders, {sum(each['messages'] for each in more):,} messages: --report names all")


def say_rejected(read: int, rejected: Mapping[str, int]) -> int:
    """Says what is probably wrong if half of all records or more were rejected. Returns the exit status: 1 if all were."""
    count = sum(rejected.values())
    if not count or 2 * count < read:
        return 0
    reason = max(rejected, key=rejected.__getitem__)
    why = PROBABLY.get(reason, "the dead letters have each with its reason").format(now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    share = "Every record" if count == read else f"{count:,} of {read:,} records"
    console.print(f"{share} could not be used ({by_reason(rejected)}): {why}.")
    return 1 if count == read else 0


MOST_NAMED = 20
PROBABLY = {
    "future": "their times are after this machine's clock, which says {now}: set the clock, or mend the times",
    "bad_record_time": "the log's own timestamps are no milliseconds (seconds, probably): mend them where the records are produced",
    "bad_ts": 'a time is expected as Slack writes it, a string of seconds: "ts": "1690360253.041239"',
    "no_ts": 'each event needs a time as Slack writes it, a string of seconds: "ts": "1690360253.041239"',
    "not_json": "SOURCE is probably no file of events, which has one JSON object a line",
    "no_channel": 'each event needs its channel: "channel": "C0123456789"',
    "day_file_unreadable": "the day files are encrypted, or may not be read: unpack the zip with its password, or mend the permissions,"
    " and give the folder",
    "day_file_not_json": "the day files are damaged or encrypted: download the export again, or unpack it with the tool that made it",
    "day_file_damaged": "the zip is damaged: download the export again",
}
"""What is probably wrong, by the most frequent reason for which records were rejected."""


def account_table() -> Table:
    """An empty table for an account: what, how many, and a remark."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    return table


def print_verdict(adds_up: bool, rest: str) -> None:
    """Whether the account adds up, and the rest of its last line."""
    verdict = Text("the account adds up") if adds_up else Text("THE ACCOUNT DOES NOT ADD UP", "bold red")
    console.print(Text.assemble(verdict, rest))


def by_reason(counts: Mapping[str, int]) -> str:
    """Counts by reason, in a line."""
    return ", ".join(f"{reason} {times:,}" for reason, times in counts.items())


def print_report(report: Mapping[str, Any]) -> None:
    """The closing account of a run that makes examples, as a table."""
    account = report["account"]
    table = account_table()
    _rows(table, "events", account["events"], "read")
    _rows(table, "points", account["points"], "made")
    table.add_row("examples", f"{account['examples']:,}", f"to {report['to']}")
    others = {
        "retractions": account["retractions"],
        "late": account["events"]["late"],
        "dead_letters": sum(account["events"]["rejected"].values()),
    }
    for name, count in others.items():
        if count:
            path = report.get("beside", {}).get(name)
            table.add_row(name.replace("_", " "), f"{count:,}", f"to {path}" if path else "not kept: name a file as --to to keep them")
    console.print(table)
    print_verdict(
        account["adds_up"],
        f"; {account['channels']:,} channels, {report['seconds']:,.1f} s, {report['events_per_second']:,.0f} events/s,"
        f" {report['peak_memory_mb']:,.0f} MB at most",
    )


def _rows(table: Table, what: str, counts: Mapping[str, Any], total: str) -> None:
    table.add_row(f"{what} {total}", f"{counts[total]:,}", "")
    for name, count in counts.items():
        if name == total or not count:
            continue
        if isinstance(count, Mapping):
            table.add_row(f"  {name}", f"{sum(count.values()):,}", by_reason(count))
        else:
            table.add_row(f"  {name}", f"{count:,}", MEANING.get(name, ""))


MEANING = {
    "duplicate": "duplicates of events that were applied",
    "late": "read when the channel's clock was already past them",
    "held": "wait for their turn",
    "answered": "somebody else posted",
    "silent": "nobody did, within the horizon",
    "superseded": "a newer point of the conversation took their place",
    "elsewhere": "a session's, answered in the thread alone",
    "censored": "the input ended before their horizon",
    "withheld": "their window holds text that was not known yet",
    "empty": "nothing to show in a prompt",
    "merged": "threads without a reply: their silence is their session's",
    "open": "wait for their answer",
}
