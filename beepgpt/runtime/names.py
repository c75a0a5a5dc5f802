"""Names of people and channels by id, from an export or its lists: ids are what records hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from beepgpt.connectors.files import jsonl
from beepgpt.connectors.slack import export as slack_export
from beepgpt.errors import BadCommand


def names_in(paths: Iterable[Path]) -> dict[str, str]:
    """Names of people and channels by id, of exports (zip or folder) or their users.json and channels.json.

    Raises BadCommand, BadExport.
    """
    names: dict[str, str] = {}
    for path in paths:
        if path.is_dir() or path.suffix.lower() == ".zip":
            names |= {each.id: f"#{each.name}" for each in slack_export.read_listings(path) if each.name}
            names |= {str(each["id"]): name for each in slack_export.read_users(path) if (name := name_of(each))}
        else:
            names |= _names_in_list(path)
    return names


def _names_in_list(path: Path) -> dict[str, str]:
    jsonl.check_readable(path)
    try:
        return {each["id"]: name for each in orjson.loads(path.read_bytes()) if (name := name_of(each))}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadCommand(
            f"--names {path}: an export (zip or folder) is expected, or a list of people or channels, as its users.json is"
        ) from error


def name_of(entry: Mapping[str, Any]) -> str:
    """The name that people see of somebody, or of a channel, by an entry of an export's list; empty if it has none."""
    profile = entry.get("profile") or {}
    return str(profile.get("display_name") or profile.get("real_name") or entry.get("real_name") or entry.get("name") or "")


def people_in(export: Path) -> int | None:
    """How many people an export lists, without bots and those who left; None if it has no list."""
    people = [each for each in slack_export.read_users(export) if not (each.get("deleted") or each.get("is_bot"))]
    return sum(each["id"] != "USLACKBOT" for each in people) or None
