"""The examples of SOURCE that a reviewer may see."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from beepgpt.conversations.events import micros
from beepgpt.conversations.signals import SignalVerdict


@dataclass(frozen=True, slots=True)
class ReviewedExample:
    """A line of SOURCE, with the fields that decide when it is shown."""

    id: str
    line: bytes
    prompt: str
    conversation: str
    prompt_ts: str
    label: SignalVerdict | None = None
    """Its label in SOURCE."""

    @property
    def lot(self) -> int:
        """A random number by its id, the same in every run."""
        return int.from_bytes(blake2b(self.id.encode(), digest_size=8).digest())


def example_in(line: bytes) -> ReviewedExample | None:
    """A line as an example; None if nobody answered, which needs no label. Raises ValueError if it is no example."""
    body = orjson.loads(line)
    try:
        if not body["answer"]:
            return None
        example = ReviewedExample(body["id"], line, body["prompt"], body["conversation"], body["prompt_ts"], _label_in(body))
        micros(example.prompt_ts)
        texts = (example.id, example.prompt, example.conversation)
        lists = (body["answer"], body["window"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no example") from error
    if not all(isinstance(each, str) for each in texts) or not all(isinstance(each, list) for each in lists):
        raise ValueError("no example")
    return example


def _label_in(body: Mapping[str, Any]) -> SignalVerdict | None:
    signal, p, model = (body.get(name) for name in ("signal", "signal_p", "signal_model"))
    if signal not in ("strong", "weak"):
        return None
    return SignalVerdict(signal, p if isinstance(p, float | int) and 0 <= p <= 1 else None, str(model or "SOURCE"))


class Sample:
    """As many examples as a person may look at: a random sample, the same in every run, and the newest."""

    def __init__(self, most: int, newest: int, wanted: Iterable[str] = ()) -> None:
        """`most`: the size of the random sample; `newest`: examples kept beside it; `wanted`: ids that are kept in any case."""
        self.read: Counter[str] = Counter()
        """Counts of lines: `examples`, `silent`, `unreadable`."""
        self.first_unreadable = ""
        self._wanted = set(wanted)
        self._kept: dict[str, ReviewedExample] = {}
        self._random = _Least(most)
        self._newest = _Least(newest)

    def add(self, line: bytes) -> None:
        """Add a line of SOURCE; it replaces an earlier line of its id."""
        try:
            example = example_in(line)
        except ValueError:
            self.first_unreadable = self.first_unreadable or f"the one after {self.read.total():,} others"
            self.read["unreadable"] += 1
            return
        if example is None:
            self.read["silent"] += 1
            return
        self.read["examples"] += 1
        if example.id in self._wanted:
            self._kept[example.id] = example
        self._random.add(example.lot, example)
        self._newest.add(-micros(example.prompt_ts), example)

    def retract(self, identity: str) -> None:
        """Drop an example of which a message was deleted."""
        self._kept.pop(identity, None)
        self._random.drop(identity)
        self._newest.drop(identity)

    def examples(self) -> list[ReviewedExample]:
        """The examples, each prompt once, in a random order that is the same in every run."""
        every = {**self._newest.kept, **self._random.kept, **self._kept}
        ordered = sorted(every.values(), key=lambda each: (each.id not in self._kept, each.lot))
        once = {each.prompt: each for each in reversed(ordered)}
        return [each for each in ordered if each.id in self._kept or once[each.prompt] is each]


class _Least:
    """The examples with the least keys, `most` at most."""

    def __init__(self, most: int) -> None:
        self.kept: dict[str, ReviewedExample] = {}
        self._most = most
        self._heap: list[tuple[int, str]] = []

    def add(self, key: int, example: ReviewedExample) -> None:
        if example.id in self.kept:
            self.kept[example.id] = example
        elif len(self._heap) < self._most:
            heapq.heappush(self._heap, (-key, example.id))
            self.kept[example.id] = example
        elif self._heap and -key > self._heap[0][0]:
            _, gone = heapq.heapreplace(self._heap, (-key, example.id))
            self.kept.pop(gone, None)
            self.kept[example.id] = example

    def drop(self, identity: str) -> None:
        """Drop an example. Its place stays empty: those that it kept out are gone."""
        self.kept.pop(identity, None)


def few_shot_in(line: bytes) -> ReviewedExample:
    """A few-shot's line as an example: an id and a prompt are all that it must have."""
    body = orjson.loads(line)
    return ReviewedExample(body["id"], line, body["prompt"], str(body.get("conversation", "")), str(body.get("prompt_ts", "")))
