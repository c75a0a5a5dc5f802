"""The examples flow on a real broker: live equals replay equals batch, and how a run behaves that has no end."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from beepgpt.connectors.kafka import Connection
from beepgpt.connectors.log import Log
from beepgpt.conversations.events import micros
from beepgpt.conversations.rules import HOUR, SECOND
from beepgpt.conversations.shard import RunOutput
from tests.support import run_of
from tests.support.kafka import (
    Running,
    Stream,
    Topics,
    account_of,
    examples_on,
    messages_of,
    new_topics,
    outcome_in,
    outcome_of,
    outcome_on,
    page,
    put,
    report_in,
    running,
    stamps_of,
    stream_of,
    time_of,
    to_the_end,
)
from tests.support.kafka_flow import PLAN, assert_the_same, cluster, dest, follow, made_in, replay, so_far, sum_of
from tests.support.speed import wait_until


def check_followed_and_replayed(connection: Connection | Log, folder: Path, stream: Stream, partitions: int, workers: int, to: str):
    """Follows, replays, and compares both to the batch."""
    topics = new_topics(connection, partitions)
    for name in ("followed", "replayed"):
        (folder / name).mkdir()

    followed = follow(topics, folder / "followed", stream, workers, to)
    again = new_topics(connection, partitions, events=topics.events)
    replayed = replay(again, folder / "replayed", workers, to)

    assert_the_same(made_in(topics, folder / "followed", to), outcome_of(stream.run))
    assert_the_same(made_in(again, folder / "replayed", to), outcome_of(stream.run))
    assert account_of(followed, partitions) == stream.run.account.as_json()
    assert account_of(replayed, partitions) == stream.run.account.as_json()
    assert not followed["ended"] and replayed["ended"]


@pytest.mark.parametrize(
    ("partitions", "workers", "to"),
    [pytest.param(1, 2, "topic", marks=pytest.mark.slow), (4, 1, "file"), pytest.param(12, 4, "topic", marks=pytest.mark.slow)],
)
def test_live_equals_replay_equals_batch(either, stream, tmp_path, partitions: int, workers: int, to: str):
    """Followed while it happens, and replayed: the examples of the batch, byte for byte, and its account."""
    check_followed_and_replayed(either, tmp_path, stream, partitions, workers, to)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("to", ["file", "topic"])
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("partitions", [1, 4, 12])
def test_live_equals_replay_equals_batch_everywhere(either, tmp_path, partitions: int, workers: int, to: str, seed: int):
    """The same with all numbers of partitions and workers, and other workspaces."""
    check_followed_and_replayed(either, tmp_path, stream_of(replace(PLAN, seed=100 + seed)), partitions, workers, to)


@pytest.mark.parametrize(("by", "workers", "to"), [(signal.SIGTERM, 2, "topic"), (signal.SIGINT, 1, "file")], ids=["SIGTERM", "SIGINT"])
@pytest.mark.slow
def test_a_stop_is_no_end_of_what_is_followed(either, stream, tmp_path, by: signal.Signals, workers: int, to: str):
    """It exits with 0 and settles nothing; the same command goes on, and both together are one run."""
    topics = new_topics(either, 4)
    half = len(stream.records) // 2
    begun = list(messages_of(stream.records[:half], 4))
    parts = [begun, stream.messages(4)[len(begun) :]]
    report = tmp_path / "report.json"
    command = (topics.source(follow="true"), "--to", dest(topics, tmp_path, to), "--report", report, "--recovery", tmp_path / "memory")
    told = []
    for part in parts:
        with running(topics, tmp_path, *command, workers=workers) as run:
            put(topics, part)
            run.wait_until_read(len(part))
            assert run.stop(by) == 0, run.said
        told.append(report_in(report))
        if to == "topic" and len(told) == 1:
            assert outcome_on(topics).examples == sorted(so_far(stream, half).examples), "what was open is not closed"

    assert account_of(told[0], 4) == so_far(stream, half).account.as_json()
    assert told[0]["account"]["points"]["open"] > 0 == told[0]["account"]["points"]["censored"]
    assert [each["ended"] for each in told] == [False, False]
    assert account_of(told[1], 4) == stream.run.account.as_json()
    assert_the_same(made_in(topics, tmp_path, to), outcome_of(stream.run))


# From, to, and a warm-up


def middle_of(stream: Stream) -> int:
    """A time in the middle of it, whole seconds."""
    times = sorted(filter(None, map(time_of, stream.lines)))
    return times[len(times) // 2] // SECOND * SECOND


def iso(at: int) -> str:
    """As a command line has it."""
    return datetime.fromtimestamp(at // SECOND, UTC).isoformat().replace("+00:00", "Z")


def prompted_from(run: RunOutput, since: int) -> list[bytes]:
    """A run's examples of points at this time or later."""
    return sorted(line for line in run.examples if micros(json.loads(line)["prompt_ts"]) >= since)


