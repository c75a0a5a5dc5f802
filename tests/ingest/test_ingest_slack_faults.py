"""The loop of `beepgpt ingest slack`, turned by hand on a real topic: what is lost on the way, comes late, or ends at the worst moment."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from beepgpt.config.settings import read_settings
from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection, KafkaLog
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.connectors.slack.live import Arrival, Down, Oversized, Up, Web
from beepgpt.conversations.events import micros
from beepgpt.conversations.record_order import heartbeat_record
from beepgpt.ingest.slack import event_writer as slack_coverage
from beepgpt.ingest.slack import loop as slack_loop
from beepgpt.ingest.slack.known_records import read_contents, record_of
from beepgpt.ingest.slack.loop import SlackLoop, SlackPulse
from beepgpt.ingest.slack.web_queries import CheckAnswer
from beepgpt.simulation.slack.server import BOT_TOKEN, ApiError, SlackServer
from beepgpt.simulation.slack.workspace import TEAM
from tests.ingest.test_ingest_slack import Place
from tests.support.broker import Broker
from tests.support.speed import wait_until

SETTINGS = {"BEEPGPT_SLACK__DELAY": "200ms", "BEEPGPT_SLACK__CHECK": "300ms", "BEEPGPT_SLACK__CALLS_PER_MINUTE": "100000"}


@pytest.fixture
def place(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Heartbeats as often as they are true."""
    monkeypatch.setattr(slack_loop, "HEARTBEAT_EVERY", 0.0)
    return Place(Connection(broker.bootstrap), partitions=1)


class ByHand:
    """A line that brings what a test says, and answers every ping."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dropped = 0

    @property
    def good_until(self) -> float | None:
        return time.time()

    def start(self) -> None: ...

    def close(self) -> None: ...

    def drop(self) -> None:
        self.dropped += 1


class Turned:
    """The loop, of which each turn is a test's; it ends as by `kill -9`."""

    def __init__(self, server: SlackServer, place: Place, lines: str) -> None:
        self.server, self.place = server, place
        self.lines = {name: ByHand(name) for name in lines}
        self.came: queue.Queue[Any] = queue.Queue()
        self.stopping = threading.Event()
        self.acknowledged: list[str] = []
        self.writers = [kafka.Writer(place.connection, name) for name in (place.events, place.interactions)]
        web = Web(BOT_TOKEN, server.base_url, self.stopping, per_minute=100_000)
        web.ask("auth.test")
        contents = read_contents(KafkaLog(place.connection), kafka.describe_topic(place.connection, place.events))
        ours = read_settings(environ=SETTINGS).slack
        events, interactions = self.writers
        ways, pulse = self.lines.values(), SlackPulse(asked_within=60)

        def dead_letters() -> kafka.Writer:
            return kafka.Writer(place.connection, place.dead_letters)

        self.live = SlackLoop(
            ours, ("channels",), TEAM, contents, place.partitions, events, interactions, web, ways, self.came, pulse, dead_letters
        )
        self.live.start()

    def up(self, *names: str) -> None:
        for name in names or tuple(self.lines):
            self.came.put(Up(name, time.time(), len(self.lines)))

    def down(self, name: str = "1") -> None:
        self.came.put(Down(name, "it broke"))

    def bring(self, event: dict[str, Any], line: str = "1") -> None:
        """An event comes."""
        payload = self.server.payload_of(event)
        name = payload["event_id"]
        self.came.put(Arrival(line, "events_api", payload, name, 0, time.time(), lambda: self.acknowledged.append(name)))

    def until(self, is_so: Callable[[], object], what: str) -> None:
        def turned() -> bool:
            self.live.turn(0.01)
            return bool(is_so())

        wait_until(turned, what, 20)

    def until_promised(self, ts: str | None = None) -> None:
        """Heartbeats say that all is here up to then; or that it is up to now."""
        at = micros(ts or "0000000000")
        self.until(lambda: (self.live.coverage.covered or 0) > at and not self.live._pulse.missing, "heartbeats are written")

    def close(self) -> None:
        self.stopping.set()
        for writer in self.writers:
            writer.close()


@contextmanager
def turned(server: SlackServer, place: Place, lines: str = "1") -> Iterator[Turned]:
    server.workspace.tell = lambda event: None
    turning = Turned(server, place, lines)
    try:
        yield turning
    finally:
        turning.close()


def posted(turning: Turned, text: str, *, comes: bool = True, line: str = "1", **more: Any) -> str:
    """Somebody says something, and it comes, or not; its `ts`."""
    slack = turning.server.workspace
    ts = slack.post("C1", "U1", text, **more)
    if comes:
        turning.bring(slack.events[-1], line)
    return ts


