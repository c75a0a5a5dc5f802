"""Points with their candidates, as columns: the input of models, from a training set's table or from single points; and predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beepgpt.conversations.events import micros
from beepgpt.errors import BeepGPTError
from beepgpt.training.folder import checked
from beepgpt.training.formats import CANDIDATES_, TIME, microseconds

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class BadTable(BeepGPTError):
    """A table of candidates can't be used; the message names it and says what to do."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Points:
    """Points as columns. The candidates of point i are rows `starts[i]` to `starts[i + 1]` of `user` and `features`."""

    conversation: list[str]
    channel: list[str]
    author: list[str]
    """Of each point's newest message."""
    prompt: list[str]
    prompt_ts: Ints
    """Microseconds, as all times here."""
    speakers: Ints
    window_ts: list[list[int]]
    window_user: list[list[str]]
    people: list[str]
    """Everybody who is a candidate of any point."""
    starts: Ints
    user: NDArray[np.int32]
    """Candidates, as indices into `people`."""
    features: NDArray[np.float32]
    """A row for each candidate, a column for each feature."""
    feature_names: tuple[str, ...]
    """Column names of `features`, as in beepgpt/conversations/features.py."""

    def __len__(self) -> int:
        return len(self.channel)

    @property
    def sizes(self) -> Ints:
        """The number of candidates of each point."""
        return np.diff(self.starts)

    def candidates(self, point: int) -> list[str]:
        """The candidates of one point, in their order."""
        return [self.people[user] for user in self.user[self.starts[point] : self.starts[point + 1]]]

    def at(self, places: Ints) -> Points:
        """The points at these indices, in this order."""
        sizes = self.sizes[places]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.repeat(self.starts[:-1][places] - starts[:-1], sizes) + np.arange(starts[-1])
        return Points(
            [self.conversation[each] for each in places], [self.channel[each] for each in places], [self.author[each] for each in places],
            [self.prompt[each] for each in places], self.prompt_ts[places], self.speakers[places],
            [self.window_ts[each] for each in places], [self.window_user[each] for each in places],
            self.people, starts, self.user[rows], self.features[rows], self.feature_names,
        )  # fmt: skip

    def parts(self, size: int) -> Iterator[Points]:
        """Consecutive blocks of at most `size` points."""
        if len(self) <= size:
            yield self
            return
        for first in range(0, len(self), size):
            yield self.at(np.arange(first, min(first + size, len(self))))


@dataclass(frozen=True, slots=True)
class Examples:
    """Points with their answers."""

    points: Points
    ids: list[str]
    answers: list[list[str]]
    """Empty: nobody; to learn from, nothing worth an answer (a weak signal), too."""
    settled_ts: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, places: Ints) -> Examples:
        """The examples at these indices, in this order."""
        return Examples(
            self.points.at(places), [self.ids[each] for each in places], [self.answers[each] for each in places], self.settled_ts[places]
        )

    def by_settled(self) -> Examples:
        """Sorted by the time at which the answer was known."""
        order = np.argsort(self.settled_ts, kind="stable")
        return self if (order[1:] > order[:-1]).all() else self.at(order)


def points_of(bodies: Sequence[Mapping[str, Any]]) -> Points:
    """Points from the JSON of points or examples; fields that were known later are not read.

    >>> point = {"conversation": "C1:1.0:thread", "channel": "C1", "speakers": 1, "prompt_ts": "1690360240.229079",
    ...          "prompt": "red?", "window": [{"ts": "1690360240.229079", "user": "ana"}],
    ...          "candidates": {"user": ["bo"], "in_window": [0], "closeness": [0.5]}}
    >>> points = points_of([point])
    >>> points.candidates(0), points.feature_names, points.features
    (['bo'], ('in_window', 'closeness'), array([[0. , 0.5]], dtype=float32))
    """
    found: dict[str, int] = {}
    user: list[int] = []
    starts = [0]
    for each in bodies:
        user += [found.setdefault(name, len(found)) for name in each["candidates"]["user"]]
        starts.append(len(user))
    names = tuple(name for name in bodies[0]["candidates"] if name != "user") if bodies else ()
    columns = [np.array(list(chain.from_iterable([each["candidates"][name] for each in bodies])), np.float32) for name in names]
    return Points(
        conversation=[each["conversation"] if "conversation" in each else each["conversations"][0] for each in bodies],
        channel=[each["channel"] for each in bodies],
        author=[each["window"][-1]["user"] for each in bodies],
        prompt=[each["prompt"] for each in bodies],
        prompt_ts=np.array([micros(each["prompt_ts"]) for each in bodies], np.int64),
        speakers=np.array([each["speakers"] for each in bodies], np.int64),
        window_ts=[[micros(message["ts"]) for message in each["window"]] for each in bodies],
        window_user=[[message["user"] for message in each["window"]] for each in bodies],
        people=list(found),
        starts=np.array(starts, np.int64),
        user=np.array(user, np.int32),
        features=np.stack(columns, axis=1) if names else np.zeros((len(user), 0), np.float32),
        feature_names=names,
    )


def examples_of(bodies: Sequence[Mapping[str, Any]]) -> Examples:
    """Examples from their JSON, with who answered, whatever labels say."""
    answers = [list(each["answer"]) for each in bodies]
    settled = np.array([micros(each["settled_ts"]) for each in bodies], np.int64)
    return Examples(points_of(bodies), [each["id"] for each in bodies], answers, settled)


COLUMNS = (
    "id", "conversation", "channel", "author", "prompt", "prompt_ts", "settled_ts", "speakers",
    "window_ts", "window_user", "answer", "signal", f"{CANDIDATES_}user",
)  # fmt: skip
"""Columns that a table must have; its features are the other columns of candidates."""


