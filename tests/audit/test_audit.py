"""The audit keeps quiet about clean files, and names every planted fault under the right law."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from beepgpt.audit.example_rows import OtherSettings, examples_in, kind_of
from beepgpt.audit.findings import Audit
from beepgpt.audit.foreign import audit_pairs
from beepgpt.audit.laws import audit_examples
from beepgpt.audit.pairs import pair_of
from beepgpt.audit.placing import stratified_tail
from beepgpt.connectors import kafka
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.channel import FOREVER, Output
from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import micros, parse, ts_text
from beepgpt.conversations.rules import DAY, SECOND, Rules
from beepgpt.conversations.shard import RunOutput, Shard, run_through
from beepgpt.simulation.workspace import Plan, live_records
from tests.support import oracle_records, ours
from tests.support.histories import Record, cases, delete, edit, heartbeat, lines_of, post

ENCODING = load_encoding("o200k_base")
RULES = Rules()
PLAIN = Rules(candidates=False)
T0 = 1_690_360_000 * SECOND
PLAN = Plan(messages=450, channels=3, people=15, days=12, deletions=0.05, edits=0.1)


@cache
def made_up() -> tuple[list[bytes], RunOutput]:
    """A simulated workspace's events, and its examples."""
    records = list(live_records(PLAN))
    return records, run_through(records, RULES, ENCODING)


def audited(lines: Sequence[bytes], records: Iterable[bytes] | None = None, rules: Rules = RULES, **options: Any) -> Audit:
    """An audit of a changed file against the simulated workspace, or against other events."""
    return audit_examples(made_up()[0] if records is None else records, lines, rules, ENCODING, **options)


def broken(audit: Audit) -> dict[int, str]:
    """Of each broken law all that was found, in one line."""
    laws = [judged.law for judged in audit.laws if judged.verdict == "broken"]
    found = [(finding.law, f"{finding.what}: {'; '.join(each.why for each in finding.examples)}") for finding in audit.findings]
    return {law: " / ".join(told for which, told in found if which == law) for law in laws}


def body_of(line: bytes) -> dict[str, Any]:
    """An example's fields."""
    body: dict[str, Any] = orjson.loads(line)
    return body


def line_of(body: dict[str, Any]) -> bytes:
    """A forged example, under the id that it would have."""
    parts = [body["spec"], body["target"], body["scope"], body["conversation"], body["prompt_ts"], body["answer_ts"] or ""]
    return orjson.dumps(body | {"id": sha256("\n".join([RULES.workspace, *parts]).encode()).hexdigest()[:32]})


def forged(wanted: Callable[[dict[str, Any]], bool], change: Callable[[dict[str, Any]], None]) -> list[bytes]:
    """The simulated workspace's file, its first example that is wanted changed."""
    lines = list(made_up()[1].examples)
    for number, line in enumerate(lines):
        body = body_of(line)
        if wanted(body):
            change(body)
            lines[number] = line_of(body)
            return lines
    raise AssertionError("no example is like that")


def answered(body: dict[str, Any]) -> bool:
    """Somebody answered, the window has a few messages, all shown, and there are a few candidates."""
    return (
        bool(body["answer"])
        and len(body["candidates"]["user"]) > 3
        and len(body["window"]) >= 3
        and len(body["prompt"].split("\n\n")) == len(body["window"]) + 2
    )


# Our examples


@pytest.mark.parametrize("target", ["next_user", "interacting_users", "reactors"])
@pytest.mark.parametrize("scope", ["conversation", "channel"])
def test_what_the_rules_give_keeps_the_laws(target: Any, scope: Any):
    """All of a file, with edits, deletions, disorder and late events in its history, and a sample of it."""
    records, rules = made_up()[0], Rules(target=target, scope=scope)
    run = run_through(records, rules, ENCODING)

    whole = audited(run.examples, rules=rules, retractions=run.retractions)
    sample = audited(run.examples, rules=rules, sample=5)

    assert broken(whole) == broken(sample) == {}
    assert whole.checked["recomputed"] == whole.checked["examples"] == len(run.examples) > 0
    assert sample.checked["from_scratch"] == 5
    assert [judged.verdict for judged in whole.laws] == ["kept"] * 4 + ["not checkable", "kept", "not checkable"]


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=40)
@given(cases())
def test_any_history_gives_a_clean_file(case: tuple[oracle_records.Rules, list[Record]]):
    """Whatever the history and the rules, all examples from scratch: nothing is found."""
    rules, records = ours(case[0]), lines_of(case[1])
    run = run_through(records, rules, ENCODING)

    whole = audited(run.examples, records, rules, retractions=run.retractions)

    assert broken(whole) == {}
    if run.examples:
        assert broken(audited(run.examples, records, rules, sample=4)) == {}


