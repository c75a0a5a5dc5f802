"""A history behind live events: a new generation of the log has both in order, and takes the place of the one before in one moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import time as clock_time
from pathlib import Path

import pytest

from beepgpt.config.settings import read_settings
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.record_order import heartbeat_record
from beepgpt.conversations.rules import DAY
from beepgpt.errors import BadCommand
from beepgpt.ingest.run import IngestJob, run_ingest
from beepgpt.runtime.workers import Stop
from beepgpt.simulation.workspace import Plan, write_export
from beepgpt.up.children import free_port
from beepgpt.up.folder import DataFolder
from beepgpt.up.plan import UpPlan
from beepgpt.up.rebuilding import NextGeneration
from beepgpt.up.run import LiveRun
from beepgpt.up.served import has_caught_up
from beepgpt.up.status import StatusWatch
from tests.support import MONDAY_AT_TEN, beep, quiet
from tests.support.exports import records_in_export
from tests.support.up import values_on
from tests.training.test_live import pair

PLAN = Plan(seed=3, messages=300, days=10, channels=3, people=9, private=0, start=MONDAY_AT_TEN)
KEPT = {"retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": str(2 << 20)}
WHOLE = "slack.events"


def time_of(record: bytes) -> int:
    """When it happened."""
    body = json.loads(record)
    if body.get("type") == "heartbeat":
        return micros(body["at"])
    event = body.get("event", body)
    return micros(event.get("event_ts") or event.get("ts") or event["item"]["ts"])


def channel_of(record: bytes) -> str:
    """Where it happened; a heartbeat is of no channel."""
    body = json.loads(record)
    event = body.get("event", body)
    return str(event.get("channel") or event.get("item", {}).get("channel", ""))


def said_live(channel: str, at: int, text: str, event_id: str, *, user: str = "U1") -> bytes:
    """A post, as Slack's Events API sends it."""
    event = {"type": "message", "channel": channel, "user": user, "text": text, "ts": ts_text(at), "event_ts": ts_text(at)}
    return json.dumps({"type": "event_callback", "team_id": "T1", "event_id": event_id, "event": event}).encode()


def as_it_happened(record: bytes) -> bytes:
    """An edit at its own time, of which an export has just the second."""
    body = json.loads(record)
    if "message" not in body:
        return record
    return json.dumps(body | {"event_ts": ts_text(micros(body["event_ts"]) - 300_000)}).encode()


def put(log: SqliteLog, topic: str, records: list[bytes]) -> None:
    """Write records as they came, each with its channel as key."""
    with log.writer(topic) as writer:
        for each in records:
            writer.send([OutgoingRecord(channel_of(each).encode() or None, each, (), 0, time_of(each))])
        writer.flush()


def on(log: SqliteLog, topic: str) -> list[bytes]:
    """What stands on a topic."""
    return [record.value or b"" for _, record in log.records(topic)]


def posts_in(records: list[bytes]) -> list[tuple[str, str, str | None]]:
    """Channel, time and text of each post, in the order in which they stand."""
    events = (json.loads(each).get("event", json.loads(each)) for each in records)
    return [(each["channel"], each["ts"], each.get("text")) for each in events if each.get("type") == "message" and "message" not in each]


# What is merged


