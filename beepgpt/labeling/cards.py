"""What a review shows: values that `labeling.review_queue` makes and the page of `web` renders, and an example in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from beepgpt.conversations.events import micros
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message of a conversation."""

    author: str
    mark: str
    """A letter that stands for the author."""
    seat: int
    """Which of the conversation's people that is, from 1; 0: not known for sure."""
    when: str
    text: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """A label of the example by somebody other than the reviewer: a model, say."""

    who: str
    says: str
    p: float | None
    """The probability of `strong`."""


@dataclass(frozen=True, slots=True)
class Card:
    """An example to judge."""

    id: str
    place: str
    kind: str
    when: str
    messages: Sequence[ShownMessage]
    left_out: str
    """What the prompt doesn't show of the conversation, in words; may be empty."""
    answer: str
    opinions: Sequence[Opinion]


@dataclass(frozen=True, slots=True)
class Choice:
    """An example that the reviewer judged."""

    card: Card
    signal: str
    differs: bool
    """Whether an opinion differs from the reviewer's."""


@dataclass(frozen=True, slots=True)
class View:
    """An order in which the examples are shown."""

    name: str
    title: str
    meaning: str
    """A sentence that explains the order."""
    left: int
    """Examples that are still to judge."""


@dataclass(frozen=True, slots=True)
class Goal:
    """How many examples of a signal are chosen, and how many are wanted."""

    name: str
    count: int
    least: int
    most: int


SEATS = 5
"""Colors that distinguish people."""


def messages_of(body: Mapping[str, Any], people: Mapping[str, str]) -> tuple[list[ShownMessage], str]:
    """The prompt's messages with their authors, and a sentence about messages of the window that it leaves out.

    The window does not say which messages the prompt leaves out, so a message may show several possible authors.
    """
    prompt: str = body["prompt"]
    texts = prompt.removesuffix(SUFFIX).split(SEPARATOR)
    window = _dicts_in(body.get("window"))
    gone = max(len(window) - len(texts), 0)
    users = [str(each.get("user", "")) for each in window]
    seats = list(dict.fromkeys(users))
    shown, before = [], None
    for place, text in enumerate(texts):
        who = list(dict.fromkeys(users[place : place + gone + 1]))
        at = _micros(window[place].get("ts")) if gone == 0 and place < len(window) else None
        when = "" if at is None or before is None else f"{lasting(at - before)} later"
        before = at
        name = " or ".join(_name(each, seats, people) for each in who) or "Somebody"
        seat = seats.index(who[0]) if len(who) == 1 else -1
        shown.append(ShownMessage(name, _mark(name, seat), seat % SEATS + 1 if seat >= 0 else 0, when, text))
    left_out = f"{gone} more in the window, without words or too far back" if gone else ""
    return shown, left_out


def answer_of(body: Mapping[str, Any], people: Mapping[str, str]) -> str:
    """A sentence on who answered, and after how long."""
    seats = list(dict.fromkeys(str(each.get("user", "")) for each in _dicts_in(body.get("window"))))
    answer = [str(each) for each in body.get("answer") or ()]
    known = [_name(each, seats, people) for each in answer if each in seats]
    new = [people.get(each, "") for each in answer if each not in seats]
    names = [*known, *(f"{each}, not seen above," for each in new if each)]
    if unnamed := sum(not each for each in new):
        names.append("somebody not seen above" if unnamed == 1 else f"{unnamed} others, not seen above,")
    if not names:
        return "Nobody answered"
    who = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    who = f"S{who[1:]}" if names[0].startswith("somebody not") else who
    asked, answered = _micros(body.get("prompt_ts")), _micros(body.get("answer_ts"))
    later = "" if asked is None or answered is None else f" {lasting(answered - asked)} later"
    if body.get("target", "next_user") == "next_user":
        return f"{who} answered{later}"
    return f"{who} took part{later and f', the first{later}'}"


def lasting(us: int) -> str:
    """A span of microseconds, in one unit.

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


def day_of(ts: str) -> str:
    """The day and minute of a message's time, UTC; empty if it is none."""
    if (us := _micros(ts)) is None:
        return ""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _micros(ts: object) -> int | None:
    with suppress(ValueError, TypeError, AttributeError):
        return micros(ts)  # type: ignore[arg-type]
    return None
