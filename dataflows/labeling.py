"""Examples to labeled examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink

from beepgpt import __version__
from beepgpt.conversations.account import Account
from beepgpt.dataflows.asking import GatedSource
from beepgpt.dataflows.label_examples import LABELED_LINES, VERSION, LabelExamples, LabelingRun, labeled_topics, read_records
from beepgpt.dataflows.records import CallbackSink, Formats, accounts_in, write_outputs

NAME = f"labeling_v{VERSION}"
"""With the version of the state: Bytewax's own runner starts over from the beginning where a store has another."""
STATEFUL = ("read_examples", "label_examples", "write_examples", "write_retractions", "write_dead_letters")
"""Ids of the steps with state in a recovery store; a step that is renamed would lose its state unnoticed."""


def labeling_flow(
    source: Any,
    labeling: LabelingRun,
    sinks: Mapping[str, Sink[Any]],
    on_account: Callable[[Account], None],
    formats: Formats = LABELED_LINES,
) -> Dataflow:
    """The flow. `sinks`: of `examples`, `dead_letters` and, if they are wanted, `retractions`. `on_account` gets the account at the end."""
    flow = Dataflow(NAME)
    chunks = op.input("read_examples", flow, GatedSource(source, labeling.gate, labeling.is_stopping))
    keyed = op.flat_map_batch("take_records", chunks, read_records)
    labeled = op.stateful_batch("label_examples", keyed, partial(LabelExamples, labeling))
    write_outputs(labeled, ("examples", "retractions", "dead_letters"), sinks, formats)
    accounts = op.flat_map("take_account", labeled, accounts_in)
    op.output("close_account", accounts, CallbackSink(on_account))
    return flow


def flow() -> Dataflow:
    """The flow for Bytewax's own runner: `python -m bytewax.run 'beepgpt.dataflows.labeling:flow()'`.

    It reads and writes the topics of the settings' section `cluster`, and labels by rules. All examples meet in one of the processes.
    Raises BadSettings if the settings name no topics or another labeler.
    """
    from beepgpt.config.settings import BadSettings, read_settings
    from beepgpt.labeling.labelers.rules import RulesLabeler
    from beepgpt.runtime.flow_metrics import LabelFigures
    from beepgpt.runtime.places import source_of, topic_id_of
    from beepgpt.runtime.workers import ClusterWorker, cluster_topics

    settings = read_settings()
    if settings.labeling.labeler != "rules":
        raise BadSettings(
            [
                f'labeling.labeler: in a cluster there is "rules" alone: nobody can be asked there whether a cost is agreed to, and'
                f' few-shots are files of one machine. Run `beepgpt label` for "{settings.labeling.labeler}"'
            ]
        )
    origin, to = cluster_topics(settings, "slack.examples", "slack.labeled")
    to = to.without_late()
    to.topics_now()
    worker = ClusterWorker(settings, origin)
    labeling = LabelingRun(RulesLabeler(), is_stopping=worker.is_stopping, on_error=worker.fail)
    source = source_of(origin, settings, worker, since=origin.since, until=origin.until, group=settings.kafka.group)
    names = {"version": __version__, "labeler": settings.labeling.labeler, "told": labeling.labeler.fingerprint}
    figures = LabelFigures(**labeling.figures(), lags=lambda: dict(worker.lags), topic=origin.topic, build=names)
    worker.start(origin, str(to), figures)
    sinks = to.sinks(listener=worker)
    return labeling_flow(source, labeling, sinks, worker.accounts.append, labeled_topics(topic_id_of(source)))
