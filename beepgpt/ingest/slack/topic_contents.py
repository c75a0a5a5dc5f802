"""What the topic holds when a run starts: its last heartbeat and the records of the hour before. There is no other state."""

from __future__ import annotations

from dataclasses import dataclass

from beepgpt.connectors import kafka
from beepgpt.conversations.rules import HOUR
from beepgpt.ingest.slack.envelopes import heartbeat_in
from beepgpt.ingest.slack.known_records import KnownRecords, identify

REMEMBERED = HOUR
"""How long before the last heartbeat duplicates are recognised: Slack repeats what was not acknowledged for up to an hour."""
TAILS = (1_000, 50_000)
"""Offsets at the end of each partition in which its last heartbeat is looked for, before the whole topic is read."""


@dataclass
class TopicContents:
    """What a topic held at the start of a run."""

    known: KnownRecords
    covered: int | None
    """Time of the last heartbeat that every partition has, in microseconds; None: there is none."""
    begins: int = 0
    """When the topic began empty, if that is not long ago."""


def read_contents(connection: kafka.Connection, topic: kafka.Topic) -> TopicContents:
    """Read the topic's last heartbeat, and its records from an hour before that on; without a heartbeat all of them.

    The last heartbeat, not the greatest: one that turned out to be wrong is corrected by a later heartbeat with an earlier time.
    """
    beats: dict[int, int] = {}
    for back in (*TAILS, None):
        beats = {}
        for number, record in kafka.records_of(connection, topic.name, back=back):
            if (at := heartbeat_in(record.value)) is not None:
                beats[number] = at
        if len(beats) == topic.partitions:
            break
    covered = min(beats.values()) if len(beats) == topic.partitions else None
    known, begins = KnownRecords(), 0
    starts = None if covered is None else kafka.offsets_at(connection, topic.name, covered - REMEMBERED)
    for _, record in kafka.records_of(connection, topic.name, starts=starts):
        if (at := heartbeat_in(record.value)) is not None:
            begins = at if record.offset == 0 else begins
        elif record.value is not None:
            known.add(identify(record.value, record.timestamp))
    return TopicContents(known, covered, begins)
