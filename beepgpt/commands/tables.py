"""Tables and numbers that several commands print."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

UNSCALED = {"mrr", "log_loss"}
"""Figures that are no shares."""


def ledger() -> Table:
    """An empty table of counts: a name, a number, a remark."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    return table


def closing_line(adds_up: bool, more: str) -> Text:
    """Whether the account adds up, and more."""
    return Text.assemble(Text("the account adds up") if adds_up else Text("THE ACCOUNT DOES NOT ADD UP", "bold red"), more)


def listed(counts: Mapping[str, int]) -> str:
    """Counts by name, in one line.

    >>> listed({"refused": 1200, "too_busy": 3})
    'refused 1,200, too_busy 3'
    """
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


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
