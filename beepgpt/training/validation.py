"""A validation: a model's figures beside those of other models and of baselines, which need no training, and a dozen examples."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.outcomes import RIGHT
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX
from beepgpt.errors import BadCommand
from beepgpt.training import metrics
from beepgpt.training.folder import MANIFEST, TRAIN, VALID, names_of
from beepgpt.training.intervals import DRAWS, Bootstrap, Figure
from beepgpt.training.metrics import Outcomes
from beepgpt.training.models import Trained, hash_of
from beepgpt.training.parts import Parts, parts_of
from beepgpt.training.points import Examples, Model, Points, Predictions, read_examples
from beepgpt.training.runs import run_bytes
from beepgpt.training.splits import SplitOptions, begin_of_last


def latest_other_author(points: Points) -> Predictions:
    """The window's other authors, newest first, then the channel's most active. It ignores who is named and who began."""
    back, posts = (points.features[:, points.feature_names.index(name)].astype(np.float64) for name in ("in_window", "posts_30d"))
    return _ordered(points, np.where(back > 0, 1 + 1 / np.maximum(back, 1), posts / (1 + posts)))


def decayed_count(points: Points) -> Predictions:
    """Candidates by their answers in the channel, counted with a half-life of 30 days."""
    return _ordered(points, points.features[:, points.feature_names.index("answers_30d")].astype(np.float64))


def most_frequent(past: Sequence[Examples], valid: Examples, most: int = 40) -> Predictions:
    """People by their answers in the channel so far, in all parts of time: each answer counts from when it was known."""
    settled: list[tuple[int, str, list[str]]] = []
    for part in (*past, valid):
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


NO_MODELS: Mapping[str, Model] = {}
SEEN = ((0, "never"), (1, "1–4"), (5, "5–19"), (20, "20–99"), (100, "100 or more"))
"""Groups by how often the answerer had answered on the training side: the least number, and the group's name."""
OF_EACH = 6
"""Examples that are shown where the likeliest person answered, and as many where not."""
SHOWN_PEOPLE = 5
LONGEST = 1_500
"""Characters of a message on the page."""


@dataclass(frozen=True, slots=True)
class ShownExample:
    """An example with its prediction, for a person to read."""

    when: str
    channel: str
    messages: list[str]
    answer: list[str]
    people: list[tuple[str, float]]
    nobody: float
    other: float
    right: bool


class ValidatedModel(NamedTuple):
    """The result of a validation."""

    figures: dict[str, Any]
    """The content of metrics.json."""
    examples: list[ShownExample]
    run: bytes
    """The content of outcomes.parquet, for `beepgpt compare`."""


