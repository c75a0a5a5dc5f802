"""A run of `beepgpt score`: the scoring flow with a model, from SOURCE to DEST."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from beepgpt.clock import now_us
from beepgpt.commands.provider import open_model
from beepgpt.config.settings import Settings
from beepgpt.connectors.files.parquet import ParquetSink
from beepgpt.connectors.slack import export as slack_export
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.outcomes import RollingMetrics
from beepgpt.dataflows import scoring as dataflow
from beepgpt.dataflows.following import Following
from beepgpt.dataflows.score_points import ScoringRun
from beepgpt.dataflows.scored_records import SCORED_LINES, SCORED_MESSAGES
from beepgpt.runtime.console import console, print_event
from beepgpt.runtime.destinations import ScoreOutputs
from beepgpt.runtime.flow_metrics import ScoreFigures, Scores
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.pacing import PacedSource
from beepgpt.runtime.places import Origin, source_of
from beepgpt.runtime.running import FlowRun, note_of_rules
from beepgpt.runtime.workers import PreparedFlow, Worker
from beepgpt.training.live import LiveThresholds, SayPair
from beepgpt.training.reloading import WatchedModel

log = logging.getLogger("beepgpt")


@dataclass(frozen=True)
class ScoreJob:
    """The arguments of a `score` command."""

    source: str
    to: ScoreOutputs
    model: Path
    settings: Settings
    include: tuple[slack_export.ChannelKind, ...] = ("channels",)
    since: int | None = None
    until: int | None = None
    deadline: int | None = None
    """Microseconds, where the command names it: then it holds for history, too."""
    recovery: Path | None = None
    pace: float | None = None
    """How much faster than real time event time passes; None: as fast as it goes."""

    def opened(self) -> WatchedModel:
        """Open the model. Raises BadCommand."""
        provider = self.settings.provider.model_copy(update={"concurrency": self.settings.scoring.concurrency})
        settings = self.settings.model_copy(update={"provider": provider})
        return WatchedModel(self.model, settings.rules, partial(open_model, settings=settings))

    def run_of(self, origin: Origin) -> FlowRun:
        """The FlowRun of this command."""
        note = {
            **note_of_rules(self.settings),
            "command": "score",
            "to": str(self.to),
            "outcomes": None if self.to.outcomes is None else str(self.to.outcomes),
            "include": list(self.include),
            "since": self.since,
            "until": self.until,
        }
        return FlowRun(
            "score",
            origin,
            self.to,
            self.settings,
            dataflow.NAME,
            dataflow.STATEFUL,
            note,
            self.recovery,
            self.settings.run.workers or 1,  # unasked one: a run's closing figures are each worker's own
        )


def build(job: ScoreJob, origin: Origin, model: WatchedModel, worker: Worker) -> PreparedFlow:
    """A worker's flow. Examples are another flow's to write."""
    settings, rules = job.settings, job.settings.rules
    following = Following(
        rules,
        load_encoding(rules.encoding),
        worker.started_at,
        since=FOREVER,
        until=job.until if origin.until is None else origin.until,
        shards=worker.shard_names,
        recoverable=worker.recovery is not None,
        forgotten=forgotten_of(settings),
        points_since=starts_at(job, origin, worker.started_at, model.fitted_until),
        is_stopping=worker.is_stopping,
        shards_here=worker.shards,
    )
    scoring = scoring_of(job, origin, model, worker)
    sinks = job.to.sinks(worker.number, worker.workers, fresh=worker.is_fresh, on_closed=worker.lose_reader, listener=worker)
    formats = {**SCORED_LINES, **{name: SCORED_MESSAGES[name] for name in job.to.topics()}}
    flow = dataflow.scoring_flow(_source(job, origin, worker, following.until), following, scoring, sinks, worker.accounts.append, formats)

    def pair() -> tuple[str, float]:
        return (name := model.name), scoring.threshold_for(name)

    figures = ScoreFigures(
        **worker.figures(origin.topic, rules.spec),
        in_use=lambda: {"model": model.name, "threshold": f"{scoring.threshold_for(model.name):g}"},
        scores=lambda: Scores(**scoring.figures(model.name)),
    )
    return PreparedFlow(
        flow,
        figures,
        [
            model.watched(settings.scoring.watch / 1e6),
            SayPair(job.model, "its figures", pair, print_event).watched(),
            *(each for each in sinks.values() if isinstance(each, ParquetSink)),
        ],
        {"model": model.name},
        lambda: {"figures": closing_figures(scoring)},
    )


def closing_figures(scoring: ScoringRun) -> dict[str, dict[str, Any]]:
    """Each model's recent figures, by the threshold that it has now."""
    return {name: figures_lately(scoring.followed(name, each)) for step in scoring.steps_here for name, each in step.lately.items()}


def figures_lately(lately: RollingMetrics) -> dict[str, Any]:
    """Counts of all outcomes, figures of the last ones by the `threshold` of their model, and in `intervals` each share's interval."""
    import numpy as np

    from beepgpt.training.intervals import share_of

    found: dict[str, Any] = {**lately.counts, **lately.figures(), "threshold": lately.threshold, "intervals": {}}
    for name, rows in lately.shares().items():
        right, of = (np.array([each[place] for each in rows], np.float64) for place in (0, 1))
        found["intervals"][name] = share_of(right, of, [each.conversation for each in rows]).as_json()
    return found


def _source(job: ScoreJob, origin: Origin, worker: Worker, until: int | None) -> Any:
    settings = job.settings
    if job.pace is None:
        group = settings.kafka.group and f"{settings.kafka.group}-score" if worker.recovery is not None else None
        return source_of(origin, settings, worker, shards=worker.shard_names, group=group, idle_clock=settings.run.idle_clock == "wall")
    source = PacedSource(
        origin, settings.rules, job.pace, forgotten=forgotten_of(settings), since=job.since or 0, until=until,
        stopping=worker.is_stopping, on_end=worker.end, progress=worker.read,
    )  # fmt: skip
    console.print(source.summary())
    return source


def scoring_of(job: ScoreJob, origin: Origin, model: WatchedModel, worker: Worker) -> ScoringRun:
    """The ScoringRun of a worker."""
    ours = job.settings.scoring
    return ScoringRun(
        model,
        model.caller(ours.batch, ours.concurrency),
        job.settings.rules,
        live_since=now_us() if origin.is_followed and ours.clock == "wall" else None,
        deadline=(ours.deadline if job.deadline is None else job.deadline) / 1e6,
        bounded_deadline=job.deadline is not None or origin.is_followed or job.pace is not None,
        max_alert_age=job.settings.alerts.max_alert_age,
        most=ours.people,
        threshold_for=LiveThresholds(job.model, ours.threshold),
        kept=job.to.kept(),
        with_candidates=ours.candidates,
        is_stopping=worker.is_stopping,
    )


def starts_at(job: ScoreJob, origin: Origin, started_at: int, fitted_until: int | None) -> int:
    """The time from which on points are scored: as the command says; else of a followed topic since the start, of history what the model
    was not fitted on."""
    given = job.since if origin.since is None else origin.since
    if given is not None:
        return given
    if origin.is_followed:
        return started_at if job.settings.scoring.clock == "wall" else 0
    return fitted_until or 0
