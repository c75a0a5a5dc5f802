"""The oracle, against histories worked by hand from the text of the design."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.histories import TEXTS, Record, arrivals, callback, cases, delete, edit, heartbeat, late_arrivals, lines_of, post, react
from tests.support.oracle import OracleRun, run
from tests.support.oracle_prompts import clean, count_tokens, make_prompt
from tests.support.oracle_records import DAY, MINUTE, SECOND, Rules, micros, stamp

T0 = 1_690_360_000 * SECOND
SETS = Rules(target="interacting_users", horizon=MINUTE)
patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def run_of(*records: Record, rules: Rules | None = None, until: int | None = None) -> OracleRun:
    """A run over a few records."""
    return run(lines_of(records), rules or Rules(), until=until)


def answers_in(result: OracleRun) -> list[tuple[str, str, list[str]]]:
    """Of each example its kind of conversation, the last line of its prompt, and its answer."""
    return [(e["conversation"].split(":")[-1], e["prompt"].split("\n\n")[-3], e["answer"]) for e in result.examples]


def threads_of(result: OracleRun) -> list[tuple[str, bool]]:
    """Of each example of a thread its prompt, and whether the root is missing."""
    return [(e["prompt"], e["root_missing"]) for e in result.examples if e["conversation"].endswith(":thread")]


def points(result: OracleRun) -> dict[str, int]:
    """The account of points, without the zeros."""
    return {name: count for name, count in result.account["points"].items() if count}


def test_the_example_of_the_design():
    """A root, a reply by the same author, then somebody else: the thread is answered, the session's point goes elsewhere."""
    root, reply, answer = micros("1690360240.229079"), micros("1690360253.041239"), micros("1690400587.318779")
    result = run_of(
        post("C024BE91L", root, "U05JQJJDJ6P", "old thread in random channel"),
        post("C024BE91L", reply, "U05JQJJDJ6P", "and a reply", root),
        post("C024BE91L", answer, "U05JH8BCZST", "an answer", root),
        heartbeat(root + DAY),
    )

    conversation = "C024BE91L:1690360240.229079:thread"
    named = ["acme", "b81e00000000", "next_user", "conversation", conversation, "1690360253.041239", "1690400587.318779"]
    expected = (
        '{"id": "' + hashlib.sha256("\n".join(named).encode()).hexdigest()[:32] + '", "spec": "b81e00000000", '
        '"target": "next_user", "scope": "conversation", "channel": "C024BE91L", '
        '"conversation": "C024BE91L:1690360240.229079:thread", "speakers": 1, "root_missing": false, '
        '"prompt_ts": "1690360253.041239", "settled_ts": "1690400587.318779", "answer_ts": "1690400587.318779", '
        '"answer": ["U05JH8BCZST"], "window": [{"ts": "1690360240.229079", "user": "U05JQJJDJ6P"}, '
        '{"ts": "1690360253.041239", "user": "U05JQJJDJ6P"}], '
        '"prompt": "old thread in random channel\\n\\nand a reply\\n\\n###\\n\\n", "prompt_tokens": 11}'
    )
    assert [json.dumps(example) for example in result.examples] == [expected]
    assert result.account["events"] == {"read": 3, "applied": 3, "duplicate": 0, "ignored": {}, "rejected": {}, "late": 0}
    assert result.account["heartbeats"] == 1
    assert points(result) == {"made": 4, "answered": 1, "superseded": 1, "elsewhere": 1, "censored": 1}


def test_a_session_ends_after_ten_silent_minutes():
    """Bo speaks exactly ten minutes after Ana and answers her; a microsecond more, and he begins a session of his own."""
    ana = post("C1", T0, "ana", "anybody?")

    on_time = run_of(ana, post("C1", T0 + 10 * MINUTE, "bo", "me"))
    too_late = run_of(ana, post("C1", T0 + 10 * MINUTE + 1, "bo", "me"))

    assert answers_in(on_time) == [("session", "anybody?", ["bo"])]
    assert answers_in(too_late) == []
    assert points(too_late) == {"made": 4, "censored": 4}


def test_a_silent_root_is_silent_once():
    """Nobody answers for a day: one silence, the session's; the thread's point is merged into it."""
    result = run_of(post("C1", T0, "ana"), heartbeat(T0 + DAY))

    (example,) = result.examples
    assert (example["conversation"], example["answer_ts"]) == (f"C1:{stamp(T0)}:session", None)
    assert (example["settled_ts"], example["answer"]) == (stamp(T0 + DAY), [])
    assert points(result) == {"made": 2, "silent": 1, "merged": 1}
    assert points(run_of(post("C1", T0, "ana"), heartbeat(T0 + DAY - 1))) == {"made": 2, "censored": 2}
    assert points(run_of(post("C1", T0, "ana"), until=T0 + DAY)) == {"made": 2, "silent": 1, "merged": 1}


