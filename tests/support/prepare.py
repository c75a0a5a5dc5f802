"""What the tests of training sets share: examples told by the minute, the folder that is made of them, and what the law says of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.rules import DAY, HOUR, MINUTE, Rules
from beepgpt.simulation.workspace import Plan, live_records
from beepgpt.training.checks import ExampleLine, read_line
from beepgpt.training.models import hash_of
from beepgpt.training.prepare import PrepareOptions, prepare
from beepgpt.training.splits import ExampleColumns, ExampleNotes, SplitOptions
from tests.support import MONDAY_AT_TEN, at, run_of

Example = dict[str, Any]
O200K = load_encoding("o200k_base")
SUFFIX = "\n\n###\n\n"


def example(name: str, *answer: str, minute: float, settled: float | None = None, text: str | None = None, **more: Any) -> Example:
    """An example whose prompt is `text` (or its name), made in a minute and settled a minute later.

    `more` is written over it.
    """
    ts = ts_text(at(minute))
    body: Example = {
        "id": sha256(name.encode()).hexdigest()[:32],
        "spec": "0123456789ab",
        "target": "next_user",
        "scope": "conversation",
        "channel": "C1",
        "conversation": f"C1:{ts}:thread",
        "speakers": 1,
        "root_missing": False,
        "prompt_ts": ts,
        "settled_ts": ts_text(at(minute + 1 if settled is None else settled)),
        "answer_ts": ts_text(at(minute + 1 if settled is None else settled)) if answer else None,
        "answer": list(answer),
        "window": [{"ts": ts, "user": "zoe"}],
        "prompt": (name if text is None else text) + SUFFIX,
        "prompt_tokens": 5,
        "candidates": {"user": ["ana", "bo"], "in_window": [2, 0], "share_30d": [0.25, 0.125]},
    }
    return {key: value for key, value in (body | more).items() if value is not LEFT_OUT}


LEFT_OUT = object()
"""In the place of a value: without its key."""


def line_of(body: Mapping[str, Any]) -> bytes:
    """As it stands in a file."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def write(path: Path, examples: Iterable[Mapping[str, Any] | bytes]) -> Path:
    """A file of examples."""
    path.write_bytes(b"".join((each if isinstance(each, bytes) else line_of(each)) + b"\n" for each in examples))
    return path


def made(folder: Path, examples: Iterable[Mapping[str, Any] | bytes], *, sides: SplitOptions | None = None, **wanted: Any) -> Set:
    """The training set of these examples; whoever answered once has a label, unless something else is wanted."""
    told: dict[str, Any] = {"model": "gpt-4.1", "max_tokens": 65_536, "min_answers": 1, "sides": sides or CUT_AT_100} | wanted
    beside = {name: told.pop(name) for name in ("retracted", "few_shots", "encoding") if name in told}
    source = write(folder / "examples.jsonl", examples)
    manifest = prepare(source, folder / "set", PrepareOptions(**told), beside.pop("encoding", O200K), **beside)
    return Set(folder / "set", manifest)


CUT_AT_100 = SplitOptions(cut=at(100))
"""Minutes below 100 are for training, and from 100 on they are for validation."""
FIRST, LAST = example("first", "ana", minute=0), example("last", "ana", minute=200)
"""One for each side, where a test is about something else."""


ROWS = ("rows_train.jsonl", "rows_valid.jsonl")
"""What stands in every set: what each row was made of."""


class Set:
    """A training set, read back."""

    def __init__(self, folder: Path, manifest: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = manifest or json.loads((folder / "manifest.json").read_bytes())

    @property
    def left_out(self) -> dict[str, int]:
        """By reason."""
        return dict(self.manifest["account"]["left_out"])

    def rule(self, name: str) -> int:
        """How many rows break it."""
        return int(self.manifest["rules"][name]["count"])

    def ids(self, side: str) -> list[str]:
        """Whose the rows of the table are."""
        found: list[str] = pq.read_table(self.folder / f"candidates_{side}.parquet")["id"].to_pylist()
        return found

    def rows(self, side: str) -> list[tuple[str, str]]:
        """Prompts, without their suffix, and completions, of the file of chats."""
        lines = (self.folder / f"chat_{side}.jsonl").read_bytes().splitlines()
        told = [[each["content"] for each in json.loads(line)["messages"]] for line in lines]
        return [(prompt.removesuffix(SUFFIX), completion) for prompt, completion in told]

    @property
    def labels(self) -> dict[str, str]:
        """By person."""
        told = json.loads((self.folder / "labels.json").read_bytes())
        return {each["user"]: each["label"] for each in told["people"]}

    @property
    def files(self) -> dict[str, bytes]:
        """All of it."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}


def vouch_for(path: Path) -> None:
    """Have the set's manifest name a file as it is now, and its models that manifest."""
    manifest = path.parent / "manifest.json"
    body = json.loads(manifest.read_bytes())
    body["files"][path.name]["sha256"] = sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(body), "utf-8")
    for card in path.parent.rglob("model.json"):
        card.write_text(json.dumps(json.loads(card.read_bytes()) | {"manifest": hash_of(manifest.read_bytes())}), "utf-8")


# Real examples


@cache
def workspace(seed: int, scope: str = "conversation", target: str = "next_user") -> tuple[bytes, ...]:
    """The examples of a simulated workspace of a few days in which people talk across any cut."""
    plan = Plan(seed=seed, messages=250, days=2, channels=2, people=8, start=MONDAY_AT_TEN)
    rules = Rules(scope=scope, target=target, horizon=3 * HOUR, session_gap=30 * MINUTE, candidates=False)  # type: ignore[arg-type]
    return tuple(run_of(live_records(plan), rules, plan.end_us + DAY).examples)


def columns_of(lines: Iterable[bytes]) -> ExampleColumns:
    """What is kept of each line."""
    notes = ExampleNotes()
    for number, line in enumerate(lines):
        notes.add(parsed(line), number, len(line))
    return notes.columns()


def parsed(line: bytes) -> ExampleLine:
    """An example that can be read."""
    found = read_line(line)
    assert isinstance(found, ExampleLine), found
    return found


def shuffled(lines: Sequence[bytes], seed: int) -> list[bytes]:
    """The same lines in another order."""
    found = list(lines)
    random.Random(seed).shuffle(found)
    return found


# Law 7


def leaks(train: Sequence[Example], valid: Sequence[Example], cut: int) -> list[str]:
    """Every way in which the sides know of each other, read off the examples by plain loops: nothing of this is the product's."""
    found = []
    for each in valid:
        if micros(each["prompt_ts"]) < cut:
            found.append(f"validation prompt {each['id']} was made before the cut")
    for each in train:
        if micros(each["settled_ts"]) >= cut:
            found.append(f"training example {each['id']} was settled after the cut")
        for other in valid:
            found += [f"{each['id']} and {other['id']} share {what}" for what in shared(each, other)]
    return found


def shared(one: Example, other: Example) -> list[str]:
    """What two examples have in common that may not stand on both sides."""
    found = []
    if one["conversation"] == other["conversation"] and one["scope"] == "conversation":
        found.append("their conversation")
    if one["channel"] == other["channel"] and {each["ts"] for each in one["window"]} & {each["ts"] for each in other["window"]}:
        found.append("a message")
    if one["prompt"] == other["prompt"]:
        found.append("their prompt")
    return found
