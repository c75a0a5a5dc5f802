"""The loop of `beepgpt ingest slack`: what comes is written and acknowledged, what is missing is filled in.

One thread does all of it. What is known of the past is read from the topic itself: everything before its last heartbeat is there.
After an outage each channel's history is looked through from there on; until that is done its live events wait, unacknowledged, so
that nothing old comes behind something new.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson

from beepgpt.config.sections import SlackSettings
from beepgpt.connectors import kafka
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY
from beepgpt.ingest.slack.channels import Channels, channel_of, check_not_gone
from beepgpt.ingest.slack.connections import Connections, LiveConnection
from beepgpt.ingest.slack.coverage import Coverage, Gap, HeldEvent
from beepgpt.ingest.slack.envelopes import REMEMBERED, TopicContents, Who, filled_record, now_us, record_of, user_of
from beepgpt.ingest.slack.known_records import RecordIdentity, facts_of
from beepgpt.ingest.slack.metrics import SlackPulse
from beepgpt.ingest.slack.web_queries import ChannelListing, Checked, HistoryAnswer, Probed, SlackQueries
from beepgpt.runtime.console import console
from beepgpt.runtime.workers import Stop

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

A_DAY = DAY
"""How long before its end an export is surely whole."""
BEAT_EVERY = 1.0
WAIT = 0.1
BATCH = 1_000

log = logging.getLogger(__name__)


class Live:
    """What is on its way, and what is missing."""

    def __init__(
        self,
        ours: SlackSettings,
        include: tuple[str, ...],
        who: Who,
        memory: TopicContents,
        partitions: int,
        events: kafka.Writer,
        interactions: kafka.Writer,
        web: slack_live.Web,
        lines: Iterable[LiveConnection],
        arrivals: queue.Queue[Any],
        pulse: SlackPulse,
    ) -> None:
        self._ours = ours
        self._who = who
        self._known = memory.known
        self._topic = Coverage(memory)
        self._is_new = False
        """The topic begins with these connections: there is nothing to fill in."""
        self._partitions = partitions
        self._events = events
        self._interactions = interactions
        self._web = web
        self._lines = Connections(lines, ours.delay / 1e6)
        self._arrivals = arrivals
        self._pulse = pulse
        self._asker = SlackQueries(web, arrivals.put, self._is_wanted)
        self._channels = Channels(include, ours.shared)
        self._listed = False
        self._gaps: dict[str, Gap] = {}
        self._generation = 0
        """Of the connections: what was asked before they changed is not to be believed."""
        self._messages: list[kafka.OutgoingRecord] = []
        self._done: list[Callable[[], None]] = []
        self._beat_at = 0.0
        self._last_event: float | None = None
        self._turn_to_probe = 0
        self._probing: tuple[str, ...] | None = None
        self.account: Counter[str] = Counter()
        self._types: Counter[str] = Counter()

    # The loop

    def run(self, stop: Stop, stopping: threading.Event) -> None:
        """Until somebody asks to stop; what came by then is written and acknowledged."""
        threading.Thread(target=self._watch, args=(stopping,), name="slack-watchdog", daemon=True).start()
        self.start()
        try:
            while not stop():
                self._pulse.beat()
                self.turn(WAIT)
            while not self.turn(0):
                pass
        finally:
            stopping.set()
            self._lines.close()

    def start(self) -> None:
        """Connects; `turn` does the rest."""
        self._asker.start()
        self._lines.start()

    def turn(self, seconds: float) -> bool:
        """What has come is written and acknowledged, and where that was all, a heartbeat says so; whether it was."""
        good = self._lines.good_until()  # before anything is taken: what came later is not promised
        is_drained = self._take(seconds)
        self._deliver()
        if is_drained:
            self._beat(good)
        return is_drained

    def _watch(self, stopping: threading.Event) -> None:
        """Asks Slack from time to time whether it is still there."""
        from beepgpt.connectors.slack.live import Failed

        while not stopping.wait(self._ours.check / 1e6):
            try:
                self._arrivals.put(Checked(self._web.try_once("auth.test")))
            except Exception as error:
                self._arrivals.put(Failed(error))

    def _take(self, seconds: float) -> bool:
        """What has come, up to a batch of it; whether that was all."""
        try:
            came = self._arrivals.get(timeout=seconds) if seconds else self._arrivals.get_nowait()
            for _ in range(BATCH):
                self._handle(came)
                came = self._arrivals.get_nowait()
            self._handle(came)
        except queue.Empty:
            return True
        return False

    def _handle(self, came: Any) -> None:
        from beepgpt.connectors.slack import live as slack_live

        match came:
            case slack_live.Arrival():
                self._arrived(came)
            case HistoryAnswer():
                self._looked(came)
            case slack_live.Up():
                self._is_up(came)
            case slack_live.Changed():
                if not self._lines.is_renewed(came):
                    self._is_down(slack_live.Down(came.line, "its connection was renewed before it had brought anything"))
                    self._is_up(slack_live.Up(came.line, came.at, len(self._lines)))
            case slack_live.Down():
                self._is_down(came)
            case ChannelListing():
                self._has_list(came)
            case Checked():
                self._was_checked(came)
            case Probed():
                self._was_probed(came)
            case slack_live.Failed():
                raise came.error

    def _deliver(self) -> None:
        """Sends, waits until it is confirmed, and acknowledges."""
        if self._messages:
            self._events.send(self._messages)
            self._messages = []
            self._events.flush()
        self._interactions.flush()
        done, self._done = self._done, []
        for acknowledge in done:
            acknowledge()

    # Heartbeats

    def _beat(self, good: float | None) -> None:
        """Tells every partition up to when nothing is missing."""
        self._pulse.missing = self._why_not_whole(good)
        now = time.monotonic()
        if self._pulse.missing or good is None or now - self._beat_at < BEAT_EVERY:
            return
        at = int((good - self._web.ahead) * 1e6)
        if self._topic.covered is not None and at <= self._topic.covered:
            return
        self._beat_at = now
        self._tell(at)
        self._known.forget_before(at - REMEMBERED)

    def _tell(self, at: int) -> None:
        value = b'{"type":"heartbeat","at":"%s"}' % ts_text(at).encode()
        self._events.send(kafka.OutgoingRecord(None, value, (), number) for number in range(self._partitions))
        self._events.flush()
        self._topic.covered = at
        self.account["heartbeats"] += 1

    def _why_not_whole(self, good: float | None) -> str:
        if good is None or not self._lines.are_up:
            return "not connected to Slack"
        if not self._listed:
            return "the channels are still to be listed"
        return f"the histories of {len(self._gaps):,} channels are still to be looked through" if self._gaps else ""

    # Connections

    def _is_up(self, up: slack_live.Up) -> None:
        self._lines.is_up(up)
        if self._lines.are_up:
            if self._topic.covered is None:
                self._begin()
            self._generation += 1
            self._listed = False  # the app may have been added to some meanwhile
            self._asker.list_channels(self._channels.types, self._generation)

    def _begin(self) -> None:
        """The first heartbeat of a topic that has none: where it begins stands on it before anything else does, whatever comes then."""
        newest = self._known.newest()
        if newest is None:
            self._topic.begins = at = int((self._lines.up_since - self._web.ahead) * 1e6)
            self._is_new = True
            console.print(f"The topic is empty: it begins now, at {ts_text(at)}. What was said before is in an export.")
        else:
            at = newest - A_DAY
            console.print(
                f"The topic ends at {ts_text(newest)}, and has no heartbeats: what was said since is filled in, from a day before."
            )
        self._tell(at)

    def _is_down(self, down: slack_live.Down) -> None:
        self._lines.is_down(down)
        self.account["outages"] += 1
        self._generation += 1  # whatever is being looked at now may end before the gap does
        self._is_new = False

    def _open_gaps(self) -> None:
        """All is connected: the channels' histories are looked through from the last heartbeat on."""
        known = self._known.channels((self._topic.covered or 0) - REMEMBERED)  # those that are archived now are not listed
        for channel in dict.fromkeys([*self._channels, *self._gaps, *known]):
            if self._channels.why_left_out(channel) is None:
                self._open_gap(channel)

    def _open_gap(self, channel: str) -> None:
        since, gap = self._topic.since(channel), self._gaps.get(channel)
        held = [] if gap is None else gap.held
        if gap is not None and gap.since is not None and since is not None:
            since = min(since, gap.since)
        self._gaps[channel] = Gap(since, held)
        self._ask_for(channel, 0 if held else 1)

    def _ask_for(self, channel: str, priority: int) -> None:
        gap = self._gaps[channel]
        window = None
        if gap.since is not None:
            window = self._topic.window(channel, gap.since, self._ours.look_back)
        self._asker.look(channel, self._generation, window, is_known=channel in self._channels, priority=priority)

    def _is_wanted(self, channel: str, generation: int) -> bool:
        """Whether the answer to a question is still of use; asked by another thread."""
        return channel in self._gaps and generation == self._generation

    def _has_list(self, listed: ChannelListing) -> None:
        """The channels are known: their histories are looked through, unless the topic begins here."""
        is_first = not self._channels
        if not is_first:
            new = [each for each in (str(info["id"]) for info in listed.channels) if each not in self._channels]
            self._topic.joined |= dict.fromkeys(new, self._topic.covered or 0)
        self._channels.add(listed.channels)
        if is_first:
            wanted = len(self._channels.wanted())
            console.print(f"{wanted:,} channels; {len(self._channels) - wanted:,} others are left out.")
        if listed.generation != self._generation or not self._lines.are_up:
            return
        self._listed = True
        if not self._is_new:
            self._open_gaps()
            return
        for channel in self._gaps:
            self._ask_for(channel, 0)

    def _looked(self, looked: HistoryAnswer) -> None:
        """A channel's history is here: what is missing is written, and then what waited, in the order of time."""
        gap = self._gaps.get(looked.channel)
        if gap is None or looked.generation != self._generation or self._is_missing_something():
            return
        if looked.info is not None:
            self._channels.add([looked.info | {"id": looked.channel}])
            if gap.since is None and gap.held:
                self._topic.joined[looked.channel] = min(held.t for held in gap.held)
        if looked.why_not:
            self._refused(looked)
        del self._gaps[looked.channel]
        if (why := self._channels.why_left_out(looked.channel)) is not None:
            for held in gap.held:
                self._leave_out(held.arrival, why)
            return
        now = now_us()
        ready: list[tuple[int, kafka.OutgoingRecord]] = []
        if gap.since is not None and not looked.why_not:
            whole_since, waiting = self._topic.whole_since(looked.channel, gap.since), {held.t for held in gap.held}
            found = self._known.missing(looked.channel, looked.messages, gap.since, whole_since, waiting)
            for t, event in found.events:
                record = filled_record(event, self._who.team, now)
                self._known.add(facts_of(record, now))
                ready.append((t, kafka.OutgoingRecord(looked.channel.encode(), record)))
            self.account.update(
                filled=len(found.events), fills=1, untimed=found.untimed, vanished=found.vanished, unreadable=found.unreadable
            )
            self.account["delayed"] += sum(self._topic.is_late(t) for t, _ in found.events)
        ready += [(held.t, held.message) for held in gap.held if held.message is not None]
        ready.sort(key=lambda each: each[0])
        self._messages += [message for _, message in ready]
        for held in gap.held:
            self._count_written(held.arrival, is_copy=held.message is None)
            self._done.append(held.arrival.acknowledge)

    def _refused(self, looked: HistoryAnswer) -> None:
        told = {"channel": looked.channel, "why": looked.why_not}
        log.warning("a channel's history was refused: what was said there in the gap is missing", extra=told)
        self.account["fills_refused"] += 1

    # Whether events come

    def _was_checked(self, checked: Checked) -> None:
        """Slack answers, or not; and where nothing came for a while, it is looked whether nothing was said."""
        if checked.why_not:
            log.warning("Slack does not answer", extra={"why": checked.why_not})
            self.account["checks_failed"] += 1
            return
        suspects = self._lines.suspects(self._ours.check / 1e6)
        if self._probing is not None or self._gaps or self._is_missing_something() or not suspects:
            return
        ours = sorted(self._channels.wanted(), key=lambda channel: self._known.newest(channel) or 0, reverse=True)
        if not ours:
            self._lines.prove(time.time())
            return
        turn = self._turn_to_probe % max(len(ours) - 3, 1)
        self._turn_to_probe += 2
        self._probing = suspects
        chosen = [*ours[:3], *(ours[3:] + ours[3:])[turn : turn + 2]]
        self._asker.probe({channel: ts_text(self._topic.since(channel) or 0) for channel in chosen})

    def _was_probed(self, probed: Probed) -> None:
        """A message that should have come by now, and has not: the connection is deaf."""
        suspects, self._probing = self._probing or (), None
        until = int((probed.began - self._web.ahead) * 1e6) - self._ours.delay
        missed: list[int] = []
        for channel, messages in probed.messages.items():
            if channel not in self._gaps:
                found = self._known.missing(channel, messages, self._topic.since(channel) or 0)
                missed += [t for t, event in found.events if t <= until and event.get("subtype") != "message_changed"]
        if not missed:
            self._lines.prove(until / 1e6 + self._web.ahead)
            return
        log.warning("messages were posted, and did not come: the connection is deaf, and is replaced", extra={"missed": len(missed)})
        if self._topic.covered is not None and min(missed) < self._topic.covered:
            log.warning("heartbeats said that they had come: a flow that follows will count them as late")
            self._tell(min(missed))  # a smaller one does nothing to flows, and the next start begins there
        self.account["deaf"] += 1
        self._lines.drop(suspects)  # no heartbeats from now on
        self._generation += 1

    # Events

    def _arrived(self, arrival: slack_live.Arrival) -> None:
        self.account["arrived"] += 1
        self.account["retried"] += arrival.retry > 0
        self._last_event = arrival.at
        self._lines.heard(arrival.line)
        if arrival.kind == "interactive":
            self._to_interactions(arrival, user_of(arrival.payload))
            return
        event = arrival.payload.get("event")
        if arrival.kind != "events_api" or not isinstance(event, dict):
            self._leave_out(arrival, arrival.kind if arrival.kind == "slash_commands" else "no_event")
            return
        kind = str(event.get("type"))
        if kind == "app_home_opened":
            self._to_interactions(arrival, user_of(event))
            return
        check_not_gone(kind, event)
        channel = channel_of(event)
        if channel is None:
            self._leave_out(arrival, "no_channel")
            return
        if (why := self._channels.why_left_out(channel, arrival.payload)) is not None:
            self._leave_out(arrival, why)
            return
        received_at = int(arrival.at * 1e6)
        record = record_of(arrival.payload, received_at)
        if len(record) + len(channel) > self._events.most:
            log.error("an event is larger than what the topic takes, and is left out", extra={"channel": channel, "bytes": len(record)})
            self._leave_out(arrival, "too_large")
            return
        facts = facts_of(record, received_at)
        is_copy = facts in self._known
        if not is_copy:
            self._known.add(facts)
            self.account["delayed"] += facts.key is not None and self._topic.is_late(facts.t)
        message = None if is_copy else kafka.OutgoingRecord(channel.encode(), record)
        gap = self._gaps.get(channel)
        if gap is None and (channel not in self._channels or self._is_missing_something()):
            gap = self._gaps[channel] = Gap(None)
        if gap is not None:
            if not gap.held and not self._is_missing_something():  # else it is asked for as soon as all is connected
                self._ask_for(channel, 0)
            gap.held.append(HeldEvent(arrival, message, facts.t))
            return
        if message is not None:
            self._messages.append(message)
        self._count_written(arrival, is_copy=is_copy)
        self._done.append(arrival.acknowledge)

    def _is_missing_something(self) -> bool:
        """Whether gaps are about to be opened: what comes before that has to wait, too."""
        return not self._listed or not self._lines.are_up

    def _count_written(self, arrival: slack_live.Arrival, *, is_copy: bool) -> None:
        self.account["duplicate" if is_copy else "written"] += 1
        if not is_copy:
            self._types[str(arrival.payload["event"].get("type"))] += 1

    def _leave_out(self, arrival: slack_live.Arrival, why: str) -> None:
        self.account[f"left_out:{why}"] += 1
        self._done.append(arrival.acknowledge)

    def _to_interactions(self, arrival: slack_live.Arrival, user: str) -> None:
        """As Slack sent it, under the user's id; written at once, since somebody waits."""
        event_id = str(arrival.payload.get("event_id") or arrival.payload.get("trigger_id") or arrival.name)
        facts = RecordIdentity(int(arrival.at * 1e6), None, event_id, None, None, None)
        if facts in self._known:
            self.account["duplicate"] += 1
            self._done.append(arrival.acknowledge)
            return
        self._known.add(facts)
        value = orjson.dumps({name: each for name, each in arrival.payload.items() if name != "token"})
        self._interactions.send([kafka.OutgoingRecord(user.encode() or None, value)])
        self.account["interactions"] += 1
        self._done.append(arrival.acknowledge)

    # What is told

    def held(self) -> int:
        """Arrivals that wait for their channel's history, and are not acknowledged."""
        return sum(len(gap.held) for gap in list(self._gaps.values()))

    def counts(self) -> dict[str, int]:
        return dict(self.account) | {"rate_limited": self._web.limited}

    def types_written(self) -> dict[str, int]:
        return dict(self._types)

    def gauges(self) -> dict[str, float]:
        return {
            "connected": float(self._lines.are_up),
            "gaps": len(self._gaps),
            "waiting": self.held(),
            "last_event": self._last_event or 0.0,
            "ahead": self._web.ahead,
        }
