"""A model's figures from outcomes: how often it was right on live points, with intervals by conversation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import NoneType
from typing import Any

import numpy as np

from beepgpt.conversations.events import micros
from beepgpt.conversations.outcomes import KNOWN, LEAST, count_alerts
from beepgpt.conversations.rules import DAY
from beepgpt.training.metrics import BINS, Bootstrap, Figure

OutcomeRecord = Mapping[str, Any]
WEEKS_SHOWN = 60
NEEDED: dict[str, tuple[type, ...]] = {
    "id": (str,), "conversation": (str,), "prompt_ts": (str,), "how": (str,), "answer": (list,), "rank": (int, NoneType),
    "model": (str,), "people": (list,), "speakers": (int,),
}  # fmt: skip
"""The fields that figures need, and their types."""


def figures_by_model(outcomes: Iterable[OutcomeRecord], threshold: float) -> list[dict[str, Any]]:
    """Figures of each model, the one with the newest point last. An outcome that comes twice counts once."""
    by_model: dict[str, dict[tuple[str, str], OutcomeRecord]] = defaultdict(dict)
    for each in outcomes:
        by_model[each["model"]][each["id"], each["conversation"]] = each
    figures = [_figures(model, list(of.values()), threshold) for model, of in by_model.items()]
    return sorted(figures, key=lambda each: (each["until"], each["model"]))


def _figures(model: str, outcomes: Sequence[OutcomeRecord], threshold: float) -> dict[str, Any]:
    known = [each for each in outcomes if each["how"] in KNOWN]
    answered = [each for each in known if each["how"] == "answered"]
    times = [micros(each["prompt_ts"]) for each in outcomes]
    return {
        "model": model,
        "from": ts_of(min(times)),
        "until": ts_of(max(times)),
        "outcomes": dict(Counter(each["how"] for each in outcomes).most_common()),
        "answered": _hits(answered),
        "first_replies": _hits([each for each in answered if each["speakers"] == 1]),
        "alerts": _alerts(known, threshold),
        "calibration": _calibration(known),
        "weeks": _weeks(answered),
    }


def _hits(answered: Sequence[OutcomeRecord]) -> dict[str, dict[str, Any]]:
    """hit@1 and hit@5, as `beepgpt validate` computes them."""
    if not answered:
        return {}
    boot = Bootstrap([each["conversation"] for each in answered])
    ranks = np.array([each["rank"] or 0 for each in answered])
    ones = np.ones(len(answered))
    return {f"hit@{k}": boot.ratio(((ranks > 0) & (ranks <= k)).astype(np.float64), ones).as_json() for k in (1, 5)}


def _alerts(known: Sequence[OutcomeRecord], threshold: float) -> dict[str, Any]:
    """Precision, if everybody from the threshold on had been alerted."""
    counts = [count_alerts(each, threshold) for each in known]
    given, right = sum(each.given for each in counts), sum(each.right for each in counts)
    found: dict[str, Any] = {"threshold": threshold, "given": given, "right": right}
    if given:
        boot = Bootstrap([each["conversation"] for each in known])
        precision: Figure = boot.ratio(
            np.array([each.right for each in counts], np.float64), np.array([each.given for each in counts], np.float64)
        )
        found["precision"] = precision.as_json()
        found["promised"] = round(sum(each.expected for each in counts) / given, 5)
    return found


def _calibration(known: Sequence[OutcomeRecord]) -> list[dict[str, Any]]:
    """The calibration of predicted probabilities, by tenths: how many, their mean (`said`), and the share that came true (`came`)."""
    predicted: list[list[float]] = [[] for _ in range(BINS)]
    came = [0] * BINS
    for each in known:
        for person in each["people"]:
            if person["p"] >= LEAST:
                place = min(int(person["p"] * BINS), BINS - 1)
                predicted[place].append(person["p"])
                came[place] += person["user"] in each["answer"]
    return [
        {"from": place / BINS, "count": len(of), "said": round(sum(of) / len(of), 5), "came": round(came[place] / len(of), 5)}
        for place, of in enumerate(predicted)
        if of
    ]


def _weeks(answered: Sequence[OutcomeRecord]) -> list[dict[str, Any]]:
    """Hits by the week of the point: those of a model that grows stale fall."""
    by_week: dict[int, list[int]] = defaultdict(list)
    for each in answered:
        by_week[micros(each["prompt_ts"]) // (7 * DAY)].append(each["rank"] or 0)
    return [
        {
            "week": ts_of(week * 7 * DAY)[:10],
            "answered": len(ranks),
            "hit@1": round(sum(rank == 1 for rank in ranks) / len(ranks), 5),
            "hit@5": round(sum(0 < rank <= 5 for rank in ranks) / len(ranks), 5),
        }
        for week, ranks in sorted(by_week.items())[-WEEKS_SHOWN:]
    ]


def fault_of(body: object) -> str:
    """Why a value is no outcome; empty if it is one.

    >>> fault_of([]), fault_of({"id": "1"})
    ('it is no object', 'conversation is missing')
    """
    if not isinstance(body, dict):
        return "it is no object"
    for name, kinds in NEEDED.items():
        if name not in body:
            return f"{name} is missing"
        if not isinstance(body[name], kinds):
            return f"{name} is wrong"
    try:
        micros(body["prompt_ts"])
        for person in body["people"]:
            person["user"], float(person["p"])
    except ValueError:
        return "prompt_ts is wrong"
    except (KeyError, TypeError):
        return "people is wrong"
    return ""


def ts_of(at: int) -> str:
    """Format microseconds as a time in UTC.

    >>> ts_of(1690360240229079)
    '2023-07-26 08:30'
    """
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
