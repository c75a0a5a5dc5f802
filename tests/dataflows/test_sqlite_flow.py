"""Flows over topics in a folder: killed in their midst, moved to a broker and back, and refused where two would write to one topic."""

import random
from pathlib import Path

import pytest

from beepgpt.connectors.kafka import Connection, KafkaLog
from beepgpt.connectors.log import Log, TopicSpec, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.simulation.workspace import Plan, write_export
from tests.dataflows.test_kafka_clusters import TWICE
from tests.support.cli import run_program
from tests.support.kafka import KEPT, Stream, new_topics, put, running, to_the_end
from tests.support.kafka_kills import PARTITIONS, SHORT, Hits, assert_undisturbed, given_on, run_with_kills


def folder_log(path: Path) -> SqliteLog:
    return SqliteLog(folder_place(str(path)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "kills", "workers"),
    [
        ("topic", 3, 1),
        ("file", 2, 1),
        ("topic", 2, 2),
        pytest.param("topic", 100, 1, marks=pytest.mark.proof),
        pytest.param("file", 100, 1, marks=pytest.mark.proof),
    ],
)
@pytest.mark.timeout(600)
def test_kills_lose_nothing(tmp_path: Path, to: str, kills: int, workers: int):
    """kill -9 at random moments, of one process or of one of two: every example once in the file, every id with one value on the topic."""
    log = folder_log(tmp_path / "log")
    given = given_on(log, SHORT)
    topics = given.topics(log)

    hits = run_with_kills(given, topics, tmp_path, to, random.Random(kills), Hits(kills), None, seconds=2, workers=workers)

    assert hits == Hits(kills)
    assert_undisturbed(given, topics, tmp_path, to)
    assert given.topics(log).partitions == PARTITIONS


def test_a_second_run_to_a_topic_is_refused(stream: Stream, tmp_path: Path):
    """While the first one goes on; late records and dead letters are for all."""
    topics = new_topics(folder_log(tmp_path / "log"), 2)
    put(topics, stream.messages(2)[:50])
    with running(topics, tmp_path / "first", topics.source(follow="true"), "--to", topics.to) as run:
        run.wait_until_ready()
        second = to_the_end(topics, "examples", topics.source(), "--to", topics.to)
        several = to_the_end(topics, "examples", topics.source(), "--to", topics.to, "--workers", 2)
        beside = to_the_end(topics, "examples", topics.source(), "--to", tmp_path / "made.jsonl")
        assert run.stop() == 0, run.said

    for refused in (second, several):
        assert refused.returncode == 1, refused.stderr
        assert f"beepgpt: {topics.examples}: another process writes to this topic" in refused.stderr
    assert beside.returncode == 0, beside.stderr


def test_a_channel_in_partitions_of_two_workers_stops_a_run_that_ends_at_once(tmp_path: Path):
    """Each tells which channels it has when it ends, too, however soon that is."""
    topics = new_topics(folder_log(tmp_path / "log"), 2)
    put(topics, TWICE)

    done = to_the_end(topics, "examples", topics.source(), "--to", topics.to, "--workers", 2)

    assert done.returncode == 1
    assert "channel C1" in done.stderr and "one partition" in done.stderr, done.stderr


def ingested(log: Log, source: str, topic: str) -> str:
    """Events that `beepgpt ingest` put on a new topic; its address."""
    log.create([TopicSpec(topic, 4, KEPT)])
    at = f"{log.place}/{topic}"
    for written in (True, False):  # the same command again finds all of it there
        done = run_program("ingest", source, "--to", at, "--json")
        assert done.returncode == 0, done.stderr
        assert ('"written":0,' not in done.stdout.replace(" ", "")) == written
    return at


def examples_of(source: str, to: Path) -> list[bytes]:
    done = run_program("examples", source, "--to", to)
    assert done.returncode == 0, done.stderr
    return sorted(to.read_bytes().splitlines())


@pytest.mark.slow
def test_a_house_is_moved(connection: Connection, tmp_path: Path):
    """From an export into a folder, from there to a broker, and back into another folder: the same examples each time."""
    write_export(Plan(seed=5, messages=600, channels=4, people=12, days=9, edits=0.1), tmp_path / "export.zip")
    here, kafka, there = folder_log(tmp_path / "here"), KafkaLog(connection), folder_log(tmp_path / "there")
    topic = f"{tmp_path.name}.events"

    places = [str(tmp_path / "export.zip")]
    for log in (here, kafka, there):
        places.append(ingested(log, places[-1], topic))
    made = [examples_of(place, tmp_path / f"{number}.jsonl") for number, place in enumerate(places)]

    assert made[0] != [] and made[1:] == made[:1] * 3
    assert here.bounds(topic) == kafka.bounds(topic) == there.bounds(topic)


def test_a_folder_is_made_with_all_topics(tmp_path: Path):
    """By one command; without it a run says which one is missing and how it is made."""
    at = folder_place(str(tmp_path / "log"))
    missing = run_program("examples", f"{at}/slack.events", "--to", tmp_path / "made.jsonl")
    made = run_program("topics", at, "--partitions", 2)
    again = run_program("topics", f"{at}/slack.events", "--partitions", 2, "--json")

    assert missing.returncode == 1 and f"make it with `beepgpt topics {at}/slack.events.topic`" in missing.stderr
    assert made.returncode == 0 and f"beepgpt ingest EXPORT.zip --to {at}/slack.events" in made.stdout + made.stderr
    assert len(folder_log(tmp_path / "log").topics()) == 9
    assert again.returncode == 0 and '"differences":[]' in again.stdout.replace(" ", "")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("sqlite://slack.events", "it names no folder"),
        ("sqlite:///srv/log/", "it names no topic"),
        ("sqlite:///srv/log/what is it", "can't be a topic's name"),
        ("sqlite:///srv/log/slack.events?until=2024-01-01", "'until' is unknown"),
        ("sqlite:slack.events", "is expected"),
    ],
)
def test_an_address_that_is_wrong_is_refused(source: str, said: str, tmp_path: Path):
    """With what one looks like."""
    done = run_program("examples", source, "--to", tmp_path / "made.jsonl")

    assert done.returncode == 2 and said in done.stderr and "sqlite:///folder/topic" in done.stderr
