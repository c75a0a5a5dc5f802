"""Reads day files, without the secrets in them; and an export as a Bytewax source."""

import re
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import orjson
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from beepgpt.connectors.callbacks import never, nothing
from beepgpt.connectors.slack.export.archive import (
    MAX_REJECT,
    PARTITION,
    BadExport,
    DayElements,
    DayFile,
    Export,
    ExportChannel,
    Member,
    UnreadableDay,
    UnreadableMember,
    read_member,
)
from beepgpt.lenient_json import decode_json

# No word boundary before a token: in `\nxoxb-1` the `n` belongs to the escape. "xoxo-" needs a digit, as people write it, too.
TOKEN = rb"(?:xoxe\.)?(?:xoxd-(?:[A-Za-z0-9%_+=-]|\\?/)+|xox(?:[a-np-z]|o(?=-[0-9]))-[A-Za-z0-9%_-]+|xapp-[0-9]-[A-Za-z0-9-]+)"
# A `\u0026` after another backslash is no escaped ampersand, and taking it away would break the string.
PARAMETER = re.compile(rb"(&amp;|[?&]|(?<!\\)\\u0026)(?:[A-Za-z0-9_]*=" + TOKEN + rb"|pub_secret=[A-Za-z0-9%_-]+)(&amp;|&|\\u0026)?")
BARE_TOKEN = re.compile(TOKEN)


def read_days(export: Export, channel: ExportChannel) -> Iterator[DayElements]:
    """Read a channel's day files in order; one that can't be read becomes a reject."""
    for day in channel.days:
        *replaced, last = day.copies
        rejects = [_repeated(export, channel, day, member) for member in replaced]
        try:
            yield DayElements(day.date, day.place, decode_day(read_member(last, export.max_day_file)), rejects)
        except UnreadableMember as error:
            rejects.append(UnreadableDay(error.reason, channel.id, day.place, strip_secrets(error.head), str(error)))
            yield DayElements(day.date, day.place, [], rejects)


def strip_secrets(raw: bytes) -> bytes:
    r"""Remove Slack's tokens from raw JSON, which stays JSON.

    >>> strip_secrets(rb'"https:\/\/files.slack.com\/cat.png?t=xoxe-12-ab&size=2, but xoxb-1-Zz too"')
    b'"https:\\/\\/files.slack.com\\/cat.png?size=2, but  too"'
    """
    if b"xox" not in raw and b"xapp-" not in raw and b"pub_secret" not in raw:
        return raw
    return BARE_TOKEN.sub(b"", PARAMETER.sub(lambda match: match[1] if match[2] else b"", raw))


def decode_day(raw: bytes) -> list[Any]:
    """Decode a day file's list, with secrets stripped. Raises UnreadableMember."""
    raw = strip_secrets(raw.removeprefix(b"\xef\xbb\xbf"))
    if not raw or raw.isspace():
        raise UnreadableMember("day_file_empty", "nothing stands in it", raw[:MAX_REJECT])
    try:
        messages = decode_json(raw)
    except orjson.JSONDecodeError as error:
        raise _unreadable(raw, error) from error
    if not isinstance(messages, list):
        raise UnreadableMember("day_file_not_a_list", f"a list was expected, not {type(messages).__name__}", raw[:MAX_REJECT])
    return messages


def _unreadable(raw: bytes, error: orjson.JSONDecodeError) -> UnreadableMember:
    """Why a day file can't be decoded."""
    try:
        raw.decode()
    except UnicodeDecodeError as not_utf8:
        return UnreadableMember("day_file_not_utf8", f"{not_utf8.reason} at byte {not_utf8.start:,}", raw[:MAX_REJECT])
    nul = "; it has NUL bytes" if b"\0" in raw else ""
    return UnreadableMember("day_file_not_json", f"{error}{nul}", raw[:MAX_REJECT])


