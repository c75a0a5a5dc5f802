"""Slack events to predictions, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink

from beepgpt.conversations.account import Account
from beepgpt.conversations.shard import STATE_VERSION
from beepgpt.dataflows.asking import GatedSource
from beepgpt.dataflows.following import FollowChannels, Following, key_by_shard, parse_records
from beepgpt.dataflows.records import CallbackSink, Formats, accounts_in
from beepgpt.dataflows.score_points import SCORED_LINES, VERSION, ScorePoints, ScoringRun, alerts_in, gather_points

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
    parsed = op.flat_map_batch("parse_records", chunks, partial(parse_records, following=following))
    sharded = op.flat_map_batch("key_by_shard", parsed, partial(key_by_shard, shards=following.shards))
    followed = op.stateful_batch("follow_channels", sharded, partial(FollowChannels, following))
    points = op.flat_map_batch("gather_points", followed, gather_points)
    scored = op.stateful_batch("score_points", points, partial(ScorePoints, scoring))
    for name in ("predictions", "deletions", "outcomes"):
        if name in sinks:
            records = op.filter_map_value(f"take_{name}", scored, formats[name])
            op.output(f"write_{name}", records, sinks[name])
    if "alerts" in sinks:
        alerts = op.flat_map("take_alerts", scored, lambda keyed: alerts_in(keyed[1]))
        op.output("send_alerts", alerts, sinks["alerts"])
    closed = op.merge("merge_accounts", followed, scored)
    accounts = op.flat_map("take_accounts", closed, accounts_in)
    op.output("close_account", accounts, CallbackSink(on_account))
    return flow
