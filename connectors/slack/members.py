"""Who may see which channel, by an export's lists: for runs without Slack. People who have left are still listed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from beepgpt.errors import CannotRead

LISTS = ("users.json", "channels.json", "groups.json")


class SlackPerson(NamedTuple):
    """Somebody, as Slack knows them."""

    is_full_member: bool
    """Of our workspace: no guest, no stranger, no bot, not deactivated."""
    zone: str | None


class Everybody:
    """Everybody may see everything: for rehearsals, which send nothing."""

    def person(self, user: str) -> SlackPerson:
        """A full member."""
        return SlackPerson(True, None)

    def may_see(self, user: str, channel: str, person: SlackPerson) -> bool:
        """Always."""
        return True


class ListedMembers:
    """Members of channels by an export's lists; a person who isn't listed may see nothing."""

    def __init__(self, path: Path) -> None:
        """Raises CannotRead."""
        if not path.exists():
            raise CannotRead(f"{path}: there is no such file or folder: give a Slack export, zip or folder")
        lists = dict(_lists(path))
        if "channels.json" not in lists:
            raise CannotRead(f"{path}: has no channels.json: give a Slack export, zip or folder")
        self._people = {str(each["id"]): each for each in lists.get("users.json", []) if "id" in each}
        self._public = {str(each["id"]) for each in lists["channels.json"] if "id" in each}
        listed = [each for name in LISTS[1:] for each in lists.get(name, []) if "id" in each]
        self._members = {str(each["id"]): set(each.get("members") or ()) for each in listed}

    def person(self, user: str) -> SlackPerson:
        """Looks up a person, as of the export."""
        who = self._people.get(user)
        if who is None:
            return SlackPerson(False, None)
        limited = any(who.get(name) for name in ("deleted", "is_bot", "is_restricted", "is_ultra_restricted", "is_stranger"))
        return SlackPerson(not limited, who.get("tz"))

    def may_see(self, user: str, channel: str, person: SlackPerson) -> bool:
        """Whether a person is a member of the channel, or a full member of the workspace if the channel is public."""
        return (person.is_full_member and channel in self._public) or user in self._members.get(channel, ())


def _lists(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    try:
        if path.is_dir():
            yield from ((name, _listed((path / name).read_bytes())) for name in LISTS if (path / name).exists())
            return
        with zipfile.ZipFile(path) as archive:
            for each in archive.namelist():
                if PurePosixPath(each).name in LISTS and len(PurePosixPath(each).parts) <= 2:
                    yield PurePosixPath(each).name, _listed(archive.read(each))
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise CannotRead(f"{path}: can't be read as a Slack export ({type(error).__name__})") from error


def _listed(raw: bytes) -> list[dict[str, Any]]:
    """Raises ValueError if it is no list of objects."""
    found = json.loads(raw)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError("no list of objects")
    return found
