"""The work of each step of `beepgpt try`: that of a command of its own, on the same folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from beepgpt.commands.closing import check_whole
from beepgpt.commands.examples import ExamplesJob, run_examples
from beepgpt.commands.output import moment
from beepgpt.commands.try_job import TryJob
from beepgpt.commands.try_next import next_commands
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.events import micros
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import files_of, score_outputs_of
from beepgpt.runtime.names import names_in, pass_names_on, people_of
from beepgpt.runtime.places import origin_of
from beepgpt.runtime.shares import with_workers
from beepgpt.training.folder import CARD, METRICS

INDEX = "index.html"


def make_examples(job: TryJob) -> dict[str, Any]:
    """Make the examples; returns the counts that are shown."""
    closing, status = run_examples(ExamplesJob(str(job.export), files_of(str(job.examples)), job.settings, job.include, names=job.named))
    check_whole(status, f"{job.export}: the examples are not whole: beepgpt examples {job.export} --to {job.examples} says why")
    account = closing["account"]
    events = account["events"]
    return {
        "examples": account["examples"],
        "answered": account["points"]["answered"],
        "applied": events["applied"],
        "ignored": events["ignored"],
        "channels": account["channels"],
    }


def make_training_set(job: TryJob) -> dict[str, Any]:
    """Make the training set; returns the time between its sides, and how many are on each."""
    from beepgpt.commands.prepare import prepared

    wanted = {"format": ("candidates",), "valid_share": 0.2, "judge_share": 0.5, "cut": None}
    settings = job.settings.model_copy(update={"training": job.settings.training.model_copy(update=wanted)})
    made = prepared(str(job.examples), job.training_set, settings, None, None)
    pass_names_on(job.examples, job.training_set)
    return {"cut": made["cut"], **{side: made["account"][side]["examples"] for side in ("train", "valid")}}


def fit_model(job: TryJob) -> dict[str, Any]:
    """Fit the model of this machine; returns what it was fitted on."""
    from beepgpt.training.models import train_here

    with console.status("reading") as status:
        card = train_here(job.training_set, "local", job.model, seed=1, threads=0, status=status.update)
    return dict(card["trained_on"])


def validate_model(job: TryJob) -> dict[str, Any]:
    """Judge the model, and write its figures and its page; returns those that are shown."""
    from beepgpt.commands.validate import validated, write_run

    names = names_in([job.export]) if job.named else {}
    closing, files = validated(job.training_set, job.model, None, [0.5], job.settings, names, home=home_from(job, job.model))
    write_run(job.model, files)
    return {"answered": closing["rows"]["answered"][0]["figures"]["hit@5"]}


def score_points(job: TryJob, cut: str) -> dict[str, Any]:
    """Score what came after `cut`; returns how many points that were, and how many were withheld."""
    from beepgpt.commands.score_run import run_score
    from beepgpt.commands.scoring import ScoreJob

    outputs = score_outputs_of(str(job.predictions), None, job.settings)
    settings = with_workers(job.settings, origin_of(str(job.export), job.include))
    closing, status = run_score(ScoreJob(str(job.export), outputs, job.model, settings, job.include, micros(cut)))
    check_whole(status, f"{job.export}: not all points are scored: beepgpt score {job.export} --model {job.model} says why")
    points = closing["account"]["points"]
    return {name: points[name] for name in ("scored", "withheld")}


def write_outcomes(job: TryJob) -> None:
    """Write the page of what became of the predictions, from the threshold on that the rehearsal recommends."""
    from beepgpt.commands.outcomes import outcomes_of
    from beepgpt.web.report import outcomes_page

    values = outcomes_of(str(job.outcomes), job.model, job.settings)
    jsonl.write_file(job.to / "outcomes.html", outcomes_page(values, INDEX).encode())


def home_from(job: TryJob, folder: Path) -> str:
    """The address of the verdict from a page in a folder."""
    return "../" * len(folder.relative_to(job.to).parts) + INDEX


def seen_in(examples: Path) -> tuple[int | None, list[str]]:
    """How many people posted, or were named, in what examples are of: those whom a model could alert; and its first and its last day."""
    found: set[str] = set()
    times: list[str] = []
    with examples.open("rb") as lines:
        for line in lines:
            example = orjson.loads(line)
            found.update((message["user"] for message in example["window"]), example["candidates"]["user"])
            times.append(example["prompt_ts"])
    return len(found) or None, [moment(at)[:10] for at in (min(times, key=micros), max(times, key=micros))] if times else []


KINDS = {
    "channels": "public channels",
    "groups": "private channels",
    "dms": "direct messages",
    "mpims": "group messages",
    "unlisted": "unlisted folders",
}
"""Kinds of channels, in words."""


def rehearse_alerts(job: TryJob, made: Mapping[str, Any], sides: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, Any]:
    """Replay the scores with alerts, and write the pages of that and of the verdict; returns the verdict."""
    from beepgpt.commands.rehearse import keep, write_page
    from beepgpt.commands.rehearse_run import rehearsal_of, wishes_of
    from beepgpt.web.index_page import index_page
    from beepgpt.web.report import rehearsal_page
    from beepgpt.web.verdict import verdict_of

    names = names_in([job.export]) if job.named else {}
    people = people_of(names)
    values = rehearsal_of(str(job.predictions), str(job.outcomes), job.settings, job.model, wishes_of(), None, job.export, names)
    keep(values["recommended"], job.model, values["models"], stays=not job.pages_only)
    write_outcomes(job)
    count, span = seen_in(job.examples)
    verdict = verdict_of(values, count)
    validated = orjson.loads((job.model / METRICS).read_bytes())
    write_page(job.to / "rehearsal.html", rehearsal_page(values, people, INDEX), values["alerts"])
    card = orjson.loads((job.model / CARD).read_bytes())
    found = {
        "verdict": verdict,
        "export": job.export.name,
        "made": made,
        "kinds": " and ".join(KINDS[each] for each in job.include),
        "span": span,
        "examples": {"fit": sides["train"], "choose": validated["chosen_on"], "judge": validated["points"]},
        "card": card,
        "withheld": scores.get("withheld", 0),
        "rehearsal": values,
        "report": str((job.model / "report.html").relative_to(job.to)),
        "next": next_commands(job, verdict),
    }
    jsonl.write_file(job.to / INDEX, index_page(found, people).encode())
    return {"verdict": verdict, "alerts": values["figures"]["alerts"]}
