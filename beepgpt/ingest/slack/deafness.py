"""Detecting deaf connections, which are open and bring no events: the last messages of some channels should have arrived by now."""

from __future__ import annotations

import logging
import time

from beepgpt.conversations.events import ts_text
from beepgpt.ingest.slack.backfill import Backfill
from beepgpt.ingest.slack.channels import Channels
from beepgpt.ingest.slack.connections import Connections
from beepgpt.ingest.slack.coverage import Coverage
from beepgpt.ingest.slack.event_writer import EventWriter
from beepgpt.ingest.slack.known_records import KnownRecords
from beepgpt.ingest.slack.web_queries import CheckAnswer, ProbeAnswer, SlackQueries

BUSIEST = 3
"""Channels that are probed each time, those with the newest events."""
IN_TURN = 2
"""Other channels that are probed, in turn."""

log = logging.getLogger(__name__)


class DeafnessCheck:
    """Probes channels when a connection has brought nothing for a while, and replaces the connection if messages are missing."""

    def __init__(
        self,
        queries: SlackQueries,
        connections: Connections,
        channels: Channels,
        known: KnownRecords,
        coverage: Coverage,
        writer: EventWriter,
        backfill: Backfill,
        quiet: float,
        delay: int,
    ) -> None:
        """`quiet`: seconds without an event after which a connection is probed; `delay`: microseconds an event may take from Slack."""
        self._queries = queries
        self._connections = connections
        self._channels = channels
        self._known = known
        self._coverage = coverage
        self._writer = writer
        self._backfill = backfill
        self._quiet = quiet
        self._delay = delay
        self._turn = 0
        self._suspects: tuple[str, ...] | None = None

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
        ours = sorted(self._channels.wanted(), key=lambda channel: self._known.newest(channel) or 0, reverse=True)
        if not ours:
            self._connections.prove(time.time())
            return
        turn = self._turn % max(len(ours) - BUSIEST, 1)
        self._turn += IN_TURN
        self._suspects = suspects
        chosen = [*ours[:BUSIEST], *(ours[BUSIEST:] + ours[BUSIEST:])[turn : turn + IN_TURN]]
        self._queries.probe({channel: ts_text(self._coverage.gap_start(channel) or 0) for channel in chosen})

    def on_probe(self, answer: ProbeAnswer) -> None:
        """If a message should have arrived and has not, the suspects are deaf: correct the heartbeat and drop them."""
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
        log.warning("messages were posted, and did not arrive: the connection is deaf, and is replaced", extra={"missed": len(missed)})
        if self._coverage.covered is not None and min(missed) < self._coverage.covered:
            log.warning("heartbeats covered them already: a flow that follows will count them as late")
            self._writer.write_heartbeat(min(missed))  # flows ignore an earlier one, and the next start begins there
        self._writer.account["deaf"] += 1
        self._connections.drop(suspects)  # no heartbeats from now on
        self._backfill.discard_answers()
