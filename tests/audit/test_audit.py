"""The audit keeps quiet about clean files, and names every planted fault under the right law."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from beepgpt.audit.example_rows import OtherSettings, examples_in, read_rows
from beepgpt.audit.findings import Findings
from beepgpt.audit.foreign import audit_pairs
from beepgpt.audit.laws import SPOT_CHECKS
from beepgpt.connectors import log
from beepgpt.conversations.channel import Channel
from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.rules import DAY, SECOND, Rules
from beepgpt.conversations.shard import Shard, run_through
from beepgpt.conversations.state import OpenPoint
from beepgpt.conversations.targets import Settlement
from beepgpt.runtime.places import FileLines
from tests.support import oracle_records, ours
from tests.support.audits import ENCODING, PLAIN, RULES, T0, audited, body_of, broken, line_of, made_up, others_only, pairs_of, talk
from tests.support.histories import Record, cases, delete, edit, heartbeat, lines_of, post


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
    assert sample.checked["recomputed"] == sample.checked["from_scratch"] == 5
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


@pytest.mark.parametrize("options", [{}, {"sample": 40}])
def test_rules_that_look_at_who_answers_are_found_out_by_another_answerer(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]):
    """Code that leaks makes the file and audits it: the same point, answered by somebody else, says another thing."""
    records, clean = made_up()
    write = Channel._write

    def leaking(channel: Channel, waiting: OpenPoint, settlement: Settlement, *rest: Any) -> None:
        waiting.speakers += sum(user not in waiting.conversation.spoken for user in settlement.answer)
        write(channel, waiting, settlement, *rest)

    monkeypatch.setattr(Channel, "_write", leaking)
    lines = run_through(records, RULES, ENCODING).examples

    audit = audited(lines, **options)

    assert set(lines) != set(clean.examples)
    assert "speakers change if somebody else answers" in broken(audit)[2]


def test_another_answerer_is_asked_about_every_answered_example_that_is_made_again():
    """The figure that the verdict on law 2 shows is of examples that were answered, each by somebody else."""
    lines = made_up()[1].examples

    some = sorted(lines, key=lambda line: sha256(body_of(line)["id"].encode()).digest())[:SPOT_CHECKS]
    for sample in (None, len(lines), SPOT_CHECKS, 7):
        audit = audited(lines, sample=sample)

        again = some[:sample]
        assert audit.checked["from_scratch"] == len(again)
        assert audit.checked["answered_by_a_stranger"] == sum(bool(body_of(line)["answer"]) for line in again)


@pytest.mark.parametrize("sample", [1, 7, 200, 100_000])
def test_a_sample_is_no_more_work_than_the_whole(monkeypatch: pytest.MonkeyPatch, sample: int):
    """Whatever its size: fewer events are applied, and fewer snapshots are taken up again, or as many."""
    work: Counter[str] = Counter()
    apply, resume = Channel.apply, Shard.resume

    def applied(channel: Channel, *rest: Any) -> None:
        work["applied"] += 1
        apply(channel, *rest)

    def resumed(shard: Shard, *rest: Any) -> None:
        work["resumed"] += 1
        resume(shard, *rest)

    monkeypatch.setattr(Channel, "apply", applied)
    monkeypatch.setattr(Shard, "resume", resumed)
    lines = made_up()[1].examples
    assert broken(audited(lines)) == {}
    whole = Counter(work)
    work.clear()
    assert broken(audited(lines, sample=sample)) == {}

    assert 0 < work["applied"] <= whole["applied"] and 0 < work["resumed"] <= whole["resumed"]


def test_an_audit_keeps_no_line_of_the_file(tmp_path: Path):
    """The lines are read again when they are needed, and kept compressed: what is kept of a file is a part of it."""
    lines = made_up()[1].examples * 2  # each stands twice, which is found without keeping them twice
    path = tmp_path / "examples.jsonl"
    path.write_bytes(b"\n".join(lines))
    rows = list(read_rows(FileLines(path), "", RULES, Findings()))

    assert [row.line for row in rows] == lines
    assert sum(len(row.packed) for row in rows) * 1.5 < path.stat().st_size


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


# Retractions


def test_a_tombstone_in_another_partition_than_its_example_is_named():
    """Partitions were added between the two: compaction will never bring them together. One that was sent to both is well."""
    lines, stamps = list(made_up()[1].examples), {body_of(line)["id"]: body_of(line) for line in made_up()[1].retractions}
    retracted = [line for line in lines if body_of(line)["id"] in stamps]
    one, other = retracted[:2]

    def stands(line: bytes, partition: int, *, is_tombstone: bool = False) -> tuple[int, log.Record]:
        key = body_of(line)["id"].encode()
        headers = [("retracted_ts", stamps[key.decode()]["retracted_ts"].encode())] if is_tombstone else []
        return partition, log.Record(None if is_tombstone else line, 0, T0, key, headers)

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


@pytest.mark.parametrize("meanwhile", [post("C1", T0 + 60 * SECOND, "cy", "hi"), heartbeat(T0 + 60 * SECOND)])
def test_a_late_event_is_in_no_prompt(meanwhile: Record):
    """Bo's message came a minute too late, by a message or by a heartbeat: the run never saw it, and neither does the audit."""
    late = post("C1", T0 + SECOND, "bo", "late")
    history = [post("C1", T0, "ana"), meanwhile, late, heartbeat(T0 + 2 * DAY)]
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