def test_from_chooses_what_is_written(filled, stream, tmp_path):
    """The examples of points from then on, each as in the full run, since all before it was read, too."""
    since = middle_of(stream)

    account = replay(filled, tmp_path, 1, "file", asked={"from": iso(since)})["account"]

    chosen = prompted_from(stream.run, since)
    assert 0 < len(chosen) < len(stream.run.examples)
    assert outcome_in(tmp_path).examples == chosen
    assert account["examples"] == len(chosen)
    assert account["before_from"] == len(stream.run.examples) - len(chosen)
    assert account["adds_up"]
    assert account["events"] == stream.run.account.as_json()["events"]


@pytest.mark.slow
def test_from_holds_for_what_is_followed(outputs, stream, tmp_path):
    """The past is read and not written; what is new is."""
    since = middle_of(stream)
    with running(outputs, tmp_path, outputs.source(**{"from": iso(since), "follow": "true"}), "--to", outputs.to) as run:
        run.wait_until_read(len(stream.messages(4)))
        assert run.stop() == 0, run.said

    assert outcome_on(outputs).examples == prompted_from(stream.run, since)


@pytest.mark.slow
def test_to_is_until(filled, stream, tmp_path):
    """A topic's `to` gives what `--until` gives of a file, though the topic goes on after it."""
    until = middle_of(stream)
    expected = run_of(stream.lines, stream.rules, until)

    report = replay(filled, tmp_path, 2, "file", asked={"to": iso(until)})

    assert_the_same(outcome_in(tmp_path), outcome_of(expected))
    assert account_of(report, 4) == expected.account.as_json()