def test_a_history_is_put_before_what_the_topic_has_itself(tmp_path: Path):
    """Of each channel, the history has what was before its first event on the topic, or before the topic began empty; all is in order."""
    write_export(PLAN, export := tmp_path / "acme.zip")
    history = sorted(records_in_export(export), key=time_of)
    begins, since = time_of(history[200]), time_of(history[150])
    channels = sorted({channel for channel, _, _ in posts_in(history)})
    overlap = [said_live(channel, micros(ts), "as it was said", f"E{ts}") for channel, ts, _ in posts_in(history) if micros(ts) >= begins]
    before = [(channel, ts) for channel, ts, _ in posts_in(history) if since < micros(ts) < begins]
    delayed = [said_live(channel, micros(ts), "as it was said", f"E{ts}") for channel, ts in before[::2]]
    (log := SqliteLog(f"sqlite://{tmp_path}/log")).create([TopicSpec(each, 1, KEPT) for each in (WHOLE, "slack.events.0")])
    beats = [heartbeat_record(time_of(history[-1]) + second * 1_000_000) for second in range(1, 40)]
    put(log, "slack.events.0", [heartbeat_record(begins), *overlap[::-1], *delayed, *beats])
    settings = read_settings(environ={})
    closing, status = run_ingest(IngestJob(f"{log.place}/slack.events.0", f"{log.place}/{WHOLE}", settings, history=export))
    found = on(log, WHOLE)

    assert status == 0 and closing["account"]["adds_up"] and len(overlap) > 50 and len(channels) == 3
    times = [time_of(each) for each in found]
    assert times == sorted(times)
    posts = posts_in(found)
    assert len(posts) == len(set(posts)) and {each[:2] for each in posts} == {each[:2] for each in posts_in(history)}
    assert {text for _, ts, text in posts if micros(ts) >= begins} == {"as it was said"}
    assert [each for each in found if b"heartbeat" in each] == [heartbeat_record(begins), beats[-1]], "the last one says what all say"
    late = beep("examples", f"{log.place}/{WHOLE}", "--to", tmp_path / "made.jsonl", "--json").stdout
    assert json.loads(late)["account"]["events"]["late"] == 0


def test_a_channel_that_was_joined_later_gets_what_was_before(tmp_path: Path):
    """The others stay as they are on the topic: there is no second copy of what it has."""
    write_export(PLAN, export := tmp_path / "acme.zip")
    history = sorted(records_in_export(export), key=time_of)
    joined = next(iter(posts_in(history)))[0]
    known = [as_it_happened(each) for each in history if channel_of(each) != joined]
    before = [each for each in history if channel_of(each) == joined]
    (log := SqliteLog(f"sqlite://{tmp_path}/log")).create([TopicSpec(each, 1, KEPT) for each in (WHOLE, "slack.events.2")])
    now = time_of(history[-1]) + 1_000_000
    put(log, WHOLE, [*known, said_live(joined, now, "hello", "E1")])
    closing, _ = run_ingest(IngestJob(f"{log.place}/{WHOLE}", f"{log.place}/slack.events.2", read_settings(environ={}), history=export))

    assert sorted(on(log, "slack.events.2")) == sorted([*before, *known, said_live(joined, now, "hello", "E1")])
    assert len([each for each in known if each not in history]) > 5
    assert closing["account"]["copies"] == len(known)


# The swap

SCRIPT = """
import os, signal, sys
from datetime import time
from pathlib import Path
from beepgpt.config.settings import read_settings
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.runtime.workers import Stop
from beepgpt.up.folder import DataFolder
from beepgpt.up.jobs import Jobs
from beepgpt.up.plan import UpPlan
from beepgpt.up.rebuilding import NextGeneration
from beepgpt.up.run import LiveRun

of, name, nth = {"none": (None, "", 0), "begun": (DataFolder, "begin_next", 1), "written": (NextGeneration, "write_log", 1),
    "built": (NextGeneration, "build", 1), "appended": (NextGeneration, "append_rest", 1), "swapped": (DataFolder, "swap", 1),
    "cleared by half": (SqliteLog, "delete", 2)}[sys.argv[1]]
count = 0
if of is not None:
    real = getattr(of, name)

    def killed(*given, **how):
        global count
        found = real(*given, **how)
        count += 1
        if count == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(of, name, killed)
data = DataFolder(Path(sys.argv[2]))
data.take()
stop = Stop()
LiveRun._start = lambda self, *names: None  # what would run for ever needs a Slack
LiveRun._look = lambda self: setattr(stop, "signal", 15)
plan = UpPlan(data, read_settings(environ={}), None, Path(sys.argv[3]), None, "channels", time(3), True)
sys.exit(LiveRun(plan, stop).run())
"""


