"""Topics that hold what can't be used, don't fit, or aren't what they were; what is written to them, and audits of it."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from beepgpt.connectors.kafka import KafkaLog, Writer, create_topics, describe_topics, records_of
from beepgpt.connectors.log import NotDelivered, OutgoingRecord, TopicSpec
from beepgpt.conversations.events import strip_previous
from beepgpt.conversations.rules import HOUR, MINUTE, SECOND
from beepgpt.runtime import destinations
from beepgpt.simulation.workspace import broken_record
from tests.support.histories import delete, post
from tests.support.kafka import (
    Topics,
    address,
    examples_on,
    letters_on,
    new_topics,
    outcome_of,
    outcome_on,
    put,
    report_in,
    running,
    to_the_end,
)
from tests.support.kafka_records import failing, new_topic, write
from tests.support.speed import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient

from tests.support.kafka_flow import ADVICE, NOON, PLAN, assert_the_same, replay, stopped_run

# What can't be used


def without_previous(value: bytes) -> bytes:
    """A record without the text that an edit or a deletion repeats, which nothing keeps; any other as it is."""
    if b'"previous_message"' not in value:
        return value
    body = orjson.loads(value)
    strip_previous(body.get("event", body))
    return orjson.dumps(body)


@pytest.mark.slow
def test_what_can_not_be_used_goes_to_topics_of_its_own(outputs, stream, tmp_path):
    """Late events and rejects keep key and bytes, and tell where they stood; tombstones stand behind their examples."""
    replay(outputs, tmp_path, 1, "topic")

    there = {
        f"{outputs.events}/{partition}:{record.offset}": (record.key, record.value or b"")
        for partition, record in records_of(outputs.connection, outputs.events)
    }
    late, rejects = (letters_on(outputs.connection, topic) for topic in (outputs.late, outputs.dead_letters))
    assert len(late) == stream.run.account["late"] and {reason for reason, *_ in late} == {"late"}
    assert len(rejects) == len(stream.run.rejects) and {None} < {key for _, _, key, _ in rejects}
    for _, source, key, value in (*late, *rejects):
        assert (there[source][0], without_previous(there[source][1])) == (key, value), source
    assert len({source for _, source, _, _ in (*late, *rejects)}) == len(late) + len(rejects)
    assert examples_on(outputs).is_in_order
    assert_the_same(outcome_on(outputs), outcome_of(stream.run))

    told, told_late = (
        to_the_end(outputs, "dead-letters", address(outputs.connection, topic)) for topic in (outputs.dead_letters, outputs.late)
    )
    assert (told.returncode, told_late.returncode) == (0, 0), told.stderr + told_late.stderr
    said = told.stdout + told.stderr
    for reason, count in stream.run.account.by_reason("rejected").items():
        assert re.search(rf"{reason}\s+{count}\b", said), said
    assert f"{len(rejects)} dead letters" in said
    assert f"{len(late)} late records in kafka://" in told_late.stderr


def test_a_record_over_the_limit_is_a_dead_letter(connection, tmp_path):
    """More than 1 MiB, where the topics take it: rejected, and kept whole."""
    topics = new_topics(connection)
    record = broken_record("over 1 MiB")
    put(topics, [OutgoingRecord(b"C1", record), *stamped([1_716_200_000_000, 1_716_200_030_000], unit=1_000)])

    replay(topics, tmp_path, 1, "topic")

    assert letters_on(connection, topics.dead_letters) == [("too_large", f"{topics.events}/0:0", b"C1", record)]


def test_an_example_is_whole_or_the_run_says_why_it_is_not_written(connection):
    """Dead letters may be cut, since their records stand elsewhere: half an example would be no JSON, and nobody would know."""
    examples, late, dead_letters = (new_topic(connection, 1, **{"max.message.bytes": "10000"}) for _ in range(3))
    sinks = destinations.Topics(KafkaLog(connection), examples, late, dead_letters).sinks()
    large = OutgoingRecord(b"0f", b"x" * 20_000)

    said = failing(lambda: write(sinks["examples"], [("all", [large])]), NotDelivered)
    for name in ("late", "dead_letters"):
        write(sinks[name], [("all", [large])])

    assert examples in said and "max.message.bytes" in said
    assert [len(list(records_of(connection, each))) for each in (examples, late, dead_letters)] == [0, 1, 1]


def stamped(times: Sequence[int], unit: int) -> list[OutgoingRecord]:
    """A question and its answer as records that the log dates at `times`, each so many microseconds."""
    posts = [("U0ANA", "1716200000.000100", "Ready?"), ("U0BO", "1716200030.000100", "Yes")]
    lines = [json.dumps({"type": "message", "channel": "C1", "user": user, "ts": ts, "text": text}) for user, ts, text in posts]
    return [OutgoingRecord(b"C1", line.encode(), (), 0, t * unit) for line, t in zip(lines, times, strict=True)]


def test_kafka_timestamp_seconds(connection, tmp_path):
    """Timestamps in seconds for milliseconds: the reason names them, and a run of nothing else fails."""
    topics = new_topics(connection)
    put(topics, stamped([1_716_200_000, 1_716_200_030], unit=1_000))

    done = to_the_end(topics, "examples", topics.source(), "--to", tmp_path / "o.jsonl")

    assert done.returncode == 1, done.stderr
    assert "Every record could not be used (bad_record_time 2): the log's own timestamps are no milliseconds" in done.stderr
    assert (tmp_path / "o.dead-letters.jsonl").read_text().count('"reason":"bad_record_time"') == 2


# Topics that don't fit


@pytest.mark.parametrize("last", ["an example", "a tombstone"])
@pytest.mark.slow
def test_a_topic_of_other_settings_is_refused(connection, tmp_path, last: str):
    """What is there was made with other settings: nothing is added, and the message says what differs, and what to do."""
    topics = new_topics(connection)
    told = [post("C1", NOON, "ana"), post("C1", NOON + MINUTE, "bo"), delete("C1", NOON + 2 * MINUTE, NOON)]
    told = told if last == "a tombstone" else told[:2]
    put(topics, [OutgoingRecord(b"C1", each.line) for each in told])
    assert to_the_end(topics, "examples", topics.source(), "--to", topics.to, "--horizon", "3d").returncode == 0
    before = examples_on(topics)
    assert (len(before.values), len(before.tombstones)) == (1, len(told) - 2)

    done = to_the_end(topics, "examples", topics.source(), "--to", topics.to, "--horizon", "2d")

    assert done.returncode == 1
    assert "were made with other settings: horizon is 3 days there, 2 days here: name another topic" in done.stderr
    assert examples_on(topics) == before


def test_missing_topics_are_named_all_at_once(connection):
    """With the command that makes them."""
    there = new_topics(connection)
    missing = replace(there, examples="no-examples", late="no-late", dead_letters="no-letters")

    done = to_the_end(missing, "examples", missing.source(), "--to", missing.to)

    assert done.returncode == 1
    assert all(name in done.stderr for name in ("no-examples", "no-late", "no-letters", "`beepgpt topics kafka://")), done.stderr


def test_a_missing_source_is_named(connection, tmp_path):
    """With the command that makes it."""
    topics = replace(new_topics(connection), events="no-events")

    done = to_the_end(topics, "examples", topics.source(), "--to", topics.to)

    assert (done.returncode, "no-events" in done.stderr, "`beepgpt topics kafka://" in done.stderr) == (1, True, True), done.stderr


@pytest.mark.slow
def test_an_empty_topic_gives_nothing(connection, tmp_path):
    """Which is no error: the first event may come later."""
    topics = new_topics(connection, 3)

    report = replay(topics, tmp_path, 2, "topic")

    assert (report["account"]["events"]["read"], report["ended"]) == (0, True)


def test_topics_are_made_and_compared(connection):
    """What is missing is made, once; what is there and differs is told and left alone."""
    name = f"test-{uuid4().hex[:12]}"
    wanted = Topics(connection, 3, f"{name}.events", f"{name}.examples", f"{name}.late", f"{name}.dead-letters")

    def told(*flags: object) -> str:
        done = to_the_end(wanted, "topics", f"kafka://{connection.bootstrap}", "--prefix", name, *flags)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    first, second, third = told("--partitions", 3), told("--partitions", 3), told("--partitions", 4)
    assert first.count("\tmade\t") == 9 and second.count("\tis there\t") == third.count("\tis there\t") == 9
    assert "differs" not in first + second
    assert f"{wanted.events}: has 3 partitions, not 4" in third
    assert describe_topics(connection, [wanted.events, wanted.late])[wanted.events].partitions == 3


# Audit


@pytest.mark.slow
def test_an_audit_goes_through_topics(outputs, stream, tmp_path):
    """All laws are kept by what the flow wrote, tombstones among it."""
    replay(outputs, tmp_path, 2, "topic")
    found = audit(outputs, tmp_path)

    assert found["status"] == 0, found["said"]
    assert {law["law"]: law["verdict"] for law in found["report"]["laws"]}[1] == "kept"
    assert "broken" not in [law["verdict"] for law in found["report"]["laws"]]


@pytest.mark.slow
def test_a_leak_on_a_topic_is_found(outputs, stream, tmp_path):
    """One prompt among hundreds that holds what was said after it."""
    put_examples(outputs, [*stream.run.examples[1:], leaking(stream.run.examples[0])])

    found = audit(outputs, tmp_path)

    assert found["status"] == 1, found["said"]
    assert "broken" in [law["verdict"] for law in found["report"]["laws"] if law["law"] in (1, 2)]


@pytest.mark.slow
def test_an_audit_knows_that_a_stopped_run_came_to_no_end(connection, stream, tmp_path):
    """Three questions and their answers were held when it was stopped: nothing is broken, and a note counts what the end would settle."""
    topics = new_topics(connection, 2)
    later = PLAN.end_us + HOUR
    asked = [post(f"CQUIET{number}", later, "UANA", "anybody?") for number in range(3)]
    told = [post(f"CQUIET{number}", later + SECOND, "UBO", "here") for number in range(3)]
    held = [(each.channel, each.line) for each in [*asked, *told]]
    stopped_run(topics, tmp_path, replace(stream, records=[*stream.records[:-1], *held]))

    found = audit(topics, tmp_path)

    assert found["status"] == 0, found["said"]
    assert [law["verdict"] for law in found["report"]["laws"][:4]] == ["kept"] * 4
    assert "more examples" in found["report"]["notes"][0]
    assert "settled only by the end of the input" in found["report"]["notes"][0]


def leaking(line: bytes) -> bytes:
    """The example with its answer in the prompt."""
    body = json.loads(line)
    return json.dumps(body | {"prompt": f"{body['answer'] or 'nobody'} answered\n\n{body['prompt']}"}, separators=(",", ":")).encode()


def put_examples(topics: Topics, lines: Sequence[bytes]):
    """As the flow writes them."""
    with Writer(topics.connection, topics.examples) as writer:
        writer.send(OutgoingRecord(json.loads(line)["id"].encode(), line) for line in lines)


def audit(topics: Topics, folder: Path) -> dict[str, Any]:
    """The audit of a topic of examples: status, report, and what it said."""
    report = folder / "audit.json"
    done = to_the_end(topics, "audit", topics.source(), topics.to, "--report", report)
    assert report.exists(), done.stderr
    return {"status": done.returncode, "report": report_in(report), "said": done.stdout + done.stderr}


@pytest.mark.slow
def test_a_recovery_folder_is_of_one_run(connection, silent, tmp_path):
    """Other workers, another source or destination, other partitions: each is refused with what differs, and what to do."""
    topics = new_topics(connection, 2)
    other = new_topics(connection, 2)
    command = stopped_run(topics, tmp_path, silent)

    def refused(*arguments: object) -> str:
        done = to_the_end(topics, "examples", *arguments)
        assert done.returncode == 1, done.stderr
        return done.stderr

    assert "workers was 1 and is 2" in refused(*command, "--workers", 2)
    said = refused(other.source(follow="true"), *command[1:])
    assert other.events in said and topics.events in said and "delete it and start again" in said
    said = refused(command[0], "--to", other.to, *command[3:])
    assert other.examples in said and topics.examples in said

    with KafkaAdminClient(bootstrap_servers=connection.bootstrap) as admin:
        admin.create_partitions({topics.events: 3})
    said = refused(*command)
    assert "had 2 partitions when this run was started, and has 3" in said and ADVICE in said


@pytest.mark.slow
def test_a_run_goes_on_by_another_name_of_its_broker(connection, silent, tmp_path):
    """Addresses change, topics keep their ids."""
    topics = new_topics(connection, 2)
    source, *rest = stopped_run(topics, tmp_path, silent)
    named = str(source).replace("127.0.0.1", "localhost")

    with running(topics, tmp_path, named, *rest) as run:
        run.wait_until_ready()
        assert run.stop() == 0, run.said
    assert named != source and outcome_on(topics).examples == outcome_of(silent.run).examples


@pytest.mark.parametrize("change", ["partitions are added", "made again"])
@pytest.mark.slow
def test_a_topic_of_examples_that_is_no_longer_what_it_was(connection, silent, tmp_path, change: str):
    """What was written to it is gone, or a retraction would go where its example isn't: nothing is written, and it says why."""
    topics = new_topics(connection, 2)
    command = stopped_run(topics, tmp_path, silent)
    with KafkaAdminClient(bootstrap_servers=connection.bootstrap) as admin:
        if change == "made again":
            admin.delete_topics([topics.examples])
            wait_until(lambda: not describe_topics(connection, [topics.examples]), "the topic is gone")
            create_topics(connection, [TopicSpec(topics.examples, 2)])
        else:
            admin.create_partitions({topics.examples: 3})

    done = to_the_end(topics, "examples", *command)

    assert done.returncode == 1 and topics.examples in done.stderr and "start again" in done.stderr, done.stderr
    assert ("made again" if change == "made again" else "had 2 partitions") in done.stderr
