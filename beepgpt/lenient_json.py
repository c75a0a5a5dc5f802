"""JSON as Slack and its exporters write it: emojis may be cut in half."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

ESCAPE = re.compile(rb"(?si)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(\\ud[89a-f][0-9a-f]{2})|\\.")
"""An escaped character beyond the first 65,536; or, as group 1, half of one; or any other escape."""


def decode_json(raw: bytes) -> Any:
    """Decode JSON; half of a character becomes the replacement character. Raises orjson.JSONDecodeError for anything else.

    >>> decode_json(b'["cut \\\\ud83d", "whole \\\\ud83d\\\\ude00"]') == ["cut \\ufffd", "whole \\U0001f600"]
    True
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        if b"\\u" not in raw:
            raise
        return orjson.loads(ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], raw))


def is_cut_short(line: bytes) -> bool:
    """Whether a line, as it stands in a file, is the last one and only begins: no newline ends it, and it is no JSON.

    >>> is_cut_short(b'{"id": "4'), is_cut_short(b'{"id": "4"}'), is_cut_short(b'{"id": "4\\n')
    (True, False, False)
    """
    if line.endswith(b"\n") or not line.strip():
        return False
    try:
        decode_json(line.strip())
    except orjson.JSONDecodeError:
        return True
    return False


def writable(value: Any) -> Any:
    """A decoded value that can be written again: json reads half of a character, and nothing writes it as UTF-8.

    >>> writable({"text": "cut " + chr(0xD83D)}) == {"text": "cut \\ufffd"}
    True
    """
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return decode_json(json.dumps(value).encode())
    return value
