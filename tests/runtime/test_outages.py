"""What a process says and shows while its brokers are away: its log, `/readyz` and a figure; and that it goes on."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

import pytest

from beepgpt.config.settings import read_settings
from beepgpt.connectors.kafka import Connection, Outages, Writer, create_topics
from beepgpt.connectors.kafka.reader import Committer
from beepgpt.connectors.log import NotDelivered, OutgoingRecord
from beepgpt.connectors.log.records import TopicSpec
from beepgpt.runtime.outages import OutageLog, Reached
from beepgpt.runtime.places import patience_of
from tests.support.broker import Broker
from tests.support.kafka import Running, heartbeat_at, new_topics, page, put, running, stream_of
from tests.support.kafka_flow import PLAN
from tests.support.speed import slowness, wait_until


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    monotonic = __call__

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_an_outage_is_logged_when_it_begins_each_minute_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """One line each, whatever waits; a silence that is shorter than ten seconds is none."""
    clock = Clock()
    outages = Outages(clock)
    waiting = 0
    told = OutageLog(lambda: {"channels_to_fill": 7, "events_waiting": waiting}, outages=outages)
    outages.asked("reading a")
    for second in range(180):
        clock.now = second
        if second == 30:
            outages.asked("writing b")
        waiting = 20 if second == 179 else second // 10
        told.look()
    outages.answered("reading a")
    told.look()
    outages.answered("writing b")
    waiting = 0  # all was written at once
    told.look()
    outages.asked("reading a")
    clock.now += 9
    told.look()
    outages.answered("reading a")
    told.look()

    assert [(each.getMessage(), vars(each)["seconds"]) for each in caplog.records] == [
        ("the brokers do not answer: waiting for them", 10),
        ("the brokers still do not answer", 70),
        ("the brokers still do not answer", 130),
        ("the brokers answer again", 179),
    ]
    assert vars(caplog.records[1])["waiting"] == "reading a, writing b"
    assert (vars(caplog.records[-1])["channels_to_fill"], vars(caplog.records[-1])["events_waiting"]) == (7, 20)


class Reading:
    """A process that has read 1,000 records before an outage of 90 seconds, of whose end it learns at 100 seconds."""

    def __init__(self, *, has_heartbeats: bool) -> None:
        self.clock = Clock()
        self.outages = Outages(self.clock)
        self.reached = Reached(1_000, 0, 5_000_000 if has_heartbeats else 0)
        self.log = OutageLog(reached=lambda: self.reached, outages=self.outages, clock=self.clock)
        self.clock.now = 10
        self.break_off(until=100)

    def break_off(self, until: int) -> None:
        self.outages.asked("reading a")
        self.look(until=until)
        self.outages.answered("reading a")
        self.log.look()

    def look(self, until: int) -> None:
        while self.clock.now < until:
            self.clock.now += 1
            self.log.look()


def caught_up(caplog: pytest.LogCaptureFixture) -> list[tuple[int, int]]:
    lines = [vars(each) for each in caplog.records if each.getMessage() == "all that the outage held up is read"]
    return [(each["records"], each["seconds"]) for each in lines]


def test_what_an_outage_held_up_is_counted_once_heartbeats_say_that_all_of_it_is_there(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever writes them was cut off, too: when the brokers answer again, nothing of it is on the topic."""
    reading = Reading(has_heartbeats=True)
    reading.look(until=105)
    reading.reached = Reached(1_600, 400, 99_999_999)  # as it is filled in; heartbeats stand behind what they say is complete
    reading.look(until=130)
    assert not caught_up(caplog)
    reading.reached = Reached(2_100, 0, 100_000_000)
    reading.look(until=300)

    assert caught_up(caplog) == [(1_100, 31)]


def test_without_heartbeats_it_is_counted_once_nothing_has_come_for_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(has_heartbeats=False)
    reading.look(until=120)
    reading.reached = Reached(1_002, 3)
    reading.look(until=200)
    assert not caught_up(caplog)  # three are still to be read
    reading.reached = Reached(1_005, 0)
    reading.look(until=260)
    assert not caught_up(caplog)
    reading.look(until=262)
    reading.reached = Reached(1_400, 0)
    reading.look(until=400)

    assert caught_up(caplog) == [(5, 101)]


