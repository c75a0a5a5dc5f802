"""How far an earlier start of the same ingest came, as the headers of the topic's last records show; and whether all arrived."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import WrongTopic, tails
from beepgpt.ingest.write_plan import HEADER
from beepgpt.runtime.pacing import HEARTBEAT_EVERY

LOOK_BACK = 20
"""Offsets at the end of each partition that are read for their headers."""
LOOK_FAR_BACK = 10_000
"""The same where other programs have written since."""
SETTLED = 0.5
"""Seconds without new records of this run before the topic counts as settled: a killed process's last records may still be in flight."""
TRIES = 10

_NUMBER = re.compile(rb"([0-9a-f]{12}):([0-9]+)(?::([0-9]+))?")
"""Run, record number, and of an added heartbeat its time in microseconds."""

RecordHeaders = Sequence[tuple[str, bytes]]


@dataclass
class IngestProgress:
    """What the partitions of a topic have of a run."""

    there: dict[int, int] = field(default_factory=dict)
    """Number of the last record of this run, in each partition; -1: none."""
    beats: dict[int, int] = field(default_factory=dict)
    """Time of the last heartbeat that this run added, in each partition that has one near its end."""
    others: list[int] = field(default_factory=list)
    """Partitions that end with records of other programs."""
    unclear: list[int] = field(default_factory=list)
    """Partitions that end with too many records of others to see whether any of this run stand before them."""

    @property
    def is_begun(self) -> bool:
        """Whether any record of this run is there."""
        return any(seq >= 0 for seq in self.there.values())


def progress_in(tails: Mapping[int, tuple[Sequence[RecordHeaders], bool]], run: str) -> IngestProgress:
    """The progress that the ends of the partitions show.

    `tails`: for each partition the headers of its last records, oldest first, and whether it has no others.

    >>> ours = [("beepgpt-ingest", b"0123456789ab:7")]
    >>> progress_in({0: ([ours], False), 1: ([ours, []], False), 2: ([], True)}, "0123456789ab")
    IngestProgress(there={0: 7, 1: 7, 2: -1}, beats={}, others=[1], unclear=[])
    """
    progress = IngestProgress()
    for partition, (records, is_all) in tails.items():
        places = [number_in(headers, run) for headers in records]
        progress.there[partition] = max((each[0] for each in places if each is not None), default=-1)
        if beats := [each[1] for each in places if each is not None and each[1]]:
            progress.beats[partition] = max(beats)
        if places and places[-1] is None:
            progress.others.append(partition)
        if progress.there[partition] < 0 and not is_all:
            progress.unclear.append(partition)
    return progress


def number_in(headers: RecordHeaders, run: str) -> tuple[int, int] | None:
    """A record's number in this run, and an added heartbeat's time, else 0; None if the record is not of this run.

    >>> number_in([("beepgpt-ingest", b"0123456789ab:7:1690360260000000")], "0123456789ab")
    (7, 1690360260000000)
    """
    for name, value in headers:
        if name == HEADER and (match := _NUMBER.fullmatch(value)) and match[1] == run.encode():
            return int(match[2]), int(match[3] or 0)
    return None


def read_progress(connection: kafka.Connection, topic: str, run: str) -> IngestProgress:
    """Read from the topic how far an earlier start came, once no more of its records arrive.

    Raises WrongTopic if the topic holds others' records and none of this run, or if another process is writing the same ingest.
    """

    def progress(back: int) -> IngestProgress:
        return progress_in(tails(connection, topic, back), run)

    found = progress(LOOK_BACK)
    if found.others or found.unclear:
        found = progress(LOOK_FAR_BACK)
    if found.others and not found.is_begun:
        raise WrongTopic(
            f"{topic}: it holds records already, and none of this ingest (another source, other settings, a source that has changed"
            " since, or another number of partitions): older events behind newer ones would be late. Name an empty topic"
        )
    if found.unclear:
        raise WrongTopic(
            f"{topic}, partition {found.unclear[0]}: of its last {LOOK_FAR_BACK:,} records none is of this ingest, so that nobody knows"
            " what of it stands before them: name an empty topic"
        )
    for _ in range(TRIES):
        time.sleep(SETTLED + (HEARTBEAT_EVERY if found.beats else 0))
        before, found = found, progress(LOOK_FAR_BACK if found.others else LOOK_BACK)
        if (found.there, found.beats) == (before.there, before.beats):
            return found
    raise WrongTopic(f"{topic}: the same ingest is writing to it now: stop that first, or wait for its end")


def check_not_closed(topic: str, found: IngestProgress, missing: int) -> None:
    """Raises WrongTopic if others have written behind this run's records while some of these are still missing."""
    if found.others and missing:
        raise WrongTopic(
            f"{topic}, partition {found.others[0]}: others' records came after those of this ingest, of which {missing:,} are missing, and"
            " would be late now: name an empty topic"
        )


def check_all_there(connection: kafka.Connection, topic: str, expected: dict[int, int]) -> None:
    """Raises WrongTopic if a partition has fewer records than were written to it."""
    for number, (begin, end) in kafka.begin_and_end_offsets(connection, topic).items():
        if (missing := expected.get(number, 0) - (end - begin)) > 0:
            raise WrongTopic(
                f"{topic}, partition {number}: {missing:,} records of this ingest were removed from it: make the topic anew, without an"
                " end to what it keeps (`beepgpt topics`), and ingest again"
            )


def check_nothing_else(connection: kafka.Connection, topic: str, expected: int) -> None:
    """Raises WrongTopic if the sum of the partitions' end offsets is greater than expected."""
    if (more := sum_of_ends(connection, topic) - expected) > 0:
        raise WrongTopic(
            f"{topic}: {more:,} records came from somebody else while this ingest wrote its own: the order of time is lost"
            f" there. Let nobody else write, and ingest again to an empty topic; or put it in order:"
            f" `beepgpt ingest kafka://{connection.bootstrap}/{topic} --to` another one"
        )


def sum_of_ends(connection: kafka.Connection, topic: str) -> int:
    """The sum of the partitions' end offsets, which grows by one with each record."""
    return sum(end for _, end in kafka.begin_and_end_offsets(connection, topic).values())
