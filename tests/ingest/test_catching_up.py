"""How long an outage silences channels, where Slack permits 50 calls of a method a minute; and what is found after that."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beepgpt.connectors import kafka
from beepgpt.conversations.events import micros
from beepgpt.conversations.record_order import heartbeat_record
from beepgpt.conversations.rules import DAY, MINUTE, SECOND
from beepgpt.ingest.slack import loop as slack_loop
from beepgpt.ingest.slack.known_records import record_of
from tests.ingest.test_ingest_slack import Place, connected, examples_of, ingesting
from tests.ingest.test_ingest_slack_faults import posted, turned
from tests.support.slack_server import Server, serving
from tests.support.speed import slowness, wait_until

__all__ = ["place"]
from tests.ingest.test_ingest_slack import place

PER_MINUTE = 50
CHANNELS = [f"C{number:02d}" for number in range(24)]
THREADS = 3
"""In each channel, within the last hour."""


class Past:
    """A workspace's last hour, on the topic as if it had come live; time goes on by hand."""

    def __init__(self, server: Server, place: Place) -> None:
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
        beats = [kafka.OutgoingRecord(None, heartbeat_record(until), (), number) for number in range(self.place.partitions)]
        with kafka.Writer(self.place.connection, self.place.events) as writer:
            writer.send(kafka.OutgoingRecord(key, record) for key, record in zip(keys, records, strict=True))
            writer.send(beats)
        self.at = until

    def pass_by(self, micros: int) -> None:
        self.at += micros

    def now(self) -> None:
        """From here on it is now."""
        self.slack.clock = lambda: time.time_ns() // 1000
        self.slack.tell = self.server.send_event


@pytest.fixture
def limited() -> Iterator[Server]:
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
def test_a_connection_that_breaks_for_a_moment_silences_no_channel_for_five_seconds(limited: Server, place: Place, tmp_path: Path):
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
def test_an_outage_of_three_minutes_is_caught_up_within_one(limited: Server, place: Place, tmp_path: Path):
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


def test_an_edit_of_a_reply_is_written_at_the_time_at_which_it_is_found(
    slack_server: Server, place: Place, monkeypatch: pytest.MonkeyPatch
):
    """Its thread has as many replies as are known, so nothing waits for it; with its own time it would be late. It is there once."""
    monkeypatch.setattr(slack_loop, "HEARTBEAT_EVERY", 0.0)
    slack_server.workspace.add_channel("C1")
    slack = slack_server.workspace
    replies = slack_server.methods["conversations.replies"]
    with turned(slack_server, place) as turning:
        turning.up()
        root = posted(turning, "root")
        reply = posted(turning, "reply", thread_ts=root)
        turning.until_promised(reply)
        slack.clock = lambda: time.time_ns() // 1000 - 8 * SECOND
        slack._last = 0
        slack.edit("C1", reply, "reply, edited")
        slack.clock = lambda: time.time_ns() // 1000
        slack_server.methods["conversations.replies"] = lambda given: {"messages": slack_server.refuse()}
        turning.down()
        turning.up()
        last = posted(turning, "goes on")
        turning.until_promised(last)
        assert turning.live.backfill.checks.left == 1
        assert turning.live.gauges()["threads"] == 1
