"""The rule by which the original made its examples (FineTuning_v2 on Kaskada), restated; it shares no code with ours.

`../shared/golden` holds what the original made of 1,678 messages: the restatement gives the same bytes. Run it to see.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
GOLDEN_SHA256 = "d719ca68cabd07b2ca10ad0a1084d11804604287dd0c513115bf221fe8ce483b"

GAP = 600_000_000
"""Microseconds of silence that end a group of messages outside of threads."""
WINDOW = 5
MAX_CHARACTERS = 5_000
SUFFIX = "\n\n###\n\n"


class Message(NamedTuple):
    """A message as the original reads it: by its last text, with the `thread_ts` that an export knows in the end."""

    ts: int
    """Microseconds since 1970."""
    channel: str
    user: str
    text: str
    thread_ts: int | None
    """Also on a root, where somebody has replied."""


class Row(NamedTuple):
    """A message, and those before it in its conversation, oldest first: never none."""

    answer: Message
    window: tuple[Message, ...]


class Line(NamedTuple):
    """What the original writes of a row."""

    row: Row
    prompt: str


def read_messages(events: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Posted messages, bare or as an export stores them with their `channel` added, in order of their times.

    Those with a `subtype` are left out, as the original does when it reads an export.
    """
    messages = [
        Message(
            micros(event["ts"]),
            event["channel"],
            event.get("user") or "",
            event.get("text") or "",
            micros(event["thread_ts"]) if event.get("thread_ts") else None,
        )
        for event in events
        if event.get("subtype") is None
    ]
    return sorted(messages, key=lambda message: message.ts)  # of equal times, the order of reading


def micros(ts: str) -> int:
    """Slack's `ts` in microseconds.

    >>> micros("1690783200.000100")
    1690783200000100
    """
    seconds, _, fraction = ts.partition(".")
    return int(seconds) * 1_000_000 + int(fraction.ljust(6, "0")[:6] or 0)


def rows_of(messages: Iterable[Message]) -> Iterator[Row]:
    """Each message that has something before it in its conversation, with the last of that."""
    windows: dict[tuple[str, int], tuple[Message, ...]] = {}
    for conversation, message in with_conversation(messages):
        before = windows.get(conversation, ())
        if before:
            yield Row(message, before)
        windows[conversation] = (*before, message)[-WINDOW:]


def with_conversation(messages: Iterable[Message]) -> Iterator[tuple[tuple[str, int], Message]]:
    """Messages with `thread_ts` go by it, the others by the group that they are in; a channel's first of the others is lost."""
    latest: dict[str, int] = {}
    group: dict[str, int] = {}
    for message in messages:
        channel, ts = message.channel, message.ts
        if message.thread_ts is not None:
            yield (channel, message.thread_ts), message
            continue
        is_lost = channel not in latest
        if not is_lost:
            if ts - latest[channel] > GAP or channel not in group:
                group[channel] = ts
            yield (channel, group[channel]), message
        latest[channel] = ts


def without_answerer(row: Row) -> list[Message]:
    """The leak: what the answerer said before is left out, so that the prompt tells who it wasn't."""
    return [message for message in row.window if message.user != row.answer.user]


def prompt_of(messages: Iterable[Message]) -> str:
    """The prompt of some messages, oldest first; empty if none of them has anything to show.

    >>> hello, code = Message(1, "C1", "ana", "Hello :wave: all", None), Message(2, "C1", "bo", "```x = 1```", None)
    >>> prompt_of([hello, code, hello._replace(text="<@bo> again")])
    'again\\n\\nHello  all\\n\\n###\\n\\n'
    """
    texts = [clean(message.text) for message in messages]
    shown = [text for text in texts if text and "```" not in text]
    return "\n\n".join(reversed(shown))[:MAX_CHARACTERS] + SUFFIX if shown else ""


def clean(text: str) -> str:
    """The text without what stands between `<` and `>`, then without what stands between two colons."""
    return re.sub(r":.*?:", "", re.sub(r"<.*?>", "", text)).strip()


def lines_of(rows: Iterable[Row]) -> Iterator[Line]:
    """What is written of the rows, in order: no empty prompt, and none that was written just before."""
    written = ""
    for row in rows:
        prompt = prompt_of(without_answerer(row))
        if prompt and prompt != written:
            yield Line(row, prompt)
            written = prompt


def labels_of(rows: Iterable[Row]) -> dict[str, int]:
    """Everybody who answers in a row, written or not, by name: a person's place is the label."""
    return {user: place for place, user in enumerate(sorted({row.answer.user for row in rows}))}


def line_bytes(line: Line, labels: Mapping[str, int]) -> bytes:
    """A line as it stands in the file."""
    completion = f" {labels[line.row.answer.user]} end"
    return json.dumps({"prompt": line.prompt, "completion": completion}).encode() + b"\n"


def examples_of(messages: Iterable[Message]) -> bytes:
    """The file that the original makes of these messages."""
    rows = list(rows_of(messages))
    labels = labels_of(rows)
    return b"".join(line_bytes(line, labels) for line in lines_of(rows))


class Leak(NamedTuple):
    """What the answerer's absence does to rows, and what it tells somebody who reads nothing but who is there."""

    rows: int
    changed: int
    """Rows whose prompt would be another with the answerer's messages; they include the emptied ones."""
    emptied: int
    """Rows with nothing left."""
    hits_with: float
    """Share of right guesses among the people absent from the prompt, as the original wrote it."""
    hits_without: float
    """The same on the prompts that a live system sees: there, nobody knows whom to leave out."""
    hits_by_chance: float


def leak_of(rows: Sequence[Row]) -> Leak:
    """The leak, measured on all rows, written or not; who is absent is guessed uniformly."""
    people = labels_of(rows).keys()
    written = [prompt_of(without_answerer(row)) for row in rows]
    whole = [prompt_of(row.window) for row in rows]
    changed = sum(one != other for one, other in zip(written, whole, strict=True))
    emptied = sum(not one and bool(other) for one, other in zip(written, whole, strict=True))
    with_leak = sum(_hit(row.answer.user, without_answerer(row), people) for row in rows)
    without_leak = sum(_hit(row.answer.user, row.window, people) for row in rows)
    count = max(len(rows), 1)
    return Leak(len(rows), changed, emptied, with_leak / count, without_leak / count, 1 / max(len(people), 1))


def _hit(answerer: str, shown: Iterable[Message], people: Set[str]) -> float:
    """How often a guess among the `people` who are absent is right."""
    present = {message.user for message in shown}
    return 0.0 if answerer in present else 1 / (len(people) - len(present & people))


def golden_messages() -> list[Message]:
    """The messages that the original was given."""
    return read_messages(json.loads(line) for line in (GOLDEN / "events.jsonl").read_bytes().splitlines())


def main() -> int:
    """Tells whether the restatement agrees with the original, byte for byte."""
    if not GOLDEN.is_dir():
        print("left out: what the original made is not here (../shared/golden)")
        return 0
    restated = examples_of(golden_messages())
    agrees = restated == (GOLDEN / "examples.jsonl").read_bytes() and sha256(restated).hexdigest() == GOLDEN_SHA256
    lines = len(restated.splitlines())
    print(f"{lines:,} lines, {'the same bytes as the original made' if agrees else 'NOT the bytes that the original made'}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
