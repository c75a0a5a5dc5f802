"""The rows of features that trees rank: a row for each candidate of a point, one for nobody, one for somebody else."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beepgpt.conversations.decay import DAY
from beepgpt.conversations.features import HOUR
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX
from beepgpt.training.points import Floats, Points

FeatureRows = NDArray[np.float32]
FittedArrays = dict[str, NDArray[Any]]
"""Arrays by feature name: `(points, candidates)`, or `(points,)`."""
Flags = NDArray[np.bool_]

OF_MOST = ("answers_180d", "first_7d", "first_60d", "hour_share", "closeness")
RANKED = ("posts_30d", "seen_hours")
OF_ALL = ("first_60d", "to_author", "closeness")
"""Features also taken relative to the point's other candidates: as a share of the largest, as a rank, as a share of the sum.
Others gained little on the tuning period and are left out (docs/experiments.md), since each costs time at every prediction."""
NEEDED = frozenset(
    {
        *OF_MOST,
        *RANKED,
        *OF_ALL,
        "in_window",
        "mentioned",
        *(f"{what}_{half_life}" for what in ("answers", "share") for half_life in ("3d", "30d", "180d")),
    }
)
"""Features that a model needs; others are used where the examples have them."""
OUTCOMES = 2
"""Rows of a point after those of its candidates: nobody, and somebody else."""
PART = 2_000
"""Points whose rows are made at a time."""
MINUTE = 60_000_000
NEVER = 1e6
"""Hours since somebody was seen who never was."""
SKIMMED = 400
"""Characters of the newest message that are searched for thanks."""
THANKS = re.compile(
    r"\b(thanks|thank you|thx|cheers|perfect|awesome|great|got it|makes sense|worked|works|solved|appreciate)", re.IGNORECASE
)


def feature_rows(points: Points) -> tuple[FeatureRows, list[str]]:
    """The rows of all points, and the names of their columns: a row for each candidate, one for nobody, one for somebody else."""
    sizes = points.sizes
    width = max(int(sizes.max(initial=0)), 1)
    inside = np.arange(width) < sizes[:, None]
    features = np.zeros((len(points), width, len(points.feature_names)), np.float32)
    features[inside] = points.features
    given = {name: features[:, :, place] for place, name in enumerate(points.feature_names)}
    seen = given["seen_hours"]
    seen[~inside | (seen < 0)] = NEVER  # also where a point has fewer candidates than `width`
    of_windows, of_people = _windows(points, width)
    columns = {**given, **_compared(given, inside), **_proportions(given), **of_people}
    whole = {**_channel(given), **of_windows, **_prompts(points), **_time(points)}
    whole["candidates"] = sizes
    whole["speakers"] = points.speakers
    whole["others_in_window"] = (given["in_window"] > 0).sum(axis=1)
    whole["named_in_newest"] = (given["mentioned"] == 1).sum(axis=1)
    whole["answers_to_author"] = _sum(given["to_author"])
    names = [*columns, *whole, "nobody", "somebody_else"]
    rows = np.full((len(points), width + OUTCOMES, len(names)), np.nan, np.float32)
    for place, values in enumerate(columns.values()):
        rows[:, :width, place] = values
    for place, values in enumerate(whole.values(), start=len(columns)):
        rows[:, :, place] = values[:, None]
    rows[:, :, -OUTCOMES:] = 0.0
    rows[:, width, -2] = 1.0
    rows[:, width + 1, -1] = 1.0
    kept = np.concatenate([inside, np.ones((len(points), OUTCOMES), np.bool_)], axis=1)
    return rows[kept], names


def _compared(given: FittedArrays, inside: Flags) -> FittedArrays:
    """Features relative to the point's other candidates."""
    found: FittedArrays = {"place": np.broadcast_to(np.arange(inside.shape[1], dtype=np.float32), inside.shape)}
    for name in OF_MOST:
        found[f"{name}_of_most"] = given[name] / np.maximum(given[name].max(axis=1, keepdims=True), 1e-4)
    for name in RANKED:
        found[f"{name}_rank"] = _rank(-given[name] if name == "seen_hours" else given[name])
    for name in OF_ALL:
        found[f"{name}_of_all"] = given[name] / np.maximum(_sum(given[name])[:, None], 1e-4)
    return found