def read_examples(*paths: Path, as_happened: bool = False) -> Examples:
    """Read tables of candidates that `beepgpt prepare` wrote, one after the other. Raises BadTable; BadSet if one isn't what was prepared.

    `as_happened`: with who answered, whatever labels say, as outcomes have it: to judge by. Else a weak signal is no answer: to learn from.
    """
    return examples_in(pa.concat_tables([_read_table(checked(path)) for path in paths]), as_happened=as_happened)


def examples_in(table: pa.Table, *, as_happened: bool) -> Examples:
    """The examples of a table of candidates."""
    table = table.combine_chunks()
    names = tuple(name.removeprefix(CANDIDATES_) for name in table.column_names if name.startswith(CANDIDATES_) and name not in COLUMNS)
    users = _flat(table, f"{CANDIDATES_}user")
    known = pc.dictionary_encode(users.values)
    features = [np.asarray(_flat(table, f"{CANDIDATES_}{name}").values, np.float32) for name in names]
    points = Points(
        conversation=table["conversation"].to_pylist(),
        channel=table["channel"].to_pylist(),
        author=table["author"].to_pylist(),
        prompt=table["prompt"].to_pylist(),
        prompt_ts=np.asarray(microseconds(table["prompt_ts"]), np.int64),
        speakers=np.asarray(table["speakers"], np.int64),
        window_ts=microseconds(table["window_ts"]).to_pylist(),
        window_user=table["window_user"].to_pylist(),
        people=known.dictionary.to_pylist(),
        starts=np.asarray(users.offsets, np.int64),
        user=np.asarray(known.indices, np.int32),
        features=np.stack(features, axis=1) if features else np.zeros((len(users.values), 0), np.float32),
        feature_names=names,
    )
    answered = zip(table["answer"].to_pylist(), table["signal"].to_pylist(), strict=True)
    answers = [[] if signal == "weak" and not as_happened else answer for answer, signal in answered]
    return Examples(points, table["id"].to_pylist(), answers, np.asarray(microseconds(table["settled_ts"]), np.int64))


ROW_COLUMNS = ("id", "conversation", "channel", "author", "prompt_ts", "speakers", "answered", "user")
"""The columns of `candidate_rows` beside the features."""


def candidate_rows(points: Points, examples: Examples | None = None) -> pa.Table:
    """A row for each candidate; with who answered, if `examples` of these points are given."""
    of = np.repeat(np.arange(len(points)), points.sizes)
    users = [points.people[user] for user in points.user]
    columns: dict[str, Any] = {
        "conversation": pa.array(points.conversation, pa.string()).take(of),
        "channel": pa.array(points.channel, pa.string()).take(of),
        "author": pa.array(points.author, pa.string()).take(of),
        "prompt_ts": pa.array(points.prompt_ts[of]).cast(TIME),
        "speakers": pa.array(points.speakers[of]),
        "user": pa.array(users, pa.string()),
        **{name: pa.array(values) for name, values in zip(points.feature_names, points.features.T, strict=True)},
    }
    if examples is not None:
        columns["id"] = pa.array(examples.ids, pa.string()).take(of)
        columns["answered"] = pa.array([user in examples.answers[point] for point, user in zip(of, users, strict=True)], pa.bool_())
    return pa.table({name: columns[name] for name in (*ROW_COLUMNS, *points.feature_names) if name in columns})


def _read_table(path: Path) -> pa.Table:
    """The columns of a table that points are made of."""
    try:
        schema = pq.read_schema(path)
        if missing := [name for name in COLUMNS if name not in schema.names]:
            raise BadTable(f"{path}: the column {missing[0]} is missing: make it again with this version's beepgpt prepare")
        return pq.read_table(path, columns=[name for name in schema.names if name in COLUMNS or name.startswith(CANDIDATES_)])
    except FileNotFoundError as error:
        raise BadTable(f"{path} is missing: make it with beepgpt prepare SOURCE --to {path.parent} --format candidates") from error
    except (pa.ArrowException, OSError) as error:
        raise BadTable(f"{path} is no table of candidates ({type(error).__name__}): make it again with beepgpt prepare") from error


def _flat(table: pa.Table, name: str) -> pa.ListArray:
    """A column of lists as one array, whose values start at offset 0."""
    column = table[name].combine_chunks()
    whole = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    return pa.ListArray.from_arrays(pc.subtract(whole.offsets, whole.offsets[0]), whole.flatten())


class OtherFeatures(BeepGPTError):
    """The points have other features than those a model was fitted on; the message says what to do."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Prediction:
    """Probabilities of one point's outcomes; they sum to 1."""

    people: list[tuple[str, float]]
    """Sorted by probability, largest first."""
    nobody: float
    other: float
    """Of anybody else."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions as columns. The people of point i are rows `starts[i]` to `starts[i + 1]` of `people` and `p`."""

    starts: Ints
    people: list[str]
    p: Floats
    """Probabilities; any increasing score if `nobody` is None."""
    nobody: Floats | None
    other: Floats | None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def are_probabilities(self) -> bool:
        """Whether `p` holds probabilities, and not just scores to rank by."""
        return self.nobody is not None

    def of(self, point: int) -> Prediction:
        """The prediction of one point. Raises ValueError if these are no probabilities."""
        if self.nobody is None or self.other is None:
            raise ValueError("an order of people is no prediction")
        first, end = int(self.starts[point]), int(self.starts[point + 1])
        order = first + np.argsort(-self.p[first:end], kind="stable")
        return Prediction([(self.people[row], float(self.p[row])) for row in order], float(self.nobody[point]), float(self.other[point]))


class Model(Protocol):
    """Predicts who answers."""

    def predict(self, points: Points) -> Predictions:
        """Probabilities of people, of nobody and of somebody else for each point."""
