"""Metrics of the runs that label, score and alert, read from functions whenever they are scraped, by another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from beepgpt.clock import now
from beepgpt.runtime.metrics import CALLS, LAG, Figures, Pulse, Reasons, by_label, by_two, gauged, outage_now

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
        yield by_label(LABELED, "end", {end: counts.get(end, 0) for end in LABEL_ENDS})
        dead = {name.partition(":")[2]: times for name, times in counts.items() if name.startswith("dead_letters:")}
        yield by_label(UNLABELED, "reason", dead)
        yield GaugeMetricFamily(*LABELING_WAITING, value=self.waiting())
        yield gauged(LAG, ("topic", "partition"), {(self.topic, number): records for number, records in self.lags().items()})


SCORED = ("beepgpt_points_scored_total", "Points that were to be scored, by what became of them.")
FAILED = ("beepgpt_scoring_failures_total", "Points about which the model could not be asked, by reason.")
PREDICTIONS = ("beepgpt_predictions_total", "Predictions, by model.")
OUTCOMES = ("beepgpt_outcomes_total", "Predictions with a known outcome, by model and by outcome.")
HITS = ("beepgpt_outcome_hits_total", "Answered outcomes whose answerer was among the k likeliest people, by model.")
ALERTS = ("beepgpt_outcome_alerts_total", "People who would be alerted, and those of them who answered, by model.")
LATELY = (
    "beepgpt_outcomes_lately",
    "Of the last 1,000 outcomes of a model: hits, precision of alerts, and how much more of them was promised.",
)
LATELY_OF = ("beepgpt_outcomes_lately_answered", "How many of these outcomes were answered, by model: the hits are of as many.")
VALIDATED = (
    "beepgpt_model_validated",
    "The least hits that a model's validation lets one expect, with the noise of both, as far as it was run.",
)
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
    """By model: the least `hit@1` and `hit@5` that validation lets one expect, with the noise of both."""


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
        yield by_label(SCORED, "end", {end: now.counts.get(end, 0) for end in ("scored", "missed")})
        failed = {name: times for name, times in now.counts.items() if name.startswith("failed:")}
        yield by_label(FAILED, "reason", self._reasons.of("failed", failed))
        yield by_label(PREDICTIONS, "model", now.predicted)
        yield by_two(OUTCOMES, ("model", "how"), now.outcomes)
        yield by_two(HITS, ("model", "k"), {(model, k): totals[f"hit@{k}"] for model, totals in now.totals.items() for k in ("1", "5")})
        alerts = {"given": "alerts", "right": "right"}
        by_what = {(model, what): totals[name] for model, totals in now.totals.items() for what, name in alerts.items()}
        yield by_two(ALERTS, ("model", "what"), by_what)
        for of, by_model in ((LATELY, now.lately), (VALIDATED, now.validated)):
            figures = {(model, name): value for model, by_figure in by_model.items() for name, value in by_figure.items()}
            yield gauged(of, ("model", "figure"), figures)
        yield gauged(LATELY_OF, ("model",), {(model,): count for model, count in now.answered_lately.items()})
        yield gauged(SCORE_WAITING, ("what",), {(name,): count for name, count in now.waiting.items()})
        if now.buckets:
            sums = [str(sum(now.waits[: place + 1])) for place in range(len(now.waits))]
            buckets = [(name, float(value)) for name, value in zip([*map(str, now.buckets), "+Inf"], sums, strict=True)]
            yield HistogramMetricFamily(*SCORE_WAITS, buckets=buckets, sum_value=now.waited)


READ = ("beepgpt_alert_records_total", "Records read, by kind.")
WHAT = {
    "predictions": "prediction",
    "outcomes": "outcome",
    "deletions": "deletion",
    "predictions_gone": "tombstone",
    "interactions": "interaction",
    "unreadable": "unreadable",
    "interactions_unreadable": "unreadable_interaction",
}
DECIDED = ("beepgpt_alerts_decided_total", "Alerts decided on, by kind and by way of delivery.")
WAYS = {f"{kind}:{way}": (kind, way) for kind in ("answer", "topic") for way in ("direct", "list")}
PASSED = ("beepgpt_alerts_passed_total", "People who were likely enough and are not alerted, and points that were too old, by reason.")
REFUSED = ("beepgpt_alerts_refused_total", "Alerts decided on and not delivered, by reason.")
EXPECTED = ("deleted", "membership_in_doubt", "not_a_member", "too_old")
"""Reasons that are served with 0 from the start: a rule sees no increase of a series that first appears with its first alert."""
WITHDRAWN = ("beepgpt_alerts_withdrawn_total", "Alerts withdrawn because their message was deleted.")
DELIVERED = ("beepgpt_alerts_told_total", "Alerts delivered, by channel of delivery.")
BY = {
    "told:slack": "slack",
    "told:digest": "digest",
    "told:topic": "topic",
    "told:file": "file",
    "told:console": "console",
    "webhook_taken": "webhook",
}
NOT_DELIVERED = ("beepgpt_alerts_not_told_total", "Alerts that the webhook did not take within an hour.")
DMS = ("beepgpt_alert_letters_total", "Direct messages, by what became of them; unknown: never confirmed, and not sent again.")
DM_ENDS = ("sent", "unknown", "updated", "deleted", "not_changed", "not_found")
DMS_REFUSED = (
    "beepgpt_alert_letters_refused_total",
    "Direct messages not sent: Slack's reason, or nothing_left if none of their alerts may be delivered any more.",
)
SETTLED = (
    "beepgpt_alert_outcomes_total",
    "Alerts with a known outcome, by kind, and by whether the alerted person joined (counted once the day is over) or reacted.",
)
ANSWERS = {f"{kind}:{end}": (kind, end) for kind in ("answer", "topic") for end in ("answered", "not_answered", "reacted", "not_reacted")}
MAY_FALL = ("feedback:good", "feedback:bad")
"""People may change their rating, so these are served as a gauge."""
FEEDBACK = ("beepgpt_alert_feedback", "Ratings of alerts by their buttons: the last one of each alert, since the store was created.")
PEOPLE = ("beepgpt_alert_people", "People who opted in (in) or out (out).")
WAITING = (
    "beepgpt_alerts_waiting",
    "Items that wait: for a check, to be sent, looked up, changed, or forwarded, for a digest; and App Homes.",
)
AGE = ("beepgpt_alert_prediction_age_seconds", "Now minus the time of the newest prediction read: it grows in quiet times, too.")
SECONDS = ("beepgpt_alert_seconds", "Time until a direct message was sent: since the point's release, or since the message it is about.")
OTHERS = ("beepgpt_alert_other_counts_total", "Counts of the closing account that have no metric of their own.")

BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds; nobody is alerted to anything older than max_alert_age, ten minutes by default."""


