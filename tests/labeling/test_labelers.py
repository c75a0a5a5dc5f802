"""Labelers that need no key: rules do as they are called, and the classifier learns, is the same each time, and is honest about itself."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.conversations.signals import Signal
from beepgpt.conversations.tokens import SUFFIX
from beepgpt.labeling.agreement import LEAST, Accuracy, agreement, groups_of, interval
from beepgpt.labeling.labelers.labeled import CannotLearn, Labeled, labeled_few_shots, read_labeled
from beepgpt.labeling.labelers.local import LocalLabeler, _classifier, _scorer_of, unseen_verdicts
from beepgpt.labeling.labelers.rules import SHORT, RulesLabeler, rule_of
from beepgpt.simulation.workspace import Plan, write_export
from tests.support import beep
from tests.support.openai_model import by_hash

# Rules


@pytest.mark.parametrize(
    ("rule", "texts"),
    [
        ("no_words", ["", "   ", "123", "!!! ???", "10:30 -> 11:00", "🎉🎉"]),
        ("greeting", ["hi", "Hello everyone!", "Goood MORNING all", "Guten Morgen zusammen", "buenos días a todos", "Доброе утро"]),
        (
            "thanks",
            ["thx", "Thank you so much!!", "ok great", "yes", "haha", "danke!", "muchas gracias", "了解です"],
        ),
        ("thanks", ["ありがとうございます", "よろしくお願いいたします。", "谢谢", "감사합니다"]),
        ("short", ["#ftp", "look for it", "Bo, thanks a lot for that", "鍵です", "so, Ana?"]),
        ("words", ["How do I reset my key?", "the build fails since noon", "本番の鍵を交換してください", "หน้าเว็บเปิดไม่ได้เลย"]),
    ],
)
def test_a_rule_says_what_it_is_called_for(rule: str, texts: list[str]):
    """One message or several, with a prompt's end or without."""
    for text in texts:
        assert rule_of(text) == rule, text
        assert rule_of(text + SUFFIX) == rule, text
        assert rule_of(f"{text}\n\n{text}{SUFFIX}") in (rule, "words"), text


def test_a_courtesy_beside_a_question_is_no_courtesy():
    """It is the whole conversation that counts."""
    prompt = "hi all\n\nwhere does the importer write its log?\n\nthanks!" + SUFFIX

    assert RulesLabeler().label(prompt).result().signal == "strong"


@given(st.text())
def test_rules_have_a_verdict_on_any_text(text: str):
    """At once, with the name of the rule, and no probability."""
    future = RulesLabeler().label(text)
    verdict = future.result(timeout=0)

    assert verdict.model == f"rules:{rule_of(text)}"
    assert (verdict.signal == "strong") == (rule_of(text) == "words")
    assert verdict.p is None


WORDS = st.lists(st.sampled_from(["key", "build", "export", "widget", "colour"]), min_size=SHORT, max_size=9)


@given(WORDS, st.sampled_from(["hi", "thanks", "ok"]))
def test_enough_words_are_enough_whatever_courtesies_stand_beside_them(words: list[str], courtesy: str):
    """And one too few are not."""
    assert rule_of(f"{courtesy} {' '.join(words)} {courtesy}") == "words"
    assert rule_of(f"{courtesy} {' '.join(words[: SHORT - 1])} {courtesy}") == "short"


# Reading


def line_of(prompt: str, signal: str | None = None, **more: object) -> bytes:
    """An example as it stands in a file, with as much of it as counts here."""
    body: dict[str, object] = {"id": "6f1c", "channel": "C1", "conversation": f"C1:{len(prompt)}:thread", "window": [], "prompt": prompt}
    return json.dumps(body | more | ({"signal": signal} if signal else {})).encode() + b"\n"


