"""An export's channels, day files and members: values."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args

from beepgpt.errors import BeepGPTError

ChannelKind = Literal["channels", "groups", "dms", "mpims"]
KINDS: tuple[ChannelKind, ...] = get_args(ChannelKind)
PUBLIC: tuple[ChannelKind, ...] = ("channels",)
MAX_DAY_FILE = 256 * 2**20
"""Bytes of a day file, inflated; decoded it takes about ten times that."""
MAX_REJECT = 2**20
"""Bytes of a rejected day file that its reject keeps: the file itself is still in the export."""
PARTITION = "export"
LISTINGS: dict[str, ChannelKind] = {f"{kind}.json": kind for kind in KINDS}


class BadExport(BeepGPTError):
    """What was given can't be read as a Slack export; the message says what to do."""


class UnreadableDay(NamedTuple):
    """A day file that can't be read: it goes to the dead letters."""

    reason: str
    place: str
    record: bytes
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive."""

    name: str
    stored: int
    """Bytes that it takes in the archive."""
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True, slots=True)
class DayFile:
    """What was said in a channel on one day of the workspace's local time."""

    date: date
    place: str
    """Its name in the export: `folder/2022-01-02.json`."""
    copies: tuple[Member, ...]
    """Members of this name. The last one is read, as every unzip does."""


@dataclass(frozen=True, slots=True)
class ExportChannel:
    """A channel of an export, in order of its days."""

    id: str
    name: str
    kind: ChannelKind
    days: tuple[DayFile, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """What stands in an export: opening it reads its table of contents, and no message."""

    path: Path
    channels: tuple[ExportChannel, ...]
    """Ordered by id."""
    left_out: tuple[ExportChannel, ...]
    """Those of a kind that was not included."""
    unread: tuple[str, ...]
    """JSON files in folders that are no channel's day files, and symbolic links."""
    max_day_file: int


@dataclass(frozen=True, slots=True)
class DayElements:
    """A day file's elements as they are, whatever they are; or the reason why there are none."""

    date: date
    place: str
    messages: list[Any]
    rejects: list[UnreadableDay]


class UnreadableMember(Exception):
    """A member of an archive can't be read, why, and how it begins."""

    def __init__(self, reason: str, detail: str, head: bytes = b"") -> None:
        super().__init__(detail)
        self.reason = reason
        self.head = head
