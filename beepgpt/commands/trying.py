"""The steps from an export to a verdict, in their order, with a line about each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beepgpt.commands.output import by_reason, moment
from beepgpt.commands.try_job import TryJob
from beepgpt.commands.try_next import next_commands
from beepgpt.commands.try_steps import (
    INDEX,
    fit_model,
    make_examples,
    make_training_set,
    rehearse_alerts,
    score_points,
    validate_model,
)
from beepgpt.errors import TooLittle
from beepgpt.figures import share
from beepgpt.runtime.steps import Steps, contents_of
from beepgpt.training.folder import CARD, MANIFEST, METRICS
from beepgpt.training.parts import LEAST_ANSWERED

ENOUGH_ANSWERED = 1_000
"""Answered points from which on a verdict can be expected."""


def tried(job: TryJob) -> dict[str, Any]:
    """Do what is not up to date, from the export to the pages; returns the verdict, and what to do next. Raises RunStopped, TooLittle."""
    steps = Steps(job.to, 6)
    settings = job.settings.model_dump(mode="json", include={"conversations", "training", "scoring"})
    alerts = job.settings.alerts.model_dump(mode="json")
    forgotten = job.settings.run.forgotten
    base = [contents_of(job.export), job.include, job.settings.rules.spec, settings, contents_of(forgotten) if forgotten.exists() else None]
    made = steps.run("examples", base, [job.examples], lambda: make_examples(job), _says_examples)
    check_enough(job, made)
    card = job.model / CARD
    sides = steps.run("training set", None, [job.training_set / MANIFEST], lambda: make_training_set(job), _says_sides)
    steps.run("model", None, [card], lambda: fit_model(job), lambda value: f"fitted on {value['examples']:,} of them")
    pages = [job.model / METRICS, job.model / "report.html"]
    steps.run("validation", job.named, pages, lambda: validate_model(job), _says_hits)
    scored = [job.predictions, job.outcomes]
    scores = steps.run("scores", alerts["max_alert_age"], scored, lambda: score_points(job, sides["cut"]), _says_scored)
    pages = [job.to / name for name in ("outcomes.html", "rehearsal.html", "rehearsal.alerts.jsonl", INDEX)]
    found = steps.run(
        "rehearsal", [job.named, job.pages_only, alerts], pages, lambda: rehearse_alerts(job, made, sides, scores), _says_rehearsal
    )
    return {**found, "next": next_commands(job, found["verdict"])}


def check_enough(job: TryJob, made: Mapping[str, Any]) -> None:
    """Raise TooLittle if nothing can be learned from these examples."""
    if made["answered"] >= LEAST_ANSWERED:
        return
    left_out = f" Left out: {by_reason(made['ignored'])}." if made["ignored"] else ""
    more = "" if "groups" in job.include else ", or --include channels,groups for the private channels that are in it"
    raise TooLittle(
        f"{job.export}: {made['answered']:,} messages were answered by somebody else, of {made['applied']:,} that people posted in"
        f" {made['channels']:,} channels; at least {LEAST_ANSWERED:,} are needed to learn from, and about {ENOUGH_ANSWERED:,} for a"
        f" verdict.{left_out} What helps: an export of a longer time{more}"
    )


def _says_examples(value: Mapping[str, Any]) -> str:
    return f"{value['examples']:,}, of {value['applied']:,} messages and changes in {value['channels']:,} channels"


def _says_sides(value: Mapping[str, Any]) -> str:
    return f"{value['train']:,} to learn from, and {value['valid']:,} from {moment(value['cut'])[:10]} on to choose and judge by"


def _says_hits(value: Mapping[str, Any]) -> str:
    hits = value["answered"]
    of = f"{share(hits)} of the {hits['count']:,} answers that judge were by one of its first five"
    return f"{of}, people who already talked there included"


def _says_scored(value: Mapping[str, Any]) -> str:
    return f"{value['scored']:,} later points, as they were made"


def _says_rehearsal(value: Mapping[str, Any]) -> str:
    return f"{value['alerts']:,} alerts in the part of time that judges"
