"""A model asked about one point: a row of the validation side, or a text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.tokens import Encoding, build_prompt, unit_tokens
from beepgpt.errors import BadCommand
from beepgpt.training.checks import NIL, OTHER, WEAK
from beepgpt.training.folder import CHATS, LABELS, MANIFEST, VALID, checked
from beepgpt.training.models import Trained, hash_of
from beepgpt.training.points import Examples, Points, Prediction, points_of, read_examples
from beepgpt.training.remote import labels_in

LIKELIEST = 5
NOBODY, SOMEBODY_ELSE = "nobody", "somebody else"
ANSWER_WEAK = "somebody, with a weak signal"
MAX_TOKENS = 2_000
"""Of a prompt made of a text."""
EPOCH = "100000000.000000"
"""A text has no time: any will do."""


def ask_about(
    folder: Path, trained: Trained, row: int | None, text: str | None, load_encoding: Callable[[str], Encoding]
) -> dict[str, Any]:
    """The answer as `beepgpt predict --json` prints it. `row`: of the training set's validation side, from 1; `text`: a conversation.

    With both, the text is asked about in the place of the row's prompt. Raises BadCommand, BadTable.
    """
    manifest = (folder / MANIFEST).read_bytes()
    if trained.card["manifest"] != hash_of(manifest):
        raise BadCommand(f"{trained.folder}: was trained on another training set than {folder}: name its own with --set")
    path = folder / LABELS
    labels = {user: label for label, user in labels_in(orjson.loads(checked(path).read_bytes())).items()} if path.exists() else {}
    needs_features = trained.card["kind"] == "local" or trained.card.get("remote", {}).get("way") == "decisions"
    prompt = None if text is None else _prompt_of(text, load_encoding(orjson.loads(manifest)["encoding"]))
    expected = stand_ins = None
    answered_by: list[str] | None = None
    if row is not None:
        points, expected, answered_by = _row(folder, row, labels, needs_features=needs_features)
    elif needs_features:
        valid = _validation_side(folder)
        row, points = len(valid), valid.points.at(np.array([len(valid) - 1]))
    else:
        points = _point_of(prompt or "")
    if prompt is not None:
        points, expected, answered_by = replace(points, prompt=[prompt]), None, None
        stand_ins = _stand_ins_from(row, points) if needs_features and row is not None else None
    likeliest = _likeliest(trained.model.predict(points).of(0), labels)
    return {
        "model": str(trained.folder),
        "kind": trained.card["kind"],
        "prompt": points.prompt[0],
        **({} if stand_ins is None else {"facts": stand_ins}),
        "expected": expected,
        "answered_by": answered_by,
        "answer": likeliest[0]["label"],
        "likeliest": likeliest[:LIKELIEST],
    }


def _row(folder: Path, row: int, labels: dict[str, str], *, needs_features: bool) -> tuple[Points, str, list[str]]:
    """A row of the validation side as a point, the label that was expected, and who answered."""
    if needs_features or (folder / VALID).exists():
        valid = _validation_side(folder)
        if row > len(valid):
            raise BadCommand(f"--row {row}: {folder / VALID} has {len(valid):,} rows")
        expected = sorted({labels.get(user, OTHER) for user in valid.answers[row - 1]}) or [NIL]
        return valid.points.at(np.array([row - 1])), " or ".join(expected), list(valid.answers[row - 1]) or [NOBODY]
    try:
        with checked(folder / CHATS).open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == row:
                    messages = orjson.loads(line)["messages"]
                    label = messages[-1]["content"]
                    users = {NIL: NOBODY, OTHER: SOMEBODY_ELSE, WEAK: ANSWER_WEAK} | {each: user for user, each in labels.items()}
                    return _point_of(messages[-2]["content"]), label, [users.get(label.strip(), label)]
    except FileNotFoundError as error:
        raise BadCommand(f"{folder}: has no validation rows ({VALID}, {CHATS}): beepgpt prepare SOURCE --to {folder}") from error
    raise BadCommand(f"--row {row}: {folder / CHATS} has fewer rows")


def _validation_side(folder: Path) -> Examples:
    valid = read_examples(folder / VALID)
    if not len(valid):
        raise BadCommand(f"{folder}: its validation side is empty: prepare it again with an earlier cut")
    return valid


def _prompt_of(text: str, encoding: Encoding) -> str:
    """A conversation, an empty line between its messages, as a prompt: cleaned, and without its oldest messages where it is too long."""
    messages = [cleaned for each in re.split(r"\n[^\S\n]*\n", text.strip()) if (cleaned := clean(each))]
    prompt = build_prompt([(each, unit_tokens(each, encoding)) for each in messages], encoding, MAX_TOKENS).text
    if not prompt:
        raise BadCommand("--text: has no words that a prompt would show")
    return prompt


def _point_of(prompt: str) -> Points:
    """A point that has a prompt and nothing else."""
    body = {"conversation": "", "channel": "", "speakers": 1, "prompt_ts": EPOCH, "prompt": prompt}
    return points_of([{**body, "window": [{"ts": EPOCH, "user": ""}], "candidates": {"user": []}}])


def _stand_ins_from(row: int, points: Points) -> str:
    """A sentence on whose candidates and features stand in for those that a text lacks."""
    return (
        f"of row {row:,} (channel {points.channel[0]}): a text alone does not show who might answer, so the people and their features"
        " are those of that moment"
    )


def _likeliest(prediction: Prediction, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Labels by probability, largest first; of equals people come first, then nobody."""
    outcomes = [{"label": labels.get(user, OTHER), "who": user, "p": round(p, 6)} for user, p in prediction.people]
    outcomes.append({"label": NIL, "who": NOBODY, "p": round(prediction.nobody, 6)})
    outcomes.append({"label": OTHER, "who": SOMEBODY_ELSE, "p": round(prediction.other, 6)})
    return sorted(outcomes, key=lambda each: -each["p"])
