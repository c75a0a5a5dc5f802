"""What lies on a reviewer's desk: examples, in an order that makes each decision worth most, and what was decided of them."""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import orjson

from beepgpt.conversations.events import micros
from beepgpt.conversations.signals import SignalVerdict
from beepgpt.errors import BeepGPTError
from beepgpt.labeling.cards import Card, Choice, Goal, Opinion, ShownMessage, View
from beepgpt.labeling.few_shots import FewShots, SignalName

SUFFIX = "\n\n###\n\n"
SEPARATOR = "\n\n"
LEAST, MOST = 25, 50
"""Few-shots of each kind that are wanted."""
AGAIN = 5
"""After so many decisions the labeler learns from them."""
SEATS = 5
"""Colours that tell people apart."""

Prompts = Mapping[SignalName, Sequence[str]]
Think = Callable[[Sequence[str], Prompts], Sequence[SignalVerdict | None]]
"""What somebody says of each prompt who may learn from few-shots."""


class NoOpinion(BeepGPTError):
    """A labeler can't say anything yet; the message says what it needs."""


# Examples


@dataclass(frozen=True, slots=True)
class ReviewedExample:
    """A line of SOURCE, and what of it decides when it is shown."""

    id: str
    line: bytes
    prompt: str
    conversation: str
    prompt_ts: str
    said: SignalVerdict | None = None
    """In SOURCE."""

    @property
    def chance(self) -> int:
        """The same number in every run, as good as a random one."""
        return int.from_bytes(blake2b(self.id.encode(), digest_size=8).digest())


