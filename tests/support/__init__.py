"""What the tests share: tiny histories by the minute, runs over them, and what came out, in a form that can be read."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax.testing import TestingSink, TestingSource, run_main

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.events import Reject, micros, parse
from beepgpt.conversations.rules import MINUTE, SECOND, Rules
from beepgpt.conversations.shard import RunOutput, Shard, run_through
from beepgpt.dataflows.examples import examples_flow
from beepgpt.dataflows.following import Following
from tests.support import histories, oracle_records
from tests.support.cli import beep as beep
from tests.support.cli import program as program
from tests.support.cli import quiet as quiet
from tests.support.cli import run_program as run_program
from tests.support.cli import start as start
from tests.support.histories import Record

MONDAY_AT_TEN = 1_704_103_200 * SECOND
"""2024-01-01T10:00:00Z, minute 0 of the tiny histories."""
NOW = 4_000_000_000 * SECOND
"""When all runs here are started: after everything that happens in their histories."""
NO_CANDIDATES = Rules(candidates=False)


# Tiny histories: who said what in which minute


def at(minute: float) -> int:
    """A minute of a tiny history, in microseconds since 1970."""
    return MONDAY_AT_TEN + round(minute * MINUTE)


def post(user: str, text: str | None = "hello", *, minute: float, to: float | None = None, channel: str = "C1", **more: object) -> Record:
    """A message, or a reply `to` the root of that minute."""
    return histories.post(channel, at(minute), user, text, None if to is None else at(to), **more)


def edit(text: str | None, *, of: float, minute: float, channel: str = "C1") -> Record:
    """An edit of the message of the minute `of`."""
    return histories.edit(channel, at(minute), at(of), text)


def delete(*, of: float, minute: float, channel: str = "C1") -> Record:
    """A deletion of the message of the minute `of`."""
    return histories.delete(channel, at(minute), at(of))


def react(user: str, *, to: float, minute: float | None, name: str = "+1", channel: str = "C1", kind: str = "reaction_added") -> Record:
    """A reaction to the message of the minute `to`; without a minute of its own it is untimed, as in an export."""
    return histories.react(channel, None if minute is None else at(minute), at(to), user, name, kind)


def heartbeat(*, minute: float) -> Record:
    """A heartbeat: everything before this minute has been written."""
    return histories.heartbeat(at(minute))


# Runs


@dataclass(frozen=True)
class DecodedRun:
    """A run's output, decoded."""

    run: RunOutput
    examples: list[dict[str, Any]]
    retractions: list[dict[str, str]]

    @property
    def points(self) -> dict[str, int]:
        """The account of points, without the zeros."""
        return {name: count for name, count in self.run.account.as_json()["points"].items() if count}

    @property
    def ignored(self) -> dict[str, int]:
        """Ignored records by reason."""
        return self.run.account.by_reason("ignored")


def made_from(*records: Record, rules: Rules = NO_CANDIDATES, until: float | None = None) -> DecodedRun:
    """A run over a few records, to the end of the input or to a minute."""
    run = run_of(records, rules, None if until is None else at(until))
    return DecodedRun(run, [json.loads(line) for line in run.examples], [json.loads(line) for line in run.retractions])


def run_of(
    records: Iterable[Record | bytes], rules: Rules, until: int | None = None, points_since: int | None = None, *, are_packed: bool = False
) -> RunOutput:
    """A run of the plain loop; its account is checked at once."""
    lines = [record if isinstance(record, bytes) else record.line for record in records]
    run = run_through(lines, rules, load_encoding(rules.encoding), now=NOW, until=until, points_since=points_since, are_packed=are_packed)
    assert run.account.check() == []
    return run


def ours(rules: oracle_records.Rules, **more: Any) -> Rules:
    """The oracle's settings, for the real thing."""
    return Rules(**{each.name: getattr(rules, each.name) for each in fields_of(rules) if each.name != "spec"}, **more)


def outcome(run: RunOutput) -> tuple[list[bytes], list[bytes], dict[str, Any]]:
    """All that a run gives, whatever the order it was written in: examples, retractions, account."""
    return sorted(run.examples), sorted(run.retractions), run.account.as_json()


