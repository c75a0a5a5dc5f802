"""The audit of other tools' files of pairs: what their prompts leave out, invent, or know too early."""

from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import orjson
import pytest

from beepgpt.audit.example_rows import kind_of
from beepgpt.audit.foreign import audit_pairs
from beepgpt.audit.pairs import pair_of
from beepgpt.audit.placing import stratified_tail
from tests.support.audits import PLAIN, RULES, Said, body_of, broken, everything, made_up, others_only, pairs_of, some, talk, what_fits
from tests.support.histories import edit, lines_of


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


@pytest.mark.parametrize("shown", [everything, others_only])
def test_a_long_instruction_before_each_prompt_hides_no_leak(shown: Callable[[Said, str], Iterable[str]]):
    """All prompts are about as long then, so that those that leave something out are among the longest."""
    rows = [body_of(line) for line in pairs_of(talk(), shown)]
    instruction = {"role": "system", "content": "Foretell who will answer these messages, whatever they are about. " * 40}
    chats = [
        orjson.dumps(
            {"messages": [instruction, {"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
        )
        for row in rows
    ]
    audit = audit_pairs(lines_of(talk()), chats, PLAIN)

    assert audit.checked["placed"] > 0.9 * audit.checked["examples"]
    assert set(broken(audit)) == ({2} if shown is others_only else set())


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

    found = broken(audit := audit_pairs(lines_of(history), rows, PLAIN), "suspected")
    of_edit = broken(audit_pairs(lines_of(corrected), edited, PLAIN), "suspected")

    assert audit.is_suspected and not audit.is_broken and any("looked for in the history" in note for note in audit.notes)
    assert set(found) == {1}
    assert "nobody said “never said by anybody”" in found[1]
    assert "was first said at" in found[1]
    assert "is as edited at" in of_edit[1]


def test_both_sides_of_a_foreign_split_are_compared():
    """Cut in the middle of a conversation, or at random: law 7; with a gap between, all is well."""
    rows = pairs_of(talk(), everything)
    mixed = list(rows)
    Random(1).shuffle(mixed)

    random = broken(audit_pairs(lines_of(talk()), mixed[80:], PLAIN, valid=mixed[:80]), "suspected")
    clean_cut = audit_pairs(lines_of(talk()), rows[:250], PLAIN, valid=rows[300:])

    assert set(random) == {7}
    assert "messages on both sides" in random[7]
    assert "before the last training answer" in random[7]
    assert broken(clean_cut) == {}
    assert clean_cut.laws[6].verdict == "kept"


def test_what_is_sure_is_not_only_suspected_for_what_is_guessed_beside_it():
    """A prompt is on both sides, word for word; the messages of others may be, as far as one can guess."""
    rows = pairs_of(talk(), everything)
    audit = audit_pairs(lines_of(talk()), rows[:250], PLAIN, valid=[rows[0], *rows[240:]])
    found = {finding.what: finding for finding in audit.findings if finding.law == 7}

    assert not found["prompts on both sides"].is_guess and found["messages on both sides"].is_guess
    assert found["prompts on both sides"].count == 11
    assert (audit.laws[6].verdict, audit.is_broken, audit.is_suspected) == ("broken", True, False)


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
