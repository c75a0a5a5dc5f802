"""Threads that are read again after an outage, for edits and deletions of replies: heartbeats and new events don't wait for that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from beepgpt.ingest.slack.event_writer import Coverage, EventWriter
from beepgpt.ingest.slack.known_records import KnownRecords, Missing
from beepgpt.ingest.slack.web_queries import SlackQueries, ThreadAnswer


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
    _waiting: dict[tuple[str, int], int] = field(default_factory=dict, init=False)
    """By channel and root: since when something may be missing, in microseconds."""

    @property
    def left(self) -> int:
        """Threads that are still to be read; may be called from another thread."""
        return len(self._waiting)

    @property
    def since(self) -> int | None:
        """Since when something may be missing; None: nothing is."""
        return min(self._waiting.values(), default=None)

    def seconds_left(self) -> float:
        """About how long it takes to read them."""
        return self._queries.seconds_for_threads(self.left)

    def begin(self, channel: str, roots: Iterable[int], since: int, replies_since: int) -> None:
        """Read threads again, for what happened from `since` on to replies from `replies_since` on. Times in microseconds."""
        since = min(since, self._coverage.unchecked_since or since)
        for root in sorted(roots):
            is_asked = (channel, root) in self._waiting
            self._waiting[channel, root] = min(since, self._waiting.get((channel, root), since))
            if not is_asked:
                self._queries.check_thread(channel, root, replies_since, self._is_wanted)

    def leave_out(self, channel: str) -> None:
        """Read no more of a channel."""
        for each in [each for each in self._waiting if each[0] == channel]:
            del self._waiting[each]

    def ask_again(self, answer: ThreadAnswer) -> None:
        """Read a thread once more: what was read of it can't be used yet."""
        self._queries.check_thread(answer.channel, answer.root, answer.since, self._is_wanted)

    def _is_wanted(self, channel: str, root: int) -> bool:
        return (channel, root) in self._waiting

    def on_thread(self, answer: ThreadAnswer, newest: int, *, is_open: bool) -> None:
        """Write what is missing in a thread that was read.

        `newest`: time of the channel's newest event on the topic. `is_open`: the channel has a gap, which brings the posts in their order.
        """
        since = self._waiting.pop((answer.channel, answer.root), None)
        if since is None or answer.messages is None:
            return
        whole_since = self._coverage.whole_since(answer.channel, since)
        people = self._queries.people
        found = self._known.missing(
            answer.channel, answer.messages, since, whole_since, (), people, has_all=lambda root: root == answer.root
        )
        events = [(t, event) for t, event in found.events if not is_open or event.get("subtype") == "message_changed"]
        at = max(newest, self._coverage.covered or 0)
        missing = self._writer.recovered(
            answer.channel, Missing(events, found.untimed, found.gone, 0), self._team, edits_from=at, deleted_at=at
        )
        self._writer.write_backfill(missing, ())
