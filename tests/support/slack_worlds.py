"""A live Slack in a day of its own: the real loop on Slack's own history, turned by hand, in a time that a test lets pass.

Kafka and HTTP are left out, since a world takes hours of its time and milliseconds of a test's: what stands on the topic is a list, and
Slack's answers come from the test server's methods without a socket. Both are real in tests/ingest/test_ingest_slack*.py.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from beepgpt.config.settings import read_settings
from beepgpt.connectors.log import OutgoingRecord, Record, Topic
from beepgpt.connectors.slack.live import Arrival, Down, Up, Web
from beepgpt.conversations.events import micros
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.rules import MINUTE, SECOND
from beepgpt.errors import SlackRefused
from beepgpt.ingest.slack import loop as slack_loop
from beepgpt.ingest.slack.known_records import read_contents
from beepgpt.ingest.slack.loop import SlackLoop, SlackPulse
from beepgpt.simulation.slack.server import BOT_TOKEN, ApiError, SlackServer
from beepgpt.simulation.slack.workspace import TEAM, ChatWorkspace
from tests.support import MONDAY_AT_TEN

CHANNELS = ("C1", "C2")


class Clock:
    """A time that passes when a test says so; in place of the module `time`."""

    def __init__(self) -> None:
        self.at = MONDAY_AT_TEN

    def __call__(self) -> int:
        return self.at

    def time(self) -> float:
        return self.at / 1e6

    monotonic = time


class Log:
    """A topic of one partition, and its writer."""

    most = 1 << 20

    def __init__(self, clock: Callable[[], int]) -> None:
        self.written: list[Record] = []
        self._clock = clock

    def send(self, messages: Iterable[OutgoingRecord]) -> None:
        for each in messages:
            self.written.append(Record(each.value, len(self.written), self._clock(), each.key, []))

    def flush(self) -> None: ...

    def records(self, _topic: str, *, back: int | None = None, starts: Mapping[int, int] | None = None) -> Iterator[tuple[int, Record]]:
        start = (starts or {}).get(0, 0) if back is None else max(len(self.written) - back, 0)
        return iter([(0, each) for each in self.written[start:]])

    def offsets_at(self, _topic: str, at: int) -> dict[int, int]:
        return {0: next((each.offset for each in self.written if each.timestamp >= at), len(self.written))}

    def bodies(self) -> list[dict[str, Any]]:
        """All records, in their order."""
        return [json.loads(each.value or b"{}") for each in self.written]


class Unwired(Web):
    """The Web API's client, which asks the server's methods without a socket."""

    def __init__(self, server: SlackServer) -> None:
        super().__init__(BOT_TOKEN, "http://127.0.0.1:9/api/", threading.Event())
        self._server = server

    def ask(self, method: str, *, can_wait: bool = False, **params: Any) -> dict[str, Any]:
        try:
            return self._server.methods[method]({name: str(value) for name, value in params.items() if value is not None})
        except ApiError as refused:
            raise SlackRefused(method, str(refused)) from None


class Line:
    """A connection; its last ping was answered now."""

    name = "1"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def good_until(self) -> float | None:
        return self._clock.time()

    def start(self) -> None: ...

    def close(self) -> None: ...

    def drop(self) -> None: ...


class World:
    """People, Slack and the loop; each method is a step. What is said takes a second."""

    def __init__(self, server: SlackServer, clock: Clock, log: Log) -> None:
        self.server, self.clock, self.log = server, clock, log
        self.slack = server.workspace = ChatWorkspace(self._happens, clock=clock)
        for channel in CHANNELS:
            self.slack.add_channel(channel)
        self.is_up = False
        self.on_its_way: list[dict[str, Any]] = []
        """Events that Slack has yet to deliver."""
        self.lost: list[tuple[int, dict[str, Any]]] = []
        """Changes that were not delivered, or taken by a process that was killed before it acknowledged them, with the time of the last
        heartbeat before that."""
        self._unacknowledged: dict[str, dict[str, Any]] = {}
        self._is_slow = False
        self.forgotten: Forgotten | None = None
        self.start()

    def start(self) -> None:
        """A new process begins with what stands on the topic, as after `kill -9`."""
        self._lose()
        self.lost += [(self.covered, event) for event in self._unacknowledged.values()]  # Slack would send most of them again
        self._unacknowledged.clear()
        self.came: queue.Queue[Any] = queue.Queue()
        self.answers: list[Any] = []
        """Threads that are read, and not handled yet."""
        contents = read_contents(self.log, Topic("events", "", 1))  # type: ignore[arg-type]
        ours, log, interactions = read_settings(environ={}).slack, self.log, Log(self.clock)
        asks = Unwired(self.server)
        lines, pulse = [Line(self.clock)], SlackPulse()
        self.loop = SlackLoop(
            *(ours, ("channels",), TEAM, contents, 1, log, interactions, asks, lines, self.came, pulse),  # type: ignore[arg-type]
            lambda: Log(self.clock),  # type: ignore[arg-type, return-value]
            forgotten=lambda: self.forgotten,
        )
        self.is_up = False

    @property
    def covered(self) -> int:
        return self.loop.coverage.covered or 0

    def _happens(self, event: dict[str, Any]) -> None:
        if not self.is_up:
            self.lost.append((self.covered, event))
        elif self._is_slow:
            self.on_its_way.append(event)
        else:
            self._deliver(event)
        self.clock.at += SECOND

    def _deliver(self, event: dict[str, Any]) -> None:
        payload = self.server.payload_of(event)
        name = payload["event_id"]
        self._unacknowledged[name] = event

        def acknowledge() -> None:
            self._unacknowledged.pop(name, None)

        self.came.put(Arrival("1", "events_api", payload, name, 0, self.clock.time(), acknowledge))

    def _lose(self) -> None:
        self.lost += [(self.covered, event) for event in self.on_its_way]
        self.on_its_way = []

    def turn(self) -> None:
        while not self.loop.turn(0):
            pass

    # What people do

    def post(self, channel: str, thread: int | None) -> None:
        """A message, or a reply to one of the last threads."""
        roots = [ts for ts, each in self.slack.messages[channel].items() if each.get("thread_ts") in (None, ts)][-4:]
        root = roots[thread % len(roots)] if roots and thread is not None else None
        self.slack.post(channel, "U1", f"said {len(self.slack.events)}", thread_ts=root)
        self.turn()

    def change(self, channel: str, which: int, *, is_deleted: bool) -> None:
        """Somebody edits or deletes one of the last messages, but no root, of which Slack would keep a tombstone."""
        messages = self.slack.messages[channel]
        chosen = [ts for ts, each in messages.items() if not (is_deleted and each.get("thread_ts") == ts)][-8:]
        if chosen and is_deleted:
            self.delete(channel, chosen[which % len(chosen)])
        elif chosen:
            self.slack.edit(channel, chosen[which % len(chosen)], f"edited {len(self.slack.events)}")
        self.turn()

    def delete(self, channel: str, ts: str) -> None:
        """A message is deleted; its thread has one reply less."""
        messages = self.slack.messages[channel]
        root = messages[ts].get("thread_ts")
        self.slack.delete(channel, ts)
        if root in messages:
            replies = [other for other, each in messages.items() if each.get("thread_ts") == root and other != root]
            messages[root] |= {"reply_count": len(replies), "latest_reply": max(replies, default=root)}

    # What Slack and the network do

    def slow(self) -> None:
        """From now on events are a little while on their way."""
        self._is_slow = True

    def pass_by(self, minutes: int) -> None:
        """Time passes; what was on its way comes first."""
        self._is_slow = False
        for event in self.on_its_way:
            self._deliver(event)
        self.on_its_way = []
        self.turn()
        self.clock.at += minutes * MINUTE + 15 * SECOND
        self.turn()

    def down(self) -> None:
        """The connection breaks; what was on its way is lost."""
        if self.is_up:
            self._lose()
            self.is_up = False
            self.came.put(Down("1", "it broke"))
            self.turn()

    def up(self) -> None:
        """It is connected, the channels are listed, and something comes, so that it is known to bring events."""
        if self.is_up:
            return
        self.came.put(Up("1", self.clock.time(), 1))
        self.is_up = True
        self.turn()
        self.slack.post("C1", "U2", f"said {len(self.slack.events)}")
        self.turn()

    def ask(self, most: int = 1) -> None:
        """Slack answers the next questions of those that live events wait for."""
        for _ in range(most):
            self._answer(self.loop._queries._jobs, self.came.put)
            self.turn()

    def read_thread(self) -> None:
        """A thread that can wait is read; the answer is handled later."""
        self._answer(self.loop._queries._can_wait, self.answers.append)

    def handle_threads(self) -> None:
        """What was read is handled."""
        for answer in self.answers:
            self.came.put(answer)
        self.answers = []
        self.turn()

    @staticmethod
    def _answer(jobs: queue.Queue[Any], put: Callable[[Any], None]) -> None:
        if not jobs.empty() and (answer := jobs.get_nowait()[2]()) is not None:
            put(answer)

    def settle(self) -> None:
        """All questions are answered, and heartbeats have passed all that was said."""
        self.up()
        self.pass_by(0)
        for _ in range(200):
            self.ask(20)
            self.read_thread()
            self.handle_threads()
            self.pass_by(0)
            if not self.loop.backfill.open_gaps and not self.loop.backfill.checks.left and not self.loop.backfill.is_starting:
                break
        else:
            raise AssertionError("it does not end")
        self.slack.post("C1", "U2", "the end")
        last = micros(self.slack.events[-1]["ts"])
        self.pass_by(1)
        assert self.covered > last, self.loop._pulse.missing


@contextmanager
def world_of(server: SlackServer) -> Iterator[World]:
    """A world on a server of which only the methods are used."""
    clock = Clock()
    log = Log(clock)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("connections", "loop", "web_queries"):
            patch.setattr(f"beepgpt.ingest.slack.{module}.time", clock)
        patch.setattr("beepgpt.clock.time", clock)
        patch.setattr(slack_loop, "HEARTBEAT_EVERY", 0.0)
        yield World(server, clock, log)
