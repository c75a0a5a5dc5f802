"""Some of the channels: records in, examples out. All of a channel's records meet in one shard."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from pathlib import Path
from typing import Any
from zlib import crc32

from beepgpt.conversations.account import Account
from beepgpt.conversations.channel import FOREVER, Channel, Output
from beepgpt.conversations.events import Event, Heartbeat, Ignored, Parsed, Reject, channels_in, parse
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointLog, PointSettled
from beepgpt.conversations.reorder import ReorderBuffer
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.tokens import Encoding
from beepgpt.errors import BeepGPTError

STATE_VERSION = 5
"""Raised when pickled state of an older version can't be read any more."""
BUILD = "plain" if Path(__file__).suffix == ".py" else "compiled"
"""Pickled state of one build can't be read by the other."""

SHARDS = tuple(f"shard-{number:02d}" for number in range(32))
"""Names are the engine's keys, and permanent: recovery state is filed under them."""


def shard_of(channel: str) -> str:
    """All of a channel's events meet in one shard, in every run, on every machine.

    >>> shard_of("C024BE91L")
    'shard-01'
    """
    return shard_of_bytes(channel.encode())


def shard_of_bytes(name: bytes) -> str:
    """The same of a channel's name in UTF-8."""
    return SHARDS[crc32(name) % len(SHARDS)]


def shard_of_parsed(parsed: Parsed) -> str:
    """Where a record is counted: with its channel; if it has none, with the first that it seems to name, or else by its bytes."""
    if isinstance(parsed, Heartbeat):
        raise TypeError("a heartbeat is for every shard")
    if parsed.channel is not None:
        return shard_of(parsed.channel)
    return shard_of_bytes(next(iter(channels_in(parsed.record)), parsed.record))


def shares_of(weights: Mapping[str, float], parts: int) -> list[tuple[str, ...]]:
    """The shards in so many shares that weigh about the same: the heaviest first, each to the share that has least (Graham, 1969).

    >>> one, other = shares_of({"shard-00": 5, "shard-01": 3, "shard-02": 2}, 2)
    >>> one[0], other[:2], len(one), len(other)
    ('shard-00', ('shard-01', 'shard-02'), 16, 16)
    """
    shares: list[list[str]] = [[] for _ in range(parts)]
    loads = [(0.0, 0, part) for part in range(parts)]  # of equally heavy ones, the one with the fewest shards is next
    for shard in sorted(SHARDS, key=lambda each: (-weights.get(each, 0), each)):
        load, count, part = heappop(loads)
        shares[part].append(shard)
        heappush(loads, (load + weights.get(shard, 0), count + 1, part))
    return [tuple(sorted(share)) for share in shares]


class OtherState(BeepGPTError):
    """A snapshot was written by another version, or with other rules; the message says what to do."""


class ChannelMoved(BeepGPTError):
    """A channel's events came from two partitions, whose order nobody knows; the message says what to do."""


class Followed:
    """A channel, its order, and the partition that its records come from."""

    __slots__ = ("channel", "due", "order", "partition")

    def __init__(self, channel: Channel, order: ReorderBuffer, partition: str) -> None:
        self.channel = channel
        self.order = order
        self.partition = partition
        self.due = FOREVER
        """A heartbeat from after this time may have something to do here; never later than the truth."""

    def next_due(self) -> int:
        """From when on a heartbeat would apply an event or close a horizon."""
        held = self.order.held
        first = min(held[0].t if held else FOREVER, self.channel.next_end())
        return first + self.order.lateness


