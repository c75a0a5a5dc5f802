"""`beepgpt score`: who will answer each point as it is made, and who did."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.closing import close_command
from beepgpt.commands.flags import Include, duration_of, kinds_of, time_of, with_settings
from beepgpt.commands.output import account_table, add_counts, add_reasons, by_reason, print_verdict
from beepgpt.commands.score_run import run_score, run_score_worker
from beepgpt.commands.scoring import ScoreJob
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import score_outputs_of
from beepgpt.runtime.pacing import pace_of
from beepgpt.runtime.places import check_apart

EXTRA = "training"
PANEL = "Scoring"


@with_settings
def score(
    source: Annotated[str, typer.Argument(help="A Slack export (zip or folder), a .jsonl of events, or kafka://host:port/topic.")],
    model: Annotated[Path, typer.Option(help="The model's folder; a new model that is put there is loaded without a restart.")],
    to: Annotated[str, typer.Option(help="Where the predictions go: a .jsonl path, - for standard output, or kafka://host:port/topic.")],
    settings: Settings,
    outcomes: Annotated[
        str | None,
        typer.Option(
            help="Where their outcomes go: a .jsonl path or kafka://host:port/topic; beside a file of predictions, if not given.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Score points from this time on (2024-01-31T12:00:00Z); of a topic, from= does the same.", show_default=False),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Every channel's clock is at this time at the end.", show_default=False)] = None,
    pace: Annotated[
        str | None,
        typer.Option(
            help="Of a file or an export: let event time pass so much faster than real time (60x), from --since on, as if it came live.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="The probability from which on people would be alerted, for the figures.", rich_help_panel=PANEL, show_default=False
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            help="A prediction that takes longer is dropped and counted (500ms). Given here, it holds for history, too.",
            rich_help_panel=PANEL,
            show_default=False,
        ),
    ] = None,
    candidates_too: Annotated[
        bool | None, typer.Option("--with-candidates", help="Predictions carry the candidates' features.", rich_help_panel=PANEL)
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the closing account here, as JSON.")] = None,
    recovery: Annotated[Path | None, typer.Option(help="A folder for snapshots of the run, so that it goes on after a kill.")] = None,
    include: Include = "channels",
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
    shards: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Score points as they are made: who will answer, how likely, and who did."""
    if threshold is not None and not 0 < threshold < 1:
        raise BadCommand(f"--threshold {threshold:g}: a probability between 0 and 1 is expected")
    given = {name: value for name, value in (("threshold", threshold), ("candidates", candidates_too)) if value is not None}
    settings = settings.model_copy(update={"scoring": settings.scoring.model_copy(update=given)})
    outputs = score_outputs_of(to, outcomes, settings)
    job = ScoreJob(
        source, outputs, model, settings, kinds_of(include), time_of("--since", since), time_of("--until", until),
        duration_of("--deadline", deadline), recovery, pace_of(pace),
    )  # fmt: skip
    if report is not None:
        jsonl.check_writable(report)
        check_apart(source, [*job.to.files().values(), report])
    try:
        import beepgpt.training.models  # noqa: F401
    except ModuleNotFoundError as error:
        raise BadCommand(f"this needs {error.name}: pip install 'beepgpt[{EXTRA}]'") from error
    if worker is not None:
        run_score_worker(job, worker, shards.split(","))
        return
    closing, status = run_score(job, sys.argv[1:])
    close_command(closing, status, report, recovery, print_scores)


MEANING = {
    "missed": "their predictions would have come after the deadline",
    "before_start": "older than what was to be scored",
    "together": "stand in two conversations, and were scored once",
    "withheld": "their window holds text that was not known yet",
    "empty": "nothing to show in a prompt",
    "waiting": "wait until the run goes on",
}


def print_scores(closing: Mapping[str, Any]) -> None:
    """Print the closing account as a table."""
    from beepgpt.web.pages import with_interval

    account = closing["account"]
    table = account_table()
    events, points, outcomes = account["events"], account["points"], account["outcomes"]
    table.add_row("events read", f"{events['read']:,}", "")
    table.add_row("  applied", f"{events['applied']:,}", "")
    for name in ("ignored", "rejected"):
        add_reasons(table, name, events[name])
    add_counts(table, events, dict.fromkeys(("duplicate", "late", "held"), ""))
    table.add_row("points made", f"{points['made']:,}", "")
    table.add_row("  scored", f"{points['scored']:,}", f"to {closing['to']}, by model {closing['model']}")
    add_reasons(table, "failed", points["failed"])
    for name, meaning in MEANING.items():
        if points[name]:
            table.add_row(f"  {name}", f"{points[name]:,}", meaning)
    settled = {how: times for how, times in outcomes.items() if how != "unsettled" and times}
    where = "not written (--outcomes)" if closing["outcomes_to"] is None else f"to {closing['outcomes_to']}"
    table.add_row("outcomes", f"{sum(settled.values()):,}", "; ".join(part for part in (by_reason(settled), where) if part))
    if outcomes["unsettled"]:
        table.add_row("  unsettled", f"{outcomes['unsettled']:,}", "nobody knows yet")
    for figures in closing["lately"]:
        for model, each in figures.items():
            names = {"hit@1": "hit@1", "hit@5": "hit@5", "precision": f"right of those named from {closing['threshold']:.3f} on"}
            told = {said: figure for name, said in names.items() if (figure := each.get("intervals", {}).get(name, {})).get("count")}
            shares = ", ".join(f"{said} {with_interval(figure, 'hit@')} of {figure['count']:,}" for said, figure in told.items())
            table.add_row("at the end", "", f"{shares}; the newest that judge model {model}, of at most 1,000 known answers")
            table.add_row("", "", "of all that judge it: beepgpt outcomes")
    console.print(table)
    print_verdict(
        not closing["does_not_add_up"],
        f"; {account['channels']:,} channels, {closing['seconds']:,.1f} s, {closing['points_per_second']:,.0f} points/s,"
        f" {closing['peak_memory_mb']:,.0f} MB at most",
    )
