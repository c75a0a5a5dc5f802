"""The data folder: what stands where in it, who has it, and whether its history is in."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from beepgpt.connectors.log import folder_place
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.rules import Rules, in_words
from beepgpt.errors import BadCommand
from beepgpt.folders import make_folder, replace_private
from beepgpt.locks import lock
from beepgpt.runtime.places import check_names_folder
from beepgpt.runtime.recovery import NOTE
from beepgpt.runtime.steps import contents_of
from beepgpt.training.folder import MODELS
from beepgpt.training.live import card_in, copy_pair, live_in, put_live

INDEX = "index.html"
"""The page that `beepgpt try` makes."""
FROM_SLACK = "slack"
"""In place of an export's fingerprint: the history that Slack itself has."""
STATE = "up.json"
"""By which a data folder is known, and whether its history is in."""


@dataclass(frozen=True)
class DataFolder:
    """The folder that one `beepgpt up` owns."""

    path: Path
    """Absolute."""

    @property
    def log(self) -> str:
        """Where the topics are, as an address begins."""
        return folder_place(str(self.path / "log"))

    def topic(self, kind: str, *, follow: bool = False) -> str:
        """The address of a topic: `events`, `predictions`, …"""
        return f"{self.log}/slack.{kind}{'?follow=true' if follow else ''}"

    def recovery(self, name: str) -> Path:
        """The recovery store of a flow."""
        return self.path / "state" / name

    @property
    def model(self) -> Path:
        """The live pair of model and threshold."""
        return self.path / "model"

    @property
    def first(self) -> Path:
        """Where `beepgpt try` makes the first model; its pages stay."""
        return self.path / "first"

    @property
    def fetched(self) -> Path:
        """Where `beepgpt history` puts what it reads, where no export is given; it stays as long as `first` has more than pages."""
        return self.path / "history"

    @property
    def alerts(self) -> Path:
        """The store of `beepgpt alert`."""
        return self.path / "alerts.sqlite"

    @property
    def outcomes_page(self) -> Path:
        """How well predictions did."""
        return self.path / "outcomes.html"

    @property
    def outcomes_report(self) -> Path:
        """The same as JSON."""
        return self.path / "outcomes.json"

    def check_own(self) -> None:
        """Raise BadCommand if something else stands there."""
        check_names_folder("--data", self.path)
        if self.path.is_dir() and not (self.path / STATE).exists() and any(self.path.iterdir()):
            raise BadCommand(f"--data {self.path}: holds files that are not of `beepgpt up`: name an empty folder, or a new one")

    def take(self) -> int:
        """Make the folder, if it is missing, for its owner alone, and lock it; returns the descriptor that holds the lock.

        Raises BadCommand if another `up` has it.
        """
        make_folder(self.path)
        held = lock(self.path, BadCommand(f"--data {self.path}: another `beepgpt up` runs on it: stop that one first"))
        self.path.chmod(0o700)
        if not (self.path / STATE).exists():
            replace_private(self.path / STATE, b"{}\n")
        return held

    def check_made_with(self, rules: Rules, forgotten: Forgotten | None) -> None:
        """Raise BadCommand if what is here was made with other settings that shape examples, or with another list of the forgotten: its
        commands would refuse it, one start after the other. The settings of the first start are noted.
        """
        now = asdict(rules)
        was: dict[str, Any] | None = self._state().get("rules")
        if was is None:
            self.note(rules=now)
        elif different := [name for name, value in now.items() if was.get(name) != value]:
            named = [name for name in different if name != "spec"] or different  # the spec says what its settings say
            said = ", ".join(f"{name} was {in_words(name, was.get(name))} and is {in_words(name, now[name])}" for name in named)
            raise BadCommand(f"--data {self.path}: {said}: give what was given first, or begin anew, in a new folder and with an export")
        for note in (self.recovery(name) / NOTE for name in ("examples", "score")):
            if note.exists() and orjson.loads(note.read_bytes()).get("forgotten") != (None if forgotten is None else forgotten.digest):
                raise BadCommand(
                    f"--data {self.path}: the list of the forgotten has changed since: give `beepgpt forget` with the same names once more,"
                    f" with --from {self.path}"
                )

    @property
    def history(self) -> str | None:
        """Which history is in: an export's fingerprint, FROM_SLACK, or nothing ("") where `up` began without; None: none is in yet."""
        return self._state().get("history")

    def check_history(self, fingerprint: str) -> None:
        """Raise BadCommand if what is given can't be the history any more, or if another one is in by a part; "": none is given."""
        history, begun = self.history, self._state().get("begun", fingerprint)
        if history is None and begun != fingerprint:
            raise BadCommand(f"--data {self.path}: another history is in by a part: give that one, or name a new folder")
        if history is not None and fingerprint not in ("", history):
            began = "another history" if history else "live events"
            raise BadCommand(f"--data {self.path}: it began with {began}, and behind that a history would be late: name a new folder")

    def note(self, **state: object) -> None:
        """Note what is `begun`, or that the `history` is in, so that nothing of before joins the log any more; and the `rules`."""
        replace_private(self.path / STATE, orjson.dumps(self._state() | state, option=orjson.OPT_APPEND_NEWLINE))

    def _state(self) -> dict[str, Any]:
        return dict(orjson.loads((self.path / STATE).read_bytes()))

    def pages(self) -> dict[str, tuple[str, Path]]:
        """The pages that are there, by their places in the folder: what each is called (empty where others lead to it), and its file."""
        found = {str(each.relative_to(self.path)): ("", each) for each in self.first.rglob("*.html")}
        named = {self.outcomes_page: "What became of predictions", self.first / INDEX: "The verdict on the export, from which it began"}
        for path, title in named.items():
            if path.exists():
                found[str(path.relative_to(self.path))] = (title, path)
        return found

    @property
    def has_model(self) -> bool:
        """Whether there is a live model."""
        return bool(card_in(live_in(self.model)))

    def adopt_first(self) -> None:
        """Let the model that `try` made be the live one."""
        put_live(self.model, partial(copy_pair, self.first / "set" / MODELS / "local"))

    def clear_first(self) -> None:
        """Remove what `try` read and wrote, once its model is the live one: it holds messages. Its pages and their alerts stay."""
        shutil.rmtree(self.fetched, ignore_errors=True)
        for each in self.first.rglob("*"):
            if each.is_file() and not each.name.endswith((".html", ".alerts.jsonl")):
                each.unlink()


def fingerprint_of(export: Path) -> str:
    """What tells whether an export is still the same."""
    return sha256(orjson.dumps(contents_of(export))).hexdigest()
