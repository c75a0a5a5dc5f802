"""Predictions of deleted messages: the scoring step finds them, the topic loses them, and its disk too."""

from __future__ import annotations

import json
import pickle
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from beepgpt.commands.topics import spec_of
from beepgpt.config.settings import read_settings
from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection, Writer, create_topics
from beepgpt.connectors.log import OutgoingRecord, TopicSpec, partition_of
from beepgpt.conversations.points import PointEmitted
from beepgpt.conversations.rules import DAY, Rules
from beepgpt.dataflows.score_points import Released, ScorePoints, ScoringRun
from beepgpt.dataflows.scored_records import Scored
from beepgpt.simulation.workspace import Plan, live_records
from beepgpt.training.reloading import LocalModel
from tests.dataflows.test_scoring import ByPlace, pooled
from tests.support import at, delete, post, program, quiet, run_of
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT, address
from tests.support.scoring import RULES, SPEC, save
from tests.support.speed import wait_until

PLAN = Plan(seed=11, messages=600, days=9, channels=3, people=12, deletions=0.1)
SECRET = "the zeppelin is red"


def step(state: object = None, kept: int | None = 90 * DAY, rules: Rules = RULES) -> ScorePoints:
    """A scoring step whose predictions go to a topic."""
    resumed = None if state is None else pickle.loads(pickle.dumps(state))
    return ScorePoints(ScoringRun(ByPlace(), LocalModel(ByPlace()), rules, kept=kept), resumed)


