"""The kind of a conversation, by what Slack, an export's listing or a folder's name says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

ListedKind = Literal["channels", "groups", "dms", "mpims"]
"""As exports name them: public channels, private channels, direct messages, group direct messages."""

ID = re.compile(r"([CDG])[A-Z0-9]*")
OF_TWO = re.compile(r"D[A-Z0-9]{7,}")
PRIVATE = re.compile(r"G[A-Z0-9]{7,}")
"""Private channels and group direct messages that were made before March 2021. No channel has capitals in its name."""


def kind_of(about: Mapping[str, Any], listing: ListedKind = "channels") -> ListedKind:
    """The kind of a conversation by its description, and by the listing that it stands in: the most private of what they say.

    Exporters write the Web API's descriptions of all conversations into channels.json, and `is_group` is true only of private channels
    that were made before March 2021.

    >>> kind_of({"id": "C1", "is_channel": True, "is_group": False, "is_private": True}), kind_of({"id": "C1"}), kind_of({"id": "D1"})
    ('groups', 'channels', 'dms')
    """
    # Exporters rewrite names and values: isPrivate, "false", ids in lower case. What is in doubt is private.
    about = {name.replace("_", "").lower(): each for name, each in about.items()}
    letter = match[1] if (match := ID.fullmatch(str(about.get("id")).upper())) else ""
    if listing == "dms" or about.get("isim") or letter == "D":
        return "dms"
    if listing == "mpims" or about.get("ismpim") or str(about.get("name")).startswith("mpdm-"):
        return "mpims"
    is_private = about.get("isprivate")
    if is_private is None:
        is_private = letter == "G"  # a private channel that was made public keeps its G, but then it says that it isn't private
    is_other = about.get("ischannel", True) not in (True, "true", "True")
    return "groups" if listing == "groups" or is_private or about.get("isgroup") or is_other else "channels"


def kind_by_name(folder: str) -> ListedKind | None:
    """The kind of a conversation that only its folder's name says something of; None if it says nothing.

    >>> kind_by_name("D024BE91L"), kind_by_name("mpdm-ana--bo-1"), kind_by_name("G01SECRET9A"), kind_by_name("general")
    ('dms', 'mpims', 'groups', None)
    """
    if OF_TWO.fullmatch(folder):
        return "dms"
    if folder.startswith("mpdm-"):
        return "mpims"
    return "groups" if PRIVATE.fullmatch(folder) else None