@pytest.mark.parametrize("options", [{}, {"sample": 1}])
def test_a_later_message_in_a_prompt_is_named(options: dict[str, Any]):
    """The answer itself stands in the prompt: law 1, with who said it and when."""
    said: dict[str, str] = {}
    for record in made_up()[0]:
        inner = json.loads(record).get("event", {}) if record.startswith(b"{") and record.endswith(b"}") else {}
        if inner.get("type") == "message" and "subtype" not in inner and "bot_id" not in inner:
            said[inner["channel"] + inner["ts"]] = clean(inner["text"])

    def leak(body: dict[str, Any]) -> None:
        body["prompt"] = body["prompt"].removesuffix("###\n\n") + said[body["channel"] + body["answer_ts"]] + "\n\n###\n\n"

    lines = forged(lambda body: answered(body) and bool(said.get(body["channel"] + body["answer_ts"])), leak)
    if options:  # each one from scratch: the forged one alone
        lines = list(set(lines) - set(made_up()[1].examples))
    found = broken(audited(lines, **options))

    assert set(found) == {1}
    assert "know the future" in found[1]
    assert "is the answer itself: it was said at" in found[1]
    assert "after prompt_ts" in found[1]


def test_text_as_edited_later_is_named():
    """Ana corrects herself after Bo answered, and the prompt shows the correction: law 1."""
    history = [post("C1", T0, "ana", "at noon"), post("C1", T0 + SECOND, "bo", "fine"), edit("C1", T0 + 9 * SECOND, T0, "at one")]
    records = lines_of([*history, heartbeat(T0 + 2 * DAY)])
    run = run_through(records, RULES, ENCODING)
    first = body_of(run.examples[0])
    assert first["prompt"] == "at noon\n\n###\n\n"

    lines = [line_of(first | {"prompt": "at one\n\n###\n\n"}), *run.examples[1:]]
    found = broken(audited(lines, records))

    assert set(found) == {1}
    assert f"“at one” is {ts_text(T0)} as edited at {ts_text(T0 + 9 * SECOND)}, after prompt_ts" in found[1]


def test_deleted_and_invented_sentences_are_told_apart():
    """A sentence that was deleted before the prompt, and one that nobody said."""
    history = [
        post("C1", T0, "ana", "a secret"),
        post("C1", T0 + SECOND, "ana", "hello"),
        delete("C1", T0 + 2 * SECOND, T0),
        post("C1", T0 + 3 * SECOND, "bo", "hi"),
    ]
    records = lines_of([*history, heartbeat(T0 + 2 * DAY)])
    lines = run_through(records, RULES, ENCODING).examples
    body = next(body for line in lines if (body := body_of(line))["prompt"] == "hello\n\n###\n\n" and body["answer"])

    def told(prompt: str) -> str:
        others = [line for line in lines if body_of(line)["id"] != body["id"]]
        return broken(audited([*others, line_of(body | {"prompt": prompt})], records))[1]

    assert "“a secret” was deleted at" in told("a secret\n\nhello\n\n###\n\n")
    assert "“lies” was said by nobody" in told("hello\n\nlies\n\n###\n\n")


