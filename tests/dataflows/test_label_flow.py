"""The labeling flow: whatever the labeler does and whenever it does it, each example comes out once, and nothing piles up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.log import Record
from beepgpt.conversations.account import Account
from beepgpt.conversations.shard import OtherState
from beepgpt.conversations.signals import SignalVerdict
from beepgpt.dataflows.asking import Gate
from beepgpt.dataflows.label_examples import LabeledRecord, LabelExamples, LabelingRun, Read, check_labels, labels_as_json, read_of
from beepgpt.dataflows.labeling import labeling_flow
from beepgpt.labeling.labelers.labeled import CannotLearn, labeled_few_shots
from beepgpt.labeling.labelers.local import BatchingLabeler, LocalLabeler
from beepgpt.labeling.labelers.rules import RulesLabeler
from beepgpt.labeling.questions import CannotGoOn, CannotLabel, labeled_line
from tests.support import lines_in
from tests.support.labeling import Labels, asked_about, few_shots_in, made_examples, prompts_of
from tests.support.openai_model import by_hash

TOLD = "0123456789ab"


def line_of(number: int, *, silent: bool = False, **more: Any) -> bytes:
    example = {"id": f"{number:032x}", "channel": "C1", "window": [{"ts": "1.0", "user": "U1"}], "prompt": f"prompt {number}"}
    return json.dumps(example | {"answer": [] if silent else ["U2"]} | more).encode()


def lines(count: int) -> list[bytes]:
    """Every fifth is a silence."""
    return [line_of(number, silent=number % 5 == 0) for number in range(count)]


@dataclass
class Threads:
    """A labeler that takes its time, in threads; the rule decides, and may raise."""

    rule: Callable[[str], SignalVerdict] = lambda prompt: SignalVerdict(
        "strong" if by_hash(prompt) >= 0.5 else "weak", by_hash(prompt), "rule"
    )
    seconds: float = 0.0
    fingerprint: str = TOLD
    asked: list[str] = field(default_factory=list)
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def label(self, prompt: str) -> Future[SignalVerdict]:
        with self.lock:
            self.asked.append(prompt)
            self.now += 1
            self.most = max(self.most, self.now)
        return self.pool.submit(self._label, prompt)

    def _label(self, prompt: str) -> SignalVerdict:
        try:
            time.sleep(self.seconds * by_hash(prompt[::-1]))  # so that answers come in another order
            return self.rule(prompt)
        finally:
            with self.lock:
                self.now -= 1


@dataclass
class Outcome:
    """What a flow gave."""

    lines: list[bytes]
    letters: list[dict[str, Any]]
    account: Account


def chunks(all_lines: Sequence[bytes], size: int = 7) -> list[Any]:
    return [("examples", first + 1, list(all_lines[first : first + size])) for first in range(0, len(all_lines), size)]


def run(labeling: LabelingRun, given_chunks: Sequence[Any], store: RecoveryConfig | None = None) -> Outcome:
    """The flow over chunks; each batch is an epoch."""
    kept: dict[str, list[Any]] = {"examples": [], "dead_letters": []}
    accounts: list[Account] = []
    source: TestingSource[Any] = TestingSource(given_chunks)
    flow = labeling_flow(source, labeling, {name: TestingSink(into) for name, into in kept.items()}, accounts.append)
    run_main(flow, epoch_interval=timedelta(0), recovery_config=store)
    (account,) = accounts or [Account()]
    assert check_labels(account) == []
    return Outcome(lines_in(kept["examples"]), [json.loads(each) for each in lines_in(kept["dead_letters"])], account)


def ids(found: Sequence[bytes]) -> list[str]:
    return sorted(json.loads(each)["id"] for each in found)


# Lines

texts = st.text(st.characters(codec="utf-8"), max_size=30)
values = st.recursive(st.none() | st.booleans() | st.integers(-(2**50), 2**50) | texts, lambda more: st.lists(more, max_size=3))
verdicts = st.builds(SignalVerdict, st.sampled_from(["strong", "weak"]), st.none() | st.floats(0, 1), texts)
SIGNALS = ("signal", "signal_p", "signal_model", "signal_instructions")


@given(st.dictionaries(texts, values, min_size=1).filter(lambda body: not set(SIGNALS) & set(body)), verdicts, verdicts)
def test_a_label_stands_behind_all_else_and_replaces_an_older_one(body: dict[str, Any], verdict: SignalVerdict, other: SignalVerdict):
    """The line is kept byte for byte, whatever stands in it."""
    line = json.dumps(body, ensure_ascii=False).encode()
    labeled = labeled_line(line, verdict, TOLD)

    assert labeled.startswith(line[:-1] + b",")
    assert list(json.loads(labeled).items())[: len(body)] == list(body.items())
    assert list(json.loads(labeled).values())[-4:] == [verdict.signal, verdict.p, verdict.model, TOLD]
    assert labeled_line(labeled_line(line, other, "ba98"), verdict, TOLD) == labeled


def test_text_that_looks_like_a_label_is_text():
    """It stands in a prompt, where quotation marks have backslashes."""
    looks = ',"signal":"weak","signal_p":null,"signal_model":"m","signal_instructions":"00"}'
    line = json.dumps({"id": "1", "prompt": looks}).encode()

    assert labeled_line(line, SignalVerdict("strong", None, "m"), TOLD).startswith(line[:-1])


# The flow


@pytest.mark.parametrize("seconds", [0.0, 0.005])
def test_each_example_comes_out_once(seconds: float):
    """In any order: labeled as the rule says, silences as they came."""
    came = lines(300)
    labeler = Threads(seconds=seconds)
    outcome = run(LabelingRun(labeler, ahead=20), chunks(came))

    assert ids(outcome.lines) == ids(came)
    assert set(came[::5]) <= set(outcome.lines)
    for each in map(json.loads, outcome.lines):
        assert not each["answer"] or each["signal"] == labeler.rule(each["prompt"]).signal
    assert labels_as_json(outcome.account)["silent"] == 60


def test_no_more_is_asked_or_read_than_may_be_at_a_time():
    """However slow the labeler is: the input waits."""
    read: list[int] = []

    def told() -> Iterator[Any]:
        for chunk in chunks(lines(200), 10):
            read.append(len(labeler.asked))
            yield chunk

    labeler = Threads(seconds=0.01)
    run(LabelingRun(labeler, ahead=6), told())  # type: ignore[arg-type]

    assert labeler.most <= 6
    asked_by_then = [max(chunk * 8 - 8 - 6, 0) for chunk in range(len(read))]  # 8 of 10 are asked about; 6 may still be answered
    assert all(asked >= least for asked, least in zip(read[1:], asked_by_then, strict=False))


def test_what_can_not_be_labeled_is_a_dead_letter():
    """With the labeler's reason, its place and the line as it came."""
    came = [*lines(20), b"oops"]

    def rule(prompt: str) -> SignalVerdict:
        if prompt.endswith("7"):
            raise CannotLabel("refused", "it is a seven")
        return SignalVerdict("strong", None, "m")

    outcome = run(LabelingRun(Threads(rule)), chunks(came, 30))

    told = {each["place"]: (each["reason"], each["record"]) for each in outcome.letters}
    assert told == {
        "examples:8": ("refused", came[7].decode()),
        "examples:18": ("refused", came[17].decode()),
        "examples:21": ("not_json", "oops"),
    }


