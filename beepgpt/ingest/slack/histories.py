"""A run of `beepgpt history`: the channels' histories, from Slack's Web API, into a folder that is shaped like a Slack export."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from beepgpt.clock import now_us
from beepgpt.config.sections import microseconds, microseconds_of_moment
from beepgpt.config.settings import Settings, revealed
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.rules import SECOND
from beepgpt.errors import BadCommand, SlackFailed, SlackRefused
from beepgpt.figures import about, counted
from beepgpt.ingest.slack.backfill import histories
from beepgpt.ingest.slack.history_folder import HistoryFolder
from beepgpt.ingest.slack.history_notes import note_on_no_channel, time_text
from beepgpt.ingest.slack.run import bot_token_of, team_of
from beepgpt.ingest.slack.web_queries import Channels
from beepgpt.packages import needing
from beepgpt.runtime.console import console
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.places import print_proxy
from beepgpt.runtime.workers import interruptible

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

SAY_EVERY = 60.0
"""Seconds between two lines about a channel that takes long."""
TRIES = 3
"""How often a channel is begun whose cursor expired while calls had to wait."""
SAID = ("text", "edited", "blocks", "attachments", "comment", "file", "files")
"""What an edit changes of a message, and the mark that it was edited."""
LIMITS = (
    "Slack permits an internal app about 50 calls of a method a minute, each with up to 999 messages; an app that is distributed outside"
    " of its Marketplace, 1 a minute with 15 (docs/slack.md)."
)


@dataclass(frozen=True)
class HistoryJob:
    """The arguments of `beepgpt history`."""

    to: Path
    since: str
    """A duration before the first start, or a time."""
    include: tuple[str, ...]
    settings: Settings


def read_histories(job: HistoryJob) -> dict[str, Any]:
    """Read what is not in the folder yet; returns the report. Raises BadCommand, SlackFailed or Interrupted."""
    since = beginning_of("--since", job.since, now_us())
    ours, folder = job.settings.slack, HistoryFolder(job.to)
    token = bot_token_of(ours)
    with needing("beepgpt history", "slack"):
        from beepgpt.connectors.slack import live as slack_live
    outbound = slack_live.slack_outbound(revealed(ours.proxy))
    print_proxy(outbound, ours.base_url)
    web = slack_live.Web(token, ours.base_url, threading.Event(), ours.calls_per_minute, outbound=outbound)
    with interruptible("interrupted: the channels that are whole are kept, and the same command goes on with the others"):
        asked = {"--since": job.since, "--include": ",".join(job.include), "slack.shared": str(ours.shared).lower()}
        asked["workspace"] = team_of(web, job.include)
        until = (now_us() - int(web.ahead * 1e6)) // SECOND * SECOND - 1  # so that an edit's whole second is before it or behind it
        held = folder.take()
        try:
            folder.begin(asked, since, until)
            if not folder.is_whole:
                HistoryReader(web, folder, job.include, ours.shared, forgotten_of(job.settings)).run()
        finally:
            os.close(held)
    return report_of(folder)


def beginning_of(flag: str, since: str, now: int) -> int:
    """The time that a flag names, in microseconds: a duration before now, or a time. Raises BadCommand.

    >>> [time_text(beginning_of("--since", since, micros("1690360253.041239"))) for since in ("7d", "2023-07-01")]
    ['2023-07-19 08:30:53 UTC', '2023-07-01 00:00:00 UTC']
    """
    for parse in (lambda text: now - microseconds(text), microseconds_of_moment):
        with suppress(ValueError):
            if (at := parse(since)) is not None and at < now:
                return max(at, 0)
    raise BadCommand(f"{flag} {since}: a duration like 180d is expected, or a time before now, like 2026-01-31")


def report_of(folder: HistoryFolder) -> dict[str, Any]:
    """What is there."""
    read = folder.read.values()
    return {
        "command": "history",
        "to": str(folder.path),
        "since": ts_text(folder.since),
        "until": ts_text(folder.until),
        "channels": len(read),
        "messages": sum(each["messages"] for each in read),
        "first": min((each["first"] for each in read if each["first"]), default=None),
        "last": max((each["last"] for each in read if each["last"]), default=None),
        "refused": dict(folder.refused),
    }


class HistoryReader:
    """Fills a folder with what the channels' histories have from its `since` to its `until`."""

    def __init__(
        self, web: slack_live.Web, folder: HistoryFolder, include: Iterable[str], shared: bool, forgotten: Forgotten | None
    ) -> None:
        self._web, self._folder, self._forgotten = web, folder, forgotten
        self._include = tuple(include)
        self._channels = Channels(self._include, shared)
        self._names: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._done = 0
        """Channels that this run has read."""
        self._began = self._said = time.monotonic()

    def run(self) -> None:
        """Read all channels, and those that the app was added to meanwhile; then list them, as they are by then."""
        listed, left = self._listed()
        self._print_beginning(len(listed), len(left))
        while left:
            in_order = self._by_activity(left)
            for number, channel in enumerate(in_order, 1):
                self._read(channel, len(in_order) - number)
            listed, left = self._listed()
        if not self._folder.read:
            return
        with_members = ({**each, "members": list(self._members(channel))} for channel, each in listed.items())
        self._folder.list_channels(self._without_forgotten(with_members), self._include)
        self._folder.list_people(self._without_forgotten(self._web.pages("users.list", "members")))
        self._folder.finish({self._names[channel]: code for channel, code in self._refused.items()})

    def _print_beginning(self, channels: int, left: int) -> None:
        begins, ends = time_text(self._folder.since), time_text(self._folder.until)
        there = f"; {channels - left:,} are there already" if left < channels else ""
        console.print(LIMITS)
        least = about(self._web.seconds_for("conversations.history", 2 * left))
        threads = f"a minute more for every {self._web.per_minute:,} threads"
        console.print(f"From {begins} to {ends}: the {histories(left)} to be read, {least}, and {threads}{there}.")

    def _listed(self) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """The channels that are wanted, as Slack describes them, and those that are to be read; what the folder has of others is removed.

        Raises SlackFailed if none is wanted.
        """
        found = list(self._web.pages("users.conversations", "channels", types=self._channels.types, exclude_archived=True))
        self._channels.replace(found)
        wanted = set(self._channels.wanted())
        listed = {str(each["id"]): each for each in self._without_forgotten(found) if each["id"] in wanted}
        self._names |= {channel: f"#{each['name']}" if each.get("name") else channel for channel, each in listed.items()}
        if not listed:
            raise SlackFailed(f"{note_on_no_channel(len(found))}, and give the same command again")
        self._folder.keep_only(listed)
        self._folder.list_channels(listed.values(), self._include)
        return listed, [channel for channel in listed if channel not in self._folder.read and channel not in self._refused]

    def _without_forgotten(self, entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for each in entries:
            kept = each if self._forgotten is None else self._forgotten.without(each)
            if kept is not None:
                yield kept

    def _by_activity(self, channels: Iterable[str]) -> list[str]:
        """The channels in which something was said, those first in which the last message is the newest; the others are done."""
        latest: dict[str, str] = {}
        for channel in channels:
            try:
                found = self._web.ask("conversations.history", **self._asked(channel), limit=1).get("messages")
            except SlackRefused as refused:
                self._refuse(channel, refused.code)
                continue
            if found:
                latest[channel] = str(found[0].get("ts"))
            else:
                self._folder.put(channel, {})
        return sorted(latest, key=latest.__getitem__, reverse=True)

    def _read(self, channel: str, left: int) -> None:
        """Read a channel, unless Slack refuses it by now. `left`: how many are to be read after it."""
        for tries in range(TRIES):
            try:
                messages = self._messages_of(channel, left)
            except SlackRefused as refused:
                if refused.code == "invalid_cursor" and tries < TRIES - 1:  # it expired while calls had to wait
                    continue
                self._refuse(channel, refused.code)
                return
            break
        self._folder.put(channel, messages)
        self._done += 1
        rest = f"{counted(left, 'more channel')}, {about(self._seconds_for(left))}" if left else "the last channel"
        console.print(f"{self._names[channel]}: {counted(len(messages), 'message')}; {rest}")

    def _refuse(self, channel: str, code: str) -> None:
        self._refused[channel] = code
        console.print(f"{self._names[channel]} could not be read: {code}")

    def _seconds_for(self, channels: int) -> float:
        """About how long so many channels take: by what the calls for them will have to wait, and by what others took so far."""
        calls = self._web.calls_here()
        waits = (
            self._web.seconds_for(method, round(calls[method, "ok"] / self._done * channels))
            for method in ("conversations.history", "conversations.replies")
        )
        return max((time.monotonic() - self._began) / self._done * channels, *waits)

    def _messages_of(self, channel: str, left: int) -> dict[str, bytes]:
        """All that was said in a channel, encoded, by `ts`: what stands there, and the replies of the threads that are seen there.

        `left`: how many channels are to be read after it.
        """
        from beepgpt.connectors.slack.live import thread

        name, found = self._names[channel], dict[str, bytes]()
        then = f"; then {counted(left, 'more channel')}" if left else ""
        roots: set[str] = set()
        for message in self._web.pages("conversations.history", "messages", **self._asked(channel)):
            self._keep(found, channel, message)
            if message.get("thread_ts") and message.get("reply_count") != 0:
                roots.add(str(message["thread_ts"]))
            self._say(lambda: f"{name}: {len(found):,} messages so far{then}")
        for threads, root in zip(range(len(roots) - 1, -1, -1), sorted(roots), strict=True):
            for message in thread(self._web, channel, root, since=ts_text(self._folder.since)):
                self._keep(found, channel, message)
            self._say(partial(self._threads_left, name, threads, then))
        return found

    def _threads_left(self, name: str, threads: int, then: str) -> str:
        seconds = about(self._web.seconds_for("conversations.replies", threads))
        return f"{name}: {counted(threads, 'thread')} still to be read, {seconds}{then}"

    def _asked(self, channel: str) -> dict[str, Any]:
        return {"channel": channel, "oldest": ts_text(self._folder.since), "latest": ts_text(self._folder.until), "inclusive": True}

    def _keep(self, found: dict[str, bytes], channel: str, message: dict[str, Any]) -> None:
        """Keep a message of the time that is asked for, without what is forgotten. A broadcast reply comes twice."""
        ts = str(message.get("ts"))
        if (at := time_in(message)) is None:
            console.print(f"{self._names[channel]}: a message without a time is left out")
        if at is None or ts in found or not self._folder.since <= at <= self._folder.until:
            return
        message = as_known(message, self._folder.until)
        kept = message if self._forgotten is None else self._forgotten.without(message, channel)
        if kept is not None:
            found[ts] = orjson.dumps(kept)

    def _members(self, channel: str) -> list[Any]:
        """Who is in a channel; nobody, if Slack doesn't say."""
        try:
            return list(self._web.pages("conversations.members", "members", channel=channel))
        except SlackRefused:
            return []

    def _say(self, words: Callable[[], str]) -> None:
        """Print where a channel stands that takes long, now and then."""
        if time.monotonic() >= self._said + SAY_EVERY:
            self._said = time.monotonic()
            console.print(words())


def time_in(value: Any) -> int | None:
    """The time of a message, or of an edit, in microseconds; None if it has none that can be read."""
    try:
        return micros(value["ts"])
    except (KeyError, TypeError, ValueError):
        return None


def as_known(message: dict[str, Any], until: int) -> dict[str, Any]:
    """A message as it was at a time: if it was edited later, nobody knows what it said before.

    >>> as_known({"ts": "1690360253.041239", "text": "now", "edited": {"ts": "1690360300.000000"}}, 1_690_360_260_000_000)
    {'ts': '1690360253.041239', 'text': None}
    """
    edited_at = time_in(message.get("edited"))
    if edited_at is None or edited_at <= until:
        return message
    return {name: value for name, value in message.items() if name not in SAID} | {"text": None}