def set_to(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """A change of fields."""
    return lambda body: body.update(fields)


def move_settled(body: dict[str, Any]) -> None:
    body["settled_ts"] = ts_text(micros(body["settled_ts"]) - SECOND)


def swap_candidates(body: dict[str, Any]) -> None:
    body["candidates"]["user"].reverse()


def one_more_answer(body: dict[str, Any]) -> None:
    body["candidates"]["answers_3d"][0] += 1.0


def lose_the_first_message(body: dict[str, Any]) -> None:
    del body["window"][0]
    body["prompt"] = body["prompt"].partition("\n\n")[2]


def drop_the_answerer(body: dict[str, Any]) -> None:
    texts = body["prompt"].removesuffix("\n\n###\n\n").split("\n\n")
    kept = [text for text, each in zip(texts, body["window"], strict=True) if each["user"] not in body["answer"]]
    body["prompt"] = "\n\n".join(kept) + "\n\n###\n\n"


def drop_the_answerer_from_the_window(body: dict[str, Any]) -> None:
    drop_the_answerer(body)
    body["window"] = [each for each in body["window"] if each["user"] not in body["answer"]]


def is_silent(body: dict[str, Any]) -> bool:
    return not body["answer"]


def has_the_answerer(body: dict[str, Any]) -> bool:
    return answered(body) and body["answer"][0] in {each["user"] for each in body["window"][:-1]}


@pytest.mark.parametrize(
    ("wanted", "change", "law", "told"),
    [
        (answered, swap_candidates, 1, "candidates"),
        (answered, one_more_answer, 1, "answers_3d"),
        (answered, lose_the_first_message, 1, "leaves out"),
        (answered, set_to(speakers=9), 1, "speakers is 9"),
        (answered, set_to(prompt_tokens=1), 1, "prompt_tokens"),
        (answered, set_to(prompt_ts=ts_text(T0)), 1, "no window"),
        (has_the_answerer, drop_the_answerer, 2, "who answers, and are left out"),
        (has_the_answerer, drop_the_answerer_from_the_window, 2, "who answers, and are left out"),
        (answered, move_settled, 3, "settled_ts"),
        (answered, set_to(answer=["UNOBODY"]), 3, "answer is ['UNOBODY']"),
        (answered, set_to(answer=[], answer_ts=None), 3, "silences that were answered"),
        (is_silent, set_to(settled_ts=ts_text(T0 + 900 * DAY)), 3, "settled_ts"),
        (answered, set_to(channel="C0"), 4, "no examples"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"sample": 1}])
def test_each_planted_fault_is_named_under_its_law(
    wanted: Callable[[dict[str, Any]], bool], change: Callable[[dict[str, Any]], None], law: int, told: str, options: dict[str, Any]
):
    """One example of a file is forged in one way: that law is broken, and the reason says how."""
    lines = forged(wanted, change)
    if options:  # each one from scratch: the forged one alone
        lines = list(set(lines) - set(made_up()[1].examples))

    found = broken(audited(lines, **options))

    assert law in found
    assert told in found[law]
    assert not found.keys() - {law, 4}


def test_a_silence_that_could_not_be_known_yet_is_named():
    """The events end before a silence's horizon does: it is censored, and the file must not have it."""
    ana = post("C1", T0, "ana", "anybody?")
    run = run_through(lines_of([ana, heartbeat(T0 + 2 * DAY)]), RULES, ENCODING)

    found = broken(audited(run.examples, lines_of([ana, heartbeat(T0 + DAY - 1)])))

    assert set(found) == {3}
    assert "it would be censored" in found[3]


def test_ids_stand_once_for_one_thing():
    """A copy, an id with two meanings, a wrong id, another spec, a line that is none."""
    lines = list(made_up()[1].examples)
    other = orjson.dumps(body_of(lines[1]) | {"speakers": 77})
    strange = orjson.dumps(body_of(lines[2]) | {"spec": "0123456789ab"})
    wrong = orjson.dumps(body_of(lines[3]) | {"id": "f" * 32})
    found = broken(audited([*lines, lines[0], other, strange, wrong, b"oops"]))

    assert set(found) == {4}
    for told in ("stand twice", "two different examples", "differs from line 2", "another spec", "not the hash", "are no examples"):
        assert told in found[4]


def test_what_the_file_lacks_is_missing_unless_it_was_chosen():
    """The rules give one example more: law 4, but not for a part of a file."""
    lines = made_up()[1].examples[1:]

    assert "the file lacks" in broken(audited(lines))[4]
    assert broken(audited(lines, subset=True)) == {}


# Runs that came to no end, or to an earlier one


def stopped(records: Iterable[bytes], rules: Rules = RULES) -> Output:
    """What a run wrote that has read all of it and was told of no end."""
    shard = Shard(rules, ENCODING)
    for record in records:
        shard.read(parse(record, FOREVER, bots=rules.bots, edits=rules.edits), "all")
    return shard.drain()


def verdicts(audit: Audit) -> list[str]:
    """Of laws 1, 2, 3, 4 and 6."""
    return [judged.verdict for judged in audit.laws if judged.law in (1, 2, 3, 4, 6)]


def broken_off() -> list[bytes]:
    """People talk in three channels, somebody joins in each of them, and four seconds later nothing more is heard."""
    history = talk()
    last = history[-1].t or 0
    return lines_of([*history, *(post(f"C{number}", last + SECOND, "fay", "so") for number in range(3)), heartbeat(last + 5 * SECOND)])


@pytest.mark.parametrize("rules", [RULES, Rules(target="interacting_users", horizon=3 * SECOND)])
def test_a_run_that_was_stopped_lacks_nothing(rules: Rules):
    """What only the end of the input settles is no finding, but a note that counts it."""
    records = broken_off()
    made = stopped(records, rules)
    more = len(run_through(records, rules, ENCODING).examples) - len(made.examples)
    assert more >= 3

    audit = audited(made.examples, records, rules, retractions=made.retractions)

    assert verdicts(audit) == ["kept"] * 5
    assert f"{more} more examples" in audit.notes[0]
    assert "settled only by the end of the input: the run that made these had not come to it" in audit.notes[0]
    assert "before the input ends" in audit.laws[3].told
    assert "had not come to" in audit.laws[5].told


def test_a_run_that_came_to_its_end_lacks_what_is_not_there():
    """A file that has an example which only the end settles, and not another: that one is missing."""
    records = broken_off()
    made, run = stopped(records), run_through(records, RULES, ENCODING)
    by_end = sorted(set(run.examples) - set(made.examples))

    found = broken(audited([*made.examples, by_end[0]], records))

    assert set(found) == {4}
    assert "the file lacks" in found[4]


def test_a_run_that_was_stopped_lacks_what_it_should_have():
    """What was settled on the way is missing from a stopped run's file, and nothing else is."""
    records = broken_off()

    audit = audited(stopped(records).examples[1:], records)

    assert set(broken(audit)) == {4}
    assert [finding.count for finding in audit.findings] == [1]


def test_a_deletion_that_was_held_when_the_run_was_stopped_is_not_to_be_told_yet():
    """Ana takes her message back in the last second: only a run that came to the end has the retraction."""
    history = [post("C1", T0, "ana", "at noon"), post("C1", T0 + SECOND, "bo", "fine"), post("C1", T0 + 60 * SECOND, "cy", "no")]
    records = lines_of([*history, delete("C1", T0 + 61 * SECOND, T0)])
    made, run = stopped(records), run_through(records, RULES, ENCODING)
    assert len(made.examples) < len(run.examples)
    assert not made.retractions
    assert len(run.retractions) > 1

    audit = audited(made.examples, records, retractions=[])

    assert broken(audit) == {}
    assert "more retractions" in audit.notes[0]
    assert "should be retracted" in broken(audited(run.examples, records, retractions=[]))[4]
    assert "the file lacks" in broken(audited(made.examples, records, retractions=run.retractions))[4]


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=40)
@given(cases())
def test_any_history_gives_a_clean_file_wherever_a_run_is_stopped(case: tuple[oracle_records.Rules, list[Record]]):
    """Read to the last record, but told of no end: nothing is found, and the note counts what the end would have added."""
    rules, records = ours(case[0]), lines_of(case[1])
    made, run = stopped(records, rules), run_through(records, rules, ENCODING)

    audit = audited(made.examples, records, rules, retractions=made.retractions)

    assert broken(audit) == {}
    more = len(run.examples) - len(made.examples)
    assert any(note.startswith(f"{more:,} more examples") for note in audit.notes) == bool(more)


