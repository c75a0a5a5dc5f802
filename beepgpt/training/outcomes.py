"""A model's figures from outcomes: how often it was right on points that it was neither fitted nor chosen on.

Outcomes become the columns of validation (`beepgpt.training.metrics`), so that both have one definition of right, and one set of functions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from beepgpt.conversations.events import micros
from beepgpt.conversations.outcomes import KNOWN
from beepgpt.conversations.rules import DAY
from beepgpt.training import metrics
from beepgpt.training.intervals import Bootstrap
from beepgpt.training.live import candidate_of, card_in, figures_in, folders_of, hits_in, is_of_card
from beepgpt.training.metrics import Outcomes, PointScores, RankedAlerts
from beepgpt.training.parts import UNMARKED, Parts, part_of

OutcomeRecord = Mapping[str, Any]
WEEKS_SHOWN = 60
NEEDED: dict[str, tuple[type, ...]] = {
    "id": (str,), "conversation": (str,), "prompt_ts": (str,), "how": (str,), "answer": (list,), "rank": (int, NoneType),
    "model": (str,), "people": (list,), "speakers": (int,),
}  # fmt: skip
"""The fields that figures need, and their types."""
DONE = {"next_user": "answered next", "interacting_users": "posted or reacted", "reactors": "reacted"}
"""What those who were right did, by target."""


def figures_by_model(
    outcomes: Iterable[OutcomeRecord],
    threshold_for: Callable[[str], float],
    parts: Mapping[str, Parts | None] | None = None,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Figures of each model, the one with the newest point last. An outcome that comes twice counts once.

    `threshold_for`: the probability from which on somebody counts as named, by a model's name. `parts`: of models whose cards are at hand,
    for outcomes that don't name theirs. `folder`: a live one, for what validation found of each.
    """
    by_model: dict[str, dict[tuple[str, str], OutcomeRecord]] = defaultdict(dict)
    for each in outcomes:
        by_model[each["model"]][each["id"], each["conversation"]] = each
    figures = [
        _figures(model, list(of.values()), threshold_for(model), (parts or {}).get(model)) | {"validation": validation_of(model, folder)}
        for model, of in by_model.items()
    ]
    return sorted(figures, key=lambda each: (each["until"], each["model"]))


def validation_of(model: str, folder: Path | None) -> dict[str, Any]:
    """The hits of a model's validation, as it stands in a live folder, and `of`: whose they are, if not its own; empty: none are known."""
    for each in () if folder is None else folders_of(folder, model):
        figures = figures_in(each)
        if is_of_card(figures, card_in(each)) and (hits := hits_in(figures)):
            return {"hits": hits, "of": candidate_of(figures)}
    return {}


def _figures(model: str, outcomes: Sequence[OutcomeRecord], threshold: float, parts: Parts | None) -> dict[str, Any]:
    part = [part_of(each.get("part"), parts, micros(each["prompt_ts"])) for each in outcomes]
    known = [each for each, of in zip(outcomes, part, strict=True) if each["how"] in KNOWN and of == "judge"]
    target = next((each["target"] for each in outcomes if each.get("target")), "next_user")
    if target == "reactors" and not any(each["how"] == "answered" for each in outcomes):
        known = []  # no reaction has its time, as in an export: nobody knows who reacted
    columns = columns_of(known)
    boot = Bootstrap(columns.conversation)
    times = [micros(each["prompt_ts"]) for each in outcomes]
    judged = [at for at, of in zip(times, part, strict=True) if of == "judge"]
    return {
        "model": model,
        "target": target,
        "from": ts_of(min(times)),
        "until": ts_of(max(times)),
        "judged_from": ts_of(min(judged)) if judged else None,
        "parts": dict(Counter(part).most_common()),
        "judged": len(known),
        "outcomes": dict(Counter(each["how"] for each in outcomes).most_common()),
        "judged_outcomes": dict(Counter(each["how"] for each, of in zip(outcomes, part, strict=True) if of == "judge").most_common()),
        "answered": _hits(columns, "answered", boot),
        "first_replies": _hits(columns, "first_replies", boot),
        "alerts": _alerts(columns, threshold, boot),
        "calibration": [
            {"from": row["from"], "count": row["came"].count, "said": round(row["said"], 5), "came": row["came"].as_json()}
            for row in metrics.calibration(columns, boot)
            if row["came"].count
        ],
        "weeks": _weeks([pair for pair in zip(outcomes, part, strict=True) if pair[0]["how"] == "answered"], min(judged or times)),
    }


