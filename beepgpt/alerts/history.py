"""An alert history in memory, for rehearsals and tests."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from beepgpt.alerts.decisions import Alert, Preferences
from beepgpt.alerts.predictions import PredictedConversation, links_of


@dataclass
class InMemoryHistory:
    """An `AlertHistory` in plain dictionaries. Points and alerts have to be recorded in time order."""

    asked: dict[str, Preferences] = field(default_factory=dict)
    asked_topics: list[tuple[str, str]] = field(default_factory=list)
    speakers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    sessions: dict[str, str] = field(default_factory=dict)
    alerted: set[tuple[str, str]] = field(default_factory=set)
    direct_times: dict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    deleted: set[tuple[str, int]] = field(default_factory=set)

    def preferences(self, user: str) -> Preferences:
        """A person's preferences."""
        return self.asked.get(user, _NO_PREFERENCES)

    def topics(self) -> Collection[tuple[str, str]]:
        """Topics that people asked for, as (user, words)."""
        return self.asked_topics

    def took_part(self, user: str, conversations: Sequence[str]) -> bool:
        """Whether a person wrote in one of the conversations."""
        return any(user in self.speakers.get(each, ()) for each in conversations)

    def session_of(self, thread: str) -> str | None:
        """The session that holds a thread's root, if it is known."""
        return self.sessions.get(thread)

    def was_alerted(self, user: str, keys: Sequence[str]) -> bool:
        """Whether a person was alerted under one of the keys."""
        return any((user, key) in self.alerted for key in keys)

    def direct_alerts(self, user: str, since: int) -> int:
        """How many direct messages a person got after `since`; older ones are dropped."""
        times = self.direct_times[user]
        while times and times[0] <= since:
            times.popleft()
        return len(times)

    def is_deleted(self, channel: str, ts: int) -> bool:
        """Whether a message was deleted."""
        return (channel, ts) in self.deleted

    def record_point(self, point: PredictedConversation) -> None:
        """Note who wrote where, after the point was decided on."""
        for each in point.conversations:
            self.speakers[each].update(user for _, user in point.window)
        self.sessions.update(links_of(point))

    def record_alert(self, alert: Alert, now: int) -> None:
        """Note that a person was alerted at `now`."""
        self.alerted.update((alert.user, key) for key in alert.keys)
        if alert.way == "direct":
            self.direct_times[alert.user].append(now)


_NO_PREFERENCES = Preferences()
