"""Models: fitted on a training set, and their folders, with a card that says on what, and files that run no code when they are read."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from beepgpt.conversations.events import ts_text
from beepgpt.errors import BeepGPTError
from beepgpt.folders import make_folder, write_private
from beepgpt.training.archives import repeatable
from beepgpt.training.checks import NIL
from beepgpt.training.folder import CARD, FITTED, LABELS, MANIFEST, TRAIN, VALID
from beepgpt.training.live import keep_validated
from beepgpt.training.parts import Parts, parts_of
from beepgpt.training.people import SKETCH, people_of, sketch_of
from beepgpt.training.points import Model, read_examples
from beepgpt.training.ranking import Ranker, fit_ranker, ranker_from
from beepgpt.training.remote import labels_in
from beepgpt.training.text import TextModel, fit_text

FORMAT = 1
REMOTE = "remote"
"""The kind of a model that a server has: its folder holds the labels, and how the server is asked."""
LIBRARIES = ("beepgpt", "lightgbm", "numpy", "scikit-learn", "skops")
REMOTE_LIBRARIES = ("beepgpt", "openai")

KINDS: Mapping[str, Callable[[dict[str, Any]], Model]] = {"local": ranker_from, "text": lambda state: TextModel(**state)}
TRUSTED: Mapping[str, frozenset[str]] = {"local": frozenset({"collections.OrderedDict", "lightgbm.basic.Booster"}), "text": frozenset()}
"""Types that a model's file may hold beside those that skops trusts: lightgbm reads a Booster from its own text format."""
WITH_SKLEARN = {"text"}
"""Kinds that hold estimators of scikit-learn, which another version of it may read wrongly."""


class BadModel(BeepGPTError):
    """A model can't be used; the message names its folder and says what to do."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Trained:
    """A model with its card."""

    model: Model
    card: dict[str, Any]
    folder: Path


def save_model(
    folder: Path, model: Ranker | TextModel, about: Mapping[str, Any], manifest: bytes, people: Collection[str] = ()
) -> dict[str, Any]:
    """Write a model's folder, its card last: a folder with a card is whole. `about`: keys of the card; `manifest`: the training set's;
    `people`: among whom it was trained, of whom a sketch is written."""
    kind = "local" if isinstance(model, Ranker) else "text"
    files = {FITTED: repeatable(skops.io.dumps(model.state())), **_sketch_of(people, manifest)}
    return _save(folder, kind, manifest, model.labels, about, files, LIBRARIES)


def save_remote(folder: Path, labels: bytes, about: Mapping[str, Any], manifest: bytes, people: Collection[str] = ()) -> dict[str, Any]:
    """Write the folder of a model that a server answers for. `labels`: the set's labels.json; `about["remote"]`: how it is asked;
    `people`: as in `save_model`."""
    labeled = list(labels_in(orjson.loads(labels)).values())
    return _save(folder, REMOTE, manifest, labeled, about, {LABELS: labels, **_sketch_of(people, manifest)}, REMOTE_LIBRARIES)


def _sketch_of(people: Collection[str], manifest: bytes) -> dict[str, bytes]:
    return {SKETCH: sketch_of(people, hash_of(manifest))} if people else {}


def _save(
    folder: Path,
    kind: str,
    manifest: bytes,
    labels: list[str] | None,
    about: Mapping[str, Any],
    files: Mapping[str, bytes],
    libraries: Sequence[str],
) -> dict[str, Any]:
    make_folder(folder)
    keep_validated(folder)
    card_path = folder / CARD
    card_path.unlink(missing_ok=True)
    for name, content in files.items():
        write_private(folder / name, content)
    card = {
        "format": FORMAT,
        "kind": kind,
        "manifest": hash_of(manifest),
        **({"parts": parts.as_json()} if (parts := parts_of(orjson.loads(manifest))) else {}),
        "labels": labels,
        **about,
        "versions": {"python": platform.python_version(), **{library: version(library) for library in libraries}},
        "files": {name: hash_of(content) for name, content in files.items()},
    }
    part = card_path.with_suffix(".part")
    write_private(part, orjson.dumps(card, option=orjson.OPT_INDENT_2) + b"\n")
    part.rename(card_path)
    return card


def read_card(folder: Path) -> dict[str, Any]:
    """A model's card, after its files are checked against their hashes. Raises BadModel."""
    try:
        card: dict[str, Any] = orjson.loads((folder / CARD).read_bytes())
        if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("kind") not in (*KINDS, REMOTE):
            raise BadModel(f"{folder}: was trained by another version of beepgpt: train it again")
        for name, digest in card["files"].items():
            if digest != hash_of((folder / name).read_bytes()):
                raise BadModel(f"{folder}: {name} is not the file that was trained: train it again")
    except FileNotFoundError as error:
        raise BadModel(
            f"{folder}: is no trained model ({Path(error.filename).name} is missing): beepgpt train DIR --to {folder}"
        ) from error
    except (orjson.JSONDecodeError, NotADirectoryError) as error:
        raise BadModel(f"{folder}: is no trained model ({CARD} can't be read): train it again") from error
    return card


