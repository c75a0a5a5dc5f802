"""Slack exports, a zip or a folder: rewritten where they are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import orjson

from beepgpt.connectors.slack import export as slack_export
from beepgpt.connectors.slack.export.archive import UnreadableMember, archive_members
from beepgpt.connectors.slack.export.contents import date_of, root_of
from beepgpt.connectors.slack.export.days import decode_day
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.folders import replacing
from beepgpt.forgetting.records import Cleaning, Removal, kept_of, write_whole
from beepgpt.lenient_json import decode_json

CleanMember = Callable[[str, bytes], tuple[bytes | None, int]]


def is_export(path: Path) -> bool:
    """Whether a zip is a Slack export, or a folder is one itself; a folder that has one in it is not."""
    try:
        slack_export.open_export(path, slack_export.KINDS)
        return not path.is_dir() or root_of(path, archive_members(path)[0]) == ""
    except slack_export.BadExport:
        return False


def is_of_export(path: Path) -> bool:
    """Whether something in an export's folder belongs to it: its lists, and its channels' folders of days."""
    if path.is_dir():
        return not path.name.startswith(".") and not is_export(path) and any(date_of(each.name) for each in path.rglob("*.json"))
    return path.suffix == ".json"


def clean_export(path: Path, cleaning: Cleaning) -> Removal:
    """Remove what is forgotten from all of an export, kinds of channels that are never read included: messages, files, names, channels."""
    export = slack_export.open_export(path, slack_export.KINDS)
    root = root_of(path, archive_members(path)[0])
    channels = {f"{root}{day.place}": channel.id for channel in export.channels for day in channel.days}

    def clean(name: str, content: bytes) -> tuple[bytes | None, int]:
        return clean_member(content, cleaning.forgotten, channels.get(name, "")) if name.endswith(".json") else (content, 0)

    found = _in_folder(path, clean, cleaning) if path.is_dir() else _in_zip(path, clean, cleaning)
    others = _others_in(path)
    hint = f"{others:,} files in it are no JSON, and were not looked into" if others else ""
    return Removal(found, "rewritten" if found else "stays" if others else "", hint)


def _others_in(path: Path) -> int:
    """How many files of an export are no JSON: an export of Slack's own has none."""
    if path.is_dir():
        ours = (each for each in path.iterdir() if each.is_dir() and not each.is_symlink() and is_of_export(each))
        return sum(each.is_file() and each.suffix != ".json" for one in ours for each in one.rglob("*"))
    with ZipFile(path) as archive:
        return sum(not each.is_dir() and not each.filename.endswith(".json") for each in archive.infolist())


def clean_member(content: bytes, forgotten: Forgotten, channel: str) -> tuple[bytes | None, int]:
    """A JSON file of an export without what is forgotten (None: nothing is left), and how many of its elements changed or went."""
    if channel and forgotten.has_channel(channel):
        return None, 1
    try:
        kept, found = kept_of(decode_day(content), forgotten, channel)
    except UnreadableMember as unreadable:
        if unreadable.reason != "day_file_not_a_list":
            return (None, 1) if forgotten.in_bytes(content) else (content, 0)
        kept, found = kept_of(decode_json(content.removeprefix(b"\xef\xbb\xbf")), forgotten, channel)
    if not found:
        return content, 0
    return (None if kept is None else orjson.dumps(kept, option=orjson.OPT_INDENT_2)), found


def _in_folder(path: Path, clean: CleanMember, cleaning: Cleaning) -> int:
    total = 0
    ours = [each for each in sorted(path.iterdir()) if not each.is_symlink() and is_of_export(each)]
    for each in (file for one in ours for file in (sorted(one.rglob("*.json")) if one.is_dir() else [one])):
        if each.is_symlink() or not each.is_file():
            continue
        kept, found = clean(each.relative_to(path).as_posix(), each.read_bytes())
        total += found
        if found and cleaning.apply:
            if kept is None:
                each.unlink()
            else:
                write_whole(each, kept)
    if cleaning.apply:
        for folder in (one for one in ours if one.is_dir() and not any(one.iterdir())):
            folder.rmdir()
    return total


def _in_zip(path: Path, clean: CleanMember, cleaning: Cleaning) -> int:
    with ZipFile(path) as archive:
        names = {member.name for member in archive_members(path)[0]}
        changed: dict[str, tuple[bytes | None, int]] = {}
        for info in archive.infolist():
            name = info.filename.replace("\\", "/").removeprefix("./")
            if name in names and (result := clean(name, archive.read(info)))[1]:
                changed[info.filename] = result
        if changed and cleaning.apply:
            with replacing(path) as file, ZipFile(file, "w", ZIP_DEFLATED) as new:
                for info in archive.infolist():
                    kept = changed[info.filename][0] if info.filename in changed else archive.read(info)
                    if kept is not None:
                        new.writestr(info, kept, ZIP_DEFLATED if not info.is_dir() else None)
    return sum(found for _, found in changed.values())
