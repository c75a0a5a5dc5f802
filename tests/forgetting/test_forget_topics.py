"""Topics on a real broker without what is forgotten: rewritten beside themselves, or with tombstones; also if it is killed in its midst."""

import json
import signal
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection, KafkaLog, Writer, create_topics, records_of
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.forgetting.records import Cleaning
from beepgpt.forgetting.topics import COPIED, CopyNotWhole, clean_topic, copies_of, copy_name, topics_to_clean
from tests.support.broker import Broker, GivenBroker
from tests.support.cli import program, quiet
from tests.support.forgetting import ALERTING, CANARIES, PERSON, beepgpt, canaries_in, write_workspace
from tests.support.kafka import KEPT, address, new_topics
from tests.support.scoring import save
from tests.support.speed import wait_until

LIST = Forgotten(b"a salt").with_names([PERSON])


@pytest.fixture
def connection(broker: Broker | GivenBroker) -> Connection:
    return Connection(broker.bootstrap)


def message(number: int, user: str = "U2") -> OutgoingRecord:
    """A message on one of two partitions, in the order of its time."""
    body = {"type": "message", "channel": f"C{number % 2}", "user": user, "text": f"words {number}", "ts": f"{1704200000 + number}.000100"}
    return OutgoingRecord(
        b"C%d" % (number % 2), json.dumps(body).encode(), [("seq", b"%d" % number)], number % 2, (1704200000 + number) * 10**6
    )


def test_what_is_copied_keeps_its_partition_order_key_headers_and_time(connection: Connection):
    """A heartbeat and a tombstone among it; the copy of an unchanged topic is not made, and a second call finds nothing left to do."""
    topics = new_topics(connection, 2)
    sent = [message(number, PERSON if number % 5 == 0 else "U2") for number in range(40)]
    sent += [OutgoingRecord(None, b'{"type":"heartbeat","at":"1704300000.000000"}', [], number, 10**15) for number in (0, 1)]
    sent += [OutgoingRecord(b"C1", None, [("seq", b"40")], 1, 1704300001 * 10**6)]
    with Writer(connection, topics.events) as writer:
        writer.send(sent)
    assert clean_topic(KafkaLog(connection), topics.events, Cleaning(LIST, apply=False)).found == 8
    for _ in range(2):
        done = clean_topic(KafkaLog(connection), topics.events, Cleaning(LIST, apply=True))
    copy = copy_name(topics.events, LIST.digest)

    assert done.done == f"rewritten as {copy}" and done.rebuild.startswith("--drop puts that in its place")
    stays = [each for each in sent if PERSON.encode() not in (each.value or b"")]
    for partition in (0, 1):
        copied = [record for number, record in records_of(connection, copy) if number == partition]
        wanted = [each for each in stays if each.partition == partition]
        assert [(each.key, each.value, each.headers[:-1], each.timestamp) for each in copied] == [
            (each.key, each.value, list(each.headers), each.timestamp) for each in wanted
        ]
    assert kafka.topic_settings(connection, copy, KEPT) == KEPT
    assert clean_topic(KafkaLog(connection), copy, Cleaning(LIST, apply=True)).found == 0


