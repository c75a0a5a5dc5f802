"""Bytewax clusters on a real broker; a channel in two partitions stops whoever reads it."""

from __future__ import annotations

import signal
import time

import pytest

from beepgpt.connectors.log import OutgoingRecord
from beepgpt.conversations.rules import HOUR, MINUTE, SECOND
from tests.support.histories import post
from tests.support.kafka import (
    PATIENCE,
    Running,
    Stream,
    account_of,
    heartbeat_at,
    new_topics,
    outcome_of,
    outcome_on,
    put,
    running,
    time_of,
    to_the_end,
)
from tests.support.kafka_flow import ADVICE, NOON, assert_the_same, cluster, once, stop_all, sum_of, wait_until_cluster_read
from tests.support.speed import wait_until


@pytest.mark.slow
def test_a_process_of_a_cluster_is_ready_without_a_partition(connection, tmp_path):
    """One partition for two processes: both tell that they are ready, so that nobody waits for the one with nothing to read."""
    topics = new_topics(connection, 1)
    with cluster(topics, tmp_path, 2) as processes:
        for each in processes:
            each.wait_until_ready()
        assert stop_all(processes) == [0, 0], [each.said for each in processes]


@pytest.mark.slow
def test_a_cluster_is_rescaled_by_restarts(connection, stream, tmp_path):
    """Two processes, one, and three, each time stopped by SIGTERM: the examples of the batch, each once, and its account."""
    topics = new_topics(connection, 4)
    messages = stream.messages(4)
    third = len(messages) // 3 + 1
    for count, first in ((2, 0), (1, third), (3, 2 * third)):
        with cluster(topics, tmp_path, count) as processes:
            put(topics, part := messages[first : first + third])
            wait_until_cluster_read(processes, len(part))
            assert stop_all(processes) == [0] * count, [each.said for each in processes]

    told = [line["account"] for each in processes for line in each.log_lines() if line["message"] == "account"]
    assert account_of({"account": sum_of(told)}, 4) == stream.run.account.as_json()
    assert_the_same(outcome_on(topics), outcome_of(stream.run))


@pytest.mark.slow
def test_a_cluster_of_which_one_process_was_stopped_and_killed_goes_on_after_a_restart_of_all(connection, stream, tmp_path):
    """One is asked to stop, which the others don't follow, and then killed: all end, and after a restart nothing is missing."""
    topics = new_topics(connection, 4)
    messages = stream.messages(4)
    half = len(messages) // 2
    put(topics, messages[:half])
    with cluster(topics, tmp_path, 2) as (one, other):
        wait_until_cluster_read((one, other), half)
        one.process.send_signal(signal.SIGTERM)
        put(topics, messages[half:])
        one.process.kill()
        assert other.process.wait(PATIENCE) != 0
    with cluster(topics, tmp_path, 2) as processes:
        wait_until(lambda: all(has_heard_the_end(each, stream) for each in processes), "everything is read")
        assert stop_all(processes) == [0, 0], [each.said for each in processes]

    assert_the_same(once(outcome_on(topics)), once(outcome_of(stream.run)))


def has_heard_the_end(run: Running, stream: Stream) -> bool:
    """Whether the last heartbeat of every partition came, which is from days after all others."""
    assert run.process.poll() is None, run.said
    age = time.time() - time_of(stream.lines[-1]) / SECOND
    told = [behind for figures in run.metrics() for name, behind in figures.items() if name.startswith("beepgpt_seconds_behind")]
    return len(told) == 4 and all(behind < age + 3600 for behind in told)


# A channel in two partitions


TWICE = [
    OutgoingRecord(None, post("C1", NOON, "ana", "first").line, (), 0, NOON),
    OutgoingRecord(None, post("C1", NOON + MINUTE, "bo", "second").line, (), 1, NOON),
    *(OutgoingRecord(None, heartbeat_at(NOON + HOUR), (), number, NOON) for number in (0, 1)),
]
"""Somebody changed the number of partitions, or how keys are placed."""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_a_channel_in_two_partitions_stops_the_run(connection, workers: int):
    """Between partitions there is no order: the message names the channel and the way out."""
    topics = new_topics(connection, 2)
    put(topics, TWICE)

    done = to_the_end(topics, "examples", topics.source(), "--to", topics.to, "--workers", workers)

    assert done.returncode == 1
    assert "channel C1" in done.stderr and "one partition" in done.stderr, done.stderr


@pytest.mark.slow
def test_a_channel_in_partitions_of_two_processes_stops_what_is_followed(connection, tmp_path):
    """At once, whether anything more comes or not; and for good: its recovery folder knows."""
    topics = new_topics(connection, 2)
    command = [topics.source(follow="true"), "--to", topics.to, "--recovery", tmp_path / "memory"]
    with running(topics, tmp_path, *command, workers=2) as run:
        run.wait_until_ready()
        put(topics, TWICE)
        assert run.process.wait(PATIENCE) == 1

    assert "channel C1" in run.said and ADVICE in run.said, run.said
    again = to_the_end(topics, "examples", *command, "--workers", 2)
    assert again.returncode == 1 and "channel C1" in again.stderr and ADVICE in again.stderr


@pytest.mark.slow
def test_a_channel_in_two_partitions_stops_a_cluster(connection, tmp_path):
    """All of its processes end, and one says why."""
    topics = new_topics(connection, 2)
    put(topics, TWICE)
    with cluster(topics, tmp_path, 2) as processes:
        statuses = [each.process.wait(PATIENCE) for each in processes]

    assert 0 not in statuses
    assert any("channel C1" in each.said and "one partition" in each.said for each in processes), [each.said for each in processes]
