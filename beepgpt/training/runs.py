"""A validation's record of every point, which lets runs be compared on the same conversations without their models.

Models are compared on the part of time to choose by; what the chosen one is worth is of the part that judges (law 8).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from beepgpt.conversations.rules import differing
from beepgpt.errors import BeepGPTError
from beepgpt.training import metrics
from beepgpt.training.intervals import DRAWS, Bootstrap, Figure, difference
from beepgpt.training.metrics import Outcomes, PointScores, RankedAlerts
from beepgpt.training.parts import Part
from beepgpt.training.points import Examples, Ints

FILE = "outcomes.parquet"
FORMAT = 2
THRESHOLD = 0.5
"""Probability at which alerts are compared."""
CHOSEN_BY = ("all", "log_loss")
"""The kind of points and the figure by which one of several is chosen: the least."""


class BadRun(BeepGPTError):
    """A run can't be compared; the message names it and says what to do."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class ValidationRun:
    """A validation: its predictions and what happened, for each point."""

    name: str
    folder: Path
    outcomes: Outcomes
    answers: list[list[str]]
    parts: list[str]
    """Of each point: `choose` or `judge`."""
    asked: dict[str, Any]
    """The examples' target and scope, which decide what the model was asked."""
    made_by: dict[str, Any] = field(default_factory=dict)
    """The spec of the examples, and the settings behind it where they are known; empty in runs of before."""

    def at(self, places: Ints) -> ValidationRun:
        """The run on the points at these indices, in this order."""
        answers, parts = [self.answers[each] for each in places], [self.parts[each] for each in places]
        return replace(self, outcomes=self.outcomes.at(places), answers=answers, parts=parts)

    def of(self, part: str) -> ValidationRun:
        """The run on the points of one part of time."""
        return self.at(np.flatnonzero(np.array(self.parts) == part))


def run_bytes(parts: Mapping[Part, tuple[Outcomes, Examples]], asked: Mapping[str, Any], made_by: Mapping[str, Any] | None = None) -> bytes:
    """A run's file, a row for each point of these parts of time. Probabilities below `LEAST` are left out.

    `made_by`: the `spec` of the examples, and the `settings` behind it where they are known.
    """
    table = pa.concat_tables([_table_of(part, *of) for part, of in parts.items()])
    written = io.BytesIO()
    metadata = {"beepgpt": orjson.dumps({"format": FORMAT, "asked": dict(asked), "made_by": dict(made_by or {})})}
    pq.write_table(table.replace_schema_metadata(metadata), written, compression="zstd")
    return written.getvalue()


def _table_of(part: Part, outcomes: Outcomes, valid: Examples) -> pa.Table:
    alerts = outcomes.alerts
    kept = alerts.p >= metrics.LEAST
    counts = np.bincount(alerts.point[kept], minlength=len(valid))
    starts = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    people = [person for person, stays in zip(alerts.person, kept, strict=True) if stays]
    columns: dict[str, Any] = {
        "conversation": pa.array(outcomes.conversation, pa.string()),
        "prompt_ts": outcomes.prompt_ts,
        "speakers": outcomes.speakers,
        "part": pa.array([part] * len(valid), pa.string()),
        "answer": pa.array(valid.answers, pa.list_(pa.string())),
        "rank": outcomes.rank,
        "rank_with_nobody": outcomes.rank_with_nobody,
        **{f"{name}.{part.name}": getattr(getattr(outcomes, of), part.name) for name, of in SCORES.items() for part in fields(PointScores)},
        "person": pa.ListArray.from_arrays(starts, pa.array(people, pa.string())),
        "p": pa.ListArray.from_arrays(starts, pa.array(alerts.p[kept])),
    }
    return pa.table(columns)


SCORES = {"told": "scores", "told_answered": "scores_answered"}
"""Fields of `Outcomes` by the names of their columns."""


def read_run(folder: Path, name: str) -> ValidationRun:
    """Read a run from its folder. Raises BadRun."""
    path = folder / FILE
    try:
        table = pq.read_table(path)
        metadata = orjson.loads((table.schema.metadata or {}).get(b"beepgpt", b"{}"))
    except FileNotFoundError as error:
        raise BadRun(f"{folder}: is no run ({FILE} is missing): beepgpt validate DIR --model {folder}") from error
    except (pa.ArrowException, OSError, orjson.JSONDecodeError) as error:
        raise BadRun(f"{path} can't be read ({type(error).__name__}): validate the model again") from error
    if metadata.get("format") != FORMAT:
        raise BadRun(f"{path}: was written by another version of beepgpt: validate the model again")
    answers: list[list[str]] = table["answer"].to_pylist()
    people: list[list[str]] = table["person"].to_pylist()
    p: list[list[float]] = table["p"].to_pylist()
    point = np.repeat(np.arange(len(table)), [len(each) for each in people])
    person = [name for each in people for name in each]
    right = np.array([name in answers[at] for name, at in zip(person, point, strict=True)], np.bool_)
    count = np.array([len(answer) for answer in answers], np.int64)
    alerts = RankedAlerts(point, person, np.array([each for row in p for each in row], np.float64), right, count)
    scores = {each: PointScores(*(table[f"{each}.{part.name}"].to_numpy() for part in fields(PointScores))) for each in SCORES}
    outcomes = Outcomes(
        conversation=table["conversation"].to_pylist(),
        prompt_ts=table["prompt_ts"].to_numpy(),
        speakers=table["speakers"].to_numpy(),
        answered=count > 0,
        rank=table["rank"].to_numpy(),
        rank_with_nobody=table["rank_with_nobody"].to_numpy(),
        scores=scores["told"],
        scores_answered=scores["told_answered"],
        alerts=alerts,
    )
    return ValidationRun(name, folder, outcomes, answers, table["part"].to_pylist(), metadata["asked"], metadata.get("made_by", {}))