def begun(turning: Turned) -> str:
    """Connected, a first message has come, and heartbeats are written; its `ts`."""
    turning.up()
    ts = posted(turning, "first")
    for name in turning.lines:
        turning.bring(turning.server.workspace.events[-1], name)
    turning.until_promised(ts)
    return ts


# What is acknowledged, and what is promised


def test_a_heartbeat_promises_nothing_that_came_while_it_was_flushed(
    slack_server: SlackServer, place: Place, monkeypatch: pytest.MonkeyPatch
):
    """The log is slow to confirm: what Slack sends meanwhile is not written yet, and would be late behind such a heartbeat."""
    slack_server.workspace.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        writer, delay = turning.live.writer, turning.live._connections._delay
        flush, came = writer.flush, list[str]()

        def slow_flush() -> None:
            flush()
            if not came:
                came.append(posted(turning, "said meanwhile"))
                time.sleep(delay + 0.5)

        monkeypatch.setattr(writer, "flush", slow_flush)
        turning.live.turn(0)

        assert (turning.live.coverage.covered or 0) < micros(came[0])
        turning.until_promised(came[0])

    assert "said meanwhile" in place.said()


@pytest.mark.parametrize("kind", ["event", "interaction", "too large"])
def test_what_is_acknowledged_stands_on_its_topic(slack_server: SlackServer, place: Place, monkeypatch: pytest.MonkeyPatch, kind: str):
    """Slack forgets what was acknowledged: before that it is confirmed, and waits in no queue that a kill would empty."""
    monkeypatch.setattr("beepgpt.connectors.kafka.writer.LINGER_MS", 60_000)
    topic = {"event": place.events, "interaction": place.interactions, "too large": place.dead_letters}[kind]
    there: list[int] = []

    def records_there() -> int:
        found = [record.value or b"" for _, record in kafka.records_of(place.connection, topic)]
        return sum(b"heartbeat" not in each and b"first" not in each for each in found)

    def acknowledge() -> None:
        there.append(records_there())

    slack = slack_server.workspace
    slack.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        if kind == "event":
            slack.post("C1", "U1", "second")
            turning.came.put(Arrival("1", "events_api", slack_server.payload_of(slack.events[-1]), "Ev2", 0, time.time(), acknowledge))
        elif kind == "interaction":
            payload = {"type": "block_actions", "user": {"id": "U1"}, "trigger_id": "1.2", "actions": []}
            turning.came.put(Arrival("1", "interactive", payload, "In1", 0, time.time(), acknowledge))
        else:
            turning.came.put(Oversized("1", b"its beginning", 5 << 20, 0, time.time(), acknowledge))
        turning.until(lambda: there, "it is acknowledged")
    assert there == [1]


def test_a_heartbeat_counts_where_every_partition_has_it(broker: Broker):
    """A kill amid a heartbeat: what came between this one and the one before may be missing where it did not come."""
    place = Place(Connection(broker.bootstrap), partitions=3)
    first, second = 1_700_000_000_000_000, 1_700_000_001_000_000
    with kafka.Writer(place.connection, place.events) as writer:
        for at, partitions in ((first, (0, 1, 2)), (second, (0, 2))):
            writer.send(OutgoingRecord(None, heartbeat_record(at), (), number, at) for number in partitions)
    topic = kafka.describe_topic(place.connection, place.events)

    assert read_contents(KafkaLog(place.connection), topic).covered == first
    with kafka.Writer(place.connection, place.events) as writer:
        writer.send([OutgoingRecord(None, heartbeat_record(second), (), 1, second)])
    assert read_contents(KafkaLog(place.connection), topic).covered == second


# Deaf connections


def test_a_connection_that_goes_deaf_after_it_brought_events_is_noticed(slack_server: SlackServer, place: Place):
    """It answers pings, so heartbeats go on; what it did not bring is seen in the history, and filled in."""
    slack_server.workspace.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        turning.until_promised(posted(turning, "unheard", comes=False))
        time.sleep(0.4)
        turning.came.put(CheckAnswer(""))
        turning.until(lambda: turning.lines["1"].dropped, "the connection is replaced")
        turning.down()
        turning.up()
        turning.until(lambda: place.said() == ["first", "unheard"], "it is filled in")