def test_few_shots_are_read_from_their_two_files(tmp_path: Path):
    """Each with its conversation and its messages; the file tells the signal where the line doesn't, and a blank line is none."""
    (tmp_path / "examples_pos.jsonl").write_bytes(line_of("a", "strong", window=[{"ts": "1.0", "user": "U1"}]) + b"\n")
    (tmp_path / "examples_neg.jsonl").write_bytes(line_of("bb", "weak", summary="b") + line_of("ccc"))

    assert labeled_few_shots(tmp_path) == [
        Labeled("a", "strong", ("C1:1:thread", "C1:1.0")),
        Labeled("bb", "weak", ("C1:2:thread",)),
        Labeled("ccc", "weak", ("C1:3:thread",)),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "is no JSON"),
        (b"[1]", "is no example"),
        (b'{"prompt": 1, "signal": "strong"}', "is no example"),
        (line_of("a", "weak"), 'its "signal" is not "strong"'),
        (b'{"prompt": "a", "signal": ["strong"]}', 'is neither "strong" nor "weak"'),
        (line_of("a", "stronger"), 'is neither "strong" nor "weak"'),
    ],
)
def test_a_few_shot_that_can_not_be_read_is_named(tmp_path: Path, line: bytes, told: str):
    """By file and line, and never by what is in it."""
    (tmp_path / "examples_pos.jsonl").write_bytes(line_of("secret words", "strong") + line.strip() + b"\n")

    with pytest.raises(CannotLearn) as raised:
        labeled_few_shots(tmp_path)

    assert told in str(raised.value)
    assert f"{tmp_path / 'examples_pos.jsonl'}, line 2" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_where_there_are_no_few_shots_it_says_how_to_get_some(tmp_path: Path):
    """An empty folder, and none at all."""
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CannotLearn, match=r"choose some with `beepgpt review SOURCE"):
            labeled_few_shots(folder)


def test_a_file_that_can_not_be_opened_is_named(tmp_path: Path):
    """As is what to do about it."""
    (tmp_path / "examples_pos.jsonl").mkdir()

    with pytest.raises(CannotLearn, match=r"examples_pos\.jsonl: can't be read"):
        labeled_few_shots(tmp_path)


def test_of_labeled_examples_silences_are_left_out():
    """They have no label."""
    lines = [line_of("a", "strong"), line_of("bb"), line_of("ccc", "weak")]

    assert [each.prompt for each in read_labeled(lines, "labeled.jsonl")] == ["a", "ccc"]


# The classifier

TOPICS = [
    "the importer drops the last column",
    "the build fails on main",
    "the invoice has the wrong rate",
    "tests hang on the second worker",
]
WAYS = [
    "how do I find out why {}?",
    "since noon {}, and nobody knows why",
    "can somebody look at it: {}",
    "{}, as the log says in line {n}",
]
TALK = ["thanks", "ok {n}", "haha good one", "see you at {n}", "morning", "great, thank you", "nice", "yes, same", "same here", "+1"]


def made_up(count: int, seed: int = 1) -> list[Labeled]:
    """As many strong as weak ones, as easy to tell apart as can be, each in a conversation of its own."""
    rng = random.Random(seed)
    ways: dict[Signal, Callable[[int], str]] = {
        "strong": lambda n: rng.choice(WAYS).format(rng.choice(TOPICS), n=n),
        "weak": lambda n: rng.choice(TALK).format(n=n) + "!" * rng.randrange(3),
    }
    found: dict[str, Labeled] = {}
    while len(found) < count:
        signal: Signal = "strong" if len(found) % 2 else "weak"
        prompt = "\n\n".join(ways[signal](rng.randrange(10**6)) for _ in range(rng.randrange(1, 4))) + SUFFIX
        found[prompt] = Labeled(prompt, signal, (f"C1:{len(found)}",))
    return list(found.values())


@pytest.mark.parametrize(("strong", "weak"), [(LEAST - 1, 40), (40, LEAST - 1), (0, 0), (0, 40)])
def test_too_few_of_either_signal_are_too_few(strong: int, weak: int):
    """It says how many there are, how many it needs, and where they come from."""
    examples = made_up(100)
    few: list[Labeled] = []
    for signal, count in (("strong", strong), ("weak", weak)):
        few += [each for each in examples if each.signal == signal][:count]

    with pytest.raises(
        CannotLearn, match=rf"has {strong} strong and {weak} weak .* needs {LEAST} or more of each .*`beepgpt review SOURCE`"
    ):
        LocalLabeler(few)


def test_it_learns_from_few():
    """Twenty-five of each are enough for what is easy."""
    labeler = LocalLabeler(made_up(50))
    unseen = made_up(200, seed=2)

    assert right(labeler, unseen) > 0.95
    assert labeler.label(unseen[0].prompt).result(timeout=0).model == "local"


