"""What dashboards and rules ask for, and what each job's process serves."""

import json
import re
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from beepgpt.connectors.slack.alerts import RESULTS
from beepgpt.ingest.slack.loop import SlackFigures
from beepgpt.runtime.flow_metrics import AlertFigures, ScoreFigures, Scores, Waits
from beepgpt.runtime.metrics import ENDS, BrokerFigures, Figures
from tests.support.deploy import ROOT, document

DASHBOARDS = ("beepgpt-operations", "beepgpt", "beepgpt-scoring")


def dashboard(name: str = "beepgpt") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / f"{name}.json").read_text("utf-8"))
    return found


def queries(*names: str) -> list[tuple[str, str, str]]:
    """Title, PromQL with Grafana's variables filled in, legend: of all dashboards, or of those."""
    variables = {"$__rate_interval": "1m", "$job": ".+"}
    found = []
    for panel in (panel for name in names or DASHBOARDS for panel in dashboard(name)["panels"]):
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in variables.items():
                text = text.replace(name, value)
            found.append((panel["title"], text, target["legendFormat"]))
    return found


def rules() -> list[dict[str, Any]]:
    """What Prometheus warns of."""
    (group,) = document(ROOT / "deploy" / "prometheus-rules.yml")["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


Labels = dict[str, set[str]]
"""The values of each label."""


@cache
def exported_by() -> dict[str, dict[str, Labels]]:
    """By job: every figure that it serves, with its labels and what they can be, and what Prometheus adds."""
    counts = dict.fromkeys(("read", "applied", "duplicate", "late", "examples", "retractions", "heartbeats", *ENDS), 1)
    read = {
        "counts": lambda: counts | {"ignored:bot": 1, "rejected:not_json": 1},
        "lags": lambda: {0: 1},
        "state": lambda: {"channels": 1, "conversations": 1, "held": 1},
        "newest": lambda: {"0": 1},
    }
    scores = Scores(
        counts={"failed:TimedOut": 1},
        predicted={"m": 1},
        outcomes={("m", "answered"): 1},
        waiting={"points": 1, "predictions": 1},
        buckets=(1.0,),
        waits=[1, 1],
        totals={"m": {"answered": 1, "hit@1": 1, "hit@5": 1, "alerts": 1, "right": 1}},
        lately={"m": {"hit@1": 0.5, "hit@5": 0.5, "precision": 0.5, "drift": 0.1}},
        answered_lately={"m": 1},
        validated={"m": {"hit@1": 0.4, "hit@5": 0.4}},
    )
    calls = {("chat.postMessage", result): 1 for result in RESULTS.values()}
    alerts = {"passed:told_before": 1, "refused:too_old": 1, "letters_refused:is_archived": 1}
    alerted = AlertFigures(
        counts=lambda: alerts,
        waiting=lambda: dict.fromkeys(("check", "letter", "doubt", "quiet", "change", "digest", "hand_on", "home"), 1),
        people=lambda: {"in": 1, "out": 1},
        feedback=lambda: {"good": 1},
        waits=lambda: {"release": Waits(), "message": Waits()},
        newest=lambda: 1,
        calls=lambda: calls,
        lags=lambda: {("slack.predictions", 0): 1},
    )
    slack = SlackFigures(
        counts=lambda: {"left_out:shared": 1},
        gauges=lambda: {"last_event": 1.0, "channels": 1},
        types=lambda: {"message": 1},
        calls=lambda: calls,
    )
    by_job: dict[str, Collector] = {
        "examples": Figures(**read),  # type: ignore[arg-type]
        "score": ScoreFigures(**read, scores=lambda: scores),  # type: ignore[arg-type]
        "alert": alerted,
        "slack": slack,
    }
    found: dict[str, dict[str, Labels]] = {}
    for job, figures in by_job.items():
        registry = CollectorRegistry()
        registry.register(figures)
        registry.register(BrokerFigures())
        ProcessCollector(registry=registry)
        found[job] = {"up": {"job": set(), "instance": set()}}
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            for sample in family.samples:
                labels = found[job].setdefault(sample.name, {"job": set(), "instance": set()})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
    return found


@cache
def exported() -> dict[str, Labels]:
    """The same of all of them."""
    found: dict[str, Labels] = {}
    for figures in exported_by().values():
        for name, labels in figures.items():
            for label, values in labels.items():
                found.setdefault(name, {}).setdefault(label, set()).update(values)
    return found


def shown_of(job: str) -> set[str]:
    """The figures of a job that a panel or a rule asks for, as the page names their families."""
    asked = " ".join([*(text for _, text, _ in queries()), *(each["expr"] for each in rules())])
    used = {name for name in exported_by()[job] if name.startswith("beepgpt_") and re.search(rf"\b{name}\b", asked)}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