def test_a_person_knows_better_and_what_is_excluded_is_not_asked():
    """Neither reaches the labeler."""
    labeler = Threads()
    known = {f"{3:032x}": SignalVerdict("weak", None, "person")}
    outcome = run(LabelingRun(labeler, known=known, is_excluded=lambda question: question.id.endswith("4")), chunks(lines(10)))

    assert not {"prompt 3", "prompt 4"} & set(labeler.asked)
    assert [each["reason"] for each in outcome.letters] == ["excluded"]
    assert labels_as_json(outcome.account)["by_hand"] == 1


def test_other_errors_of_a_labeler_stop_the_flow():
    """They are ours to fix, and no dead letters."""

    def rule(prompt: str) -> SignalVerdict:
        raise ZeroDivisionError

    with pytest.raises(Exception) as raised:
        run(LabelingRun(Threads(rule)), chunks(lines(5)))
    causes = []
    each: BaseException | None = raised.value
    while each is not None:
        causes.append(type(each))
        each = each.__cause__ or each.__context__
    assert ZeroDivisionError in causes


@pytest.mark.parametrize("after", [0, 1, 37, 90])
def test_what_can_not_go_on_is_taken_up_again(tmp_path: Path, after: int):
    """The run stops, keeps what it did, and a second one labels the rest: each once."""
    init_db_dir(tmp_path, 1)
    store = RecoveryConfig(tmp_path, timedelta(0))
    came = lines(200)
    stops: list[CannotGoOn] = []
    labeler = Threads(seconds=0.002)
    count = 0

    def failing(prompt: str) -> SignalVerdict:
        nonlocal count
        with labeler.lock:
            count += 1
            if count > after:
                raise CannotGoOn("no_money", "no money left")
        return labeler.rule(prompt)

    first_labeler = replace(labeler, rule=failing, asked=[])
    stopping = LabelingRun(first_labeler, ahead=10, is_stopping=lambda: bool(stops), stop=stops.append)
    # As the program's own sources do, this one ends when the run stops.
    first = run(stopping, StopsWhen(chunks(came), stopping.is_stopping), store)  # type: ignore[arg-type]
    second = run(LabelingRun(labeler, ahead=10), chunks(came), store)

    assert str(stops[0]) == "no money left"
    assert labels_as_json(first.account)["waiting"] > 0
    assert ids(first.lines + second.lines) == ids(came)
    assert first.letters == second.letters == []
    assert labels_as_json(second.account) | {"waiting": 0} == labels_as_json(run(LabelingRun(labeler), chunks(came)).account)