def flow_of(records: Iterable[bytes], rules: Rules, batches: Iterable[int], until: int | None = None) -> RunOutput:
    """A run of the real dataflow over batches of these sizes, as long as they last; each batch is an epoch, with a snapshot."""
    kept: dict[str, list[Any]] = {name: [] for name in ("examples", "retractions", "late", "dead_letters")}
    accounts: list[Account] = []
    following = Following(rules, load_encoding(rules.encoding), NOW, until=until, recoverable=True)
    source: TestingSource[Chunk] = TestingSource(list(chunks_of(list(records), batches)))
    flow = examples_flow(source, following, {name: TestingSink(into) for name, into in kept.items()}, accounts.append)
    run_main(flow, epoch_interval=timedelta(0))
    run = RunOutput()
    run.examples, run.retractions, run.late = (lines_in(kept[name]) for name in ("examples", "retractions", "late"))
    run.rejects = [Reject(json.loads(line)["reason"], line) for line in lines_in(kept["dead_letters"])]
    run.account = sum_of(accounts)
    return run


def chunks_of(records: Sequence[bytes], batches: Iterable[int]) -> Iterator[Chunk]:
    """The records in chunks of these sizes; what is left over is the last one."""
    first = 0
    for size in batches:
        if records[first : first + size]:
            yield "all", first + 1, list(records[first : first + size])
        first += size
    if records[first:]:
        yield "all", first + 1, list(records[first:])


def lines_in(blobs: Iterable[tuple[str, bytes]]) -> list[bytes]:
    """The lines that a sink was handed as keyed blobs."""
    return [line for _, blob in blobs for line in blob.splitlines()]


def resumed(state: object, rules: Rules) -> Shard:
    """A shard that takes up another's snapshot, as it comes back from the disk."""
    shard = Shard(rules, load_encoding(rules.encoding))
    shard.resume(pickle.loads(pickle.dumps(state)))
    return shard


def read_into(shard: Shard, records: Iterable[bytes], partition: str = "all") -> None:
    """Records, one after the other, into a shard."""
    for record in records:
        shard.read(parse(record, NOW, bots=shard.rules.bots, edits=shard.rules.edits), partition)


# Files

SIDE_FILES = ("retractions", "late", "dead-letters")


def files_in(folder: Path) -> dict[str, list[bytes]]:
    """The lines of all that a run wrote into a folder as `made.jsonl`, sorted; a file that is missing has none."""
    names = ["made.jsonl", *(f"made.{side}.jsonl" for side in SIDE_FILES)]
    return {name: sorted((folder / name).read_bytes().splitlines()) if (folder / name).exists() else [] for name in names}


# What came out, to be read


def answers_in(made: DecodedRun) -> list[str]:
    """Each example as a line: the kind of its conversation, the prompt's messages, and who answered."""
    return [
        f"{kind_of(each)}: {' / '.join(each['prompt'].split(SEPARATOR)[:-2])} -> {', '.join(each['answer']) or 'nobody'}"
        for each in made.examples
    ]


SEPARATOR = "\n\n"


def kind_of(example: dict[str, Any]) -> str:
    """`thread`, `session` or `channel`."""
    return str(example["conversation"].rsplit(":", 1)[-1])


def features_by_person(example: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """An example's candidates by person."""
    columns: dict[str, list[Any]] = example["candidates"]
    return {user: {name: column[row] for name, column in columns.items()} for row, user in enumerate(columns["user"])}


OUTCOME = ("id", "settled_ts", "answer_ts", "answer")
"""What an example knows from after its `prompt_ts`; all else is what was known then."""

Place = tuple[str, int]
"""A point: its conversation and its time."""


def features_of(run: RunOutput) -> dict[Place, dict[str, Any]]:
    """What was known at each point that a run made an example of."""
    examples = [json.loads(line) for line in run.examples]
    return {place_of(each): {name: value for name, value in each.items() if name not in OUTCOME} for each in examples}


def place_of(example: dict[str, Any]) -> Place:
    """Which point an example is of."""
    return example["conversation"], micros(example["prompt_ts"])
