"""A folder that is shaped like a Slack export and filled channel by channel; a note in it says what was asked for, and what is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from beepgpt.connectors.slack.channel_kinds import kind_of
from beepgpt.connectors.slack.export import HISTORY_NOTE, strip_secrets
from beepgpt.conversations.events import micros
from beepgpt.conversations.rules import SECOND
from beepgpt.errors import BadCommand
from beepgpt.folders import make_folder, move_into_place, replace_private, write_private
from beepgpt.locks import lock
from beepgpt.runtime.places import check_names_folder

MAKING = ".making"
"""Where a channel's days are written before they get their place; `beepgpt forget` knows the name."""
PERSON = (
    *("id", "team_id", "name", "real_name", "deleted", "tz", "is_bot", "is_restricted", "is_ultra_restricted", "is_stranger"),
    *("profile", "display_name"),
)
"""What users.json has of each person, in its profile, too: no addresses, telephones or pictures."""


class HistoryFolder:
    """The folder: each channel's days are in a folder with the channel's id as its name, all of them or none."""

    def __init__(self, path: Path) -> None:
        """Raise BadCommand if something else stands there."""
        check_names_folder("--to", path)
        self.path = path
        self._file = path / HISTORY_NOTE
        if path.is_dir() and not self._file.exists() and any(path.iterdir()):
            raise BadCommand(f"--to {path}: holds files that are not of `beepgpt history`: name an empty folder, or a new one")
        self._note: dict[str, Any] = {}

    def take(self) -> int:
        """Make the folder, if it is missing, for its owner alone, lock it, and read its note; returns the descriptor that holds the lock.

        Raises BadCommand if another process has it.
        """
        make_folder(self.path)
        held = lock(self.path, BadCommand(f"--to {self.path}: another `beepgpt history` fills it: wait for it"))
        self.path.chmod(0o700)
        if self._file.exists():
            self._note = orjson.loads(self._file.read_bytes())
        return held

    def begin(self, asked: Mapping[str, str], since: int, until: int) -> None:
        """Note what is asked for, and of which time (microseconds), or go on with what was begun. Raises BadCommand if that differs."""
        was = self._note.get("asked", asked)
        if different := [name for name, value in asked.items() if was.get(name) != value]:
            said = ", ".join(f"{name} was {was.get(name)} and is {asked[name]}" for name in different)
            raise BadCommand(f"--to {self.path}: {said}: give what was given first, or name a new folder")
        if not self._note:
            self._note = {"is_whole": False, "asked": dict(asked), "since": since, "until": until, "read": {}, "refused": {}}
            self._keep_note()

    @property
    def since(self) -> int:
        """Messages are read from here on; microseconds."""
        return int(self._note["since"])

    @property
    def until(self) -> int:
        """Messages are read up to here, in all channels: what came after the first start is left out; microseconds."""
        return int(self._note["until"])

    @property
    def is_whole(self) -> bool:
        """Whether all is there."""
        return bool(self._note["is_whole"])

    @property
    def read(self) -> Mapping[str, Mapping[str, Any]]:
        """The channels that are whole, each with how many messages it has, and from when to when."""
        found: dict[str, Mapping[str, Any]] = self._note["read"]
        return found

    @property
    def refused(self) -> Mapping[str, str]:
        """Once it is whole: channels that Slack refused, and why."""
        found: dict[str, str] = self._note["refused"]
        return found

    def keep_only(self, channels: Iterable[str]) -> None:
        """Remove all other channels, and what a killed run left."""
        self._note["read"] = {channel: self.read[channel] for channel in channels if channel in self.read}
        self._keep_note()
        for each in self.path.iterdir():
            if each.is_dir() and each.name not in self.read:
                shutil.rmtree(each)

    def put(self, channel: str, messages: Mapping[str, bytes]) -> None:
        """Put a channel's messages, by their `ts`, into files by days (of UTC), and note that the channel is whole."""
        days: dict[str, list[bytes]] = {}
        for ts in sorted(messages):
            days.setdefault(f"{datetime.fromtimestamp(micros(ts) // SECOND, UTC):%Y-%m-%d}", []).append(messages[ts])
        making = self.path / MAKING
        shutil.rmtree(making, ignore_errors=True)
        if days:
            make_folder(making)
            for day, said in days.items():
                write_private(making / f"{day}.json", strip_secrets(b"[" + b",\n".join(said) + b"]\n"))
            os.sync()
            move_into_place(making, self.path / channel)
        self._note["read"][channel] = {"messages": len(messages), "first": min(messages, default=None), "last": max(messages, default=None)}
        self._keep_note()

    def list_channels(self, channels: Iterable[Mapping[str, Any]], include: Iterable[str]) -> None:
        """Write channels.json and the like, those of the kinds in `include`."""
        listed: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in include}
        for each in channels:
            listed[kind_of(each)].append(each)
        for kind, entries in listed.items():
            self._write_list(f"{kind}.json", entries)

    def list_people(self, people: Iterable[Mapping[str, Any]]) -> None:
        """Write users.json: the names of people, and which of them are bots, guests or gone."""

        def kept(about: Mapping[str, Any]) -> dict[str, Any]:
            return {name: kept(value) if name == "profile" else value for name, value in about.items() if name in PERSON}

        self._write_list("users.json", map(kept, people))

    def _write_list(self, name: str, entries: Iterable[Mapping[str, Any]]) -> None:
        replace_private(self.path / name, strip_secrets(orjson.dumps(list(entries), option=orjson.OPT_INDENT_2)))

    def finish(self, refused: Mapping[str, str]) -> None:
        """Note that all is there, but for what Slack refused: from now on it is read as an export."""
        self._note |= {"is_whole": True, "refused": dict(refused)}
        self._keep_note()

    def _keep_note(self) -> None:
        replace_private(self._file, orjson.dumps(self._note, option=orjson.OPT_INDENT_2))
