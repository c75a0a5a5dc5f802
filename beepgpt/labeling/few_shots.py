"""Few-shots: examples that a person has labeled, in two files of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from beepgpt.conversations.signals import Signal, SignalVerdict
from beepgpt.errors import BadCommand
from beepgpt.labeling.questions import CannotLabel, LabelQuestion, question_in

FILES: dict[Signal, str] = {"strong": "examples_pos.jsonl", "weak": "examples_neg.jsonl"}
PERSON = "person"
"""The `signal_model` of few-shots."""


@dataclass(frozen=True)
class FewShot:
    """An example that a person has labeled."""

    question: LabelQuestion
    text: str
    """What is shown of it: its summary, or its prompt."""
    signal: Signal
    line: bytes


def read_few_shots(folder: Path) -> list[FewShot]:
    """The few-shots of a folder, strong ones first; empty if there is no folder. Raises BadCommand for a line that is none."""
    found: dict[str, FewShot] = {}
    for signal, name in FILES.items():
        path = folder / name
        for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                question = question_in(line)
            except CannotLabel as error:
                raise BadCommand(f"{where}: is no few-shot ({error}): mend the line or take it out") from None
            body = orjson.loads(line)
            if body.get("signal", signal) != signal:
                raise BadCommand(f"{where}: says {body['signal']!r}, and stands among the {signal} ones: put it where it belongs")
            if question.id in found:
                raise BadCommand(f"{where}: the example {question.id} is a few-shot already: take one of the two out")
            summary = body.get("summary")
            text = summary if isinstance(summary, str) and summary.strip() else question.prompt
            found[question.id] = FewShot(question, text, signal, line)
    return list(found.values())


def balanced(few_shots: Sequence[FewShot], most: int) -> list[FewShot]:
    """As many strong as weak few-shots, alternating, `most` at most. The first of each file are taken, the same in every run."""
    strong = [each for each in few_shots if each.signal == "strong"]
    weak = [each for each in few_shots if each.signal == "weak"]
    count = min(len(strong), len(weak), most // 2)
    return [each for pair in zip(strong[:count], weak[:count], strict=True) for each in pair]


def by_hand(few_shots: Sequence[FewShot]) -> dict[str, SignalVerdict]:
    """A person's verdicts, by example id."""
    return {each.question.id: SignalVerdict(each.signal, None, PERSON) for each in few_shots}
