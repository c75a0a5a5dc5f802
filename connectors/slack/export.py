"""Slack exports, a zip or a folder: read day file by day file, a channel at a time, without the secrets in them."""

import os
import re
import struct
import unicodedata
import zlib
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, NoReturn, get_args
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import orjson
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from beepgpt.errors import BeepGPTError

ChannelKind = Literal["channels", "groups", "dms", "mpims"]
KINDS: tuple[ChannelKind, ...] = get_args(ChannelKind)
PUBLIC: tuple[ChannelKind, ...] = ("channels",)

MAX_DAY_FILE = 256 * 2**20
"""Bytes of a day file, inflated; decoded it takes about ten times that."""
MAX_REJECT = 2**20
"""Bytes of a rejected day file that its reject keeps: the file itself is still in the export."""

BOMB_RATIO = 200
"""Inflated to stored bytes: chat is below 20."""
BOMB_FROM = 16 * 2**20
"""Bytes from which the ratio counts: a message of a million spaces is no bomb."""
BOMB_TOTAL = 2**30
"""Bytes from which the ratio of the whole zip counts, by its own directory."""

PIECE = 2**20
CHUNK = 1_000
CHUNK_BYTES = 8 * 2**20
PARTITION = "export"

DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.json")
LISTINGS: dict[str, ChannelKind] = {f"{kind}.json": kind for kind in KINDS}
NO_CHANNELS = frozenset(["attachments", "canvases", "file_conversations", "huddle_transcripts", "lists", "__uploads"])
"""Folders that stand beside the channels' in exports since 2024, and in those of other tools."""
FILE_CONVERSATION = re.compile(r"FC[:_]F[A-Z0-9]+")
DIRECT_MESSAGE = re.compile(r"D[A-Z0-9]{7,}")
"""No public channel has capitals in its name."""
ESCAPE = re.compile(rb"(?si)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(\\ud[89a-f][0-9a-f]{2})|\\.")
"""An escaped character beyond the first 65,536; or, as group 1, half of one; or any other escape."""

# No word boundary before a token: in `\nxoxb-1` the `n` belongs to the escape. "xoxo-" needs a digit, as people write it, too.
TOKEN = rb"(?:xoxe\.)?(?:xoxd-(?:[A-Za-z0-9%_+=-]|\\?/)+|xox(?:[a-np-z]|o(?=-[0-9]))-[A-Za-z0-9%_-]+|xapp-[0-9]-[A-Za-z0-9-]+)"
# A `\u0026` after another backslash is no escaped ampersand, and taking it away would break the string.
PARAMETER = re.compile(rb"(&amp;|[?&]|(?<!\\)\\u0026)(?:[A-Za-z0-9_]*=" + TOKEN + rb"|pub_secret=[A-Za-z0-9%_-]+)(&amp;|&|\\u0026)?")
BARE_TOKEN = re.compile(TOKEN)


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


class ListedChannel(NamedTuple):
    """An entry of channels.json, groups.json, dms.json or mpims.json."""

    id: str
    name: str | None
    kind: ChannelKind


class UnreadableMember(Exception):
    """A member of an archive can't be read, why, and how it begins."""

    def __init__(self, reason: str, detail: str, head: bytes = b"") -> None:
        super().__init__(detail)
        self.reason = reason
        self.head = head


def open_export(path: Path, include: Collection[ChannelKind] = PUBLIC, *, max_day_file: int = MAX_DAY_FILE) -> Export:
    """The table of contents of the export at `path`, with the kinds of channels that are included."""
    if unknown := set(include) - set(KINDS):
        raise ValueError(f"no such kind of channel: {', '.join(sorted(unknown))} (there are {', '.join(KINDS)})")
    found, unread = _members(path)
    root = _root(path, found)
    members = [(member.name.removeprefix(root), member) for member in found if member.name.startswith(root)]
    outside = [member.name for member in found if member.name.endswith(".json") and not member.name.startswith(root)]
    listed = [entry for name, member in members if name in LISTINGS for entry in _listed(path, name, member, max_day_file)]
    folders, others = _folders(members)
    channels, skipped = _channels(path, listed, folders, frozenset(include))
    return Export(
        path,
        tuple(channel for channel in channels if channel.kind in include),
        tuple(channel for channel in channels if channel.kind not in include),
        tuple(sorted([*unread, *outside, *others, *skipped])),
        max_day_file,
    )