def until_hint(audit: Audit) -> set[int]:
    """The laws that can't be told before audit is given --until."""
    return {judged.law for judged in audit.laws if "give audit --until (the latest settled_ts is" in judged.told}


def test_a_file_of_an_earlier_end_is_told_apart_from_one_that_lacks_examples():
    """Made with --until, and audited without: what is missing settled later, and quiet channels' silences need that time; so ask for it."""
    times = sorted(micros(body_of(line)["settled_ts"]) for line in made_up()[1].examples)
    until = times[len(times) // 2]
    run = run_through(made_up()[0], RULES, ENCODING, until=until)

    audit = audited(run.examples, retractions=run.retractions)

    assert broken(audit) == {}
    assert 4 in until_hint(audit) <= {3, 4}
    assert ts_text(until) in audit.laws[3].told
    assert until_hint(audited(run.examples, retractions=run.retractions, until=until)) == set()
    assert set(broken(audited(run.examples[1:], retractions=run.retractions))) >= {4}


def test_a_silence_of_a_quiet_channel_needs_the_time_that_the_run_was_told():
    """Only C2 goes on: that C1 stayed silent is known to a run with --until, and to an audit that is given it."""
    history = [post("C1", T0, "ana", "anybody?"), *(post("C2", T0 + n * DAY // 4, "bo", f"day {n / 4}") for n in range(20))]
    records, until = lines_of(history), T0 + 2 * DAY
    lines = run_through(records, RULES, ENCODING, until=until).examples

    assert until_hint(audited(lines, records)) == {3, 4}
    assert verdicts(audited(lines, records, until=until)) == ["kept"] * 5


def test_a_run_that_was_stopped_before_the_topic_ends_looks_like_one_with_an_earlier_end():
    """The topic went on after the run: no law is called broken for it."""
    beaten = list[Record]()
    for each in talk():
        assert each.t is not None
        beaten += [heartbeat(each.t), each]
    records = lines_of([*beaten, heartbeat(T0 + 3 * DAY)])
    made = stopped(records[:500])
    assert made.examples

    audit = audited(made.examples, records, retractions=made.retractions)

    assert broken(audit) == {}
    assert until_hint(audit) == {4}


# Retractions


def test_a_tombstone_in_another_partition_than_its_example_is_named():
    """Partitions were added between the two: compaction will never bring them together. One that was sent to both is well."""
    lines, stamps = list(made_up()[1].examples), {body_of(line)["id"]: body_of(line) for line in made_up()[1].retractions}
    retracted = [line for line in lines if body_of(line)["id"] in stamps]
    one, other = retracted[:2]

    def stands(line: bytes, partition: int, *, is_tombstone: bool = False) -> tuple[int, kafka.Record]:
        key = body_of(line)["id"].encode()
        headers = [("retracted_ts", stamps[key.decode()]["retracted_ts"].encode())] if is_tombstone else []
        return partition, kafka.Record(None if is_tombstone else line, 0, T0, key, headers)

    examples = [stands(line, 0) for line in lines]
    tombstones = [stands(line, 0, is_tombstone=True) for line in retracted if line not in (one, other)]
    moved = [stands(one, 2, is_tombstone=True), stands(other, 0, is_tombstone=True), stands(other, 2, is_tombstone=True)]

    held = examples_in([*examples, *tombstones, *moved])
    audit = audited(held.lines, retractions=held.retractions, apart=held.apart)

    assert [(finding.law, finding.count) for finding in audit.findings] == [(4, 1)]
    assert "compaction will never bring together with their examples" in audit.findings[0].what
    assert audit.findings[0].examples[0].where == body_of(one)["id"]
    assert "its tombstone stands in partition 2, an example in partition 0" in broken(audit)[4]


def test_retractions_must_be_told():
    """An example of a deleted message needs its retraction; without the file it is a note."""
    records, run = made_up()
    assert run.retractions

    assert "should be retracted" in broken(audited(run.examples, retractions=run.retractions[1:]))[4]
    assert "deleted later" in audited(run.examples, records).notes[0]


def test_labeled_and_rewritten_rows_are_still_examples():
    """More keys, and white space, change no fact: a note says so."""
    lines = [orjson.dumps(body_of(line) | {"signal": "strong"}) for line in made_up()[1].examples]
    spaced = [json.dumps(body_of(line)).encode() for line in made_up()[1].examples]

    labeled, loose = audited(lines), audited(spaced)

    assert broken(labeled) == broken(loose) == {}
    assert "more keys: signal" in labeled.notes[0]
    assert "white space" in loose.notes[0]


def test_other_settings_are_refused_with_what_to_do():
    """A file of another horizon can't be made again; one without candidates, or of another target, tells that by itself."""
    records = made_up()[0]
    with pytest.raises(OtherSettings, match="Give audit the flags"):
        audited(run_through(records, replace(RULES, horizon=DAY // 2), ENCODING).examples)

    rules = Rules(candidates=False, target="reactors")
    assert broken(audited(run_through(records, rules, ENCODING).examples)) == {}


def test_a_late_event_is_in_no_prompt():
    """Bo's message came a minute too late: the run never saw it, and neither does the audit."""
    late = post("C1", T0 + SECOND, "bo", "late")
    history = [post("C1", T0, "ana"), post("C1", T0 + 60 * SECOND, "cy", "hi"), late, heartbeat(T0 + 2 * DAY)]
    records = lines_of(history)
    run = run_through(records, RULES, ENCODING)

    assert run.late
    assert broken(audited(run.examples, records)) == broken(audited(run.examples, records, sample=9)) == {}


# Splits


def split(at: float) -> tuple[list[bytes], list[bytes], int]:
    """The simulated file cut in two, without what clashes."""
    lines = made_up()[1].examples
    times = sorted(micros(body_of(line)["prompt_ts"]) for line in lines)
    cut = times[int(at * len(times))]
    valid = [line for line in lines if micros(body_of(line)["prompt_ts"]) >= cut]
    held = {each["ts"] for line in valid for each in body_of(line)["window"]}
    talks = {body_of(line)["conversation"] for line in valid}
    train = [
        line
        for line in lines
        if micros((body := body_of(line))["settled_ts"]) < cut
        and body["conversation"] not in talks
        and not held.intersection(each["ts"] for each in body["window"])
    ]
    return train, valid, cut


def test_a_split_by_time_does_not_leak():
    """All is settled before the cut, and what clashes has left the training side."""
    train, valid, _ = split(0.8)

    audit = audited(train, valid=valid)

    assert train
    assert broken(audit) == {}
    assert audit.laws[6].verdict == "kept"


def test_training_that_goes_on_after_the_cut_is_named():
    """One training example that is settled too late."""
    train, valid, cut = split(0.8)
    late = next(line for line in made_up()[1].examples if line not in valid and micros(body_of(line)["settled_ts"]) >= cut)

    assert "settled after the cut" in broken(audited([*train, late], valid=valid))[7]


def test_a_random_split_leaks_in_every_way():
    """Validation reaches back before the cut, and messages and conversations are on both sides."""
    lines = list(made_up()[1].examples)
    Random(1).shuffle(lines)

    found = broken(audited(lines[100:], valid=lines[:100]))

    assert set(found) == {7}
    for told in ("from before the cut", "messages in windows on both sides", "conversations on both sides"):
        assert told in found[7]


# Other tools' files


def talk(count: int = 400, seed: int = 3) -> list[Record]:
    """People talk in three channels, each sentence another one."""
    draws = Random(seed)
    history, t = [], T0
    for number in range(count):
        t += draws.randrange(1, 60) * SECOND
        words = " ".join(draws.choice(["blue", "deploy", "lunch", "server", "why", "later", "tomorrow", "please"]) for _ in range(5))
        history.append(post(f"C{draws.randrange(3)}", t, draws.choice(["ana", "bo", "cy", "di", "ed"]), f"{words} {number}"))
    return history


Said = Sequence[tuple[str, str]]


def pairs_of(history: Iterable[Record], shown: Callable[[Said, str], Iterable[str]]) -> list[bytes]:
    """What another tool makes of a history: of each channel's last five messages those that it shows, and who posted next."""
    rows, said = [], dict[str, list[tuple[str, str]]]()
    for record in history:
        assert record.data is not None
        before = said.setdefault(str(record.channel), [])
        user, text = record.data["user"], record.data["text"]
        if texts := list(shown(before[-5:], user)):
            rows.append(orjson.dumps({"prompt": "\n\n".join(texts) + "\n\n###\n\n", "completion": f" {'abcde'.index(user[0])} end"}))
        before.append((user, text))
    return rows


def everything(window: Said, _: str) -> list[str]:
    return [text for _, text in window]


def others_only(window: Said, answerer: str) -> list[str]:
    return [text for user, text in window if user != answerer]


def what_fits(window: Said, _: str) -> list[str]:
    texts = [text for _, text in window]
    while sum(map(len, texts)) > 110:
        del texts[0]
    return texts


def some(window: Said, _: str) -> list[str]:
    return [text for user, text in window if sum(text.encode()) % 4 and user]


@pytest.mark.parametrize("shown", [everything, what_fits, some])
def test_prompts_that_leave_out_regardless_of_who_answers_pass(shown: Callable[[Said, str], Iterable[str]]):
    """Whole windows, windows cut to a length, and windows with every fourth message left out."""
    audit = audit_pairs(lines_of(talk()), pairs_of(talk(), shown), PLAIN)

    assert broken(audit) == {}
    assert audit.laws[0].verdict == audit.laws[1].verdict == "kept"
    assert audit.checked["placed"] > 0.9 * audit.checked["examples"]


def test_prompts_without_the_answerer_are_named():
    """The rule of the original: law 2, with how many rows and the p-value; in chat form, too."""
    rows = pairs_of(talk(), others_only)
    chats = [
        orjson.dumps({"messages": [{"role": "user", "content": body["prompt"]}, {"role": "assistant", "content": body["completion"]}]})
        for body in map(body_of, rows)
    ]

    audits = [audit_pairs(lines_of(talk()), lines, PLAIN) for lines in (rows, chats)]

    for audit in audits:
        assert set(broken(audit)) == {2}
        assert "prompts leave out the answerer's own messages" in broken(audit)[2]
        assert audit.measured["leak_test"]["p_value"] < 1e-20
        assert audit.measured["answerer_absent_from_prompts"] == 1


def test_prompts_that_hold_their_answer_are_named():
    """Each prompt ends with the message that is to be foretold: the completion is its author."""
    history, rows = talk(), list[bytes]()
    said: dict[str, list[str]] = {}
    for record in history:
        assert record.data is not None
        before = said.setdefault(str(record.channel), [])
        before.append(record.data["text"])
        rows.append(orjson.dumps({"prompt": "\n\n".join(before[-5:]), "completion": record.data["user"]}))

    found = broken(audit_pairs(lines_of(history), rows, PLAIN))

    assert set(found) == {2}
    assert "hold the answer itself" in found[2]


def test_sentences_that_nobody_said_and_later_ones_are_named():
    """An invented sentence, one from far later, and an edited text that the answer came before: law 1."""
    history = talk()
    rows = pairs_of(history, everything)
    assert history[-1].data is not None
    later = str(history[-1].data["text"])
    rows[40] = orjson.dumps({"prompt": body_of(rows[40])["prompt"].replace("\n\n", "\n\nnever said by anybody\n\n", 1), "completion": "x"})
    rows[50] = orjson.dumps({"prompt": body_of(rows[50])["prompt"].replace("\n\n", f"\n\n{later}\n\n", 1), "completion": "x"})
    first = history[100]
    assert first.data is not None
    assert first.t is not None
    corrected = [*history, edit(str(first.channel), history[-1].t or 0, first.t, "corrected much later")]
    edited = [line.replace(str(first.data["text"]).encode(), b"corrected much later") for line in rows]

    found = broken(audit_pairs(lines_of(history), rows, PLAIN))
    of_edit = broken(audit_pairs(lines_of(corrected), edited, PLAIN))

    assert set(found) == {1}
    assert "nobody said “never said by anybody”" in found[1]
    assert "was first said at" in found[1]
    assert "is as edited at" in of_edit[1]


def test_both_sides_of_a_foreign_split_are_compared():
    """Cut in the middle of a conversation, or at random: law 7; with a gap between, all is well."""
    rows = pairs_of(talk(), everything)
    mixed = list(rows)
    Random(1).shuffle(mixed)

    random = broken(audit_pairs(lines_of(talk()), mixed[80:], PLAIN, valid=mixed[:80]))
    clean_cut = audit_pairs(lines_of(talk()), rows[:250], PLAIN, valid=rows[300:])

    assert set(random) == {7}
    assert "messages on both sides" in random[7]
    assert "before the last training answer" in random[7]
    assert broken(clean_cut) == {}
    assert clean_cut.laws[6].verdict == "kept"


def test_prompts_of_another_workspace_are_not_judged():
    """Nothing of them was said here: that proves no leak, and the audit says to look at SOURCE."""
    audit = audit_pairs(lines_of(talk(50)), [b'{"prompt": "something else entirely", "completion": "1"}'] * 3, PLAIN)

    assert not audit.is_broken
    assert "is SOURCE the history" in audit.laws[0].told


def test_the_tail_is_that_of_all_permutations():
    """Against counting by hand, and close to the normal approximation where that takes over."""
    assert stratified_tail([(4, 2, 2, 1)])[0] == pytest.approx(5 / 6)
    assert stratified_tail([(4, 2, 2, 2), (3, 1, 1, 1)])[0] == pytest.approx(1 / 6 / 3)
    near, is_exact = stratified_tail([(4000, 1400, 1400, 520)])
    far, is_exact_too = stratified_tail([(4600, 1600, 1600, 590)])
    assert (is_exact, is_exact_too) == (True, False)
    assert 0.001 < far < 0.05
    assert 0.001 < near < 0.05


@pytest.mark.parametrize(
    "line", [b"oops", b"[]", b'{"prompt": 3}', b'{"messages": [{"role": "user"}, {"role": "assistant", "content": "1"}]}']
)
def test_lines_of_another_form_are_told(line: bytes):
    """No row is read into what is none."""
    assert pair_of(line) is None
    assert "without a prompt" in broken(audit_pairs([], [line], PLAIN))[4]


def test_kinds_of_files_are_told_apart():
    """By their first readable line."""
    assert kind_of(made_up()[1].examples) == "examples"
    assert kind_of([b"oops", b'{"messages": []}']) == "pairs"


def test_the_report_is_json():
    """All of it, for `--report`."""
    for audit in (audited(made_up()[1].examples[:50]), audit_pairs(lines_of(talk(50)), pairs_of(talk(50), others_only), PLAIN)):
        report = orjson.loads(orjson.dumps(audit.as_json()))
        assert [each["law"] for each in report["laws"]] == [1, 2, 3, 4, 5, 6, 7]
        assert report["kept"] is not audit.is_broken


@pytest.mark.realdata
def test_the_leak_of_the_original_is_named(shared: Path):
    """Every row is found, every completion goes with who posted next, and no prompt shows the person who answers."""
    golden = shared / "golden"
    records, rows = ((golden / name).read_bytes().splitlines() for name in ("events.jsonl", "examples.jsonl"))

    audit = audit_pairs(records, rows, RULES)

    assert set(broken(audit)) == {2}
    assert "in 455 of 455 rows" in broken(audit)[2]
    assert audit.measured["leak_test"]["p_value"] < 1e-100
    assert audit.measured["answerer_absent_from_prompts"] == 1
    assert audit.checked["placed"] == len(rows)
    assert audit.measured["completions_agree_with_who_posted_next"] == 1
