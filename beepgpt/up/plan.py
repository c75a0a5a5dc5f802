"""What an `up` is to do, and the commands that it runs for ever, as people run them by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time
from pathlib import Path

from beepgpt.config.settings import Settings
from beepgpt.up.folder import DataFolder

ORDER = ("ingest", "examples", "score", "alert")
"""What runs for ever, in the order in which it is stopped: who writes, before who reads it."""


@dataclass(frozen=True)
class UpPlan:
    """What an `up` is to do."""

    data: DataFolder
    settings: Settings
    config: Path | None
    """The file of settings, if one was named; the commands read the same."""
    export: Path | None
    """An export as history."""
    since: str | None
    """How far back Slack's own history is read; None: an export is given, or nothing."""
    include: str
    night: time
    rebuilds: bool = False
    """Whether a new generation is made of the log, and of a history, before it goes on."""
    is_changed: bool = False
    """Whether the settings that shape examples have changed, so that only what is made anew can be used."""

    @property
    def env(self) -> dict[str, str]:
        """The environment of the commands."""
        named = {} if self.config is None else {"BEEPGPT_CONFIG": str(self.config.resolve())}
        ours = {"BEEPGPT_ALERTS__STORE": str(self.data.alerts), "BEEPGPT_SLACK__INTERACTIONS_TOPIC": "slack.interactions"}
        return {**os.environ, **named, **ours}

    def arguments(self, name: str, port: int) -> Sequence[object]:
        """Of a command that runs for ever: as people run it by hand, with its metrics at `port`."""
        data = self.data
        events, metrics = data.topic("events", follow=True), ("--metrics-port", port)
        match name:
            case "ingest":
                return "ingest", "slack", "--to", data.topic("events"), "--include", self.include, *metrics
            case "examples":
                return "examples", events, "--to", data.topic("examples"), "--recovery", data.recovery("examples"), *metrics
            case "score":
                to = ("--to", data.topic("predictions"), "--outcomes", data.topic("outcomes"))
                return "score", events, "--model", data.model, *to, "--recovery", data.recovery("score"), *metrics
        read = {each: data.topic(each, follow=True) for each in ("predictions", "interactions", "outcomes")}
        also = ("--interactions", read["interactions"], "--outcomes", read["outcomes"], "--deletions", events)
        return "alert", read["predictions"], *also, "--model", data.model, "--to", data.topic("alerts"), *metrics
