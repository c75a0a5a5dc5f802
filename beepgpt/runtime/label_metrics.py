"""Metrics of a run that labels examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from beepgpt.runtime.metrics import LAG, labelled

LABEL_ENDS = ("strong", "weak", "silent", "retracted", "retractions")
LABELED = ("beepgpt_labeling_records_total", "Records that are finished, by how; dead letters apart.")
UNLABELED = ("beepgpt_labeling_dead_letters_total", "Records that could not be labeled, by reason.")
LABELING_READ = ("beepgpt_labeling_read_total", "Records read.")
LABELING_WAITING = ("beepgpt_labeling_waiting", "Examples that wait for the labeler's verdict.")


@dataclass(frozen=True, eq=False)
class LabelFigures(Collector):
    """Metrics of a run that labels, read from functions when they are scraped.

    >>> figures = LabelFigures(counts=lambda: {"read": 3, "strong": 1, "dead_letters:excluded": 1}, waiting=lambda: 1)
    >>> [(sample.labels, sample.value) for metric in figures.collect() for sample in metric.samples if sample.value][1:]
    [({}, 3), ({'end': 'strong'}, 1), ({'reason': 'excluded'}, 1), ({}, 1)]
    """

    counts: Callable[[], Mapping[str, int]]
    """The account's counts since this process started."""
    waiting: Callable[[], int]
    lags: Callable[[], Mapping[int, int]] = dict
    topic: str = ""
    build: Mapping[str, str] = field(default_factory=dict)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        counts = dict(self.counts())
        yield InfoMetricFamily("beepgpt_build", "Which program this is, and who labels.", value=dict(self.build))
        yield CounterMetricFamily(*LABELING_READ, value=counts.get("read", 0))
        yield labelled(LABELED, "end", {end: counts.get(end, 0) for end in LABEL_ENDS})
        dead = {name.partition(":")[2]: times for name, times in counts.items() if name.startswith("dead_letters:")}
        yield labelled(UNLABELED, "reason", dead)
        yield GaugeMetricFamily(*LABELING_WAITING, value=self.waiting())
        lag = GaugeMetricFamily(*LAG, labels=("topic", "partition"))
        for number, records in sorted(self.lags().items()):
            lag.add_metric((self.topic, str(number)), records)
        yield lag
