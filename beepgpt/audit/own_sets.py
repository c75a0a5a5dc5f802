"""Training sets of our own: `rows_train.jsonl` and `rows_valid.jsonl` say what each row was made of, so that an audit guesses nothing.

An entry is an example without its prompt and its candidates, and the number of rows of text that were written for it (`rows`). The prompts
stand in the rows themselves, the candidates in the table: put together, they are the examples, and every law is checked on them as on a
file of examples. What else stands in a table or in rows of text is compared with the entry.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from beepgpt.audit.example_rows import body_of
from beepgpt.audit.findings import Findings
from beepgpt.conversations.events import kept_json, micros

SIGNALS = ("signal", "signal_p")
"""Of a labeled example: entries and tables have them, the examples that are made again have not."""
KNOWN_LATER = ("settled_ts", "answer", *SIGNALS)
"""Columns of a table that law 3 is about; the others are of law 1."""
TableRow = Mapping[str, Any]
"""A row of a table of candidates, by column; the people and features of its candidates by name in `candidates`."""


class TextRow(NamedTuple):
    """A row of text."""

    prompt: str | None
    """None if it has none."""
    completion: str
    unlike: str = ""
    """How it is not of the form that `prepare` writes, so that more may stand in it; empty if it is."""


class Named(NamedTuple):
    """A file, by the name that findings call it by, and what it holds."""

    name: str
    rows: Iterable[Any]


class AnswerLabels(NamedTuple):
    """How completions name people."""

    people: Mapping[str, str]
    nobody: str
    other: str
    weak: str | None
    answers: str
    """Of several people who answered: `one` of them by the example's id, a row for `each`, or `all` in one completion."""

    def of(self, entry: Mapping[str, Any]) -> list[str]:
        """The completions of an entry, each once."""
        answer = entry.get("answer") or ()
        if not answer:
            return [self.nobody]
        if self.weak and entry.get("signal") == "weak":
            return [self.weak]
        if self.answers == "one":
            return [self.people.get(answer[int(entry["id"][:16], 16) % len(answer)], self.other)]
        found = sorted({self.people.get(user, self.other) for user in answer}, key=lambda label: (label == self.other, len(label), label))
        return found if self.answers == "each" else [" ".join(found)]

    def mixed_up(self) -> Iterator[tuple[str, str]]:
        """Labels by which people can't be told apart, each with why."""
        taken = {self.nobody: "nobody", self.other: "people without a label"}
        if self.nobody == self.other:
            yield self.other, f"label {self.other!r} is that of nobody and of people without a label"
        if self.weak is not None and self.weak != self.nobody:
            if self.weak in taken:
                yield self.weak, f"label {self.weak!r} is that of weak signals and of {taken[self.weak]}"
            taken.setdefault(self.weak, "weak signals")
        for user, label in self.people.items():
            if label in taken:
                yield label, f"label {label!r} is that of {user} and of {taken[label]}"
            taken.setdefault(label, user)


