"""Opens an export: finds its channels and day files without reading messages."""

import re
import unicodedata
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import date
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple, NoReturn

import orjson

from beepgpt.connectors.slack.channel_kinds import ListedKind, kind_by_name, kind_of
from beepgpt.connectors.slack.export.archive import (
    HISTORY_NOTE,
    KINDS,
    LISTINGS,
    MAX_DAY_FILE,
    PUBLIC,
    BadExport,
    ChannelKind,
    DayFile,
    Export,
    ExportChannel,
    Member,
    UnreadableMember,
    archive_members,
    read_member,
)
from beepgpt.connectors.slack.export.days import decode_day

SLACKDUMP = (
    ("a database of slackdump", re.compile(r"(?:.*/)?slackdump\.sqlite")),
    ("an archive of slackdump", re.compile(r"(?:.*/)?(?:channels|users|workspace|[CDG][A-Z0-9]{7,}(?:-[0-9.]+)?)\.json\.gz")),
    ("a dump of slackdump", re.compile(r"(?:[^/]*/)?[CDG][A-Z0-9]{7,}(?:-[0-9.]+)?\.json")),
)
"""Formats of slackdump other than its export, by a file that each has: `slackdump_…/C051D4052.json`, say."""
SQLITE = b"SQLite format 3\0"
DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.json")
NO_CHANNELS = frozenset(["attachments", "canvases", "file_conversations", "huddle_transcripts", "lists", "__uploads"])
"""Folders that stand beside the channels' in exports since 2024, and in those of other tools."""
USERS = frozenset({"users.json", "org_users.json"})
"""Lists of people; the second is that of an Enterprise Grid organization."""
FILE_CONVERSATION = re.compile(r"FC[:_]F[A-Z0-9]+")


def open_export(path: Path, include: Collection[ChannelKind] = PUBLIC, *, max_day_file: int = MAX_DAY_FILE) -> Export:
    """Open the export at `path`, with the kinds of channels in `include`. Raises BadExport."""
    if unknown := set(include) - set(KINDS):
        raise ValueError(f"no such kind of channel: {', '.join(sorted(unknown))} (there are {', '.join(KINDS)})")
    found, unread = archive_members(path)
    _check_not_slackdump(path, found)
    root, members = _inside(path, found)
    outside = [member.name for member in found if member.name.endswith(".json") and not member.name.startswith(root)]
    listed = [entry for name, member in members if name.lower() in LISTINGS for entry in _listed(path, name, member, max_day_file)]
    for name in unread:
        if name.removeprefix(root).lower() in LISTINGS:
            raise BadExport(f"{path}: {name} is a symbolic link and is not read, but it may say what is private: put the file in its place")
    folders, others = _folders(members)
    channels, skipped = _channels(path, listed, folders, frozenset(include))
    return Export(
        path,
        tuple(channel for channel in channels if channel.kind in include),
        tuple(channel for channel in channels if channel.kind not in include),
        tuple(sorted([*unread, *outside, *others, *skipped])),
        max_day_file,
        tuple(sorted({name.lower() for name, _ in members if name.lower() in LISTINGS})),
        _people_in(members, max_day_file),
        all(_is_whole(member, max_day_file) for name, member in members if name == HISTORY_NOTE),
    )


class ListedChannel(NamedTuple):
    """An entry of channels.json, groups.json, dms.json or mpims.json."""

    id: str
    name: str | None
    kind: ListedKind
    """By its file, its id, its name and its own flags: the most private of what they say."""
    members: frozenset[str] = frozenset()


def read_listings(path: Path) -> list[ListedChannel]:
    """All entries of an export's listings, a channel's as often as it is listed. Raises BadExport."""
    _, members = _inside(path, archive_members(path)[0])
    return [entry for name, member in members if name.lower() in LISTINGS for entry in _listed(path, name, member, MAX_DAY_FILE)]


def read_users(path: Path) -> list[dict[str, Any]]:
    """The entries of an export's lists of people that have an id. Raises BadExport."""
    _, members = _inside(path, archive_members(path)[0])
    entries = [entry for name, member in members if name in USERS for entry in _entries(path, name, member, MAX_DAY_FILE)]
    return [entry for entry in entries if isinstance(entry, dict) and "id" in entry]