@pytest.mark.parametrize("known", [False, True])
def test_prompts_before_the_cut_are_not_enough(known: bool):
    """A split by `prompt_ts` puts answers from after the cut into training: each such example is named, and no other."""
    lines = made_up()[1].examples
    times = sorted(micros(body_of(line)["prompt_ts"]) for line in lines)
    cut = times[int(0.8 * len(times))]
    train, valid = ([line for line in lines if (micros(body_of(line)["prompt_ts"]) < cut) is early] for early in (True, False))
    late = [line for line in train if micros(body_of(line)["settled_ts"]) >= cut]
    shared = {each for line in valid for each in of_window(line)}
    alone = [line for line in train if line not in late and not shared.intersection(of_window(line))]

    findings = audited([*late, *alone], valid=valid, cut=cut if known else None).findings

    counts = {finding.what: finding.count for finding in findings if finding.law == 7}
    assert len(late) > 1
    assert counts["training examples settled after the cut"] == len(late)
    assert "validation prompts from before the cut" not in counts


def test_a_cut_that_nobody_names_is_guessed_by_what_was_known_of_answers():
    """One validation prompt from before the cut is named, and not the training examples that were open then."""
    lines = sorted(made_up()[1].examples, key=lambda line: body_of(line)["settled_ts"])
    train = lines[: int(0.8 * len(lines))]
    begin = micros(body_of(train[-1])["settled_ts"]) + 1
    valid = [line for line in lines[len(train) :] if micros(body_of(line)["prompt_ts"]) >= begin]
    early = next(line for line in reversed(lines[len(train) :]) if micros(body_of(line)["prompt_ts"]) < begin - 60_000_000)
    open_then = [line for line in train if micros(body_of(line)["settled_ts"]) >= micros(body_of(early)["prompt_ts"])]

    findings = audited(train, valid=[early, *valid], cut=None).findings

    counts = {finding.what: finding.count for finding in findings if finding.law == 7}
    assert len(open_then) > 1
    assert counts["validation prompts from before the cut"] == 1
    assert "training examples settled after the cut" not in counts


def of_window(line: bytes) -> set[tuple[str, str]]:
    """An example's messages."""
    body = body_of(line)
    return {(body["channel"], each["ts"]) for each in body["window"]}


def test_a_random_split_leaks_in_every_way():
    """Validation reaches back before the cut, and messages and conversations are on both sides."""
    lines = list(made_up()[1].examples)
    Random(1).shuffle(lines)

    found = broken(audited(lines[100:], valid=lines[:100]))

    assert set(found) == {7}
    for told in ("from before the cut", "messages in windows on both sides", "conversations on both sides"):
        assert told in found[7]


def test_the_report_is_json():
    """All of it, for `--report`."""
    for audit in (audited(made_up()[1].examples[:50]), audit_pairs(lines_of(talk(50)), pairs_of(talk(50), others_only), PLAIN)):
        report = orjson.loads(orjson.dumps(audit.as_json()))
        assert [each["law"] for each in report["laws"]] == [1, 2, 3, 4, 5, 6, 7]
        assert report["kept"] is not audit.is_broken
