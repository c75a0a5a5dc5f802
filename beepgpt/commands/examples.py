"""`beepgpt examples`: points in time of conversations, and who answered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from beepgpt.commands.flags import duration_of, kinds_of, time_of, with_settings
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.runtime.console import print_report
from beepgpt.runtime.places import check_apart, destination_of
from beepgpt.runtime.running import ExamplesJob, run_job, work_on_part
from beepgpt.runtime.workers import close_command


@with_settings
def examples(
    source: Annotated[str, typer.Argument(help="A Slack export (zip or folder), a .jsonl of events, or kafka://host:port/topic.")],
    to: Annotated[str, typer.Option(help="Where the examples go: a .jsonl path, - for standard output, or kafka://host:port/topic.")],
    settings: Settings,
    report: Annotated[Path | None, typer.Option(help="Write the closing account here, as JSON.")] = None,
    recovery: Annotated[Path | None, typer.Option(help="A folder that remembers the run, so that it goes on after a kill.")] = None,
    until: Annotated[str | None, typer.Option(help="Every channel's clock is at this time at the end (2024-01-31T12:00:00Z).")] = None,
    warmup: Annotated[
        str | None, typer.Option(help="Of a topic with from=: begin so long before it, and not at the beginning (90d).")
    ] = None,
    include: Annotated[
        str, typer.Option(help="Kinds of channels of an export, joined by commas: channels, groups, dms, mpims.")
    ] = "channels",
    part: Annotated[int | None, typer.Option(hidden=True)] = None,
    share: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Make examples: points in time of conversations, and who answered."""
    if report is not None:
        jsonl.check_writable(report)
    to_place = destination_of(to, settings)
    job = ExamplesJob(source, to_place, settings, kinds_of(include), time_of("--until", until), duration_of("--warmup", warmup), recovery)
    check_apart(source, [*to_place.given().values(), *([report] if report is not None else [])])
    if part is not None:
        work_on_part(job, part, share.split(","))
        return
    closing, status = run_job(job, sys.argv[1:])
    close_command(closing, status, report, recovery, print_report)
