"""Labels of signal: whether an example teaches something, as judged by a labeler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Signal = Literal["strong", "weak"]


@dataclass(frozen=True, slots=True)
class SignalVerdict:
    """A labeler's label for a prompt."""

    signal: Signal
    p: float | None
    """The probability of `strong`; None: the labeler gives none."""
    model: str
    """The labeler's name, as it is written beside the label."""
