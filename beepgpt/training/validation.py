"""All that is told of a model: its figures, those of what it has to beat, and a dozen examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from beepgpt.conversations.tokens import SEPARATOR, SUFFIX
from beepgpt.training.baselines import decayed_count, latest_other_author, most_frequent
from beepgpt.training.metrics import (
    DRAWS,
    KINDS,
    THRESHOLDS,
    WITH_SILENCES,
    Bootstrap,
    Figure,
    Outcomes,
    alerts_at,
    by_group,
    calibration,
    hits,
    losses,
    outcomes_of,
    threshold_for,
)
from beepgpt.training.points import Examples
from beepgpt.training.predictions import Predictions
from beepgpt.web.report import Shown

SEEN = ((0, "never"), (1, "1–4"), (5, "5–19"), (20, "20–99"), (100, "100 or more"))
"""How often somebody answered in the training part: from so often on, and what it is called."""
OF_EACH = 6
"""Examples shown where the likeliest person answered, and where not."""
SHOWN_PEOPLE = 5
LONGEST = 1_500
"""Characters of a message on the page."""


def baselines(train: Examples, valid: Examples) -> dict[str, Predictions]:
    """What needs no training."""
    return {
        "latest other author": latest_other_author(valid.points),
        "most by decayed count": decayed_count(valid.points),
        "channel's most frequent": most_frequent(train, valid),
    }


def judge(said: Mapping[str, Predictions], train: Examples, valid: Examples, *, precision: float) -> tuple[dict[str, Any], Outcomes]:
    """What metrics.json holds beside where it came from. The first of `said` is the model; the others are what it is compared with."""
    boot = Bootstrap(valid.points.conversation)
    outcomes = {name: outcomes_of(each, valid) for name, each in said.items()}
    ours, first = next(iter(outcomes.items()))[1], next(iter(said.values()))
    rows: dict[str, list[dict[str, Any]]] = {}
    for kind in KINDS:
        rows[kind] = [
            {"name": name, "figures": _json(hits(each, kind, boot) | (losses(each, kind, boot) if said[name].are_probabilities else {}))}
            for name, each in outcomes.items()
            if kind not in WITH_SILENCES or said[name].are_probabilities
        ]
    found: dict[str, Any] = {
        "points": len(valid),
        "answered": int(ours.answered.sum()),
        "people": len({person for answer in valid.answers for person in answer}),
        "draws": DRAWS,
        "columns": ["hit@1", "hit@3", "hit@5", "mrr", "log_loss", "calibration_error"],
        "rows": rows,
        "alerts": {kind: [_told(alerts_at(ours, each, kind, boot)) for each in THRESHOLDS] for kind in KINDS},
        "threshold": _chosen(ours, precision, boot),
        "calibration": [{**row, "came": row["came"].as_json(), "said": _or_none(row["said"])} for row in calibration(ours, boot)],
        "groups": {
            "people_seen": _groups(ours, _people_seen(train, valid), [name for _, name in SEEN], boot),
            "length": _groups(ours, [str(len(window)) for window in valid.points.window_ts], None, boot),
            "month": _groups(ours, [_when(ts)[:7] for ts in valid.points.prompt_ts], None, boot),
        },
    }
    assert first.are_probabilities, "a model gives chances"
    return found, ours


def some_examples(outcomes: Outcomes, predictions: Predictions, valid: Examples, channels: Mapping[str, str] | None = None) -> list[Shown]:
    """A few where the likeliest person answered, and where not: first replies, chosen by their ids, so that nobody picks the nice ones."""
    among = KINDS["first_replies"](outcomes)
    shown = []
    for right in (True, False):
        points = [point for point in np.flatnonzero(among).tolist() if (outcomes.rank[point] == 1) == right]
        shown += [
            _shown(point, right, predictions, valid, channels or {}) for point in sorted(points, key=lambda each: valid.ids[each])[:OF_EACH]
        ]
    return shown


def _shown(point: int, right: bool, predictions: Predictions, valid: Examples, channels: Mapping[str, str]) -> Shown:
    said = predictions.of(point)
    messages = valid.points.prompt[point].removesuffix(SUFFIX).split(SEPARATOR)
    channel = valid.points.channel[point]
    return Shown(
        when=_when(valid.points.prompt_ts[point]),
        channel=channels.get(channel, channel),
        messages=[message if len(message) <= LONGEST else message[:LONGEST] + " …" for message in messages],
        answer=valid.answers[point],
        people=said.people[:SHOWN_PEOPLE],
        nobody=said.nobody,
        other=said.other,
        right=right,
    )


def _people_seen(train: Examples, valid: Examples) -> list[str]:
    """How often each answer's person answered in the training part; of several the one who did most."""
    given = Counter(person for answer in train.answers for person in answer)
    most = [max((given[person] for person in answer), default=0) for answer in valid.answers]
    return [next(name for least, name in reversed(SEEN) if count >= least) for count in most]


def _groups(outcomes: Outcomes, groups: Sequence[str], order: Sequence[str] | None, boot: Bootstrap) -> dict[str, dict[str, Any]]:
    found = by_group(outcomes, groups, "answered", boot)
    return {name: _json(found[name]) for name in order or sorted(found) if name in found}


def _chosen(outcomes: Outcomes, precision: float, boot: Bootstrap) -> dict[str, Any] | None:
    threshold = threshold_for(outcomes, precision)
    if threshold is None:
        return None
    return {"wanted": precision, **_told(alerts_at(outcomes, threshold, "all", boot)), "checked": _checked(outcomes, precision)}


def _checked(outcomes: Outcomes, precision: float) -> dict[str, Any] | None:
    """The threshold that the first half of the time would have chosen, and what it was worth in the second: who chooses and judges
    by the same points flatters the choice."""
    order = np.argsort(outcomes.prompt_ts, kind="stable")
    early, late = (outcomes.at(half) for half in np.array_split(order, 2))
    threshold = threshold_for(early, precision)
    return None if threshold is None else _told(alerts_at(late, threshold, "all", Bootstrap(late.conversation)))


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.as_json() if isinstance(value, Figure) else round(float(value), 5) if isinstance(value, float) else value
        for name, value in row.items()
    }


def _json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: each.as_json() for name, each in figures.items()}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)


def _when(ts: int) -> str:
    return datetime.fromtimestamp(int(ts) / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
