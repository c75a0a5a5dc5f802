"""Records by their shape, without what is forgotten; and files that are rewritten whole or not at all."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from beepgpt.conversations.forgetting import Forgotten
from beepgpt.folders import replacing
from beepgpt.lenient_json import decode_json

MAKERS = (
    ({"signal"}, "beepgpt label"),
    ({"window", "people"}, "beepgpt score"),
    ({"how", "people"}, "beepgpt score"),
    ({"window", "answer"}, "beepgpt examples"),
    ({"way", "joined"}, "beepgpt rehearse"),
)
"""Which command makes records with these keys, and makes them again; the first that fits."""


@dataclass(frozen=True)
class Cleaning:
    """What is to be removed, and whether it is removed or only counted."""

    forgotten: Forgotten
    apply: bool
    refuses: bool = False
    """Whether what is in use is refused, though it is only counted."""

    @property
    def locks(self) -> bool:
        """Whether a store is locked while it is looked at."""
        return self.apply or self.refuses


@dataclass(frozen=True)
class Removal:
    """What was found in a place, and what was done about it, or would be."""

    found: int = 0
    """Records, messages or rows that hold something; of a store or a model, which are one thing, 1 if it may."""
    done: str = ""
    """What was done, in a word or two."""
    rebuild: str = ""
    """The command that makes anew what can't be put right here; empty if nothing is left to do."""
    place: str = ""
    kind: str = ""

    def of(self, place: str, kind: str) -> Removal:
        """The finding with the place it is of."""
        return replace(self, place=place, kind=kind)


def remembered(record: bytes, forgotten: Forgotten) -> bytes | None:
    """A record of any output without what is forgotten; None if it goes, the same bytes if nothing is forgotten in it.

    Slack's events lose what is forgotten of them. A late record or a dead letter does by what it holds. All else (examples, predictions,
    outcomes, alerts) was made of messages: with one of them gone it would be a lie, so it goes whole.
    """
    try:
        body = decode_json(record)
    except orjson.JSONDecodeError:
        return None if forgotten.in_bytes(record) else record
    if isinstance(body, dict) and "reason" in body and ("record" in body or "record_base64" in body):
        return _letter(record, body, forgotten)
    kept = forgotten.without(body)
    if kept is body:
        return record
    is_event = isinstance(body, dict) and "type" in body and kept is not None
    return orjson.dumps(kept) if is_event else None


def _letter(line: bytes, body: dict[str, Any], forgotten: Forgotten) -> bytes | None:
    held = base64.b64decode(body["record_base64"]) if "record_base64" in body else str(body["record"]).encode()
    kept = remembered(held, forgotten)
    if kept is None or kept is held:
        return None if kept is None else line
    return orjson.dumps(body | {"record": kept.decode()})


def maker_of(record: bytes) -> str:
    """The command that makes records like this one from events; empty for events and all that can't be made again."""
    try:
        body = decode_json(record)
    except orjson.JSONDecodeError:
        return ""
    keys = set(body) if isinstance(body, dict) else set()
    return next((command for shape, command in MAKERS if shape <= keys), "")


def _is_text_alone(line: bytes) -> bool:
    """Whether a line is a row to train on, a chat or a prompt and its completion: it has text and no ids."""
    if not line.startswith((b'{"messages"', b'{"prompt"')):
        return False
    body = json_of(line)
    return body.keys() == {"messages"} or body.keys() == {"prompt", "completion"}


def clean_lines(path: Path, cleaning: Cleaning) -> Removal:
    """Remove what is forgotten from a file of records, one a line."""
    found, makers, is_text_alone = 0, set(), False
    with path.open("rb") as lines:
        for line in lines:
            if line.strip() and remembered(line.rstrip(b"\r\n"), cleaning.forgotten) != line.rstrip(b"\r\n"):
                found += 1
                makers.add(maker_of(line))
            elif not found and not is_text_alone:
                is_text_alone = _is_text_alone(line)
    if not found and is_text_alone:
        return Removal(1, "stays: its rows don't say whose words they are. Look at it")
    maker = next((command for _, command in MAKERS if command in makers), "")
    if found and cleaning.apply:
        with path.open("rb") as lines, replacing(path) as file:
            for line in lines:
                ending = line[len(line.rstrip(b"\r\n")) :]
                kept = remembered(line.rstrip(b"\r\n"), cleaning.forgotten) if line.strip() else line.rstrip(b"\r\n")
                if kept is not None:
                    file.write(kept + ending)
    return Removal(found, "rewritten" if found else "", maker)


def clean_document(path: Path, cleaning: Cleaning) -> Removal:
    """Remove what is forgotten from a JSON document: names of people and channels, figures, lists of messages."""
    try:
        body = decode_json(path.read_bytes())
    except orjson.JSONDecodeError:
        return clean_lines(path, cleaning)
    kept, found = kept_of(body, cleaning.forgotten)
    if found and cleaning.apply:
        if kept is None:
            path.unlink()
        else:
            write_whole(path, orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return Removal(found, "" if not found else "deleted" if kept is None else "rewritten")


def kept_of(body: Any, forgotten: Forgotten, channel: str = "") -> tuple[Any, int]:
    """Decoded JSON without what is forgotten, and how many of its elements (of a list or an object of records) changed or went."""
    if not isinstance(body, list):
        kept = forgotten.without(body, channel)
        if kept is body:
            return body, 0
        is_names = isinstance(body, dict) and isinstance(kept, dict)
        return kept, max(1, len(body) - len(kept)) if is_names else 1
    elements = [forgotten.without(each, channel) for each in body]
    found = sum(kept is not each for kept, each in zip(elements, body, strict=True))
    # What was null before stays: it is nothing that was forgotten.
    return [kept for kept, each in zip(elements, body, strict=True) if kept is not None or each is None], found


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file's content, whole or not at all. Raises CannotWrite."""
    with replacing(path) as file:
        file.write(content)


def json_in(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file; an empty one for anything else."""
    try:
        return json_of(path.read_bytes())
    except OSError:
        return {}


def json_of(content: bytes) -> Mapping[str, Any]:
    """The object in some JSON; an empty one for anything else."""
    try:
        body = decode_json(content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
