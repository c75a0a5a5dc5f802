"""What several commands print and write: accounts and reports, with the exit status of a run; numbers, times, examples, audits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from beepgpt.connectors.files import jsonl
from beepgpt.runtime.console import console


def write_report(path: Path | None, body: object) -> None:
    """Write JSON for `--report` and the like, if a path was given."""
    if path is not None:
        jsonl.write_file(path, orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def account_table() -> Table:
    """An empty table for an account: what, how many, and a remark."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    return table


def add_counts(table: Table, account: Mapping[str, Any], meanings: Mapping[str, str], indent: str = "  ") -> None:
    """Add a row for each count that is not 0."""
    for name, meaning in meanings.items():
        if account[name]:
            table.add_row(f"{indent}{name.replace('_', ' ')}", f"{account[name]:,}", meaning)


def add_reasons(table: Table, name: str, counts: Mapping[str, int]) -> None:
    """Add a row with the sum of the counts and each reason's, if there are any."""
    if counts:
        table.add_row(f"  {name}", f"{sum(counts.values()):,}", by_reason(counts))


def print_verdict(adds_up: bool, rest: str) -> None:
    """Print whether the account adds up, and the rest of its last line."""
    verdict = Text("the account adds up") if adds_up else Text("THE ACCOUNT DOES NOT ADD UP", "bold red")
    console.print(Text.assemble(verdict, rest))


def by_reason(counts: Mapping[str, int]) -> str:
    """Counts by reason, in a line."""
    return ", ".join(f"{reason} {times:,}" for reason, times in counts.items())


def print_report(report: Mapping[str, Any]) -> None:
    """Print the closing account of a run that makes examples, as a table."""
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
    "moved": "their channel got another id before their horizon",
    "withheld": "their window holds text that was not known yet",
    "empty": "nothing to show in a prompt",
    "merged": "threads without a reply: their silence is their session's",
    "open": "wait for their answer",
}


def moment(ts: str) -> str:
    """A message's time as ISO 8601, UTC.

    >>> moment("1670453893.000100")
    '2022-12-07T22:58:13.000100Z'
    """
    seconds, _, fraction = ts.partition(".")
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{fraction}Z"


def when(ts: str) -> str:
    """A message's time to the second, as people write it.

    >>> when("1670453893.000100")
    '2022-12-07 22:58:13 UTC'
    """
    return f"{moment(ts)[:19].replace('T', ' ')} UTC"


def example_panel(example: Mapping[str, Any], names: Mapping[str, str], *, most: int = 4) -> Panel:
    """An example with at most `most` of its candidates. `names`: of people, by id."""
    shown = Text()
    messages = example["prompt"].removesuffix("\n\n###\n\n").split("\n\n")
    authors = [named(each["user"], names) for each in example["window"]]
    for author, message in zip(authors[-len(messages) :], messages, strict=False):
        shown.append(f"{author}: ", style="bold")
        shown.append(f"{message}\n")
    answer = ", ".join(named(user, names) for user in example["answer"]) or "nobody, within the horizon"
    features = Table(box=None, padding=(0, 2, 0, 0), title="features of who might answer", title_justify="left", title_style="dim")
    columns = ("user", "in_window", "share_30d", "first_60d", "to_author", "closeness")
    for name in columns:
        features.add_column(name, justify="left" if name == "user" else "right")
    candidates = example.get("candidates") or {name: [] for name in columns}
    for row in list(zip(*(candidates[name] for name in columns), strict=True))[:most]:
        features.add_row(named(row[0], names), *(f"{value:g}" for value in row[1:]))
    known, answered = (when(example[each]) if example[each] else "-" for each in ("prompt_ts", "answer_ts"))
    ending = Text(f"known at {known}    answered at {answered} by ", style="dim")
    ending.append(answer, style="bold green")
    return Panel(Group(shown, features, Text(), ending), title=example["conversation"], title_align="left")


def named(user: str, names: Mapping[str, str]) -> str:
    """A person's name, or the id where none is known."""
    return names.get(user, user)
