"""What a run leaves out of an export: said before it begins, and named in its report."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from beepgpt.connectors.slack import export as slack_export
from beepgpt.runtime.console import console

NAMED = 3
"""So many folders and conversations are named in a sentence; the report names all."""


def say_left_out(export: slack_export.Export | None) -> None:
    """Says what is not read, why, and how to read it. Raises BadExport if nothing is left to read. None: SOURCE is no export."""
    if export is None:
        return
    for note in notes_on(export):
        console.print(note)
    folders = sum(bool(channel.days) for channel in export.left_out)
    if folders and not any(channel.days for channel in export.channels):
        raise slack_export.BadExport(
            f"{export.path}: nothing is left to read: {_count(folders, 'folder')} of messages, and none may be read."
            " The lines above say why, and which --include reads them"
        )


def left_out_of(export: slack_export.Export | None) -> dict[str, Any]:
    """What is not read, for a report: how many channels of each kind, how many files, and each folder that no listing names."""
    if export is None:
        return {"left_out": {}, "unread": 0, "unlisted": []}
    return {"left_out": _counts(export), "unread": len(export.unread), "unlisted": [_folder(export, each) for each in export.unlisted]}


def notes_on(export: slack_export.Export) -> list[str]:
    """Sentences for the user about what is not read."""
    notes = []
    private = {kind: count for kind, count in _counts(export).items() if kind != "unlisted"}
    if private:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in private.items())
        notes.append(f"Left out, as they are not public: {counts}. To read them, too: --include {_including(export, private)}")
    folders = [channel for channel in export.left_out if channel.kind == "unlisted"]
    if folders:
        days = _count(sum(len(folder.days) for folder in folders), "day file")
        they, are, them = ("it", "is", "it") if len(folders) == 1 else ("they", "are", "them")
        why = f"no listing names {them}" if export.listings else "there is no channels.json"
        notes.append(
            f"Not read: {_count(len(folders), 'folder')} ({_some([folder.id for folder in folders])}; {days}), as {why}: nothing shows that"
            f" {they} {are} public. To read {them}, too: --include {_including(export, ['unlisted'])}"
        )
    missing = [each.name for each in (*export.channels, *export.left_out) if each.kind != "channels" and not each.days]
    if missing and export.unlisted:
        notes.append(_probably(missing, [folder.id for folder in export.unlisted]))
    if read := [channel.id for channel in export.channels if not channel.is_listed]:
        notes.append(f"Read, though no listing shows that they are public: {_count(len(read), 'folder')} ({_some(read)})")
    if export.unread:
        notes.append(f"Not read, as they are no day files of a channel: {len(export.unread):,} files ({_some(export.unread)})")
    return notes


def _probably(conversations: Sequence[str], folders: Sequence[str]) -> str:
    """The sentence about private conversations without folders, beside folders that no listing names."""
    pairs = {name: found[0] for name in conversations if (found := get_close_matches(name, folders, 1, 0.7))}
    named = [f"{name}, whose folder is probably {folder}" for name, folder in pairs.items()]
    named += [name for name in conversations if name not in pairs]
    is_one = len(conversations) == 1
    return (
        f"The listings have {_count(len(conversations), 'private conversation')} without a folder ({_some(named)}):"
        f" {'one' if is_one else 'some'} of the folders that are not listed {'is' if is_one else 'are'} probably private"
    )


def _counts(export: slack_export.Export) -> dict[str, int]:
    return {kind: count for kind in slack_export.KINDS if (count := sum(each.kind == kind for each in export.left_out))}


def _including(export: slack_export.Export, more: Sequence[str] | dict[str, int]) -> str:
    """The value of --include that reads these kinds beside what is read now."""
    kinds = {each.kind for each in export.channels} | {"channels"} | set(more)
    return ",".join(kind for kind in slack_export.KINDS if kind in kinds)


def _folder(export: slack_export.Export, channel: slack_export.ExportChannel) -> dict[str, Any]:
    messages = sum(len(day.messages) for day in slack_export.read_days(export, channel))
    return {"folder": channel.id, "kind": channel.kind, "day_files": len(channel.days), "messages": messages}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