def example_in(line: bytes) -> ReviewedExample | None:
    """An example that somebody answered; None for a silence, which needs no label. Raises ValueError for anything else."""
    body = orjson.loads(line)
    try:
        if not body["answer"]:
            return None
        example = ReviewedExample(body["id"], line, body["prompt"], body["conversation"], body["prompt_ts"], _said_in(body))
        micros(example.prompt_ts)
        told = (example.id, example.prompt, example.conversation)
        lists = (body["answer"], body["window"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("no example") from error
    if not all(isinstance(each, str) for each in told) or not all(isinstance(each, list) for each in lists):
        raise ValueError("no example")
    return example


def _said_in(body: Mapping[str, Any]) -> SignalVerdict | None:
    signal, p, model = (body.get(name) for name in ("signal", "signal_p", "signal_model"))
    if signal not in ("strong", "weak"):
        return None
    return SignalVerdict(signal, p if isinstance(p, float | int) and 0 <= p <= 1 else None, str(model or "SOURCE"))


class Sample:
    """Of many examples as many as a person may see: some by chance, which is the same chance every time, and the newest."""

    def __init__(self, most: int, newest: int, wanted: Iterable[str] = ()) -> None:
        """Those in `wanted` are kept in any case."""
        self.read: Counter[str] = Counter()
        """Lines by what became of them."""
        self.first_unreadable = ""
        self._wanted = set(wanted)
        self._kept: dict[str, ReviewedExample] = {}
        self._by_chance = _Least(most)
        self._newest = _Least(newest)

    def add(self, line: bytes) -> None:
        """A line of SOURCE; one of an id that was there before replaces it."""
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
        self._by_chance.add(example.chance, example)
        self._newest.add(-micros(example.prompt_ts), example)

    def retract(self, identity: str) -> None:
        """A message of the example was deleted: nobody is to see it."""
        self._kept.pop(identity, None)
        self._by_chance.drop(identity)
        self._newest.drop(identity)

    def examples(self) -> list[ReviewedExample]:
        """Each prompt once, in an order of chance."""
        every = {**self._newest.kept, **self._by_chance.kept, **self._kept}
        ordered = sorted(every.values(), key=lambda each: (each.id not in self._kept, each.chance))
        once = {each.prompt: each for each in reversed(ordered)}
        return [each for each in ordered if each.id in self._kept or once[each.prompt] is each]


class _Least:
    """The examples with the least keys."""

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
        """Its place stays empty: what it kept out is not known any more."""
        self.kept.pop(identity, None)


# The desk


@dataclass
class ReviewQueue:
    """The examples, the few-shots, and what a labeler thinks meanwhile."""

    examples: Sequence[ReviewedExample]
    few_shots: FewShots
    think: Think | None = None
    people: Mapping[str, str] = field(default_factory=dict)
    """Names by id, as far as they are known."""
    channels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_id = {each.id: each for each in self.examples}
        self._prompts = {each.id: each.prompt for each in self.examples}
        self._prompts |= {identity: _few_shot_in(line).prompt for identity, _, line in self.few_shots.chosen()}
        self._thoughts: dict[str, SignalVerdict] = {}
        self._no_opinion = ""
        self._since = 0
        self._thinking = threading.Lock()
        self._think_again(self._chosen_prompts())

    # What the page asks for

    @property
    def goals(self) -> list[Goal]:
        """How many few-shots there are of each kind."""
        return [Goal(signal, count, LEAST, MOST) for signal, count in self.few_shots.counts.items()]

    @property
    def views(self) -> list[View]:
        """The orders in which the examples come."""
        known = self._known_prompts()
        left = {name: sum(self._is_open(each, known) for each in order) for name, order in self._orders.items()}
        told = {
            "unsure": ("Unsure first", "Where the labeler is least sure comes first."),
            "differ": ("Disagreements", "Where the labeler and the labels in SOURCE say different things."),
            "random": ("Random", "By chance."),
            "newest": ("Newest", "The newest come first."),
        }
        return [View(name, *told[name], left[name]) for name in told]

    @property
    def last(self) -> str:
        """The id of what was decided last."""
        return "" if self.few_shots.last is None else self.few_shots.last.id

    def card(self, view: str) -> Card | None:
        """The next example that nothing was decided of."""
        known = self._known_prompts()
        example = next((each for each in self._orders[view] if self._is_open(each, known)), None)
        return None if example is None else self._card_of(example)

    def chosen(self) -> list[Choice]:
        """What was chosen; first that of which somebody else says otherwise, then the latest."""
        found = []
        for identity, signal, line in self.few_shots.chosen():
            example = self._by_id.get(identity) or _few_shot_in(line)
            others = {each.signal for each in (example.said, self._thoughts.get(identity)) if each is not None}
            found.append(Choice(self._card_of(example), signal, bool(others - {signal})))
        latest = {entry.id: place for place, entry in enumerate(self.few_shots.entries)}
        return sorted(found, key=lambda each: (not each.differs, -latest.get(each.card.id, -1)))

    def decide(self, identity: str, decision: str) -> str:
        """Strong, weak or skipped, of an example that nothing was decided of."""
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
        """Takes back the last decision, if it is still the one that the page showed."""
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
        """A few-shot goes to the other side, or out."""
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

    # What the labeler thinks

    def _chosen_prompts(self) -> dict[SignalName, list[str]]:
        chosen: dict[SignalName, list[str]] = {"strong": [], "weak": []}
        for identity, signal, _ in self.few_shots.chosen():
            chosen[signal].append(self._prompts[identity])
        return chosen

    def _count_decision(self) -> None:
        """Now and then the labeler thinks again, while the reviewer goes on."""
        self._since += 1
        if self.think is not None and self._since >= AGAIN and self._thinking.acquire(blocking=False):
            self._since = 0
            threading.Thread(target=self._think_aside, args=(self._chosen_prompts(),), name="think", daemon=True).start()

    def _think_aside(self, chosen: Prompts) -> None:
        try:
            self._think_again(chosen)
        finally:
            self._thinking.release()

    def _think_again(self, chosen: Prompts) -> None:
        """The labeler learns from what was chosen, and looks at every example."""
        if self.think is not None:
            prompts = dict(self._prompts)
            try:
                thoughts = self.think(list(prompts.values()), chosen)
                self._thoughts = {name: each for name, each in zip(prompts, thoughts, strict=True) if each is not None}
                self._no_opinion = ""
            except NoOpinion as error:
                self._thoughts, self._no_opinion = {}, str(error)
        self._orders = self._ordered()

    def _ordered(self) -> dict[str, list[ReviewedExample]]:
        thoughts = self._thoughts
        sure = {each.id: abs(_p_of(thought) - 0.5) for each in self.examples if (thought := thoughts.get(each.id, each.said)) is not None}
        apart = {
            each.id: abs(_p_of(each.said) - _p_of(thought))
            for each in self.examples
            if each.said is not None and (thought := thoughts.get(each.id)) is not None and thought.signal != each.said.signal
        }
        return {
            "unsure": spread(sorted(self.examples, key=lambda each: sure.get(each.id, 1.0))),
            "differ": sorted((each for each in self.examples if each.id in apart), key=lambda each: -apart[each.id]),
            "random": spread(self.examples),
            "newest": sorted(self.examples, key=lambda each: -micros(each.prompt_ts)),
        }

    # How

    def _is_open(self, example: ReviewedExample, known: set[str]) -> bool:
        return example.id not in self.few_shots.decided and example.prompt not in known

    def _known_prompts(self) -> set[str]:
        """The same words need no second decision."""
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
            f"#{self.channels[channel]}" if channel in self.channels else channel,
            example.conversation.rpartition(":")[2],
            _day_of(example.prompt_ts),
            messages,
            left_out,
            answer_of(body, self.people),
            list(self._opinions_on(example)),
        )

    def _opinions_on(self, example: ReviewedExample) -> Iterator[Opinion]:
        if (said := example.said) is not None:
            yield Opinion(said.model, _says(said), said.p)
        if (thought := self._thoughts.get(example.id)) is not None:
            yield Opinion(f"labeler ({thought.model})", _says(thought), thought.p)
        if self._no_opinion:
            yield Opinion("labeler", self._no_opinion, None)


def spread(examples: Sequence[ReviewedExample]) -> list[ReviewedExample]:
    """In this order, but every conversation once before any comes again: its windows overlap, so a second one teaches less."""
    seen: Counter[str] = Counter()
    turns = []
    for each in examples:
        turns.append(seen[each.conversation])
        seen[each.conversation] += 1
    return [each for _, each in sorted(zip(turns, examples, strict=True), key=lambda pair: pair[0])]


# An example in words


def messages_of(body: Mapping[str, Any], people: Mapping[str, str]) -> tuple[list[ShownMessage], str]:
    """The prompt's messages and who wrote them; and how many of the window aren't in it.

    A window also names messages that the prompt leaves out, and not which those are: where more than one person may have written what
    is shown, it says so.
    """
    prompt: str = body["prompt"]
    texts = prompt.removesuffix(SUFFIX).split(SEPARATOR)
    window = _dicts_in(body.get("window"))
    gone = max(len(window) - len(texts), 0)
    users = [str(each.get("user", "")) for each in window]
    seats = list(dict.fromkeys(users))
    said, before = [], None
    for place, text in enumerate(texts):
        who = list(dict.fromkeys(users[place : place + gone + 1]))
        at = _micros(window[place].get("ts")) if gone == 0 and place < len(window) else None
        when = "" if at is None or before is None else f"{lasting(at - before)} later"
        before = at
        name = " or ".join(_name(each, seats, people) for each in who) or "Somebody"
        seat = seats.index(who[0]) if len(who) == 1 else -1
        said.append(ShownMessage(name, _mark(name, seat), seat % SEATS + 1 if seat >= 0 else 0, when, text))
    left_out = f"{gone} more in the window, without words or too far back" if gone else ""
    return said, left_out


def answer_of(body: Mapping[str, Any], people: Mapping[str, str]) -> str:
    """Who answered, and after how long."""
    seats = list(dict.fromkeys(str(each.get("user", "")) for each in _dicts_in(body.get("window"))))
    answer = [str(each) for each in body.get("answer") or ()]
    known = [_name(each, seats, people) for each in answer if each in seats]
    new = [people.get(each, "") for each in answer if each not in seats]
    names = [*known, *(f"{each}, not seen above," for each in new if each)]
    if unnamed := sum(not each for each in new):
        names.append("somebody not seen above" if unnamed == 1 else f"{unnamed} others, not seen above,")
    if not names:
        return "Nobody answered"
    told = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    told = f"S{told[1:]}" if names[0].startswith("somebody not") else told
    asked, answered = _micros(body.get("prompt_ts")), _micros(body.get("answer_ts"))
    later = "" if asked is None or answered is None else f" {lasting(answered - asked)} later"
    if body.get("target", "next_user") == "next_user":
        return f"{told} answered{later}"
    return f"{told} took part{later and f', the first{later}'}"


def lasting(us: int) -> str:
    """A span in one unit.

    >>> lasting(42_000_000), lasting(200_000_000), lasting(7_000_000_000), lasting(200_000_000_000)
    ('42 s', '3 min', '2 h', '2 days')
    """
    seconds = us / 1e6
    for size, unit, up_to in ((1, "s", 100), (60, "min", 100), (3600, "h", 48)):
        if seconds / size < up_to:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def _dicts_in(listed: object) -> list[dict[str, Any]]:
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _name(user: str, seats: Sequence[str], people: Mapping[str, str]) -> str:
    return people.get(user) or f"Person {_letter(seats.index(user))}"


def _mark(name: str, seat: int) -> str:
    return "?" if seat < 0 else _letter(seat) if name.startswith("Person ") else name[0].upper()


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _p_of(said: SignalVerdict) -> float:
    """The chance that it is strong; for want of one, all or nothing."""
    return float(said.signal == "strong") if said.p is None else said.p


def _says(said: SignalVerdict) -> str:
    return said.signal if said.p is None else f"{said.signal} ({100 * said.p:.0f} % strong)"


def _day_of(ts: str) -> str:
    if (us := _micros(ts)) is None:
        return ""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _micros(ts: object) -> int | None:
    with suppress(ValueError, TypeError, AttributeError):
        return micros(ts)  # type: ignore[arg-type]
    return None


def _few_shot_in(line: bytes) -> ReviewedExample:
    """A few-shot, which may have come from anywhere: an id and a prompt are all that it must have."""
    body = orjson.loads(line)
    return ReviewedExample(body["id"], line, body["prompt"], str(body.get("conversation", "")), str(body.get("prompt_ts", "")))
