"""A workspace with somebody whose words are found again wherever they are, and a search that decodes whatever it looks into."""

import gzip
import io
import json
import sqlite3
import subprocess
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from beepgpt.simulation.workspace import Plan, write_export
from tests.support.cli import run_program

PERSON = "UQUOKKA01"
CANARIES = ("quokkasaid", "quokkaedit", "quokkaquote", "quokkatitle", "quokkaname", "quokkatopic", PERSON)
"""Said by the person, in all forms: messages, edits, quotes of them by others, titles of files, a name, a channel's topic; and the id."""


ALERTING = {
    "BEEPGPT_ALERTS__STORE": "alerts.sqlite",
    "BEEPGPT_ALERTS__OPTED_IN": "true",
    "BEEPGPT_ALERTS__QUIET": "",
    "BEEPGPT_ALERTS__MAX_ALERT_AGE": "100000 days",
}
"""Everybody is alerted, at any hour, to messages of years ago."""


def write_workspace(path: Path, **plan: Any) -> str:
    """Write an export (a zip) in which the most active person is `PERSON`; returns a channel's id in which the person wrote."""
    plain = path.with_name("plain.zip")
    write_export(Plan(**{"seed": 3, "messages": 400, "channels": 2, "people": 8, "days": 12, "edits": 0.1, **plan}), plain)
    with zipfile.ZipFile(plain) as archive:
        members = {info.filename: json.loads(archive.read(info)) for info in archive.infolist()}
    plain.unlink()
    days = [messages for name, messages in members.items() if "/" in name]
    busiest = Counter(each["user"] for day in days for each in day if each.get("user") and not each.get("bot_id")).most_common(1)[0][0]
    members = json.loads(json.dumps(members).replace(f'"{busiest}"', f'"{PERSON}"').replace(f"<@{busiest}>", f"<@{PERSON}>"))
    said: list[dict[str, Any]] = []
    ids = {each["name"]: each["id"] for each in members["channels.json"]}
    for name, messages in members.items():
        for each in messages if "/" in name else ():
            if each.get("user") == PERSON:
                each["text"] += " quokkaedit" if "edited" in each else " quokkasaid"
                each["files"] = [{"id": "F1", "user": PERSON, "title": "quokkatitle"}]
                said.append(each | {"channel": name.partition("/")[0]})
            elif said:
                channel, ts = ids.get(said[-1]["channel"], said[-1]["channel"]), said[-1]["ts"]
                link = f"https://x.slack.com/archives/{channel}/p{ts.replace('.', '')}"
                names = {"author_id": PERSON, "ts": ts, "channel_id": channel} if int(ts[-1]) % 2 else {"from_url": link}
                each["attachments"] = [names | {"text": "quokkaquote", "is_share": True}]
                each["reply_users"] = [PERSON, each.get("user")]
    for user in members["users.json"]:
        if user["id"] == PERSON:
            user["real_name"] = "quokkaname"
    members["channels.json"][0]["topic"] = {"value": "quokkatopic", "creator": PERSON, "last_set": 1}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), json.dumps(content, ensure_ascii=False))
    return str(next(ids[each["channel"]] for each in said if each["channel"] in ids))


def decoded(content: bytes) -> Iterator[bytes]:
    """Everything in a file, unpacked: as it stands on the disk, and what is in zips, gzip, tables, databases and JSON's escapes."""
    yield content
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from decoded(archive.read(name))
    elif content[:2] == b"\x1f\x8b":
        yield from decoded(gzip.decompress(content))
    elif content[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(content))
        yield repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
    elif content[:1] in (b"{", b"["):
        for line in content.splitlines():
            try:
                yield orjson.dumps(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue


def rows_in(path: Path) -> Iterator[bytes]:
    """All rows of a SQLite file; free pages and the log are in the bytes."""
    if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3":
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in database.execute(f'SELECT * FROM "{table}"'):
                    for value in row:
                        yield from decoded(value if isinstance(value, bytes) else str(value).encode())


def canaries_in(folder: Path, words: tuple[str, ...] = CANARIES) -> dict[str, set[str]]:
    """By file in a folder: the words that are found in it, however it is packed."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = b"\0".join([*decoded(path.read_bytes()), *rows_in(path)])
            if held := {word for word in words if word.encode() in content}:
                found[str(path.relative_to(folder))] = held
    return found


def beepgpt(folder: Path, *arguments: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`beepgpt ARGUMENTS` in a folder, with the list of the forgotten in it; it must succeed."""
    settings = {"BEEPGPT_RUN__FORGOTTEN": "list/forgotten.json"} | dict(env or {})
    done = run_program(*arguments, cwd=folder, env=settings, seconds=600)
    assert done.returncode == 0, done.stderr
    return done