def test_a_verdict_is_its_probability():
    """Strong from one half on; and it is the same whether a prompt is looked at alone or among others."""
    labeler = LocalLabeler(made_up(50))
    prompts = [each.prompt for each in made_up(60, seed=2)] + ["", SUFFIX, "日本語", "a\ud800"]
    verdicts = [labeler.label(prompt).result() for prompt in prompts]

    assert [each.p for each in verdicts] == labeler.probabilities(prompts)
    assert all((each.signal == "strong") == (each.p is not None and each.p >= 0.5) for each in verdicts)
    assert all(each.p is not None and 0 <= each.p <= 1 for each in verdicts)


@given(st.one_of(st.text(), st.lists(st.sampled_from([*TOPICS, *TALK, "\n\n", "?", "鍵を交換"]), max_size=20).map(" ".join)))
def test_its_arithmetic_is_the_librarys(text: str):
    """One prompt at a time, as the library has it for many."""
    examples = fitted()

    assert _scorer_of(examples).score(text) == pytest.approx(float(examples.decision_function([text])[0]), abs=1e-9)


@cache
def fitted() -> Any:
    examples = made_up(60)
    return _classifier().fit([each.prompt for each in examples], [each.signal == "strong" for each in examples])


def test_it_is_the_same_whenever_it_is_fitted():
    """In whatever order its examples come, however often, and with what else is labeled."""
    few, labeled, unseen = made_up(40), made_up(300, seed=3), [each.prompt for each in made_up(50, seed=2)]
    first = LocalLabeler(few, labeled)
    second = LocalLabeler([*reversed(few), few[0]], random.Random(4).sample(labeled, len(labeled)))

    assert first.fingerprint == second.fingerprint
    assert first.probabilities(unseen) == second.probabilities(unseen)
    assert [str(each) for each in first.accuracy] == [str(each) for each in second.accuracy]


def test_it_is_the_same_where_labels_differ():
    """Of a prompt that stands there with both signals, the order decides nothing."""
    few = made_up(40)
    both = [Labeled(few[0].prompt, signal, shares) for signal in ("strong", "weak") for shares in (("C1:1",), ("C1:2",))]

    assert len({LocalLabeler([*few[1:], *each]).fingerprint for each in (both, both[::-1], [both[1], both[2], both[0]])}) == 1


def test_what_it_was_told_is_its_hash():
    """Another example, or another word on one, is another hash."""
    few = made_up(40)
    other: Signal = "weak" if few[0].signal == "strong" else "strong"
    tolds = {
        LocalLabeler(each).fingerprint for each in (few, few[1:], [Labeled(few[0].prompt, other), *few[1:]], [*few, *made_up(1, seed=9)])
    }

    assert len(tolds) == 4
    assert all(len(each) == 12 and int(each, 16) >= 0 for each in tolds)


def test_a_person_has_the_last_word():
    """Of a prompt that somebody chose by hand, another label is not heard."""
    few = made_up(60)
    opposite: dict[Signal, Signal] = {"strong": "weak", "weak": "strong"}
    turned = [Labeled(each.prompt, opposite[each.signal], each.shares) for each in few]

    assert LocalLabeler(few, turned).fingerprint == LocalLabeler(few).fingerprint


def test_its_probabilities_come_true_once_there_are_enough_examples():
    """Where a third of the labels are drawn by lot, it doesn't claim to know them."""
    truth = made_up(1_500)
    rng = random.Random(7)
    noisy = [Labeled(each.prompt, rng.choice(("strong", "weak")) if rng.random() < 1 / 3 else each.signal, each.shares) for each in truth]
    labeler = LocalLabeler(noisy[:50], noisy[50:1_000])
    p = labeler.probabilities([each.prompt for each in noisy[1_000:]])
    of_labeled = labeler.accuracy[1]

    assert sum(p) / len(p) == pytest.approx(0.5, abs=0.05)
    sure = [each.signal == "strong" for each, chance in zip(noisy[1_000:], p, strict=True) if chance > 0.7]
    assert len(sure) > 150
    assert sum(sure) / len(sure) == pytest.approx(5 / 6, abs=0.07)
    assert of_labeled.gap is not None
    assert of_labeled.gap < 0.08
    assert LocalLabeler(truth[:50]).accuracy[0].gap is None


def test_its_accuracy_is_that_on_what_it_has_not_seen():
    """Labels by the toss of a coin can't be learned, and it says so, though it knows each of its own examples by heart."""
    rng = random.Random(5)
    tossed = [Labeled(each.prompt, rng.choice(("strong", "weak")), each.shares) for each in made_up(400)]
    (told,) = LocalLabeler(tossed).accuracy

    assert told.examples == 400
    assert told.low < 0.5 < told.high
    assert told.right == pytest.approx(0.5, abs=0.08)