def columns_of(known: Sequence[OutcomeRecord]) -> Outcomes:
    """Outcomes with known answers as validation has them; without scores of probabilities, since not all people are named."""
    rank = np.array([each["rank"] or 0 for each in known], np.int64)
    people = [(point, person["user"], person["p"], person["user"] in each["answer"])
              for point, each in enumerate(known) for person in each["people"]]  # fmt: skip
    none = PointScores(np.full(len(known), np.nan), np.full(len(known), np.nan), np.zeros(len(known), np.bool_))
    alerts = RankedAlerts(
        np.array([each[0] for each in people], np.int64),
        [each[1] for each in people],
        np.array([each[2] for each in people], np.float64),
        np.array([each[3] for each in people], np.bool_),
        np.array([len(each["answer"]) for each in known], np.int64),
    )
    return Outcomes(
        [each["conversation"] for each in known],
        np.array([micros(each["prompt_ts"]) for each in known], np.int64),
        np.array([each["speakers"] for each in known], np.int64),
        np.array([each["how"] == "answered" for each in known], np.bool_),
        rank, rank, none, none, alerts,
    )  # fmt: skip


def _hits(columns: Outcomes, kind: str, boot: Bootstrap) -> dict[str, dict[str, Any]]:
    """hit@1 and hit@5, as `beepgpt validate` computes them."""
    found = metrics.hits(columns, kind, boot)
    return {name: found[name].as_json() for name in ("hit@1", "hit@5") if found[name].count}


def _alerts(columns: Outcomes, threshold: float, boot: Bootstrap) -> dict[str, Any]:
    """How many of those from the threshold on answered next, and how many should have by their own probabilities."""
    at = metrics.alerts_at(columns, threshold, "all", boot)
    right = int((columns.alerts.right & (columns.alerts.p >= threshold)).sum())
    found: dict[str, Any] = {"threshold": threshold, "given": at["alerts"], "right": right}
    if at["alerts"]:
        found["precision"] = at["precision"].as_json()
        found["promised"] = round(float(columns.alerts.p[columns.alerts.p >= threshold].mean()), 5)
    return found


def _weeks(answered: Sequence[tuple[OutcomeRecord, str]], begin: int) -> list[dict[str, Any]]:
    """Hits by the week and the part of the point: those of a model that grows stale fall. Those of other parts are shown apart.

    Weeks are counted from `begin`, where judging begins, so that none has two parts of a model's time that it must be divided between.
    """
    by_week: dict[tuple[int, str], list[int]] = defaultdict(list)
    for each, part in answered:
        by_week[(micros(each["prompt_ts"]) - begin) // (7 * DAY), part].append(each["rank"] or 0)
    return [
        {
            "week": ts_of(begin + week * 7 * DAY)[:10],
            "part": part,
            "answered": len(ranks),
            "hit@1": round(sum(rank == 1 for rank in ranks) / len(ranks), 5),
            "hit@5": round(sum(0 < rank <= 5 for rank in ranks) / len(ranks), 5),
        }
        for (week, part), ranks in sorted(by_week.items(), key=lambda item: (item[0][0], ORDER.index(item[0][1])))[-WEEKS_SHOWN:]
    ]


ORDER = (UNMARKED, "fit", "choose", "judge")


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
    if body.get("part") not in (None, "fit", "choose", "judge"):
        return "part is wrong"
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
