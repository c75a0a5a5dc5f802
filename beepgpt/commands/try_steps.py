"""The work of each step of `beepgpt try`: that of a command of its own, on the same folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Any

import orjson

from beepgpt.commands.examples import ExamplesJob, run_examples
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.slack import export as slack_export
from beepgpt.conversations.events import micros
from beepgpt.errors import RunStopped
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import files_of, score_outputs_of
from beepgpt.runtime.names import names_in, pass_names_on, people_of
from beepgpt.training.folder import CARD, MODELS

INDEX = "index.html"
MOST_ASKED = 0.8
"""The share of those alerted who should join, beyond which a next command asks for no more."""


@dataclass(frozen=True)
class TryJob:
    """The arguments of a `try` command."""

    export: Path
    to: Path
    settings: Settings
    include: tuple[slack_export.ChannelKind, ...] = ("channels",)
    named: bool = True
    """Whether pages show names in the place of ids."""

    @property
    def examples(self) -> Path:
        """Where the examples go."""
        return self.to / "examples.jsonl"

    @property
    def training_set(self) -> Path:
        """The folder of the training set."""
        return self.to / "set"

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.training_set / MODELS / "local"

    @property
    def predictions(self) -> Path:
        """Where the predictions go; their outcomes stand beside."""
        return self.to / "predictions.jsonl"

    @property
    def outcomes(self) -> Path:
        """Where the outcomes go."""
        return self.predictions.with_name("predictions.outcomes.jsonl")


def make_examples(job: TryJob) -> dict[str, Any]:
    """Make the examples; returns the counts that are shown."""
    closing, status = run_examples(ExamplesJob(str(job.export), files_of(str(job.examples)), job.settings, job.include, names=job.named))
    account = closing["account"]
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise RunStopped(f"{job.export}: the examples are not whole: beepgpt examples {job.export} --to {job.examples} says why")
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
    closing, files = validated(job.training_set, job.model, None, 0.5, job.settings, names, home=home_from(job, job.model))
    write_run(job.model, files)
    return {"answered": closing["rows"]["answered"][0]["figures"]["hit@5"]}


def score_points(job: TryJob, cut: str) -> dict[str, Any]:
    """Score what came after `cut`; returns how many points that were."""
    from beepgpt.commands.score_run import run_score
    from beepgpt.commands.scoring import ScoreJob

    outputs = score_outputs_of(str(job.predictions), None, job.settings)
    closing, _ = run_score(ScoreJob(str(job.export), outputs, job.model, job.settings, job.include, micros(cut)))
    return {"scored": closing["account"]["points"]["scored"]}


def write_outcomes(job: TryJob) -> None:
    """Write the page of what became of the predictions, from the threshold on that the rehearsal recommends."""
    from beepgpt.commands.outcomes import outcomes_of
    from beepgpt.web.report import outcomes_page

    values = outcomes_of(str(job.outcomes), job.model, job.settings)
    jsonl.write_file(job.to / "outcomes.html", outcomes_page(values, INDEX).encode())


def home_from(job: TryJob, folder: Path) -> str:
    """The address of the verdict from a page in a folder."""
    return "../" * len(folder.relative_to(job.to).parts) + INDEX


def people_seen(examples: Path) -> int | None:
    """How many people posted, or were named, in what examples are of: those whom a model could alert."""
    found: set[str] = set()
    with examples.open("rb") as lines:
        for line in lines:
            example = orjson.loads(line)
            found.update((message["user"] for message in example["window"]), example["candidates"]["user"])
    return len(found) or None


def rehearse_alerts(job: TryJob, made: Mapping[str, Any], sides: Mapping[str, Any]) -> dict[str, Any]:
    """Replay the scores with alerts, and write the pages of that and of the verdict; returns the verdict."""
    from beepgpt.commands.rehearse import keep
    from beepgpt.commands.rehearse_run import rehearsal_of, wishes_of
    from beepgpt.web.index_page import index_page, verdict_of
    from beepgpt.web.report import rehearsal_page

    names = names_in([job.export]) if job.named else {}
    people = people_of(names)
    values = rehearsal_of(str(job.predictions), str(job.outcomes), job.settings, job.model, wishes_of(), None, job.export, names)
    keep(values["recommended"], job.model, values["models"])
    write_outcomes(job)
    verdict = verdict_of(values, people_seen(job.examples))
    jsonl.write_file(job.to / "rehearsal.html", rehearsal_page(values, people, INDEX).encode())
    card = orjson.loads((job.model / CARD).read_bytes())
    found = {
        "verdict": verdict,
        "export": job.export.name,
        "made": made,
        "sides": sides,
        "card": card,
        "rehearsal": values,
        "report": str((job.model / "report.html").relative_to(job.to)),
        "next": next_commands(job, verdict),
    }
    jsonl.write_file(job.to / INDEX, index_page(found, people).encode())
    return {"verdict": verdict, "alerts": values["figures"]["alerts"]}


def next_commands(job: TryJob, verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What to do next: a sentence, and the command."""
    words, wish, page = ("Fewer alerts to each person", ["--per-week", 1], "rehearsal-1-a-week.html")
    # More can be asked for only where the usual share of those alerted joins, and where it isn't had already.
    more = math.floor(10 * (verdict["joined"]["value"] or 0.0) + 1.5) / 10
    if not verdict["chosen"] and 0.5 < more <= MOST_ASKED:
        words, wish, page = ("Fewer alerts, which more people join", ["--precision", more], f"rehearsal-{round(100 * more)}.html")
    kinds = [] if job.include == ("channels",) else ["--include", ",".join(job.include)]
    names = [] if job.named else ["--no-names"]
    commands: list[tuple[str, list[object]]] = [
        (
            words,
            ["rehearse", job.predictions, "--model", job.model, "--members", job.export, *wish, "--to", job.to / page, *names],
        ),
        ("Say by hand which examples teach something", ["review", job.examples, *names]),
        ("Check that no example knows the future", ["audit", job.export, job.examples, *kinds]),
        ("Go live", ["init"]),
    ]
    return [(words, join(map(str, ("beepgpt", *command)))) for words, command in commands]