def test_a_second_outage_while_records_of_the_first_are_awaited_counts_with_it(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(has_heartbeats=True)
    reading.reached = Reached(1_300, 0, 90_000_000)
    reading.look(until=110)
    reading.break_off(until=150)
    reading.reached = Reached(1_500, 0, 149_000_000)  # beyond the first one's end
    reading.look(until=160)
    assert not caught_up(caplog)
    reading.reached = Reached(1_700, 0, 150_000_000)
    reading.look(until=170)

    assert caught_up(caplog) == [(700, 11)]


@pytest.mark.parametrize(("lasts", "warnings"), [(58, 0), (62, 1), (125, 2)])
def test_commits_that_fail_are_warned_of_once_that_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lasts: int, warnings: int
) -> None:
    """After a broker's restart a group's coordinator is elsewhere for some seconds; here for longer than a real broker could be made to."""
    clock, is_committed = Clock(), threading.Event()
    monkeypatch.setattr("beepgpt.connectors.kafka.reader.time", clock)

    class Refused(Committer):
        def _commit(self, noted: Mapping[int, int]) -> str:
            if clock.now < lasts:
                return "NotCoordinatorError"
            assert noted == {0: 7}
            is_committed.set()
            return ""

    committer = Refused(Connection("nowhere:9092"), "events", "flow")
    committer.note(0, 7)
    assert is_committed.wait(60)
    committer.close()
    assert [each.getMessage() for each in caplog.records] == ["offsets of group flow are not committed: NotCoordinatorError"] * warnings


def test_what_is_followed_waits_for_ever_unless_the_settings_say_how_long() -> None:
    default, set_to = read_settings(environ={}), read_settings(environ={"BEEPGPT_KAFKA__PATIENCE": "5m"})

    assert [patience_of(default, follows=each) for each in (True, False)] == [inf, 120]
    assert [patience_of(set_to, follows=each) for each in (True, False)] == [300, 300]


def warnings_of(run: Running) -> list[dict[str, Any]]:
    return [line for line in run.log_lines() if line["logger"] == "beepgpt.runtime.outages"]


@pytest.mark.parametrize("how", ["kill", "pause"])
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.timeout(300)
def test_a_process_without_its_broker_is_alive_and_not_ready_and_says_so(mortal_broker: Broker, tmp_path: Path, how: str) -> None:
    """Whether the broker is gone or hangs; once it is back, it is ready, and says what the outage cost."""
    topics = new_topics(Connection(mortal_broker.bootstrap), 2)
    messages = stream_of(PLAN).messages(2)
    put(topics, messages[:500])
    settings = {"BEEPGPT_RUN__LOG_FORMAT": "json"}
    with running(topics, tmp_path, topics.source(follow="true"), "--to", topics.to, settings=settings) as run:
        run.wait_until_read(500)
        wait_until(run.is_ready, "it is ready")
        began = time.monotonic()
        time.sleep(12)  # what is confirmed, and not looked at, is no outage
        assert run.is_ready() and not warnings_of(run)
        began = time.monotonic()
        getattr(mortal_broker, how)()
        wait_until(lambda: not run.is_ready(), "it is not ready")
        noticed = time.monotonic() - began
        status, why = page(run.ports[0], "/readyz")
        wait_until(lambda: len(warnings_of(run)) == 1, "it warns")

        assert status == 503 and noticed < 20 * slowness()
        assert re.match(r"no answer from the brokers for 1\d seconds \(.*reading .*\), since \d\d:\d\d:\d\d UTC", why), why
        assert page(run.ports[0], "/healthz") == (200, "alive\n")
        assert run.figure("beepgpt_broker_silent_seconds") >= 10
        mortal_broker.start() if how == "kill" else mortal_broker.resume()
        wait_until(run.is_ready, "it is ready again")
        wait_until(lambda: len(warnings_of(run)) == 2, "it says so")
        behind = heartbeat_at(round((time.time() + 60) * 1e6))  # as by whoever writes: it was cut off, too
        put(topics, [*messages[500:600], *(OutgoingRecord(None, behind, (), number) for number in range(2))])
        wait_until(lambda: len(warnings_of(run)) == 3, "it has read what came after it")
        first, last, rest = warnings_of(run)
        assert (first["level"], first["message"]) == ("WARNING", "the brokers do not answer: waiting for them")
        assert last["message"] == "the brokers answer again" and last["seconds"] >= 10
        assert (rest["message"], rest["records"]) == ("all that the outage held up is read", 102)
        assert run.stop() == 0, run.said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.timeout(300)
def test_whoever_waits_for_a_broker_can_be_stopped(mortal_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits for ever asks twice a second whether it may; so its process is alive, and ends when it is asked to."""
    monkeypatch.setattr("beepgpt.connectors.kafka.outages.STOP_PATIENCE", 1.0)
    connection = Connection(mortal_broker.bootstrap)
    create_topics(connection, [TopicSpec("outage", 1, {})])
    stop, asked = threading.Event(), []

    def stopping() -> bool:
        asked.append(time.monotonic())
        return stop.is_set()

    writer = Writer(connection, "outage", patience=inf, stopping=stopping)
    writer.send([OutgoingRecord(None, b"1", (), 0)])
    writer.flush()
    mortal_broker.kill()
    writer.send([OutgoingRecord(None, b"2", (), 0)])
    asked.clear()
    threading.Timer(5, stop.set).start()
    with pytest.raises(NotDelivered, match=r"outage: a record was not delivered: .*asked to stop"):
        writer.flush()

    assert 6 <= len(asked) <= 14
    writer.close()
