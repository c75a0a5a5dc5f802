"""The data folder: what stands where in it, who has it, and whether its history is in."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import backoff
import orjson

from beepgpt.connectors.log import SQLITE, Log, TopicInUse, folder_place
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.rules import Rules, in_words
from beepgpt.errors import BadCommand, CannotWrite, RunStopped, cannot_write
from beepgpt.folders import UP_NOTE, make_folder, replace_private
from beepgpt.locks import lock
from beepgpt.runtime.places import check_names_folder
from beepgpt.runtime.recovery import NOTE
from beepgpt.runtime.steps import contents_of
from beepgpt.training.folder import MODELS
from beepgpt.training.live import card_in, copy_pair, live_in, put_live
from beepgpt.up.children import PATIENCE
from beepgpt.up.generations import COLLECTED, MADE_ANEW, suffix_of

INDEX = "index.html"
"""The page that `beepgpt try` makes."""
FROM_SLACK = "slack"
"""In place of an export's fingerprint: the history that Slack itself has."""


@dataclass(frozen=True)
class DataFolder:
    """The folder that one `beepgpt up` owns.

    Its log, and all that is made of it, is of a generation. The first is 1, and has no number in its names. Where a history is still
    read, live events are collected in generation 0.
    """

    path: Path
    """Absolute."""
    ahead: int = 0
    """By how many generations its names are ahead of the live one's."""

    @property
    def next(self) -> DataFolder:
        """The same folder, with the names of the next generation."""
        return replace(self, ahead=self.ahead + 1)

    @property
    def generation(self) -> int:
        """Which one its names are of."""
        return int(self._state().get("generation", 1)) + self.ahead

    @property
    def suffix(self) -> str:
        """How the names of this generation end."""
        return suffix_of(self.generation)

    @property
    def log(self) -> str:
        """Where the topics are, as an address begins."""
        return str(self._state().get("log") or folder_place(str(self.path / "log")))

    def topic(self, kind: str, *, follow: bool = False) -> str:
        """The address of a topic: `events`, `predictions`, …"""
        return f"{self.log}/{self.topic_name(kind)}{'?follow=true' if follow else ''}"

    def topic_name(self, kind: str) -> str:
        """What a topic is called."""
        return f"slack.{kind}{self.suffix if kind in MADE_ANEW else ''}"

    def recovery(self, name: str) -> Path:
        """The recovery store of a flow."""
        return self.path / f"state{self.suffix}" / name

    @property
    def model(self) -> Path:
        """The live pair of model and threshold."""
        return self.path / f"model{self.suffix}"

    @property
    def first(self) -> Path:
        """Where `beepgpt try` makes the first model; its pages stay."""
        return self.path / "first"

    @property
    def fetched(self) -> Path:
        """Where `beepgpt history` puts what it reads of before this generation, until it is on its log, and a model is there."""
        return self.path / f"history{self.suffix}"

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
        if self.path.is_dir() and not (self.path / UP_NOTE).exists() and any(self.path.iterdir()):
            raise BadCommand(f"--data {self.path}: holds files that are not of `beepgpt up`: name an empty folder, or a new one")

    def take(self) -> int:
        """Make the folder, if it is missing, for its owner alone, and lock it; returns the descriptor that holds the lock.

        Raises BadCommand if another `up` has it.
        """
        try:
            make_folder(self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        held = lock(self.path, BadCommand(f"--data {self.path}: another `beepgpt up` runs on it: stop that one first"))
        self.path.chmod(0o700)
        if not (self.path / UP_NOTE).exists():
            replace_private(self.path / UP_NOTE, b"{}\n")
        return held

    def difference(self, rules: Rules) -> str:
        """How the settings that shape examples differ from those that what is here was made with: its commands would refuse it, one start
        after the other. Empty: not at all. The settings of the first start are noted.
        """
        now = asdict(rules)
        if (was := self.rules) is None:
            self.note(rules=now)
        elif different := [name for name, value in now.items() if was.get(name) != value]:
            named = [name for name in different if name != "spec"] or different  # the spec says what its settings say
            return ", ".join(f"{name} was {in_words(name, was.get(name))} and is {in_words(name, now[name])}" for name in named)
        return ""

    def check_list(self, forgotten: Forgotten | None) -> None:
        """Raise BadCommand if what is here was made with another list of the forgotten."""
        for note in (self.recovery(name) / NOTE for name in ("examples", "score")):
            if note.exists() and orjson.loads(note.read_bytes()).get("forgotten") != (None if forgotten is None else forgotten.digest):
                brokers = "" if self.log.startswith(SQLITE) else f" --from {self.log} --drop"
                raise BadCommand(
                    f"--data {self.path}: the list of the forgotten (run.forgotten) has changed since. What is on it is to be removed here,"
                    f" too: beepgpt forget --from {self.path}{brokers} --yes, with the same settings; then start it again"
                )

    @property
    def history(self) -> str | None:
        """Which history is in: an export's fingerprint, FROM_SLACK, or nothing ("") where `up` began without; None: none is in yet."""
        return self._state().get("history")

    @property
    def rules(self) -> dict[str, Any] | None:
        """The settings that shape examples as what is here was made with them; None: nothing is yet."""
        return self._state().get("rules")

    @property
    def rebuilt(self) -> list[str] | None:
        """The history for which all was made anew, and of which channels, as long as each start asks for it; None: it was not asked for."""
        return self._state().get("rebuilt")

    @property
    def since(self) -> str | None:
        """How far back Slack's history is read, as long as that is not in."""
        return self._state().get("since")

    def check_history(self, fingerprint: str) -> None:
        """Raise BadCommand if what is given can't be the history any more, or if another one is in by a part; "": none is given."""
        history, begun = self.history, self._state().get("begun", fingerprint)
        if history is None and begun != fingerprint:
            raise BadCommand(f"--data {self.path}: another history is in by a part: give that one, or name a new folder")
        if history is not None and fingerprint not in ("", history):
            began = "another history" if history else "live events"
            raise BadCommand(
                f"--data {self.path}: it began with {began}, and behind that a history would be late: add --rebuild, which makes a new"
                " log with it, in the order of time, or name a new folder"
            )

    def note(self, **state: object) -> None:
        """Note what is `begun`, or that the `history` is in, so that nothing of before joins the log any more; and the `rules`.

        None: it is no longer so. All of it is noted at once, or nothing.
        """
        kept = {name: value for name, value in (self._state() | state).items() if value is not None}
        replace_private(self.path / UP_NOTE, orjson.dumps(kept, option=orjson.OPT_APPEND_NEWLINE))

    def _state(self) -> dict[str, Any]:
        return dict(orjson.loads((self.path / UP_NOTE).read_bytes()))

    def choose_log(self, place: str | None) -> None:
        """Note where the log is to be, at the first start; later ones may leave it out. Raises BadCommand where it is another one."""
        was = self._state().get("log")
        if place is None or place == was:
            return
        if self._state():
            raise BadCommand(f"--log {place}: the log of {self.path} is at {was or self.log}: leave --log out, or name a new folder")
        self.note(log=place)

    # Generations

    def begin_collecting(self, since: str) -> None:
        """Note that live events are collected, and how far back a history is read meanwhile, unless that is noted already."""
        if self.generation == COLLECTED:
            return
        shutil.rmtree(self.fetched, ignore_errors=True)  # it would end before what is collected begins
        self.note(generation=COLLECTED, since=since, begun=FROM_SLACK)

    def begin_reading(self, since: str, include: str) -> None:
        """Note which history is read for the next generation, and remove what was read of another one."""
        if self._state().get("reading") != [since, include]:
            self.clear_next()
            self.note(reading=[since, include])

    def check_room(self) -> None:
        """Raise CannotWrite if the disk has no room for all that is here once more."""
        needed = sum(each.stat().st_size for each in self.path.rglob("*") if each.is_file())
        if (free := shutil.disk_usage(self.path).free) < needed:
            raise CannotWrite(f"{self.path}: {free / 1e6:,.0f} MB are free, and about {needed / 1e6:,.0f} are needed: free some space")

    def begin_next(self, log: Log) -> None:
        """Note that the next generation is being written, so that `clear_unused` removes it where it doesn't become the live one.

        Raises RunStopped if somebody else has topics of its names.
        """
        there = log.topics([self.next.topic_name(kind) for kind in MADE_ANEW])
        if full := sorted(name for name in there if any(end for _, end in log.bounds(name).values())):
            raise RunStopped(f"{log.place}: {', '.join(full)} has records of somebody else: see to that, and delete what is not needed")
        self.note(unused=self.next.generation)

    def clear_next(self) -> None:
        """Remove a history that was read for a generation that nobody makes any more."""
        shutil.rmtree(self.next.fetched, ignore_errors=True)

    def swap(self, **state: object) -> None:
        """Let the next generation be the live one, from this moment on; `clear_unused` removes the one before."""
        self.note(generation=self.next.generation, unused=self.generation, since=None, begun=None, reading=None, **state)

    def clear_unused(self, log: Log) -> None:
        """Remove the generation that is noted as unused, if there is one; a kill in its midst leaves the rest to the next call."""
        unused = self._state().get("unused")
        if unused is None:
            return
        old = replace(self, ahead=unused - self.generation)
        for name in log.topics([old.topic_name(kind) for kind in MADE_ANEW]):
            _delete(log, name)
        for folder in (old.recovery(""), old.model):
            shutil.rmtree(folder, ignore_errors=True)
        if unused != self.generation + 1:  # else its history is read on, and the figures are the live one's
            shutil.rmtree(old.fetched, ignore_errors=True)
            for page in (self.outcomes_page, self.outcomes_report):
                page.unlink(missing_ok=True)
        self.note(unused=None)

    def pages(self) -> dict[str, tuple[str, Path]]:
        """The pages that are there, by their places in the folder: what each is called (empty where others lead to it), and its file."""
        found = {str(each.relative_to(self.path)): ("", each) for each in self.first.rglob("*.html")}
        named = {self.outcomes_page: "What became of predictions", self.first / INDEX: "The verdict on the history with which it began"}
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


@backoff.on_exception(backoff.constant, TopicInUse, max_time=PATIENCE, interval=0.5, jitter=None, logger=None)
def _delete(log: Log, topic: str) -> None:
    """Delete a topic, once the commands of an `up` that was killed have ended. Raises LogFailed."""
    log.delete(topic)


def fingerprint_of(export: Path) -> str:
    """What tells whether an export is still the same."""
    return sha256(orjson.dumps(contents_of(export))).hexdigest()
