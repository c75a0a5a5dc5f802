"""Names of people and channels by id, from an export or its lists, and remembered beside what is made of it: ids are what records hold."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from beepgpt.connectors.files import jsonl
from beepgpt.connectors.slack import export as slack_export
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.errors import BadCommand
from beepgpt.folders import TABLE, beside

NAMES = "names.json"
"""The file of names in a folder; beside a file `x.jsonl` it is `x.names.json`."""
LISTS = ("users.json", "channels.json", "groups.json")
PEOPLE = ("U", "W")
"""How the ids of people begin."""


def names_beside(path: Path) -> Path:
    """The file of names beside a file, or in a folder.

    >>> names_beside(Path("acme/examples.jsonl"))
    PosixPath('acme/examples.names.json')
    """
    return path / NAMES if path.is_dir() and path.suffix != TABLE else beside(path, NAMES)


def keep_names(export: Path, beside: Path, forgotten: Forgotten | None, include: Container[str]) -> None:
    """Remember an export's names beside what was made of it, but for those of who is forgotten.

    `include`: the kinds of channels that were read; a channel of another kind isn't named either, as its name may say too much.
    """
    left_out = {each.id for each in slack_export.read_listings(export) if each.kind not in include}
    names: Any = {id: name for id, name in names_in([export]).items() if id not in left_out}
    kept = names if forgotten is None else forgotten.without(names) or {}
    jsonl.write_file(
        names_beside(beside), orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    )


def pass_names_on(source: Path, to: Path) -> None:
    """Copy the names beside what was read to beside what was made of it; older ones there are removed."""
    before, after = names_beside(source), names_beside(to)
    if before.is_file():
        jsonl.write_file(after, before.read_bytes())
    else:
        after.unlink(missing_ok=True)


def known_names(given: Iterable[Path] | None, places: Iterable[Path | str | None], *, no_names: bool = False) -> dict[str, str]:
    """Names to show: those of `--names`, over those remembered beside `places`; none with `--no-names`. Raises BadCommand, BadExport."""
    if no_names:
        return {}
    beside = [names_beside(Path(each)) for each in places if each is not None and "://" not in str(each)]
    return names_in([*dict.fromkeys(each for each in beside if each.is_file()), *(given or [])])


def names_in(paths: Iterable[Path]) -> dict[str, str]:
    """Names of people and channels by id: of exports (zip or folder), of their users.json and channels.json, of folders with these, and
    of files of names that we wrote.

    Raises BadCommand, BadExport.
    """
    names: dict[str, str] = {}
    for path in paths:
        if path.is_dir() and (lists := [path / each for each in (NAMES, *LISTS) if (path / each).is_file()]):
            names |= {id: name for each in lists for id, name in _names_in_list(each).items()}
        elif path.is_dir() or path.suffix.lower() == ".zip":
            names |= {each.id: f"#{each.name}" for each in slack_export.read_listings(path) if each.name}
            names |= {str(each["id"]): name for each in slack_export.read_users(path) if (name := name_of(each))}
        else:
            names |= _names_in_list(path)
    return names


def _names_in_list(path: Path) -> dict[str, str]:
    jsonl.check_readable(path)
    try:
        body = orjson.loads(path.read_bytes())
        if isinstance(body, dict) and path.name.endswith(NAMES):
            return {str(id): str(name) for id, name in body.items()}
        mark = "" if path.name == LISTS[0] else "#"
        return {each["id"]: f"{'' if each['id'].startswith(PEOPLE) else mark}{name}" for each in body if (name := name_of(each))}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadCommand(
            f"--names {path}: an export (zip or folder) is expected, or a list of people or channels, as its users.json is"
        ) from error


def name_of(entry: Mapping[str, Any]) -> str:
    """The name that people see of somebody, or of a channel, by an entry of an export's list; empty if it has none."""
    profile = entry.get("profile") or {}
    return str(profile.get("display_name") or profile.get("real_name") or entry.get("real_name") or entry.get("name") or "")


def people_of(names: Mapping[str, str]) -> list[str]:
    """The names of people among names by id.

    >>> people_of({"U1": "ana", "C1": "#general"})
    ['ana']
    """
    return [name for id, name in names.items() if id.startswith(PEOPLE)]
