"""The file formats of a training set: chats, prompts with completions, the table of candidates, examples; and the rules of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from beepgpt.conversations.events import micros
from beepgpt.conversations.record_fields import CANDIDATES, LABELED, WINDOW, RecordField
from beepgpt.conversations.tokens import Encoding
from beepgpt.training.checks import (
    MAX_COMPLETION_PREFIX,
    MAX_PREFIX,
    MOST_LABELS,
    NIL,
    OTHER,
    WEAK,
    Broken,
    CannotPrepare,
    CommonPrefix,
    takes_leading_space,
)

Format = Literal["chat", "completion", "candidates", "examples"]
FORMATS: tuple[Format, ...] = get_args(Format)
Side = Literal["train", "valid"]
SIDES: tuple[Side, ...] = get_args(Side)
Answers = Literal["one", "each", "all"]
"""Of several people who answered: one of them by the example's id, a row for each, or all in one completion."""

ROWS = 1_000
"""Rows of a table that are written at a time."""
CHAT_TOKENS = 11
"""What the form of a chat adds to a row: three for each message and one for its role, three for the answer's beginning."""


# Labels


class Labels:
    """People's labels in completions: numbers fitted on the training side alone, or `other`.

    >>> labels = Labels({"ana": 5, "bo": 1, "cy": 9}, min_answers=2)
    >>> labels.of("ana"), labels.of("bo"), labels.of("cy"), labels.of("never seen")
    ('0', 'other', '1', 'other')
    """

    def __init__(self, answers: Mapping[str, int], min_answers: int, weak: str | None = None) -> None:
        """`answers`: how many of the training side each person has; `weak`: the label of a weak signal, if there are any."""
        enough = sorted((user for user, count in answers.items() if count >= min_answers), key=lambda user: (-answers[user], user))
        self.others = sum(0 < count < min_answers for count in answers.values())
        """People of the training side with too few answers."""
        self.too_many = len(enough[MOST_LABELS:])
        """People with enough answers for whom no single token is left: those with the fewest."""
        self.people = {user: str(number) for number, user in enumerate(sorted(enough[:MOST_LABELS]))}
        """Each person's label, as scikit-learn's `LabelEncoder` gives them, whose import takes as long as a small set."""
        self.answers = {user: answers[user] for user in self.people}
        self.weak = weak

    def of(self, user: str) -> str:
        """A person's label; `other` if they have none."""
        return self.people.get(user, OTHER)

    def completions(self, identity: bytes, answer: Sequence[str], answers: Answers) -> list[str]:
        """The completions of an example: several for `each`; `nil` for nobody."""
        if not answer:
            return [NIL]
        if answers == "one":
            return [self.of(answer[drawn(identity, len(answer))])]
        found = sorted({self.of(user) for user in answer}, key=lambda label: (label == OTHER, len(label), label))
        return found if answers == "each" else [" ".join(found)]

    def as_json(self) -> dict[str, Any]:
        """The content of labels.json."""
        people = [{"label": label, "user": user, "answers": self.answers[user]} for user, label in self.people.items()]
        weak = {} if self.weak is None else {"weak": self.weak}
        return {"people": people, "nil": NIL, "other": OTHER, **weak, "others": self.others + self.too_many}

    def written(self) -> list[str]:
        """All labels that rows may have."""
        return [*self.people.values(), NIL, OTHER, *([] if self.weak in (None, NIL) else [str(self.weak)])]


def drawn(identity: bytes, count: int) -> int:
    """An index below `count`, drawn by an example's id: the same in every run."""
    return int.from_bytes(identity[:8], "big") % count


# Files


class _Lines:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, body: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))


class Chats(_Lines):
    """Chats: the prompt is the user's message, the label the assistant's, and only that has a weight."""

    def __init__(self, path: Path, system: str = "") -> None:
        super().__init__(path)
        self._system = [{"role": "system", "content": system}] if system else []

    def write(self, prompt: str, completion: str) -> None:
        """Append a row."""
        answer = {"role": "assistant", "content": completion, "weight": 1}
        self._write({"messages": [*self._system, {"role": "user", "content": prompt}, answer]})