def test_an_answer_in_the_thread_alone_is_elsewhere():
    """Bo replies in Ana's thread at the horizon's very end: her session's point makes no example, and his is still open."""
    result = run_of(post("C1", T0, "ana"), post("C1", T0 + DAY, "bo", "late", T0), until=T0 + DAY)

    assert answers_in(result) == [("thread", "hello", ["bo"])]
    assert points(result) == {"made": 3, "answered": 1, "elsewhere": 1, "censored": 1}


def test_unknown_text_withholds_until_its_edit():
    """An export's edited post has unknown text: its points are withheld, and the edit, once its text is known, makes new ones."""
    edited = post("C1", T0, "ana", "now known", edited={"user": "ana", "ts": stamp(T0 + SECOND)})
    history = [edited, edit("C1", T0 + 2 * SECOND - 1, T0, "now known"), post("C1", T0 + MINUTE, "bo", "yes")]

    known = run_of(*history)
    final = run_of(*history, rules=Rules(edits="final"))

    assert [e["prompt_ts"] for e in known.examples] == [stamp(T0 + 2 * SECOND - 1)]
    assert points(known) == {"made": 6, "withheld": 2, "answered": 1, "censored": 3}
    assert [e["prompt_ts"] for e in final.examples] == [stamp(T0)]


def test_a_deleted_message_takes_its_set_example_with_it():
    """Ana's message is deleted before its minute is over: the example is written all the same, and retracted."""
    result = run_of(
        post("C1", T0, "ana"),
        react("C1", T0 + SECOND, T0, "bo"),
        react("C1", T0 + 2 * SECOND, T0, "ana"),
        delete("C1", T0 + 3 * SECOND, T0),
        heartbeat(T0 + MINUTE),
        rules=SETS,
    )

    (example,) = result.examples
    assert (example["answer"], example["answer_ts"], example["settled_ts"]) == (["bo"], stamp(T0 + SECOND), stamp(T0 + MINUTE))
    assert result.retractions == [{"id": example["id"], "retracted_ts": stamp(T0 + 3 * SECOND)}]


def test_a_root_collects_from_its_session_and_its_own_thread():
    """Bo replies, Cy posts in the session, Di reacts to Bo's reply: Ana's root drew all three, Cy's root nobody."""
    result = run_of(
        post("C1", T0, "ana", "lunch?"),
        post("C1", T0 + SECOND, "bo", "yes", T0),
        post("C1", T0 + 2 * SECOND, "cy", "me too"),
        react("C1", T0 + 3 * SECOND, T0 + SECOND, "di"),
        rules=SETS,
        until=T0 + 2 * MINUTE,
    )

    assert answers_in(result) == [("session", "lunch?", ["bo", "cy", "di"]), ("thread", "yes", ["di"]), ("session", "me too", [])]
    assert points(result) == {"made": 3, "answered": 2, "silent": 1}


def test_reactors_react_to_the_newest_message_only():
    """Cy reacts to Ana's message: her answer, and not Bo's, whose point is the newest and so a silence."""
    result = run_of(
        post("C1", T0, "ana", "cake!"),
        post("C1", T0 + SECOND, "bo", "where?"),
        react("C1", T0 + 2 * SECOND, T0, "cy"),
        rules=replace(SETS, target="reactors"),
        until=T0 + 2 * MINUTE,
    )

    assert answers_in(result) == [("session", "cake!", ["cy"]), ("session", "where?", [])]


def test_untimed_reactions_are_answers_without_a_horizon():
    """An export's reactions count once the horizon is unlimited; all settles at the end, which is their time."""
    history = [post("C1", T0, "ana"), react("C1", None, T0, "bo"), post("C1", T0 + MINUTE, "ana", "bye")]

    result = run_of(*history, rules=replace(SETS, target="reactors", horizon=None))

    assert [(e["answer"], e["answer_ts"], e["settled_ts"]) for e in result.examples] == [
        (["bo"], stamp(T0 + MINUTE), stamp(T0 + MINUTE)),
        ([], None, stamp(T0 + MINUTE)),
    ]
    assert run_of(*history, rules=SETS).account["events"]["ignored"] == {"untimed": 1}


def test_a_reply_to_a_forgotten_root_opens_the_thread_without_it():
    """One newer root is enough to forget Ana's thread, but only once nothing of hers is open."""
    rules = Rules(kept_roots=1, horizon=MINUTE)
    ana, bo = post("C1", T0, "ana", "first"), post("C1", T0 + SECOND, "bo", "second")

    while_open = run_of(ana, bo, post("C1", T0 + MINUTE, "cy", "late", T0), rules=rules, until=T0 + DAY)
    closed = run_of(ana, bo, post("C1", T0 + MINUTE + 1, "cy", "late", T0), rules=rules, until=T0 + DAY)

    assert threads_of(while_open) == [("first\n\n###\n\n", False), ("first\n\nlate\n\n###\n\n", False)]
    assert threads_of(closed) == [("late\n\n###\n\n", True)]