def released(records: Sequence[bytes], parts: int = 10, rules: Rules = RULES) -> list[Released]:
    """What the shards emit of these, in parts."""
    entries = run_of(records, rules, points_since=0).points
    return [(0.0, entries[part * len(entries) // parts : (part + 1) * len(entries) // parts]) for part in range(parts)]


def scored(run: ScorePoints, batches: Sequence[Released]) -> Iterator[Scored]:
    """What the step passes on."""
    for batch in batches:
        for _, items in run.on_batch([batch])[0]:
            yield from items


@pytest.mark.parametrize("window", [5, 8])
def test_a_deletion_is_followed_by_a_tombstone_of_each_prediction_that_held_the_message(window: int):
    """Of those and no others, each once, in the channel's order; also where a snapshot is resumed between them, and whatever the window."""
    rules = replace(RULES, window=window)
    batches = released(tuple(live_records(PLAN)), rules=rules)
    first = step(rules=rules)
    found = list(scored(first, batches[:5]))
    found += scored(step(first.snapshot(), rules=rules), batches[5:])

    alive: dict[str, tuple[str, set[str]]] = {}
    expected: list[tuple[str, str]] = []
    for each in found:
        body = json.loads(each.line) if each.line is not None else {}
        if each.kind == "prediction":
            alive[each.key] = (each.channel, {one["ts"] for one in body["window"]})
        elif each.kind == "deletion":
            assert each.key == f"{body['channel']}:{body['ts']}"
            gone = [key for key, (channel, window) in alive.items() if channel == body["channel"] and body["ts"] in window]
            expected += [("deletion", each.key), *(("tombstone", key) for key in gone)]
            for key in gone:
                del alive[key]
    assert [(each.kind, each.key) for each in found if each.kind in ("deletion", "tombstone")] == expected
    assert len([kind for kind, _ in expected if kind == "tombstone"]) > 20
    assert all(each.line is None for each in found if each.kind == "tombstone")


def test_what_the_topic_has_lost_by_itself_is_not_remembered(monkeypatch: pytest.MonkeyPatch):
    """As long as predictions are kept, by the machine's time, and no longer; nothing at all where they go to a file."""
    batches = released([each.line for each in (post("ana", minute=0), post("bo", minute=20), delete(of=0, minute=21))], 1)
    posts: list[Released] = [(0.0, [each for each in batches[0][1] if isinstance(each, PointEmitted)])]
    deletion: list[Released] = [(0.0, [each for each in batches[0][1] if not isinstance(each, PointEmitted)])]
    for kept, days, tombstones in ((90 * DAY, 0, 1), (90 * DAY, 89, 1), (90 * DAY, 91, 0), (None, 0, 0)):
        first = step(kept=kept)
        list(scored(first, posts))
        with monkeypatch.context() as later:
            now = time.time() + days * 86_400
            later.setattr(time, "time", lambda now=now: now)
            first.snapshot()
            found = list(scored(step(first.snapshot(), kept), deletion))
        assert [each.kind for each in found].count("tombstone") == tombstones
        assert [each.kind for each in found].count("deletion") == 1


def test_a_snapshot_has_all_that_changed_since_the_one_before(monkeypatch: pytest.MonkeyPatch):
    """Predicted, settled, deleted or too old since: it is that of a step which took none before. In the end nothing is left to keep."""
    ((_, entries),) = released(tuple(live_records(replace(PLAN, messages=30, deletions=0.4))), 1)
    batches: list[Released] = [*((0.0, [each]) for each in entries), (0.0, []), (0.0, [])]
    began = time.time()

    def run(through: ScorePoints, first: int, last: int) -> None:
        for number in range(first, last):
            days = max(number - len(entries), 0) * 91
            monkeypatch.setattr(time, "time", lambda days=days: began + days * 86_400)
            list(scored(through, [batches[number]]))

    often = step()
    for number in range(len(batches)):
        run(often, number, number + 1)
        seldom = step()
        run(seldom, 0, number + 1)
        state = often.snapshot()
        assert state == seldom.snapshot() and (state["predicted"] != {}) is (number < len(batches) - 1), number


def test_a_clock_that_goes_back_makes_no_prediction_forgotten_early(monkeypatch: pytest.MonkeyPatch):
    """Those of the hour by which it was ahead are kept for as long as all others."""
    (whole,) = released([each.line for each in (*(post("ana", minute=20 * number) for number in range(6)), delete(of=20, minute=130))], 1)
    posts = [each for each in whole[1] if isinstance(each, PointEmitted)]
    began = time.time()
    first = step()
    for hour, each in zip((-2, 1, *[0] * len(posts)), posts, strict=False):
        monkeypatch.setattr(time, "time", lambda hour=hour: began + 3_600 * hour)
        assert [one.kind for one in scored(first, [(0.0, [each])])] == ["prediction"]
    monkeypatch.setattr(time, "time", lambda: began + 1_800 + 90 * 86_400)
    state = first.snapshot()
    found = list(scored(step(state), [(0.0, [each for each in whole[1] if not isinstance(each, PointEmitted)])]))

    holding = [each.identity for each in posts[1:] if at(20) in each.window]
    assert [each.key for each in found if each.kind == "tombstone"] == holding and len(holding) == 1


def test_a_point_costs_sixty_four_bytes():
    """In a snapshot, for a window of five; and a message of this workspace, which makes about one point and a half, less than a hundred."""
    records = tuple(live_records(PLAN))
    sizes = []
    for kept in (None, 90 * DAY):
        run = step(kept=kept)
        made = [each.kind for each in scored(run, released(records))].count("prediction")
        sizes.append(len(pickle.dumps(run.snapshot(), protocol=5)))
    assert 64 * made <= sizes[1] - sizes[0] < 66 * made + 1_000
    posts = sum(b'"type":"message"' in each and b'"subtype"' not in each for each in records)
    assert (sizes[1] - sizes[0]) / posts < 130


# On a broker


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


def done(*arguments: object, status: int = 0, env: Mapping[str, str] | None = None) -> str:
    """What a command prints; it ends with `status`."""
    command = program(*arguments, "--no-progress")
    ran = subprocess.run(command, capture_output=True, text=True, env=quiet() | dict(env or {}), timeout=200, check=False)
    assert ran.returncode == status, ran.stderr
    return " ".join(ran.stderr.split())


def seconds_for_days(name: str, partitions: int) -> TopicSpec:
    """A topic as `beepgpt topics` makes it, with a second for each day of compaction, and tombstones for as long."""
    spec = spec_of(name, partitions, 1, {}, read_settings(environ={}))
    assert spec.settings["max.compaction.lag.ms"] == spec.settings["segment.ms"] == "86400000"
    quick = {"max.compaction.lag.ms": "1000", "segment.ms": "1000", "delete.retention.ms": "1000"}
    return TopicSpec(name, partitions, {**spec.settings, **quick}, 1)


def segments(broker: Broker, topic: str) -> bytes:
    """All that the broker has of a topic on its disk."""
    found = []
    for path in sorted((broker.folder / "data").glob(f"{topic}-*/*.log")):
        with suppress(FileNotFoundError):  # it was compacted a moment ago
            found.append(path.read_bytes())
    return b"".join(found)


@pytest.mark.slow
def test_what_was_deleted_is_gone_from_the_broker_s_disk(broker: Broker | GivenBroker, connection: Connection, tmp_path: Path):
    """From the topics of examples and of predictions, seconds later: the sentence stands in no segment. What else was said does."""
    if not isinstance(broker, Broker):
        pytest.skip("the disk of a broker elsewhere can't be searched")
    name = f"test-{uuid4().hex[:12]}"
    examples, predictions = f"{name}.examples", f"{name}.predictions"
    create_topics(connection, [seconds_for_days(examples, 2), seconds_for_days(predictions, 2)])
    create_topics(connection, [TopicSpec(each, 1, KEPT) for each in (f"{name}.late", f"{name}.dead-letters")])
    source, model = tmp_path / "events.jsonl", save(tmp_path / "model")
    said = [post("ana", "keep this", minute=0), post("bo", SECRET, minute=1), post("ana", minute=2)]
    source.write_bytes(b"".join(each.line + b"\n" for each in said))
    beside = {"BEEPGPT_KAFKA__LATE_TOPIC": f"{name}.late", "BEEPGPT_KAFKA__DEAD_LETTER_TOPIC": f"{name}.dead-letters"}
    for number in range(2):
        done("examples", source, "--to", address(connection, examples), env=beside)
        done("score", source, "--model", model, "--to", address(connection, predictions))
        found = [SECRET.encode() in segments(broker, topic) for topic in (examples, predictions)]
        if number == 0:
            assert found == [True, True]
            source.write_bytes(source.read_bytes() + delete(of=1, minute=3).line + b"\n")

    def is_gone() -> bool:
        for topic in (examples, predictions):  # a segment is closed by the next record, and there is always one in a workspace
            with Writer(connection, topic) as writer:
                writer.send(OutgoingRecord(b"next", b'{"spec":"%s"}' % SPEC.encode(), (), number) for number in range(2))
        return not any(SECRET.encode() in segments(broker, topic) for topic in (examples, predictions))

    wait_until(is_gone, "the sentence is gone from the segments")
    assert all(b"keep this" in segments(broker, topic) for topic in (examples, predictions))
    left = [record for _, record in kafka.records_of(connection, predictions) if dict(record.headers).get("kind") == b"deletion"]
    assert {record.key for record in left} == {b"C1:%d.000000" % (at(1) // 1_000_000)}


@pytest.mark.slow
def test_a_channel_s_records_stand_in_one_partition_and_an_older_topic_is_refused(connection: Connection, tmp_path: Path):
    """Whatever their keys: the order of predictions, deletions and tombstones is that of the channel. What 0.1.0 wrote is not mixed in."""
    name = f"test-{uuid4().hex[:12]}.predictions"
    create_topics(connection, [spec_of(name, 5, 1, {}, read_settings(environ={}))])
    source, model = tmp_path / "events.jsonl", save(tmp_path / "model")
    source.write_bytes(b"".join(each.replace(b"\n", b" ") + b"\n" for each in live_records(PLAN)))
    done("score", source, "--model", model, "--to", address(connection, name))

    channels: dict[bytes, str] = {}
    kinds: dict[bytes, int] = {}
    for partition, record in kafka.records_of(connection, name):
        kind = dict(record.headers)["kind"]
        kinds[kind] = kinds.get(kind, 0) + 1
        if record.value is not None:
            body = json.loads(record.value)
            channels[record.key or b""] = body["channel"]
            assert record.key == (body["id"] if kind == b"prediction" else f"{body['channel']}:{body['ts']}").encode()
        assert partition == partition_of(channels[record.key or b""].encode(), 5)
    assert min(kinds[kind] for kind in (b"prediction", b"deletion", b"tombstone")) > 10

    old = f"{name}.old"
    create_topics(connection, [TopicSpec(old, 1, KEPT, 1)])
    with Writer(connection, old) as writer:
        writer.send([OutgoingRecord(b"C1:1.0:thread", b'{"id":"ff","spec":"%s","window":[]}' % SPEC.encode())])
    said = done("score", source, "--model", model, "--to", address(connection, old), status=1)
    assert "predictions under their conversations" in said and "not compacted" not in said


def test_what_was_predicted_behind_a_snapshot_gets_its_tombstone_though_it_is_missed_after_a_kill():
    """It waited when the snapshot was taken, was predicted, and the process died: the topic has it. Then its deadline passes."""
    (whole,) = released([each.line for each in (post("ana", minute=0), post("bo", minute=20), delete(of=0, minute=21))], 1)
    posts, rest = ((0.0, [each for each in whole[1] if isinstance(each, PointEmitted) is is_post]) for is_post in (True, False))
    slow = ByPlace(seconds=2.0)
    first = ScorePoints(ScoringRun(slow, pooled(slow, 4), RULES, kept=90 * DAY), None)
    assert not list(scored(first, [posts]))
    state = pickle.loads(pickle.dumps(first.snapshot()))
    again = ScoringRun(ByPlace(), LocalModel(ByPlace()), RULES, kept=90 * DAY, deadline=-1.0, bounded_deadline=True)
    second = ScorePoints(again, state)
    found = [each for kind, items in second.on_notify()[0] if kind == "scored" for each in items]
    found += scored(second, [rest])

    kinds = [each.kind for each in found]
    assert (kinds.count("prediction"), kinds.count("tombstone")) == (0, 1)