class Waits:
    """A histogram of how long people waited: filled by one thread, read by another.

    >>> waits = Waits()
    >>> waits.add(1.5)
    >>> waits.buckets()[1:4], waits.seconds
    ([('1.0', 0.0), ('2.5', 1.0), ('5.0', 1.0)], 1.5)
    """

    def __init__(self) -> None:
        self._found = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one wait, in seconds."""
        seconds = max(seconds, 0.0)
        self._found[next((place for place, most in enumerate(BUCKETS) if seconds <= most), len(BUCKETS))] += 1
        self.seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as Prometheus wants them."""
        found, total, cumulative = list(self._found), 0, []
        for name, count in zip([*map(str, BUCKETS), "+Inf"], found, strict=True):
            total += count
            cumulative.append((name, float(total)))
        return cumulative


@dataclass(frozen=True, eq=False)  # a registry keeps collectors as keys
class AlertFigures(Collector):
    """The metrics, read from functions whenever they are scraped, by another thread.

    >>> figures = AlertFigures(counts=lambda: {"predictions": 3, "passed:told_before": 1, "told:slack": 2})
    >>> [(sample.labels, sample.value) for metric in figures.collect() for sample in metric.samples if sample.value][1:]
    [({'what': 'prediction'}, 3), ({'reason': 'told_before'}, 1), ({'by': 'slack'}, 2)]
    """

    counts: Callable[[], Mapping[str, int]]
    """Counters since this process started."""
    waiting: Callable[[], Mapping[str, int]] = dict
    people: Callable[[], Mapping[str, int]] = dict
    feedback: Callable[[], Mapping[str, int]] = dict
    waits: Callable[[], Mapping[str, Waits]] = dict
    """By what they are measured from: `release`, `message`."""
    newest: Callable[[], int] = lambda: 0
    """The time of the newest prediction read, microseconds; 0: none was read."""
    calls: Callable[[], Mapping[tuple[str, str], int]] = dict
    """Calls of Slack, by method and result."""
    lags: Callable[[], Mapping[tuple[str, int], int]] = dict
    """Records that are not read yet, by topic and partition."""
    build: Callable[[], Mapping[str, str]] = dict
    clock: Callable[[], float] = now
    """Seconds since 1970."""
    _reasons: Reasons = field(default_factory=Reasons, init=False, repr=False)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield InfoMetricFamily(
            "beepgpt_build", "The program's version, and the live model and threshold of alerts.", value=dict(self.build())
        )
        counts = {name: count for name, count in self.counts().items() if name not in MAY_FALL}
        yield by_label(READ, "what", {what: counts.pop(name, 0) for name, what in WHAT.items()})
        yield by_two(DECIDED, ("kind", "way"), {names: counts.pop(name, 0) for name, names in WAYS.items()})
        yield by_label(PASSED, "reason", self._pop_reasons(counts, "passed"))
        yield by_label(REFUSED, "reason", dict.fromkeys(EXPECTED, 0) | self._pop_reasons(counts, "refused"))
        yield CounterMetricFamily(*WITHDRAWN, value=counts.pop("withdrawn", 0))
        yield by_label(DELIVERED, "by", {by: counts.pop(name, 0) for name, by in BY.items()})
        yield CounterMetricFamily(*NOT_DELIVERED, value=counts.pop("webhook_given_up", 0))
        yield by_label(DMS, "end", {end: counts.pop(f"letters_{end}", 0) for end in DM_ENDS})
        yield by_label(DMS_REFUSED, "reason", self._pop_reasons(counts, "letters_refused"))
        yield by_two(SETTLED, ("kind", "end"), {names: counts.pop(name, 0) for name, names in ANSWERS.items()})
        if counts:
            yield by_label(OTHERS, "what", self._reasons.of("", counts))
        for of, label, found in ((FEEDBACK, "said", self.feedback()), (PEOPLE, "asked", self.people()), (WAITING, "what", self.waiting())):
            yield gauged(of, (label,), {(name,): count for name, count in found.items()})
        if newest := self.newest():
            yield GaugeMetricFamily(*AGE, value=round(self.clock() - newest / 1_000_000, 3))
        seconds = HistogramMetricFamily(*SECONDS, labels=("since",))
        for since, waits in sorted(self.waits().items()):
            seconds.add_metric((since,), waits.buckets(), waits.seconds)
        yield seconds
        yield by_two(CALLS, ("method", "result"), self.calls())
        yield gauged(LAG, ("topic", "partition"), self.lags())

    def _pop_reasons(self, counts: dict[str, int], key: str) -> dict[str, int]:
        """Take the counts by reason under a name out of `counts`."""
        return self._reasons.of(key, {name: counts.pop(name) for name in list(counts) if name.startswith(f"{key}:")})


class AlertPulse(Pulse):
    """Ready once everything was read that was there at the start."""

    missing = "nothing was read yet: it is starting"
    """What of that is still to be read; empty once all is."""

    def why_not_ready(self) -> str:
        return self.why_dead() or outage_now() or self.missing