def load_model(folder: Path) -> Trained:
    """A model of this machine from its folder; a server's is opened by beepgpt/commands/provider.py. Raises BadModel."""
    card = read_card(folder)
    if card["kind"] == REMOTE:
        raise BadModel(f"{folder}: a server has this model, and here one is needed that runs on this machine: beepgpt train --model local")
    parts = (folder / FITTED).read_bytes()
    kind = card["kind"]
    trained_with = card["versions"]["scikit-learn"]
    if kind in WITH_SKLEARN and trained_with != version("scikit-learn"):
        now = version("scikit-learn")
        raise BadModel(f"{folder}: was trained with scikit-learn {trained_with}, and this is {now}: train it again, or install that one")
    try:
        state = skops.io.loads(parts, trusted=sorted(TRUSTED[kind]))
    except UntrustedTypesFoundException as error:
        raise BadModel(f"{folder}: {FITTED} holds what no model of ours does, so it is not read: train it again") from error
    return Trained(KINDS[kind](state), card, folder)


def hash_of(content: bytes) -> str:
    """The sha256 of a file's content."""
    return sha256(content).hexdigest()


def weak_is_nobody(manifest: Mapping[str, Any]) -> bool:
    """Whether a training set counts answers with a weak signal as nobody's, also for a model of this machine (`prepare --weak nil`).

    >>> weak_is_nobody({"settings": {"sides": {"weak": "weak"}}}), weak_is_nobody({})
    (False, False)
    """
    return bool(manifest.get("settings", {}).get("sides", {}).get("weak") == NIL)


def spec_of_set(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The card's keys about the examples of a training set: their spec, and the settings behind it if they are known."""
    examples = manifest.get("examples", {})
    return {"spec": examples.get("spec"), **({"settings": examples["settings"]} if examples.get("settings") else {})}


def train_here(
    folder: Path, kind: str, into: Path, *, seed: int, threads: int, status: Callable[[str], None], whole: bool = False
) -> dict[str, Any]:
    """Fit a `local` or a `text` model on the training set `folder`, and write it to `into`; returns its card.

    `threads`: 0 for as many as processors are idle; the model is the same. `status` is called with the current step. `whole`: on both
    sides of the set, so that only what comes later can judge it.
    Raises BadTable, OtherFeatures, TooLittle.
    """
    manifest = (folder / MANIFEST).read_bytes()
    status("reading")
    parsed = orjson.loads(manifest)
    tables = [folder / TRAIN, *([folder / VALID] if whole else [])]
    examples = read_examples(*tables, as_happened=not weak_is_nobody(parsed))
    until = int(examples.settled_ts.max(initial=0))
    card: dict[str, Any] = {
        **spec_of_set(parsed),
        "trained_on": {
            "examples": len(examples),
            "answered": sum(bool(answer) for answer in examples.answers),
            "settled_until": ts_text(until),
        },
        **({"parts": Parts(until + 1, until + 1).as_json()} if whole else {}),
    }
    people = people_of(examples.points)
    status("fitting")
    if kind == "text":
        return save_model(into, fit_text(examples), card, manifest, people)
    ranker, fit = fit_ranker(examples, seed=seed, threads=threads, progress=lambda tree, most: status(f"tree {tree} of at most {most}"))
    return save_model(into, ranker, {**card, "seed": seed, "fit": fit}, manifest, people)