class Completions(_Lines):
    """Prompts with completions, for completion models and other tools."""

    def __init__(self, path: Path, space: str = "") -> None:
        super().__init__(path)
        self._space = space

    def write(self, prompt: str, completion: str) -> None:
        """Append a row."""
        self._write({"prompt": prompt, "completion": self._space + completion})


TextRowsFile = Chats | Completions
"""A file of rows, one for each prompt and completion."""

CANDIDATES_ = "candidates_"
"""What the names of the candidates' columns begin with."""
TIME = pa.timestamp("us", tz="UTC")
_ABOUT = {each.name: each.about for each in (*LABELED, RecordField("author", "text", "Who wrote the newest message."))} | {
    **{f"window_{each.name}": f"The messages of the prompt, oldest first. {each.about}" for each in WINDOW},
    **{f"{CANDIDATES_}{each.name}": each.about for each in CANDIDATES},
}
"""What the columns mean, which are named as in tables of examples."""


def _column(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, metadata={"description": _ABOUT.get(name, "A feature of the candidates.")})


COLUMNS = {
    name: _column(name, kind)
    for name, kind in {
        "id": pa.string(),
        "conversation": pa.string(),
        "channel": pa.string(),
        "prompt_ts": TIME,
        "settled_ts": TIME,
        "speakers": pa.int64(),
        "author": pa.string(),
        "window_ts": pa.list_(TIME),
        "window_user": pa.list_(pa.string()),
        "answer": pa.list_(pa.string()),
        "signal": pa.string(),
        "signal_p": pa.float64(),
        "prompt": pa.string(),
        "prompt_tokens": pa.int64(),
        f"{CANDIDATES_}user": pa.list_(pa.string()),
    }.items()
}
"""By name. A column for each feature of candidates follows, of 32-bit floats, as models take them."""


def microseconds(column: Any) -> Any:
    """A column of times, or of lists of them, as whole microseconds since 1970; any other as it is."""
    if column.type == TIME:
        return column.cast(pa.int64())
    is_list = pa.types.is_list(column.type) and column.type.value_type == TIME
    return column.cast(pa.list_(pa.int64())) if is_list else column


class CandidateTable:
    """Parquet for the local model: a row for each example, a list for each feature, written `ROWS` rows at a time."""

    def __init__(self, path: Path, features: Sequence[str]) -> None:
        """`features`: names of the candidates' features, as in the examples."""
        self._features = list(features)
        named = [_column(f"{CANDIDATES_}{name}", pa.list_(pa.float32())) for name in features]
        self._schema = pa.schema([*COLUMNS.values(), *named])
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, body: Mapping[str, Any]) -> None:
        """Append an example. Raises CannotPrepare if it has other features than the table."""
        candidates = body["candidates"]
        if candidates.keys() != {"user", *self._features}:
            raise CannotPrepare(f"example {body['id']} has other features of its candidates than the first one: make the examples again")
        row = {
            **{name: body.get(name) for name in COLUMNS},
            "prompt_ts": micros(body["prompt_ts"]),
            "settled_ts": micros(body["settled_ts"]),
            "author": body["window"][-1]["user"],
            "window_ts": [micros(each["ts"]) for each in body["window"]],
            "window_user": [each["user"] for each in body["window"]],
            **{f"{CANDIDATES_}{name}": values for name, values in candidates.items()},
        }
        for name, column in self._columns.items():
            column.append(row[name])
        if len(self._columns["id"]) == ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._columns["id"]:
            self._writer.write_batch(pa.record_batch(self._columns, schema=self._schema))
            self._columns = {name: [] for name in self._schema.names}


RULES = ("duplicate_rows", "long_rows", "too_many_tokens", "common_prompt_prefix", "no_leading_space", "common_completion_prefix")
"""Rules about rows; those about lines are faults (checks.py)."""


