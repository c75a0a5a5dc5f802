"""A shard, a fixed group of channels: records in, examples out. All of a channel's records are in one shard."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from pathlib import Path
from typing import Any
from zlib import crc32

from beepgpt.conversations.account import (
    AFTER_UNTIL,
    CHANNELS,
    DUPLICATE,
    HEARTBEATS,
    HELD,
    IGNORED,
    LATE,
    OPEN,
    READ,
    REJECTED,
    UNNAMED,
    UNTIMED,
    Account,
)
from beepgpt.conversations.channel import FOREVER, Channel
from beepgpt.conversations.events import Event, Heartbeat, Ignored, Parsed, Reject, channels_in, parse
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.output import Output
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointLog, PointSettled
from beepgpt.conversations.reorder import ReorderBuffer
from beepgpt.conversations.rules import Rules, differing, shaping_settings
from beepgpt.conversations.tokens import Encoding
from beepgpt.errors import BeepGPTError

STATE_VERSION = 10
"""Raised when the state of an older version can't be read any more."""
BUILD = "plain" if Path(__file__).suffix == ".py" else "compiled"
"""The state of one build can't be read by the other."""

SHARDS = tuple(f"shard-{number:02d}" for number in range(32))
"""The engine's keys. They are permanent: snapshots are filed under them."""


def check_version(what: str, state: Mapping[str, Any], version: int) -> None:
    """Raise OtherState if a snapshot is of another version of a step's state."""
    if state["version"] != version:
        raise OtherState(
            f"the recovery store was written by {what} version {state['version']}, and this is {what} version {version}."
            " Use the program it was written by, or delete it and run again from the start."
        )


def check_settings(state: Mapping[str, Any], rules: Rules) -> None:
    """Raise OtherState if a snapshot was written with other settings."""
    if state["spec"] != rules.spec:
        raise OtherState(
            f"the recovery store was written with other settings: {differing(state['spec'], rules.spec, state.get('settings'), rules)}."
            " Use the settings it was written with, or delete it and run again from the start."
        )


def shard_of(channel: str) -> str:
    """The shard of a channel: the same in every run, on every machine.

    >>> shard_of("C024BE91L")
    'shard-01'
    """
    return shard_of_bytes(channel.encode())


def shard_of_bytes(name: bytes) -> str:
    """The shard of a channel whose name is in UTF-8."""
    return SHARDS[crc32(name) % len(SHARDS)]


def shard_of_parsed(parsed: Parsed) -> str:
    """The shard that counts a record: its channel's; if it has none, that of the first channel it seems to name, or one by its bytes."""
    if isinstance(parsed, Heartbeat):
        raise TypeError("a heartbeat is for every shard")
    if parsed.channel is not None:
        return shard_of(parsed.channel)
    return shard_of_bytes(next(iter(channels_in(parsed.record)), parsed.record))


def assign_shards(weights: Mapping[str, float], workers: int) -> list[tuple[str, ...]]:
    """The shards of each worker, about equally heavy: the heaviest shard first, each to the worker that has least (Graham, 1969).

    >>> one, other = assign_shards({"shard-00": 5, "shard-01": 3, "shard-02": 2}, 2)
    >>> one[0], other[:2], len(one), len(other)
    ('shard-00', ('shard-01', 'shard-02'), 16, 16)
    """
    assigned: list[list[str]] = [[] for _ in range(workers)]
    loads = [(0.0, 0, worker) for worker in range(workers)]  # of equally heavy ones, the one with the fewest shards is next
    for shard in sorted(SHARDS, key=lambda each: (-weights.get(each, 0), each)):
        load, count, worker = heappop(loads)
        assigned[worker].append(shard)
        heappush(loads, (load + weights.get(shard, 0), count + 1, worker))
    return [tuple(sorted(shards)) for shards in assigned]


class OtherState(BeepGPTError):
    """A snapshot was written by another version, build, or with other rules; the message says what to do."""