@dataclass(frozen=True, slots=True)
class SetSide:
    """One side of a training set, as the lines of its examples. Each reading reads the files again, a row of each in memory at a time.

    An example of which no file has the prompt is an empty line.
    """

    entries: Named
    texts: tuple[Named, ...] = ()
    """Files of rows of text (`TextRow`)."""
    table: Named | None = None
    """The table of candidates (`TableRow`)."""
    examples: Named | None = None
    """The examples' own lines, where the set has them."""
    labels: AnswerLabels | None = None
    faults: dict[tuple[str, str], tuple[int, str, str]] = field(default_factory=dict)
    """Found while the side was read to its end: law, kind and reason, by place and column."""

    @property
    def place(self) -> str:
        """What findings call the examples' places, before their number."""
        named = self.examples or self.table
        return f"{self.entries.name}, line" if named is None else f"{named.name}, {'row' if named is self.table else 'line'}"

    def add_to(self, findings: Findings) -> None:
        """Add what was found to an audit's findings."""
        for (where, _), (law, what, why) in self.faults.items():
            findings.add(law, what, where, why)

    def __iter__(self) -> Iterator[bytes]:
        self.faults.clear()
        for label, why in self.labels.mixed_up() if self.labels is not None else ():
            self._add(f"labels of {self.entries.name}", label, 3, why)
        texts = {file.name: iter(file.rows) for file in self.texts}
        table = iter(self.table.rows) if self.table is not None else None
        examples = iter(self.examples.rows) if self.examples is not None else None
        for number, entry in enumerate(self.entries.rows, start=1):
            body = body_of(entry) or {}
            prompts = dict(self._prompts_of(texts, number, body))
            line = next(examples, b"") if examples is not None else b""
            if self.examples is not None:
                where = f"{self.examples.name}, line {number:,}"
                whole = body_of(line) or {}
                prompts[where] = whole.get("prompt") if all(whole.get(name) == value for name, value in body.items()) else None
                body = body | whole
            if table is not None and self.table is not None:
                where = f"{self.table.name}, row {number:,}"
                row: TableRow = next(table, {})
                prompts[where] = row.get("prompt") if row.get("id") == body.get("id") else None
                if prompts[where] is not None:
                    self._compare(f"{where} ({body.get('id')})", row, body)
                body = {"candidates": row.get("candidates")} | body
            body = {name: value for name, value in body.items() if name not in SIGNALS}
            shown = next((prompt for prompt in prompts.values() if prompt is not None), None)
            for where, prompt in prompts.items():
                if prompt != shown or prompt is None:
                    self._add(where, "prompt", 4, f"its prompt is not that of {body.get('id')}")
            yield line.rstrip(b"\n") or (b"" if shown is None else kept_json(body | {"prompt": shown}))
        more = {**texts, **({self.table.name: table} if self.table else {}), **({self.examples.name: examples} if self.examples else {})}
        for name, rest in more.items():
            if left := sum(1 for _ in rest or ()):
                self._add(name, "", 4, f"{left:,} rows more than the entries beside it name")

    def _add(self, where: str, column: str, law: int, why: str) -> None:
        what = {
            1: "columns of a table that are not what was known",
            3: "answers to learn from that are not what the events give",
            4: "rows that are not what the entries beside them say",
        }[law]
        self.faults[where, column] = (law, what, why)

    def _prompts_of(self, texts: Mapping[str, Iterator[TextRow]], number: int, body: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        """The prompts of an entry's rows of text, by place; their completions are compared with its answer."""
        count = body.pop("rows", 0)
        for name, file in texts.items():
            named = f"{name}, the rows of entry {number:,}"
            called = f"{named} ({body.get('id')})"
            try:
                given = self.labels.of(body) if self.labels is not None else []
            except (KeyError, TypeError, ValueError):
                given = []  # the entry is none, which is a finding of its own
            left = list(given)
            for prompt, completion, unlike in islice(file, count):
                yield named, prompt
                if unlike:
                    self._add(called, "form", 4, unlike)
                if completion in left:
                    left.remove(completion)
                elif self.labels is not None:
                    once = ", each once" if completion in given else ""
                    said = f"its completion is {completion!r}, where the answer gives {' or '.join(given)}{once}"
                    self._add(called, "completion", 3, said)

    def _compare(self, where: str, row: TableRow, body: Mapping[str, Any]) -> None:
        """Compare the columns of a table's row with an entry; features only where the example's own line has them, too."""
        try:
            known = {name: body[name] for name in ("conversation", "channel", "speakers", "answer", "prompt_tokens")}
            window = body["window"]
            known |= {name: micros(body[name]) for name in ("prompt_ts", "settled_ts")}
            known |= {"window_ts": [micros(each["ts"]) for each in window], "window_user": [each["user"] for each in window]}
            known["author"] = window[-1]["user"]
            known |= {name: body.get(name) for name in SIGNALS}
        except (KeyError, TypeError, ValueError, IndexError):
            return  # the entry is none, which is a finding of its own
        for name, value in known.items():
            if name not in row or row[name] != value:
                law = 3 if name in KNOWN_LATER else 1
                found = repr(row[name]) if name in row else "missing"
                self._add(where, name, law, f"its column {name} is {found}, where the example has {value!r}")
        for why in unlike_features(row.get("candidates"), body["candidates"]) if "candidates" in body else ():
            self._add(where, why.split(" ", 1)[0], 1, f"its column candidates_{why}")


def unlike_features(given: Any, known: Any) -> list[str]:
    """How a table's candidates differ from an example's: for each column its name, whose value is another, and which was known.

    Tables hold features in single precision, in which both are compared.

    >>> unlike_features({"user": ["ana"], "closeness": [0.5]}, {"user": ["ana"], "closeness": [0.25]})
    ['closeness of ana is 0.5, where 0.25 was known']
    """
    if not isinstance(given, dict) or not isinstance(known, dict):
        return ["user is missing" if isinstance(known, dict) else "user names candidates, where the rules give none"]
    if given.get("user") != known["user"]:
        extra = [user for user in given.get("user") or () if user not in known["user"]]
        return ["user names other people, or in another order" + (f": {extra[0]} was no candidate then" if extra else "")]
    found = []
    for name in {**known, **given}:
        if name == "user":
            continue
        ours, theirs = _single(known.get(name)), _single(given.get(name))
        if name not in known or name not in given:
            found.append(f"{name} is {'missing' if name in known else 'no feature of the rules'}")
        elif ours is None or theirs is None or len(ours) != len(theirs):
            found.append(f"{name} does not have a number for each candidate")
        elif ours != theirs:
            place = next(place for place, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
            others = sum(one != other for one, other in zip(ours, theirs, strict=True)) - 1
            why = f"{name} of {known['user'][place]} is {given[name][place]:g}, where {known[name][place]:g} was known"
            found.append(why + (f", and of {others} more" if others else ""))
    return found


def _single(values: Any) -> array[float] | None:
    """Numbers in single precision; None if they are none."""
    try:
        return array("f", values)
    except (TypeError, OverflowError):
        return None
