"""Law 7, splits don't leak: as properties of simulated workspaces, and case by case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.audit.laws import audit_examples
from beepgpt.conversations.events import micros
from beepgpt.conversations.rules import Rules
from beepgpt.training.checks import CannotPrepare
from beepgpt.training.splits import REASONS, Mask, Sides, SplitOptions, split
from tests.support import at
from tests.support.prepare import O200K, Example, columns_of, example, leaks, line_of, parsed, shared, shuffled, workspace


@dataclass(frozen=True)
class Case:
    """Examples of a workspace, and how they are to be split."""

    lines: tuple[bytes, ...]
    choices: SplitOptions
    retracted: frozenset[bytes]
    few_shots: tuple[bytes, ...]

    @property
    def examples(self) -> list[Example]:
        return [json.loads(line) for line in self.lines]

    def split(self, lines: Sequence[bytes] | None = None) -> Sides:
        """The sides, by the product."""
        lines = self.lines if lines is None else lines
        by_conversation = self.examples[0]["scope"] == "conversation"
        shots = [parsed(line) for line in self.few_shots]
        return split(columns_of(lines), self.choices, by_conversation=by_conversation, retracted=self.retracted, few_shots=shots)

    def sides(self, sides: Sides) -> tuple[list[Example], list[Example]]:
        """The examples of each side."""
        train = [each for each, is_on in zip(self.examples, sides.train, strict=True) if is_on]
        return train, [each for each, is_on in zip(self.examples, sides.valid, strict=True) if is_on]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any workspace, any cut at which both sides have something, anything that may be chosen."""
    scope, target = draw(
        st.sampled_from([("conversation", "next_user")] * 3 + [("channel", "next_user"), ("conversation", "interacting_users")])
    )
    lines = workspace(draw(st.integers(0, 5)), scope, target)
    prompts = sorted(micros(json.loads(line)["prompt_ts"]) for line in lines)
    some = st.lists(st.sampled_from(lines), max_size=5, unique=True)
    return Case(
        lines,
        SplitOptions(
            valid_share=draw(st.sampled_from([0.1, 0.2, 0.5])),
            cut=draw(st.none() | st.sampled_from(prompts[len(prompts) // 4 : -len(prompts) // 4])),
            silences=draw(st.sampled_from(["nil", "drop"])),
            cap=draw(st.none() | st.integers(1, 10)),
            balance=draw(st.none() | st.sampled_from([0.1, 1.0])),
        ),
        frozenset(parsed(line).id for line in draw(some)),
        tuple(draw(some)),
    )


class TestLaw7:
    """Whatever is chosen, of whatever workspace."""

    @given(cases())
    def test_nothing_leaks(self, case):
        """Time, conversations, messages and prompts are apart."""
        sides = case.split()
        train, valid = case.sides(sides)

        assert train and valid
        assert leaks(train, valid, sides.cut) == []

    @given(cases())
    def test_validation_is_whole(self, case):
        """All that was asked after the cut validates, but for what was taken back, isn't wanted, or was shown to the labeler."""
        sides = case.split()
        shots = [json.loads(line) for line in case.few_shots]
        wanted = [
            each["id"]
            for each in case.examples
            if micros(each["prompt_ts"]) >= sides.cut
            and bytes.fromhex(each["id"]) not in case.retracted
            and not (case.choices.silences == "drop" and not each["answer"])
            and not any(set(shared(each, shot)) & {"their conversation", "a message"} for shot in shots)
        ]

        assert [each["id"] for each in case.sides(sides)[1]] == wanted

    @given(cases())
    def test_no_more_is_lost_than_clashes(self, case):
        """What leaves the training side has the thing in common with the validation side that it is said to have left for."""
        sides = case.split()
        _, valid = case.sides(sides)
        said = {
            "conversation_on_both_sides": "their conversation",
            "message_on_both_sides": "a message",
            "prompt_on_both_sides": "their prompt",
        }
        for each, why in zip(case.examples, sides.why, strict=True):
            if (reason := REASONS[why]) in said:
                assert any(said[reason] in shared(each, other) for other in valid)

    @given(cases(), st.integers(0, 99))
    def test_any_order_of_lines_gives_the_same_sides(self, case, seed):
        """Order does not matter, ids do."""
        lines = shuffled(case.lines, seed)
        one, other = case.split(), case.split(lines)

        assert one.cut == other.cut
        assert ids_on(case.lines, one.train) == ids_on(lines, other.train)
        assert ids_on(case.lines, one.valid) == ids_on(lines, other.valid)

    @given(cases())
    def test_every_example_is_in_one_place(self, case):
        """On a side, or left out for one reason."""
        sides = case.split()

        assert not (sides.train & sides.valid).any()
        assert sides.train.sum() + sides.valid.sum() + sum(sides.left_out().values()) == len(case.lines)

    @given(st.integers(0, 5))
    def test_the_audit_finds_nothing_either(self, seed):
        """`beepgpt audit` reads the law for itself."""
        lines = workspace(seed)
        sides = split(columns_of(lines), SplitOptions(), by_conversation=True)

        assert audited(lines, sides.train, sides.valid) == "kept"

    def test_a_split_at_random_would_be_noticed(self):
        """The original's split leaks in every way that is looked for, here and by the audit."""
        lines = workspace(0)
        valid = np.random.default_rng(0).random(len(lines)) < 0.2
        on = [[json.loads(line) for line, is_on in zip(lines, side, strict=True) if is_on] for side in (~valid, valid)]
        cut = sorted(micros(each["prompt_ts"]) for each in on[1])[0]

        told = " ".join(leaks(on[0], on[1], cut))

        assert all(what in told for what in ("was settled after the cut", "their conversation", "a message", "their prompt"))
        assert audited(lines, ~valid, valid) == "broken"


def ids_on(lines: Sequence[bytes], side: Mask) -> set[str]:
    """Whose lines are on a side."""
    return {json.loads(line)["id"] for line, is_on in zip(lines, side, strict=True) if is_on}


def audited(lines: Sequence[bytes], train: Mask, valid: Mask) -> str:
    """What the audit says of law 7; it is told of no events, since this law needs none."""
    sides = [[line for line, is_on in zip(lines, side, strict=True) if is_on] for side in (train, valid)]
    first = json.loads(lines[0])
    rules = Rules(target=first["target"], scope=first["scope"], horizon=3 * 3_600_000_000, session_gap=1_800_000_000, candidates=False)
    found = audit_examples([], sides[0], rules, O200K, valid=sides[1], subset=True)
    return next(judged.verdict for judged in found.laws if judged.law == 7)


# Case by case


def told(*examples: Example, few_shots: Sequence[Example] = (), retracted: Sequence[Example] = (), **choices: object) -> list[str]:
    """Where each example goes: its side, or why it has none."""
    sides = split(
        columns_of(map(line_of, examples)),
        SplitOptions(**{"cut": at(100), **choices}),  # type: ignore[arg-type]
        by_conversation=examples[0]["scope"] == "conversation",
        retracted=[bytes.fromhex(each["id"]) for each in retracted],
        few_shots=[parsed(line_of(each)) for each in few_shots],
    )
    named = zip(sides.train, sides.valid, sides.why, strict=True)
    return ["train" if train else "valid" if valid else REASONS[why] for train, valid, why in named]


EARLY, LATE = example("early", "ana", minute=0), example("late", "bo", minute=200)


def test_a_training_example_is_settled_before_the_cut():
    """At the cut is after it; a prompt at the cut validates."""
    at_once = example("settled at the cut", "bo", minute=50, settled=100)
    before = example("settled just before it", "bo", minute=50, settled=99.999)
    prompt = example("asked at the cut", "bo", minute=100)

    assert told(EARLY, at_once, before, prompt, LATE) == ["train", "across_cut", "train", "valid", "valid"]


def test_a_conversation_that_goes_on_leaves_the_training_side():
    """So that validation is whole."""
    begun = example("begun", "ana", minute=10, conversation="C1:1.000000:thread")
    goes_on = example("goes on", "bo", minute=110, conversation="C1:1.000000:thread")

    assert told(EARLY, begun, goes_on) == ["train", "conversation_on_both_sides", "valid"]


def test_where_a_channel_is_one_conversation_it_may_stand_on_both_sides():
    """Or nothing could be split; messages are apart all the same."""
    of_channel: dict[str, Any] = {"scope": "channel", "conversation": "C1:channel"}
    early, late = example("early", "ana", minute=0, **of_channel), example("late", "bo", minute=200, **of_channel)
    overlaps = example("overlaps", "bo", minute=20, window=late["window"], **of_channel)

    assert told(early, overlaps, late) == ["train", "message_on_both_sides", "valid"]


def test_a_message_in_windows_on_both_sides():
    """A message is a channel and a ts: the same ts in another channel is another message."""
    same = example("same", "bo", minute=10, window=[*EARLY["window"], *LATE["window"]])
    elsewhere = example("elsewhere", "bo", minute=20, channel="C2", window=LATE["window"])

    assert told(EARLY, same, elsewhere, LATE) == ["train", "message_on_both_sides", "train", "valid"]


def test_the_same_prompt_on_both_sides():
    """Whoever answered it."""
    same = example("same", "cy", minute=10, text="late")

    assert told(EARLY, same, LATE) == ["train", "prompt_on_both_sides", "valid"]


def test_few_shots_do_not_validate():
    """Neither they, nor their conversations, nor windows with their messages; they may train."""
    shot = example("shot", "bo", minute=110, conversation="C1:1.000000:thread")
    later = example("later", "bo", minute=120, conversation="C1:1.000000:thread")
    overlaps = example("overlaps", "bo", minute=130, window=shot["window"])

    assert told(EARLY, shot, later, overlaps, LATE, few_shots=[EARLY, shot]) == ["train", "few_shot", "few_shot", "few_shot", "valid"]


def test_what_was_retracted_is_gone():
    """From both sides."""
    gone, too = example("gone", "bo", minute=10), example("too", "bo", minute=110)

    assert told(EARLY, gone, too, LATE, retracted=[gone, too]) == ["train", "retracted", "retracted", "valid"]


def test_the_last_line_of_an_id_counts():
    """A topic's older records, or a file that was labeled twice."""
    twice = [example("twice", "bo", minute=10, signal=signal) for signal in ("strong", "weak")]

    assert told(EARLY, *twice, LATE, weak="drop") == ["train", "replaced", "weak", "valid"]


@pytest.mark.parametrize(("silences", "weak", "expected"), [("nil", "nil", ["train", "train"]), ("drop", "drop", ["silence", "weak"])])
def test_silences_and_weak_signals_train_or_are_left_out(silences, weak, expected):
    """A silence that has a signal is a silence."""
    silence, unsure = example("silence", minute=10, signal="weak"), example("unsure", "bo", minute=20, signal="weak")

    assert told(EARLY, silence, unsure, LATE, silences=silences, weak=weak) == ["train", *expected, "valid"]


def test_a_cap_keeps_a_persons_newest():
    """Of the training side alone; an answer with a weak signal is one, unless weak ones are nobody's."""
    bos = [example(f"bo {minute}", "bo", minute=minute) for minute in (10, 30, 20)]
    weak = example("weak", "bo", minute=5, signal="weak")
    after = [example(f"bo {minute}", "bo", minute=minute) for minute in (110, 120, 130)]

    nobodys = told(EARLY, *bos, weak, *after, cap=2, weak="nil")

    assert nobodys == ["train", "over_cap", "train", "train", "train", "valid", "valid", "valid"]
    assert told(EARLY, *bos, weak, *after, cap=2) == ["train", "over_cap", "train", "train", "over_cap", "valid", "valid", "valid"]


def test_a_cap_leaves_an_example_while_one_of_its_people_has_room():
    """Of several answers."""
    both = [example(f"both {minute}", "ana", "bo", minute=minute) for minute in (10, 20)]
    cy = example("with cy", "ana", "cy", minute=5)

    assert told(*both, cy, LATE, cap=1) == ["over_cap", "train", "train", "valid"]


def test_balance_leaves_so_many_that_name_nobody():
    """For each that names somebody; which ones go is told by their ids, so it is the same in every run."""
    nobody = [example(f"nobody {minute}", minute=minute) for minute in range(10, 20)]
    nobody += [example(f"weak {minute}", "bo", minute=minute, signal="weak") for minute in range(20, 30)]
    somebody = [example(f"somebody {minute}", "bo", minute=minute) for minute in range(30, 34)]
    where = told(*nobody, *somebody, LATE, example("silent", minute=150), balance=1.5, weak="nil")
    kept = sorted(each["id"] for each, place in zip(nobody, where[:20], strict=True) if place == "train")

    assert where.count("over_balance") == 14 and where[20:] == ["train"] * 4 + ["valid"] * 2
    assert kept == sorted(each["id"] for each in nobody)[:6]

    answers = told(*nobody, *somebody, LATE, balance=0.5)
    assert (answers[:10].count("train"), answers[10:]) == (7, ["train"] * 14 + ["valid"]), "the weak are answers, and name somebody"


def test_the_last_share_of_the_prompts_validates():
    """Of what is left to split, counted by prompts; those of one time are not torn apart."""
    examples = [example(f"number {minute}", "ana", minute=minute, settled=minute + 0.5) for minute in range(10)]
    tied = [example(f"tied {number}", "ana", minute=8) for number in range(2)]

    assert told(*examples, cut=None, valid_share=0.3) == ["train"] * 7 + ["valid"] * 3
    assert told(*examples, *tied, cut=None, valid_share=0.2) == ["train"] * 8 + ["valid"] * 2 + ["valid"] * 2


@pytest.mark.parametrize(("cut", "said"), [(0, "nothing is left on the training side"), (999, "nothing is left on the validation side")])
def test_a_side_without_examples_is_told(cut, said):
    """With what became of them, and what to do."""
    with pytest.raises(CannotPrepare, match=f"{said} .*choose an? (earlier|later) --cut"):
        told(EARLY, LATE, cut=at(cut))
