"""Opens an export: finds its channels and day files without reading messages."""

import re
import unicodedata
from collections.abc import Collection, Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from beepgpt.connectors.slack.export.archive import (
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

DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.json")
NO_CHANNELS = frozenset(["attachments", "canvases", "file_conversations", "huddle_transcripts", "lists", "__uploads"])
"""Folders that stand beside the channels' in exports since 2024, and in those of other tools."""
FILE_CONVERSATION = re.compile(r"FC[:_]F[A-Z0-9]+")
DIRECT_MESSAGE = re.compile(r"D[A-Z0-9]{7,}")
"""No public channel has capitals in its name."""


def open_export(path: Path, include: Collection[ChannelKind] = PUBLIC, *, max_day_file: int = MAX_DAY_FILE) -> Export:
    """Opens the export at `path`, with the kinds of channels in `include`. Raises BadExport."""
    if unknown := set(include) - set(KINDS):
        raise ValueError(f"no such kind of channel: {', '.join(sorted(unknown))} (there are {', '.join(KINDS)})")
    found, unread = archive_members(path)
    root = root_of(path, found)
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


class ListedChannel(NamedTuple):
    """An entry of channels.json, groups.json, dms.json or mpims.json."""

    id: str
    name: str | None
    kind: ChannelKind


def root_of(path: Path, members: Iterable[Member]) -> str:
    """The folder in the archive that the export stands in: none, or the one that holds all of it."""
    places = [member.name.split("/") for member in members]
    if any(len(place) == 1 and place[0] in LISTINGS for place in places):
        return ""
    if holders := {place[0] for place in places if len(place) == 2 and place[1] in LISTINGS}:
        return _only(path, holders)
    if any(len(place) == 2 and date_of(place[-1]) for place in places):
        return ""
    if holders := {place[0] for place in places if len(place) == 3 and date_of(place[-1])}:
        return _only(path, holders)
    deeper = next((f" (there is one in {'/'.join(place[:-1])})" for place in places if place[-1] in LISTINGS), "")
    raise BadExport(f"{path}: no Slack export: it has no channels.json and no folder of days. Give the folder that has{deeper}")


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
    """Joins folders with listings: channels by id, and the names of day files that belong to no channel."""
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
    """A channel; one that is listed twice is left out if either listing is."""
    entry = next((entry for entry in entries if entry.kind not in include), entries[0])
    return ExportChannel(entry.id, entry.name or entry.id, entry.kind, tuple(sorted(days, key=lambda day: day.date)))


def _unlisted(folder: str) -> list[ListedChannel]:
    """The entry for a folder that no listing names: its name is the id. Empty if it is no channel's folder."""
    if "/" in folder or folder in NO_CHANNELS or FILE_CONVERSATION.match(folder):
        return []
    kind: ChannelKind = "dms" if DIRECT_MESSAGE.fullmatch(folder) else "mpims" if folder.startswith("mpdm-") else "channels"
    return [ListedChannel(folder, folder, kind)]


def _composed(name: str) -> str:
    """Unicode's composed form: macOS decomposes accents and kana marks in file names."""
    return unicodedata.normalize("NFC", name)