class Shard:
    """What the engine keeps for one key: channels by id, and the account of all that was read for them."""

    def __init__(
        self,
        rules: Rules,
        encoding: Encoding,
        *,
        since: int = 0,
        until: int | None = None,
        recoverable: bool = True,
        telling_since: int | None = None,
    ) -> None:
        """`telling_since`: points from this time on are told; None: no points are."""
        self.rules = rules
        self.encoding = encoding
        self.since = since
        self.until = until
        self.account = Account()
        self.telling_since = telling_since
        self.made = self._nothing_made()
        self.followed: dict[str, Followed] = {}
        self.heartbeats: dict[str, int] = {}
        """The latest heartbeat of each partition, which holds for channels that are first seen after it, too."""
        self.ended = False
        self.resumed: dict[str, int] = {}
        """What was counted before this process took over."""
        self._due: dict[str, list[tuple[int, str]]] = {}
        """By partition: a heap of (due, channel), one entry or a few for each channel that waits for something."""
        self._recoverable = recoverable
        self._encoded: dict[str, bytes] = {}
        """Each channel as it was last written to a snapshot; a channel that was touched since is in `_dirty`."""
        self._dirty: dict[str, None] = {}  # in order: a set's differs between processes

    def read(self, parsed: Parsed, partition: str) -> None:
        """One record of this shard, or a heartbeat."""
        account = self.account
        if isinstance(parsed, Event):
            account.count("read")
            if parsed.untimed and self.rules.horizon is not None:
                account.count("ignored:untimed")
                return
            followed = self._follow(parsed.channel, parsed.t, partition)
            if followed is None:
                account.count("late")
                self.made.late.append(parsed.record)
                return
            if self.until is not None and parsed.t > self.until:
                account.count("ignored:after_until")
            else:
                followed.order.hold(parsed)
            self._advance(followed, max(followed.order.clock, parsed.t))
        elif isinstance(parsed, Ignored):
            account.count("read")
            account.count(f"ignored:{parsed.reason}")
            if parsed.channel is not None and parsed.t is not None:
                followed = self._follow(parsed.channel, None, partition)
                if followed is not None and parsed.t > followed.order.clock:
                    self._advance(followed, parsed.t)
        elif isinstance(parsed, Reject):
            account.count("read")
            account.count(f"rejected:{parsed.reason}")
        else:
            self._heartbeat(parsed.at, partition)

    def end(self) -> None:
        """The input is over (a stop is no end). What is still open is censored; to say it twice changes nothing."""
        if self.ended:
            return
        self.ended = True
        for name, followed in self.followed.items():
            self._dirty[name] = None
            for event in followed.order.released(FOREVER):
                self._apply(followed, event)
            clock = max(followed.order.clock, self.heartbeats.get(followed.partition, 0))
            followed.channel.end(clock if self.until is None else self.until, self.made)

    def taken(self) -> Output:
        """What was made since the last time it was taken."""
        made, self.made = self.made, self._nothing_made()
        return made

    def _nothing_made(self) -> Output:
        return Output(self.account, self.since, None if self.telling_since is None else PointLog(self.telling_since))

    def account_now(self) -> Account:
        """The account so far, with what is held and what is open."""
        account = Account(dict(self.account.counts))
        account.count("held", sum(len(followed.order.held) for followed in self.followed.values()))
        account.count("open", sum(sum(waiting.is_open for waiting in followed.channel.opens) for followed in self.followed.values()))
        account.count("channels", len(self.followed))
        return account

    def counts_here(self) -> dict[str, int]:
        """What this process counted, and not those before it. Other threads may ask for it: the copy is made at once."""
        return {what: times - self.resumed.get(what, 0) for what, times in dict(self.account.counts).items()}

    def newest(self) -> dict[str, int]:
        """By partition: the time of the newest event or heartbeat, microseconds. Other threads may ask for it."""
        newest = dict(self.heartbeats)
        for followed in list(self.followed.values()):
            newest[followed.partition] = max(newest.get(followed.partition, 0), followed.order.clock)
        return newest

    def size(self) -> dict[str, int]:
        """How much is kept: channels, conversations, events that wait for their turn. Other threads may ask for it."""
        followed = list(self.followed.values())
        return {
            "channels": len(followed),
            "conversations": sum(len(each.channel.conversations) for each in followed),
            "held": sum(len(each.order.held) for each in followed),
        }

    def _follow(self, name: str, t: int | None, partition: str) -> Followed | None:
        """The channel, its clock moved by the partition's heartbeats; None if an event at `t` is late for it."""
        followed = self.followed.get(name)
        if followed is None:
            channel = Channel(name, self.rules, self.encoding)
            followed = self.followed[name] = Followed(channel, ReorderBuffer(self.rules.lateness), partition)
        if followed.partition != partition:
            raise ChannelMoved(
                f"channel {name} was read from partition {followed.partition}, and now from {partition}: their order can't be known. "
                "Put all of a channel's events into one partition, and start anew"
            )
        self._dirty[name] = None
        beat = self.heartbeats.get(partition, 0)
        if beat > followed.order.clock:
            self._advance(followed, beat)
        return None if t is not None and followed.order.is_late(t) else followed

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
                self._advance(followed, max(followed.order.clock, at))

    def _advance(self, followed: Followed, clock: int) -> None:
        """The channel's clock moves to `clock`: held events are applied, and horizons close."""
        order, channel = followed.order, followed.channel
        order.clock = clock
        settled = clock - order.lateness
        held = order.held
        while held and held[0].t < settled:
            self._apply(followed, heappop(held))
        if channel.opens:
            channel.close(settled if self.until is None else min(settled, self.until + 1), self.made)
        next_due = followed.next_due()
        if self.until is not None and next_due > self.until + order.lateness:
            return  # nothing that `until` allows can happen here any more
        if next_due < followed.due:
            followed.due = next_due
            heappush(self._due.setdefault(followed.partition, []), (next_due, channel.id))

    def _apply(self, followed: Followed, event: Event) -> None:
        if followed.order.is_copy(event):
            self.account.count("duplicate")
        else:
            followed.channel.apply(event, self.made)

    # Snapshots

    def __getstate__(self) -> dict[str, Any]:
        """The shard as a snapshot keeps it: a blob for each channel, written anew only where something changed."""
        for name in self._dirty:
            followed = self.followed[name]
            self._encoded[name] = pickle.dumps((followed.channel, followed.order, followed.partition), protocol=5)
        self._dirty.clear()
        return {
            "version": STATE_VERSION,
            "build": BUILD,
            "spec": self.rules.spec,
            "channels": dict(self._encoded),
            "counts": dict(self.account.counts),
            "heartbeats": dict(self.heartbeats),
            "ended": self.ended,
        }

    def snapshot(self) -> dict[str, Any] | None:
        """The state to be filed at the end of an epoch; None where nobody will ever resume from it."""
        return self.__getstate__() if self._recoverable else None

    def resume(self, state: dict[str, Any]) -> None:
        """Takes up the state of a snapshot. Raises OtherState if it is another version's or another spec's."""
        if state["version"] != STATE_VERSION or state["spec"] != self.rules.spec:
            raise OtherState(
                f"the recovery store was written by state version {state['version']}, spec {state['spec']}; "
                f"this is state version {STATE_VERSION}, spec {self.rules.spec}. "
                "Use the settings it was written with, or delete it and run again from the start."
            )
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
            channel, order, partition = pickle.loads(blob)
            channel.rules, channel.encoding = self.rules, self.encoding
            followed = self.followed[name] = Followed(channel, order, partition)
            followed.due = followed.next_due()
            if followed.due < FOREVER:
                heappush(self._due.setdefault(partition, []), (followed.due, name))


