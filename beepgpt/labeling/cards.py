"""What a review shows: values that `labeling.review_queue` makes and the page of `web` renders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
