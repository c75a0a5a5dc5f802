"""What Slack's Web API is asked while events come, one thing after the other, and what it answers."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

log = logging.getLogger(__name__)


class Window(NamedTuple):
    """What of a history is to be looked at."""

    since: str
    """Something may be missing from here on."""
    roots_since: str
    """Replies are looked for in threads that are not older."""
    replies_since: str
    """So far back they are read, for edits."""
    threads: list[str]
    """Others that were replied to since then."""


class HistoryAnswer(NamedTuple):
    """What a history has, or what a channel is."""

    channel: str
    generation: int
    info: dict[str, Any] | None
    messages: list[dict[str, Any]]
    why_not: str


class Probed(NamedTuple):
    """The last messages of some channels."""

    began: float
    messages: dict[str, list[dict[str, Any]]]


class ChannelListing(NamedTuple):
    """All channels that the app is in."""

    generation: int
    channels: list[dict[str, Any]]


class Checked(NamedTuple):
    """Whether the Web API answers; why not, if it doesn't."""

    why_not: str


class SlackQueries:
    """Asks the Web API one thing after the other: first what live events wait for."""

    def __init__(self, web: slack_live.Web, put: Callable[[Any], None], is_wanted: Callable[[str, int], bool]) -> None:
        self._web = web
        self._put = put
        self._is_wanted = is_wanted
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], Any]]] = queue.PriorityQueue()
        self._count = 0
        self._thread = threading.Thread(target=self._run, name="slack-asker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        from beepgpt.connectors.slack.live import CallStopped, Failed

        while True:
            _, _, job = self._jobs.get()
            try:
                if (answer := job()) is not None:
                    self._put(answer)
            except CallStopped:
                return
            except Exception as error:
                self._put(Failed(error))

    def ask(self, job: Callable[[], Any], priority: int) -> None:
        """Soon; a smaller priority is sooner."""
        self._count += 1
        self._jobs.put((priority, self._count, job))

    def look(self, channel: str, generation: int, window: Window | None, *, is_known: bool, priority: int) -> None:
        """A channel's history; without a window: just what it is."""
        self.ask(partial(self._look, channel, generation, window, is_known), priority)

    def _look(self, channel: str, generation: int, window: Window | None, is_known: bool) -> HistoryAnswer | None:
        from beepgpt.connectors.slack.live import history
        from beepgpt.errors import SlackRefused

        if not self._is_wanted(channel, generation):
            return None
        info: dict[str, Any] | None = None
        try:
            if not is_known:
                info = self._web.ask("conversations.info", channel=channel).get("channel") or {}
            if window is None:
                return HistoryAnswer(channel, generation, info, [], "")
            return HistoryAnswer(channel, generation, info, history(self._web, channel, **window._asdict()), "")
        except SlackRefused as refused:
            if refused.code == "invalid_cursor":  # it ran out while we waited for our turn
                self.look(channel, generation, window, is_known=is_known, priority=0)
                return None
            return HistoryAnswer(channel, generation, info, [], refused.code)

    def list_channels(self, types: str, generation: int) -> None:
        """The channels that the app is in."""
        self.ask(
            lambda: ChannelListing(
                generation, list(self._web.pages("users.conversations", "channels", types=types, exclude_archived=True))
            ),
            0,
        )

    def probe(self, channels: dict[str, str]) -> None:
        """Whether the last messages of these have come, of each since some time."""
        self.ask(partial(self._probe, channels), 0)

    def _probe(self, channels: dict[str, str]) -> Probed:
        from beepgpt.errors import SlackRefused

        began, found = time.time(), {}
        for channel, since in channels.items():
            try:
                found[channel] = self._web.ask("conversations.history", channel=channel, oldest=since, limit=20).get("messages") or []
            except SlackRefused as refused:
                log.info("a channel could not be looked at", extra={"channel": channel, "why": refused.code})
        return Probed(began, found)
