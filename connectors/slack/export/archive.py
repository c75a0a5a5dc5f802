"""An export's values, and the files of a zip or folder."""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from beepgpt.connectors.slack.channel_kinds import ListedKind
from beepgpt.errors import BeepGPTError, NoSuchInput

ChannelKind = Literal[ListedKind, "unlisted"]
"""`unlisted`: a folder that no listing names, so that nothing shows whether it is public."""
KINDS: tuple[ChannelKind, ...] = get_args(ChannelKind)
PUBLIC: tuple[ChannelKind, ...] = ("channels",)
MAX_DAY_FILE = 256 * 2**20
"""The most bytes of an unpacked day file; decoded it takes about ten times that."""
MAX_REJECT = 2**20
"""The most bytes of a rejected day file in its dead letter: the file itself is still in the export."""
PARTITION = "export"
HISTORY_NOTE = "history.json"
"""In a folder that `beepgpt history` fills: what it was asked for, what is read, and whether that is all."""
LISTINGS: dict[str, ListedKind] = {f"{kind}.json": kind for kind in get_args(ListedKind)}


class BadExport(BeepGPTError):
    """A file or folder can't be read as a Slack export; the message says what to do."""


class UnreadableDay(NamedTuple):
    """A day file that can't be read, for the dead letters."""

    reason: str
    channel: str
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
    people: frozenset[str] = frozenset()
    """Users that its users.json says are no bots."""
    is_whole: bool = True
    """False for a folder that `beepgpt history` has not filled yet."""

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


BOMB_RATIO = 200
"""Inflated to stored bytes: chat is below 20."""
BOMB_FROM = 16 * 2**20
"""Bytes from which the ratio counts: a message of a million spaces is no bomb."""
BOMB_TOTAL = 2**30
"""Bytes from which the ratio of the whole zip counts, by its own directory."""
PIECE = 2**20


def read_member(member: Member, most: int) -> bytes:
    """Read a member, up to `most` bytes; the size that the archive claims is not trusted. Raises UnreadableMember."""
    parts: list[bytes] = []
    size = 0
    try:
        with member.open() as file:
            while part := file.read(PIECE):
                parts.append(part)
                size += len(part)
                if size > most:
                    raise UnreadableMember("day_file_too_large", f"over {most:,} bytes", _head(parts))
                if size > BOMB_FROM and size > BOMB_RATIO * member.stored:
                    raise UnreadableMember("day_file_zip_bomb", f"{member.stored:,} bytes become over {size:,}", _head(parts))
    except (BadZipFile, EOFError, struct.error, zlib.error) as error:
        raise UnreadableMember("day_file_damaged", str(error) or "it ends too early", _head(parts)) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise UnreadableMember("day_file_unreadable", str(error), _head(parts)) from error
    return b"".join(parts)


def _head(parts: list[bytes]) -> bytes:
    return parts[0][:MAX_REJECT] if parts else b""


def archive_members(path: Path) -> tuple[list[Member], list[str]]:
    """The files of a zip or folder, without those of operating systems; and the names of files outside it.

    Raises BadExport, NoSuchInput.
    """
    try:
        if path.is_dir():
            return _members_of_folder(path)
        if not path.exists():
            raise NoSuchInput(f"{path}: there is no such file or folder")
        return _members_of_zip(path)
    except (OSError, ValueError) as error:
        raise BadExport(f"{path}: can't be read ({error}): check its permissions, or copy it again") from error


def _members_of_zip(path: Path) -> tuple[list[Member], list[str]]:
    archive = _open_zip(path)
    members, unread = [], []
    total = 0
    for info in archive.infolist():
        total += info.file_size
        name = _name_in_zip(info)
        parts = name.split("/")
        if ".." in parts:
            unread.append(name)
        elif not name.endswith("/") and not any(map(_is_junk, parts)):
            members.append(Member(name, info.compress_size, partial(_open_in_zip, archive, info)))
    if total > BOMB_TOTAL and total > BOMB_RATIO * path.stat().st_size:
        raise BadExport(f"{path}: a zip bomb: it would unpack to {total:,} bytes. Unpack it yourself if you trust it")
    return members, unread


def _open_zip(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except NotImplementedError as error:
        raise BadExport(f"{path}: a zip in a form that can't be read here ({error}): unpack it, and give the folder") from error
    except (BadZipFile, UnicodeDecodeError, struct.error) as error:
        with path.open("rb") as file:
            begins_as_zip = file.read(2) == b"PK"
        if begins_as_zip:
            raise BadExport(f"{path}: the zip is cut short or damaged ({error}): download it again") from error
        raise BadExport(f"{path}: neither a zip file nor a folder: give Slack's export as it was downloaded") from error


def _open_in_zip(archive: ZipFile, info: ZipInfo) -> IO[bytes]:
    # zipfile inflates the other methods a whole input piece at a time, without a bound on what comes out.
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise UnreadableMember("day_file_unreadable", f"compressed by method {info.compress_type}, where Slack uses deflate", b"")
    return archive.open(info)


def _name_in_zip(info: ZipInfo) -> str:
    """The member's name, also where the zip doesn't say that it is UTF-8."""
    name = info.filename.replace("\\", "/").removeprefix("./")
    if info.flag_bits & 0x800:
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


def _members_of_folder(path: Path) -> tuple[list[Member], list[str]]:
    members: list[Member] = []
    unread: list[str] = []
    folders = [(path, "", 0)]
    while folders:
        folder, prefix, depth = folders.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = prefix + os.fsencode(entry.name).decode(errors="replace")
                if _is_junk(entry.name):
                    continue
                if entry.is_symlink():
                    unread.append(name)
                # Deep enough for an export's folder and a name with slashes, but no walk through a whole disk.
                elif entry.is_dir() and depth < 4:
                    folders.append((Path(entry.path), name + "/", depth + 1))
                elif entry.is_file():
                    members.append(Member(name, entry.stat().st_size, partial(_open_file, entry.path)))
    return members, unread


def _open_file(path: str) -> IO[bytes]:
    return open(path, "rb")


def _is_junk(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"
