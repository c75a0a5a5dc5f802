"""Threads that are read again after an outage, for edits and deletions of replies: heartbeats and new events don't wait for that."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from beepgpt.conversations.events import micros
from beepgpt.ingest.slack.event_writer import Coverage, EventWriter
from beepgpt.ingest.slack.known_records import KnownRecords, Missing
from beepgpt.ingest.slack.web_queries import SlackQueries, ThreadAnswer, ThreadCheck

log = logging.getLogger(__name__)


@dataclass(eq=False)
class ThreadChecks:
    """The threads that are still to be read again.

    What is found gets the time at which it is found: with its own it would be late, since heartbeats went on.
    """

    _queries: SlackQueries
    _known: KnownRecords
    _coverage: Coverage
    _writer: EventWriter
    _team: str
    _waiting: dict[tuple[str, int], ThreadCheck] = field(default_factory=dict, init=False)
    """By channel and root."""
    _left_over: int | None = field(init=False)
    """Since when the run before this one had not looked, in microseconds, until all channels' checks have begun; None: it had."""

    def __post_init__(self) -> None:
        self._left_over = self._coverage.unchecked_since

    @property
    def left(self) -> int:
        """Threads that are still to be read; may be called from another thread."""
        return len(self._waiting)

    def all_begun(self) -> int | None:
        """Since when something may be missing, now that no gap is open; None: nothing is. Microseconds."""
        self._left_over = None
        return min((check.since for check in self._waiting.values()), default=None)

    def seconds_left(self) -> float:
        """About how long it takes to read them."""
        return self._queries.seconds_for_threads(self.left)

    def begin(self, channel: str, just_read: set[int], since: int) -> None:
        """Read the channel's other threads again, for what happened from `since` (microseconds) on, or in the run before."""
        if self._left_over is not None and self._left_over < since:
            since, just_read = self._coverage.not_before(channel, self._left_over), set()  # they were not read from so early on
        for root in sorted(set(self._known.threads(channel, self._coverage.whole_since(channel, since))) - just_read):
            waiting = self._waiting.get((channel, root))
            earliest = since if waiting is None else min(since, waiting.since)
            if waiting is not None and not waiting.is_asked:
                waiting.since = earliest
                continue
            # One that is being read is read again: what was read may be from before this gap's end.
            check = self._waiting[channel, root] = ThreadCheck(channel, root, earliest)
            self._queries.check_thread(check, self._is_wanted)

    def leave_out(self, channel: str) -> None:
        """Read no more of a channel."""
        for each in [each for each in self._waiting if each[0] == channel]:
            del self._waiting[each]

    def _is_wanted(self, check: ThreadCheck) -> bool:
        """Whether a check is still of use; then note what its answer is good for. Called by the thread that asks, just before."""
        if self._waiting.get((check.channel, check.root)) is not check:
            return False
        check.is_asked = True
        check.replies_since = self._coverage.whole_since(check.channel, check.since)
        check.until = self._coverage.covered or 0
        return True

    def on_thread(self, answer: ThreadAnswer, newest: int, *, is_open: bool) -> None:
        """Write what is missing in a thread that was read.

        What is known is gone only if the answer would have it: a reply from the part that was asked for, and from before it was asked.
        `newest`: time of the channel's newest event on the topic. `is_open`: the channel has a gap, which brings posts in their order,
        and edits behind them.
        """
        check = answer.check
        if self._waiting.get((check.channel, check.root)) is not check:
            return
        del self._waiting[check.channel, check.root]
        if answer.why_not:
            log.warning(
                "Slack refused a thread: edits and deletions of its replies, made in an outage, may be missing",
                extra={"channel": check.channel, "why": answer.why_not},
            )
            self._writer.account["checks_refused"] += 1
            return
        found = self._known.missing(
            check.channel,
            answer.messages,
            check.since,
            check.replies_since,
            answer.forgotten,
            self._queries.people,
            has_all=lambda root: root == check.root,
        )
        posts = self._known.posts(check.channel)
        events = [(t, event) for t, event in found.events if not is_open or _edits_one_of(posts, event)]
        gone = [ts for ts in found.gone if ts <= check.until]
        missing = self._writer.recovered(check.channel, Missing(events, found.untimed, gone, 0), self._team, newest=newest)
        self._writer.write_backfill(missing, ())


def _edits_one_of(posts: Container[int], event: Mapping[str, Any]) -> bool:
    return event.get("subtype") == "message_changed" and micros(event["message"]["ts"]) in posts