def on_the_same_points(runs: Sequence[ValidationRun]) -> tuple[list[ValidationRun], int]:
    """The runs on the points that they have in common, in one order, and how many points of the largest are left out. Raises BadRun.

    A point by which one of them may be chosen, and by which another is judged, is none of these.
    """
    first = runs[0]
    for other in runs[1:]:
        if other.asked != first.asked:
            raise BadRun(
                f"{other.folder} was asked {_question(other.asked)}, and {first.folder} {_question(first.asked)}: that can't be compared"
            )
        if (how := _other_settings(other, first)) is not None:
            raise BadRun(
                f"{other.folder} and {first.folder} are of examples that were made by other settings ({how}), so other answers count:"
                " validate both on one training set"
            )
    places = [
        {point: place for place, point in enumerate(zip(each.conversation, each.prompt_ts.tolist(), run.parts, strict=True))}
        for run in runs
        for each in [run.outcomes]
    ]
    common = [point for point in places[0] if all(point in each for each in places[1:])]
    if not common:
        raise BadRun(f"{runs[-1].folder} and {first.folder} have no point in common: validate them on the same training set")
    aligned = [run.at(np.array([each[point] for point in common], np.int64)) for run, each in zip(runs, places, strict=True)]
    for other in aligned[1:]:
        if wrong := sum(one != another for one, another in zip(aligned[0].answers, other.answers, strict=True)):
            raise BadRun(
                f"{other.folder} and {first.folder} differ in what happened at {wrong:,} of their points (were they labeled otherwise?):"
                " validate them on the same training set"
            )
    return aligned, max(len(run.answers) for run in runs) - len(common)


def side_by_side(runs: Sequence[ValidationRun]) -> dict[str, Any]:
    """Each figure of each run in the part to choose by, and its difference from the first's, by the same draws of the same conversations.

    `chosen`: the best of them there, and its figures in the part that judges. Raises BadRun.
    """
    aligned, left_out = on_the_same_points(runs)
    choosing = [run.of("choose") for run in aligned]
    if not choosing[0].parts:
        raise BadRun(
            f"{runs[-1].folder} and {runs[0].folder} have no point to choose by in common: prepare the training set with a smaller"
            " --judge-share, or with more examples, and validate both on it"
        )
    boot = Bootstrap(choosing[0].outcomes.conversation)
    kinds: dict[str, Any] = {}
    for kind in metrics.KINDS:
        figures = [figures_of(run.outcomes, kind, boot) for run in choosing]
        kinds[kind] = {
            name: [
                {
                    "figure": each[name].as_json(),
                    "difference": None if place == 0 else difference(figures[0][name], each[name]).as_json(),
                }
                for place, each in enumerate(figures)
            ]
            for name in figures[0]
        }
    kind, name = CHOSEN_BY
    best = min(range(len(runs)), key=lambda place: kinds[kind][name][place]["figure"]["value"])
    judging = aligned[best].of("judge")
    judges = Bootstrap(judging.outcomes.conversation)
    worth = {
        kind: {name: each.as_json() for name, each in figures_of(judging.outcomes, kind, judges).items()}
        for kind in (metrics.KINDS if judging.parts else ())
    }
    return {
        "runs": [{"name": run.name, "folder": str(run.folder)} for run in aligned],
        "asked": aligned[0].asked,
        "points": len(choosing[0].parts),
        "points_left_out": left_out,
        "draws": DRAWS,
        "kinds": kinds,
        "chosen": {"run": best, "by": f"{name}, {kind}", "points": len(judging.parts), "kinds": worth},
    }


def figures_of(outcomes: Outcomes, kind: str, boot: Bootstrap) -> dict[str, Figure]:
    """The figures of a run that are compared."""
    alerts = metrics.alerts_at(outcomes, THRESHOLD, kind, boot)
    of_alerts = {"alert_precision": alerts["precision"], "alert_recall": alerts["recall"]}
    return metrics.hits(outcomes, kind, boot) | metrics.losses(outcomes, kind, boot) | of_alerts


def _other_settings(there: ValidationRun, here: ValidationRun) -> str | None:
    """How the settings behind two runs' examples differ; None if they don't, or one of them is not known."""
    theirs, ours = there.made_by.get("spec"), here.made_by.get("spec")
    if not theirs or not ours or theirs == ours:
        return None
    return differing(theirs, ours, there.made_by.get("settings"), here.made_by.get("settings"))


def _question(asked: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} {value}" for name, value in asked.items()) or "nothing known"