def rebuilt(data: Path, export: Path, killed: str) -> int:
    """The exit status of a rebuild that is killed at a step."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, killed, data, export], env=os.environ | quiet(), check=False)
    return done.returncode


def a_life(since: int) -> list[bytes]:
    """Questions and answers, in threads and beside them, a heartbeat after each; some come after a later one, as Slack may send them."""
    said: list[bytes] = []
    for number in range(24):
        at, channel = since + number * 40_000_000, f"C{number % 2 + 1}"
        pair = [
            said_live(channel, at, f"Who knows about {number}?", f"E{number}a", user=f"U{number % 3}"),
            said_live(channel, at + 3_000_000, f"I do, about {number}", f"E{number}b", user=f"U{number % 3 + 1}"),
        ]
        said += [*(pair[::-1] if number % 4 == 1 else pair), heartbeat_record(at + 20_000_000)]
    return said


@pytest.mark.slow
def test_what_comes_while_a_generation_is_built_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At each of its steps: the examples are those of one stream that has all, none of it late; the log is in the order of time."""
    write_export(PLAN, export := tmp_path / "acme.zip")
    history = records_in_export(export)
    life = a_life(max(map(time_of, history)) + 5_000_000)
    data = DataFolder(tmp_path / "live")
    os.close(data.take())
    data.note(history="")
    plan = UpPlan(data, read_settings(environ={}), None, export, None, "channels", clock_time(3), True)
    run = LiveRun(plan, Stop())
    run.jobs.must("topics", plan.env, *plan.topics)
    log = SqliteLog(data.log)
    monkeypatch.setattr(LiveRun, "_start", lambda self, *names: put(log, WHOLE, life[:10]))

    def put_after(step: str, part: list[bytes]) -> None:
        real = getattr(NextGeneration, step)

        def stepped(self: NextGeneration, *given: Path) -> None:
            real(self, *given)
            put(log, WHOLE, part)

        monkeypatch.setattr(NextGeneration, step, stepped)

    put_after("write_log", life[10:30])
    put_after("build", life[30:50])
    run._rebuild()
    assert data.generation == 2 and (data.recovery("examples") / "run.json").exists()
    at_the_swap = list(map(time_of, on(log, "slack.events.2")))
    end = [heartbeat_record(time_of(life[-1]) + 3 * DAY)]
    put(log, "slack.events.2", [*life[50:], *end])
    run.jobs.must("examples", plan.env, *plan.arguments("examples", port := free_port()), until=lambda: has_caught_up(port))

    assert at_the_swap == sorted(at_the_swap) and len(at_the_swap) == len(history) + 50
    (tmp_path / "stream.jsonl").write_bytes(b"\n".join([*history, *life, *end]) + b"\n")
    done = beep("examples", tmp_path / "stream.jsonl", "--to", wanted := tmp_path / "wanted.jsonl", "--json")
    made = [record.value for _, record in log.records("slack.examples.2") if record.value]
    assert sorted(made) == sorted(wanted.read_bytes().splitlines()) and b"I do, about 20" in b"".join(made)
    assert json.loads(done.stdout)["account"]["events"]["late"] == 0 == len(on(log, "slack.late"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed", "generation"), [("begun", 1), ("written", 1), ("built", 1), ("appended", 1), ("swapped", 2), ("cleared by half", 2)]
)
def test_a_kill_leaves_the_old_generation_or_the_new_one(killed: str, generation: int, tmp_path: Path):
    """Each whole; the same command again makes the new one, and nothing is left of the other."""
    write_export(PLAN, export := tmp_path / "acme.zip")
    history = sorted(records_in_export(export), key=time_of)
    data = DataFolder(tmp_path / "live")
    os.close(data.take())
    data.note(history="")
    log = SqliteLog(data.log)
    log.create([TopicSpec(WHOLE, 1, KEPT)])
    begins = time_of(history[-1]) + 1_000_000
    live = [heartbeat_record(begins), said_live("C9", begins + 5, "hello", "E1")]
    put(log, WHOLE, live)
    (data.recovery("examples")).mkdir(parents=True)
    data.model.mkdir()

    assert rebuilt(data.path, export, killed) == -signal.SIGKILL
    assert data.generation == generation
    assert sorted(on(log, data.topic_name("events"))) == sorted(live if generation == 1 else [*history, *live])
    if generation == 1:
        assert data.recovery("examples").exists() and data.model.exists()
        assert rebuilt(data.path, export, "none") == 0
    else:
        data.clear_unused(log)

    assert data.generation == 2 and sorted(on(log, "slack.events.2")) == sorted([*history, *live])
    left = {name for name in log.topics() if name.partition(".")[2].split(".")[0] in ("events", "examples", "predictions", "outcomes")}
    assert {each.rpartition(".")[2] for each in left} == {"2"}
    assert not (data.path / "state").exists() and not (data.path / "model").exists()
    assert (data.recovery("examples") / "run.json").exists() and values_on(log, "slack.examples.2")
    assert json.loads((data.path / "up.json").read_text()).keys() == {"generation", "history", "rules", "rebuilt"}


def test_what_was_read_of_a_history_stays_until_its_generation_is_live(tmp_path: Path):
    """Also where a rebuild begins again; what was read for a generation that nobody makes any more goes."""
    data = DataFolder(tmp_path / "live")
    os.close(data.take())
    log = SqliteLog(data.log)
    data.fetched.mkdir()
    data.begin_collecting("60d")
    assert not data.next.fetched.exists() and data.generation == 0, "it would end before what is collected begins"
    data.next.fetched.mkdir()
    data.begin_collecting("90d")
    assert data.since == "60d", "what was begun goes on, where the flag is left out"
    data.begin_next(log)
    data.clear_unused(log)
    assert data.next.fetched.exists() and data.generation == 0
    data.begin_next(log)
    data.swap(history="slack")
    data.clear_unused(log)
    assert data.fetched.exists() and data.generation == 1 and json.loads((data.path / "up.json").read_text())["history"] == "slack"
    data.next.fetched.mkdir()
    data.begin_reading("60d", "channels")
    assert data.fetched.exists() and not data.next.fetched.exists(), "what is there is of another history"
    data.next.fetched.mkdir()
    data.begin_reading("60d", "channels")
    assert data.next.fetched.exists()
    data.clear_next()
    assert data.fetched.exists() and not data.next.fetched.exists()


def test_the_page_shows_the_model_of_the_live_generation(tmp_path: Path):
    """With its own threshold, also where another generation was live when the page began."""
    data = DataFolder(tmp_path / "live")
    os.close(data.take())
    watch = StatusWatch(LiveRun(UpPlan(data, read_settings(environ={}), None, None, None, "channels", clock_time(3)), Stop()))
    thresholds = []
    for threshold in (0.25, 0.75):
        pair(data.model, 1, threshold)
        thresholds.append((watch.values()["model"] or {})["threshold"])
        data.swap(history="")
    assert thresholds == [0.25, 0.75] and watch.values()["model"] is None


def test_figures_of_a_generation_go_with_it(tmp_path: Path):
    """Beside another model they would be taken for its own. Of a generation that does not become the live one there are none."""
    data = DataFolder(tmp_path / "live")
    os.close(data.take())
    log = SqliteLog(data.log)
    there = []
    for take in (data.begin_next, lambda _: data.swap(history="")):
        data.outcomes_page.write_text("<title>What became of predictions</title>")
        data.outcomes_report.write_text("{}")
        take(log)
        data.clear_unused(log)
        there.append((data.outcomes_page.exists(), data.outcomes_report.exists()))
    assert there == [(True, True), (False, False)] and data.pages() == {}


def test_topics_of_somebody_else_are_not_taken_for_a_generation(tmp_path: Path):
    """On brokers, others may have made some of these names: with records in them, they are neither written nor deleted."""
    data = DataFolder(tmp_path / "live")
    os.close(data.take())
    log = SqliteLog(data.log)
    log.create([TopicSpec("slack.events.2", 1, KEPT)])
    data.begin_next(log)
    put(log, "slack.events.2", [heartbeat_record(MONDAY_AT_TEN)])
    with pytest.raises(Exception, match=r"slack\.events\.2 has records of somebody else"):
        data.begin_next(log)


def test_where_the_log_is_is_said_once(tmp_path: Path):
    """Later starts may leave it out, and name no other."""
    data = DataFolder(tmp_path / "live")
    os.close(data.take())
    data.choose_log("kafka://a:9092")
    data.choose_log(None)
    data.choose_log("kafka://a:9092")
    assert data.topic("events", follow=True) == "kafka://a:9092/slack.events?follow=true"
    with pytest.raises(BadCommand, match=r"the log of .* is at kafka://a:9092"):
        data.choose_log("kafka://b:9092")