class ChannelMoved(BeepGPTError):
    """A channel's events came from two partitions, whose order nobody knows; the message says what to do."""


class FollowedChannel:
    """A channel, its reorder buffer, and the partition that its records come from."""

    __slots__ = ("buffer", "channel", "due", "partition")

    def __init__(self, channel: Channel, buffer: ReorderBuffer, partition: str) -> None:
        self.channel = channel
        self.buffer = buffer
        self.partition = partition
        self.due = FOREVER
        """A heartbeat from after this time may have something to do here; never later than the truth."""

    def next_due(self) -> int:
        """The time after which a heartbeat would apply an event or settle a point."""
        buffered = self.buffer.buffered
        first = min(buffered[0].t if buffered else FOREVER, self.channel.next_end())
        return first + self.buffer.lateness


class Shard:
    """The state of one of the engine's keys: channels by id, and the account of all that was read for them."""

    def __init__(
        self,
        rules: Rules,
        encoding: Encoding,
        *,
        since: int = 0,
        until: int | None = None,
        recoverable: bool = True,
        points_since: int | None = None,
        are_packed: bool = False,
    ) -> None:
        """`since`: examples with an earlier `prompt_ts` are not written. `until`: every channel's clock at the end of the input.

        `points_since`: points from this time on are logged; None: no points are. All times in microseconds. `are_packed`: examples are for
        a table.
        """
        self.rules = rules
        self.encoding = encoding
        self.since = since
        self.until = until
        self.account = Account()
        self.points_since = points_since
        self.are_packed = are_packed
        self.output = self._new_output()
        self.followed: dict[str, FollowedChannel] = {}
        self.heartbeats: dict[str, int] = {}
        """The latest heartbeat of each partition, which holds for channels that are first seen after it, too."""
        self.ended = False
        self.resumed: dict[str, int] = {}
        """Counts that were resumed from a snapshot."""
        self._due: dict[str, list[tuple[int, str]]] = {}
        """By partition: a heap of (due, channel), one entry or a few for each channel that waits for something."""
        self._recoverable = recoverable
        self._encoded: dict[str, bytes] = {}
        """Each channel as it was last written to a snapshot; a channel that was touched since is in `_dirty`."""
        self._dirty: dict[str, None] = {}  # in order: a set's differs between processes

    def read(self, parsed: Parsed, partition: str) -> None:
        """Take in one record of this shard, or a heartbeat. Raises ChannelMoved."""
        account = self.account
        if isinstance(parsed, Event):
            account.count(READ)
            if parsed.untimed and self.rules.horizon is not None:
                account.count(UNTIMED if parsed.user else UNNAMED)
                return
            followed = self._follow(parsed.channel, parsed.t, partition)
            if followed is None:
                account.count(LATE)
                self.output.late.append(parsed.record)
                return
            if self.until is not None and parsed.t > self.until:
                account.count(AFTER_UNTIL)
            else:
                followed.buffer.add(parsed)
            self._advance(followed, parsed.t)
        elif isinstance(parsed, Ignored):
            account.count(READ)
            account.count(f"{IGNORED}:{parsed.reason}")
            if parsed.channel is not None and parsed.t is not None:
                followed = self._follow(parsed.channel, None, partition)
                if followed is not None and parsed.t > followed.buffer.clock:
                    self._advance(followed, parsed.t)
        elif isinstance(parsed, Reject):
            account.count(READ)
            account.count(f"{REJECTED}:{parsed.reason}")
        else:
            self._heartbeat(parsed.at, partition)

    def end(self) -> None:
        """End the input (a stop is no end) and censor what is still open. A second call changes nothing."""
        if self.ended:
            return
        self.ended = True
        for name, followed in self.followed.items():
            self._dirty[name] = None
            for event in followed.buffer.release(FOREVER):
                self._apply(followed, event)
            clock = max(followed.buffer.clock, self.heartbeats.get(followed.partition, 0))
            followed.channel.end(clock if self.until is None else self.until, self.output)

    def drain(self) -> Output:
        """The output since the last call."""
        self.output.finish()
        output, self.output = self.output, self._new_output()
        return output

    def _new_output(self) -> Output:
        points = None if self.points_since is None else PointLog(self.points_since, self.since)
        return Output(self.account, self.since, points, are_packed=self.are_packed)

    def account_now(self) -> Account:
        """The account so far, with the events that are buffered and the points that are open."""
        account = Account(dict(self.account.counts))
        account.count(HELD, sum(len(followed.buffer.buffered) for followed in self.followed.values()))
        account.count(OPEN, sum(sum(waiting.is_open for waiting in followed.channel.open_points) for followed in self.followed.values()))
        account.count(CHANNELS, len(self.followed))
        return account

    def counts_here(self) -> dict[str, int]:
        """The counts of this process alone, without those resumed from a snapshot. May be called by other threads: counts are copied."""
        return {row: times - self.resumed.get(row, 0) for row, times in dict(self.account.counts).items()}

    def newest(self) -> dict[str, int]:
        """By partition: the time of the newest event or heartbeat, microseconds. May be called by other threads."""
        newest = dict(self.heartbeats)
        for followed in list(self.followed.values()):
            newest[followed.partition] = max(newest.get(followed.partition, 0), followed.buffer.clock)
        return newest

    def size(self) -> dict[str, int]:
        """How much is kept: channels, conversations, buffered events (`held`). May be called by other threads."""
        followed = list(self.followed.values())
        return {
            "channels": len(followed),
            "conversations": sum(len(each.channel.conversations) for each in followed),
            "held": sum(len(each.buffer.buffered) for each in followed),
        }

    def _follow(self, name: str, t: int | None, partition: str) -> FollowedChannel | None:
        """The channel, its clock moved by the partition's heartbeats; None if an event at `t` is late for it."""
        followed = self.followed.get(name)
        if followed is None:
            channel = Channel(name, self.rules, self.encoding)
            followed = self.followed[name] = FollowedChannel(channel, ReorderBuffer(self.rules.lateness), partition)
        if followed.partition != partition:
            raise ChannelMoved(
                f"channel {name} was read from partition {followed.partition}, and now from {partition}: their order can't be known. "
                "Put all of a channel's events into one partition, and start again"
            )
        self._dirty[name] = None
        beat = self.heartbeats.get(partition, 0)
        if beat > followed.buffer.clock:
            self._advance(followed, beat)
        return None if t is not None and followed.buffer.is_late(t) else followed

    def _heartbeat(self, at: int, partition: str) -> None:
        if at <= self.heartbeats.get(partition, 0):
            return
        self.heartbeats[partition] = at
        due = self._due.get(partition, [])
        while due and due[0][0] < at:
            when, name = heappop(due)
            followed = self.followed[name]
            if followed.due == when:
                followed.due = FOREVER
                self._dirty[name] = None
                self._advance(followed, at)

    def _advance(self, followed: FollowedChannel, clock: int) -> None:
        """Move the channel's clock on: events that the watermark has passed are applied, and horizons that ended before it settle."""
        buffer, channel = followed.buffer, followed.channel
        if clock > buffer.clock:
            buffer.clock = clock
        watermark = buffer.clock - buffer.lateness
        buffered = buffer.buffered
        while buffered and buffered[0].t < watermark:
            self._apply(followed, heappop(buffered))
        if channel.open_points:
            channel.close(watermark if self.until is None else min(watermark, self.until + 1), self.output)
        if followed.due <= buffer.clock:
            return  # it has an entry already, and nothing is due before the clock
        next_due = followed.next_due()
        if self.until is not None and next_due > self.until + buffer.lateness:
            return  # nothing that `until` allows can happen here any more
        if next_due < followed.due:
            followed.due = next_due
            heappush(self._due.setdefault(followed.partition, []), (next_due, channel.id))

    def _apply(self, followed: FollowedChannel, event: Event) -> None:
        if followed.buffer.is_duplicate(event):
            self.account.count(DUPLICATE)
        else:
            followed.channel.apply(event, self.output)

    # Snapshots

    def __getstate__(self) -> dict[str, Any]:
        """The shard as a snapshot keeps it: a blob for each channel, written again only where something changed."""
        for name in self._dirty:
            followed = self.followed[name]
            self._encoded[name] = pickle.dumps((followed.channel.state(), followed.buffer.state(), followed.partition), protocol=5)
        self._dirty.clear()
        return {
            "version": STATE_VERSION,
            "build": BUILD,
            "spec": self.rules.spec,
            "settings": shaping_settings(self.rules),
            "channels": dict(self._encoded),
            "counts": dict(self.account.counts),
            "heartbeats": dict(self.heartbeats),
            "ended": self.ended,
        }

    def snapshot(self) -> dict[str, Any] | None:
        """The state at the end of an epoch, for the recovery store; None where nothing will ever resume from it."""
        return self.__getstate__() if self._recoverable else None

    def resume(self, state: dict[str, Any]) -> None:
        """Take over a snapshot's state. Raises OtherState if another version, build or spec wrote it."""
        check_version("state", state, STATE_VERSION)
        check_settings(state, self.rules)
        if (build := state.get("build", "plain")) != BUILD:
            raise OtherState(
                f"the recovery store was written by the {build} build, and this is the {BUILD} one: their states differ. "
                "Use the build it was written with, or delete it and run again from the start."
            )
        self.account.counts.update(state["counts"])
        self.resumed = dict(state["counts"])
        self.heartbeats.update(state["heartbeats"])
        self.ended = state["ended"]
        self._encoded = dict(state["channels"])
        for name, blob in self._encoded.items():
            channel_state, buffer_state, partition = pickle.loads(blob)
            followed = self.followed[name] = FollowedChannel(
                Channel(name, self.rules, self.encoding), ReorderBuffer(self.rules.lateness), partition
            )
            followed.channel.restore(channel_state)
            followed.buffer.restore(buffer_state)
            followed.due = followed.next_due()
            if followed.due < FOREVER:
                heappush(self._due.setdefault(partition, []), (followed.due, name))


