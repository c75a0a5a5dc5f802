"""Slack exports of a few files, for tests."""

import zipfile
from pathlib import Path
from typing import Any

import orjson

from beepgpt.connectors.slack.export import DayElements, Export, open_export, read_days
from beepgpt.conversations.export import records_of

HELLO = [{"type": "message", "user": "U1", "text": "hello", "ts": "1641081600.000100"}]
GENERAL = [{"id": "C1", "name": "general"}]


def as_bytes(content: Any) -> bytes:
    return content if isinstance(content, bytes) else orjson.dumps(content)


def zipped(tmp_path: Path, *files: tuple[str, Any], name: str = "export.zip") -> Path:
    """A zip of these files, in this order, doubles too."""
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files:
            archive.writestr(zipfile.ZipInfo(file), as_bytes(content), zipfile.ZIP_DEFLATED)
    return path


def unpacked(tmp_path: Path, *files: tuple[str, Any]) -> Path:
    folder = tmp_path / "export"
    for file, content in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(content))
    return folder


def with_day(tmp_path: Path, raw: bytes) -> list[DayElements]:
    """An export whose second of three days is `raw`, read."""
    days = [("general/2022-01-01.json", HELLO), ("general/2022-01-02.json", raw), ("general/2022-01-03.json", HELLO)]
    return days_of(open_export(zipped(tmp_path, ("channels.json", GENERAL), *days)))


def days_of(export: Export) -> list[DayElements]:
    return [day for channel in export.channels for day in read_days(export, channel)]


def ids(export: Export) -> list[str]:
    return [channel.id for channel in export.channels]


def records_in_export(path: Path) -> list[bytes]:
    """The records of an export's public channels, channel by channel."""
    export = open_export(path)
    return [record for channel in export.channels for record in records_of(channel.id, read_days(export, channel))]