def validate_models(
    folder: Path, models: Sequence[Trained], *, precisions: Sequence[float], own: Mapping[str, Model] = NO_MODELS
) -> ValidatedModel:
    """Judge the first model on the last part of a training set's time, beside the others and the baselines.

    `own`: more of them, by name, that were made elsewhere; their predictions may be mere scores.
    `precisions`: of those named; the threshold that reaches the first of them that any threshold reaches is chosen on the part before.
    Raises BadCommand if a model was trained on another set, or nothing is left to judge by; BadTable; OtherFeatures.
    """
    manifest = (folder / MANIFEST).read_bytes()
    for each in models:
        if each.card["manifest"] != hash_of(manifest):
            raise BadCommand(f"{each.folder}: was trained on another training set than {folder}, and may have seen what would judge it")
    train, valid = (read_examples(folder / name, as_happened=True) for name in (TRAIN, VALID))
    parsed = orjson.loads(manifest)
    parts = parts_of(parsed) or Parts(micros(parsed["cut"]), begin_of_last(valid.points.prompt_ts, SplitOptions.judge_share, 0))
    assert parts.judge_from is not None
    for each in models:
        if (fitted := parts_of(each.card)) is not None and fitted.choose_from > parts.choose_from:
            raise BadCommand(f"{each.folder}: was fitted on points that would judge it, as a retrained model is: judge its candidate")
    later = len(valid)
    early = np.flatnonzero((valid.points.prompt_ts < parts.judge_from) & (valid.settled_ts < parts.judge_from))
    choose, valid = valid.at(early), valid.at(np.flatnonzero(valid.points.prompt_ts >= parts.judge_from))
    if not len(valid):
        raise BadCommand(f"{folder}: no example is left to judge by: prepare it again with an earlier cut")
    names = names_of([each.folder for each in models])
    asked = {**dict(zip(names, [each.model for each in models], strict=True)), **own}
    if len(asked) < len(models) + len(own):
        raise BadCommand(f"{', '.join(own)}: has the name of another model beside it: give it one of its own")
    predictions, choosing = ({name: each.predict(part.points) for name, each in asked.items()} for part in (valid, choose))
    chosen_by = choosing[names[0]]
    known = metrics.outcomes_of(chosen_by, choose)
    early_figures = figures_to_choose_by({**choosing, **baselines((train,), choose)}, choose)
    found, outcomes = judge({**predictions, **baselines((train, choose), valid)}, train, valid, known, precisions=precisions)
    cut = datetime.fromtimestamp(parts.judge_from / 1e6, UTC)
    card = {name: value for name, value in models[0].card.items() if name not in ("files", "labels")}
    examples = parsed.get("examples", {})
    question, made_by = ({name: examples[name] for name in of if name in examples} for of in (("target", "scope"), ("spec", "settings")))
    return ValidatedModel(
        {
            "cut": f"{cut:%Y-%m-%d %H:%M:%S} UTC",
            "parts": parts.as_json(),
            "right": RIGHT,
            "not_judged": _not_judged(parsed),
            "between": later - len(choose) - len(valid),
            "model": card,
            **found,
            "choose": early_figures,
        },
        some_examples(outcomes, predictions[names[0]], valid),
        run_bytes({"choose": (known, choose), "judge": (outcomes, valid)}, question, made_by),
    )


