"""The queue of a review: a sample of examples, in an order that makes each decision worth most, and the decisions on them."""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson

from beepgpt.conversations.events import micros
from beepgpt.conversations.signals import Signal, SignalVerdict
from beepgpt.errors import BeepGPTError
from beepgpt.labeling.cards import Card, Choice, Goal, Opinion, View, answer_of, day_of, messages_of
from beepgpt.labeling.few_shots import FewShots


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
        """A pseudo-random number derived from the id."""
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


LEAST, MOST = 25, 50
"""Few-shots of each signal that are wanted."""
AGAIN = 5
"""Decisions after which the labeler learns from them."""

Prompts = Mapping[Signal, Sequence[str]]
OpinionSource = Callable[[Sequence[str], Prompts], Sequence[SignalVerdict | None]]
"""A labeler's verdict on each prompt, after it has learned from the few-shots. Raises NoOpinion."""


class NoOpinion(BeepGPTError):
    """A labeler has learned too little to judge; the message says what it needs."""


@dataclass
class ReviewQueue:
    """Examples in several orders, the few-shots chosen from them, and a labeler's opinion of each, which learns from the choices.

    Its methods return a sentence for the page, and raise CannotWrite.
    """

    examples: Sequence[ReviewedExample]
    few_shots: FewShots
    opinions: OpinionSource | None = None
    people: Mapping[str, str] = field(default_factory=dict)
    """Names by id, where they are known."""
    channels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_id = {each.id: each for each in self.examples}
        self._prompts = {each.id: each.prompt for each in self.examples}
        self._prompts |= {identity: few_shot_in(line).prompt for identity, _, line in self.few_shots.chosen()}
        self._opinions: dict[str, SignalVerdict] = {}
        self._no_opinion = ""
        self._since = 0
        self._learning = threading.Lock()
        self._learn(self._chosen_prompts())

    # For the page

    @property
    def goals(self) -> list[Goal]:
        """Counts of few-shots by signal, and how many are wanted."""
        return [Goal(signal, count, LEAST, MOST) for signal, count in self.few_shots.counts.items()]

    @property
    def views(self) -> list[View]:
        """The orders of the examples, with the number of open ones."""
        known = self._known_prompts()
        left = {name: sum(self._is_open(each, known) for each in order) for name, order in self._orders.items()}
        titles = {
            "unsure": ("Unsure first", "Where the labeler is least sure comes first."),
            "differ": ("Disagreements", "Where the labeler and the labels in SOURCE differ."),
            "random": ("Random", "In a random order."),
            "newest": ("Newest", "The newest come first."),
        }
        return [View(name, *titles[name], left[name]) for name in titles]

    @property
    def last(self) -> str:
        """The id of the last decided example; empty: there is none."""
        return "" if self.few_shots.last is None else self.few_shots.last.id

    def card(self, view: str) -> Card | None:
        """The next undecided example in an order; None: there is none."""
        known = self._known_prompts()
        example = next((each for each in self._orders[view] if self._is_open(each, known)), None)
        return None if example is None else self._card_of(example)

    def chosen(self) -> list[Choice]:
        """The few-shots: first those that a label or the labeler disagrees with, then the latest."""
        found = []
        for identity, signal, line in self.few_shots.chosen():
            example = self._by_id.get(identity) or few_shot_in(line)
            others = {each.signal for each in (example.label, self._opinions.get(identity)) if each is not None}
            found.append(Choice(self._card_of(example), signal, bool(others - {signal})))
        latest = {entry.id: place for place, entry in enumerate(self.few_shots.entries)}
        return sorted(found, key=lambda each: (not each.differs, -latest.get(each.card.id, -1)))

    def decide(self, identity: str, decision: str) -> str:
        """Decide on an undecided example: `strong`, `weak` or `skipped`."""
        if (before := self.few_shots.decided.get(identity)) is not None:
            return f"It was {before} already: nothing is changed."
        if (example := self._by_id.get(identity)) is None:
            return "That example is not here any more: nothing is changed."
        if decision == "skipped":
            self.few_shots.skip(identity)
            return f"Skipped. {self._counted()}"
        if decision not in ("strong", "weak"):
            return "Nothing is changed."
        self.few_shots.keep(identity, example.line, decision)  # type: ignore[arg-type]
        self._count_decision()
        return f"Kept as {decision}. {self._counted()}"

    def undo(self, identity: str) -> str:
        """Take back the last decision, if it is about the example that the page showed."""
        entry = self.few_shots.last
        if entry is None:
            return "There is nothing to undo."
        if entry.id != identity:
            return "Something else was decided in the meantime: nothing is undone."
        self.few_shots.undo()
        if entry.did == "skipped":
            return f"It is no longer skipped. {self._counted()}"
        self._count_decision()
        return f"It is {entry.was} again. {self._counted()}" if entry.was else f"It is no longer {entry.did}. {self._counted()}"

    def change(self, identity: str, to: str) -> str:
        """Give a few-shot the other signal, or remove it (`out`)."""
        now = self.few_shots.decided.get(identity)
        if now not in ("strong", "weak") or to not in ("strong", "weak", "out") or to == now:
            return "Nothing is changed."
        if to == "out":
            self.few_shots.remove(identity)
            self._count_decision()
            return f"It is taken out. {self._counted()}"
        self.few_shots.move(identity)
        self._count_decision()
        return f"It is {to} now. {self._counted()}"

    # The labeler

    def _chosen_prompts(self) -> dict[Signal, list[str]]:
        chosen: dict[Signal, list[str]] = {"strong": [], "weak": []}
        for identity, signal, _ in self.few_shots.chosen():
            chosen[signal].append(self._prompts[identity])
        return chosen

    def _count_decision(self) -> None:
        """After every `AGAIN` decisions the labeler learns from them, in the background."""
        self._since += 1
        if self.opinions is not None and self._since >= AGAIN and self._learning.acquire(blocking=False):
            self._since = 0
            threading.Thread(target=self._learn_in_background, args=(self._chosen_prompts(),), name="learn", daemon=True).start()

    def _learn_in_background(self, chosen: Prompts) -> None:
        try:
            self._learn(chosen)
        finally:
            self._learning.release()

    def _learn(self, chosen: Prompts) -> None:
        """Have the labeler learn from the few-shots, and judge every example."""
        if self.opinions is not None:
            prompts = dict(self._prompts)
            try:
                verdicts = self.opinions(list(prompts.values()), chosen)
                self._opinions = {name: each for name, each in zip(prompts, verdicts, strict=True) if each is not None}
                self._no_opinion = ""
            except NoOpinion as error:
                self._opinions, self._no_opinion = {}, str(error)
        self._orders = self._ordered()

    def _ordered(self) -> dict[str, list[ReviewedExample]]:
        opinions = self._opinions
        sure = {each.id: abs(_p_of(opinion) - 0.5) for each in self.examples if (opinion := opinions.get(each.id, each.label)) is not None}
        apart = {
            each.id: abs(_p_of(each.label) - _p_of(opinion))
            for each in self.examples
            if each.label is not None and (opinion := opinions.get(each.id)) is not None and opinion.signal != each.label.signal
        }
        return {
            "unsure": spread(sorted(self.examples, key=lambda each: sure.get(each.id, 1.0))),
            "differ": sorted((each for each in self.examples if each.id in apart), key=lambda each: -apart[each.id]),
            "random": spread(self.examples),
            "newest": sorted(self.examples, key=lambda each: -micros(each.prompt_ts)),
        }

    # Details

    def _is_open(self, example: ReviewedExample, known: set[str]) -> bool:
        return example.id not in self.few_shots.decided and example.prompt not in known

    def _known_prompts(self) -> set[str]:
        """Prompts of decided examples: the same text needs no second decision."""
        return {self._prompts[identity] for identity in self.few_shots.decided if identity in self._prompts}

    def _counted(self) -> str:
        strong, weak = self.few_shots.counts.values()
        return f"{strong} strong, {weak} weak."

    def _card_of(self, example: ReviewedExample) -> Card:
        body = orjson.loads(example.line)
        messages, left_out = messages_of(body, self.people)
        channel = str(body.get("channel", ""))
        return Card(
            example.id,
            self.channels.get(channel, channel),
            example.conversation.rpartition(":")[2],
            day_of(example.prompt_ts),
            messages,
            left_out,
            answer_of(body, self.people),
            list(self._opinions_on(example)),
        )

    def _opinions_on(self, example: ReviewedExample) -> Iterator[Opinion]:
        if (label := example.label) is not None:
            yield Opinion(label.model, _in_words(label), label.p)
        if (opinion := self._opinions.get(example.id)) is not None:
            yield Opinion(f"labeler ({opinion.model})", _in_words(opinion), opinion.p)
        if self._no_opinion:
            yield Opinion("labeler", self._no_opinion, None)


def spread(examples: Sequence[ReviewedExample]) -> list[ReviewedExample]:
    """Reorder so that every conversation appears once before any repeats: its windows overlap, so a second one teaches less."""
    seen: Counter[str] = Counter()
    turns = []
    for each in examples:
        turns.append(seen[each.conversation])
        seen[each.conversation] += 1
    return [each for _, each in sorted(zip(turns, examples, strict=True), key=lambda pair: pair[0])]


def _p_of(verdict: SignalVerdict) -> float:
    """The probability of `strong`; 0 or 1 where a verdict has none."""
    return float(verdict.signal == "strong") if verdict.p is None else verdict.p


def _in_words(verdict: SignalVerdict) -> str:
    return verdict.signal if verdict.p is None else f"{verdict.signal} ({100 * verdict.p:.0f} % strong)"
