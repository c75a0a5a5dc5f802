"""What a `beepgpt try` works on, and where what it makes goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from beepgpt.config.settings import Settings
from beepgpt.connectors.slack import export as slack_export
from beepgpt.training.folder import MODELS


@dataclass(frozen=True)
class TryJob:
    """The arguments of a `try` command."""

    export: Path
    to: Path
    settings: Settings
    include: tuple[slack_export.ChannelKind, ...] = ("channels",)
    named: bool = True
    """Whether pages show names in the place of ids."""
    pages_only: bool = False
    """Whether its pages alone will stay: then they lead to no other file."""

    @property
    def examples(self) -> Path:
        """Where the examples go."""
        return self.to / "examples.jsonl"

    @property
    def training_set(self) -> Path:
        """The folder of the training set."""
        return self.to / "set"

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.training_set / MODELS / "local"

    @property
    def predictions(self) -> Path:
        """Where the predictions go; their outcomes stand beside."""
        return self.to / "predictions.jsonl"

    @property
    def outcomes(self) -> Path:
        """Where the outcomes go."""
        return self.predictions.with_name("predictions.outcomes.jsonl")
