"""Writing to the topics of events and interactions, acknowledged once the log has confirmed; and up to when the topic is complete."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import orjson

from beepgpt.clock import now_us
from beepgpt.connectors.log import LogWriter, NoTopic, OutgoingRecord
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.record_order import heartbeat_record
from beepgpt.conversations.rules import MINUTE, SECOND
from beepgpt.ingest.slack.known_records import (
    REMEMBERED,
    KnownRecords,
    Missing,
    RecordIdentity,
    TopicContents,
    backfilled_record,
    deletion_record,
    identify,
    remembered_since,
    without_token,
)
from beepgpt.ingest.slack.web_queries import HistoryWindow

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

LATENESS = 5 * SECOND
"""An event that comes at most this long after its heartbeat is not late in a flow."""
GAP_MARGIN = 10 * MINUTE
"""A gap begins this long before the last heartbeat: Slack can take eight minutes, and what it had not delivered may never come."""

log = logging.getLogger(__name__)


@dataclass
class HeldEvent:
    """An arrival that waits for its channel's backfill."""

    arrival: slack_live.Arrival
    message: OutgoingRecord | None
    """None: a duplicate."""
    t: int


@dataclass
class Gap:
    """A channel that may lack events, or that is not known yet."""

    since: int | None
    """When the gap begins, in microseconds; None: only the channel's description has to be asked for."""
    held: list[HeldEvent] = field(default_factory=list)
    newest: int = 0
    """Time of the channel's newest event on the topic: flows that follow it are there already. Microseconds."""


class Coverage:
    """The time range over which the topic is known to be complete."""

    def __init__(self, contents: TopicContents) -> None:
        self._known = contents.known
        self.covered = contents.covered
        """Time of the last heartbeat: everything before it is on the topic. None: there is no heartbeat yet."""
        self.begins = contents.begins
        self.retained_since = contents.retained_since
        """Messages from before this time were deleted by `slack.retention`."""
        self.unchecked_since = contents.unchecked_since
        """Edits and deletions of replies since this time may be missing, as the last heartbeat says; None: none are."""
        self.joined: dict[str, int] = {}
        """When the app joined channels during this run."""

    @property
    def remembered_since(self) -> int:
        """The time from which the topic's records are remembered: an hour before the last heartbeat, or before what is unchecked."""
        return remembered_since(self.covered, self.unchecked_since)

    def gap_start(self, channel: str) -> int | None:
        """From when on events of the channel may be missing; not before the topic began or the app joined the channel."""
        return None if self.covered is None else self.not_before(channel, self.covered - GAP_MARGIN)

    def not_before(self, channel: str, t: int) -> int:
        """This time, or the earliest one from which the channel's events can be on the topic, under its id."""
        return max(t, self.begins, self.joined.get(channel, 0), self._known.begins.get(channel, 0))

    def whole_since(self, channel: str, since: int) -> int:
        """The time from which all the channel's events on the topic are remembered, for a gap that begins at `since`."""
        return self.not_before(channel, since - REMEMBERED + GAP_MARGIN)

    def window(self, channel: str, since: int, look_back: int) -> HistoryWindow:
        """The part of a channel's history to read for a gap that begins at `since`."""
        roots, replies = max(since - look_back, 10**15), self.whole_since(channel, since)
        threads = [ts_text(root) for root in self._known.threads(channel, replies) if root < roots]
        return HistoryWindow(ts_text(since), ts_text(roots), ts_text(replies), threads, partial(_has_thread, self._known, channel))

    def is_late(self, t: int) -> bool:
        """Whether flows that follow the topic have passed this time already."""
        return self.covered is not None and t < self.covered - LATENESS


def _has_thread(known: KnownRecords, channel: str, root: str, count: int, latest: str) -> bool:
    try:
        return known.has_thread(channel, micros(root), count, micros(latest))
    except ValueError:
        return False


