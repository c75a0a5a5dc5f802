"""Slack's payloads as records of the topic, and which of them are there already: there is no other state.

A live event and the same message in a channel's history have different forms, and only the event has an `event_id`. What they have in
common is what they are about: the channel, the message, the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from beepgpt.connectors.log import Log, Topic
from beepgpt.conversations.events import BY_PERSON, DELETE, EDIT, MOVE, POST, REACT, Event, Ignored, micros, parse, strip_previous, ts_text
from beepgpt.conversations.export import NEVER, events_of
from beepgpt.conversations.rules import HOUR, SECOND

EDITED_AT = "edited_at"
"""In the callback of an edit that was found later: when it was made, to the second."""


def without_token(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload without its verification token, a secret that nobody needs."""
    return {name: value for name, value in payload.items() if name != "token"}


def record_of(payload: Mapping[str, Any], received_at: int, *, by_person: bool = False) -> bytes:
    """The record of a callback as Slack sent it, less what a message said before, with the time (microseconds) at which it was received.

    `by_person`: it is a post through an app, and its user is known to be a person.
    """
    body = without_token(payload) | {"received_at": ts_text(received_at)} | ({BY_PERSON: True} if by_person else {})
    if isinstance(event := body.get("event"), dict) and "previous_message" in event:
        body["event"] = event = dict(event)
        strip_previous(event)
    return orjson.dumps(body)


def backfilled_record(t: int, event: Mapping[str, Any], team: str, received_at: int, *, not_before: int = 0) -> tuple[int, bytes]:
    """Time and record of an event from a channel's history, which has no event id. That a person posted it stands beside the event.

    An edit that was made before `not_before` gets that time, since with its own it would be late; `edited_at` says when it was made.
    """
    inner = {name: value for name, value in event.items() if name != BY_PERSON}
    body = {"type": "event_callback", "team_id": team, "event": inner, "filled": True, "received_at": ts_text(received_at)}
    if t < not_before and event.get("subtype") == "message_changed":
        inner["event_ts"], body[EDITED_AT], t = ts_text(not_before), ts_text(t), not_before
    return t, orjson.dumps(body | ({BY_PERSON: True} if BY_PERSON in event else {}))


def deletion_record(channel: str, ts: int, t: int, team: str, received_at: int, why: str) -> bytes:
    """The record of a deletion that Slack did not send: of the message `ts`, at `t`; `why`: how it was found. Times in microseconds."""
    event = {"type": "message", "subtype": "message_deleted", "channel": channel, "deleted_ts": ts_text(ts), "event_ts": ts_text(t)}
    body = {"type": "event_callback", "team_id": team, "event": event | {"ts": ts_text(t)}, "filled": True, "why": why}
    return orjson.dumps(body | {"received_at": ts_text(received_at)})


def heartbeat_in(value: bytes | None) -> int | None:
    """The time of a heartbeat in microseconds; None for any other record."""
    if value is None or len(value) > 200 or b'"heartbeat"' not in value:
        return None
    try:
        body = orjson.loads(value)
        return micros(body["at"]) if body.get("type") == "heartbeat" else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def retained_since_in(value: bytes | None) -> int:
    """The time in a heartbeat before which messages were deleted by `slack.retention`, microseconds; 0: none were."""
    found = orjson.loads(value or b"{}").get("retained_since")
    return micros(found) if isinstance(found, str) else 0


def user_of(payload: Mapping[str, Any]) -> str:
    """The id of the person who used the app; empty if there is none."""
    user = payload.get("user")
    named = user.get("id") if isinstance(user, dict) else user
    return named if isinstance(named, str) else ""


RecordKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class RecordIdentity:
    """What identifies a record."""

    t: int
    """When it happened, in microseconds."""
    channel: str | None
    event_id: str
    key: RecordKey | None
    """What it is about; None for kinds of events that are in no history."""
    edited: int | None
    """`ts` of the message that it edits, in microseconds."""
    thread: int | None
    """`ts` of the root that it replies to, in microseconds."""
    new_channel: str | None = None
    """The id that it gives the channel."""


