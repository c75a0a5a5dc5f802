"""The metrics of `beepgpt alert`: records read, what became of each alert, what waits, and how long people wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from beepgpt.runtime.metrics import CALLS, LAG, Pulse, Reasons, by_two, labelled

READ = ("beepgpt_alert_records_total", "Records read, by kind.")
WHAT = {
    "predictions": "prediction",
    "outcomes": "outcome",
    "deletions": "deletion",
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
    "Alerts with a known outcome, by kind, and by whether the alerted person was the next to answer.",
)
ANSWERS = {f"{kind}:{end}": (kind, end) for kind in ("answer", "topic") for end in ("answered", "not_answered")}
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


def _none() -> dict[str, int]:
    return {}


def _no_waits() -> dict[str, Waits]:
    return {}


@dataclass(frozen=True, eq=False)  # a registry keeps collectors as keys
class AlertFigures(Collector):
    """The metrics, read from functions whenever they are scraped, by another thread.

    >>> figures = AlertFigures(counts=lambda: {"predictions": 3, "passed:told_before": 1, "told:slack": 2})
    >>> [(sample.labels, sample.value) for metric in figures.collect() for sample in metric.samples if sample.value][1:]
    [({'what': 'prediction'}, 3), ({'reason': 'told_before'}, 1), ({'by': 'slack'}, 2)]
    """

    counts: Callable[[], Mapping[str, int]]
    """Counters since this process started."""
    waiting: Callable[[], Mapping[str, int]] = _none
    people: Callable[[], Mapping[str, int]] = _none
    feedback: Callable[[], Mapping[str, int]] = _none
    waits: Callable[[], Mapping[str, Waits]] = _no_waits
    """By what they are measured from: `release`, `message`."""
    newest: Callable[[], int] = lambda: 0
    """The time of the newest prediction read, microseconds; 0: none was read."""
    calls: Callable[[], Mapping[tuple[str, str], int]] = dict
    """Calls of Slack, by method and result."""
    lags: Callable[[], Mapping[tuple[str, int], int]] = dict
    """Records that are not read yet, by topic and partition."""
    build: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    """Seconds since 1970."""
    _reasons: Reasons = field(default_factory=Reasons, init=False, repr=False)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield InfoMetricFamily("beepgpt_build", "The program's version, and the threshold of alerts.", value=dict(self.build))
        counts = {name: count for name, count in self.counts().items() if name not in MAY_FALL}
        yield labelled(READ, "what", {what: counts.pop(name, 0) for name, what in WHAT.items()})
        yield by_two(DECIDED, ("kind", "way"), {names: counts.pop(name, 0) for name, names in WAYS.items()})
        yield labelled(PASSED, "reason", self._pop_reasons(counts, "passed"))
        yield labelled(REFUSED, "reason", dict.fromkeys(EXPECTED, 0) | self._pop_reasons(counts, "refused"))
        yield CounterMetricFamily(*WITHDRAWN, value=counts.pop("withdrawn", 0))
        yield labelled(DELIVERED, "by", {by: counts.pop(name, 0) for name, by in BY.items()})
        yield CounterMetricFamily(*NOT_DELIVERED, value=counts.pop("webhook_given_up", 0))
        yield labelled(DMS, "end", {end: counts.pop(f"letters_{end}", 0) for end in DM_ENDS})
        yield labelled(DMS_REFUSED, "reason", self._pop_reasons(counts, "letters_refused"))
        yield by_two(SETTLED, ("kind", "end"), {names: counts.pop(name, 0) for name, names in ANSWERS.items()})
        if counts:
            yield labelled(OTHERS, "what", self._reasons.of("", counts))
        for of, label, found in ((FEEDBACK, "said", self.feedback()), (PEOPLE, "asked", self.people()), (WAITING, "what", self.waiting())):
            gauge = GaugeMetricFamily(*of, labels=(label,))
            for name, count in sorted(found.items()):
                gauge.add_metric((name,), count)
            yield gauge
        if newest := self.newest():
            yield GaugeMetricFamily(*AGE, value=round(self.clock() - newest / 1_000_000, 3))
        seconds = HistogramMetricFamily(*SECONDS, labels=("since",))
        for since, waits in sorted(self.waits().items()):
            seconds.add_metric((since,), waits.buckets(), waits.seconds)
        yield seconds
        yield by_two(CALLS, ("method", "result"), self.calls())
        lag = GaugeMetricFamily(*LAG, labels=("topic", "partition"))
        for (topic, number), records in sorted(self.lags().items()):
            lag.add_metric((topic, str(number)), records)
        yield lag

    def _pop_reasons(self, counts: dict[str, int], key: str) -> dict[str, int]:
        """Take the counts by reason under a name out of `counts`."""
        return self._reasons.of(key, {name: counts.pop(name) for name in list(counts) if name.startswith(f"{key}:")})


class AlertPulse(Pulse):
    """Ready once everything was read that was there at the start."""

    missing = "nothing was read yet: it is starting"
    """What of that is still to be read; empty once all is."""

    def why_not_ready(self) -> str:
        return self.why_dead() or self.missing