class RunOutput:
    """The output of a whole run, in memory: for tests, benchmarks and small jobs."""

    def __init__(self) -> None:
        self.examples: list[bytes] = []
        self.retractions: list[bytes] = []
        self.late: list[bytes] = []
        self.rejects: list[Reject] = []
        self.account = Account()
        self.points: list[PointEmitted | PointSettled | MessageDeleted] = []


def run_through(
    records: Iterable[bytes],
    rules: Rules,
    encoding: Encoding,
    *,
    now: int = FOREVER,
    until: int | None = None,
    points_since: int | None = None,
    forgotten: Forgotten | None = None,
    are_packed: bool = False,
) -> RunOutput:
    """Run a bounded input through one shard, in a plain loop: the flow without the engine."""
    run = RunOutput()
    shard = Shard(rules, encoding, until=until, recoverable=False, points_since=points_since, are_packed=are_packed)
    for record in records:
        parsed = parse(record, now, bots=rules.bots, edits=rules.edits, forgotten=forgotten)
        if isinstance(parsed, Reject):
            run.rejects.append(parsed)
        elif isinstance(parsed, Heartbeat):
            run.account.count(HEARTBEATS)
        shard.read(parsed, "all")
    shard.end()
    output = shard.drain()
    run.examples, run.retractions, run.late = output.examples, output.retractions, output.late
    run.points = output.points.entries if output.points is not None else []
    run.account.add(shard.account_now())
    return run
