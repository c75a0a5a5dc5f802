"""The channels that the app is in; and questions to Slack's Web API, asked one after the other by a thread of their own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from beepgpt import clock
from beepgpt.connectors.slack.channel_kinds import kind_of
from beepgpt.conversations.events import asked_about, ts_text
from beepgpt.errors import SlackFailed, SlackRefused

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

KINDS = {"channels": "public_channel", "groups": "private_channel", "dms": "im", "mpims": "mpim"}
"""Slack's names for the kinds of channels in exports."""
UNKNOWN = "unknown"
"""Why the events of a channel are left out that Slack does not describe."""


def channel_of(event: Mapping[str, Any]) -> str | None:
    """The channel of an inner event; None if it concerns none.

    >>> channel_of({"type": "reaction_added", "item": {"type": "message", "channel": "C1", "ts": "1690360253.041239"}})
    'C1'
    >>> channel_of({"type": "channel_id_changed", "old_channel_id": "G1", "new_channel_id": "C1", "event_ts": "1690360253.041239"})
    'G1'
    """
    item = event.get("item")
    names = (event.get("channel"), event.get("channel_id"), event.get("old_channel_id"))
    for channel in (*names, item.get("channel") if isinstance(item, dict) else None):
        named = channel.get("id") if isinstance(channel, dict) else channel
        if isinstance(named, str) and named:
            return named
    return None


def check_not_removed(kind: str, event: Mapping[str, Any]) -> None:
    """Raise SlackFailed if an event says that the app was removed."""
    if kind != "app_uninstalled" and not (kind == "tokens_revoked" and (event.get("tokens") or {}).get("bot")):
        return
    raise SlackFailed(
        f"Slack says {kind}: the app was removed from the workspace. Its policy wants the workspace's data deleted within 14"
        " business days (docs/slack.md); to go on, install the app again and set the new token"
    )


