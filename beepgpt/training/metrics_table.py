"""The metrics of a report as one tidy table: a row for each number, with all that says what it is a number of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from beepgpt.conversations.record_fields import METRIC

MetricRow = dict[str, Any]
"""The keys are those of METRIC (beepgpt/conversations/record_fields.py)."""


EMPTY: MetricRow = {field.name: None for field in METRIC}


def validation_rows(report: Mapping[str, Any]) -> list[MetricRow]:
    """Those of `beepgpt validate`: of the part that judges, and of the one by which models and thresholds are chosen."""
    model = report["rows"]["all"][0]["name"]
    found = [*_of_part(report, "judge", model), *_of_part(report["choose"], "choose", model)]
    ours = {"command": "validate", "model": model, "part": "judge"}
    if (chosen := report["threshold"]) is not None:
        at = {"kind": "all", "by": "chosen_threshold", "group": str(chosen["threshold"])}
        found += [*_rows(chosen, **ours, **at), *_rows(chosen["before"], **{**ours, "part": "choose"}, **at)]
    for kind, row in report["silences"].items():
        found += _rows(row, **ours, kind=kind, by="nobody_answers")
    for count, row in report["spread"].items():
        found += _rows(row, **ours, kind="answered", by="spread_of_so_many", group=str(count))
    found += _calibration(report["calibration"], **ours, kind="all")
    for by, groups in report["groups"].items():
        for group, row in groups.items():
            found += _rows(row, **ours, kind="answered", by=by, group=group)
    return found


def _of_part(report: Mapping[str, Any], part: str, model: str) -> Iterator[MetricRow]:
    where = {"command": "validate", "part": part}
    for kind, rows in report["rows"].items():
        for row in rows:
            yield from _rows(row["figures"], **where, kind=kind, model=row["name"])
    for kind, rows in report["alerts"].items():
        for row in rows:
            yield from _rows(row, **where, kind=kind, model=model, by="threshold", group=str(row["threshold"]))


def outcome_rows(models: Iterable[Mapping[str, Any]]) -> list[MetricRow]:
    """Those of `beepgpt outcomes`, of each model; what its validation found is in the table of `beepgpt validate`."""
    found: list[MetricRow] = []
    for each in models:
        ours = {"command": "outcomes", "model": each["model"], "part": "judge"}
        for kind in ("answered", "first_replies"):
            found += _rows(each[kind], **ours, kind=kind)
        found += _rows(each["alerts"], **ours, kind="all", by="threshold", group=str(each["alerts"]["threshold"]))
        found += _calibration(each["calibration"], **ours, kind="all")
        for week in each["weeks"]:
            at = {**ours, "part": week["part"], "kind": "answered", "by": "week", "group": week["week"]}
            found += [{**row, "count": week["answered"]} for row in _rows(week, **at) if row["metric"] != "answered"]
    return found


def rehearsal_rows(report: Mapping[str, Any]) -> list[MetricRow]:
    """Those of `beepgpt rehearse`: of the model, of the rules beside it, and at each threshold."""
    model = ", ".join(report["models"])
    ours = {"command": "rehearse", "model": model, "part": "judge"}
    found: list[MetricRow] = []
    for row in report["rules"]:
        found += _rehearsed(row, **{**ours, "model": model if row["ours"] else row["name"]})
    found += _rehearsed(report["oracle"], **{**ours, "model": report["oracle"]["name"]})
    for row in report["caps"]:
        found += _rehearsed(row, **ours, by="cap_a_week", group=str(row["cap"]))
    for part, row in report["apart"].items():
        found += _rehearsed(row, **{**ours, "part": part})
    for row in report["thresholds"]:
        found += _rehearsed(row, **ours, by="threshold", group=str(row["threshold"]))
    recommended = report["recommended"]
    if recommended["threshold"] is not None:
        at = {"by": "chosen_threshold", "group": str(recommended["threshold"])}
        found += [*_rehearsed(recommended["chosen"], **{**ours, "part": "choose"}, **at), *_rehearsed(recommended["judged"], **ours, **at)]
    return found


def _rehearsed(row: Mapping[str, Any], **where: str) -> Iterator[MetricRow]:
    """The figures that have an interval, and the counts beside them."""
    return _rows({**row, **row["intervals"]}, **where)


def _calibration(rows: Sequence[Mapping[str, Any]], **where: str) -> Iterator[MetricRow]:
    for row in rows:
        yield from _rows({name: row[name] for name in ("said", "came")}, **where, by="probability_from", group=str(row["from"]))


GIVEN = {"threshold", "wanted", "cap"}
"""Numbers of a row that were not measured."""


def _rows(figures: Mapping[str, Any], **where: str) -> Iterator[MetricRow]:
    """A row for each number of a report's row, whether it has an interval or not; what is no number is left out."""
    for metric, found in figures.items():
        is_figure = isinstance(found, Mapping) and "value" in found
        if is_figure or (metric not in GIVEN and isinstance(found, int | float) and not isinstance(found, bool)):
            figure = found if is_figure else {"value": found}
            known = {name: figure.get(name) for name in ("value", "low", "high", "count", "conversations")}
            yield {**EMPTY, **where, "metric": metric, **known}
