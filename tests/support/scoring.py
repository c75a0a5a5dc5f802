"""What the tests of scoring share: a simulated workspace, and a small model that was fitted on its examples."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from beepgpt.commands.provider import open_model
from beepgpt.config.settings import Settings
from beepgpt.conversations.rules import Rules
from beepgpt.simulation.workspace import Plan, live_records
from beepgpt.training.models import save_model, save_remote
from beepgpt.training.points import examples_of
from beepgpt.training.ranking import Ranker, fit_ranker
from beepgpt.training.reloading import WatchedModel
from tests.support import run_of

RULES = Rules()
SPEC = RULES.spec
SHOWN = ("spec", "target", "scope", "channel", "speakers", "root_missing", "prompt_ts", "window", "prompt", "prompt_tokens", "candidates")
"""What an example and a prediction say alike."""


@cache
def workspace(messages: int = 300, seed: int = 7) -> tuple[bytes, ...]:
    """A workspace's live stream."""
    return tuple(live_records(Plan(seed=seed, messages=messages, channels=4, people=12, days=20)))


@cache
def ranked() -> tuple[Ranker, tuple[bytes, ...]]:
    """A small model and the lines of the examples it was fitted on."""
    lines = tuple(run_of(workspace(900, 5), RULES).examples)
    ranker, _ = fit_ranker(examples_of([json.loads(line) for line in lines]), rounds=5, threads=1)
    return ranker, lines


def watched_model(folder: Path, settings: Settings) -> WatchedModel:
    """The model in a folder, as `beepgpt score` opens it."""
    return WatchedModel(folder, settings.rules, partial(open_model, settings=settings))


def save(folder: Path, people: Collection[str] = (), **told: Any) -> Path:
    """The model's folder; `people`: among whom it was trained."""
    save_model(folder, ranked()[0], {"spec": SPEC, **told}, b"{}", people)
    return folder


def save_served(folder: Path, people: Mapping[str, str]) -> Path:
    """The folder of a model that a server has, as `mine`; `people`: who has which label."""
    labels = {"people": [{"label": label, "user": user} for label, user in people.items()]}
    told = {"spec": SPEC, "remote": {"model": "mine", "way": "chat", "system": ""}}
    save_remote(folder, json.dumps(labels).encode(), told, b"{}")
    return folder


def assert_served_as_trained(examples: list[bytes], predictions: list[dict[str, Any]]) -> None:
    """Law 5: all that an example says of its point, the prediction of that point says, in the same words."""
    scored: dict[tuple[str, str], Mapping[str, Any]] = {
        (conversation, each["prompt_ts"]): each for each in predictions for conversation in each["conversations"]
    }
    assert examples
    for example in map(json.loads, examples):
        prediction = scored[example["conversation"], example["prompt_ts"]]
        assert {name: prediction[name] for name in SHOWN} == {name: example[name] for name in SHOWN}