def read_days(export: Export, channel: ExportChannel) -> Iterator[DayElements]:
    """The channel's days in order; a day file that can't be read is a reject, and reading goes on."""
    for day in channel.days:
        *replaced, last = day.copies
        rejects = [_repeated(export, day, member) for member in replaced]
        try:
            yield DayElements(day.date, day.place, decode_day(read_member(last, export.max_day_file)), rejects)
        except UnreadableMember as error:
            rejects.append(UnreadableDay(error.reason, day.place, strip_secrets(error.head), str(error)))
            yield DayElements(day.date, day.place, [], rejects)


def strip_secrets(raw: bytes) -> bytes:
    r"""Slack's tokens out of JSON as it came, which stays JSON.

    >>> strip_secrets(rb'"https:\/\/files.slack.com\/cat.png?t=xoxe-12-ab&size=2, but xoxb-1-Zz too"')
    b'"https:\\/\\/files.slack.com\\/cat.png?size=2, but  too"'
    """
    if b"xox" not in raw and b"xapp-" not in raw and b"pub_secret" not in raw:
        return raw
    return BARE_TOKEN.sub(b"", PARAMETER.sub(lambda match: match[1] if match[2] else b"", raw))


def decode_day(raw: bytes) -> list[Any]:
    """A day file's list, with the secrets stripped."""
    raw = strip_secrets(raw.removeprefix(b"\xef\xbb\xbf"))
    if not raw or raw.isspace():
        raise UnreadableMember("day_file_empty", "nothing stands in it", raw[:MAX_REJECT])
    try:
        messages = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        messages = _decode_again(raw, error)
    if not isinstance(messages, list):
        raise UnreadableMember("day_file_not_a_list", f"a list was expected, not {type(messages).__name__}", raw[:MAX_REJECT])
    return messages


def _decode_again(raw: bytes, error: orjson.JSONDecodeError) -> Any:
    """Half an emoji, cut off by Slack, must not cost a whole day; all else is told as it is."""
    try:
        return orjson.loads(ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], raw))
    except orjson.JSONDecodeError:
        pass
    try:
        raw.decode()
    except UnicodeDecodeError as not_utf8:
        raise UnreadableMember("day_file_not_utf8", f"{not_utf8.reason} at byte {not_utf8.start:,}", raw[:MAX_REJECT]) from not_utf8
    nul = "; it has NUL bytes" if b"\0" in raw else ""
    raise UnreadableMember("day_file_not_json", f"{error}{nul}", raw[:MAX_REJECT]) from error


def _repeated(export: Export, day: DayFile, member: Member) -> UnreadableDay:
    """An earlier member of the same name, which the last one replaces."""
    try:
        head = read_member(member, export.max_day_file)[:MAX_REJECT]
    except UnreadableMember as error:
        head = error.head
    return UnreadableDay("day_file_repeated", day.place, strip_secrets(head), "the archive holds a later file of this name")


def read_member(member: Member, most: int) -> bytes:
    """All of a member; its size is what is really read, whatever the archive's directory says."""
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


