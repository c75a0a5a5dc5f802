"""The loop of `beepgpt ingest slack`: events are written and acknowledged, gaps are backfilled, heartbeats say what is complete.

One thread does all of it. What happened before is read from the topic itself: everything before its last heartbeat is there."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from beepgpt.clock import now
from beepgpt.config.sections import SlackSettings
from beepgpt.connectors.log import LogWriter, OutgoingRecord
from beepgpt.conversations.events import MOVED, POST, asked_about, names_another_user, ts_text
from beepgpt.conversations.export import events_of
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.ingest.slack.backfill import Backfill, SilenceCheck
from beepgpt.ingest.slack.connections import Connections, LiveConnection
from beepgpt.ingest.slack.event_writer import Coverage, EventWriter, HeldEvent
from beepgpt.ingest.slack.known_records import TopicContents, identify, record_of, user_of
from beepgpt.ingest.slack.progress import CatchUpProgress
from beepgpt.ingest.slack.retention import ExpiredMessages, RetentionSweep
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
    UserAnswer,
    channel_of,
    check_not_removed,
)
from beepgpt.runtime.metrics import CALLS, Pulse, by_label, by_two, outage_now
from beepgpt.runtime.workers import Stop

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

COUNTS = {
    "arrived": ("beepgpt_slack_arrived_total", "Envelopes or requests that Slack sent."),
    "written": ("beepgpt_slack_written_total", "Events that were written to the topic as they came."),
    "duplicate": ("beepgpt_slack_duplicates_total", "Events that are on the topic already, acknowledged and not written."),
    "interactions": ("beepgpt_slack_interactions_total", "Interactions with the app: buttons, forms, its home page."),
    "delayed": ("beepgpt_slack_delayed_total", "Events that came after a heartbeat with a later time."),
    "retried": ("beepgpt_slack_retried_total", "Envelopes that Slack sent again."),
    "vanished": ("beepgpt_slack_vanished_total", "Deletions written of messages that a channel's history lacked."),
    "retention": ("beepgpt_slack_retention_total", "Deletions written of messages older than slack.retention."),
    "filled": ("beepgpt_slack_filled_total", "Missing events that were backfilled from a channel's history."),
    "fills": ("beepgpt_slack_channel_fills_total", "Channels that were backfilled after an outage."),
    "fills_refused": ("beepgpt_slack_fills_refused_total", "Histories that Slack refused to give."),
    "checks_refused": ("beepgpt_slack_checks_refused_total", "Threads to be read again that Slack refused to give."),
    "outages": ("beepgpt_slack_outages_total", "Times at which events may have been missed."),
    "heartbeats": ("beepgpt_slack_heartbeats_total", "Heartbeats written; each goes to every partition."),
    "rate_limited": ("beepgpt_slack_rate_limited_total", "Calls that Slack refused because of its rate limit."),
}
LEFT_OUT = ("beepgpt_slack_left_out_total", "Events that were not written, by reason.")
REFUSED = ("beepgpt_slack_refused_total", "Requests over HTTP that were refused or cut off, by reason.")
BY_TYPE = ("beepgpt_slack_events_total", "Events that were written, by Slack's type.")
TYPES = 50
"""Types with a time series of their own; the rest are counted as `other`."""


@dataclass(frozen=True, eq=False)  # a registry keeps collectors as keys
class SlackFigures(Collector):
    """Collector that reads the figures from functions when it is scraped, in another thread.

    >>> figures = SlackFigures(counts=lambda: {"arrived": 2, "left_out:shared": 1}, gauges=lambda: {"connected": 1})
    >>> [(sample.labels, sample.value) for metric in figures.collect() for sample in metric.samples if sample.value][1:]
    [({}, 2), ({'reason': 'shared'}, 1), ({}, 1)]
    """

    counts: Callable[[], Mapping[str, int]]
    gauges: Callable[[], Mapping[str, float]]
    """`connected`, `channels` (that are followed, once they are listed), `gaps` (channels to backfill), `catching_up` (seconds that this
    takes), `threads` (to be read again), `waiting` (held events), `last_event` (seconds since 1970), `ahead`."""
    types: Callable[[], Mapping[str, int]] = dict
    calls: Callable[[], Mapping[tuple[str, str], int]] = dict
    """Calls of Slack's Web API, by method and result."""
    build: Mapping[str, str] = field(default_factory=dict)
    refused: Callable[[], Mapping[str, int]] = dict
    """Requests over HTTP that were refused, by reason."""
    clock: Callable[[], float] = now

    def collect(self) -> Iterator[Metric]:
        """The current figures."""
        yield InfoMetricFamily("beepgpt_build", "Which program this is.", value=dict(self.build))
        counts = dict(self.counts())
        for key, (name, meaning) in COUNTS.items():
            yield CounterMetricFamily(name, meaning, value=counts.get(key, 0))
        left_out = {name.partition(":")[2]: count for name, count in counts.items() if name.startswith("left_out:")}
        yield by_label(LEFT_OUT, "reason", left_out)
        yield by_label(REFUSED, "reason", dict(self.refused()))
        types = sorted(self.types().items())
        rest = sum(count for _, count in types[TYPES:])
        yield by_label(BY_TYPE, "type", dict(types[:TYPES]) | ({"other": rest} if rest else {}))
        yield by_two(CALLS, ("method", "result"), self.calls())
        gauges = self.gauges()
        yield GaugeMetricFamily("beepgpt_slack_connected", "Whether all connections are up.", value=gauges.get("connected", 0))
        if "channels" in gauges:
            yield GaugeMetricFamily("beepgpt_slack_channels", "Channels that are followed.", value=gauges["channels"])
        yield GaugeMetricFamily("beepgpt_slack_gaps", "Channels whose history is still to be read.", value=gauges.get("gaps", 0))
        seconds, threads = gauges.get("catching_up", 0), gauges.get("threads", 0)
        yield GaugeMetricFamily("beepgpt_slack_catching_up_seconds", "About how long that takes.", value=seconds)
        meaning = "Threads to be read again for edits and deletions; nothing waits for them."
        yield GaugeMetricFamily("beepgpt_slack_threads_to_check", meaning, value=threads)
        yield GaugeMetricFamily("beepgpt_slack_waiting", "Events held for a history, unacknowledged.", value=gauges.get("waiting", 0))
        yield GaugeMetricFamily(
            "beepgpt_slack_clock_ahead_seconds", "How far this clock is ahead of Slack's.", value=gauges.get("ahead", 0)
        )
        if last := gauges.get("last_event"):
            since = round(self.clock() - last, 3)
            yield GaugeMetricFamily("beepgpt_slack_seconds_since_last_event", "Seconds since Slack sent anything.", value=since)


