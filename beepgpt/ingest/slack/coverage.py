"""Up to when the topic is complete, and what part of a channel's history has to be read to close a gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from beepgpt.connectors import kafka
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import MINUTE, SECOND
from beepgpt.ingest.slack.topic_contents import REMEMBERED, TopicContents
from beepgpt.ingest.slack.web_queries import HistoryWindow

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

LATENESS = 5 * SECOND
"""An event that comes at most this long after its heartbeat is not late in a flow."""
GAP_MARGIN = 10 * MINUTE
"""A gap begins this long before the last heartbeat: Slack can take eight minutes, and what it had not delivered may never come."""


@dataclass
class HeldEvent:
    """An arrival that waits for its channel's backfill."""

    arrival: slack_live.Arrival
    message: kafka.OutgoingRecord | None
    """None: a duplicate."""
    t: int


@dataclass
class Gap:
    """A channel that may lack events, or that is not known yet."""

    since: int | None
    """When the gap begins, in microseconds; None: only the channel's description has to be asked for."""
    held: list[HeldEvent] = field(default_factory=list)


class Coverage:
    """Up to when the topic is complete, and from when on."""

    def __init__(self, contents: TopicContents) -> None:
        self._known = contents.known
        self.covered = contents.covered
        """Time of the last heartbeat: everything before it is on the topic. None: there is no heartbeat yet."""
        self.begins = contents.begins
        self.joined: dict[str, int] = {}
        """When the app joined channels during this run."""

    def gap_start(self, channel: str) -> int | None:
        """From when on events of the channel may be missing; not before the topic began or the app joined the channel."""
        return None if self.covered is None else max(self.covered - GAP_MARGIN, self.begins, self.joined.get(channel, 0))

    def whole_since(self, channel: str, since: int) -> int:
        """From when on everything that the topic has of the channel is known, for a gap that begins at `since`."""
        return max(since - REMEMBERED + GAP_MARGIN, self.begins, self.joined.get(channel, 0))

    def window(self, channel: str, since: int, look_back: int) -> HistoryWindow:
        """The part of a channel's history to read for a gap that begins at `since`."""
        roots, replies = max(since - look_back, 10**15), self.whole_since(channel, since)
        threads = [ts_text(root) for root in self._known.threads(channel, replies)]
        return HistoryWindow(ts_text(since), ts_text(roots), ts_text(replies), threads)

    def is_late(self, t: int) -> bool:
        """Whether flows that follow the topic have passed this time already."""
        return self.covered is not None and t < self.covered - LATENESS
