"""What an `up` is to do, and the commands that it runs for ever, as people run them by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Any

from beepgpt.config.settings import PREFIX, Settings
from beepgpt.connectors.log import SQLITE
from beepgpt.conversations.rules import DURATIONS, BadRules, Rules
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

    @property
    def is_changed(self) -> bool:
        """Whether the settings that shape examples are others than those that the live generation was made with."""
        return bool(self.data.difference(self.settings.rules))

    @property
    def former(self) -> Mapping[str, str] | None:
        """The variables by which the live generation's commands keep the settings that it was made with, where these have changed.

        None: this release would make something else by them.
        """
        return variables_of(self.data.rules or {}) if self.is_changed else {}

    @property
    def env(self) -> dict[str, str]:
        """The environment of the commands; of the next generation's, the settings as they are now shape what they make."""
        named = {} if self.config is None else {"BEEPGPT_CONFIG": str(self.config.resolve())}
        ours = {"BEEPGPT_ALERTS__STORE": str(self.data.alerts), "BEEPGPT_SLACK__INTERACTIONS_TOPIC": "slack.interactions"}
        return {**os.environ, **named, **ours, **((self.former if not self.data.ahead else None) or {})}

    @property
    def topics(self) -> Sequence[object]:
        """The command that makes the topics of a generation that are missing, and cleans those that nobody has open."""
        one = ("--partitions", 1) if self.data.log.startswith(SQLITE) else ()
        return "topics", self.data.log, *one, "--generation", self.data.generation

    @property
    def retraining(self) -> Sequence[object]:
        """The command that trains a generation's model anew."""
        return "retrain", self.data.topic("examples"), "--model", self.data.model

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


def variables_of(rules: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The variables that give a command these settings, as a folder notes them. None: this release would make something else by them.

    >>> from dataclasses import asdict
    >>> found = variables_of(asdict(Rules(window=8, horizon=None)))
    >>> found["BEEPGPT_CONVERSATIONS__WINDOW"], found["BEEPGPT_CONVERSATIONS__HORIZON"], found["BEEPGPT_CONVERSATIONS__LATENESS"]
    ('8', 'unlimited', '5000000us')
    >>> variables_of(asdict(Rules()) | {"spec": "0123456789ab"})
    """
    given = {name: value for name, value in rules.items() if name != "spec"}
    try:
        if Rules(**given).spec != rules.get("spec"):
            return None
    except (TypeError, BadRules):
        return None
    durations = {name: "unlimited" if given[name] is None else f"{given[name]}us" for name in DURATIONS}
    return {f"{PREFIX}CONVERSATIONS__{name.upper()}": str(value) for name, value in (given | durations).items()}
