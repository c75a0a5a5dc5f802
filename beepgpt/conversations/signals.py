"""Whether an example teaches something, as a labeler says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Signal = Literal["strong", "weak"]


@dataclass(frozen=True, slots=True)
class SignalVerdict:
    """What a labeler says of a prompt."""

    signal: Signal
    p: float | None
    """Of `strong`; None: the labeler gives none."""
    model: str
    """Who says so, as it is written beside the signal."""