class SlackPulse(Pulse):
    """Health of the loop: ready while all connections are up and no gap is open."""

    missing = "not connected to Slack yet"
    """Why no heartbeats are written; empty while they are."""

    def why_not_ready(self) -> str:
        return self.why_dead() or outage_now() or self.missing


HEARTBEAT_EVERY = 1.0
"""Seconds between two heartbeats."""
WAIT = 0.1
"""Seconds that a turn waits for something to arrive."""
BATCH = 1_000
HEAD = 64 * 2**10
"""Bytes that are kept of an event that the topic does not take."""

log = logging.getLogger(__name__)


class SlackLoop:
    """Takes what the connections and the Web API bring from one queue, and writes it."""

    def __init__(
        self,
        ours: SlackSettings,
        include: tuple[str, ...],
        team: str,
        contents: TopicContents,
        partitions: int,
        events: LogWriter,
        interactions: LogWriter,
        web: slack_live.Web,
        connections: Iterable[LiveConnection],
        arrivals: queue.Queue[Any],
        pulse: SlackPulse,
        dead_letters: Callable[[], LogWriter],
        retention: RetentionSweep | None = None,
        forgotten: Callable[[], Forgotten | None] = lambda: None,
    ) -> None:
        """`forgotten`: who and what is left out, as of now."""
        self._forgotten = forgotten
        self._retention, self._team = retention, team
        self._check_every = ours.check / 1e6
        self._web = web
        self._arrivals = arrivals
        self._pulse = pulse
        self._known = known = contents.known
        self._connections = Connections(connections, ours.delay / 1e6)
        self._queries = queries = SlackQueries(web, arrivals.put)
        self._channels = channels = Channels(include, ours.shared)
        self.coverage = coverage = Coverage(contents)
        self.writer = writer = EventWriter(events, interactions, partitions, known, coverage, dead_letters)
        checks = ThreadChecks(queries, known, coverage, writer, team)
        self.backfill = Backfill(queries, self._connections, channels, known, coverage, writer, team, ours.look_back, checks)
        self._progress = CatchUpProgress(self.backfill, writer.account)
        self.silence_check = SilenceCheck(
            queries, self._connections, channels, known, coverage, writer, self.backfill, self._check_every, ours.delay
        )
        self._unasked: dict[str, deque[tuple[slack_live.Arrival, dict[str, Any]]]] = {}
        """By channel: events that wait until it is known whether a person posted the first of them."""
        self._heartbeat_at = 0.0
        """When the last heartbeat was written, by the monotonic clock."""
        self._last_event: float | None = None

    @property
    def account(self) -> Counter[str]:
        """What became of each arrival, and of each gap."""
        return self.writer.account

    def cost(self) -> dict[str, Any]:
        """What waits for the log: events that came and are not confirmed, and channels whose history is to be read."""
        gauges = self.gauges()
        waiting = self._arrivals.qsize() + int(gauges["waiting"]) + self.writer.unconfirmed
        return {"events_waiting": waiting, "channels_to_fill": int(gauges["gaps"])}

    # The loop

    def run(self, stop: Stop, stopping: threading.Event) -> None:
        """Run until asked to stop; what arrived by then is written and acknowledged."""
        threading.Thread(target=self._check_web_api, args=(stopping,), name="slack-watchdog", daemon=True).start()
        self.start()
        try:
            while not stop():
                self._pulse.beat()
                self.turn(WAIT)
            while not self.turn(0):
                pass
        finally:
            stopping.set()
            self._connections.close()

    def start(self) -> None:
        """Connect; `turn` does the rest."""
        self._queries.start()
        self._connections.start()

    def turn(self, seconds: float) -> bool:
        """Write and acknowledge what has arrived, up to a batch, then a heartbeat if that was all; returns whether it was."""
        good = self._connections.good_until()  # before anything is taken: a heartbeat does not cover what arrives later
        is_drained = self._take(seconds)
        self.writer.flush()
        self._progress.look()
        if is_drained:
            self._write_heartbeat(good)
        return is_drained

    def _check_web_api(self, stopping: threading.Event) -> None:
        """Ask Slack from time to time whether it is there; runs in a thread of its own."""
        from beepgpt.connectors.slack.live import Failed

        while not stopping.wait(self._check_every):
            try:
                self._arrivals.put(CheckAnswer(self._web.try_once("auth.test")))
            except Exception as error:
                self._arrivals.put(Failed(error))

    def _take(self, seconds: float) -> bool:
        """Handle what has arrived, up to a batch of it; returns whether that was all."""
        try:
            arrived = self._arrivals.get(timeout=seconds) if seconds else self._arrivals.get_nowait()
            for _ in range(BATCH):
                self._handle(arrived)
                arrived = self._arrivals.get_nowait()
            self._handle(arrived)
        except queue.Empty:
            return True
        return False

    def _handle(self, arrived: Any) -> None:
        from beepgpt.connectors.slack import live as slack_live

        match arrived:
            case slack_live.Arrival():
                self._on_arrival(arrived)
            case slack_live.Oversized():
                self._on_anything(arrived)
                self.writer.leave_out_oversized(arrived, arrived.head, arrived.size, None)
            case HistoryAnswer():
                kept, forgotten = self._remembered(arrived.channel, arrived.messages)
                self.backfill.on_history(arrived._replace(messages=kept, forgotten=forgotten))
            case ThreadAnswer():
                kept, forgotten = self._remembered(arrived.check.channel, arrived.messages)
                self.backfill.on_thread(arrived._replace(messages=kept, forgotten=forgotten))
            case slack_live.Up():
                self._on_up(arrived)
            case slack_live.Changed():
                if not self._connections.on_renewed(arrived):
                    self._on_down(slack_live.Down(arrived.line, "its connection was renewed before it had brought anything"))
                    self._on_up(slack_live.Up(arrived.line, arrived.at, len(self._connections)))
            case slack_live.Down():
                self._on_down(arrived)
            case ChannelListing():
                self.backfill.on_channels(arrived)
            case CheckAnswer():
                self.silence_check.on_check(arrived)
            case ProbeAnswer():
                messages = {channel: self._remembered(channel, found)[0] for channel, found in arrived.messages.items()}
                self.silence_check.on_probe(arrived._replace(messages=messages))
            case UserAnswer():
                self._on_user()
            case ExpiredMessages() if self._retention is not None:
                self._retention.on_expired(arrived, self.coverage, self.writer, self.backfill.newest_on_topic, self._team)
            case slack_live.Failed():
                raise arrived.error

    def _remembered(self, channel: str, messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], frozenset[int]]:
        """A history's messages without what is forgotten; and the messages of which nothing is to be written, no deletion either."""
        forgotten = self._forgotten()
        if forgotten is None:
            return messages, frozenset()
        kept, hidden = [], {ts for ts in self._known.posts(channel) if forgotten.has_message(channel, ts_text(ts))}
        for message in messages:
            if (left := forgotten.without(message, channel)) is not None:
                kept.append(left)
            else:
                hidden |= {t for t, kind, _ in events_of(channel, message) if kind == POST}
        self.account["history_forgotten"] += len(messages) - len(kept)
        return kept, frozenset(hidden)

    def _on_up(self, up: slack_live.Up) -> None:
        self._connections.on_up(up)
        if self._connections.are_up:
            self.backfill.on_connected()

    def _on_down(self, down: slack_live.Down) -> None:
        self._connections.on_down(down)
        self.account["outages"] += 1
        self.backfill.on_disconnected()

    # Heartbeats

    def _write_heartbeat(self, good: float | None) -> None:
        """Write up to when the topic is complete, if it is, and if the last heartbeat is old enough."""
        self._pulse.missing = self._why_incomplete(good)
        now = time.monotonic()
        if self._pulse.missing or good is None or now - self._heartbeat_at < HEARTBEAT_EVERY:
            return
        at = int((good - self._web.ahead) * 1e6)
        if self.coverage.covered is not None and at <= self.coverage.covered:
            return
        self._heartbeat_at = now
        self.coverage.unchecked_since = self.backfill.checks.all_begun()
        self.writer.write_heartbeat(at)
        self._known.forget_before(self.coverage.remembered_since)
        if self._retention is not None:
            self._retention.begin(self.coverage)

    def _why_incomplete(self, good: float | None) -> str:
        if good is None or not self._connections.are_up:
            return "not connected to Slack"
        if self._unasked:
            return "Slack is still to say who posts through an app"
        return self.backfill.why_incomplete()

    # Events

    def _on_anything(self, arrival: slack_live.Arrival | slack_live.Oversized) -> None:
        self.account["arrived"] += 1
        self.account["retried"] += arrival.retry > 0
        self._last_event = arrival.at
        self._connections.on_event(arrival.line)

    def _on_arrival(self, arrival: slack_live.Arrival) -> None:
        self._on_anything(arrival)
        if arrival.kind == "interactive":
            self.writer.write_interaction(arrival, user_of(arrival.payload))
            return
        event = arrival.payload.get("event")
        if arrival.kind != "events_api" or not isinstance(event, dict):
            self.writer.leave_out(arrival, arrival.kind if arrival.kind == "slash_commands" else "no_event")
            return
        kind = str(event.get("type"))
        if kind == "app_home_opened":
            self.writer.write_interaction(arrival, user_of(event))
            return
        check_not_removed(kind, event)
        channel = channel_of(event)
        if channel is None:
            self.writer.leave_out(arrival, "no_channel")
            return
        self._channels.note_type(channel, event)
        # A channel that gets another id is often shared by that: what was written of it before ends with this event.
        why = self._channels.why_left_out(channel, None if kind == MOVED else arrival.payload)
        if why is not None and not (kind == MOVED and why == UNKNOWN):
            self.writer.leave_out(arrival, why)
        else:
            forgotten = self._forgotten()
            payload = arrival.payload if forgotten is None else forgotten.without(arrival.payload)
            if payload is None:
                self.writer.leave_out(arrival, "forgotten")
            else:
                waiting = self._unasked.setdefault(channel, deque())
                waiting.append((arrival, payload))
                if len(waiting) == 1:
                    self._on_waiting(channel)

    def _on_user(self) -> None:
        """Go on with the channels that waited for an answer."""
        for channel in list(self._unasked):
            self._on_waiting(channel)

    def _on_waiting(self, channel: str) -> None:
        """Take a channel's events in order, up to one of whose user Slack has to be asked first."""
        waiting = self._unasked[channel]
        while waiting:
            arrival, payload = waiting[0]
            user = asked_about(payload["event"])
            if user is not None and user not in self._queries.asked:
                self._queries.ask_about(user)
                return
            waiting.popleft()
            self._on_event(arrival, channel, payload, by_person=user in self._queries.people or names_another_user(payload["event"]))
        del self._unasked[channel]

    def _on_event(self, arrival: slack_live.Arrival, channel: str, payload: dict[str, Any], *, by_person: bool) -> None:
        """Write a channel's event, or hold it for the channel's backfill."""
        received_at = int(arrival.at * 1e6)
        record = record_of(payload, received_at, by_person=by_person)
        if len(record) + len(channel) > self.writer.most:
            self.writer.leave_out_oversized(arrival, record[:HEAD], len(record), channel.encode())
            return
        identity = identify(record, received_at)
        message, newest = None, self._known.newest(channel) or 0
        if identity not in self._known:
            self._known.add(identity)
            if identity.new_channel is not None:
                log.warning(
                    "a channel has another id: what was open under the old one stays unknown. Where settings name the old one"
                    " (provider.exclude_channels), or a list of the forgotten does, name the new one as well",
                    extra={"channel": channel, "new_channel": identity.new_channel},
                )
            self.account["delayed"] += identity.key is not None and self.coverage.is_late(identity.t)
            message = OutgoingRecord(channel.encode(), record)
        if not self.backfill.hold(channel, HeldEvent(arrival, message, identity.t), newest):
            self.writer.write(arrival, message)

    # Metrics: called from another thread

    def counts(self) -> dict[str, int]:
        """The account, and how often Slack limited the rate."""
        return dict(self.account) | {"rate_limited": self._web.limited}

    def types_written(self) -> dict[str, int]:
        """Events written, by Slack's type."""
        return dict(self.writer.types)

    def gauges(self) -> dict[str, float]:
        """The state of the connections and gaps."""
        followed = self.backfill.followed
        return ({} if followed is None else {"channels": followed}) | {
            "connected": float(self._connections.are_up),
            "gaps": self.backfill.open_gaps,
            "threads": self.backfill.checks.left,
            "catching_up": self.backfill.seconds_left(),
            "waiting": self.backfill.held() + sum(map(len, list(self._unasked.values()))),
            "last_event": self._last_event or 0.0,
            "ahead": self._web.ahead,
        }