def test_a_deaf_connection_is_noticed_beside_one_that_is_not(slack_server: SlackServer, place: Place):
    """The other one brings events all the time."""
    slack_server.workspace.add_channel("C1")
    with turned(slack_server, place, "12") as turning:
        begun(turning)
        posted(turning, "unheard", comes=False)
        for _ in range(5):
            time.sleep(0.1)
            posted(turning, "heard", line="1")
        turning.came.put(CheckAnswer(""))
        turning.until(lambda: turning.lines["2"].dropped, "the silent connection is replaced")
        assert not turning.lines["1"].dropped


def test_a_promise_that_was_not_kept_is_taken_back_on_the_topic(slack_server: SlackServer, place: Place, monkeypatch: pytest.MonkeyPatch):
    """Killed between the discovery and the fill: the next start begins before what is missing, not at the heartbeat that was wrong."""
    monkeypatch.setattr(slack_coverage, "GAP_MARGIN", 0)
    slack_server.workspace.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        missed = posted(turning, "unheard", comes=False)
        slack_server.workspace.clock = lambda: time.time_ns() // 1000 + 100_000
        turning.until_promised(missed)
        turning.live.coverage.covered = micros(missed) + 6_000_000  # as if heartbeats had gone on for a while
        turning.live.writer.write_heartbeat(micros(missed) + 6_000_000)
        monkeypatch.setattr(slack_coverage, "GAP_MARGIN", 60_000_000)
        time.sleep(0.4)
        turning.came.put(CheckAnswer(""))
        turning.until(lambda: turning.lines["1"].dropped, "the connection is replaced")
    monkeypatch.setattr(slack_coverage, "GAP_MARGIN", 0)
    with turned(slack_server, place) as turning:
        turning.up()
        turning.until(lambda: turning.live.account["fills"], "the channel is looked through")
        assert place.said() == ["first", "unheard"]


# What comes late


def test_what_slack_had_not_delivered_when_the_connection_broke_is_not_lost(slack_server: SlackServer, place: Place):
    """Slack takes up to eight minutes at times: a heartbeat has passed it by then. It is late in flows, and it is there."""
    slack_server.workspace.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        ts = posted(turning, "slow", comes=False)
        turning.live.writer.write_heartbeat(micros(ts) + 8 * 60_000_000)
        turning.down()
        turning.up()
        turning.until(lambda: turning.live.account["fills"], "the channel is looked through")
        assert place.said() == ["first", "slow"]
        turning.bring(slack_server.workspace.events[-1])
        turning.until(lambda: len(turning.acknowledged) == 3, "it comes after all, and is acknowledged")
    assert place.said() == ["first", "slow"]


def test_what_was_said_before_the_topic_began_or_the_app_was_invited_is_not_filled_in(slack_server: SlackServer, place: Place):
    """Neither after an outage nor after a restart, and it makes no connection look silent."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    slack.add_channel("C2", is_member=False)
    slack.post("C1", "U1", "before the topic")
    slack.post("C2", "U1", "before the app")
    time.sleep(0.01)
    with turned(slack_server, place) as turning:
        begun(turning)
        slack.channels["C2"]["is_member"] = True
        slack.post("C2", "U1", "after")
        turning.bring(slack.events[-1])
        turning.until_promised(slack.events[-1]["ts"])
        time.sleep(0.4)
        turning.came.put(CheckAnswer(""))
        turning.until(lambda: slack_server.asked["conversations.history"] and not turning.live.silence_check.is_probing, "it is looked")
        assert not turning.lines["1"].dropped
        turning.down()
        turning.up()
        turning.until(lambda: turning.live.account["fills"] == 2, "channels are looked through")
        turning.until_promised()
    slack.channels["C2"]["is_member"] = False
    with turned(slack_server, place) as turning:
        turning.up()
        turning.until(lambda: turning.live.account["fills"], "the channel is looked through again")
    assert place.said() == ["first", "after"]


def test_a_clock_that_was_set_back_makes_no_gap_that_nobody_fills(slack_server: SlackServer, place: Place):
    """The last heartbeat is in the future of the machine that goes on, and what was said since is filled in all the same."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        turning.live.writer.write_heartbeat(time.time_ns() // 1000 + 30_000_000)
    slack.clock = lambda: time.time_ns() // 1000 + 60_000_000
    slack_server.date_ahead = -60
    slack.post("C1", "U1", "a minute ahead of this machine")
    with turned(slack_server, place) as turning:
        turning.up()
        turning.until(lambda: turning.live.backfill.is_complete, "it is connected")
        assert place.said() == ["first", "a minute ahead of this machine"]