def _not_judged(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Points that the settings of a training set leave out on both sides, by reason: a live model is asked about those, too."""
    left_out = manifest.get("account", {}).get("left_out", {})
    return {reason: left_out[reason] for reason in ("silence", "weak") if left_out.get(reason)}


def baselines(past: Sequence[Examples], valid: Examples) -> dict[str, Predictions]:
    """Predictions of the rules that need no training, by name. `past`: the examples before."""
    return {
        "who wrote last in the conversation": latest_other_author(valid.points),
        "who answered most lately": decayed_count(valid.points),
        "who answers most in the channel": most_frequent(past, valid),
    }


def judge(
    predictions: Mapping[str, Predictions], train: Examples, valid: Examples, known: Outcomes, *, precisions: Sequence[float]
) -> tuple[dict[str, Any], Outcomes]:
    """The figures of metrics.json, and the outcomes of the first model, which the others are compared with.

    `valid`: what judges. `known`: the first model's outcomes of the part before, on which a threshold is chosen.
    """
    boot = Bootstrap(valid.points.conversation)
    outcomes = {name: metrics.outcomes_of(each, valid) for name, each in predictions.items()}
    ours, first = next(iter(outcomes.items()))[1], next(iter(predictions.values()))
    assert first.nobody is not None, "a model predicts probabilities"
    found: dict[str, Any] = {
        "points": len(valid),
        "answered": int(ours.answered.sum()),
        "people": len({person for answer in valid.answers for person in answer}),
        "judged_until": ts_text(int(valid.points.prompt_ts.max())) if len(valid) else None,
        "draws": DRAWS,
        "chosen_on": len(known.rank),
        "columns": ["hit@1", "hit@3", "hit@5", "mrr", "log_loss", "calibration_error"],
        "rows": _rows(predictions, outcomes, boot),
        "alerts": {kind: [_rounded(metrics.alerts_at(ours, each, kind, boot)) for each in metrics.THRESHOLDS] for kind in metrics.KINDS},
        "threshold": _chosen(known, ours, precisions, boot),
        "silences": {kind: _said_and_came(metrics.silences(first.nobody, ours, kind, boot)) for kind in metrics.WITH_SILENCES},
        "spread": {count: _rounded(each) for count, each in metrics.spread(ours).items()},
        "calibration": [_said_and_came(row) for row in metrics.calibration(ours, boot)],
        "groups": {
            "people_seen": _groups(ours, _people_seen(train, valid), [name for _, name in SEEN], boot),
            "length": _groups(ours, [str(len(window)) for window in valid.points.window_ts], None, boot),
            "month": _groups(ours, [_when(ts)[:7] for ts in valid.points.prompt_ts], None, boot),
        },
    }
    return found, ours


def figures_to_choose_by(predictions: Mapping[str, Predictions], choose: Examples) -> dict[str, Any]:
    """The figures in the part to choose by: a model beside another is chosen by these (law 8). The first prediction is the model's."""
    boot = Bootstrap(choose.points.conversation)
    outcomes = {name: metrics.outcomes_of(each, choose) for name, each in predictions.items()}
    ours = next(iter(outcomes.values()))
    return {
        "points": len(choose),
        "answered": int(ours.answered.sum()),
        "rows": _rows(predictions, outcomes, boot),
        "alerts": {"all": [_rounded(metrics.alerts_at(ours, each, "all", boot)) for each in metrics.THRESHOLDS]},
    }


def _rows(predictions: Mapping[str, Predictions], outcomes: Mapping[str, Outcomes], boot: Bootstrap) -> dict[str, list[dict[str, Any]]]:
    """Each kind of points with the figures of each prediction, by its name."""
    return {
        kind: [
            {
                "name": name,
                "figures": _json(
                    metrics.hits(each, kind, boot) | (metrics.losses(each, kind, boot) if predictions[name].are_probabilities else {})
                ),
            }
            for name, each in outcomes.items()
            if kind not in metrics.WITH_SILENCES or predictions[name].are_probabilities
        ]
        for kind in metrics.KINDS
    }


def some_examples(outcomes: Outcomes, predictions: Predictions, valid: Examples) -> list[ShownExample]:
    """Some first replies where the likeliest person answered, and some where not: chosen by id, so that nobody picks the nice ones."""
    among = metrics.KINDS["first_replies"](outcomes)
    shown = []
    for right in (True, False):
        points = [point for point in np.flatnonzero(among).tolist() if (outcomes.rank[point] == 1) == right]
        shown += [_shown(point, right, predictions, valid) for point in sorted(points, key=lambda each: valid.ids[each])[:OF_EACH]]
    return shown


def _shown(point: int, right: bool, predictions: Predictions, valid: Examples) -> ShownExample:
    prediction = predictions.of(point)
    messages = valid.points.prompt[point].removesuffix(SUFFIX).split(SEPARATOR)
    return ShownExample(
        when=_when(valid.points.prompt_ts[point]),
        channel=valid.points.channel[point],
        messages=[message if len(message) <= LONGEST else message[:LONGEST] + " …" for message in messages],
        answer=valid.answers[point],
        people=prediction.people[:SHOWN_PEOPLE],
        nobody=prediction.nobody,
        other=prediction.other,
        right=right,
    )


def _people_seen(train: Examples, valid: Examples) -> list[str]:
    """The group in `SEEN` of each answer; of several people the one with the most training answers counts."""
    given = Counter(person for answer in train.answers for person in answer)
    most = [max((given[person] for person in answer), default=0) for answer in valid.answers]
    return [next(name for least, name in reversed(SEEN) if count >= least) for count in most]


def _groups(outcomes: Outcomes, groups: Sequence[str], order: Sequence[str] | None, boot: Bootstrap) -> dict[str, dict[str, Any]]:
    found = metrics.by_group(outcomes, groups, "answered", boot)
    return {name: _json(found[name]) for name in order or sorted(found) if name in found}


def _chosen(known: Outcomes, outcomes: Outcomes, precisions: Sequence[float], boot: Bootstrap) -> dict[str, Any] | None:
    """The threshold that the part to choose by finds, its figures in the part that judges, and those by which it was chosen (`before`)."""
    reached = ((each, metrics.threshold_for(known, each)) for each in precisions)
    precision, threshold = next((pair for pair in reached if pair[1] is not None), (None, None))
    if threshold is None:
        return None
    before = metrics.alerts_at(known, threshold, "all", Bootstrap(known.conversation))
    return {"wanted": precision, **_rounded(metrics.alerts_at(outcomes, threshold, "all", boot)), "before": _rounded(before)}


def _said_and_came(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "came": row["came"].as_json(), "said": _or_none(row["said"])}


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
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
