"""`beepgpt score`: who will answer each point as it is made, and who did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.closing import close_command
from beepgpt.commands.flags import Include, Json, Recovery, Report, duration_of, with_settings
from beepgpt.commands.output import account_table, add_counts, add_reasons, by_reason, print_verdict
from beepgpt.commands.score_run import run_score
from beepgpt.commands.scoring import ScoreJob
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.log import TopicAddress, parse_address
from beepgpt.errors import BadCommand
from beepgpt.figures import percent, share_or_few
from beepgpt.library.arguments import kinds_in, moment_of
from beepgpt.packages import needing
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import beside_of, score_outputs_of
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.names import NAMES, keep_names, pass_names_on
from beepgpt.runtime.pacing import pace_of
from beepgpt.runtime.places import check_apart, is_topic, origin_of


@with_settings
def score(
    source: Annotated[str, typer.Argument(help="An export, a .jsonl of events, or a topic (kafka://…, sqlite://…).")],
    model: Annotated[Path, typer.Option(help="The model's folder, and newer ones there.")],
    to: Annotated[str, typer.Option(help="A .jsonl, a .parquet, a topic, or -.")],
    settings: Settings,
    outcomes: Annotated[
        str | None,
        typer.Option(
            help="Outcomes: as --to; without it, beside a file of predictions.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="<time>", help="Score points from this time on (2024-01-31).", show_default=False),
    ] = None,
    until: Annotated[str | None, typer.Option(help="End as if it had been this time.", show_default=False)] = None,
    pace: Annotated[
        str | None,
        typer.Option(
            help="Of history: so much faster than real time (60x), as if live.",
            show_default=False,
        ),
    ] = None,
    deadline: Annotated[str | None, typer.Option(help="Slower predictions are dropped (500ms).", show_default=False)] = None,
    candidates_too: Annotated[bool | None, typer.Option("--with-candidates", help="Predictions carry the features, too.")] = None,
    report: Report = None,
    recovery: Recovery = None,
    include: Include = "channels",
    json: Json = False,
) -> None:
    """Score points as they are made: who will answer, how likely, and who did."""
    if json and to == "-":
        raise BadCommand("--json: the predictions go to standard output already: name a file as --to, or leave it out")
    if candidates_too is not None:
        settings = settings.model_copy(update={"scoring": settings.scoring.model_copy(update={"candidates": candidates_too})})
    outputs = score_outputs_of(to, outcomes, settings).with_parts(goes_on=recovery is not None or (settings.run.workers or 1) > 1)
    job = ScoreJob(
        source, outputs, model, settings, kinds_in("--include", include), moment_of("--since", since), moment_of("--until", until),
        duration_of("--deadline", deadline), recovery, pace_of(pace),
    )  # fmt: skip
    if report is not None:
        jsonl.check_writable(report)
        check_apart(source, [*job.to.files().values(), report])
    with needing("beepgpt score", "train"):
        import beepgpt.training.models  # noqa: F401
    closing, status = run_score(job)
    if isinstance(outputs.predictions, Path):
        keep_names_of(job)
    scored = closing["account"]["points"]["scored"]
    close_command(closing, status, report, recovery, print_scores, as_json=json, next_command=next_of(job) if scored else ())


def keep_names_of(job: ScoreJob) -> None:
    """Remember the names of an export beside its predictions; of a file of events, those that are beside it."""
    path = job.to.predictions
    if is_topic(job.source) or not isinstance(path, Path) or beside_of(path, NAMES) is None:
        return
    if origin_of(job.source, job.include).export is not None:
        keep_names(Path(job.source), path, forgotten_of(job.settings), job.include)
    else:
        pass_names_on(Path(job.source), path)


def next_of(job: ScoreJob) -> tuple[object, ...]:
    """The command to run after this one."""
    match job.to.predictions:
        case None:
            return ()
        case Path() as path:
            members = ("--members", job.source) if not is_topic(job.source) and not job.source.endswith(".jsonl") else ()
            return ("rehearse", path, "--model", job.model, *members, "--to", path.with_name("rehearsal.html"))
        case address:
            return ("alert", f"{address}?follow=true", "--model", job.model, *beside_predictions(job, address))


def beside_predictions(job: ScoreJob, address: TopicAddress) -> Iterator[str]:
    """The other sources of `beepgpt alert`, as flags: who opted in, what was deleted and who answered, and what became of predictions."""
    yield from ("--interactions", f"{address.place}/{job.settings.slack.interactions_topic}?follow=true")
    if is_topic(job.source):
        yield from ("--deletions", f"{parse_address(job.source)}?follow=true")
    if "outcomes" in (topics := job.to.topics()):
        yield from ("--outcomes", f"{topics['outcomes']}?follow=true")


MEANING = {
    "missed": "their predictions would have come after the deadline",
    "before_start": "older than what was to be scored",
    "together": "stand in two conversations, and were scored once",
    "withheld": "their window holds text that was not known yet",
    "empty": "nothing to show in a prompt",
    "waiting": "wait until the run goes on",
}


def scorers(closing: Mapping[str, Any]) -> str:
    """The models that scored, each with its count if there are several; the model of now if nothing was scored."""
    found = closing["account"]["points"]["scored_by"]
    if len(found) < 2:
        return f"model {next(iter(found), closing['model'])}"
    return "models " + ", ".join(f"{model} ({times:,})" for model, times in found.items())


def none_scored(points: Mapping[str, int], source: str) -> str:
    """Why nothing was scored, and what would be."""
    if points["before_start"] and "follow=true" in source:
        return (
            f"Nothing was scored: {points['before_start']:,} of {points['made']:,} points are older than this run, and nothing came"
            " meanwhile that could be."
        )
    if points["before_start"]:
        return (
            f"Nothing was scored: {points['before_start']:,} of {points['made']:,} points are older than what was to be scored. Those of"
            " another workspace, or of a time that the model knows, are scored with --since 1970-01-01T00:00:00Z."
        )
    return "Nothing was scored: SOURCE gave no point that could be. The rows above say what became of its events."


def print_scores(closing: Mapping[str, Any]) -> None:
    """Print the closing account as a table."""
    account = closing["account"]
    table = account_table()
    events, points, outcomes = account["events"], account["points"], account["outcomes"]
    table.add_row("events read", f"{events['read']:,}", "")
    table.add_row("  applied", f"{events['applied']:,}", "")
    for name in ("ignored", "rejected"):
        add_reasons(table, name, events[name])
    add_counts(table, events, dict.fromkeys(("duplicate", "late", "held"), ""))
    table.add_row("points made", f"{points['made']:,}", "")
    table.add_row("  scored", f"{points['scored']:,}", f"to {closing['to']}, by {scorers(closing)}")
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
            names = {
                "hit@1": "hit@1",
                "hit@5": "hit@5",
                "precision": f"right of those named from {percent(each.get('threshold', closing['threshold']), 1)} on",
            }
            known = {shown: figure for name, shown in names.items() if (figure := each.get("intervals", {}).get(name, {})).get("count")}
            of = {shown: "" if figure["low"] is None else f" of {figure['count']:,}" for shown, figure in known.items()}
            shares = ", ".join(f"{shown} {share_or_few(figure)}{of[shown]}" for shown, figure in known.items())
            if not shares:
                table.add_row("at the end", "", f"no known answer judges model {model} yet")
                continue
            table.add_row("at the end", "", f"{shares}; the newest that judge model {model}, of at most 1,000 known answers")
            table.add_row("", "", f"of all that judge it: beepgpt outcomes {closing['outcomes_to'] or 'OUTCOMES'}")
    console.print(table)
    if not points["scored"]:
        console.print(none_scored(points, closing["source"]), highlight=False)
    print_verdict(
        not closing["does_not_add_up"],
        f"; {account['channels']:,} channels, {closing['seconds']:,.1f} s, {closing['points_per_second']:,.0f} points/s,"
        f" {closing['peak_memory_mb']:,.0f} MB at most",
    )
