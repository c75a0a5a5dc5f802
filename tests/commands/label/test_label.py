"""Labels by an LLM over real HTTP: nothing is asked twice, and nothing leaves that must not."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.commands.example_source import input_of, look_at
from beepgpt.config.settings import read_settings
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.connectors.openai.responses import BadResponseStore
from beepgpt.connectors.openai.values import AskedModel, Request
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.tokens import SUFFIX
from beepgpt.errors import BadCommand, RunStopped
from beepgpt.labeling.asking import INSTRUCTIONS, Asking
from beepgpt.labeling.few_shots import balanced, read_few_shots
from beepgpt.runtime.recovery import BadRecovery
from tests.support.labeling import Labels, account, asked_about, few_shots_in, made_examples, prompts_of, write
from tests.support.logs import topic_on, write_to
from tests.support.openai_model import by_hash, text_of
from tests.support.openai_script import digest
from tests.support.openai_server import KEY, Server, serving
from tests.support.ports import free_ports

# What comes out


def test_every_example_is_labeled_once_as_the_model_says(server: Server, labels: Labels):
    """The line stays as it was, byte for byte, and its label stands behind it; silences pass as they are."""
    report = labels.run(server)

    labels.check()
    asked = asked_about(labels.lines)
    assert account(report)["labeled"] == dict(Counter("strong" if by_hash(each["prompt"]) >= 0.5 else "weak" for each in asked))
    assert account(report)["silent"] == len(labels.lines) - len(asked) > 0
    for each in labels.labeled:
        if each["answer"]:
            assert each["signal_p"] == pytest.approx(by_hash(each["prompt"]), abs=1e-5)
            assert (each["signal_model"], each["signal_instructions"]) == ("gpt-6-luna", report["told"])


def test_the_same_prompt_is_asked_once_even_while_it_is_asked(server: Server, tmp_path: Path):
    """Twenty examples of two prompts are two requests."""
    server.latency = 0.2
    first, second, *_ = {each["prompt"]: each for each in asked_about(made_examples())}.values()
    lines = [json.dumps(each | {"id": f"{number:032x}"}).encode() for number, each in enumerate([first, second] * 10)]
    labels = Labels(tmp_path / "work", lines)
    report = labels.run(server)

    assert len(server.record.asked) == report["provider"]["requests"] == 2
    assert report["provider"]["together"] == 18
    assert sum(account(report)["labeled"].values()) == 20


def test_decisions_are_another_way_to_ask(server: Server, labels: Labels):
    """By a setting; the same labels."""
    labels.run(server, provider__way="decisions")

    labels.check()
    assert {each.path for each in server.record.asked} == {"/decisions"}


def test_what_was_labeled_before_is_labeled_anew(server: Server, labels: Labels):
    """Old keys are replaced, in place or from the middle of a line."""
    labels.run(server)
    once = labels.to.read_bytes()
    again = Labels(labels.folder / "again", once.splitlines())
    moved = [json.dumps({"signal": "weak", **json.loads(line)}).encode() for line in labels.lines[:5]]
    elsewhere = Labels(labels.folder / "elsewhere", moved)
    again.run(server)
    elsewhere.run(server)

    assert sorted(again.to.read_bytes().splitlines()) == sorted(once.splitlines())
    assert all(list(each)[-4:][0] == "signal" for each in elsewhere.labeled if each["answer"])


# Nothing is asked twice


def test_a_second_run_asks_nothing(server: Server, labels: Labels):
    """What was answered is kept beside the labels."""
    labels.run(server)
    before, lines = len(server.record.asked), labels.to.read_bytes()
    report = labels.run(server)

    assert len(server.record.asked) == before == len(prompts_of(labels.lines))
    assert sorted(labels.to.read_bytes().splitlines()) == sorted(lines.splitlines())
    assert report["estimate"]["requests"] == 0
    assert report["provider"]["requests"] == before, "of all starts"


def test_other_instructions_are_another_question(server: Server, labels: Labels):
    """They are in the hash beside each label, and in what is asked."""
    first = labels.run(server)
    told = labels.folder / "told.txt"
    told.write_text("Answer yes if it is about databases.")
    second = labels.run(server, instructions=told)

    assert first["told"] != second["told"]
    assert {each["signal_instructions"] for each in labels.labeled if each["answer"]} == {second["told"]}
    assert server.record.paid_twice == len(prompts_of(labels.lines)), "each once more"
    with pytest.raises(BadCommand, match="is empty"):
        labels.run(server, instructions=write(labels.folder / "empty.txt", []))


def test_a_run_goes_on_only_with_the_same_questions(server: Server, labels: Labels):
    """Half of the labels by one, half by another: nobody wants that."""
    labels.run(server, recovery=True)
    report = labels.run(server, recovery=True)

    assert report["ended"]
    assert len(server.record.asked) == len(prompts_of(labels.lines))
    with pytest.raises(BadRecovery, match="told was"):
        labels.run(server, recovery=True, provider__model="gpt-6-sol")


def test_the_store_holds_nothing_that_anybody_wrote(server: Server, labels: Labels):
    """Hashes, choices, counts."""
    few_shots_in(labels.folder / "few-shots", labels.lines)
    labels.run(server)
    stored = b"".join(path.read_bytes() for path in labels.folder.glob("labeled.responses.sqlite*"))

    said = {part for each in asked_about(labels.lines) for part in each["prompt"].split("\n\n") if part.count(" ") > 1}
    assert len(said) > 50
    assert not any(part.encode() in stored for part in said)
    assert KEY.encode() not in stored


def test_a_store_that_can_not_be_used_is_told_of(server: Server, labels: Labels):
    """Whatever it is instead."""
    path = labels.folder / "labeled.responses.sqlite"
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(BadResponseStore, match=r"labeled\.responses\.sqlite: .*labeling\.store"):
        labels.run(server)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE things (name)")
    other.close()
    with pytest.raises(BadResponseStore, match="is no store of answers"):
        labels.run(server)
    with pytest.raises(BadResponseStore, match="nowhere"):
        labels.run(server, store=labels.folder / "nowhere" / "store.sqlite")

    assert server.record.asked == []


@given(
    st.text(), st.lists(st.tuples(st.text(), st.sampled_from(["yes", "no"])), max_size=3).map(tuple), st.sampled_from(["chat", "decisions"])
)
def test_a_request_has_the_same_id_however_it_is_found(text: str, shots: tuple[tuple[str, str], ...], way: Literal["chat", "decisions"]):
    """In a batch, the client finds it."""
    asking = Asking(AskedModel("gpt-6-luna", way, marks_prefix=True), "Is it a question?", shots, load_encoding("o200k_base"))

    assert asking.id_of(text) == Request(asking.model, asking.instructions, shots, text).id


# What leaves


def test_what_must_not_leave_does_not(server: Server, tmp_path: Path):
    """Neither in a prompt nor in a few-shot; the label is that of the text that was sent, and the example keeps its own."""
    secret = "write to ana@example.org, the key is AKIAIOSFODNN7EXAMPLE" + SUFFIX
    lines = [json.dumps(each | {"prompt": secret + str(number)}).encode() for number, each in enumerate(asked_about(made_examples())[:6])]
    labels = Labels(tmp_path / "work", lines)
    few_shots_in(labels.folder / "few-shots", lines)
    report = labels.run(server)

    sent = json.dumps([each.body for each in server.record.asked])
    assert "[email]" in sent
    assert "ana@example.org" not in sent
    assert "AKIA" not in sent
    assert all(secret in each["prompt"] for each in labels.labeled)
    assert report["provider"]["redacted"] == {"email": 2, "secret": 2}


def test_what_was_redacted_is_counted_once_however_often_a_batch_is_begun(server: Server, tmp_path: Path):
    """It was planned, and the server did not take it; the same command sends it again."""
    prompts = [f"{number} people write to ana@example.org{SUFFIX}" for number in range(6)]
    some = asked_about(made_examples())[:6]
    labels = Labels(tmp_path / "work", [json.dumps(each | {"prompt": text}).encode() for each, text in zip(some, prompts, strict=True)])
    server.script.other = {"POST batches": ["403"]}
    with pytest.raises(RunStopped, match="may not do this"):
        labels.run(server, batch=True, recovery=True)
    report = labels.run(server, batch=True, recovery=True)

    assert report["provider"]["redacted"] == {"email": 6} and len(server.batches) == 1


def test_nothing_is_sent_elsewhere_unless_that_is_switched_on(server: Server, labels: Labels):
    """The message says what there is to weigh and how it is switched on; this machine is not elsewhere."""
    with pytest.raises(BadCommand, match=r"(?s)api\.openai\.com.*Slack's App Developer Policy.*ALLOW_EXTERNAL=true"):
        labels.run(server, provider__base_url="https://api.openai.com/v1")
    with pytest.raises(BadCommand, match="there is no key"):
        labels.run(server, provider__base_url="https://api.openai.com/v1", provider__allow_external=True, provider__key="")

    assert not labels.to.exists()


def test_excluded_channels_and_people_are_not_sent(server: Server, labels: Labels):
    """They are dead letters with that reason, and no few-shots either."""
    examples = asked_about(labels.lines)
    channel = examples[0]["channel"]
    person = next(each["window"][0]["user"] for each in examples if each["channel"] != channel)
    few_shots_in(labels.folder / "few-shots", labels.lines, 20)
    report = labels.run(server, provider__exclude_channels=channel, provider__exclude_people=f"U0, {person}")

    def is_excluded(example: dict[str, Any]) -> bool:
        return example["channel"] == channel or person in [each["user"] for each in example["window"]]

    by_hand = {each.question.id for each in read_few_shots(labels.folder / "few-shots")}
    out = [each for each in examples if is_excluded(each) and each["id"] not in by_hand]
    assert account(report)["dead_letters"] == {"excluded": len(out)}
    assert {each["reason"] for each in labels.letters} == {"excluded"}
    kept = {each["prompt"] for each in examples if not is_excluded(each)}
    sent = {text_of(message["content"]) for each in server.record.asked for message in each.body["messages"] if message["role"] == "user"}
    assert len(sent) > 10
    assert sent <= kept


# Few-shots


def test_few_shots_stand_first_in_turns_and_are_labeled_by_hand(server: Server, labels: Labels):
    """A strong one, a weak one, and so on, as many of each; their own examples are not asked about."""
    ids = few_shots_in(labels.folder / "few-shots", labels.lines, 9)
    report = labels.run(server)

    messages = server.record.asked[0].body["messages"]
    assert [each["role"] for each in messages] == ["system", *["user", "assistant"] * 8, "user"]
    assert messages[0]["content"] == INSTRUCTIONS
    said = [json.loads(each["content"])["answer"] for each in messages if each["role"] == "assistant"]
    assert said == ["yes", "no"] * 4
    assert account(report)["by_hand"] == 9
    labeled = {each["id"]: each for each in labels.labeled}
    assert [labeled[each]["signal"] for each in ids] == ["strong", "weak"] * 4 + ["strong"]
    assert {(labeled[each]["signal_model"], labeled[each]["signal_p"]) for each in ids} == {("person", None)}
    labels.check()


def test_a_summary_stands_for_a_long_few_shot(server: Server, labels: Labels):
    """If there is one."""
    few_shots_in(labels.folder / "few-shots", labels.lines, 2)
    path = labels.folder / "few-shots" / "examples_pos.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"signal":"strong"', b'"signal":"strong","summary":"in short"'))
    labels.run(server)

    assert server.record.asked[0].body["messages"][1]["content"] == "in short"


def test_as_many_few_shots_as_are_set(labels: Labels):
    """The first of each file, and never more of one kind."""
    few_shots_in(labels.folder / "few-shots", labels.lines, 20)
    found = read_few_shots(labels.folder / "few-shots")

    chosen = [[each.question.id for each in balanced(found, most)] for most in (0, 1, 7, 50)]
    assert [len(each) for each in chosen] == [0, 0, 6, 20]
    assert all(longer[: len(shorter)] == shorter for shorter, longer in pairwise(chosen))
    assert balanced(found[:10], 50) == []


@pytest.mark.parametrize(
    ("pos", "neg", "what"),
    [
        ("{}", "", r"examples_pos\.jsonl:1: is not a few-shot"),
        ("\n{SHOT}", "{SHOT}", r"examples_neg\.jsonl:1: the example .* is a few-shot already"),
        ('{WEAK}', "", r"examples_pos\.jsonl:1: says 'weak'"),
    ],
)  # fmt: skip
def test_what_is_no_few_shot_is_named(labels: Labels, pos: str, neg: str, what: str):
    """With file and line."""
    shot = next(line for line in labels.lines if json.loads(line)["answer"]).decode()
    folder = labels.folder / "few-shots"
    folder.mkdir()
    for name, text in (("pos", pos), ("neg", neg)):
        told = text.replace("{SHOT}", shot).replace("{WEAK}", shot[:-1] + ',"signal":"weak"}')
        (folder / f"examples_{name}.jsonl").write_text(told)
    with pytest.raises(BadCommand, match=what):
        labels.run(None)


# Retractions


def test_what_is_retracted_behind_the_end_of_a_span_is_not_sent(files: SqliteLog):
    """A topic is labeled up to a time, and knows of retractions from later: the message is gone now."""
    topic, (gone, kept) = topic_on(files), made_examples()[:2]
    keys = [json.loads(line)["id"].encode() for line in (gone, kept)]
    for key, value, at in ((keys[0], gone, 1_000_000), (keys[1], kept, 1_000_000), (keys[0], None, 5_000_000)):
        write_to(files, topic, OutgoingRecord(key, value, (), 0, at))
    contents = look_at(input_of(f"{files.place}/{topic}?to=1970-01-01T00:00:03"), read_settings(environ={}))

    assert contents.retracted == {keys[0].decode()}


def test_what_is_retracted_is_neither_sent_nor_passed_on(server: Server, labels: Labels):
    """The file of retractions goes along, in order."""
    gone = asked_about(labels.lines)[:5]
    beside = labels.folder / "examples.retractions.jsonl"
    write(beside, [json.dumps({"id": each["id"], "retracted_ts": "1706702400.000000"}).encode() for each in gone])
    report = labels.run(server)

    assert account(report)["retracted"] == 5
    passed_on = (labels.folder / "labeled.retractions.jsonl").read_bytes().splitlines()
    assert passed_on == sorted(beside.read_bytes().splitlines())
    kept = {each["prompt"] for each in asked_about(labels.lines)[5:]}
    assert {digest(each) for each in kept} == set(server.record.answered)
    labels.check(without={each["id"] for each in gone})


# Figures


def test_a_monitor_is_told_how_far_it_is(labels: Labels):
    """Figures by what became of each, what waits, and whether the run goes on."""
    port = free_ports()
    pages: list[str] = []

    def look() -> None:
        while not any(re.search("beepgpt_labeling_read_total [1-9]", page) for page in pages):
            with suppress(OSError):
                pages.extend(urlopen(f"http://127.0.0.1:{port}/{path}").read().decode() for path in ("healthz", "metrics"))

    with serving(latency=0.3) as slow, ThreadPoolExecutor(1) as other:
        looked = other.submit(look)
        labels.run(slow, run__metrics_port=port)
        looked.result(timeout=30)

    told = dict(re.findall(r"^(beepgpt_labeling_\S+) (\S+)$", pages[-1], re.MULTILINE))
    assert "alive" in pages[-2]
    assert float(told["beepgpt_labeling_read_total"]) == len(labels.lines)
    assert float(told["beepgpt_labeling_waiting"]) > 0
    done = sum(float(told[f'beepgpt_labeling_records_total{{end="{end}"}}']) for end in ("strong", "weak", "silent"))
    passing = len(labels.lines) - done - float(told["beepgpt_labeling_waiting"])
    assert passing in (0, 1)  # one may be on its way from the one to the other
