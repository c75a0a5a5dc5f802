"""Deletions that Slack does not send: of what a history no longer has, and of what is older than the workspace keeps; on a real topic."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection, KafkaLog, Writer
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.events import DELETE, Event, micros, parse, ts_text
from beepgpt.conversations.record_order import heartbeat_record
from beepgpt.conversations.rules import DAY, MINUTE, SECOND, Rules
from beepgpt.conversations.shard import RunOutput, run_through
from beepgpt.ingest.slack import loop as slack_loop
from beepgpt.ingest.slack.known_records import read_contents
from beepgpt.ingest.slack.retention import ExpiredMessages, RetentionSweep
from beepgpt.simulation.slack.server import SlackServer
from tests.ingest.test_ingest_slack import Place
from tests.ingest.test_ingest_slack_faults import Turned, begun, posted, turned
from tests.support.broker import Broker
from tests.support.histories import Record, delete, post


@pytest.fixture
def place(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Heartbeats as often as they are true."""
    monkeypatch.setattr(slack_loop, "HEARTBEAT_EVERY", 0.0)
    return Place(Connection(broker.bootstrap), partitions=1)


def deletions(place: Place) -> list[tuple[int, str]]:
    """Messages whose deletion stands on the topic, and why."""
    return [(micros(each["event"]["deleted_ts"]), each["why"]) for each in place.bodies() if "why" in each]


def read_through(place: Place) -> RunOutput:
    """A run over the topic."""
    return run_through([record.value or b"" for _, record in place.records()], Rules(), load_encoding("o200k_base"))


def test_what_a_history_no_longer_has_is_deleted_on_the_topic(slack_server: SlackServer, place: Place):
    """A root and a reply that went in a gap; what is still there stays. It takes its example with it, is not late, and comes once."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    with turned(slack_server, place) as turning:
        root = begun(turning)
        gone = posted(turning, "to go", thread_ts=root)
        also = posted(turning, "to go, too")
        stays = posted(turning, "to stay")
        turning.until_promised(stays)
        turning.down()
        slack.delete("C1", gone)
        slack.delete("C1", also)
        turning.up()
        turning.until(lambda: turning.live.account["vanished"] == 2, "the channel is looked through, and then its thread")
        turning.bring(slack.events[-1])
        turning.until(lambda: len(turning.acknowledged) == 6, "Slack's own deletion comes after all, and is known")
    assert deletions(place) == [(micros(also), "vanished"), (micros(gone), "vanished")]
    assert sum(each["event"].get("subtype") == "message_deleted" for each in place.bodies()) == 2
    run = read_through(place)
    assert run.late == [] and run.account.by_reason("ignored").get("unknown_message", 0) == 0
    with turned(slack_server, place) as turning:
        turning.up()
        turning.until(lambda: turning.live.backfill.is_complete, "it is connected again")
        assert turning.live.account["vanished"] == 0


def test_what_came_since_the_last_heartbeat_is_not_taken_for_deleted(slack_server: SlackServer, place: Place):
    """Slack's histories may be a little behind its events."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    with turned(slack_server, place) as turning:
        begun(turning)
        new = posted(turning, "new")
        turning.until(lambda: len(turning.acknowledged) == 3, "it is on the topic")
        turning.live.coverage.covered = micros(new) - 1
        turning.down()
        slack.delete("C1", new)
        turning.up()
        turning.until(lambda: turning.live.account["fills"], "the channel is looked through")
        assert turning.live.account["vanished"] == 0 and deletions(place) == []


# Retention


def put(place: Place, records: Sequence[Record]) -> None:
    """Records at their own times, and a heartbeat a day behind them."""
    with Writer(place.connection, place.events) as writer:
        writer.send(OutgoingRecord((each.channel or "").encode(), each.line, timestamp=each.t) for each in records)
        last = max(each.t or 0 for each in records) + DAY
        writer.send([OutgoingRecord(None, heartbeat_record(last), timestamp=last)])
        writer.flush()


def swept(turning: Turned, days: int) -> Counter[str]:
    """The loop with a retention, up to where it has been applied; its counts."""
    sweep = RetentionSweep(KafkaLog(turning.place.connection), turning.place.events, days * DAY, turning.came.put)
    turning.live._retention = sweep
    turning.up()
    expected = int(time.time()) * SECOND // DAY * DAY - days * DAY
    turning.until(lambda: turning.live.coverage.retained_since >= expected, "retention is applied")
    turning.until_promised(posted(turning, "and now?"))  # the next heartbeat says so
    return turning.live.account