class StopsWhen:
    """Chunks that end early when they are told to."""

    def __init__(self, all_chunks: Sequence[Any], is_stopping: Callable[[], bool]) -> None:
        self._chunks = all_chunks
        self._is_stopping = is_stopping

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._chunks:
            if self._is_stopping():
                return
            yield chunk


def test_a_state_of_another_version_is_refused():
    """With what is kept all the same."""
    with pytest.raises(OtherState, match=r"version 99.*is not asked again"):
        LabelExamples(LabelingRun(Threads()), {"version": 99})


# One step, by hand


def tombstone(number: int) -> Read:
    return Read("topic/0:9", None, f"{number:032x}".encode(), "1706702400.000000")


def given_out(tagged: Any) -> list[LabeledRecord]:
    return [made for kind, each in tagged for made in each if kind == "labeled"]


def test_nothing_comes_after_its_retraction():
    """An example that is retracted while it is asked about, or waits for that, never comes out; one that is out is taken back."""
    release = threading.Event()

    def rule(prompt: str) -> SignalVerdict:
        release.wait(10)
        return SignalVerdict("strong", None, "m")

    step = LabelExamples(LabelingRun(Threads(rule), ahead=2), None)
    reads = [Read("topic/0:1", line_of(number), f"{number:032x}".encode()) for number in range(1, 5)]
    before = given_out(step.on_batch([[*reads, tombstone(1), tombstone(4), tombstone(7)]])[0])
    release.set()
    after = given_out(step.on_eof()[0])

    assert [(int(each.id, 16), each.line) for each in before] == [(1, None), (4, None), (7, None)]
    assert sorted(int(each.id, 16) for each in after) == [2, 3]
    assert all(each.line for each in after)


def test_what_was_taken_back_once_and_is_made_again_comes_out():
    """After a replay, the order of the topic counts."""
    step = LabelExamples(LabelingRun(RulesLabeler()), None)
    again = Read("topic/0:3", line_of(1), f"{1:032x}".encode())
    made = given_out(step.on_batch([[again, tombstone(1), again]])[0])

    assert [each.line is None for each in made] in ([True, False], [False, True, False])


