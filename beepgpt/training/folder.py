"""The layout of a training set's folder."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import file_digest
from pathlib import Path

import orjson

from beepgpt.errors import BeepGPTError

MANIFEST, LABELS = "manifest.json", "labels.json"
TRAIN, VALID = "candidates_train.parquet", "candidates_valid.parquet"
CHATS = "chat_valid.jsonl"
ROWS = "rows"
"""The beginning of the names of files that say what each row was made of."""
MODELS = "models"
"""The folder of its models, each in a folder of its own."""
CARD = "model.json"
"""A model's card: a folder with one is a whole model."""
FITTED = "model.skops"
"""What a model of this machine learned."""
METRICS = "metrics.json"
"""The figures of the model in the folder, and its threshold, as `beepgpt validate` found them."""
ALERTS = "alerts.json"
"""The threshold that a rehearsal recommended for the model in the folder."""
LIVE, VERSIONS = "live.json", "versions"
"""Which of a folder's versions is live, and where they are, each a folder of its own (beepgpt/training/live.py)."""
COMPARED = "compared"
"""In a version: the model that was compared with the live one before, fitted until the time from which on they were compared."""


class BadSet(BeepGPTError):
    """A file of a training set is not the one that was prepared; the message names it and says what to do."""

    exit_status = 2


def checked(path: Path) -> Path:
    """The path of a set's file, once it is the one that the manifest beside it names; without a manifest there is no set. Raises BadSet."""
    manifest = path.parent / MANIFEST
    if not path.exists() or not manifest.exists():
        return path
    try:
        listed = orjson.loads(manifest.read_bytes())["files"].get(path.name, {}).get("sha256")
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise BadSet(f"{manifest}: names no files: prepare the training set again (beepgpt prepare SOURCE --to {path.parent})") from error
    with path.open("rb") as file:
        if file_digest(file, "sha256").hexdigest() != listed:
            raise BadSet(
                f"{path} is not the file that was prepared: {MANIFEST} {'names another sha256' if listed else 'does not name it'}. Put it"
                f" back, or prepare the training set again (beepgpt prepare SOURCE --to {path.parent}) and train anew"
            )
    return path


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its last part, or the whole path where two are called the same."""
    plain = [each.name for each in folders]
    return [name if plain.count(name) == 1 else str(each) for name, each in zip(plain, folders, strict=True)]