@pytest.mark.slow
def test_what_comes_while_it_is_copied_is_copied_by_the_same_command_again(connection: Connection):
    """And a copy that somebody else wrote into is not called whole."""
    topics = new_topics(connection, 2)
    copy = copy_name(topics.events, LIST.digest)
    for numbers in (range(10), range(10, 20)):
        with Writer(connection, topics.events) as writer:
            writer.send(message(number, PERSON if number % 5 == 0 else "U2") for number in numbers)
        clean_topic(KafkaLog(connection), topics.events, Cleaning(LIST, apply=True))
        assert len(list(records_of(connection, copy))) == 8 * (1 + numbers[0] // 10)

    with Writer(connection, copy) as writer:
        writer.send([OutgoingRecord(b"C0", b"{}", [("copied_from", f"{KafkaLog(connection).topic(topics.events).id}:3".encode())], 0)])
    with pytest.raises(CopyNotWhole, match="lacks"):
        clean_topic(KafkaLog(connection), topics.events, Cleaning(LIST, apply=True))


def of_topic(connection: Connection, name: str) -> list[tuple[object, ...]]:
    """What stands on a topic, apart from its offsets and the headers of the copying."""
    return [
        (number, each.key, each.value, [header for header in each.headers if header[0] != COPIED], each.timestamp)
        for number, each in records_of(connection, name)
    ]


def says(row: tuple[object, ...], *users: str) -> bool:
    """Whether what stands on a topic was written by one of these."""
    return json.loads(str(row[2], "utf-8"))["user"] in users  # type: ignore[call-overload]


@pytest.mark.slow
def test_dropped_the_topic_has_its_name_again(connection: Connection):
    """And its settings, with another id; a second list is applied to it likewise. No copy stays."""
    topics, log = new_topics(connection, 2), KafkaLog(connection)
    with Writer(connection, topics.events) as writer:
        writer.send(message(number, f"U{number % 4}") for number in range(40))
    ids = {log.topic(topics.events).id}
    for people in (["U1"], ["U1", "U2"]):
        before = [each for each in of_topic(connection, topics.events) if not says(each, *people)]
        done = clean_topic(log, topics.events, Cleaning(Forgotten(b"a salt").with_names(people), apply=True), drop=True)
        ids.add(log.topic(topics.events).id)
        assert (done.found, done.done, done.rebuild) == (10, "rewritten in its place", "")
        assert of_topic(connection, topics.events) == before and copies_of(topics.events, log.topics()) == []
    assert len(ids) == 3 and log.topic(topics.events).replicas == 1 and kafka.topic_settings(connection, topics.events, KEPT) == KEPT


@pytest.mark.slow
@pytest.mark.parametrize("copied_back", [None, 0, 7], ids=["it is gone", "it is empty", "a part is there"])
def test_killed_while_it_is_put_in_its_place_the_same_command_does_the_rest(connection: Connection, copied_back: int | None):
    """With another list than before, too: the copy is found by its name. Without `--drop` it is named, and nothing is done."""
    topics, log, cleaning = new_topics(connection, 2), KafkaLog(connection), Cleaning(LIST, apply=True)
    with Writer(connection, topics.events) as writer:
        writer.send(message(number, PERSON if number % 5 == 0 else f"U{number % 3}") for number in range(40))
    clean_topic(log, topics.events, cleaning)
    copy = copy_name(topics.events, LIST.digest)
    wanted = of_topic(connection, copy)
    log.delete(topics.events)
    if copied_back is not None:
        log.create([TopicSpec(topics.events, 2, KEPT)])
        identity = log.topic(copy).id
        with Writer(connection, topics.events) as writer:
            for number, each in list(records_of(connection, copy))[:copied_back]:
                headers = [*each.headers[:-1], (COPIED, f"{identity}:{each.offset}".encode())]
                writer.send([OutgoingRecord(each.key, each.value, headers, number, each.timestamp)])
    assert topics_to_clean(log, topics.events.__eq__, "0" * 12) == [topics.events]
    named = clean_topic(log, topics.events, cleaning)
    assert (named.done, named.rebuild) == (f"stays in {copy}", "--drop puts it in its place") and of_topic(connection, copy) == wanted

    more = Cleaning(LIST.with_names(["U1"]), apply=True)
    assert clean_topic(log, topics.events, more, drop=True).done == "rewritten in its place"
    assert of_topic(connection, topics.events) == [each for each in wanted if not says(each, "U1")]
    assert copies_of(topics.events, log.topics()) == []


def test_a_topic_that_somebody_made_anew_is_not_put_over_its_copy(connection: Connection):
    """The copy has the history then. One of another list is a topic of its own, in which people are forgotten, too."""
    topics, log, cleaning = new_topics(connection, 2), KafkaLog(connection), Cleaning(LIST, apply=True)
    with Writer(connection, topics.events) as writer:
        writer.send(message(number, PERSON if number % 5 == 0 else "U2") for number in range(40))
    clean_topic(log, topics.events, cleaning)
    copy = copy_name(topics.events, LIST.digest)
    assert topics_to_clean(log, lambda name: name.startswith(topics.events), "0" * 12) == [topics.events, copy]
    assert topics_to_clean(log, lambda name: name.startswith(topics.events), LIST.digest) == [topics.events]
    log.delete(topics.events)
    log.create([TopicSpec(topics.events, 2, KEPT)])
    with Writer(connection, topics.events) as writer:
        writer.send([message(41), message(43, PERSON)])

    with pytest.raises(CopyNotWhole, match="was made anew meanwhile"):
        clean_topic(log, topics.events, cleaning, drop=True)
    assert len(of_topic(connection, copy)) == 32


def test_a_compacted_topic_gets_tombstones_where_its_last_record_holds_something(connection: Connection):
    """In the partition of the record, whatever its key; what was retracted already, or made anew without it, needs none."""
    name = f"test-{uuid4().hex[:12]}"
    create_topics(connection, [TopicSpec(name, 2, {"cleanup.policy": "compact"})])
    example = b'{"id":"a","channel":"C1","window":[{"ts":"1.1","user":"%s"}],"answer":[]}'
    holds, other = example % PERSON.encode(), example % b"U2"
    versions: dict[bytes, list[bytes | None]] = {b"stays": [other], b"goes": [other, holds]}
    versions |= {b"retracted": [holds, None], b"anew": [holds, other]}
    with Writer(connection, name) as writer:
        for key, values in versions.items():
            writer.send(OutgoingRecord(key, each, [], 1) for each in values)
    done = clean_topic(KafkaLog(connection), name, Cleaning(LIST, apply=True))

    tombstones = [(number, each.key, dict(each.headers)) for number, each in records_of(connection, name) if each.value is None]
    assert tombstones == [(1, b"retracted", {}), (1, b"goes", {"reason": b"forgotten"})]
    assert (done.found, done.rebuild) == (1, "beepgpt examples to a new topic")
    assert clean_topic(KafkaLog(connection), name, Cleaning(LIST, apply=True)).found == 0


MADE = {"examples": "compact", "predictions": "compact,delete", "outcomes": "delete"}
"""Topics that are made of the log, by their cleanup.policy, as `beepgpt topics` makes them."""


@pytest.mark.slow
def test_killed_in_its_midst_the_same_command_does_the_rest_and_a_rebuild_is_what_never_knew_it(connection: Connection, tmp_path: Path):
    """From the log to the alert store: nothing of the person is left. The old log read with the list, the new one read without, and the
    export give the same examples; what was left on the topic says the same of its conversations.
    """
    write_workspace(tmp_path / "export.zip", messages=1_500)
    topics, model = new_topics(connection, 2), save(tmp_path / "model")
    at, made = address(connection, topics.events), {name: f"{topics.events}-{name}" for name in MADE}
    create_topics(connection, [TopicSpec(name, 2, KEPT | {"cleanup.policy": MADE[kind]}) for kind, name in made.items()])
    to = {kind: address(connection, name) for kind, name in made.items()}
    env = topics.settings | ALERTING
    beepgpt(tmp_path, "ingest", "export.zip", "--to", at, "--include", "channels,groups", env=env)
    beepgpt(tmp_path, "examples", at, "--to", to["examples"], env=env)
    beepgpt(tmp_path, "score", at, "--to", to["predictions"], "--outcomes", to["outcomes"], "--model", model, env=env)
    beepgpt(tmp_path, "alert", to["predictions"], "--members", "export.zip", "--to", "given.jsonl", "--threshold", 0.05, env=env)
    assert all(held_by(connection, name) for name in (topics.events, made["examples"], made["predictions"]))
    assert {PERSON, "quokkasaid", "quokkaquote"} <= canaries_in(tmp_path)["alerts.sqlite"]

    places = [at, *to.values(), "export.zip", "alerts.sqlite", "given.jsonl"]
    forgetting = ["forget", "--user", PERSON, *(each for place in places for each in ("--from", place)), "--yes"]
    settings = quiet() | env | {"BEEPGPT_RUN__FORGOTTEN": "list/forgotten.json"}
    with subprocess.Popen(program(*forgetting), cwd=tmp_path, env=settings, stderr=subprocess.DEVNULL) as killed:
        wait_until(lambda: bool(begun_copies_of(connection, topics.events)), "the copy is begun")
        killed.send_signal(signal.SIGKILL)
    (copy,) = begun_copies_of(connection, topics.events)
    assert killed.returncode == -signal.SIGKILL and held_by(connection, made["predictions"])
    beepgpt(tmp_path, *forgetting, "--report", "report.json", env=env)
    again = beepgpt(tmp_path, "forget", "--from", address(connection, copy), "--from", "alerts.sqlite", env=env)

    (outcomes,) = begun_copies_of(connection, made["outcomes"])
    assert "nothing was found in 2 places" in again.stdout + again.stderr
    assert [held_by(connection, each) for each in (copy, outcomes, made["examples"], made["predictions"])] == [set()] * 4
    assert not {"alerts.sqlite", "given.jsonl", "export.zip"} & set(canaries_in(tmp_path))
    kept = len(list(records_of(connection, copy)))
    found = json.loads((tmp_path / "report.json").read_text())["places"][0]["found"]
    whole = len(list(records_of(connection, topics.events)))
    built = {}
    for name, source, more in (
        ("old", at, {}),
        ("new", address(connection, copy), {"BEEPGPT_RUN__FORGOTTEN": "none.json"}),
        ("export", "export.zip", {"BEEPGPT_RUN__FORGOTTEN": "none.json"}),
    ):
        include = [] if source.startswith("kafka") else ["--include", "channels,groups"]
        beepgpt(tmp_path, "examples", source, "--to", f"{name}.jsonl", "--report", f"{name}.json", *include, env=env | more)
        account = json.loads((tmp_path / f"{name}.json").read_text())["account"]
        assert account["adds_up"]
        built[name] = sorted((tmp_path / f"{name}.jsonl").read_bytes().splitlines()), account["events"]
    assert built["old"][0] == built["new"][0] == built["export"][0]
    assert built["old"][1]["ignored"]["forgotten"] == whole - kept <= found
    left = {key: said_in(value) for key, value in last_on(connection, made["examples"]).items()}
    again_made = {json.loads(line)["id"].encode(): said_in(line) for line in built["new"][0]}
    assert len(left) == 42 and {key: again_made.get(key) for key in left} == left


def said_in(example: bytes) -> tuple[object, ...]:
    """What an example says of its conversation."""
    body = json.loads(example)
    return body["conversation"], body["window"], body["prompt"], body["answer"]


def last_on(connection: Connection, topic: str) -> dict[bytes, bytes]:
    """What compaction leaves of a topic: the last value under each key, or of one that isn't compacted, under each offset."""
    compacted = "compact" in kafka.topic_settings(connection, topic, ["cleanup.policy"])["cleanup.policy"]
    found: dict[bytes, bytes | None] = {}
    for number, record in records_of(connection, topic):
        found[(compacted and record.key) or b"%d:%d" % (number, record.offset)] = record.value
    return {key: value for key, value in found.items() if value is not None}


def held_by(connection: Connection, topic: str) -> set[str]:
    """The canaries that are found in what compaction leaves of a topic."""
    content = b"\n".join(last_on(connection, topic).values())
    return {word for word in CANARIES if word.encode() in content}


def begun_copies_of(connection: Connection, name: str) -> list[str]:
    """The copies of a topic that have records."""
    names = [each for each in kafka.describe_topics(connection) if each.startswith(f"{name}.")]
    return [each for each in names if sum(end for _, end in kafka.begin_and_end_offsets(connection, each).values())]
