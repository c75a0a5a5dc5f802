"""The events that an audit checks examples against, channel by channel, in the order in which they are applied."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from beepgpt.conversations.account import UNNAMED, UNTIMED, Account
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import DELETE, EDIT, MOVE, POST, Event, Heartbeat, Ignored, Reject, log_time, parse
from beepgpt.conversations.reorder import without_duplicates
from beepgpt.conversations.rules import Rules


class MessageVersions:
    """A message and all versions of its text."""

    __slots__ = ("bot", "deleted_at", "thread_ts", "ts", "user", "versions")

    def __init__(self, event: Event) -> None:
        self.ts = event.ts
        self.user = event.user
        self.bot = event.bot
        self.thread_ts = event.thread_ts
        self.versions: list[tuple[int, str | None]] = [(event.t, event.text)]
        """(since when it was known, text as it came; None for unknown text)."""
        self.deleted_at: int | None = None


AuditedRecord = bytes | tuple[str, int, bytes]
"""A record; one of a topic comes with its partition and the time it was written, microseconds."""


class ChannelHistory:
    """A channel's events in the order in which they are applied, and the channel's clock at the end."""

    __slots__ = ("clock", "events", "name", "partition", "settled")

    def __init__(self, name: str, partition: str = "all") -> None:
        self.name = name
        self.partition = partition
        self.events: list[Event] = []
        self.clock = 0
        self.settled = 0
        """The final watermark: what is before it settled while the run was reading, the rest only at the end of the input."""

    def messages(self) -> dict[int, MessageVersions]:
        """The channel's messages, by ts."""
        messages: dict[int, MessageVersions] = {}
        for event in self.events:
            if event.kind == POST:
                messages.setdefault(event.ts, MessageVersions(event))
            elif event.kind == EDIT and event.ts in messages:
                messages[event.ts].versions.append((event.t, event.text))
            elif event.kind == DELETE and event.ts in messages and messages[event.ts].deleted_at is None:
                messages[event.ts].deleted_at = event.t
        return messages


@dataclass(frozen=True)
class ChannelHistories:
    """The histories of all channels, and the account of the records."""

    channels: Mapping[str, ChannelHistory]
    account: Account


def read_histories(records: Iterable[AuditedRecord], rules: Rules, *, now: int = FOREVER, until: int | None = None) -> ChannelHistories:
    """Parse records, in order of arrival, into each channel's events in order of application; only events that were applied are kept.

    It follows docs/semantics.md, "Order", in the plainest way: everything stays in memory, so that any prefix can be read again.
    """
    channels: dict[str, ChannelHistory] = {}
    account = Account()
    beats: dict[str, int] = {}
    for record in records:
        partition, written, value = ("all", now, record) if isinstance(record, bytes) else (record[0], log_time(record[1], now), record[2])
        parsed = parse(value, written, bots=rules.bots, edits=rules.edits)
        beat = beats.get(partition, 0)
        if isinstance(parsed, Heartbeat):
            account.count("heartbeats")
            beats[partition] = max(beat, parsed.at)
            continue
        account.count("read")
        if isinstance(parsed, Reject):
            account.count(f"rejected:{parsed.reason}")
            continue
        if isinstance(parsed, Ignored):
            account.count(f"ignored:{parsed.reason}")
            if parsed.channel is not None and parsed.t is not None:
                channel = channels.setdefault(parsed.channel, ChannelHistory(parsed.channel, partition))
                channel.clock = max(channel.clock, parsed.t)
            continue
        if parsed.untimed and rules.horizon is not None:
            account.count(UNTIMED if parsed.user else UNNAMED)
            continue
        channel = channels.setdefault(parsed.channel, ChannelHistory(parsed.channel, partition))
        if max(channel.clock, beat) - parsed.t > rules.lateness:
            account.count("late")
            continue
        channel.clock = max(channel.clock, parsed.t)
        if until is not None and parsed.t > until:
            account.count("ignored:after_until")
        else:
            channel.events.append(parsed)
    for channel in channels.values():
        clock = max(channel.clock, beats.get(channel.partition, 0))
        channel.settled = clock - rules.lateness
        channel.clock = clock if until is None else until
        channel.events.sort()
        applied = without_duplicates(channel.events, rules.lateness)
        account.count("duplicate", len(channel.events) - len(applied))
        channel.events = [event._replace(record=b"") for event in applied]  # their order needed it, and nothing does any more
    return ChannelHistories(channels, account)


def up_to(until: int, history: ChannelHistories) -> ChannelHistories:
    """The histories as a run with `--until` uses them; the account starts at zero."""
    channels = {}
    for name, channel in history.channels.items():
        channels[name] = cut = ChannelHistory(name, channel.partition)
        cut.events = channel.events[: after(channel, until)]
        cut.clock, cut.settled = until, channel.settled
    return ChannelHistories(channels, Account())


def after(channel: ChannelHistory, t: int) -> int:
    """How many of a channel's events are no later than `t`."""
    return bisect_right(channel.events, t, key=lambda event: event.t)


def known_by(heard: ChannelHistory, t: int) -> int:
    """How many of a channel's events are known to a point at `t`: a move ends the points of its own time."""
    end = after(heard, t)
    while end and heard.events[end - 1].kind == MOVE and heard.events[end - 1].t == t:
        end -= 1
    return end
