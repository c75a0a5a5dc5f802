"""Backfill after an outage: each channel's history is read from the gap's beginning on, and what is missing is written.

Until that is done, the channel's live events are held, unacknowledged, so that nothing old comes behind something new. Outages include
silent connections, which are open and bring no events."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from beepgpt import clock
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.connectors.slack.scopes import manifest_of
from beepgpt.conversations.events import MOVED, micros, ts_text
from beepgpt.conversations.rules import DAY
from beepgpt.figures import about
from beepgpt.ingest.slack.connections import Connections
from beepgpt.ingest.slack.event_writer import Coverage, EventWriter, Gap, HeldEvent
from beepgpt.ingest.slack.history_notes import note_on_joined, note_on_no_channel, notes_on_history, time_text
from beepgpt.ingest.slack.known_records import KnownRecords
from beepgpt.ingest.slack.thread_checks import ThreadChecks
from beepgpt.ingest.slack.web_queries import (
    UNKNOWN,
    ChannelListing,
    Channels,
    CheckAnswer,
    HistoryAnswer,
    ProbeAnswer,
    SlackQueries,
    ThreadAnswer,
)
from beepgpt.runtime.console import console

EXPORT_MARGIN = DAY
"""How long before its end an export is surely complete."""

log = logging.getLogger(__name__)


def histories(channels: int, more: str = "") -> str:
    """The histories of so many channels, with their verb. `more`: a word before `channels`.

    >>> histories(1, "more "), histories(1200)
    ('history of 1 more channel is', 'histories of 1,200 channels are')
    """
    return f"history of 1 {more}channel is" if channels == 1 else f"histories of {channels:,} {more}channels are"


@dataclass(eq=False)
class Backfill:
    """The gaps that are open, and the live events that are held for them."""

    _queries: SlackQueries
    _connections: Connections
    _channels: Channels
    _known: KnownRecords
    _coverage: Coverage
    _writer: EventWriter
    _team: str
    _look_back: int
    checks: ThreadChecks
    """What is looked for when the gaps are closed."""
    _gaps: dict[str, Gap] = field(default_factory=dict, init=False)
    _is_listed: bool = field(default=False, init=False)
    """Whether the channels were listed since all connections are up."""
    _generation: int = field(default=0, init=False)
    """Raised when connections change: answers to older questions don't count."""
    _asked: set[tuple[str, int]] = field(default_factory=set, init=False)
    """Channels and generations whose histories were asked for."""
    _postponed: dict[str, list[ThreadAnswer]] = field(default_factory=dict, init=False)
    """By channel: threads that were read, and wait until Slack has said what their channel is."""
    _follows_history: bool = field(default=False, init=False)
    """Whether the topic had events, and no heartbeat: those of an export."""
    _is_new: bool = field(default=False, init=False)
    """Whether the topic begins with the present connections: then there is nothing to backfill."""

    # State

    @property
    def is_starting(self) -> bool:
        """Whether gaps are still to be opened: everything that arrives before has to be held."""
        return not self._is_listed or not self._connections.are_up

    @property
    def followed(self) -> int | None:
        """Channels that the app is in and that are written; None until Slack has listed them. May be called from another thread."""
        return self._channels.followed() if self._is_listed else None

    @property
    def open_gaps(self) -> int:
        """Channels whose backfill is not done."""
        return len(self._gaps)

    @property
    def is_complete(self) -> bool:
        """Whether the channels are listed and no gap is open."""
        return self._is_listed and not self._gaps

    def has_gap(self, channel: str) -> bool:
        """Whether the channel's backfill is not done."""
        return channel in self._gaps

    def why_incomplete(self) -> str:
        """Why the topic may lack events; empty if it is complete."""
        if not self._is_listed:
            return "the channels are still to be listed"
        return f"the {histories(len(self._gaps))} still to be read, {about(self.seconds_left())}" if self._gaps else ""

    def seconds_left(self) -> float:
        """About how long it takes until all gaps are closed; may be called from another thread."""
        return self._queries.seconds_for(len(self._gaps)) if self._gaps else 0.0

    def held(self) -> int:
        """Arrivals that are held, unacknowledged; may be called from another thread."""
        return sum(len(gap.held) for gap in list(self._gaps.values()))

    # Connections

    def on_connected(self) -> None:
        """All connections are up: list the channels, since the app may have been added to some meanwhile."""
        if self._coverage.covered is None:
            self._begin_topic()
        self._generation += 1
        self._asked = set()
        self._is_listed = False
        self._queries.list_channels(self._channels.types, self._generation)

    def on_disconnected(self) -> None:
        """Events may be missing from now on; histories that are being read may end before the gap does."""
        self._generation += 1
        self._is_new = False

    def discard_answers(self) -> None:
        """Ignore the answers to questions that were asked before."""
        self._generation += 1

    def _begin_topic(self) -> None:
        """Write the first heartbeat of a topic, before anything else: it says where the topic begins, whatever happens then."""
        newest = self._known.newest()
        if newest is None:
            self._coverage.begins = at = int((self._connections.up_since - self._queries.clock_ahead) * 1e6)
            self._is_new = True
            console.print(f"The topic is empty: it begins now, at {time_text(at)}. What was said before is not on it.")
        else:
            at = newest - EXPORT_MARGIN
            self._follows_history = True
            console.print(f"The topic ends at {time_text(newest)}, and has no heartbeats: it is backfilled, from a day before that on.")
        self._writer.write_heartbeat(at)

    # Gaps

    def on_channels(self, listing: ChannelListing) -> None:
        """Learn the channels, and open a gap in each, unless the topic begins here."""
        before = list(self._channels)
        is_first = not before
        new = [] if is_first else [each for each in (str(info["id"]) for info in listing.channels) if each not in self._channels]
        self._coverage.joined |= dict.fromkeys(new, self._coverage.covered or 0)
        self._channels.replace(listing.channels)
        if joined := [each for each in new if self._channels.why_left_out(each) is None]:
            console.print(note_on_joined(joined, self._channels.names()))
        if is_first:
            wanted = len(self._channels.wanted())
            others = len(self._channels) - wanted
            console.print(f"{wanted:,} channels; {others:,} others are left out." if wanted else f"Warning: {note_on_no_channel(others)}.")
            if self._follows_history:
                since = self._coverage.gap_start("") or 0
                for note in notes_on_history(self._channels.kinds(), self._channels.names(), self._known.channels(0), since):
                    console.print(note)
        if listing.generation != self._generation or not self._connections.are_up:
            return
        self._is_listed = True
        if self._is_new:
            for channel in self._gaps:
                self._read_history(channel, 0)
            return
        recent = self._known.channels(self._coverage.remembered_since)  # includes archived ones, which are not listed
        for channel in dict.fromkeys([*self._channels, *before, *self._gaps, *recent]):
            if (why := self._channels.why_left_out(channel)) is not None:
                self._leave_out(channel, why)
            elif channel in self._gaps or channel not in self._known.moved:
                self._open_gap(channel)
        for channel in [each for each in self._postponed if each not in self._gaps]:
            self._go_on_with_threads(channel)

    def _open_gap(self, channel: str) -> None:
        since, gap = self._coverage.gap_start(channel), self._gaps.get(channel)
        held = [] if gap is None else gap.held
        if gap is not None and gap.since is not None and since is not None:
            since = min(since, gap.since)
        self._gaps[channel] = Gap(since, held, self.newest_on_topic(channel))
        self._read_history(channel, 0 if held else 1)

    def newest_on_topic(self, channel: str) -> int:
        """Time of the channel's newest event that is on the topic, and not held: flows that follow it are there already. Microseconds."""
        gap = self._gaps.get(channel)
        return self._known.newest(channel) or 0 if gap is None else gap.newest

    def _read_history(self, channel: str, priority: int) -> None:
        gap = self._gaps[channel]
        window = None if gap.since is None else self._coverage.window(channel, gap.since, self._look_back)
        is_ours = None if channel in self._channels else self._channels.is_wanted
        self._queries.read_history(channel, self._generation, window, is_ours=is_ours, priority=priority, is_wanted=self._is_wanted)

    def _is_wanted(self, channel: str, generation: int) -> bool:
        """Whether the answer is still of use, and nobody has asked; called by the thread that asks."""
        if (channel, generation) in self._asked or channel not in self._gaps or generation != self._generation:
            return False
        self._asked.add((channel, generation))
        return True

    def hold(self, channel: str, event: HeldEvent, newest: int) -> bool:
        """Hold an event if its channel has a gap or is not known yet; returns whether it is held.

        `newest`: time of the channel's newest event before this one, microseconds.
        A duplicate waits for no channel without a gap: it is on the topic already, maybe of a channel that has another id since.
        """
        gap = self._gaps.get(channel)
        if gap is None:
            if event.message is None or (channel in self._channels and not self.is_starting):
                return False
            gap = self._gaps[channel] = Gap(None, newest=newest)
        if not gap.held and not self.is_starting:  # else it is asked for as soon as all are connected
            self._read_history(channel, 0)
        gap.held.append(event)
        return True

    def on_history(self, answer: HistoryAnswer) -> None:
        """Close a channel's gap: write what is missing together with what was held, in order of time."""
        gap = self._gaps.get(answer.channel)
        if gap is None or answer.generation != self._generation or self.is_starting:
            return
        self._asked.discard((answer.channel, answer.generation))
        if answer.info:
            self._channels.add([answer.info | {"id": answer.channel}])
            if gap.since is None and gap.held:
                self._coverage.joined[answer.channel] = min(held.t for held in gap.held)
                if self._why_never(answer.channel) is None:
                    console.print(note_on_joined([answer.channel], self._channels.names()))
        if answer.why_not and gap.since is not None:
            log.warning(
                "Slack refused a channel's history: the events of its gap are missing",
                extra={"channel": answer.channel, "why": answer.why_not},
            )
            self._writer.account["fills_refused"] += 1
        if (why := self._why_never(answer.channel)) is not None:
            self._leave_out(answer.channel, why, answer.why_not)
        else:
            del self._gaps[answer.channel]
            missing = []
            if gap.since is not None and not answer.why_not:
                missing = self._missing_in(answer, gap, gap.since)
            self._writer.write_backfill(missing, gap.held)
        self._go_on_with_threads(answer.channel)

    def _why_never(self, channel: str) -> str | None:
        """Why a channel's events are left out, now that Slack was asked; one that has another id by now is what it is under that one."""
        return self._channels.why_never(channel if channel in self._channels else self._known.moved.get(channel, channel))

    def _leave_out(self, channel: str, why: str, code: str = "") -> None:
        """Close a channel's gap without writing anything of it but that it has another id: flows then end what was open under the old one.

        `code`: Slack's error code, if it did not describe the channel.
        """
        self.checks.leave_out(channel)
        gap = self._gaps.pop(channel, None)
        if gap is None:
            return
        moves = [each for each in gap.held if channel not in self._channels and each.arrival.payload["event"].get("type") == MOVED]
        others = [each for each in gap.held if each not in moves]
        if why == UNKNOWN:
            self._channels.add_unknown(channel)
        if why == UNKNOWN and others:
            log.warning(
                "Slack does not describe a channel, so that nobody can say whether it is public: its events are left out. If it is to be"
                " followed, give the app the scope groups:read (%s has it), install it again, and invite it there",
                manifest_of(),
                extra={"channel": channel, "why": code, "events": len(others)},
            )
        for each in others:
            self._writer.leave_out(each.arrival, why)
        self._writer.write_backfill([], moves)

    def _missing_in(self, answer: HistoryAnswer, gap: Gap, since: int) -> list[tuple[int, OutgoingRecord]]:
        """Times and records of the events that the history has and the topic lacks, and of deletions of what the history has no longer.

        The other threads of the last hour can wait: all their posts are known.
        """
        channel = answer.channel
        whole_since = max(self._coverage.whole_since(channel, since), since - self._look_back)
        threads = {micros(root) for root in answer.threads}
        found = self._known.missing(
            channel,
            answer.messages,
            since,
            whole_since,
            answer.forgotten.union(each.t for each in gap.held),
            self._queries.people,
            lambda root: root is None or root in threads,
        )
        missing = self._writer.recovered(channel, found, self._team, newest=gap.newest)
        self._writer.account["fills"] += 1
        self.checks.begin(channel, threads, since)
        return missing

    def on_thread(self, answer: ThreadAnswer) -> None:
        """Write what a thread was read for, unless its channel is left out by now; while that is being asked, the answer waits."""
        channel = answer.check.channel
        gap = self._gaps.get(channel)
        is_open = gap is not None or self.is_starting
        if is_open and channel not in self._channels:
            self._postponed.setdefault(channel, []).append(answer)
        elif self._why_never(channel) is not None:
            self.checks.leave_out(channel)
        else:
            self.checks.on_thread(answer, self.newest_on_topic(channel), is_open=is_open)

    def _go_on_with_threads(self, channel: str) -> None:
        for answer in self._postponed.pop(channel, ()):
            self.on_thread(answer)


