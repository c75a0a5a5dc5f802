"""Records that no reader can use, one for each way of being broken."""

from __future__ import annotations

from random import Random

_BROKEN: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"<html><body>502 Bad Gateway</body></html>",
    "truncated JSON": b'{"type":"event_callback","event":{"type":"message","channel":"C024BE91L","ts":"1690360240.2290',
    "array": b'[{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"%ts"}]',
    "number": b"1690360240.229079",
    "string": b'"message"',
    "null": b"null",
    "NUL bytes": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"a\x00b","ts":"%ts"}\x00\x00',
    "invalid UTF-8": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"caf\xe9 \xff\xfe","ts":"%ts"}',
    "two objects": b'{"type":"message"}{"type":"message"}',
    "event is null": b'{"type":"event_callback","event_id":"Ev0","event":null}',
    "no channel": b'{"type":"message","user":"U1","text":"hi","ts":"%ts"}',
    "channel is a number": b'{"type":"message","channel":24,"user":"U1","text":"hi","ts":"%ts"}',
    "no ts": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi"}',
    "ts is a number": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":%ts}',
    "ts is NaN": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"NaN"}',
    "ts is negative": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"-%ts"}',
    "ts in the year 5138": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"99999999999.000000"}',
    "ts in the year 2286": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"9999999999.000000"}',
    "ts with 7 decimals": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"%ts7"}',
    "ts in other digits": '{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"١٦٩٠٣٦٠٢٤٠.٢٢٩٠٧٩"}'.encode(),
    "user is a list": b'{"type":"message","channel":"C024BE91L","user":["U1"],"text":"hi","ts":"%ts"}',
    "text is an object": b'{"type":"message","channel":"C024BE91L","user":"U1","text":{"text":"hi"},"ts":"%ts"}',
    "thread_ts is garbage": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","thread_ts":"p1690","ts":"%ts"}',
    "edit without a message": b'{"type":"message","subtype":"message_changed","channel":"C024BE91L","ts":"%ts","event_ts":"%ts"}',
    "reaction without an item": b'{"type":"reaction_added","user":"U1","reaction":"eyes","event_ts":"%ts"}',
    "deep nesting": b'{"event":' * 50_000,
    "over 1 MiB": b"",
}

BROKEN_KINDS: tuple[str, ...] = tuple(_BROKEN)


def broken_record(kind: str, draws: Random | None = None) -> bytes:
    """Make a record of one of `BROKEN_KINDS`, which readers must reject.

    >>> broken_record("no ts")
    b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi"}'
    """
    number = int((draws or Random(0)).random() * 1_000_000)
    ts = f"1690360240.{number:06d}".encode()
    if kind == "over 1 MiB":
        return b'{"type":"message","channel":"C024BE91L","user":"U1","ts":"%s","text":"%s"}' % (ts, b"long " * 220_000)
    return _BROKEN[kind].replace(b"%ts", ts)
