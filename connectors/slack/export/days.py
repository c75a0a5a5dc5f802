"""Reads day files, without the secrets in them."""

import re
from collections.abc import Iterator
from typing import Any

import orjson

from beepgpt.connectors.slack.export.archive import read_member
from beepgpt.connectors.slack.export.values import (
    MAX_REJECT,
    DayElements,
    DayFile,
    Export,
    ExportChannel,
    Member,
    UnreadableDay,
    UnreadableMember,
)

ESCAPE = re.compile(rb"(?si)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(\\ud[89a-f][0-9a-f]{2})|\\.")
"""An escaped character beyond the first 65,536; or, as group 1, half of one; or any other escape."""
# No word boundary before a token: in `\nxoxb-1` the `n` belongs to the escape. "xoxo-" needs a digit, as people write it, too.
TOKEN = rb"(?:xoxe\.)?(?:xoxd-(?:[A-Za-z0-9%_+=-]|\\?/)+|xox(?:[a-np-z]|o(?=-[0-9]))-[A-Za-z0-9%_-]+|xapp-[0-9]-[A-Za-z0-9-]+)"
# A `\u0026` after another backslash is no escaped ampersand, and taking it away would break the string.
PARAMETER = re.compile(rb"(&amp;|[?&]|(?<!\\)\\u0026)(?:[A-Za-z0-9_]*=" + TOKEN + rb"|pub_secret=[A-Za-z0-9%_-]+)(&amp;|&|\\u0026)?")
BARE_TOKEN = re.compile(TOKEN)


def read_days(export: Export, channel: ExportChannel) -> Iterator[DayElements]:
    """Reads a channel's day files in order; one that can't be read becomes a reject."""
    for day in channel.days:
        *replaced, last = day.copies
        rejects = [_repeated(export, day, member) for member in replaced]
        try:
            yield DayElements(day.date, day.place, decode_day(read_member(last, export.max_day_file)), rejects)
        except UnreadableMember as error:
            rejects.append(UnreadableDay(error.reason, day.place, strip_secrets(error.head), str(error)))
            yield DayElements(day.date, day.place, [], rejects)


def strip_secrets(raw: bytes) -> bytes:
    r"""Removes Slack's tokens from raw JSON, which stays JSON.

    >>> strip_secrets(rb'"https:\/\/files.slack.com\/cat.png?t=xoxe-12-ab&size=2, but xoxb-1-Zz too"')
    b'"https:\\/\\/files.slack.com\\/cat.png?size=2, but  too"'
    """
    if b"xox" not in raw and b"xapp-" not in raw and b"pub_secret" not in raw:
        return raw
    return BARE_TOKEN.sub(b"", PARAMETER.sub(lambda match: match[1] if match[2] else b"", raw))


def decode_day(raw: bytes) -> list[Any]:
    """Decodes a day file's list, with secrets stripped. Raises UnreadableMember."""
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
    """Decodes with half surrogate pairs replaced, since Slack cuts emojis in half. Raises UnreadableMember for anything else."""
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
    """The reject for a member that a later one of the same name replaces."""
    try:
        head = read_member(member, export.max_day_file)[:MAX_REJECT]
    except UnreadableMember as error:
        head = error.head
    return UnreadableDay("day_file_repeated", day.place, strip_secrets(head), "the archive holds a later file of this name")
