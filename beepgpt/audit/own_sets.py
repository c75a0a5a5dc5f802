"""Training sets of our own: `rows_train.jsonl` and `rows_valid.jsonl` say what each row was made of, so that an audit guesses nothing.

An entry is an example without its prompt and its candidates, and the number of rows of text that were written for it (`rows`). The prompts
stand in the rows themselves: put together, they are the examples, and every law is checked on them as on a file of examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from beepgpt.audit.example_rows import body_of
from beepgpt.conversations.events import kept_json

ROWS = "rows"


class SetSide(NamedTuple):
    """One side of a training set, as examples."""

    lines: Iterable[bytes]
    unlike: dict[str, str]
    """By place: why a row is not what the entry beside it says."""


def side_of(entries: Iterable[bytes], texts: Mapping[str, Iterable[bytes]], tables: Mapping[str, Iterable[tuple[str, str]]]) -> SetSide:
    """The examples of one side, in which `candidates` are left out.

    `texts`: the lines of files of rows, by name; `tables`: the ids and prompts of tables, one for each entry, by name. An entry of which no
    file has a row is left out.
    """
    unlike: dict[str, str] = {}
    lines: list[bytes] = []
    prompts = {name: _prompts(file) for name, file in texts.items()}
    rows = {name: iter(table) for name, table in tables.items()}
    for number, entry in enumerate(entries, start=1):
        body = body_of(entry) or {}
        count = body.pop(ROWS, 0)
        found = {f"{name}, the rows of entry {number:,}": each for name, file in prompts.items() for each in islice(file, count)}
        for name, table in rows.items():
            identity, prompt = next(table, ("", None))
            found[f"{name}, row {number:,}"] = prompt if identity == body.get("id") else None
        shown = next((prompt for prompt in found.values() if prompt is not None), None)
        unlike |= {
            where: f"its prompt is not that of {body.get('id')}" for where, prompt in found.items() if prompt != shown or prompt is None
        }
        if shown is not None:
            lines.append(kept_json(body | {"prompt": shown}))
    for name, more in {**prompts, **rows}.items():
        if left := sum(1 for _ in more):
            unlike[name] = f"{left:,} rows more than the entries beside it name"
    return SetSide(lines, unlike)


def _prompts(lines: Iterable[bytes]) -> Iterator[str | None]:
    """The prompt of each row of a file: of a chat, what the user says."""
    for line in lines:
        body = body_of(line) or {}
        messages = body.get("messages")
        try:
            yield str(body["prompt"] if messages is None else messages[-2]["content"])
        except (KeyError, IndexError, TypeError):
            yield None
