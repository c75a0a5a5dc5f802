"""Baselines that a model has to beat: rankings of people that need no training."""

from __future__ import annotations

import heapq
from collections import defaultdict

import numpy as np

from beepgpt.training.points import Examples, Points
from beepgpt.training.predictions import Predictions


def latest_other_author(points: Points) -> Predictions:
    """The window's other authors, newest first, then the channel's most active. It ignores who is named and who began."""
    back, posts = (points.features[:, points.feature_names.index(name)].astype(np.float64) for name in ("in_window", "posts_30d"))
    return _ordered(points, np.where(back > 0, 1 + 1 / np.maximum(back, 1), posts / (1 + posts)))


def decayed_count(points: Points) -> Predictions:
    """Candidates by their answers in the channel, counted with a half-life of 30 days."""
    return _ordered(points, points.features[:, points.feature_names.index("answers_30d")].astype(np.float64))


def most_frequent(train: Examples, valid: Examples, most: int = 40) -> Predictions:
    """People by their answers in the channel so far, on both sides of the cut: each answer counts from when it was known."""
    settled: list[tuple[int, str, list[str]]] = []
    for part in (train, valid):
        settled += zip(part.settled_ts.tolist(), part.points.channel, part.answers, strict=True)
    settled.sort(key=lambda each: each[0])
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    points = valid.points
    people: list[list[str]] = [[] for _ in range(len(points))]
    scores: list[list[float]] = [[] for _ in range(len(points))]
    known = 0
    for point in np.argsort(points.prompt_ts, kind="stable").tolist():
        while known < len(settled) and settled[known][0] <= points.prompt_ts[point]:
            _, channel, answer = settled[known]
            for person in answer:
                counts[channel][person] += 1
            known += 1
        so_far = counts[points.channel[point]]
        author = points.author[point]
        best = heapq.nsmallest(most, ((-count, person) for person, count in so_far.items() if person != author))
        people[point] = [person for _, person in best]
        scores[point] = [float(-count) for count, _ in best]
    starts = np.cumsum([0, *map(len, people)], dtype=np.int64)
    return Predictions(starts, [each for some in people for each in some], np.array([each for some in scores for each in some]), None, None)


def _ordered(points: Points, scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Predictions:
    return Predictions(points.starts, [points.people[user] for user in points.user], scores, None, None)