def identify(record: bytes, now: int) -> RecordIdentity:
    """Identify a record of the topic; `now`: when it arrived, in microseconds.

    >>> record = b'{"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1690360253.041239"}'
    >>> identify(record, now=1690360254000000).key
    ('C1', 0, 1690360253041239)
    """
    parsed = parse(record, now, bots="context")
    if isinstance(parsed, Event):
        key: RecordKey = (parsed.channel, parsed.kind, parsed.ts)
        if parsed.kind == EDIT:
            key = (*key, _edited_at(record) or parsed.t)
        elif parsed.kind == REACT:
            key = (*key, parsed.t, parsed.user, parsed.reaction, parsed.removed)
        edited = parsed.ts if parsed.kind == EDIT else None
        new_channel = parsed.text if parsed.kind == MOVE else None
        return RecordIdentity(parsed.t, parsed.channel, parsed.event_id, key, edited, parsed.thread_ts, new_channel)
    event_id = _id_of(record)
    if isinstance(parsed, Ignored) and parsed.channel is not None and parsed.t is not None:
        is_message = parsed.reason in ("bot", "no_author") or parsed.reason.startswith("subtype:")
        return RecordIdentity(parsed.t, parsed.channel, event_id, (parsed.channel, POST, parsed.t) if is_message else None, None, None)
    return RecordIdentity(now, getattr(parsed, "channel", None), event_id, None, None, None)


def _edited_at(record: bytes) -> int | None:
    found = orjson.loads(record).get(EDITED_AT) if EDITED_AT.encode() in record else None
    return micros(found) if isinstance(found, str) else None


def _id_of(record: bytes) -> str:
    try:
        event_id = orjson.loads(record)["event_id"]
    except (ValueError, KeyError, TypeError):
        return ""
    return event_id if isinstance(event_id, str) else ""


@dataclass(frozen=True)
class Missing:
    """What a channel's history has and the topic lacks, and what can't be recovered."""

    events: list[tuple[int, dict[str, Any]]]
    """Times and inner events, in order of time: posts, and edits at the end of their second."""
    untimed: int
    """Reactions: whether and when they came in the gap can't be known."""
    gone: list[int]
    """Messages on the topic that the history has no longer, by `ts`: deleted, at an unknown time."""
    unreadable: int
    """Messages without a readable time."""