def _people_in(members: Iterable[tuple[str, Member]], most: int) -> frozenset[str]:
    """The users that users.json says are no bots; none if it can't be read, since messages can be."""
    people: set[str] = set()
    for name, member in members:
        if name in USERS:
            with suppress(UnreadableMember):
                entries = [each for each in decode_day(read_member(member, most)) if isinstance(each, dict)]
                people |= {each["id"] for each in entries if each.get("is_bot") is False and isinstance(each.get("id"), str)}
    return frozenset(people)


def _is_whole(note: Member, most: int) -> bool:
    """Whether all is there of what `beepgpt history` was asked for; a file of this name that says nothing of it is somebody else's."""
    with suppress(UnreadableMember, orjson.JSONDecodeError):
        said = orjson.loads(read_member(note, most))
        return not isinstance(said, dict) or said.get("is_whole") is not False
    return True


def _inside(path: Path, found: list[Member]) -> tuple[str, list[tuple[str, Member]]]:
    """The folder that the export stands in, and its members with their names there."""
    root = root_of(path, found)
    return root, [(member.name.removeprefix(root), member) for member in found if member.name.startswith(root)]


def root_of(path: Path, members: Iterable[Member]) -> str:
    """The folder in the archive that the export stands in: none, or the one that holds all of it."""
    places = [member.name.split("/") for member in members]
    if any(len(place) == 1 and place[0].lower() in LISTINGS for place in places):
        return ""
    if holders := {place[0] for place in places if len(place) == 2 and place[1].lower() in LISTINGS}:
        return _only(path, holders)
    if any(len(place) == 2 and date_of(place[-1]) for place in places):
        return ""
    if holders := {place[0] for place in places if len(place) == 3 and date_of(place[-1])}:
        return _only(path, holders)
    deeper = next((f" (there is one in {'/'.join(place[:-1])})" for place in places if place[-1].lower() in LISTINGS), "")
    raise BadExport(f"{path}: no Slack export: it has no channels.json and no folder of days. Give the folder that has them{deeper}")


def _check_not_slackdump(path: Path, members: Iterable[Member]) -> None:
    """Raise BadExport, with the command that converts it, for slackdump's other formats: they have no day files."""
    names = [member.name for member in members]
    if any(date_of(name.rpartition("/")[2]) for name in names):
        return
    for what, pattern in SLACKDUMP:
        if any(map(pattern.fullmatch, names)):
            raise BadExport(f"{path}: {what}, and no Slack export: convert it, and give the result. {how_to_convert(path)}")


def check_no_slackdump_file(path: Path) -> None:
    """Raise BadExport, with the command that converts it, for a database of slackdump, or the file of one channel of its dump."""
    if not path.is_file():
        return  # what is read of a pipe is gone
    with path.open("rb") as file:
        begins = file.read(len(SQLITE))
    if begins == SQLITE:
        raise BadExport(f"{path}: a database, and no Slack export. If slackdump wrote it: {how_to_convert(path)}")
    if SLACKDUMP[-1][1].fullmatch(path.name):
        raise BadExport(f"{path}: one channel of a dump of slackdump: convert the folder that it stands in. {how_to_convert(path.parent)}")


def how_to_convert(path: Path) -> str:
    """The command that makes a Slack export of what slackdump wrote.

    >>> how_to_convert(Path("slackdump_20260501"))
    'slackdump convert -f export -o slackdump_20260501-export.zip slackdump_20260501'
    """
    return f"slackdump convert -f export -o {quote(f'{path.stem}-export.zip')} {quote(str(path))}"


def _only(path: Path, holders: set[str]) -> str:
    if len(holders) > 1:
        raise BadExport(f"{path}: holds several exports ({', '.join(sorted(holders))}): unpack it and give one of them")
    return f"{holders.pop()}/"


