"""Who may see which channel, by an export's lists: for runs without Slack. People who have left are still listed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from beepgpt.connectors.slack.export import PUBLIC, BadExport, read_listings, read_users


class SlackPerson(NamedTuple):
    """Somebody, as Slack knows them."""

    is_full_member: bool
    """Of our workspace: no guest, no stranger, no bot, not deactivated."""
    zone: str | None
    is_active: bool = True
    """Whether the account was not deactivated: Slack, and exports, may still list who left as a member of a channel."""


class Everybody:
    """Everybody may see everything: for rehearsals, which send nothing."""

    def person(self, user: str) -> SlackPerson:
        """Any person, as a full member."""
        return SlackPerson(True, None)

    def may_see(self, user: str, channel: str, person: SlackPerson) -> bool:
        """True: everybody may see everything."""
        return True


class ListedMembers:
    """Members of channels by an export's lists; a person who isn't listed may see nothing."""

    def __init__(self, path: Path) -> None:
        """Raise BadExport."""
        if not (listed := read_listings(path)):
            raise BadExport(f"{path}: has no channels.json that lists a channel: give a Slack export, zip or folder")
        self._people = {str(each["id"]): each for each in read_users(path)}
        self._members: dict[str, frozenset[str]] = {}
        private = set()
        for each in listed:
            # Of a channel that is listed twice, the members are those that both listings have.
            self._members[each.id] = self._members.get(each.id, each.members) & each.members
            if each.kind not in PUBLIC:
                private.add(each.id)
        self._public = {each.id for each in listed} - private

    def person(self, user: str) -> SlackPerson:
        """Look up a person, as of the export."""
        who = self._people.get(user)
        if who is None:
            return SlackPerson(False, None)
        limited = any(who.get(name) for name in ("deleted", "is_bot", "is_restricted", "is_ultra_restricted", "is_stranger"))
        return SlackPerson(not limited, who.get("tz"), not who.get("deleted"))

    def may_see(self, user: str, channel: str, person: SlackPerson) -> bool:
        """Whether a person is a member of the channel, or a full member of the workspace if the channel is public."""
        is_member = user in self._members.get(channel, ())
        return person.is_active and (is_member or (person.is_full_member and channel in self._public))