def _rank(feature: NDArray[Any]) -> FeatureRows:
    """For each candidate, how many others have a larger value. What fills a row up is larger than nobody's."""
    values = np.ascontiguousarray(feature)
    more = values[:, None, :] > values[:, :, None]
    rank: FeatureRows = more.view(np.uint8).sum(axis=2, dtype=np.uint16).astype(np.float32)
    return rank


def _sum(feature: NDArray[Any]) -> Floats:
    """The sum over a point's candidates, exact: features have 4 decimals, and a float sum would depend on the padding."""
    exact: Floats = np.rint(feature.astype(np.float64) * 1e4).sum(axis=1) / 1e4
    return exact


def _proportions(given: FittedArrays) -> FittedArrays:
    """Ratios between a candidate's own features."""
    lately, long = given["answers_30d"], np.maximum(given["answers_180d"], 0.05)
    return {
        "first_share": given["first_60d"] / long,
        "answer_share": lately / np.maximum(given["posts_30d"], 0.05),
        "months_share": lately / long,
    }


def _channel(given: FittedArrays) -> FittedArrays:
    """The channel's activity, as far as its candidates' features show it."""
    found: FittedArrays = {}
    for half_life in ("3d", "30d", "180d"):
        share = given[f"share_{half_life}"]
        found[f"channel_{half_life}"] = np.where(share > 0.001, given[f"answers_{half_life}"] / np.maximum(share, 1e-4), 0).max(axis=1)
    share = given["share_30d"]
    found["most_share"] = share.max(axis=1)
    found["sum_share"] = _sum(share)
    found["most_first"] = given["first_60d"].max(axis=1)
    found["least_seen"] = given["seen_hours"].min(axis=1)
    return found


def _windows(points: Points, width: int) -> tuple[FittedArrays, FittedArrays]:
    """Features of the windows: `(points,)`, and `(points, candidates)`."""
    posts, ago = np.zeros((len(points), width), np.float32), np.full((len(points), width), np.nan, np.float32)
    whole = np.full((len(points), 5), np.nan)
    for point, (users, times) in enumerate(zip(points.window_user, points.window_ts, strict=True)):
        now, people = times[-1], set(users)
        pause = (now - times[-2]) / MINUTE if len(times) > 1 else np.nan
        whole[point] = len(users), len(people), pause, (now - times[0]) / MINUTE, (points.prompt_ts[point] - now) / MINUTE
        row = points.starts[point]
        for place in range(min(len(people) - 1, int(points.starts[point + 1] - row))):  # who spoke stands before the other candidates
            person = points.people[points.user[row + place]]
            if person in people:
                posts[point, place] = users.count(person)
                ago[point, place] = (now - times[len(users) - 1 - users[::-1].index(person)]) / MINUTE
    names = ("window", "people_in_window", "pause", "span", "age")
    return {name: whole[:, place] for place, name in enumerate(names)}, {"posts_in_window": posts, "ago_in_window": ago}


def _prompts(points: Points) -> FittedArrays:
    """Lengths and question marks, which work in every language, and thanks in English."""
    found = np.zeros((len(points), 4))
    for point, prompt in enumerate(points.prompt):
        last = prompt.removesuffix(SUFFIX).rpartition(SEPARATOR)[2]
        found[point] = len(prompt), len(last), "?" in last, THANKS.search(last[:SKIMMED]) is not None
    return {name: found[:, place] for place, name in enumerate(("length", "last_length", "asks", "thanks"))}


def _time(points: Points) -> FittedArrays:
    """Hour of the day and day of the week, UTC."""
    return {"hour": points.prompt_ts % DAY / HOUR, "weekday": (points.prompt_ts // DAY + 3) % 7}