class Channels:
    """Descriptions of the channels, and the rules that leave channels out.

    >>> channels = Channels(include=("channels",), shared=False)
    >>> channels.add([{"id": "C1"}, {"id": "C2", "is_private": True}])
    >>> channels.wanted(), channels.why_left_out("C2")
    (['C1'], 'groups')
    """

    def __init__(self, include: Iterable[str], shared: bool) -> None:
        self._include = tuple(include)
        self._shared = shared
        self._infos: dict[str, Mapping[str, Any]] = {}
        self._unknown: dict[str, float] = {}
        """Channels that Slack did not describe, and when it was asked, by the monotonic clock."""

    def __contains__(self, channel: str) -> bool:
        return channel in self._infos

    def __len__(self) -> int:
        return len(self._infos)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    @property
    def types(self) -> str:
        """The kinds of channels to list, for `users.conversations`."""
        return ",".join(KINDS[kind] for kind in self._include)

    def add(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """Add channels as the Web API describes them."""
        self._infos |= {str(info["id"]): info for info in infos}

    def add_unknown(self, channel: str) -> None:
        """Note that Slack does not describe a channel: it is asked again with the next event after `ASK_UNKNOWN` seconds."""
        self._unknown[channel] = time.monotonic()

    def replace(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """Know these channels and no others: one that isn't listed any more may have become private, and is asked about again."""
        self._infos = {str(info["id"]): info for info in infos}
        self._unknown = {}

    def note_type(self, channel: str, event: Mapping[str, Any]) -> None:
        """Learn from an event that its channel is private by now: Slack sends no other word of it.

        >>> channels = Channels(include=("channels",), shared=False)
        >>> channels.add([{"id": "C1"}])
        >>> channels.note_type("C1", {"type": "message", "channel": "C1", "channel_type": "group"})
        >>> channels.why_left_out("C1")
        'groups'
        """
        if event.get("channel_type") == "group" and (info := self._infos.get(channel)) is not None:
            self._infos[channel] = {**info, "is_private": True}

    def names(self) -> dict[str, str]:
        """All channels that the app is in, with their names; empty where Slack says none."""
        return {channel: str(info.get("name") or "") for channel, info in self._infos.items()}

    def kinds(self) -> dict[str, str]:
        """The channels that are written to the topic, with their kinds."""
        return {channel: kind_of(self._infos[channel]) for channel in self.wanted()}

    def wanted(self) -> list[str]:
        """The channels that are written to the topic."""
        return [channel for channel in self._infos if self.why_left_out(channel) is None]

    def followed(self) -> int:
        """How many channels the app is in, and that are written to the topic; may be called from another thread.

        Of one that it has left, Slack still says what it is.
        """
        return sum(info.get("is_member", True) and self.is_wanted(info) for info in list(self._infos.values()))

    def why_left_out(self, channel: str, payload: Mapping[str, Any] | None = None) -> str | None:
        """Why a channel's events, or this one, are left out; None if they are written, or if Slack is to be asked about the channel."""
        info = self._infos.get(channel)
        kind = "dms" if channel.startswith("D") else None if info is None else kind_of(info)
        if kind is not None and kind not in self._include:
            return kind
        flag = (payload or {}).get("is_ext_shared_channel")
        known = info or {}
        is_shared = flag if isinstance(flag, bool) else known.get("is_ext_shared") or known.get("is_pending_ext_shared")
        if is_shared and not self._shared:
            return "shared"
        asked = self._unknown.get(channel) if info is None else None
        return UNKNOWN if asked is not None and time.monotonic() - asked < ASK_UNKNOWN else None

    def why_never(self, channel: str) -> str | None:
        """Why a channel's events are left out once Slack was asked about it: nobody can say of an unknown one whether it is public.

        >>> channels = Channels(include=("channels",), shared=False)
        >>> channels.why_left_out("C1"), channels.why_never("C1")
        (None, 'unknown')
        """
        return self.why_left_out(channel) or (None if channel in self._infos else UNKNOWN)

    def is_wanted(self, info: Mapping[str, Any]) -> bool:
        """Whether the channel that the Web API describes so is written to the topic."""
        asked = Channels(self._include, self._shared)
        asked.add([info] if "id" in info else [])
        return bool(asked.wanted())


ASK_UNKNOWN = 60.0
"""Seconds for which Slack is not asked again about a channel that it did not describe: each question holds the heartbeats."""
ASK_AGAIN = 10.0
"""Seconds after a refusal."""

log = logging.getLogger(__name__)


class HistoryWindow(NamedTuple):
    """Which part of a channel's history to read; times are Slack's `ts`."""

    since: str
    """Messages may be missing from here on."""
    roots_since: str
    """Replies are looked for in threads whose root is not older."""
    replies_since: str
    """Replies are read from here on, for edits."""
    threads: list[str]
    """Threads with older roots that were replied to since then."""
    is_whole: Callable[[str, int, str], bool]
    """Whether a thread (its root, how many replies it has, the last one) is known: then it is not read."""


class HistoryAnswer(NamedTuple):
    """A channel's history, or only its description."""

    channel: str
    generation: int
    info: dict[str, Any] | None
    """The channel as `conversations.info` describes it; None: it was known already."""
    messages: list[dict[str, Any]]
    threads: set[str]
    """Roots of the threads whose replies are among them."""
    why_not: str
    """Slack's error code, if it refused."""
    forgotten: frozenset[int] = frozenset()
    """Messages that are not among them, since they are on the list of the forgotten, by `ts` in microseconds."""


@dataclass(eq=False)
class ThreadCheck:
    """A thread to be read again. All times in microseconds."""

    channel: str
    root: int
    since: int
    """Edits and deletions from here on may be missing."""
    is_asked: bool = False
    """Whether it is being read, or was."""
    replies_since: int = 0
    """Once it is: its replies from here on."""
    until: int = 0
    """Once it is: the replies up to here that are known are among them, unless they are deleted."""


class ThreadAnswer(NamedTuple):
    """A thread's replies."""

    check: ThreadCheck
    messages: list[dict[str, Any]]
    why_not: str
    """Slack's error code, if it refused."""
    forgotten: frozenset[int] = frozenset()
    """As in a `HistoryAnswer`."""


class ProbeAnswer(NamedTuple):
    """The last messages of some channels."""

    began: float
    messages: dict[str, list[dict[str, Any]]]


class ChannelListing(NamedTuple):
    """All channels that the app is in."""

    generation: int
    channels: list[dict[str, Any]]


class CheckAnswer(NamedTuple):
    """Whether the Web API answers; `why_not` is empty if it does."""

    why_not: str


class UserAnswer(NamedTuple):
    """Slack has said whether a user is a person: `SlackQueries.people` and `asked` have it."""

    user: str


NOBODY = frozenset({"user_not_found", "user_not_visible", "users_not_found"})
"""Slack's error codes for users whom nobody can know: their posts are judged by what the posts say."""


class SlackQueries:
    """Asks the Web API one question at a time, those first that live events wait for, and puts the answers into a queue.

    Questions that can wait are asked by a thread of their own, at half the rate at most.
    """

    def __init__(self, web: slack_live.Web, put: Callable[[Any], None]) -> None:
        self._web = web
        self._put = put
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], Any]]] = queue.PriorityQueue()
        self._can_wait: queue.Queue[tuple[int, int, Callable[[], Any]]] = queue.Queue()
        self._count = 0
        self._histories = self._threads_read = 0
        self.people: set[str] = set()
        """Users whom Slack called no bots."""
        self.asked: set[str] = set()
        """Users about whom Slack has answered."""
        self._asking: set[str] = set()
        self._threads = [
            threading.Thread(target=self._run, args=(jobs,), name=f"slack-{name}", daemon=True)
            for name, jobs in (("asker", self._jobs), ("checker", self._can_wait))
        ]

    def start(self) -> None:
        """Start asking."""
        for each in self._threads:
            each.start()

    def seconds_for(self, histories: int) -> float:
        """About how long it takes to read so many channels' histories, with as many threads as channels had so far."""
        threads = round(histories * self._threads_read / max(self._histories, 1))
        asked = {"conversations.history": histories, "conversations.replies": threads}
        return max(self._web.seconds_for(method, calls) for method, calls in asked.items())

    def seconds_for_threads(self, threads: int) -> float:
        """About how long it takes to read so many threads that can wait."""
        return self._web.seconds_for("conversations.replies", threads, can_wait=True)

    @property
    def clock_ahead(self) -> float:
        """Seconds that this machine's clock is ahead of Slack's."""
        return self._web.ahead

    def _run(self, jobs: queue.Queue[tuple[int, int, Callable[[], Any]]]) -> None:
        from beepgpt.connectors.slack.live import CallStopped, Failed

        while True:
            _, _, job = jobs.get()
            try:
                if (answer := job()) is not None:
                    self._put(answer)
            except CallStopped:
                return
            except Exception as error:
                self._put(Failed(error))

    def _ask(self, job: Callable[[], Any], priority: int) -> None:
        """Queue a question; a smaller priority is asked sooner."""
        self._count += 1
        self._jobs.put((priority, self._count, job))

    def read_history(
        self,
        channel: str,
        generation: int,
        window: HistoryWindow | None,
        *,
        is_ours: Callable[[Mapping[str, Any]], bool] | None,
        priority: int,
        is_wanted: Callable[[str, int], bool],
    ) -> None:
        """Read a channel's history; without a window only its description.

        `is_ours`: the channel is not known, and its history is read only if this is true of its description. `is_wanted` is called with
        channel and generation by the asking thread, just before it asks.
        """
        self._ask(partial(self._read_history, channel, generation, window, is_ours, is_wanted), priority)

    def _read_history(
        self,
        channel: str,
        generation: int,
        window: HistoryWindow | None,
        is_ours: Callable[[Mapping[str, Any]], bool] | None,
        is_wanted: Callable[[str, int], bool],
    ) -> HistoryAnswer | None:
        from beepgpt.connectors.slack.live import history

        if not is_wanted(channel, generation):
            return None
        self._histories += 1
        info: dict[str, Any] | None = None
        try:
            if is_ours is not None:
                info = described = self._web.ask("conversations.info", channel=channel).get("channel") or {}
                window = window if is_ours(described) else None
            if window is None:
                return HistoryAnswer(channel, generation, info, [], set(), "")
            read = history(self._web, channel, **window._asdict())
            self._threads_read += len(read.threads)
            self._learn_of(read.messages)
            return HistoryAnswer(channel, generation, info, read.messages, read.threads, "")
        except SlackRefused as refused:
            if refused.code == "invalid_cursor":  # it expired while we waited for our turn
                self.read_history(channel, generation, window, is_ours=is_ours, priority=0, is_wanted=lambda channel, generation: True)
                return None
            return HistoryAnswer(channel, generation, info, [], set(), refused.code)

    def check_thread(self, check: ThreadCheck, is_wanted: Callable[[ThreadCheck], bool]) -> None:
        """Read a thread's replies, when there is time; `is_wanted` is called by the asking thread, just before it asks."""
        from beepgpt.connectors.slack.live import thread

        def ask() -> ThreadAnswer | None:
            if not is_wanted(check):
                return None
            try:
                messages = thread(self._web, check.channel, ts_text(check.root), since=ts_text(check.replies_since), can_wait=True)
            except SlackRefused as refused:
                if refused.code == "invalid_cursor":  # it expired while we waited for our turn
                    self.check_thread(check, is_wanted)
                    return None
                return ThreadAnswer(check, [], refused.code)
            self._learn_of(messages)
            return ThreadAnswer(check, messages, "")

        self._can_wait.put((0, 0, ask))

    def _learn_of(self, messages: Iterable[dict[str, Any]]) -> None:
        for user in sorted({user for each in messages if (user := asked_about(each)) is not None}):
            self._learn(user)

    def ask_about(self, user: str) -> None:
        """Ask whether a user is a person; the answer is a `UserAnswer`."""

        def ask() -> UserAnswer:
            self._learn(user)
            return UserAnswer(user)

        if user not in self._asking:
            self._asking.add(user)
            self._ask(ask, 0)

    def _learn(self, user: str) -> None:
        """Learn whether a user is a person, once. While Slack refuses to say, wait and ask again: nothing of theirs is written yet."""
        while user not in self.asked:
            try:
                found = self._web.ask("users.info", user=user).get("user")
                if isinstance(found, dict) and found.get("is_bot") is False:
                    self.people.add(user)
            except SlackRefused as refused:
                if refused.code not in NOBODY:
                    log.warning("Slack does not say who posts through an app, and is asked again", extra={"why": refused.code})
                    self._web.pause(ASK_AGAIN)
                    continue
            self.asked.add(user)

    def list_channels(self, types: str, generation: int) -> None:
        """List the channels that the app is in."""
        self._ask(
            lambda: ChannelListing(
                generation, list(self._web.pages("users.conversations", "channels", types=types, exclude_archived=True))
            ),
            0,
        )

    def probe(self, channels: dict[str, str]) -> None:
        """Read the last messages of these channels, of each from a `ts` on."""
        self._ask(partial(self._probe, channels), 0)

    def _probe(self, channels: dict[str, str]) -> ProbeAnswer:
        began, found = clock.now(), {}
        for channel, since in channels.items():
            try:
                found[channel] = self._web.ask("conversations.history", channel=channel, oldest=since, limit=20).get("messages") or []
            except SlackRefused as refused:
                log.info("a channel could not be looked at", extra={"channel": channel, "why": refused.code})
        return ProbeAnswer(began, found)
