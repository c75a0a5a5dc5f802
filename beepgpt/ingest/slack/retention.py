"""`slack.retention`: messages that are older are deleted, once a day, by records on the topic, so that every replay deletes them, too.

Slack sends no events for what a workspace's own retention deletes; the setting mirrors it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from beepgpt.clock import now_us
from beepgpt.connectors.log import Log
from beepgpt.conversations.events import DELETE, POST, Event, log_time, parse
from beepgpt.conversations.rules import DAY
from beepgpt.ingest.slack.event_writer import Coverage, EventWriter
from beepgpt.ingest.slack.known_records import deletion_record

BATCH = 1_000


@dataclass(eq=False)
class ExpiredMessages:
    """Messages that are too old, a batch of them."""

    messages: list[tuple[str, int]]
    """Channel and `ts`."""
    before: int | None
    """With the last batch: no message from before this time is left. Microseconds."""
    is_written: threading.Event = field(default_factory=threading.Event)


def expired_messages(log: Log, topic: str, since: int, before: int) -> Iterator[tuple[str, int]]:
    """Yield channel and `ts` of each message from before `before` that is on the topic and not deleted there.

    `since`: what is older than that was deleted already, unless it came to the topic later. All times in microseconds.
    """
    found: dict[str, set[int]] = {}
    for _, record in log.records(topic, starts=log.offsets_at(topic, since)):
        parsed = parse(record.value or b"", log_time(record.timestamp, now_us()), bots="context")
        if not isinstance(parsed, Event) or parsed.ts >= before:
            continue
        if parsed.kind == POST:
            found.setdefault(parsed.channel, set()).add(parsed.ts)
        elif parsed.kind == DELETE:
            found.get(parsed.channel, set()).discard(parsed.ts)
    for channel, messages in sorted(found.items()):
        yield from ((channel, ts) for ts in sorted(messages))


class RetentionSweep:
    """Looks for messages that are too old whenever another day has begun, in a thread; the loop writes their deletions."""

    def __init__(self, log: Log, topic: str, retention: int, put: Callable[[Any], None]) -> None:
        """`retention`: microseconds. `put` gets batches of `ExpiredMessages`, each once the one before is written, or a `Failed`."""
        self._log, self._topic, self._retention, self._put = log, topic, retention, put
        self._is_looking = False

    def begin(self, coverage: Coverage) -> None:
        """Look for expired messages, if the topic is covered to another day than when this was last done. Days are UTC's."""
        before = (coverage.covered or 0) // DAY * DAY - self._retention
        if self._is_looking or before <= coverage.retained_since:
            return
        self._is_looking = True
        since = coverage.retained_since
        threading.Thread(target=self._look, args=(since, before), name="slack-retention", daemon=True).start()

    def _look(self, since: int, before: int) -> None:
        from beepgpt.connectors.slack.live import Failed

        try:
            expired = list(expired_messages(self._log, self._topic, since, before))
        except Exception as error:
            self._put(Failed(error))
            return
        for first in range(0, len(expired), BATCH):
            batch = ExpiredMessages(expired[first : first + BATCH], None)
            self._put(batch)
            batch.is_written.wait()
        self._put(ExpiredMessages([], before))

    def on_expired(self, found: ExpiredMessages, coverage: Coverage, writer: EventWriter, newest: Callable[[str], int], team: str) -> None:
        """Write the deletions of a batch, right behind what flows have passed, so that none is late, however long heartbeats have waited.

        `newest`: the time of a channel's newest event on the topic.
        """
        now = now_us()
        times = {channel: writer.free_time(channel, newest(channel)) for channel, _ in found.messages}
        writer.write_deletions(
            (channel, deletion_record(channel, ts, times[channel], team, now, "retention")) for channel, ts in found.messages
        )
        found.is_written.set()
        if found.before is not None:
            coverage.retained_since = found.before
            self._is_looking = False
