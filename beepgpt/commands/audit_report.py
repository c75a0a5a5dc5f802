"""What `beepgpt audit` found, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from beepgpt.runtime.console import results


def print_audit(audit: Mapping[str, Any]) -> None:
    """Print an audit: a row for each law, then each finding with a few of its examples."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(justify="right", style="dim")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    style = {"kept": "green", "broken": "bold red", "suspected": "bold yellow", "not checkable": "yellow"}
    for law in audit["laws"]:
        reason = "" if law["verdict"] in ("broken", "suspected") else law["told"]
        table.add_row(str(law["law"]), law["name"], Text(law["verdict"], style=style[law["verdict"]]), Text(reason))
    results.print(table)
    for finding in audit["findings"]:
        suspected = "suspected: " if finding["is_guess"] else ""
        style_of = style["suspected" if finding["is_guess"] else "broken"]
        results.print(Text(f"\n{suspected}law {finding['law']}, {finding['count']:,} x {finding['what']}", style=style_of))
        for each in finding["examples"]:
            results.print(Text(f"  {each['where']}: {each['why']}"))
    for note in audit["notes"]:
        results.print(Text(f"note: {note}", style="dim"))