def test_what_is_older_than_the_retention_is_deleted_once_and_replays_delete_it_too(slack_server: SlackServer, place: Place):
    """Whatever of it nobody deleted before, bots' messages too; the heartbeats remember up to when, so that a restart begins there."""
    slack_server.workspace.add_channel("C1")
    now = int(time.time()) * SECOND
    old, gone, recent = (now - days * DAY for days in (40, 35, 5))
    asked, answered = post("C1", old, "ana", "Is it red?"), post("C1", old + MINUTE, "bo", "It is")
    bots = post("C1", old + 2 * MINUTE, "robo", "beep", bot_id="B1")
    put(place, [asked, answered, bots, post("C1", gone, "cy"), delete("C1", gone + MINUTE, gone), post("C1", recent, "di")])
    before = read_through(place)
    with turned(slack_server, place) as turning:
        assert swept(turning, 30)["retention"] == 3
    assert deletions(place) == [(old + minutes * MINUTE, "retention") for minutes in range(3)]
    deleted = [parse(record.value or b"", now + DAY) for _, record in place.records() if b'"why":"retention"' in (record.value or b"")]
    assert all(isinstance(each, Event) and each.kind == DELETE and each.t > now - DAY for each in deleted)

    run = read_through(place)
    first = [json.loads(line)["id"] for line in run.examples if f'"ts":"{ts_text(old)}"' in line.decode()]
    assert len(before.retractions) == 0 and len(first) == 2
    assert sorted(json.loads(line)["id"] for line in run.retractions) == sorted(first)
    assert run.late == []

    topic = kafka.describe_topic(place.connection, place.events)
    assert read_contents(KafkaLog(place.connection), topic).retained_since == now // DAY * DAY - 30 * DAY
    with turned(slack_server, place) as turning:
        assert swept(turning, 30)["retention"] == 0
    with turned(slack_server, place) as turning:
        assert swept(turning, 4)["retention"] == 1
    assert deletions(place)[3:] == [(recent, "retention")]


def test_a_deletion_by_retention_is_not_late_when_heartbeats_have_waited(slack_server: SlackServer, place: Place):
    """Its channel is far ahead of the last heartbeat then, and some of that came in the same turn; posts that are held come behind it."""
    slack_server.workspace.add_channel("C1")
    now = int(time.time()) * SECOND
    old = [("C1", now - 40 * DAY + number * MINUTE) for number in range(2)]
    put(place, [post(channel, at, "ana", "to go") for channel, at in old])
    with turned(slack_server, place) as turning:
        first = begun(turning)
        turning.until_promised(first)
        turning.live._retention = RetentionSweep(KafkaLog(place.connection), place.events, 30 * DAY, turning.came.put)
        covered = turning.live.coverage.covered = micros(first) - MINUTE  # from then on another channel held them up
        seen = posted(turning, "on the topic")
        turning.until(lambda: len(turning.acknowledged) == 3, "it is on the topic")
        turning.live.coverage.covered = covered
        newest = posted(turning, "in the same turn")
        turning.came.put(batch := ExpiredMessages(old, None))
        turning.until(batch.is_written.is_set, "the deletions are written")
        turning.live.backfill._open_gap("C1")
        held = posted(turning, "held")
        turning.came.put(batch := ExpiredMessages(old, None))
        turning.until(batch.is_written.is_set, "others are written while it is held")

    events = [each["event"] for each in place.bodies() if "event" in each]
    found = [each for each in events if each.get("subtype") == "message_deleted"]
    assert micros(seen) < micros(newest) < micros(held)
    assert [micros(each["event_ts"]) for each in found] == [micros(newest) + 1] * 4
    assert [each.get("text") for each in events].index("in the same turn") == events.index(found[0]) - 1
    assert read_through(place).late == []


def test_a_kill_amid_a_sweep_loses_and_repeats_nothing(slack_server: SlackServer, place: Place, monkeypatch: pytest.MonkeyPatch):
    """The mark moves with the last batch alone; what is deleted already is found deleted."""
    monkeypatch.setattr("beepgpt.ingest.slack.retention.BATCH", 2)
    slack_server.workspace.add_channel("C1")
    now = int(time.time()) * SECOND
    put(place, [post("C1", now - 40 * DAY + number * MINUTE, "ana") for number in range(7)])
    with turned(slack_server, place) as turning:
        turning.live._retention = RetentionSweep(KafkaLog(place.connection), place.events, 30 * DAY, turning.came.put)
        turning.up()
        turning.until(lambda: turning.live.account["retention"] == 2, "a batch is written")
        assert turning.live.coverage.retained_since == 0
    with turned(slack_server, place) as turning:
        assert swept(turning, 30)["retention"] == 5
    assert [ts for ts, _ in deletions(place)] == [now - 40 * DAY + number * MINUTE for number in range(7)]