class KnownRecords:
    """Identities of the records on a topic, as far back as duplicates can come.

    >>> known = KnownRecords()
    >>> record = b'{"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1690360253.041239"}'
    >>> known.add(identify(record, now=1690360254000000))
    >>> identify(record, now=1690360254000000) in known
    True
    >>> texts = [("hi", "1690360253.041239"), ("so", "1690360255.000100")]
    >>> stored = [{"type": "message", "user": "U1", "text": text, "ts": ts} for text, ts in texts]
    >>> [event["text"] for _, event in known.missing("C1", stored, since=0).events]
    ['so']
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._keys: set[RecordKey] = set()
        self._edited: dict[tuple[str, int], int] = {}
        """Time of each message's last edit."""
        self._posts: dict[str, dict[int, int | None]] = {}
        """Each channel's messages that are not deleted, and the roots of their threads."""
        self._replies: dict[tuple[str, int], set[int]] = {}
        """Replies that are not deleted, by channel and root."""
        self._order: deque[RecordIdentity] = deque()
        self._newest: dict[str, int] = {}
        self._threads: dict[str, dict[int, int]] = {}
        """Each channel's threads that were replied to, and when they last were."""
        self.moved: dict[str, str] = {}
        """Channels that got another id: old to new."""
        self.begins: dict[str, int] = {}
        """When channels got the id under which they are here, microseconds: what is older stands under the old one."""

    def __contains__(self, identity: RecordIdentity) -> bool:
        if identity.event_id and identity.event_id in self._ids:
            return True
        if identity.key is None or identity.edited is None:
            return identity.key in self._keys
        edited_at = identity.key[3]
        assert isinstance(edited_at, int)
        end_of_second = edited_at // SECOND * SECOND + SECOND - 1  # the time of an edit that was backfilled
        return identity.key in self._keys or (*identity.key[:3], end_of_second) in self._keys

    def __len__(self) -> int:
        return len(self._order)

    def add(self, identity: RecordIdentity) -> None:
        """Note a record that is on the topic, or will be before anything later is."""
        self._order.append(identity)
        if identity.event_id:
            self._ids.add(identity.event_id)
        if identity.key is not None:
            self._keys.add(identity.key)
        if identity.channel is None:
            return
        if identity.key is not None and identity.key[1] in (POST, DELETE):
            ts = identity.key[2]
            assert isinstance(ts, int)
            if identity.key[1] == POST:
                self._posts.setdefault(identity.channel, {})[ts] = identity.thread
                if identity.thread is not None:
                    self._replies.setdefault((identity.channel, identity.thread), set()).add(ts)
            else:
                self._forget_post(identity.channel, ts)
        self._newest[identity.channel] = max(self._newest.get(identity.channel, 0), identity.t)
        if identity.key is not None and identity.edited is not None:
            message, edited_at = (identity.channel, identity.edited), identity.key[3]
            assert isinstance(edited_at, int)
            self._edited[message] = max(self._edited.get(message, 0), edited_at)
        if identity.thread is not None:
            threads = self._threads.setdefault(identity.channel, {})
            threads[identity.thread] = max(threads.get(identity.thread, 0), identity.t)
        if identity.new_channel is not None:
            self.moved[identity.channel] = identity.new_channel
            self.begins[identity.new_channel] = identity.t

    def forget_before(self, t: int) -> None:
        """Forget what happened before this time."""
        while self._order and self._order[0].t < t:
            identity = self._order.popleft()
            self._ids.discard(identity.event_id)
            if identity.key is not None:
                self._keys.discard(identity.key)
            if identity.channel is not None and identity.edited is not None:
                message = (identity.channel, identity.edited)
                if self._edited.get(message, t) < t:
                    del self._edited[message]
            if identity.channel is not None and identity.key is not None:
                self._forget_post(identity.channel, identity.t)
        for threads in self._threads.values():
            for root in [root for root, last in threads.items() if last < t]:
                del threads[root]

    def _forget_post(self, channel: str, ts: int) -> None:
        root = self._posts.get(channel, {}).pop(ts, None)
        if root is not None and (replies := self._replies.get((channel, root))) is not None:
            replies.discard(ts)
            if not replies:
                del self._replies[channel, root]

    def has_thread(self, channel: str, root: int, count: int, latest: int) -> bool:
        """Whether a thread is known from its root on, with so many replies, of which `latest` is the last.

        May be called by any thread of this process.
        """
        is_begun = root in self._posts.get(channel, {})
        return is_begun and (channel, POST, latest) in self._keys and len(self._replies.get((channel, root), ())) == count

    def newest(self, channel: str | None = None) -> int | None:
        """Time of the channel's newest event, or of the newest of all; None: there is none."""
        return self._newest.get(channel) if channel is not None else max(self._newest.values(), default=None)

    def posts(self, channel: str) -> Collection[int]:
        """The channel's messages that are not deleted, by `ts`."""
        return self._posts.get(channel, {})

    def threads(self, channel: str, since: int) -> list[int]:
        """Roots of the channel's threads that were replied to since then."""
        return [root for root, last in self._threads.get(channel, {}).items() if last >= since]

    def channels(self, since: int) -> list[str]:
        """Channels with events since then, under the ids that they still have."""
        return [channel for channel, newest in self._newest.items() if newest >= since and channel not in self.moved]

    def missing(
        self,
        channel: str,
        stored: Iterable[Any],
        since: int,
        whole_since: int | None = None,
        waiting: Collection[int] = (),
        people: Container[str] = (),
        has_all: Callable[[int | None], bool] = lambda root: True,
    ) -> Missing:
        """Compare a channel's history with the topic: events since `since` that it lacks, and from `whole_since` on messages that are gone.

        `people`: users known to be no bots. `has_all`: whether all replies of the thread with that root were read; of None: all roots.
        `stored`: the history's messages. `waiting`: times of messages that are not among them, and not deleted for that.

        A live edit has its own time, a stored one only the second in which it was made: a known edit from within that second,
        or later, is the same or a newer one.
        """
        events: list[tuple[int, int, dict[str, Any]]] = []
        untimed = unreadable = 0
        there: set[int] = set()
        for message in stored:
            for t, kind, event in events_of(channel, message, people=people):
                if t == NEVER:
                    unreadable += 1
                elif kind == REACT:
                    untimed += t >= since
                elif kind == POST:
                    if event.get("subtype") != "tombstone":
                        there.add(t)
                    if t >= since and (channel, POST, t) not in self._keys:
                        events.append((t, kind, event))
                elif t >= since and self._edited.get((channel, micros(event["message"]["ts"])), 0) < t // SECOND * SECOND:
                    events.append((t, kind, event))
        earliest = since if whole_since is None else whole_since
        posts = self._posts.get(channel, {}).items()
        gone = sorted(ts for ts, root in posts if ts >= earliest and ts not in there and ts not in waiting and has_all(root))
        events.sort(key=lambda each: each[:2])
        return Missing([(t, event) for t, _, event in events], untimed, gone, unreadable)


