"""A folder per trained model: what it was trained on, what it can do, and nothing that runs code when it is read."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from training.predictions import Model
from training.ranking import Ranker, ranker_from
from training.text import TextModel, text_model_from

FORMAT = 1
CARD = "model.json"
PARTS = "model.skops"
LIBRARIES = ("beepgpt", "lightgbm", "numpy", "scikit-learn", "skops")

KINDS: Mapping[str, Callable[[dict[str, Any]], Model]] = {"local": ranker_from, "text": text_model_from}
TRUSTED: Mapping[str, frozenset[str]] = {
    "local": frozenset({"collections.OrderedDict", "lightgbm.basic.Booster"}),
    "text": frozenset(),
}
"""What a model's file may hold beside what skops trusts by itself: lightgbm takes a Booster from its own text format."""
WITH_SKLEARN = {"text"}
"""Kinds that hold estimators of scikit-learn, which promise nothing from one of its versions to the next."""


class BadModel(Exception):
    """A model can't be used; the message names its folder and says what to do."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and what is told of it."""

    model: Model
    card: dict[str, Any]
    folder: Path


def save_model(folder: Path, model: Ranker | TextModel, told: Mapping[str, Any], manifest: bytes) -> dict[str, Any]:
    """Writes a model's folder, the card at last: a folder with a card is whole. `manifest`: the training set's."""
    folder.mkdir(parents=True, exist_ok=True)
    card_path = folder / CARD
    card_path.unlink(missing_ok=True)
    parts: bytes = skops.io.dumps(model.state())
    (folder / PARTS).write_bytes(parts)
    card = {
        "format": FORMAT,
        "kind": "local" if isinstance(model, Ranker) else "text",
        "manifest": hash_of(manifest),
        "labels": model.labels,
        **told,
        "versions": {"python": platform.python_version(), **{library: version(library) for library in LIBRARIES}},
        "files": {PARTS: hash_of(parts)},
    }
    part = card_path.with_suffix(".part")
    part.write_bytes(orjson.dumps(card, option=orjson.OPT_INDENT_2) + b"\n")
    part.rename(card_path)
    return card


def load_model(folder: Path) -> Trained:
    """A model from its folder."""
    try:
        card = orjson.loads((folder / CARD).read_bytes())
        parts = (folder / PARTS).read_bytes()
    except FileNotFoundError as error:
        raise BadModel(
            f"{folder}: is no trained model ({Path(error.filename).name} is missing): beepgpt train DIR --to {folder}"
        ) from error
    except (orjson.JSONDecodeError, NotADirectoryError) as error:
        raise BadModel(f"{folder}: is no trained model ({CARD} can't be read): train it again") from error
    if card.get("format") != FORMAT or card.get("kind") not in KINDS:
        raise BadModel(f"{folder}: was trained by another version of beepgpt: train it again")
    if card["files"].get(PARTS) != hash_of(parts):
        raise BadModel(f"{folder}: {PARTS} is not the file that was trained: train it again")
    kind = card["kind"]
    trained_with = card["versions"]["scikit-learn"]
    if kind in WITH_SKLEARN and trained_with != version("scikit-learn"):
        now = version("scikit-learn")
        raise BadModel(f"{folder}: was trained with scikit-learn {trained_with}, and this is {now}: train it again, or install that one")
    try:
        state = skops.io.loads(parts, trusted=sorted(TRUSTED[kind]))
    except UntrustedTypesFoundException as error:
        raise BadModel(f"{folder}: {PARTS} holds what no model of ours does, so it is not read: train it again") from error
    return Trained(KINDS[kind](state), card, folder)


def hash_of(content: bytes) -> str:
    """The sha256 of a file: a training set's manifest names the hashes of all else."""
    return sha256(content).hexdigest()
