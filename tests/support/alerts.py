"""What the tests of alerts share: predictions, as a scoring flow writes them, and an office that decides and delivers."""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beepgpt.alerts.deciding import AlertDecider
from beepgpt.alerts.decisions import Alert, Policy, Preferences
from beepgpt.alerts.delivery import AlertDelivery
from beepgpt.alerts.predictions import PredictedConversation, links_of, participation
from beepgpt.alerts.store import AlertStore
from beepgpt.connectors.slack.alerts import SlackMessenger
from beepgpt.connectors.slack.members import Everybody
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.outcomes import Probabilities, prediction_body
from beepgpt.conversations.points import MessageDeleted, deletion_bytes
from beepgpt.conversations.rules import SECOND, Rules
from beepgpt.runtime.flow_metrics import Waits
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from tests.support.schemas import check
from tests.support.slack_web_api import TOKEN
from tests.support.speed import slowness

NOON = 1_700_049_600 * SECOND
"""A Wednesday, 12:00 UTC."""


def prediction(
    at: int = NOON,
    *,
    channel: str = "C1",
    window: Sequence[tuple[int, str]] | None = None,
    people: Mapping[str, float] | None = None,
    conversations: Sequence[str] | None = None,
    texts: Sequence[str] = ("Is the build red?",),
    **more: Any,
) -> dict[str, Any]:
    """One, of which `ana`'s question at `at` is the newest message."""
    window = window or [(at, "ana")]
    names = conversations or [f"{channel}:{ts_text(window[0][0])}:session"]
    point = {
        "id": f"{channel}-{at}-{len(window)}",
        "spec": Rules().spec,
        "target": "next_user",
        "scope": "conversation",
        "channel": channel,
        "conversations": list(names),
        "speakers": 1,
        "root_missing": False,
        "prompt_ts": ts_text(at),
        "window": [{"ts": ts_text(ts), "user": user} for ts, user in window],
        "prompt": "\n\n".join(texts) + "\n\n###\n\n",
        "prompt_tokens": 5,
    }
    said = Probabilities(list((people or {"bo": 0.8}).items()), 0.1, 0.1)
    return {**prediction_body(point, "m", "judge", said, most=40), "fresh": True, **more}


def outcome(point: Mapping[str, Any], after: int, *answer: str, how: str | None = None, conversation: str | None = None) -> dict[str, Any]:
    """What happened `after` a prediction: somebody answered, or nobody did, unless it ended otherwise (`how`)."""
    at = ts_text(int(point["prompt_ts"].replace(".", "")) + after)
    return {
        "id": point["id"], "channel": point["channel"], "conversation": conversation or point["conversations"][0],
        "how": how or ("answered" if answer else "silent"), "answer": list(answer), "prompt_ts": point["prompt_ts"],
        "answer_ts": at if answer else None, "settled_ts": at, "part": point["part"],
    }  # fmt: skip


def deletion(ts: int = NOON, channel: str = "C1", *, at: int | None = None) -> dict[str, Any]:
    """A deletion of the message `ts`, as the scoring flow writes it; a second later, or `at`."""
    written: dict[str, Any] = json.loads(deletion_bytes(MessageDeleted(channel, ts, ts + SECOND if at is None else at)))
    return written


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
        return self.asked.get(user, Preferences())

    def topics(self) -> Collection[tuple[str, str]]:
        return self.asked_topics

    def took_part(self, user: str, conversations: Sequence[str], session_gap: int) -> bool:
        return any(user in self.speakers.get(each, ()) for each in conversations)

    def session_of(self, thread: str) -> str | None:
        return self.sessions.get(thread)

    def was_alerted(self, user: str, keys: Sequence[str]) -> bool:
        return any((user, key) in self.alerted for key in keys)

    def direct_alerts(self, user: str, since: int) -> int:
        """How many direct messages a person got after `since`; older ones are dropped."""
        times = self.direct_times[user]
        while times and times[0] <= since:
            times.popleft()
        return len(times)

    def is_deleted(self, channel: str, ts: int) -> bool:
        return (channel, ts) in self.deleted

    def record_point(self, point: PredictedConversation) -> None:
        """Note who wrote where, after the point was decided on."""
        for conversation, user in participation(point):
            self.speakers[conversation].add(user)
        self.sessions.update(links_of(point))

    def record_alert(self, alert: Alert, now: int) -> None:
        """Note that a person was alerted at `now`."""
        self.alerted.update((alert.user, key) for key in alert.keys)
        if alert.way == "direct":
            self.direct_times[alert.user].append(now)


class Clock:
    """A time that a test sets; it goes on by itself as fast as the real one."""

    def __init__(self, at: int = NOON + 5 * SECOND) -> None:
        self.set(at)

    def set(self, at: int) -> None:
        """It is now this time."""
        self._at, self._since = at, time.monotonic()

    def __call__(self) -> int:
        return self._at + int((time.monotonic() - self._since) * SECOND)


class Office:
    """A store, a decider and a delivery, as the command wires them."""

    def __init__(self, folder: Path, slack: AlertedWorkspace | None = None, *, clock: Clock | None = None, **how: Any) -> None:
        self.clock = clock or Clock()
        self.policy = Policy(**{"threshold": 0.5, "list_from": 0.2} | how.pop("policy", {}))
        self.store = AlertStore(folder / "alerts.sqlite", now=how.pop("born", None))
        self.decider = AlertDecider(self.store, self.policy)
        self.slack = None if slack is None else SlackMessenger(TOKEN, slack.url, timeout=how.pop("timeout", 5))
        self.waits = {"release": Waits(), "message": Waits()}
        self.forwarded: list[dict[str, Any]] = []
        self.delivery = AlertDelivery(
            self.store,
            self.policy,
            how.pop("members", self.slack or Everybody()),
            self.slack,
            clock=self.clock,
            forward=self._forward,
            observe=lambda since, seconds: self.waits[since].add(seconds),
            **how,
        )

    def _forward(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        for each in alerts:
            check("alert", each)
            self.forwarded.append(dict(each))

    def apply(self, kind: str, value: Mapping[str, Any]) -> None:
        """In a transaction, as the command does it."""
        with self.store.transaction():
            self.decider.apply(kind, value, self.clock())

    def opt_in(self, *users: str, **wishes: Any) -> None:
        """Opt people in, with preferences."""
        for user in users:
            self.store.set_preferences(user, opted_in=1, **wishes)

    def work(self, until: Callable[[], object] | None = None, seconds: float = 20.0) -> None:
        """Until it is so, or nothing is left to do."""
        end = time.monotonic() + seconds * slowness()
        while not (until() if until is not None else self.delivery.is_idle() and not self.delivery.work()):
            assert time.monotonic() < end, (self.store.counts(), self.store.alert_states())
            self.delivery.work()
            time.sleep(0.01)

    @property
    def counts(self) -> dict[str, int]:
        """What was counted."""
        return self.store.counts()