def unchecked_since_in(value: bytes | None) -> int | None:
    """The time in a heartbeat since when edits and deletions of replies may be missing, microseconds; None: none are."""
    found = orjson.loads(value or b"{}").get("unchecked_since")
    return micros(found) if isinstance(found, str) else None


REMEMBERED = HOUR
"""How long before the last heartbeat duplicates are recognized: Slack repeats what was not acknowledged for up to an hour."""


def remembered_since(covered: int | None, unchecked_since: int | None) -> int:
    """From when on a topic's records are remembered, by what its last heartbeat says; all in microseconds.

    As long as replies' edits and deletions are still to be looked for, what was known when that began has to be known.

    >>> remembered_since(10 * HOUR, None) // HOUR, remembered_since(10 * HOUR, unchecked_since=3 * HOUR) // HOUR
    (9, 2)
    """
    return 0 if covered is None else min(covered, covered if unchecked_since is None else unchecked_since) - REMEMBERED


TAILS = (1_000, 50_000)
"""Offsets at the end of each partition in which its last heartbeat is looked for, before the whole topic is read."""


@dataclass
class TopicContents:
    """What a topic held at the start of a run."""

    known: KnownRecords
    covered: int | None
    """Time of the last heartbeat that every partition has, in microseconds; None: there is none."""
    retained_since: int = 0
    """Messages from before this time were deleted by `slack.retention`, microseconds; the heartbeats have it."""
    begins: int = 0
    """When the topic began empty, if that is not long ago."""
    unchecked_since: int | None = None
    """Edits and deletions of replies since then may be missing, microseconds; the heartbeats have it."""


def read_contents(log: Log, topic: Topic) -> TopicContents:
    """Read the topic's last heartbeat, and its records from `remembered_since` on; without a heartbeat all of them.

    The last heartbeat, not the greatest: one that turned out to be wrong is corrected by a later heartbeat with an earlier time.
    """
    beats: dict[int, int] = {}
    retained: dict[int, int] = {}
    unchecked: dict[int, int | None] = {}
    for back in (*TAILS, None):
        beats = {}
        for number, record in log.records(topic.name, back=back):
            if (at := heartbeat_in(record.value)) is not None:
                beats[number], retained[number], unchecked[number] = at, retained_since_in(record.value), unchecked_since_in(record.value)
        if len(beats) == topic.partitions:
            break
    covered = min(beats.values()) if len(beats) == topic.partitions else None
    since = min((each for each in unchecked.values() if each is not None), default=None)
    known, begins = KnownRecords(), 0
    starts = None if covered is None else log.offsets_at(topic.name, remembered_since(covered, since))
    for _, record in log.records(topic.name, starts=starts):
        if (at := heartbeat_in(record.value)) is not None:
            begins = at if record.offset == 0 else begins
        elif record.value is not None:
            known.add(identify(record.value, record.timestamp))
    return TopicContents(known, covered, min(retained.values(), default=0), begins, since)
