"""Slack events to training examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from beepgpt.conversations.account import Account
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.shard import STATE_VERSION
from beepgpt.dataflows.following import Following, follow
from beepgpt.dataflows.records import EXAMPLE_LINES, CallbackSink, Formats, accounts_in, example_topics, write_outputs

NAME = f"examples_v{STATE_VERSION}"
"""With the version of the state: Bytewax's own runner starts over from the beginning where a store has another."""
STATEFUL = ("read_records", "follow_channels", "write_examples", "write_retractions", "write_late", "write_dead_letters")
"""Ids of the steps with state in a recovery store; a step that is renamed would lose its state unnoticed."""


def examples_flow(
    source: Source[Chunk],
    following: Following,
    sinks: Mapping[str, Sink[Any]],
    on_account: Callable[[Account], None],
    formats: Formats = EXAMPLE_LINES,
) -> Dataflow:
    """The flow. `sinks`: of `examples`, `retractions`, `late` and `dead_letters`, those that are wanted. `on_account` gets each shard's."""
    flow = Dataflow(NAME)
    chunks = op.input("read_records", flow, source)
    followed = follow(chunks, following)
    write_outputs(followed, ("examples", "retractions", "late", "dead_letters"), sinks, formats)
    accounts = op.flat_map("take_accounts", followed, accounts_in)
    op.output("close_account", accounts, CallbackSink(on_account))
    return flow


def flow() -> Dataflow:
    """The flow for Bytewax's own runner: `python -m bytewax.run 'beepgpt.dataflows.examples:flow()'`.

    It reads and writes the topics of the settings' section `cluster`. SIGTERM and SIGINT stop this process's reading; when all processes
    have stopped, a last snapshot is taken and they end. Raises BadSettings if the settings name no topics.
    """
    from beepgpt.config.settings import read_settings
    from beepgpt.connectors.tokenizer import load_encoding
    from beepgpt.runtime.forgotten import forgotten_of
    from beepgpt.runtime.metrics import Figures
    from beepgpt.runtime.places import source_of, topic_id_of
    from beepgpt.runtime.running import check_source
    from beepgpt.runtime.workers import ClusterWorker, cluster_topics

    settings = read_settings()
    rules = settings.rules
    origin, to = cluster_topics(settings, "slack.events", "slack.examples")
    check_source(origin, settings)
    to.check(rules)
    worker = ClusterWorker(settings, origin)
    following = Following(
        rules,
        load_encoding(rules.encoding),
        worker.started_at,
        since=origin.since or 0,
        until=origin.until,
        recoverable=True,
        forgotten=forgotten_of(settings),
        is_stopping=worker.is_stopping,
        on_error=worker.fail,
        shards_here=worker.shards,
    )
    source = source_of(origin, settings, worker, group=settings.kafka.group, idle_clock=settings.run.idle_clock == "wall")
    worker.start(origin, str(to), Figures(**worker.figures(origin.topic, rules.spec)))
    return examples_flow(source, following, to.sinks(listener=worker), worker.accounts.append, example_topics(topic_id_of(source)))