def _members(path: Path) -> tuple[list[Member], list[str]]:
    """The files of a zip or folder without the operating systems' own, and the names of those that can't belong to it."""
    try:
        if path.is_dir():
            return _members_of_folder(path)
        if not path.exists():
            raise BadExport(f"{path}: there is no such file or folder")
        return _members_of_zip(path)
    except (OSError, ValueError) as error:
        raise BadExport(f"{path}: can't be read ({error}): check its permissions, or copy it anew") from error


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
    except (BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
        with path.open("rb") as file:
            begins_as_zip = file.read(2) == b"PK"
        if begins_as_zip:
            raise BadExport(f"{path}: the zip is cut short or damaged ({error}): download it again") from error
        raise BadExport(f"{path}: neither a zip file nor a folder: give Slack's export as it was downloaded") from error


def _open_in_zip(archive: ZipFile, info: ZipInfo) -> IO[bytes]:
    # zipfile inflates the other methods a whole input piece at a time, without a bound on what comes out.
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise NotImplementedError(f"compressed by method {info.compress_type}, where Slack uses deflate")
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


def _root(path: Path, members: Iterable[Member]) -> str:
    """The folder in the archive that the export stands in: none, or the one that holds all of it."""
    places = [member.name.split("/") for member in members]
    if any(len(place) == 1 and place[0] in LISTINGS for place in places):
        return ""
    if holders := {place[0] for place in places if len(place) == 2 and place[1] in LISTINGS}:
        return _only(path, holders)
    if any(len(place) == 2 and _day(place[-1]) for place in places):
        return ""
    if holders := {place[0] for place in places if len(place) == 3 and _day(place[-1])}:
        return _only(path, holders)
    deeper = next((f" (there is one in {'/'.join(place[:-1])})" for place in places if place[-1] in LISTINGS), "")
    raise BadExport(f"{path}: no Slack export: it has no channels.json and no folder of days. Give the folder that has{deeper}")


def _only(path: Path, holders: set[str]) -> str:
    if len(holders) > 1:
        raise BadExport(f"{path}: holds several exports ({', '.join(sorted(holders))}): unpack it and give one of them")
    return f"{holders.pop()}/"


def _day(name: str) -> date | None:
    """The date that a day file's name gives, if it is one."""
    match = DAY.fullmatch(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def _listed(path: Path, name: str, member: Member, most: int) -> list[ListedChannel]:
    """The entries of channels.json and its like; a broken one stops the reading, lest what it hides be taken for public."""
    try:
        entries = decode_day(read_member(member, most))
    except UnreadableMember as error:
        raise BadExport(f"{path}: {name} can't be read ({error}): download the export again") from error
    return [_entry(path, name, number, entry) for number, entry in enumerate(entries, 1)]


def _entry(path: Path, file: str, number: int, entry: Any) -> ListedChannel:
    def bad(what: str) -> NoReturn:
        raise BadExport(f"{path}: entry {number} of {file} {what}: mend or remove it, or download the export again")

    if not isinstance(entry, dict):
        bad("is not an object")
    if not isinstance(entry.get("id"), str) or not entry["id"]:
        bad("has no id")
    name = entry.get("name") or None
    if name is not None and not isinstance(name, str):
        bad("has a name that is no text")
    return ListedChannel(entry["id"], name, LISTINGS[file])


def _folders(members: Iterable[tuple[str, Member]]) -> tuple[dict[str, list[DayFile]], list[str]]:
    """Each folder's day files, and the names of other JSON files in folders."""
    copies: dict[str, list[Member]] = {}
    unread: list[str] = []
    for name, member in members:
        folder, _, file = name.rpartition("/")
        if folder and _day(file):
            copies.setdefault(name, []).append(member)
        elif folder and file.endswith(".json"):
            unread.append(name)
    folders: dict[str, list[DayFile]] = {}
    for name, same in copies.items():
        folder, _, file = name.rpartition("/")
        if (day := _day(file)) is not None:
            folders.setdefault(folder, []).append(DayFile(day, name, tuple(same)))
    return folders, unread


def _channels(
    path: Path, listed: list[ListedChannel], folders: dict[str, list[DayFile]], include: frozenset[ChannelKind]
) -> tuple[list[ExportChannel], list[str]]:
    """Folders and listings joined, ordered by id; and the names of day files that belong to no channel."""
    by_name: dict[str, list[ListedChannel]] = {}
    by_id: dict[str, list[ListedChannel]] = {}
    for entry in listed:
        by_id.setdefault(entry.id, []).append(entry)
        if entry.name is not None:
            by_name.setdefault(_composed(entry.name), []).append(entry)

    channels: dict[str, ExportChannel] = {}
    skipped: list[str] = []
    for folder, days in sorted(folders.items()):
        entries = by_name.get(_composed(folder)) or by_id.get(folder) or _unlisted(folder)
        if not entries:
            skipped += [day.place for day in days]
            continue
        if len(ids := sorted({entry.id for entry in entries})) > 1:
            raise BadExport(f"{path}: folder {folder} may belong to {' or '.join(ids)}, listed by one name: keep one of them")
        channel = _channel(by_id.get(ids[0], entries), include, days)
        if ids[0] in channels:
            raise BadExport(f"{path}: folder {folder} and another one both belong to {ids[0]}: keep one of them")
        channels[ids[0]] = channel
    for id_, entries in by_id.items():
        channels.setdefault(id_, _channel(entries, include, []))
    return sorted(channels.values(), key=lambda channel: channel.id), skipped


def _channel(entries: list[ListedChannel], include: frozenset[ChannelKind], days: list[DayFile]) -> ExportChannel:
    """A channel that is listed twice is left out if either listing is."""
    entry = next((entry for entry in entries if entry.kind not in include), entries[0])
    return ExportChannel(entry.id, entry.name or entry.id, entry.kind, tuple(sorted(days, key=lambda day: day.date)))


def _unlisted(folder: str) -> list[ListedChannel]:
    """A folder that no listing names keeps its name as id; those that are surely private, or no channel's, are told apart."""
    if "/" in folder or folder in NO_CHANNELS or FILE_CONVERSATION.match(folder):
        return []
    kind: ChannelKind = "dms" if DIRECT_MESSAGE.fullmatch(folder) else "mpims" if folder.startswith("mpdm-") else "channels"
    return [ListedChannel(folder, folder, kind)]


def _composed(name: str) -> str:
    """One spelling of a name: macOS takes accents and kana marks apart in file names."""
    return unicodedata.normalize("NFC", name)


Records = Iterator[bytes]
ExportChunk = tuple[str, int, list[bytes | UnreadableDay]]
"""Partition, number of the first value (from 0, over the whole export), values."""
ExportState = tuple[str, int, int]
"""Channel id, values done in that channel, values done in all."""


def _never() -> bool:
    return False


def _nothing(*_: object) -> None:
    return None


class ExportSource(FixedPartitionedSource[ExportChunk, ExportState]):
    """The wanted channels of an export one after the other, as the records that `to_records` makes of their days."""

    def __init__(
        self,
        export: Export,
        to_records: Callable[[str, Iterator[DayElements]], Records],
        *,
        wanted: Callable[[str], bool] = lambda channel: True,
        stopping: Callable[[], bool] = _never,
        on_end: Callable[[], None] = _nothing,
        progress: Callable[[int, float], None] = _nothing,
    ) -> None:
        """`stopping` ends the reading without `on_end`; `progress` is told how many values came, and the share of day files read."""
        self.export = export
        self.to_records = to_records
        self.wanted = wanted
        self.stopping = stopping
        self.on_end = on_end
        self.progress = progress

    def list_parts(self) -> list[str]:
        return [PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: ExportState | None) -> "_ExportPartition":
        return _ExportPartition(self, resume_state or ("", 0, 0))


class _ExportPartition(StatefulSourcePartition[ExportChunk, ExportState]):
    def __init__(self, source: ExportSource, state: ExportState) -> None:
        self._source = source
        self._channel, self._done, self._total = state
        self._values = self._from(self._channel, self._done)
        self._days = 0
        self._all_days = sum(len(channel.days) for channel in source.export.channels if source.wanted(channel.id))

    def next_batch(self) -> list[ExportChunk]:
        if self._source.stopping():
            raise StopIteration
        values: list[bytes | UnreadableDay] = []
        size = 0
        for channel, done, value in self._values:
            self._channel, self._done = channel, done
            values.append(value)
            size += len(value) if isinstance(value, bytes) else len(value.record)
            if len(values) == CHUNK or size >= CHUNK_BYTES:
                break
        if not values:
            self._source.on_end()
            raise StopIteration
        first = self._total
        self._total += len(values)
        self._source.progress(len(values), self._days / max(self._all_days, 1))
        return [(PARTITION, first, values)]

    def snapshot(self) -> ExportState:
        return self._channel, self._done, self._total

    def close(self) -> None:
        """The archive that is being read is closed."""
        self._values.close()

    def _from(self, start: str, done: int) -> Generator[tuple[str, int, bytes | UnreadableDay], None, None]:
        """The values after the first `done` of channel `start`, each with its channel and its number there."""
        for channel in self._source.export.channels:
            if not self._source.wanted(channel.id):
                continue
            if channel.id < start:
                self._days += len(channel.days)
                continue
            number = 0
            skip = done if channel.id == start else 0
            for number, value in enumerate(self._of(channel), 1):
                if number > skip:
                    yield channel.id, number, value
            if number < skip:
                raise BadExport(
                    f"{self._source.export.path}: channel {channel.id} had {skip:,} records when this run was stopped, and has"
                    f" {number:,} now: give the same export as before, or start anew without the old recovery store"
                )

    def _of(self, channel: ExportChannel) -> Iterator[bytes | UnreadableDay]:
        """A channel's records, and the rejects of a day file before what follows that file."""
        met: deque[UnreadableDay] = deque()

        def days() -> Iterator[DayElements]:
            for day in read_days(self._source.export, channel):
                self._days += 1
                met.extend(day.rejects)
                yield day

        for record in self._source.to_records(channel.id, days()):
            while met:
                yield met.popleft()
            yield record
        yield from met
