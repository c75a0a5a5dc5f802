"""Slack events to predictions, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink

from beepgpt.conversations.account import Account
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.shard import STATE_VERSION
from beepgpt.dataflows.asking import GatedSource
from beepgpt.dataflows.following import Following, follow
from beepgpt.dataflows.records import CallbackSink, Formats, accounts_in, write_outputs
from beepgpt.dataflows.score_points import VERSION, ScorePoints, ScoringRun, gather_points
from beepgpt.dataflows.scored_records import SCORED_LINES, SCORED_MESSAGES, alerts_in

NAME = f"scoring_v{STATE_VERSION}_{VERSION}"
"""With the versions of the shards' and of the scoring's state: Bytewax's own runner starts over where a store has others."""
STATEFUL = ("read_records", "follow_channels", "score_points", "write_predictions", "write_deletions", "write_outcomes")
"""Ids of the steps with state in a recovery store; a step that is renamed would lose its state unnoticed."""


def scoring_flow(
    source: Any,
    following: Following,
    scoring: ScoringRun,
    sinks: Mapping[str, Sink[Any]],
    on_account: Callable[[Account], None],
    formats: Formats = SCORED_LINES,
) -> Dataflow:
    """The flow. `sinks`: of `predictions`, `deletions`, `outcomes` and `alerts`, those that are wanted.

    `on_account` gets the account of each shard and that of the scoring.
    """
    flow = Dataflow(NAME)
    chunks = op.input("read_records", flow, GatedSource(source, scoring.gate, scoring.is_stopping))
    followed = follow(chunks, following)
    points = op.flat_map_batch("gather_points", followed, gather_points)
    scored = op.stateful_batch("score_points", points, partial(ScorePoints, scoring))
    write_outputs(scored, ("predictions", "deletions", "outcomes"), sinks, formats)
    if "alerts" in sinks:
        alerts = op.flat_map("take_alerts", scored, lambda keyed: alerts_in(keyed[1]))
        op.output("send_alerts", alerts, sinks["alerts"])
    closed = op.merge("merge_accounts", followed, scored)
    accounts = op.flat_map("take_accounts", closed, accounts_in)
    op.output("close_account", accounts, CallbackSink(on_account))
    return flow


def flow() -> Dataflow:
    """The flow for Bytewax's own runner: `python -m bytewax.run 'beepgpt.dataflows.scoring:flow()'`.

    It reads and writes the topics of the settings' section `cluster`, and asks its model, which has to predict in this process. All points
    meet in one of the processes. Raises BadSettings if the settings don't suffice, and BadCommand if the model can't be used.
    """
    from beepgpt.clock import now_us
    from beepgpt.config.settings import BadSettings, read_settings
    from beepgpt.connectors.tokenizer import load_encoding
    from beepgpt.runtime.destinations import check_score_topic, score_outputs_of
    from beepgpt.runtime.flow_metrics import ScoreFigures, Scores
    from beepgpt.runtime.forgotten import forgotten_of
    from beepgpt.runtime.places import log_of, source_of
    from beepgpt.runtime.running import check_source
    from beepgpt.runtime.workers import ClusterWorker, cluster_topics
    from beepgpt.training.live import LiveThresholds
    from beepgpt.training.models import load_model
    from beepgpt.training.reloading import WatchedModel

    settings = read_settings()
    ours, rules, folder = settings.scoring, settings.rules, settings.cluster.model
    origin, _ = cluster_topics(settings, "slack.events", "slack.predictions")
    is_live = origin.is_followed and ours.clock == "wall"
    if folder is None:
        raise BadSettings(["cluster.model: the folder of a model is expected (BEEPGPT_CLUSTER__MODEL)"])
    if is_live and origin.since is None:
        raise BadSettings(
            [
                "cluster.source: from= is expected, the time from which on points are scored, as in ?from=2024-01-31T12:00:00Z&follow=true:"
                " a cluster does not remember when it was first started"
            ]
        )
    check_source(origin, settings)
    to = score_outputs_of(settings.cluster.to, settings.cluster.outcomes or None, settings)
    for each in to.topics().values():
        check_score_topic(log_of(settings, each), each, rules)
    model = WatchedModel(folder, rules, lambda each: nullcontext(load_model(each)))
    worker = ClusterWorker(settings, origin)
    following = Following(
        rules,
        load_encoding(rules.encoding),
        worker.started_at,
        since=FOREVER,  # examples are another flow's to write
        until=origin.until,
        recoverable=True,
        forgotten=forgotten_of(settings),
        points_since=origin.since or 0,
        is_stopping=worker.is_stopping,
        on_error=worker.fail,
        shards_here=worker.shards,
    )
    scoring = ScoringRun(
        model,
        model.caller(ours.batch, ours.concurrency),
        rules,
        live_since=now_us() if is_live else None,
        deadline=ours.deadline / 1e6,
        bounded_deadline=origin.is_followed,
        max_alert_age=settings.alerts.max_alert_age,
        most=ours.people,
        threshold_for=LiveThresholds(folder, ours.threshold),
        kept=to.kept(),
        with_candidates=ours.candidates,
        is_stopping=worker.is_stopping,
        on_error=worker.fail,
    )
    group = settings.kafka.group and f"{settings.kafka.group}-score"
    source = source_of(origin, settings, worker, group=group, idle_clock=settings.run.idle_clock == "wall")
    figures = ScoreFigures(**worker.figures(origin.topic, rules.spec), scores=lambda: Scores(**scoring.figures(model.name)))
    worker.start(origin, str(to), figures, model.watched(ours.watch / 1e6))
    sinks = to.sinks(0, 1, fresh=False, on_closed=lambda: None, listener=worker)
    return scoring_flow(source, following, scoring, sinks, worker.accounts.append, {**SCORED_LINES, **SCORED_MESSAGES})