@dataclass(kw_only=True)
class TextRows:
    """Writes the rows of a training set, one side after the other, and counts rows, tokens and broken rules."""

    labels: Labels
    encoding: Encoding
    answers: Answers
    is_chat: bool
    max_tokens: int | None
    max_characters: int | None
    system: str = ""

    def __post_init__(self) -> None:
        system_tokens = 4 + len(self.encoding.encode_ordinary(self.system)) if self.system else 0
        self._more_tokens = CHAT_TOKENS + system_tokens if self.is_chat else 0
        self.space = " " if takes_leading_space(self.encoding) else ""
        self.counts: dict[Side, Counter[str]] = {side: Counter() for side in SIDES}
        self.tokens: dict[Side, int] = dict.fromkeys(SIDES, 0)
        self._broken = {name: Broken() for name in RULES}
        self._prompts, self._completions = CommonPrefix(), CommonPrefix()
        self._written: set[tuple[str, str]] = set()

    def write(self, side: Side, files: Sequence[TextRowsFile], body: Mapping[str, Any], prompt_tokens: int, *, is_repeated: bool) -> int:
        """Write an example's rows to all files; how many. `is_repeated`: its side has the prompt more than once: rows may be duplicates."""
        count = 0
        identity, prompt = body["id"], body["prompt"]
        weak = self.labels.weak if body.get("signal") == "weak" and body["answer"] else None
        completions = [weak] if weak is not None else self.labels.completions(bytes.fromhex(identity), body["answer"], self.answers)
        for completion in completions:
            tokens = prompt_tokens + self._more_tokens + len(self.encoding.encode_ordinary(completion))
            if not self._is_wanted(side, identity, prompt, completion, tokens, is_repeated):
                continue
            for file in files:
                file.write(prompt, completion)
            count += 1
            self.tokens[side] += tokens
            self.counts[side].update(["rows", *([completion] if completion in (NIL, OTHER, WEAK) else [])])
            self._prompts.see(prompt)
            self._completions.see(completion)
            if not self.space:
                self._broken["no_leading_space"].count += 1
        return count

    def _is_wanted(self, side: Side, identity: str, prompt: str, completion: str, tokens: int, is_repeated: bool) -> bool:
        """Whether a row is written. Only rows that the model can't take are left out of validation."""
        if self.max_tokens is not None and tokens > self.max_tokens:
            self._broken["too_many_tokens"].add(identity)
            return False
        if self.max_characters is not None and len(prompt) + len(completion) > self.max_characters:
            self._broken["long_rows"].add(identity)
            if side == "train":
                return False
        if is_repeated and (prompt, completion) in self._written:
            self._broken["duplicate_rows"].add(identity)
            return side == "valid"
        if is_repeated:
            self._written.add((prompt, completion))
        return True

    def end_side(self) -> None:
        """Forget the rows of this side: the other side has no duplicates of them, since the sides share no prompt."""
        self._written.clear()

    def rules(self) -> dict[str, Broken]:
        """Every rule with its count, and what was done."""
        rules = self._broken
        rules["common_prompt_prefix"].count = self._prompts.length if self._prompts.length > MAX_PREFIX else 0
        rules["common_completion_prefix"].count = self._completions.length if self._completions.length > MAX_COMPLETION_PREFIX else 0
        done = {
            "duplicate_rows": "the same prompt and completion as an earlier row: left out of the training side, kept for validation",
            "long_rows": f"more than {self.max_characters or 0:,} characters: left out of the training side, kept for validation",
            "too_many_tokens": f"more than {self.max_tokens or 0:,} tokens, which the model can't take: left out"
            if self.max_tokens is not None
            else "not checked: the model's limit is not known (--max-tokens)",
            "common_prompt_prefix": "characters that all prompts begin with: they say nothing; nothing was changed",
            "no_leading_space": "rows whose completion begins with no space: nothing was changed, since with one it would be two tokens of"
            f" {self.encoding.name}",
            "common_completion_prefix": "characters that all completions begin with; nothing was changed",
        }
        if self.max_characters is None:
            done["long_rows"] = "not checked (--max-characters 0)"
        for name, what in done.items():
            rules[name].done = what
        return rules
