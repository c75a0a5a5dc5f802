"""How long an outage silences channels, where Slack permits 50 calls of a method a minute; and what is found after that."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.connectors.slack.live import web
from beepgpt.conversations.events import micros
from beepgpt.conversations.record_order import heartbeat_record
from beepgpt.conversations.rules import DAY, MINUTE, SECOND
from beepgpt.ingest.slack import event_writer
from beepgpt.ingest.slack import loop as slack_loop
from beepgpt.ingest.slack.known_records import KnownRecords, identify, record_of
from beepgpt.ingest.slack.progress import CatchUpProgress
from beepgpt.simulation.slack.server import ApiError, SlackServer, serving
from tests.ingest.test_ingest_slack import Place, connected, examples_of, ingesting
from tests.ingest.test_ingest_slack_faults import Turned, posted, turned
from tests.support.broker import Broker
from tests.support.speed import slowness, wait_until

PER_MINUTE = 50
CHANNELS = [f"C{number:02d}" for number in range(24)]
THREADS = 3
"""In each channel, within the last hour."""


@pytest.fixture
def place(broker: Broker) -> Place:
    """Topics of a test's own."""
    return Place(Connection(broker.bootstrap))


class Past:
    """A workspace's last hour, on the topic as if it had come live; time goes on by hand."""

    def __init__(self, server: SlackServer, place: Place) -> None:
        self.server, self.place, self.slack = server, place, server.workspace
        self.at = time.time_ns() // 1000 - 50 * MINUTE
        self.slack.clock = lambda: self.at
        self.slack.tell = lambda event: None
        self.roots = dict[str, list[str]]()

    def happened(self, until: int) -> None:
        """Threads in each channel, which all have replies; heartbeats up to then."""
        for channel in CHANNELS:
            self.slack.add_channel(channel)
            self.roots[channel] = [self.slack.post(channel, "U1", f"{channel} asks {number}") for number in range(THREADS)]
        for number in range(2):
            for channel, roots in self.roots.items():
                for root in roots:
                    self.pass_by((until - self.at) // 200)
                    self.slack.post(channel, f"U{number}", f"{channel} answers {number}", thread_ts=root)
        records = [record_of(self.server.payload_of(each), micros(each["event_ts"])) for each in self.slack.events]
        keys = [each["channel"].encode() for each in self.slack.events]
        beats = [OutgoingRecord(None, heartbeat_record(until), (), number) for number in range(self.place.partitions)]
        with kafka.Writer(self.place.connection, self.place.events) as writer:
            writer.send(OutgoingRecord(key, record) for key, record in zip(keys, records, strict=True))
            writer.send(beats)
        self.at = until

    def pass_by(self, micros: int) -> None:
        self.at += micros

    def now(self) -> None:
        """From here on it is now."""
        self.slack.clock = lambda: time.time_ns() // 1000
        self.slack.tell = self.server.send_event


@pytest.fixture
def limited() -> Iterator[SlackServer]:
    """A Slack that refuses what is beyond its limit, and sends nothing twice: what no connection takes is lost."""
    with serving(ack_within=1.0, retries=(), page=100, per_minute=PER_MINUTE) as server:
        yield server


LIMITED = {"calls_per_minute": str(PER_MINUTE), "check": "1m"}


def silences(place: Place, texts: set[str]) -> list[float]:
    """Seconds from the posts of those texts until they were written."""
    found = []
    for _, record in place.records():
        body: dict[str, Any] = json.loads(record.value or b"{}")
        if (event := body.get("event")) and event.get("text") in texts:
            found.append((record.timestamp - micros(event["ts"])) / SECOND)
    return found


@pytest.mark.slow
def test_a_connection_that_breaks_for_a_moment_silences_no_channel_for_five_seconds(limited: SlackServer, place: Place, tmp_path: Path):
    """24 channels with 72 threads of the last hour: what was said during the break, and after it, in each of them."""
    past = Past(limited, place)
    past.happened(time.time_ns() // 1000 - 20 * SECOND)
    past.now()
    with ingesting(limited, place, tmp_path, **LIMITED) as run:
        connected(run)
        past.slack.post(CHANNELS[0], "U1", "a connection has brought something")
        run.wait_until_ready()
        limited.reset()
        for channel in CHANNELS:
            past.slack.post(channel, "U2", f"{channel} is cut off", thread_ts=past.roots[channel][0])
        wait_until(lambda: limited.links, "it is connected again")
        for channel in CHANNELS:
            last = past.slack.post(channel, "U3", f"{channel} goes on")
        texts = {f"{channel} {what}" for channel in CHANNELS for what in ("is cut off", "goes on")}
        wait_until(lambda: texts <= set(place.said()), "all of it is there", 150)
        place.wait_for_beat(last)
        longest = max(silences(place, texts))
        print(f"longest silence {longest:.1f} s, calls {dict(limited.asked)}, refused {dict(limited.refused)}")
        assert run.figure("beepgpt_slack_outages_total") == 1
        assert run.stop() == 0, run.said
    assert longest < 5 * slowness()
    assert limited.refused == {}
    assert limited.asked["conversations.history"] == 2 * len(CHANNELS)
    assert limited.asked["conversations.replies"] >= len(CHANNELS)
    assert run.said.count("Caught up in ") == 2


@pytest.mark.slow
def test_an_outage_of_three_minutes_is_caught_up_within_one(limited: SlackServer, place: Place, tmp_path: Path):
    """120 posts, and 40 replies in 40 of 72 threads: all of them before heartbeats go on, and nothing is late."""
    past, now = Past(limited, place), time.time_ns() // 1000
    past.happened(now - 3 * MINUTE - 10 * SECOND)
    said = set[str]()
    for number in range(160):
        past.pass_by(SECOND)
        channel = CHANNELS[number % len(CHANNELS)]
        is_reply = number % 4 == 3
        root = [ts for roots in past.roots.values() for ts in roots][number // 4] if is_reply else None
        if root is not None:
            channel = next(each for each, roots in past.roots.items() if root in roots)
        said.add(f"meanwhile {number}")
        past.slack.post(channel, "U2", f"meanwhile {number}", thread_ts=root)
    past.now()
    began = time.monotonic()
    with ingesting(limited, place, tmp_path, **LIMITED) as run:
        connected(run)
        last = past.slack.post(CHANNELS[0], "U1", "a connection has brought something")
        place.wait_for_beat(last)
        seconds = time.monotonic() - began
        print(f"caught up after {seconds:.1f} s, calls {dict(limited.asked)}, refused {dict(limited.refused)}")
        assert said <= set(place.said())
        assert run.stop() == 0, run.said
    assert seconds < 60 * slowness()
    assert limited.refused == {}
    assert examples_of(place, time.time_ns() // 1000 + DAY)[1] == set()
    assert "32 threads are still looked through" in run.said


# What is found when heartbeats go on already


class Gate:
    """A method of Slack's that answers with an error, until it is opened."""

    def __init__(self, server: SlackServer, method: str) -> None:
        self.is_open = False
        answer = server.methods[method]

        def call(given: dict[str, str]) -> dict[str, Any]:
            if not self.is_open:
                raise ApiError("internal_error")
            return answer(given)

        server.methods[method] = call


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats as often as they are true, and questions again at once."""
    monkeypatch.setattr(slack_loop, "HEARTBEAT_EVERY", 0.0)
    monkeypatch.setattr(web, "BACKOFF", (0.05,))


def edited_unseen(turning: Turned) -> str:
    """A thread of two, of which the reply was edited while nobody heard; heartbeats have gone on since; the reply's `ts`."""
    slack = turning.server.workspace
    slack.add_channel("C1")
    turning.up()
    root = posted(turning, "root")
    reply = posted(turning, "reply", thread_ts=root)
    turning.until_promised(reply)
    slack.edit("C1", reply, "reply, edited")
    time.sleep(1)  # the edit has a second of its own
    turning.down()
    turning.up()
    turning.until_promised(posted(turning, "goes on"))
    turning.until(lambda: (turning.live.coverage.covered or 0) > micros(slack.now()) - SECOND // 2, "heartbeats have gone past the edit")
    assert (turning.live.backfill.checks.left, turning.live.gauges()["threads"]) == (1, 1)
    return reply


def edits_in(place: Place) -> list[tuple[int, dict[str, Any]]]:
    """Edits on the topic, with the time of the heartbeat before each."""
    covered, found = dict.fromkeys(range(place.partitions), 0), []
    for number, record in place.records():
        body = json.loads(record.value or b"{}")
        if body["type"] == "heartbeat":
            covered[number] = micros(body["at"])
        elif body["event"].get("subtype") == "message_changed":
            found.append((covered[number], body))
    return found


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("is_killed", [False, True])
def test_an_edit_of_a_reply_gets_the_time_at_which_it_is_found(
    slack_server: SlackServer, place: Place, is_killed: bool, monkeypatch: pytest.MonkeyPatch
):
    """Its thread has as many replies as are known, so nothing waits for it; with its own time it would be late. It is there once.

    A kill before it is found: the heartbeats say that it is still to be looked for.
    """
    gate = Gate(slack_server, "conversations.replies")
    with turned(slack_server, place) as turning:
        reply = edited_unseen(turning)
        if not is_killed:
            gate.is_open = True
            turning.until(lambda: turning.live.backfill.checks.left == 0, "the thread is looked through")
    monkeypatch.setattr(event_writer, "GAP_MARGIN", 0)  # a start looks no further back than the heartbeats say
    gate.is_open = True
    for _ in range(2):  # a second start finds nothing more
        with turned(slack_server, place) as turning:
            turning.up()
            turning.until(lambda: turning.live.account["fills"], "the channel is looked through")
            turning.until(lambda: turning.live.backfill.checks.left == 0, "the thread is looked through, too")
    ((covered, edit),) = edits_in(place)
    at, made = micros(edit["event"]["event_ts"]), micros(edit["edited_at"])
    assert (edit["event"]["message"]["ts"], edit["event"]["message"]["text"], edit["filled"]) == (reply, "reply, edited", True)
    assert made < at and made == micros(slack_server.workspace.events[2]["ts"]) // SECOND * SECOND + SECOND - 1
    assert at >= covered > made, "no flow has passed it"


@pytest.mark.usefixtures("often")
def test_a_deleted_reply_is_found_when_its_thread_is_read(slack_server: SlackServer, place: Place):
    """Beside one whose deletion came: the numbers differ, so the thread is read at once, and only what is gone is deleted."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    with turned(slack_server, place) as turning:
        turning.up()
        roots = [posted(turning, "root"), posted(turning, "another root")]
        replies = [posted(turning, f"reply {number}", thread_ts=roots[number % 2]) for number in range(4)]
        turning.until_promised(replies[-1])
        slack.delete("C1", replies[0])
        turning.down()
        turning.up()
        turning.until_promised(posted(turning, "goes on"))
        turning.until(lambda: turning.live.backfill.checks.left == 0, "all threads are looked through")
        assert turning.live.account["vanished"] == 1
    (deletion,) = [each for each in place.bodies() if each["event"].get("subtype") == "message_deleted"]
    assert (deletion["event"]["deleted_ts"], deletion["why"]) == (replies[0], "vanished")


@pytest.mark.usefixtures("often")
def test_a_thread_of_a_channel_that_became_private_is_not_read_to_the_topic(slack_server: SlackServer, place: Place):
    """Between the gap's end and the thread's reading."""
    gate = Gate(slack_server, "conversations.replies")
    with turned(slack_server, place) as turning:
        edited_unseen(turning)
        turning.live.backfill._channels.add([{"id": "C1", "is_private": True}])
        gate.is_open = True
        turning.until(lambda: turning.live.backfill.checks.left == 0, "the thread is left out")
        turning.until(lambda: slack_server.asked["conversations.replies"] > 1, "its answer has come")
    assert edits_in(place) == []


def test_a_thread_is_known_if_all_its_replies_are(slack_server: SlackServer):
    """By their number and the last one, from the root on; a reply or a root that is unknown, or a deletion that is, makes it unknown."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    slack.tell = lambda event: None
    root = slack.post("C1", "U1", "root")
    replies = [slack.post("C1", "U2", str(number), thread_ts=root) for number in range(3)]
    events = list(slack.events)
    last = micros(replies[-1])

    def known(*events: dict[str, Any]) -> bool:
        records = KnownRecords()
        for each in events:
            records.add(identify(json.dumps(each).encode(), time.time_ns() // 1000))
        return records.has_thread("C1", micros(root), 3, last)

    assert known(*events)
    assert [known(*events[:number], *events[number + 1 :]) for number in range(4)] == [False] * 4
    slack.delete("C1", replies[0])
    assert not known(*events, slack.events[-1])


def test_how_long_it_takes_is_known_from_the_limit():
    """Fifty calls at once, then as the first of them are a minute ago; what can wait has half of that."""
    asking = web.Web("xoxb-0", "http://127.0.0.1:9/api/", threading.Event(), per_minute=50)
    assert [round(asking.seconds_for("any", calls)) for calls in (0, 50, 51, 101)] == [0, 0, 60, 120]
    assert [round(asking.seconds_for("any", calls, can_wait=True)) for calls in (25, 26, 76)] == [0, 60, 180]
    for _ in range(30):
        asking._wait_for_turn("any", 50)
    assert [round(asking.seconds_for("any", calls)) for calls in (20, 21)] == [0, 60]
    assert round(asking.seconds_for("any", 1, can_wait=True)) == 60


def test_the_terminal_says_each_minute_what_is_left(capfd: pytest.CaptureFixture[str]):
    """By a clock that a test sets: what is left is set, too, since a real backfill of minutes takes minutes."""

    class Left:
        open_gaps, is_starting, left, seconds = 0, False, 0, 0.0
        checks = property(lambda self: self)

        def seconds_left(self) -> float:
            return self.seconds

    left: Any = Left()
    account, now = Counter[str](filled=2), 0.0
    progress = CatchUpProgress(left, account, clock=lambda: now)
    said: list[str] = []
    steps: list[tuple[float, dict[str, Any]]] = [
        (0, {"open_gaps": 500, "is_starting": True}),
        (1, {"is_starting": False, "seconds": 540.0}),
        (60, {"open_gaps": 450}),
        (61, {"seconds": 480.0}),
        (121, {"open_gaps": 1, "seconds": 20.0}),
        (130, {"open_gaps": 0, "left": 60, "seconds": 130.0}),
        (180, {"left": 40}),
        (190, {}),
        (250, {"left": 1, "seconds": 1.0}),
        (260, {"left": 0}),
        (300, {}),
        (400, {"open_gaps": 1}),
        (410, {"open_gaps": 0, "left": 1}),
        (420, {"left": 0}),
    ]
    for at, state in steps:
        now = at
        for name, value in state.items():
            setattr(left, name, value)
        account["filled"] += at in (130, 420)
        account["vanished"] += at == 420
        progress.look()
        said.append(" ".join(capfd.readouterr().err.split()))
    assert said == [
        "",
        "Catching up: the histories of 500 channels are to be read, about 9 minutes.",
        "",
        "Catching up: the histories of 450 more channels are to be read, about 8 minutes.",
        "Catching up: the history of 1 more channel is to be read, less than a minute.",
        "Caught up in 129.0 s: 1 event was filled in."
        " 60 threads are still looked through for edits and deletions, about 3 minutes; events go on.",
        "",
        "40 threads are still looked through for edits and deletions, about 3 minutes; events go on.",
        "1 thread is still looked through for edits and deletions, less than a minute; events go on.",
        "All threads are looked through: 0 edits and 0 deletions were found.",
        "",
        "Catching up: the history of 1 channel is to be read, less than a minute.",
        "Caught up in 10.0 s: 0 events were filled in."
        " 1 thread is still looked through for edits and deletions, less than a minute; events go on.",
        "All threads are looked through: 1 edit and 1 deletion were found.",
    ]
