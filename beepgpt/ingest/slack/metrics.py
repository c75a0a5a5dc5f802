"""Metrics and health of `beepgpt ingest slack`: connections, arrivals, gaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from beepgpt.runtime.metrics import CALLS, Pulse, by_two

COUNTS = {
    "arrived": ("beepgpt_slack_arrived_total", "Envelopes or requests that Slack sent."),
    "written": ("beepgpt_slack_written_total", "Events that were written to the topic as they came."),
    "duplicate": ("beepgpt_slack_duplicates_total", "Events that are on the topic already, acknowledged and not written."),
    "interactions": ("beepgpt_slack_interactions_total", "Interactions with the app: buttons, forms, its home page."),
    "delayed": ("beepgpt_slack_delayed_total", "Events that came after a heartbeat with a later time."),
    "retried": ("beepgpt_slack_retried_total", "Envelopes that Slack sent again."),
    "filled": ("beepgpt_slack_filled_total", "Missing events that were backfilled from a channel's history."),
    "fills": ("beepgpt_slack_channel_fills_total", "Channels that were backfilled after an outage."),
    "outages": ("beepgpt_slack_outages_total", "Times at which events may have been missed."),
    "heartbeats": ("beepgpt_slack_heartbeats_total", "Heartbeats written; each goes to every partition."),
    "rate_limited": ("beepgpt_slack_rate_limited_total", "Calls that Slack refused because of its rate limit."),
}
LEFT_OUT = ("beepgpt_slack_left_out_total", "Events that were not written, by reason.")
REFUSED = ("beepgpt_slack_refused_total", "Requests over HTTP that were refused or cut off, by reason.")
BY_TYPE = ("beepgpt_slack_events_total", "Events that were written, by Slack's type.")
TYPES = 50
"""Types with a time series of their own; the rest are counted as `other`."""


def _none() -> dict[str, int]:
    return {}


@dataclass(frozen=True, eq=False)  # a registry keeps collectors as keys
class SlackFigures(Collector):
    """Collector that reads the figures from functions when it is scraped, in another thread.

    >>> figures = SlackFigures(counts=lambda: {"arrived": 2, "left_out:shared": 1}, gauges=lambda: {"connected": 1})
    >>> [(sample.labels, sample.value) for metric in figures.collect() for sample in metric.samples if sample.value][1:]
    [({}, 2), ({'reason': 'shared'}, 1), ({}, 1)]
    """

    counts: Callable[[], Mapping[str, int]]
    gauges: Callable[[], Mapping[str, float]]
    """`connected`, `gaps` (channels to backfill), `waiting` (held events), `last_event` (seconds since 1970), `ahead`."""
    types: Callable[[], Mapping[str, int]] = _none
    calls: Callable[[], Mapping[tuple[str, str], int]] = dict
    """Calls of Slack's Web API, by method and result."""
    build: Mapping[str, str] = field(default_factory=dict)
    refused: Callable[[], Mapping[str, int]] = _none
    """Requests over HTTP that were refused, by reason."""
    clock: Callable[[], float] = time.time

    def collect(self) -> Iterator[Metric]:
        """The current figures."""
        yield InfoMetricFamily("beepgpt_build", "Which program this is.", value=dict(self.build))
        counts = dict(self.counts())
        for key, (name, meaning) in COUNTS.items():
            yield CounterMetricFamily(name, meaning, value=counts.get(key, 0))
        left_out = CounterMetricFamily(*LEFT_OUT, labels=("reason",))
        for key in sorted(counts):
            if key.startswith("left_out:"):
                left_out.add_metric((key.partition(":")[2],), counts[key])
        yield left_out
        refused = CounterMetricFamily(*REFUSED, labels=("reason",))
        for reason, count in sorted(dict(self.refused()).items()):
            refused.add_metric((reason,), count)
        yield refused
        by_type = CounterMetricFamily(*BY_TYPE, labels=("type",))
        types = sorted(self.types().items())
        for kind, count in types[:TYPES]:
            by_type.add_metric((kind,), count)
        if rest := sum(count for _, count in types[TYPES:]):
            by_type.add_metric(("other",), rest)
        yield by_type
        yield by_two(CALLS, ("method", "result"), self.calls())
        gauges = self.gauges()
        yield GaugeMetricFamily("beepgpt_slack_connected", "Whether all connections are up.", value=gauges.get("connected", 0))
        yield GaugeMetricFamily("beepgpt_slack_gaps", "Channels whose history is still to be read.", value=gauges.get("gaps", 0))
        yield GaugeMetricFamily("beepgpt_slack_waiting", "Events held for it, unacknowledged.", value=gauges.get("waiting", 0))
        yield GaugeMetricFamily(
            "beepgpt_slack_clock_ahead_seconds", "How far this clock is ahead of Slack's.", value=gauges.get("ahead", 0)
        )
        if last := gauges.get("last_event"):
            since = round(self.clock() - last, 3)
            yield GaugeMetricFamily("beepgpt_slack_seconds_since_last_event", "Seconds since Slack sent anything.", value=since)


class SlackPulse(Pulse):
    """Health of the loop: ready while all connections are up and no gap is open."""

    missing = "not connected to Slack yet"
    """Why no heartbeats are written; empty while they are."""

    def why_not_ready(self) -> str:
        return self.why_dead() or self.missing