def test_an_opinion_of_a_few_shot_is_by_a_labeler_that_has_seen_none_of_its_labels():
    """Neither a person's own, nor one that a model gave the same prompt: else it would only say again what it was told."""
    few, others = made_up(40), made_up(20, seed=9)
    turned = [Labeled(each.prompt, "weak" if each.signal == "strong" else "strong") for each in few]
    prompts = [each.prompt for each in (*few, *others)]
    opinions = unseen_verdicts(prompts, few, others)

    assert unseen_verdicts(prompts, few, [*others, *turned]) == opinions
    for place in (0, 1):
        assert unseen_verdicts([prompts[place]], [*few[:place], turned[place], *few[place + 1 :]], others) == [opinions[place]]


def test_examples_that_share_a_message_do_not_judge_each_other():
    """Ten windows of each conversation, whose signal is drawn by lot: only who has seen the same conversation could know it."""
    rng = random.Random(6)
    examples = []
    for place in range(40):
        name = "".join(rng.choices("abcdefgh", k=8))
        signal: Signal = "strong" if rng.random() < 0.5 else "weak"
        for window in range(10):
            prompt = f"{name} said " + " ".join(f"{name}{each}" for each in range(window)) + SUFFIX
            examples.append(Labeled(prompt, signal, (f"C1:{place}:thread", f"C1:{place}.{window}")))
    honest = LocalLabeler(examples).accuracy[0]
    naive = LocalLabeler([Labeled(each.prompt, each.signal) for each in examples]).accuracy[0]

    assert naive.right > 0.9
    assert honest.right < 0.7
    assert honest.low < 0.5 < honest.high
    assert honest.high - honest.low > 2 * (naive.high - naive.low)


@given(st.lists(st.frozensets(st.integers(0, 12), max_size=3), min_size=1, max_size=12))
def test_groups_are_what_sharing_leads_to(shares: list[frozenset[int]]):
    """Two are in one group exactly if a chain of examples leads from one to the other, each sharing something with the next."""
    examples = [Labeled(str(place), "weak", tuple(map(str, each))) for place, each in enumerate(shares)]
    reached = [{place} for place in range(len(shares))]
    for _ in shares:
        for one in range(len(shares)):
            for other in range(len(shares)):
                if shares[one] & shares[other]:
                    reached[one] |= reached[other]
    groups = groups_of(examples)

    for one in range(len(shares)):
        for other in range(len(shares)):
            assert (groups[one] == groups[other]) == (other in reached[one])


def test_few_shots_of_few_conversations_say_as_much_as_these():
    """Forty verdicts on windows of six conversations are no forty draws, and 35 right ones may be chance."""
    few = [Labeled(str(place), ("strong", "weak")[place % 2], (f"conversation {place % 6}",)) for place in range(40)]
    found = agreement([each.signal if place < 30 else "strong" for place, each in enumerate(few)], few)

    assert (found.low, found.high) == interval(35 / 40, 6) and found.is_at_chance


def test_one_conversation_can_not_judge_itself():
    """It says so, rather than give a figure."""
    few = [Labeled(each.prompt, each.signal, ("C1:1" if each.signal == "weak" else each.prompt,)) for each in made_up(40)]

    with pytest.raises(CannotLearn, match="can judge them: choose others, too"):
        _ = LocalLabeler(few).accuracy


@given(st.integers(0, 200), st.integers(1, 200))
def test_an_interval_holds_its_share(right: int, count: int):
    """It lies between nothing and all, and more examples make it narrower."""
    share = min(right, count) / count
    low, high = interval(share, count)
    narrower = interval(share, 4 * count)

    assert 0 <= low <= share <= high <= 1
    assert narrower[1] - narrower[0] < high - low


def test_an_accuracy_is_told_in_a_sentence():
    """Which examples, how many, how sure, and against what."""
    assert str(Accuracy("labeled", 2_000, 0.874, 0.86, 0.89, 0.587, 0.021)) == (
        "right about 87 % of 2,000 labeled examples that it had not seen (95 % interval: 86 to 89 %); always saying the same would get"
        " 59 %; its probabilities are off by 2 points in the mean"
    )


