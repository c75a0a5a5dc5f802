"""What several commands print: numbers and times, an example with who said what and who answered, an audit law by law."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from beepgpt.runtime.console import console

UNSCALED = {"mrr", "log_loss"}
"""Figures that are no shares."""


def number(figure: Mapping[str, Any] | None, name: str) -> str:
    """A figure without its interval: shares in per cent.

    >>> number({"value": 0.3214}, "hit@1"), number({"value": 0.3214}, "mrr"), number(None, "mrr")
    ('32.1', '0.321', '–')
    """
    if figure is None or figure["value"] is None:
        return "–"
    return f"{figure['value']:.3f}" if name in UNSCALED else f"{100 * figure['value']:.1f}"


def moment(ts: str) -> str:
    """A message's time as ISO 8601, UTC.

    >>> moment("1670453893.000100")
    '2022-12-07T22:58:13.000100Z'
    """
    seconds, _, fraction = ts.partition(".")
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{fraction}Z"


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
    ending = Text(f"known at {example['prompt_ts']}    answered at {example['answer_ts'] or '-'} by ", style="dim")
    ending.append(answer, style="bold green")
    return Panel(Group(shown, features, Text(), ending), title=example["conversation"], title_align="left")


def named(user: str, names: Mapping[str, str]) -> str:
    """A person's name, or the id where none is known."""
    return names.get(user, user)


def print_audit(audit: Mapping[str, Any]) -> None:
    """Print an audit: a row for each law, then each finding with a few of its examples."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(justify="right", style="dim")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    style = {"kept": "green", "broken": "bold red", "not checkable": "yellow"}
    for law in audit["laws"]:
        reason = "" if law["verdict"] == "broken" else law["told"]
        table.add_row(str(law["law"]), law["name"], Text(law["verdict"], style=style[law["verdict"]]), Text(reason))
    console.print(table)
    for finding in audit["findings"]:
        console.print(Text(f"\nlaw {finding['law']}, {finding['count']:,} x {finding['what']}", style="bold red"))
        for each in finding["examples"]:
            console.print(Text(f"  {each['where']}: {each['why']}"))
    for note in audit["notes"]:
        console.print(Text(f"note: {note}", style="dim"))