def test_a_snapshot_holds_what_is_asked_and_what_waits():
    """As it came, so that it can be asked again; later changes don't reach it."""
    release = threading.Event()
    labeler = Threads(lambda prompt: SignalVerdict("weak", None, "m") if release.wait(10) else SignalVerdict("strong", None, "m"))
    step = LabelExamples(LabelingRun(labeler, ahead=2), None)
    step.on_batch([[Read(f"examples:{number}", line_of(number)) for number in range(1, 6)]])
    state = step.snapshot()
    release.set()
    step.on_eof()
    resumed = LabelExamples(LabelingRun(RulesLabeler(), gate=(gate := Gate())), state)
    was_closed = not gate.is_open
    made = given_out(resumed.on_eof()[0])

    assert was_closed
    assert sorted(json.loads(each.line or b"")["prompt"] for each in made) == [f"prompt {number}" for number in range(1, 6)]


def test_records_of_topics_have_their_places():
    """A tombstone tells when it was retracted."""
    record = Record(None, 7, 0, b"6f1c", [("retracted_ts", b"1.000000")])

    assert read_of("slack.examples/3", 5, record) == Read("slack.examples/3:7", None, b"6f1c", "1.000000")
    assert read_of("examples.jsonl", 5, b"{}") == Read("examples.jsonl:5", b"{}")


# The labelers that need nobody


def test_rules_and_the_local_labeler_label_without_anybody(tmp_path: Path):
    """With no key and no server; the local one tells how good it is, and gives a probability."""
    labels = Labels(tmp_path / "work", made_examples())
    rules = labels.run(None, labeler="rules")
    by_rules = labels.labeled
    few_shots_in(labels.folder / "few-shots", made_examples(), 60)
    local = labels.run(None, labeler="local")

    for report in (rules, local):
        assert (report["status"], report["ended"], report["does_not_add_up"]) == (0, True, [])
        assert report["account"]["silent"] + sum(report["account"]["labeled"].values()) == len(labels.lines)
    assert {each["signal_model"].partition(":")[0] for each in by_rules if each["answer"]} == {"rules"}
    labeled = [each for each in labels.labeled if each["answer"]]
    assert {each["signal_model"] for each in labeled} == {"local", "person"}
    assert all((each["signal_p"] >= 0.5) == (each["signal"] == "strong") for each in labeled if each["signal_model"] == "local")


def test_the_local_labeler_says_in_a_batch_what_it_says_of_one(tmp_path: Path):
    """To the last digit."""
    few_shots_in(tmp_path / "few-shots", made_examples(), 60)
    labeler = LocalLabeler(labeled_few_shots(tmp_path / "few-shots"))
    prompts = sorted(prompts_of(made_examples()))[:50]
    together = BatchingLabeler(labeler)

    assert [each.result() for each in map(together.label, prompts)] == [labeler.label(each).result() for each in prompts]


def test_too_few_few_shots_are_told_of(tmp_path: Path):
    """With what to do."""
    labels = Labels(tmp_path / "work", made_examples()[:20])
    with pytest.raises(CannotLearn, match="beepgpt review"):
        labels.run(None)
    few_shots_in(labels.folder / "few-shots", made_examples(), 6)
    with pytest.raises(CannotLearn, match=r"3 strong and 3 weak.*--labeler rules"):
        labels.run(None)


def test_it_learns_from_what_was_labeled(tmp_path: Path):
    """By anybody; its verdicts have another hash then."""
    labels = Labels(tmp_path / "work", made_examples())
    few_shots_in(labels.folder / "few-shots", made_examples(), 40)
    alone = labels.run(None)
    teacher = tmp_path / "teacher.jsonl"
    verdicts_ = (line[:-1] + b',"signal":"%s"}' % (b"strong" if b"?" in line else b"weak") for line in made_examples(seed=6))
    teacher.write_bytes(b"\n".join(line for line in verdicts_ if json.loads(line)["answer"]))
    taught = labels.run(None, learn_from=teacher)

    assert alone["told"] != taught["told"]
    right = [each for each in asked_about(labels.to.read_bytes().splitlines()) if (each["signal"] == "strong") == ("?" in each["prompt"])]
    assert len(right) > 0.8 * len(asked_about(labels.lines))