class RunOutput:
    """What a whole run made, in memory: for tests, benchmarks and small jobs."""

    def __init__(self) -> None:
        self.examples: list[bytes] = []
        self.retractions: list[bytes] = []
        self.late: list[bytes] = []
        self.rejects: list[Reject] = []
        self.account = Account()
        self.told: list[PointEmitted | PointSettled | MessageDeleted] = []


def run_through(
    records: Iterable[bytes],
    rules: Rules,
    encoding: Encoding,
    *,
    now: int = FOREVER,
    until: int | None = None,
    telling_since: int | None = None,
) -> RunOutput:
    """All of a bounded input through one shard, in a plain loop: the flow without the engine."""
    run = RunOutput()
    shard = Shard(rules, encoding, until=until, recoverable=False, telling_since=telling_since)
    for record in records:
        parsed = parse(record, now, bots=rules.bots, edits=rules.edits)
        if isinstance(parsed, Reject):
            run.rejects.append(parsed)
        elif isinstance(parsed, Heartbeat):
            run.account.count("heartbeats")
        shard.read(parsed, "all")
    shard.end()
    made = shard.taken()
    run.examples, run.retractions, run.late = made.examples, made.retractions, made.late
    run.told = made.telling.told if made.telling is not None else []
    run.account.add(shard.account_now())
    return run