def test_the_channels_of_an_export_are_compared_at_the_start(slack_server: SlackServer, place: Place, capfd: pytest.CaptureFixture[str]):
    """On a topic that has events and no heartbeats; a later start has nothing to say."""
    slack = slack_server.workspace
    for channel in ("C1", "C2"):
        slack.add_channel(channel)
    with kafka.Writer(place.connection, place.events) as writer:
        event = {"type": "message", "user": "U1", "text": "exported", "ts": slack.now()}
        for channel in ("C1", "C9"):
            record = record_of({"type": "event_callback", "event": event | {"channel": channel}}, micros(event["ts"]))
            writer.send([OutgoingRecord(channel.encode(), record)])
    for said in (1, 0):
        with turned(slack_server, place) as turning:
            begun(turning)
        printed = " ".join(capfd.readouterr().err.split())
        assert printed.count("Without history on the topic: 1 channels (#c2)") == said
        assert printed.count("On the topic and not followed: C9") == said


# In the midst of a fill


def test_an_answer_from_before_another_outage_lets_nothing_overtake(slack_server: SlackServer, place: Place):
    """Two connections; one breaks again while a history is read: what came over the other waits for what was lost meanwhile."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    read, go_on = threading.Event(), threading.Event()
    history = slack_server.methods["conversations.history"]

    def slow(given: dict[str, str]) -> dict[str, Any]:
        answer = history(given)
        read.set()
        go_on.wait(20)
        return answer

    with turned(slack_server, place, "12") as turning:
        begun(turning)
        slack_server.methods["conversations.history"] = slow
        turning.down("1")
        turning.up("1")
        turning.until(read.is_set, "the history is read")
        posted(turning, "held", line="2")
        turning.down("1")
        posted(turning, "lost", comes=False)
        posted(turning, "behind it", line="2")
        turning.live.turn(0)
        go_on.set()
        time.sleep(0.5)
        turning.live.turn(0.5)
        turning.up("1")
        turning.until(lambda: len(place.said()) == 4, "all is there")
    assert place.said() == ["first", "held", "lost", "behind it"]


def test_a_channel_that_was_archived_meanwhile_is_looked_through_too(slack_server: SlackServer, place: Place):
    """It is in no list any more, and its last words are on the topic all the same."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
    slack.post("C1", "U1", "goodbye")
    slack.channels["C1"]["is_archived"] = True
    with turned(slack_server, place) as turning:
        turning.up()
        turning.until(lambda: turning.live.backfill.is_complete, "it is connected")
    assert place.said() == ["first", "goodbye"]


def test_what_was_edited_or_deleted_in_a_gap_is_found_in_threads_too(slack_server: SlackServer, place: Place):
    """The edit of a reply is written, though nobody replied since; what is gone is counted. An edit that comes again is known."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    with turned(slack_server, place) as turning:
        root = begun(turning)
        reply = posted(turning, "a reply", thread_ts=root)
        gone = posted(turning, "to go", thread_ts=root)
        also = posted(turning, "to go, too")
        turning.until_promised(also)
        turning.live.writer.write_heartbeat(micros(also) + 20_000_000)
        slack.clock = lambda: time.time_ns() // 1000 + 30_000_000
        turning.down()
        slack.edit("C1", reply, "a better reply")
        edit = slack.events[-1]
        slack.delete("C1", gone)
        slack.delete("C1", also)
        turning.up()
        turning.until(lambda: turning.live.account["vanished"] == 2, "the channel is looked through, and then its thread")
        turning.bring(edit)
        turning.until(lambda: len(turning.acknowledged) == 6, "the edit comes again, and is acknowledged")
        assert turning.live.account["vanished"] == 2
    changed = [each["event"]["message"] for each in place.bodies() if each["event"].get("subtype") == "message_changed"]
    assert [(each["ts"], each["text"]) for each in changed] == [(reply, "a better reply")]


def test_a_cursor_that_ran_out_does_not_end_a_fill(slack_server: SlackServer, place: Place):
    """The history is read again from its first page; nothing of it is given up."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        turning.down()
        texts = [f"in the gap {number}" for number in range(20)]
        for text in texts:
            posted(turning, text, comes=False)
        history = slack_server.methods["conversations.history"]
        asked: list[str | None] = []

        def forgetful(given: dict[str, str]) -> dict[str, Any]:
            asked.append(given.get("cursor"))
            if len(asked) == 2:
                raise ApiError("invalid_cursor")
            return history(given)

        slack_server.methods["conversations.history"] = forgetful
        turning.up()
        turning.until(lambda: turning.live.backfill.is_complete, "the channel is looked through")
    assert place.said() == ["first", *texts]
    assert not turning.live.account["fills_refused"]
