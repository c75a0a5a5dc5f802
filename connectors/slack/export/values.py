"""Values: an export, its channels, day files and archive members."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args

from beepgpt.connectors.slack.channel_kinds import ListedKind
from beepgpt.errors import BeepGPTError

ChannelKind = Literal[ListedKind, "unlisted"]
"""`unlisted`: a folder that no listing names, so that nothing shows whether it is public."""
KINDS: tuple[ChannelKind, ...] = get_args(ChannelKind)
PUBLIC: tuple[ChannelKind, ...] = ("channels",)
MAX_DAY_FILE = 256 * 2**20
"""The most bytes of an unpacked day file; decoded it takes about ten times that."""
MAX_REJECT = 2**20
"""The most bytes of a rejected day file in its dead letter: the file itself is still in the export."""
PARTITION = "export"
LISTINGS: dict[str, ListedKind] = {f"{kind}.json": kind for kind in get_args(ListedKind)}


class BadExport(BeepGPTError):
    """A file or folder can't be read as a Slack export; the message says what to do."""


class UnreadableDay(NamedTuple):
    """A day file that can't be read, for the dead letters."""

    reason: str
    place: str
    record: bytes
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a zip or folder."""

    name: str
    stored: int
    """Its bytes in the archive."""
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True, slots=True)
class DayFile:
    """A file of a channel's messages on one day, by the workspace's local time."""

    date: date
    place: str
    """Its name in the export: `folder/2022-01-02.json`."""
    copies: tuple[Member, ...]
    """Members of this name. The last one is read, as unzip does."""


@dataclass(frozen=True, slots=True)
class ExportChannel:
    """A channel, with its day files in order."""

    id: str
    name: str
    kind: ChannelKind
    days: tuple[DayFile, ...]
    is_listed: bool = True
    """Whether a listing names it; else its kind is what its folder's name shows, or `unlisted`."""


@dataclass(frozen=True, slots=True)
class Export:
    """An open export: its channels and files, without their messages."""

    path: Path
    channels: tuple[ExportChannel, ...]
    """Ordered by id."""
    left_out: tuple[ExportChannel, ...]
    """Channels of kinds that were not included."""
    unread: tuple[str, ...]
    """JSON files in folders that are no day files of a channel, and symbolic links."""
    max_day_file: int
    listings: tuple[str, ...] = ()
    """The listings that it has: channels.json and the like."""

    @property
    def unlisted(self) -> tuple[ExportChannel, ...]:
        """Folders that no listing names and that are left out."""
        return tuple(channel for channel in self.left_out if not channel.is_listed)


@dataclass(frozen=True, slots=True)
class DayElements:
    """A day file's elements, unchecked, and the day files that can't be read."""

    date: date
    place: str
    messages: list[Any]
    rejects: list[UnreadableDay]


class UnreadableMember(Exception):
    """A member of an archive can't be read; has the reason and the first bytes."""

    def __init__(self, reason: str, detail: str, head: bytes = b"") -> None:
        super().__init__(detail)
        self.reason = reason
        self.head = head
