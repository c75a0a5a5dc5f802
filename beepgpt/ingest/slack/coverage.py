"""What the topic of `beepgpt ingest slack` has, from when to when, and which channels wait to be looked through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from beepgpt.connectors import kafka
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import MINUTE, SECOND
from beepgpt.ingest.slack.envelopes import REMEMBERED, TopicContents
from beepgpt.ingest.slack.web_queries import Window

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

LATENESS = 5 * SECOND
"""What comes so much behind a heartbeat is not too late for a flow."""
LATE = 10 * MINUTE
"""A gap begins so much before the last heartbeat: Slack takes eight minutes at times, and what it had not delivered may never come."""


@dataclass
class HeldEvent:
    """An arrival that waits for its channel's history."""

    arrival: slack_live.Arrival
    message: kafka.OutgoingRecord | None
    """None: a copy of one that waits already."""
    t: int


@dataclass
class Gap:
    """A channel of which something may be missing, or of which nothing is known yet."""

    since: int | None
    """None: only what it is has to be asked."""
    held: list[HeldEvent] = field(default_factory=list)


class Coverage:
    """Up to when all is on the topic, and since when."""

    def __init__(self, memory: TopicContents) -> None:
        self._known = memory.known
        self.covered = memory.covered
        """Everything before is on the topic: its last heartbeat."""
        self.begins = memory.begins
        self.joined: dict[str, int] = {}
        """Since when the app is in channels to which it was added meanwhile."""

    def since(self, channel: str) -> int | None:
        """From when on something may be missing there, and not before the topic or the app's time in the channel began."""
        return None if self.covered is None else max(self.covered - LATE, self.begins, self.joined.get(channel, 0))

    def whole_since(self, channel: str, since: int) -> int:
        """From when on all that stands on the topic is known."""
        return max(since - REMEMBERED + LATE, self.begins, self.joined.get(channel, 0))

    def window(self, channel: str, since: int, look_back: int) -> Window:
        """What of a channel's history has to be looked at."""
        roots, replies = max(since - look_back, 10**15), self.whole_since(channel, since)
        threads = [ts_text(root) for root in self._known.threads(channel, replies)]
        return Window(ts_text(since), ts_text(roots), ts_text(replies), threads)

    def is_late(self, t: int) -> bool:
        """Whether a heartbeat said that it was there, and flows have gone on."""
        return self.covered is not None and t < self.covered - LATENESS