@dataclass(eq=False)
class EventWriter:
    """Writes to the topics of events and interactions, and counts what becomes of each arrival."""

    _events: LogWriter
    _interactions: LogWriter
    _partitions: int
    _known: KnownRecords
    _coverage: Coverage
    _open_dead_letters: Callable[[], LogWriter]
    """Opens the writer to the dead letters' topic, once there are any."""
    _dead_letters: LogWriter | None = field(default=None, init=False)
    _pending: list[OutgoingRecord] = field(default_factory=list, init=False)
    _acknowledgements: list[Callable[[], None]] = field(default_factory=list, init=False)
    account: Counter[str] = field(default_factory=Counter, init=False)
    types: Counter[str] = field(default_factory=Counter, init=False)
    """Events written, by Slack's type."""

    @property
    def most(self) -> int:
        """Greatest size of a record that the topic takes, in bytes."""
        return self._events.most

    @property
    def unconfirmed(self) -> int:
        """Arrivals that are acknowledged with the next `flush`, or with the one that waits; may be called from another thread."""
        return len(self._acknowledgements)

    def write(self, arrival: slack_live.Arrival, message: OutgoingRecord | None) -> None:
        """Write an event with the next `flush`; None: it is a duplicate, and only acknowledged."""
        if message is not None:
            self._pending.append(message)
        self._settle(arrival, is_duplicate=message is None)

    def recovered(self, channel: str, found: Missing, team: str, *, newest: int) -> list[tuple[int, OutgoingRecord]]:
        """Times and records of what a history has and the topic lacks, and of deletions of what it has no longer; known from now on.

        Deletions, whose time is unknown, and edits that would be late get the first free microsecond behind what flows have passed: the
        last heartbeat, and `newest`, the time of the channel's newest event on the topic. So the posts that are held, and come behind
        them, are made without the text that is gone.
        """
        now, key, covered = now_us(), channel.encode(), self._coverage.covered or 0
        at = self.free_time(channel, newest, {t for t, _ in found.events})
        # What came since the last heartbeat may be newer than the history that Slack shows.
        gone = [ts for ts in found.gone if ts <= covered]
        records = [backfilled_record(t, event, team, now, not_before=at) for t, event in found.events]
        self.account.update(
            filled=len(records),
            untimed=found.untimed,
            vanished=len(gone),
            unreadable=found.unreadable,
            delayed=sum(self._coverage.is_late(t) for t, _ in records),
        )
        records += [(at, deletion_record(channel, ts, at, team, now, "vanished")) for ts in gone]
        for _, record in records:
            self._known.add(identify(record, now))
        return [(t, OutgoingRecord(key, record)) for t, record in records]

    def free_time(self, channel: str, newest: int, taken: Collection[int] = ()) -> int:
        """The first microsecond behind what flows have passed that is no post's of the channel, and not `taken`.

        `newest`: the time of the channel's newest event on the topic.
        """
        at, posts = max(newest, self._coverage.covered or 0) + 1, self._known.posts(channel)
        while at in posts or at in taken:
            at += 1
        return at

    def write_backfill(self, backfilled: Iterable[tuple[int, OutgoingRecord]], held: Iterable[HeldEvent]) -> None:
        """Write a channel's missing events together with those that were held, in order of time, with the next `flush`."""
        held = list(held)
        ready = [*backfilled, *((each.t, each.message) for each in held if each.message is not None)]
        ready.sort(key=lambda each: each[0])
        self._pending += [message for _, message in ready]
        for each in held:
            self._settle(each.arrival, is_duplicate=each.message is None)

    def _settle(self, arrival: slack_live.Arrival, *, is_duplicate: bool) -> None:
        self.account["duplicate" if is_duplicate else "written"] += 1
        if not is_duplicate:
            self.types[str(arrival.payload["event"].get("type"))] += 1
        self._acknowledgements.append(arrival.acknowledge)

    def leave_out(self, arrival: slack_live.Arrival, why: str) -> None:
        """Acknowledge an arrival that is not for the topic, without writing it."""
        self.account[f"left_out:{why}"] += 1
        self._acknowledgements.append(arrival.acknowledge)

    def leave_out_oversized(self, arrival: slack_live.Arrival | slack_live.Oversized, head: bytes, size: int, key: bytes | None) -> None:
        """Acknowledge what is too large for the topic; its beginning goes to the dead letters."""
        log.error("an event is larger than what can be taken, and is left out", extra={"bytes": size})
        try:
            self._dead_letters = self._dead_letters or self._open_dead_letters()
        except NoTopic as error:
            log.error("its beginning can't be kept", extra={"why": str(error)})
        else:
            headers = [("reason", b"too_large"), ("source", f"slack/{arrival.line}".encode()), ("cut_from", b"%d" % size)]
            self._dead_letters.send([OutgoingRecord(key, head, headers)])
        self.account["left_out:too_large"] += 1
        self._acknowledgements.append(arrival.acknowledge)

    def write_interaction(self, arrival: slack_live.Arrival, user: str) -> None:
        """Write an interaction as Slack sent it, under the person's id; sent at once, since the person waits."""
        event_id = str(arrival.payload.get("event_id") or arrival.payload.get("trigger_id") or arrival.name)
        identity = RecordIdentity(int(arrival.at * 1e6), None, event_id, None, None, None)
        if identity in self._known:
            self.account["duplicate"] += 1
        else:
            self._known.add(identity)
            self._interactions.send([OutgoingRecord(user.encode() or None, orjson.dumps(without_token(arrival.payload)))])
            self.account["interactions"] += 1
        self._acknowledgements.append(arrival.acknowledge)

    def flush(self) -> None:
        """Send what is pending, wait until the log has confirmed all of it, and acknowledge."""
        if self._pending:
            self._events.send(self._pending)
            self._pending = []
            self._events.flush()
        self._interactions.flush()
        if self._dead_letters is not None:
            self._dead_letters.flush()
        acknowledgements, self._acknowledgements = self._acknowledgements, []
        for acknowledge in acknowledgements:
            acknowledge()

    def write_deletions(self, deletions: Iterable[tuple[str, bytes]]) -> None:
        """Write records of deletions under their channels, behind what is pending, and wait until the log has confirmed all of it."""
        records = [OutgoingRecord(channel.encode(), record) for channel, record in deletions]
        self._pending += records
        self.flush()
        self.account["retention"] += len(records)

    def write_heartbeat(self, at: int) -> None:
        """Write to every partition that it is complete up to `at`, and wait until that is confirmed."""
        value = heartbeat_record(at, self._coverage.retained_since, self._coverage.unchecked_since)
        self._events.send(OutgoingRecord(None, value, (), number) for number in range(self._partitions))
        self._events.flush()
        self._coverage.covered = at
        self.account["heartbeats"] += 1