def test_a_warm_up_begins_later(filled, stream, tmp_path):
    """It gives what a run would give over the records that were written from then on, as if nothing had been before."""
    since, warmup = middle_of(stream), 12 * HOUR
    stamps = stamps_of(stream.records)
    read = [value for value, stamp in zip(stream.lines, stamps, strict=True) if stamp // 1000 >= (since - warmup) // 1000]

    report = replay(filled, tmp_path, 1, "file", "--warmup", "12h", asked={"from": iso(since)})

    assert 0 < len(read) < len(stream.lines)
    assert outcome_in(tmp_path).examples == prompted_from(run_of(read, stream.rules), since)
    assert report["account"]["events"] == run_of(read, stream.rules).account.as_json()["events"]


@pytest.mark.parametrize(
    ("query", "flags", "told"),
    [
        ({"follow": "true", "to": "2024-01-03"}, (), "exclude each other"),
        ({"follow": "true"}, ("--until", "2024-01-03"), "--until is for bounded input"),
        ({"follow": "true"}, ("--horizon", "unlimited"), "--horizon unlimited is for bounded input"),
        ({"to": "2024-01-03"}, ("--until", "2024-01-04"), "give one"),
        ({}, ("--warmup", "1d"), "--warmup goes with a topic's from"),
        ({}, ("--idle-clock", "wall"), "--idle-clock wall is for a followed topic"),
    ],
)
def test_what_can_not_be_is_refused(query: dict[str, str], flags: tuple[str, ...], told: str):
    """Before any broker is asked, with status 2, and a word about what goes instead."""
    nowhere = Topics(Connection("127.0.0.1:1"), 1, "events", "examples", "late", "dead-letters")

    done = to_the_end(nowhere, "examples", nowhere.source(**query), "--to", "-", *flags)

    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_several_workers_follow_to_a_topic_only(tmp_path):
    """With `--recovery` their shares become one file when all is read, which never comes."""
    nowhere = Topics(Connection("127.0.0.1:1"), 1, "events", "examples", "late", "dead-letters")
    to = ("--to", tmp_path / "made.jsonl", "--recovery", tmp_path / "memory", "--workers", 2)

    done = to_the_end(nowhere, "examples", nowhere.source(follow="true"), *to)

    assert (done.returncode, "name a topic, or use one worker" in done.stderr) == (2, True), done.stderr


def test_quiet_channels_settle_by_heartbeats_alone(either, silent, tmp_path):
    """Without one, what was said last waits; as soon as one comes, everything is written."""
    topics = new_topics(either, 4)
    *events, _ = silent.records
    waiting = so_far(silent, len(events))
    report = tmp_path / "report.json"
    with running(topics, tmp_path, topics.source(follow="true"), "--to", topics.to, "--report", report) as run:
        put(topics, list(messages_of(events, 4)))
        run.wait_until_read(len(events))
        wait_until(lambda: len(examples_on(topics).values) == len(waiting.examples), "the examples so far are on the topic")
        assert outcome_on(topics).examples == sorted(waiting.examples)
        assert len(waiting.examples) < len(silent.run.examples)
        assert run.figure("beepgpt_held_events") > 0

        put(topics, silent.messages(4)[len(events) :])
        wait_until(lambda: len(examples_on(topics).values) == len(silent.run.examples), "all examples are on the topic")
        assert run.stop() == 0, run.said

    assert_the_same(outcome_on(topics), outcome_of(silent.run))
    assert account_of(report_in(report), 4) == silent.run.account.as_json()


@pytest.mark.slow
def test_the_machine_s_clock_settles_them_if_it_is_asked_to(either, silent, tmp_path):
    """`--idle-clock wall` needs no heartbeats, and says that nobody can repeat such a run."""
    topics = new_topics(either, 4)
    put(topics, list(messages_of(silent.records[:-1], 4)))
    flags = ("--idle-clock", "wall")
    often = {"BEEPGPT_KAFKA__PATIENCE": "6s"}  # looks for the ends of partitions twice in this time
    with running(topics, tmp_path, topics.source(follow="true"), "--to", topics.to, *flags, settings=often) as run:
        wait_until(lambda: len(examples_on(topics).values) == len(silent.run.examples), "all examples are on the topic")
        assert run.stop() == 0, run.said

    assert "can't be repeated exactly" in run.said
    assert_the_same(outcome_on(topics), outcome_of(silent.run))


# What a monitor is told


@pytest.mark.slow
def test_the_figures_are_the_account(filled, stream, tmp_path):
    """While it runs, two ports together tell what the closing account tells; all that is ahead is read, and the probes are content."""
    report = tmp_path / "report.json"
    often = {"BEEPGPT_KAFKA__PATIENCE": "6s"}  # asks for the ends of partitions twice in this time
    command = (filled.source(follow="true"), "--to", tmp_path / "made.jsonl", "--report", report)
    with running(filled, tmp_path, *command, workers=2, settings=often) as run:
        run.wait_until_read(len(stream.messages(4)))
        wait_until(lambda: lags_of(run) == dict.fromkeys("0123", 0.0), "nothing is ahead in any partition")
        assert [page(port, path) for port in run.ports for path in ("/healthz", "/readyz")] == [(200, "alive\n"), (200, "ready\n")] * 2
        assert all(figures["beepgpt_events_read_total"] > 0 for figures in run.metrics())
        told = sum_of(run.metrics())
        assert run.stop() == 0, run.said

    account = report_in(report)["account"]
    events, points = account["events"], account["points"]
    by_label = {
        **{f'beepgpt_events_ignored_total{{reason="{reason}"}}': count for reason, count in events["ignored"].items()},
        **{f'beepgpt_events_rejected_total{{reason="{reason}"}}': count for reason, count in events["rejected"].items()},
        **{f'beepgpt_points_total{{end="{end}"}}': count for end, count in points.items() if end not in ("made", "open")},
        **{f"beepgpt_events_{name}_total": events[name] for name in ("read", "applied", "duplicate", "late")},
        **{f"beepgpt_{name}_total": account[name] for name in ("heartbeats", "examples", "retractions")},
        "beepgpt_points_made_total": points["made"],
        "beepgpt_channels": account["channels"],
        "beepgpt_held_events": 0,
    }
    assert {name: told[name] for name in by_label} == by_label


def lags_of(run: Running) -> dict[str, float]:
    """By partition: how many records are not read yet."""
    told = sum_of(run.metrics())
    return {name.split('"')[1]: told[name] for name in sorted(told) if name.startswith("beepgpt_consumer_lag_records{")}


@pytest.mark.parametrize("command", ["examples", "cluster"])
@pytest.mark.slow
def test_logs_are_json_and_tell_nothing_of_what_was_said(filled, stream, tmp_path, command: str):
    """Every line parses, and no message's text stands in any, at the most talkative level."""
    outputs = new_topics(filled.connection, 4, events=filled.events)
    flags = ("--log-level", "debug", "--log-format", "json", "--no-progress")
    with ExitStack() as stack:
        if command == "cluster":
            (run,) = stack.enter_context(cluster(outputs, tmp_path, 1, level="debug"))
        else:
            run = stack.enter_context(running(outputs, tmp_path, outputs.source(follow="true"), "--to", outputs.to, *flags, workers=2))
        run.wait_until_read(len(stream.messages(4)))
        assert run.stop() == 0, run.said

    lines = run.log_lines()
    assert {"started"} <= {line["message"] for line in lines}
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    texts = {json.loads(line)["prompt"].split("\n\n")[0] for line in stream.run.examples}
    assert len(texts) > 100
    assert [text for text in texts if len(text) > 20 and text in run.said] == []


# Another start that isn't the same


@pytest.mark.parametrize("recovery", [False, True])
def test_workers_end_with_the_process_that_started_them(either, tmp_path, recovery: bool):
    """Killed while nothing happens on the topic, it leaves nobody who holds its recovery folder, or writes what its successor writes."""
    topics = new_topics(either, 2)
    command = [topics.source(follow="true"), "--to", topics.to, *(["--recovery", tmp_path / "memory"] if recovery else [])]
    with running(topics, tmp_path, *command, workers=2) as run:
        run.wait_until_ready()
        workers = run.workers()
        run.process.kill()
        wait_until(lambda: not any(map(lives, workers)), "its workers are gone", 20)
    assert len(workers) == 2


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for doesn't."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(listed.stdout.strip()) and not listed.stdout.startswith("Z")


@pytest.mark.slow
def test_sixty_four_partitions(connection, silent, tmp_path):
    """Most of them with heartbeats alone: the same examples."""
    topics = new_topics(connection, 64)
    put(topics, silent.messages(64))

    report = replay(topics, tmp_path, 2, "file")

    assert_the_same(outcome_in(tmp_path), outcome_of(silent.run))
    assert account_of(report, 64) == silent.run.account.as_json()
