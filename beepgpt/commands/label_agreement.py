"""Whether a labeler is worth its labels, measured on few-shots before the first label is written or paid for."""

from __future__ import annotations

from beepgpt.labeling.agreement import LEAST, Accuracy, NoBetterThanChance
from beepgpt.runtime.console import console

NOT_NEEDED = "A local model needs no labels; they are for fine-tuning an LLM (docs/labeling.md)."
"""What everybody who labels should know."""


def check_accuracy(labeler: str, accuracy: Accuracy | None, *, force: bool) -> None:
    """Print a labeler's accuracy on few-shots; None: there are too few. Raises NoBetterThanChance, unless `force`."""
    if accuracy is None:
        console.print(
            f"How often --labeler {labeler} is right is not known: that takes {LEAST} or more few-shots of each signal"
            f" (beepgpt review SOURCE). {NOT_NEEDED}"
        )
        return
    console.print(f"The {labeler} labeler is {accuracy}.")
    if accuracy.is_at_chance and not force:
        others = {"local": "--labeler provider", "rules": "--labeler local or provider"}
        other = others.get(labeler, "other --instructions, another model, or --labeler local")
        raise NoBetterThanChance(
            f"The {labeler} labeler is not known to be better than always saying the same: its labels would turn answers into noise, and"
            f" none is written. What helps: more and clearer few-shots (25 to 50 of each: beepgpt review SOURCE), or {other}."
            f" {NOT_NEEDED} --force labels all the same."
        )
