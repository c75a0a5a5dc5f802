"""What the topics of a generation are called, and how long it takes to make the next one."""

from __future__ import annotations

COLLECTED = 0
"""The generation in which live events are collected while the history is still read."""
MADE_ANEW = ("events", "examples", "labeled", "predictions", "outcomes")
"""Topics of which each generation has its own; what people did in Slack, and were sent, goes on."""
FIRST_TRAINING = 60.0
"""Seconds, about, for a model of what was made anew, and for all to start."""
A_SECOND = 3_000
"""Records of a log, about, that are put in order, made into examples, and made into the state of `score`, in a second."""


def rebuild_seconds(records: int) -> float:
    """About how long it takes to make anew what a log of so many records has.

    >>> rebuild_seconds(180_000)
    120.0
    """
    return FIRST_TRAINING + records / A_SECOND


def suffix_of(generation: int) -> str:
    """How names of a generation end.

    >>> suffix_of(0), suffix_of(1), suffix_of(2)
    ('.0', '', '.2')
    """
    return "" if generation == 1 else f".{generation}"
