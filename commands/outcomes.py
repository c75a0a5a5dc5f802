"""`beepgpt outcomes`: what became of predictions, as a table and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from commands.common import BadCommand, connection_of, is_kafka, with_settings
from commands.places import topic_of
from commands.scoring import figures_in, hits_in, threshold_of
from config.settings import Settings
from connectors import jsonl, kafka
from connectors.console import console

EXTRA = "training"
NEEDED = ("id", "conversation", "prompt_ts", "how", "answer", "rank", "model", "people", "speakers")


@with_settings
def outcomes(
    source: Annotated[str, typer.Argument(help="Outcomes: a .jsonl, or kafka://host:port/slack.outcomes.")],
    settings: Settings,
    model: Annotated[
        Path | None, typer.Option(help="The model's folder: what its validation promised is told beside.", show_default=False)
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="The chance from which on somebody would have been told.", show_default=False)
    ] = None,
    to: Annotated[Path | None, typer.Option(help="A page of it, .html, that needs nothing else.", show_default=False)] = None,
    report: Annotated[Path | None, typer.Option(help="The same as JSON.", show_default=False)] = None,
) -> None:
    """Say how well predictions did, by model: hits, precision of alerts, calibration, and how that changed from week to week."""
    if threshold is not None and not 0.02 <= threshold < 1:
        raise BadCommand(f"--threshold {threshold:g}: a chance of at least 0.02 is expected: less likely people are not told in outcomes")
    try:
        from training.live import figures_by_model
    except ModuleNotFoundError as error:
        raise BadCommand(f"this needs {error.name}: pip install 'beepgpt[{EXTRA}]'") from error
    for path in (to, report):
        if path is not None:
            jsonl.check_writable(path)
    at = threshold if threshold is not None else threshold_of(settings, model or Path())
    told = figures_by_model(outcomes_in(source, settings), at)
    if not told:
        raise BadCommand(f"{source}: no outcome stands there yet: a point's is known when somebody answered, or its horizon has passed")
    promised = hits_in(figures_in(model)) if model is not None else {}
    for each in told:
        print_outcomes(each, promised)
    closing = {"source": source, "promised": promised, "models": told}
    if report is not None:
        jsonl.write_file(report, orjson.dumps(closing, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if to is not None:
        from training.live_page import page_of

        jsonl.write_file(to, page_of(closing).encode())
        console.print(f"For reading: {to}")


def outcomes_in(source: str, settings: Settings) -> Iterator[dict[str, Any]]:
    """The outcomes that stand in a file or on a topic. Raises BadCommand for what is none."""
    for place, line in lines_in(source, settings):
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadCommand(f"{place}: is no JSON: name what `beepgpt score --outcomes` wrote") from error
        if not isinstance(body, dict) or (missing := [name for name in NEEDED if name not in body]):
            raise BadCommand(f"{place}: is no outcome ({missing[0] if isinstance(body, dict) else 'no object'} is missing)")
        yield body


def lines_in(source: str, settings: Settings) -> Iterator[tuple[str, bytes]]:
    """The lines of a file, or the values of a topic, each with its place."""
    if is_kafka(source):
        address = topic_of(source, "SOURCE")
        for partition, record in kafka.records_of(connection_of(settings, address.bootstrap), address.topic):
            if record.value is not None:
                yield f"{address.topic}/{partition}:{record.offset}", record.value
        return
    path = Path(source)
    jsonl.check_readable(path)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{path}:{number}", line


def print_outcomes(told: Mapping[str, Any], promised: Mapping[str, Mapping[str, float]]) -> None:
    """One model's figures."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row(f"model {told['model']}", "", f"points from {told['from']} to {told['until']} UTC")
    counts = told["outcomes"]
    table.add_row("outcomes", f"{sum(counts.values()):,}", ", ".join(f"{how} {times:,}" for how, times in counts.items()))
    for kind, name in (("answered", "answered"), ("first_replies", "first replies")):
        for what, figure in told[kind].items():
            beside = f"; validation: {share(promised[what])}" if kind == "answered" and what in promised else ""
            table.add_row(f"  {what}, {name}", f"{figure['value']:.1%}", f"{share(figure)} of {figure['count']:,}{beside}")
    alerts = told["alerts"]
    if alerts["given"]:
        right = (
            f"{alerts['right']:,} of {alerts['given']:,} people from {alerts['threshold']:.2f} on; {alerts['promised']:.1%} was promised"
        )
        table.add_row("  alerts right", f"{alerts['precision']['value']:.1%}", right)
    for row in told["calibration"]:
        table.add_row(f"  said {row['said']:.0%}", f"{row['came']:.0%}", f"came true, of {row['count']:,} chances")
    console.print(table)


def share(figure: Mapping[str, float]) -> str:
    """A share and its interval, in per cent.

    >>> share({"value": 0.3214, "low": 0.3, "high": 0.34})
    '32.1 (30.0–34.0)'
    """
    return f"{figure['value'] * 100:.1f} ({figure['low'] * 100:.1f}–{figure['high'] * 100:.1f})"
