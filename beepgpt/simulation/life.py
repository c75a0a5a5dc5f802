"""A simulated workspace that goes on living: its Slack knows its past, and tells what happens as its clock passes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY
from beepgpt.simulation.bursts import SimulatedPost
from beepgpt.simulation.export import exported_message, listed_bots, listed_person
from beepgpt.simulation.history import HistoryEntry, acts, apply_act
from beepgpt.simulation.people import SimulatedChannel, SimulatedWorkspace
from beepgpt.simulation.plan import Plan
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from beepgpt.simulation.slack.server import SlackServer
from beepgpt.simulation.slack.workspace import TEAM
from beepgpt.simulation.slack_json import event_json

LIFE = Plan(
    seed=7,
    messages=10_500,
    days=270,
    start=datetime(2025, 12, 4, 20, tzinfo=UTC),
    channels=8,
    people=40,
    private=0.0,
    reply_delay=4.0,  # so that an alert, which takes the machine a second, may come before the answer
)
BORN = LIFE.start_us + 180 * DAY
"""When its history ends, after half a year, and its life begins: at four o'clock on a Tuesday in New York. Microseconds."""
ZONE = "America/New_York"
TICK = 0.02
"""Seconds between two looks at what is due."""


class LivingWorkspace:
    """The people and channels of a plan, in a Slack."""

    def __init__(self, plan: Plan, born: int, slack: tuple[SlackServer, AlertedWorkspace], now: Callable[[], int]) -> None:
        """Bring all that happened before `born` (microseconds) into the Slack's histories. `now`: its clock, microseconds."""
        self._workspace = workspace = SimulatedWorkspace(plan)
        server, alerted = slack
        self._chat, self._now = server.workspace, now
        server.workspace.clock, alerted.clock = now, lambda: now() / 1e6
        self._chat.users = [*(listed_person(workspace, index) for index in range(plan.people)), *listed_bots(workspace)]
        for user in self._chat.users:
            user["team_id"] = TEAM
            alerted.users[user["id"]] = user
        for channel in map(workspace.channel, range(plan.channels)):
            members = [workspace.people[who].id for who in workspace.members(channel)]
            self._chat.add_channel(channel.id, channel.name)
            self._chat.members[channel.id] = members
            alerted.channel(channel.id, *members)
        self._acts = acts(workspace, range(plan.channels))
        self._last: dict[int, int] = {}
        """When something happened last in each channel: no two things have one time there, and nothing has a time to come."""
        self._next = next(self._acts, None)
        while self._next is not None and self._next[1] < born:
            self._next = self._pass(self._next)

    @contextmanager
    def living(self) -> Iterator[None]:
        """Let happen what is due inside the `with` block, in a thread."""
        is_over = threading.Event()

        def live() -> None:
            while not is_over.wait(TICK):
                self.catch_up()

        thread = threading.Thread(target=live, name="life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def catch_up(self) -> None:
        """Let happen, and tell, all that is due by now. A message's time is when Slack gets it, as ever."""
        while self._next is not None and self._next[0] <= self._now():
            self.happen()

    def happen(self) -> None:
        """Let the next thing happen now, due or not. Raises StopIteration once the plan is over."""
        if self._next is None:
            raise StopIteration
        planned, _, channel, kind, post, detail = self._next
        channel.last = self._last[channel.index] = now = max(self._now(), self._last.get(channel.index, 0) + 1)
        if kind == "post":
            post.t = now
        event = json.loads(event_json(self._workspace, now, channel, kind, post, detail))
        with self._chat.lock:
            self._next = self._pass((planned, now, channel, kind, post, detail))
            self._chat.tell(event)

    def _pass(self, entry: HistoryEntry) -> HistoryEntry | None:
        """Apply an act, let the channel's history show it, and return the next one."""
        apply_act(entry)
        _, _, channel, _, post, _ = entry
        self._show(channel, post)
        if post.root is not None:
            self._show(channel, post.root)
        return next(self._acts, None)

    def _show(self, channel: SimulatedChannel, post: SimulatedPost) -> None:
        shown, there = exported_message(self._workspace, post), self._chat.messages[channel.id]
        if shown is None:
            there.pop(ts_text(post.t), None)
        else:
            there[ts_text(post.t)] = json.loads(shown)