def _repeated(export: Export, channel: ExportChannel, day: DayFile, member: Member) -> UnreadableDay:
    """The reject for a member that a later one of the same name replaces."""
    try:
        head = read_member(member, export.max_day_file)[:MAX_REJECT]
    except UnreadableMember as error:
        head = error.head
    return UnreadableDay("day_file_repeated", channel.id, day.place, strip_secrets(head), "the archive holds a later file of this name")


CHUNK = 1_000
CHUNK_BYTES = 8 * 2**20
Records = Iterator[bytes]
ExportChunk = tuple[str, int, list[bytes | UnreadableDay]]
"""A channel as a partition, number of the first value in it (from 1), values."""
ExportState = tuple[str, int]
"""Channel id, values done in that channel."""


class ExportSource(FixedPartitionedSource[ExportChunk, ExportState]):
    """Reads the wanted channels of an export one after the other, as records that `to_records` makes of their days."""

    def __init__(
        self,
        export: Export,
        to_records: Callable[[str, Iterator[DayElements]], Records],
        *,
        wanted: Callable[[str], bool] = lambda channel: True,
        stopping: Callable[[], bool] = never,
        on_end: Callable[[], None] = nothing,
        progress: Callable[[int, float], None] = nothing,
    ) -> None:
        """`stopping`: asked before each batch; once it is true, the source ends without `on_end`. `progress` gets the number of values of a
        batch, and the share of day files that is read.
        """
        self.export = export
        self.to_records = to_records
        self.wanted = wanted
        self.stopping = stopping
        self.on_end = on_end
        self.progress = progress

    def list_parts(self) -> list[str]:
        return [PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: ExportState | None) -> "_ExportPartition":
        return _ExportPartition(self, resume_state or ("", 0))


class _ExportPartition(StatefulSourcePartition[ExportChunk, ExportState]):
    def __init__(self, source: ExportSource, state: ExportState) -> None:
        self._source = source
        self._channel, self._done = state
        self._values = self._from(self._channel, self._done)
        self._days = 0
        self._all_days = sum(len(channel.days) for channel in source.export.channels if source.wanted(channel.id))

    def next_batch(self) -> list[ExportChunk]:
        if self._source.stopping():
            raise StopIteration
        chunks: list[ExportChunk] = []
        count = size = 0
        for channel, done, value in self._values:
            if not chunks or channel != self._channel:
                chunks.append((f"{PARTITION}/{channel}", done, []))
            self._channel, self._done = channel, done
            chunks[-1][2].append(value)
            count += 1
            size += len(value) if isinstance(value, bytes) else len(value.record)
            if count == CHUNK or size >= CHUNK_BYTES:
                break
        if not chunks:
            self._source.on_end()
            raise StopIteration
        self._source.progress(count, self._days / max(self._all_days, 1))
        return chunks

    def snapshot(self) -> ExportState:
        return self._channel, self._done

    def close(self) -> None:
        """Close the archive."""
        self._values.close()

    def _from(self, start: str, done: int) -> Generator[tuple[str, int, bytes | UnreadableDay], None, None]:
        """Values after the first `done` of channel `start`, each with its channel and its number there. Raises BadExport."""
        for channel in self._source.export.channels:
            if not self._source.wanted(channel.id):
                continue
            if channel.id < start:
                self._days += len(channel.days)
                continue
            number = 0
            skip = done if channel.id == start else 0
            for number, value in enumerate(self._of(channel), 1):
                if number > skip:
                    yield channel.id, number, value
            if number < skip:
                raise BadExport(
                    f"{self._source.export.path}: channel {channel.id} had {skip:,} records when this run was stopped, and has"
                    f" {number:,} now: give the same export as before, or start again without the old recovery store"
                )

    def _of(self, channel: ExportChannel) -> Iterator[bytes | UnreadableDay]:
        """A channel's records, with the rejects of a day file before the records of later files."""
        met: deque[UnreadableDay] = deque()

        def days() -> Iterator[DayElements]:
            for day in read_days(self._source.export, channel):
                self._days += 1
                met.extend(day.rejects)
                yield day

        for record in self._source.to_records(channel.id, days()):
            while met:
                yield met.popleft()
            yield record
        yield from met