def right(labeler: LocalLabeler, examples: Sequence[Labeled]) -> float:
    """The share of examples about which it is."""
    p = labeler.probabilities([each.prompt for each in examples])
    return sum((chance >= 0.5) == (each.signal == "strong") for chance, each in zip(p, examples, strict=True)) / len(examples)


# What it gets when an LLM's answers are the truth

COURTESIES = [
    "thanks",
    "thank",
    "hi",
    "hello",
    "hey",
    "cheers",
    "great",
    "awesome",
    "cool",
    "ok",
    "okay",
    "yes",
    "no",
    "yep",
    "lol",
    "nice",
]


def as_an_llm_might(prompt: str) -> float:
    """How likely `strong`, by rules that look nowhere into the labeler's: how much is told, whether somebody asks, how much is courtesy.

    What is drawn by lot on top makes about one label in nine another one, as with a model that is not of one mind.
    """
    words = prompt.casefold().split()
    long = {word.strip(".,;:!?()") for word in words if len(word) >= 5}
    score = 0.22 * len(long) + 0.9 * ("?" in prompt) - 0.7 * sum(word.strip(".,!") in COURTESIES for word in words) - 2.4
    chance = min(max(by_hash(prompt), 1e-6), 1 - 1e-6)
    return 1 / (1 + math.exp(-score - 0.6 * math.log(chance / (1 - chance))))


def by_the_truth(lines: Iterable[bytes]) -> list[Labeled]:
    """Answered examples, each prompt once, with that rule's word on them."""
    found: dict[str, Labeled] = {}
    for line in lines:
        body = json.loads(line)
        if body["answer"]:
            labeled: Signal = "strong" if as_an_llm_might(body["prompt"]) >= 0.5 else "weak"
            found[body["prompt"]] = next(read_labeled([json.dumps(body | {"signal": labeled}).encode()], "truth"))
    return list(found.values())


def judged(examples: list[Labeled], learned: int) -> dict[str, tuple[float, str]]:
    """How often it is right about examples of other conversations: after 50 few-shots, half of them strong, and after more labeled ones."""
    groups = groups_of(examples)
    order = sorted(set(groups))
    random.Random(8).shuffle(order)
    shown = set(order[: len(order) // 2])
    known = [each for each, group in zip(examples, groups, strict=True) if group in shown]
    unseen = [each for each, group in zip(examples, groups, strict=True) if group not in shown]
    random.Random(9).shuffle(known)
    few = [each for signal in ("strong", "weak") for each in [one for one in known if one.signal == signal][:25]]
    told = {}
    for name, labeled in (
        ("50 few-shots", []),
        (f"50 few-shots and {learned:,} labeled", [each for each in known if each not in few][:learned]),
    ):
        labeler = LocalLabeler(few, labeled)
        told[name] = right(labeler, unseen), str(labeler.accuracy[-1])
    return told


def test_what_it_gets_on_a_made_up_workspace(tmp_path: Path):
    """Of 50 few-shots it learns something, of 800 labeled examples more; and its own estimate holds."""
    plan = Plan(seed=3, messages=6_000, channels=6, people=30, days=60)
    write_export(plan, tmp_path / "workspace.zip")
    beep("examples", tmp_path / "workspace.zip", "--to", tmp_path / "examples.jsonl", "--no-candidates", "--include", "channels,groups")
    few, more = judged(by_the_truth((tmp_path / "examples.jsonl").read_bytes().splitlines()), 800).values()

    print(few, more, sep="\n")
    assert 0.7 < few[0] < more[0]


@pytest.mark.realdata
@pytest.mark.proof
def test_what_it_gets_on_a_real_workspace(tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]):
    """The figures that docs/labeling.md tells, and how long it takes."""
    beep("examples", shared / "data" / "hubspot-dev-2016-2023.zip", "--to", tmp_path / "examples.jsonl", "--no-candidates")
    with (tmp_path / "examples.jsonl").open("rb") as lines:
        examples = by_the_truth(lines)
    started = time.perf_counter()
    told = judged(examples, 2_000)
    seconds = time.perf_counter() - started

    with capsys.disabled():
        for name, (share, estimate) in told.items():
            print(f"\n{name}: right about {100 * share:.1f} % of all others; its own estimate: {estimate}", end="")
        print(f"\n{seconds:.0f} s")
    few, more = told.values()
    assert few[0] > 0.75
    assert more[0] > 0.84
