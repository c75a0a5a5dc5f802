"""Metrics of a run that scores points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from beepgpt.runtime.metrics import Figures, by_two, labelled

SCORED = ("beepgpt_points_scored_total", "Points that were to be scored, by what became of them.")
FAILED = ("beepgpt_scoring_failures_total", "Points about which the model could not be asked, by reason.")
PREDICTIONS = ("beepgpt_predictions_total", "Predictions, by model.")
OUTCOMES = ("beepgpt_outcomes_total", "Predictions with a known outcome, by model and by how.")
HITS = ("beepgpt_outcome_hits_total", "Answered outcomes whose answerer was among the k likeliest people, by model.")
ALERTS = ("beepgpt_outcome_alerts_total", "People who would be alerted, and those of them who answered, by model.")
LATELY = (
    "beepgpt_outcomes_lately",
    "Of the last 1,000 outcomes of a model: hits, precision of alerts, and how much more of them was promised.",
)
LATELY_OF = ("beepgpt_outcomes_lately_answered", "How many of these outcomes were answered, by model: the hits are of as many.")
VALIDATED = ("beepgpt_model_validated", "The lower ends of the intervals that validation found for a model's hits, as far as it was run.")
SCORE_WAITING = ("beepgpt_scoring_waiting", "Points that wait for their prediction, and predictions that wait for their outcome.")
SCORE_WAITS = ("beepgpt_prediction_seconds", "From a point's release to its prediction.")


@dataclass(frozen=True)
class Scores:
    """The work of a scoring flow, as plain values."""

    counts: Mapping[str, int] = field(default_factory=dict)
    predicted: Mapping[str, int] = field(default_factory=dict)
    """By model."""
    outcomes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By model and how."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    """Seconds."""
    waits: list[int] = field(default_factory=list)
    """Predictions by how long they took: for each bucket, and beyond."""
    waited: float = 0.0
    totals: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By model: `answered`, `hit@1`, `hit@5`, `alerts`, `right`."""
    lately: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    answered_lately: Mapping[str, int] = field(default_factory=dict)
    """By model."""
    validated: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By model: the lower ends of the validated intervals of `hit@1` and `hit@5`."""


@dataclass(frozen=True, eq=False)
class ScoreFigures(Figures):
    """Metrics of a run that scores: of the events and points, and of its predictions.

    >>> figures = ScoreFigures(scores=lambda: Scores(predicted={"a1b2": 3}, outcomes={("a1b2", "answered"): 1}))
    >>> [(sample.labels, sample.value) for metric in figures.collect() for sample in metric.samples if sample.value][1:]
    [({'model': 'a1b2'}, 3), ({'model': 'a1b2', 'how': 'answered'}, 1)]
    """

    scores: Callable[[], Scores] = Scores

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield from super().collect()
        now = self.scores()
        yield labelled(SCORED, "end", {end: now.counts.get(end, 0) for end in ("scored", "missed")})
        failed = {name: times for name, times in now.counts.items() if name.startswith("failed:")}
        yield labelled(FAILED, "reason", self._reasons.of("failed", failed))
        yield labelled(PREDICTIONS, "model", now.predicted)
        yield by_two(OUTCOMES, ("model", "how"), now.outcomes)
        hits, alerts = CounterMetricFamily(*HITS, labels=("model", "k")), CounterMetricFamily(*ALERTS, labels=("model", "what"))
        for model, totals in sorted(now.totals.items()):
            for k in ("1", "5"):
                hits.add_metric((model, k), totals[f"hit@{k}"])
            for what, name in (("given", "alerts"), ("right", "right")):
                alerts.add_metric((model, what), totals[name])
        yield hits
        yield alerts
        for of, by_model in ((LATELY, now.lately), (VALIDATED, now.validated)):
            figures = GaugeMetricFamily(*of, labels=("model", "figure"))
            for model, by_figure in sorted(by_model.items()):
                for name, value in by_figure.items():
                    figures.add_metric((model, name), value)
            yield figures
        answered = GaugeMetricFamily(*LATELY_OF, labels=("model",))
        for model, count in sorted(now.answered_lately.items()):
            answered.add_metric((model,), count)
        yield answered
        waiting = GaugeMetricFamily(*SCORE_WAITING, labels=("what",))
        for name, count in now.waiting.items():
            waiting.add_metric((name,), count)
        yield waiting
        if now.buckets:
            sums = [str(sum(now.waits[: place + 1])) for place in range(len(now.waits))]
            buckets = [(name, float(value)) for name, value in zip([*map(str, now.buckets), "+Inf"], sums, strict=True)]
            yield HistogramMetricFamily(*SCORE_WAITS, buckets=buckets, sum_value=now.waited)