def date_of(name: str) -> date | None:
    """The date in a day file's name; None for other names."""
    match = DAY.fullmatch(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def _listed(path: Path, name: str, member: Member, most: int) -> list[ListedChannel]:
    """The entries of channels.json and the like. Raises BadExport for a broken one: it might hide that a channel is private."""
    return [_entry(path, name, number, entry) for number, entry in enumerate(_entries(path, name, member, most), 1)]


def _entries(path: Path, name: str, member: Member, most: int) -> list[Any]:
    try:
        return decode_day(read_member(member, most))
    except UnreadableMember as error:
        raise BadExport(f"{path}: {name} can't be read ({error}): download the export again") from error


def _entry(path: Path, file: str, number: int, entry: Any) -> ListedChannel:
    def bad(what: str) -> NoReturn:
        raise BadExport(f"{path}: entry {number} of {file} {what}: fix or remove it, or download the export again")

    if not isinstance(entry, dict):
        bad("is not an object")
    if not isinstance(entry.get("id"), str) or not entry["id"]:
        bad("has no id")
    name = entry.get("name") or None
    if name is not None and not isinstance(name, str):
        bad("has a name that is no text")
    members = entry.get("members")
    people = frozenset(each for each in members if isinstance(each, str)) if isinstance(members, list) else frozenset()
    return ListedChannel(entry["id"], name, kind_of(entry, LISTINGS[file.lower()]), people)


def _folders(members: Iterable[tuple[str, Member]]) -> tuple[dict[str, list[DayFile]], list[str]]:
    """Day files by folder, and the names of other JSON files in folders."""
    copies: dict[str, list[Member]] = {}
    unread: list[str] = []
    for name, member in members:
        folder, _, file = name.rpartition("/")
        if folder and date_of(file):
            copies.setdefault(name, []).append(member)
        elif folder and file.endswith(".json"):
            unread.append(name)
    folders: dict[str, list[DayFile]] = {}
    for name, same in copies.items():
        folder, _, file = name.rpartition("/")
        if (day := date_of(file)) is not None:
            folders.setdefault(folder, []).append(DayFile(day, name, tuple(same)))
    return folders, unread


def _channels(
    path: Path, listed: list[ListedChannel], folders: dict[str, list[DayFile]], include: frozenset[ChannelKind]
) -> tuple[list[ExportChannel], list[str]]:
    """Join folders with listings: channels by id, and the names of day files that belong to no channel."""
    by_name: dict[str, list[ListedChannel]] = {}
    by_id: dict[str, list[ListedChannel]] = {}
    for entry in listed:
        by_id.setdefault(entry.id, []).append(entry)
        if entry.name is not None:
            by_name.setdefault(_composed(entry.name), []).append(entry)

    channels: dict[str, ExportChannel] = {}
    skipped: list[str] = []
    for folder, days in sorted(folders.items()):
        entries = by_name.get(_composed(folder), []) + by_id.get(folder, [])
        if not entries and not _may_be_channel(folder):
            skipped += [day.place for day in days]
            continue
        if len(ids := sorted({entry.id for entry in entries} or {folder})) > 1:
            raise BadExport(f"{path}: folder {folder} may belong to {' or '.join(ids)}, listed by one name: keep one of them")
        channel = (
            _channel(by_id[ids[0]], include, days)
            if entries
            else ExportChannel(folder, folder, kind_by_name(folder) or "unlisted", _by_date(days), is_listed=False)
        )
        if ids[0] in channels:
            raise BadExport(f"{path}: folder {folder} and another one both belong to {ids[0]}: keep one of them")
        channels[ids[0]] = channel
    for id_, entries in by_id.items():
        channels.setdefault(id_, _channel(entries, include, []))
    return sorted(channels.values(), key=lambda channel: channel.id), skipped


def _channel(entries: list[ListedChannel], include: frozenset[ChannelKind], days: list[DayFile]) -> ExportChannel:
    """A listed channel. One that is listed twice is private if either listing says so, and left out if either is."""
    kinds = {entry.kind for entry in entries}
    private = [kind for kind in KINDS if kind in kinds and kind not in PUBLIC]
    kind = next((kind for kind in private if kind not in include), private[-1] if private else "channels")
    name = next((entry.name for entry in entries if entry.name), entries[0].id)
    return ExportChannel(entries[0].id, name, kind, _by_date(days))


def _by_date(days: list[DayFile]) -> tuple[DayFile, ...]:
    return tuple(sorted(days, key=lambda day: day.date))


def _may_be_channel(folder: str) -> bool:
    """Whether a folder that no listing names may be a channel's."""
    return not ("/" in folder or folder in NO_CHANNELS or FILE_CONVERSATION.match(folder))


def _composed(name: str) -> str:
    """Unicode's composed form: macOS decomposes accents and kana marks in file names."""
    return unicodedata.normalize("NFC", name)