def test_exactly_the_allowed_lateness_is_not_late():
    """An event five seconds behind the clock is applied in its place, a microsecond more is late; duplicates count once."""
    ana, cy = post("C1", T0, "ana"), post("C1", T0 + 5 * SECOND, "cy", "third")

    held = run_of(cy, ana, callback(ana, "Ev1"))
    late = run_of(post("C1", T0 + 5 * SECOND + 1, "cy"), ana)
    quiet = run_of(heartbeat(T0 + 5 * SECOND + 1), ana)

    assert answers_in(held) == [("session", "hello", ["cy"])]
    assert held.account["events"] == {"read": 3, "applied": 2, "duplicate": 1, "ignored": {}, "rejected": {}, "late": 0}
    assert late.account["events"]["late"] == quiet.account["events"]["late"] == 1


def test_a_channel_is_one_conversation_if_asked():
    """With scope `channel` a reply answers the root and the next root answers the reply."""
    result = run_of(
        post("C1", T0, "ana", "one"),
        post("C1", T0 + SECOND, "bo", "two", T0),
        post("C1", T0 + MINUTE, "cy", "three"),
        rules=Rules(scope="channel"),
    )

    assert answers_in(result) == [("channel", "one", ["bo"]), ("channel", "two", ["cy"])]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("see <https://example.com/a|the docs> now", "see the docs now"),
        ("<https://example.com/a|https://example.com/a> helps", "helps"),
        ("<@U1> ping <!here> and <#C1|general>", "ping and general"),
        ("ship it :tada: at 10:30:45 :+1:", "ship it at 10:30:45"),
        ("run ``` x = <@U1>\n\n### ``` please", "run please"),
        ("a &amp; b &lt;c&gt; &amp;lt;", "a & b <c> &lt;"),
        ("two\n\nlines\tand\u00a0more", "two lines and more"),
    ],
)
def test_texts_are_cleaned(text: str, cleaned: str):
    """Code, markup, URLs and emoji go; what people wrote stays."""
    assert clean(text) == cleaned


def test_a_prompt_drops_its_oldest_messages_first():
    """Two of three messages fit seven tokens; a single long one keeps its beginning."""
    rules = Rules(max_prompt_tokens=7)

    assert make_prompt(["one two three", "###", "four five", "six"], rules) == "four five\n\nsix\n\n###\n\n"
    assert make_prompt(["a b c d e f g h i"], rules).startswith("a b c")
    assert count_tokens(make_prompt(["a b c d e f g h i"], rules), rules.encoding) == 7


def test_random_texts_fit_the_smaller_limit_one_by_one():
    """Random histories reach the dropping of messages, not the cutting of one."""
    assert all(count_tokens(clean(text) + "\n\n###\n\n", "o200k_base") <= 30 for text in TEXTS)


def by_id(result: OracleRun) -> list[dict[str, Any]]:
    """Examples in an order that doesn't depend on which channel came first."""
    return sorted(result.examples, key=lambda example: str(example["id"]))


@patient
@given(cases(), st.data())
def test_both_sums_hold_in_any_order(case: tuple[Rules, list[Record]], data: st.DataObject):
    """Every record and every point is counted once, late or not."""
    rules, history = case
    account = run(lines_of(data.draw(late_arrivals(history))), rules).account

    events, of_points = account["events"], account["points"]
    counted = sum(sum(n.values()) if isinstance(n, dict) else n for name, n in events.items() if name != "read")
    assert counted == events["read"] == len(history) - account["heartbeats"]
    assert of_points["made"] == sum(of_points.values()) - of_points["made"]


@patient
@given(cases(), st.data())
def test_arrivals_within_the_lateness_change_nothing(case: tuple[Rules, list[Record]], data: st.DataObject):
    """Nothing is late, and examples, retractions and the account are the same."""
    rules, history = case
    ordered, arrived = (run(lines_of(one), rules) for one in (history, data.draw(arrivals(history, rules.lateness))))

    assert arrived.account == ordered.account
    assert arrived.account["events"]["late"] == 0
    assert by_id(arrived) == by_id(ordered)
    assert sorted(r["id"] for r in arrived.retractions) == sorted(r["id"] for r in ordered.retractions)


@patient
@given(cases(unlimited=False), st.data())
def test_a_run_until_a_time_is_a_prefix(case: tuple[Rules, list[Record]], data: st.DataObject):
    """Law 3: the run up to a time gives the full run's examples that had settled by then."""
    rules, history = case
    times = [record.t for record in history if record.t is not None]
    until = data.draw(st.sampled_from([*times, *(t + (rules.horizon or 0) for t in times)] or [T0]))
    end = 10 * 365 * DAY + T0

    full, prefix = run(lines_of(history), rules, until=end), run(lines_of(history), rules, until=until)

    assert prefix.examples == [example for example in full.examples if micros(example["settled_ts"]) <= until]
