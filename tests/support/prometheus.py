"""A small Prometheus: scrapes pages, and evaluates the expressions of our rules and panels over what it saw, as far as they go.

`rate` and `increase` take the sum of a counter's steps in the window, without Prometheus's extrapolation to the window's ends, which
differs by a factor near 1. Where `promtool` is installed (Debian's package `prometheus`), the real one has to find the same of what was
scraped.
"""

from __future__ import annotations

import json
import operator
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import promql_parser as promql
from prometheus_client.parser import text_string_to_metric_families

from tests.support.kafka import page

Series = frozenset[tuple[str, str]]
"""Labels with their values."""
Vector = dict[Series, float]
STALE = 300.0
"""Seconds after which a series that was not scraped again is gone."""
COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip
COMPUTED: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
FOLDED: Mapping[str, Callable[[Iterable[float]], float]] = {"sum": sum, "max": max, "min": min, "count": lambda values: len(list(values))}


class Prometheus:
    """What was scraped, and since when each rule's expression has had each series."""

    def __init__(self, targets: Mapping[str, int], rules: Iterable[Mapping[str, Any]], every: float = 10.0) -> None:
        """`targets`: ports by job; `every`: seconds that pass from one scrape to the next, by this Prometheus's own clock."""
        self._targets, self._rules, self._every = targets, list(rules), every
        self._seen: dict[str, dict[Series, list[tuple[float, float | None]]]] = {}
        self._pending: dict[tuple[str, Series], float] = {}
        self.now = 0.0

    def scrape(self) -> dict[str, list[dict[str, str]]]:
        """Scrape all targets once; returns the labels of what each firing rule fires for, by the rule's name."""
        self.now += self._every
        for job, port in self._targets.items():
            labels = {"job": job, "instance": f"127.0.0.1:{port}"}
            try:
                status, text = page(port, "/metrics")
                is_up = status == 200
            except OSError:
                is_up = False
            self._add("up", labels, float(is_up))
            if not is_up:
                self._forget(labels)
                continue
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    self._add(sample.name, sample.labels | labels, sample.value)
        return self._firing()

    def _add(self, name: str, labels: Mapping[str, str], value: float) -> None:
        self._seen.setdefault(name, {}).setdefault(frozenset(labels.items()), []).append((self.now, value))

    def _forget(self, labels: Mapping[str, str]) -> None:
        """Mark the series of a target that does not answer as stale."""
        for name, by_series in self._seen.items():
            for series, values in by_series.items():
                if name != "up" and labels.items() <= dict(series).items() and values[-1][1] is not None:
                    values.append((self.now, None))

    def _firing(self) -> dict[str, list[dict[str, str]]]:
        found: dict[str, list[dict[str, str]]] = {}
        still: dict[tuple[str, Series], float] = {}
        for rule in self._rules:
            for series in self.evaluate(rule["expr"]):
                key = rule["alert"], series
                since = still[key] = self._pending.get(key, self.now)
                if self.now - since >= (seconds_of(rule["for"]) if "for" in rule else 0.0):
                    found.setdefault(rule["alert"], []).append(dict(series))
        self._pending = still
        return found

    def by_promtool(self, rules: Path) -> str:
        """Why the real Prometheus finds other rules firing now, by the same scrapes; empty: it finds the same, or is not installed."""
        if (promtool := shutil.which("promtool")) is None:
            return ""
        asked = {name for rule in self._rules for name in re.findall(r"[a-z_]+", rule["expr"])}
        series = [
            {"series": name + _labels(dict(labels)), "values": " ".join(_values(values, self._every, self.now))}
            for name, by_series in self._seen.items()
            if name in asked
            for labels, values in by_series.items()
        ]
        fires = [
            {"labels": "ALERTS" + _labels({"alertname": name, "alertstate": "firing", **labels, **self._labels_of(name)}), "value": 1}
            for name, found in self._firing().items()
            for labels in found
        ]
        asks = {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{self.now:.0f}s", "exp_samples": fires}
        every = f"{self._every:.0f}s"
        body = {
            "rule_files": [str(rules.resolve())],
            "evaluation_interval": every,
            "tests": [{"interval": every, "input_series": series, "promql_expr_test": [asks]}],
        }
        with NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump(body, file)
            file.flush()
            done = subprocess.run([promtool, "test", "rules", file.name], capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def _labels_of(self, name: str) -> dict[str, str]:
        return next(dict(rule.get("labels", {})) for rule in self._rules if rule["alert"] == name)

    def evaluate(self, text: str) -> Vector:
        """An expression's value now."""
        found = self._value(promql.parse(text))
        assert isinstance(found, dict), f"{text}: is a number"
        return found

    def _value(self, node: Any) -> Vector | float:
        if isinstance(node, promql.NumberLiteral):
            return float(node.val)
        if isinstance(node, promql.ParenExpr):
            return self._value(node.expr)
        if isinstance(node, promql.VectorSelector):
            return {
                series: value
                for series, values in self._chosen(node).items()
                if (value := values[-1][1]) is not None and self.now - values[-1][0] < STALE
            }
        if isinstance(node, promql.Call):
            return self._called(node)
        if isinstance(node, promql.AggregateExpr):
            return self._folded(node)
        assert isinstance(node, promql.BinaryExpr), f"not known here: {type(node).__name__}"
        return self._combined(node)

    def _chosen(self, node: Any) -> dict[Series, list[tuple[float, float | None]]]:
        return {
            series: values
            for series, values in self._seen.get(node.name, {}).items()
            if all(_fits(each, dict(series).get(each.name, "")) for each in node.matchers.matchers)
        }

    def _called(self, node: Any) -> Vector:
        name = node.func.name
        (window,) = node.args
        assert name in ("rate", "increase") and isinstance(window, promql.MatrixSelector), name
        seconds = window.range.total_seconds()
        found: Vector = {}
        for series, values in self._chosen(window.vector_selector).items():
            inside = [value for at, value in values if at > self.now - seconds and value is not None]
            if len(inside) > 1:
                steps = sum(max(after - before, 0.0) for before, after in pairwise(inside))
                found[series] = steps / seconds if name == "rate" else steps
        return found

    def _folded(self, node: Any) -> Vector:
        inner = self._value(node.expr)
        assert isinstance(inner, dict)
        kept = set() if node.modifier is None else set(node.modifier.labels)
        groups: dict[Series, list[float]] = {}
        for series, value in inner.items():
            groups.setdefault(frozenset(each for each in series if each[0] in kept), []).append(value)
        return {series: FOLDED[str(node.op)](values) for series, values in groups.items()}

    def _combined(self, node: Any) -> Vector | float:
        left, right, name = self._value(node.lhs), self._value(node.rhs), str(node.op)
        on = None if node.modifier is None or node.modifier.matching is None else re.findall(r"\w+", str(node.modifier.matching))[1:]

        def key(series: Series) -> Series:
            return series if on is None else frozenset(each for each in series if each[0] in on)

        if isinstance(left, dict) and isinstance(right, dict):
            others = {key(series): value for series, value in right.items()}
            pairs = {series: (value, others[key(series)]) for series, value in left.items() if key(series) in others}
            if name == "and":
                return {series: value for series, (value, _) in pairs.items()}
        elif isinstance(left, dict):
            assert isinstance(right, float)
            pairs = {series: (value, right) for series, value in left.items()}
        else:
            assert isinstance(right, dict), "two numbers"
            pairs = {series: (left, value) for series, value in right.items()}
        if name in COMPARED:
            return {series: one for series, (one, other) in pairs.items() if COMPARED[name](one, other)}
        return {series: COMPUTED[name](one, other) for series, (one, other) in pairs.items()}


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items())) + "}"


def _values(values: list[tuple[float, float | None]], every: float, until: float) -> Iterator[str]:
    """A series as promtool reads it, from the first scrape, at `every`, on: a value, `_` where there was none, or `stale`."""
    found = dict(values)
    for number in range(round(until / every) + 1):
        at = number * every
        yield "_" if at not in found else "stale" if (value := found[at]) is None else repr(value)


def _fits(matcher: Any, value: str) -> bool:
    how = str(matcher.op).removeprefix("MatchOp.")
    is_so = re.fullmatch(matcher.value, value) is not None if how in ("Re", "NotRe") else matcher.value == value
    return is_so != (how in ("NotRe", "NotEqual"))


def seconds_of(text: str) -> float:
    """A duration of a rule.

    >>> seconds_of("5m"), seconds_of("30s")
    (300.0, 30.0)
    """
    return float(promql.parse_duration(text).total_seconds())
