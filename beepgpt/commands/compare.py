"""`beepgpt compare`: validations side by side, on the same conversations, and what the best of them is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json
from beepgpt.commands.output import write_report
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.figures import UNSCALED, share_or_few, short
from beepgpt.runtime.console import results
from beepgpt.training.folder import CARD, names_of

NAMES = {"alert_precision": "alerts right at 0.5", "alert_recall": "answers covered at 0.5", "calibration_error": "calibration error"}
SHOWN = ("first_replies", "answered", "all")


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN…", help="Folders where beepgpt validate wrote; the first is the measure.")],
    to: Annotated[Path | None, typer.Option(help="Write all of it here, as JSON.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Set runs side by side, on the points to choose by: each figure, and how sure its difference from the first run's is; and choose."""
    from beepgpt.training.runs import read_run, side_by_side

    if len(runs) < 2:
        raise BadCommand("two runs or more are compared: beepgpt compare RUN RUN")
    if to is not None:
        jsonl.check_writable(to)
    found = side_by_side([read_run(folder, name) for folder, name in zip(runs, names_of(runs), strict=True)])
    show_summary(found, json, print_comparison)
    write_report(to, found)
    chosen = runs[found["chosen"]["run"]]
    if (chosen / CARD).is_file():
        say_next("check", "--model", chosen)


def print_comparison(found: dict[str, Any]) -> None:
    """Print a table for each kind of point, with a line for each figure of each run, and what the chosen run is worth."""
    from beepgpt.web.report import KINDS

    titles = {kind: title for kind, title, _ in KINDS}
    others = f"; {found['points_left_out']:,} points that not all of them judged are left out" if found["points_left_out"] else ""
    results.print(
        f"{found['points']:,} points to choose by{others}. Differences are from {found['runs'][0]['name']}; * marks those that are"
        " significant."
    )
    for kind in SHOWN:
        table = Table(box=None, padding=(0, 2, 0, 0), title=titles[kind], title_justify="left", title_style="bold")
        table.add_column("", overflow="fold")
        table.add_column("", overflow="fold")
        table.add_column("", justify="right", no_wrap=True)
        table.add_column("difference", justify="right", no_wrap=True)
        for name, of_runs in found["kinds"][kind].items():
            for place, (run, each) in enumerate(zip(found["runs"], of_runs, strict=True)):
                head = NAMES.get(name, name.replace("_", " ")) if place == 0 else ""
                table.add_row(head, run["name"], short(each["figure"], name), difference_of(each["difference"], name))
        results.print(table)
    chosen = found["chosen"]
    results.print(f"Chosen: {found['runs'][chosen['run']]['name']}, by the least log loss of all points. {worth_of(chosen)}")


def worth_of(chosen: dict[str, Any]) -> str:
    """The sentence of what the chosen run is worth, by the points that judge."""
    if not chosen["points"]:
        return "No point that judges is common to all, so what it is worth isn't known."
    kind = chosen["kinds"]["answered"]
    hits = ", ".join(f"{hit} {share_or_few(kind[hit])}" for hit in ("hit@1", "hit@5"))
    return f"What it is worth, by the {chosen['points']:,} points that judge, of those answered: {hits}."


def difference_of(figure: dict[str, Any] | None, name: str) -> str:
    """A difference from the first run, its interval, and a star if 0 lies outside of it.

    >>> difference_of({"value": 0.012, "low": 0.004, "high": 0.02, "count": 9}, "hit@1")
    '+1.2 (+0.4 to +2.0) *'
    """
    if figure is None or figure["value"] is None:
        return ""
    if figure["low"] is None:
        return "too few to tell"
    scale, digits = (1, 3) if name in UNSCALED else (100, 1)
    value, low, high = (f"{scale * figure[part]:+.{digits}f}" for part in ("value", "low", "high"))
    is_sure = figure["low"] > 0 or figure["high"] < 0
    return f"{value} ({low} to {high}) {'*' if is_sure else ' '}"