BUSIEST = 3
"""Channels that are probed each time, those with the newest events."""
IN_TURN = 2
"""Other channels that are probed, in turn."""


@dataclass(eq=False)
class SilenceCheck:
    """Probes channels when a connection has brought nothing for a while, and replaces the connection if messages are missing."""

    _queries: SlackQueries
    _connections: Connections
    _channels: Channels
    _known: KnownRecords
    _coverage: Coverage
    _writer: EventWriter
    _backfill: Backfill
    _quiet: float
    """Seconds without an event after which a connection is probed."""
    _delay: int
    """Microseconds that an event may take from Slack."""
    _turn: int = field(default=0, init=False)
    _suspects: tuple[str, ...] | None = field(default=None, init=False)

    @property
    def is_probing(self) -> bool:
        """Whether an answer is awaited."""
        return self._suspects is not None

    def on_check(self, answer: CheckAnswer) -> None:
        """Slack answers, or doesn't: if it does, probe some channels for the connections that have been quiet."""
        if answer.why_not:
            log.warning("Slack does not answer", extra={"why": answer.why_not})
            self._writer.account["checks_failed"] += 1
            return
        suspects = self._connections.suspects(self._quiet)
        if self.is_probing or self._backfill.open_gaps or self._backfill.is_starting or not suspects:
            return
        present = (channel for channel in self._channels.wanted() if channel not in self._known.moved)
        ours = sorted(present, key=lambda channel: self._known.newest(channel) or 0, reverse=True)
        if not ours:
            self._connections.prove(clock.now())
            return
        turn = self._turn % max(len(ours) - BUSIEST, 1)
        self._turn += IN_TURN
        self._suspects = suspects
        chosen = [*ours[:BUSIEST], *(ours[BUSIEST:] + ours[BUSIEST:])[turn : turn + IN_TURN]]
        self._queries.probe({channel: ts_text(self._coverage.gap_start(channel) or 0) for channel in chosen})

    def on_probe(self, answer: ProbeAnswer) -> None:
        """If a message should have arrived and has not, the suspects are silent: correct the heartbeat and drop them."""
        suspects, self._suspects = self._suspects or (), None
        until = int((answer.began - self._queries.clock_ahead) * 1e6) - self._delay
        missed: list[int] = []
        for channel, messages in answer.messages.items():
            if not self._backfill.has_gap(channel):
                found = self._known.missing(channel, messages, self._coverage.gap_start(channel) or 0)
                missed += [t for t, event in found.events if t <= until and event.get("subtype") != "message_changed"]
        if not missed:
            self._connections.prove(until / 1e6 + self._queries.clock_ahead)
            return
        log.warning("messages were posted, and did not arrive: the connection is silent, and is replaced", extra={"missed": len(missed)})
        if self._coverage.covered is not None and min(missed) < self._coverage.covered:
            log.warning("heartbeats covered them already: a flow that follows will count them as late")
            self._writer.write_heartbeat(min(missed))  # flows ignore an earlier one, and the next start begins there
        self._writer.account["deaf"] += 1
        self._connections.drop(suspects)  # no heartbeats from now on
        self._backfill.discard_answers()
