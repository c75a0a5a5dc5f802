"""The review in a real browser: what it keeps, and what it is given."""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, BrowserContext, expect

from beepgpt.labeling.cards import answer_of, messages_of
from beepgpt.labeling.review_queue import ReviewedExample, Sample, spread
from tests.support.review import (
    NEGATIVE,
    POSITIVE,
    SUFFIX,
    asked,
    cookie_of,
    example,
    few_shot,
    page_of,
    press,
    refused,
    reviewing,
    shown,
    told,
)

pytestmark = pytest.mark.xdist_group("browser")


# What it keeps


def test_keys_decide_and_the_files_grow_line_by_line(tmp_path: Path, window: BrowserContext):
    """y, n and s; the lines are those of SOURCE with a signal behind all else, and they are there at once."""
    lines = [example(number) for number in range(1, 5)]
    with reviewing(tmp_path, lines) as review:
        page = page_of(window, review, "/?view=newest")

        press(page, "y")
        assert (review.strong, review.weak) == ([few_shot(lines[3], "strong")], [])
        assert told(page) == "Kept as strong. 1 strong, 0 weak."
        press(page, "n")
        assert review.weak == [few_shot(lines[2], "weak")]
        press(page, "s", "Y")

        assert review.strong == [few_shot(lines[3], "strong"), few_shot(lines[0], "strong")]
        assert page.locator("h2").inner_text() == "Nothing is left here"
        assert page.get_by_role("button", name="Strong").is_disabled()
        assert "2 strong and 1 weak few-shots, 1 examples skipped" in review.end()


@pytest.mark.slow
def test_undo_goes_back_one_by_one_and_across_restarts(tmp_path: Path, window: BrowserContext):
    """Also after a kill, and also what another process decided."""
    lines = [example(number) for number in range(1, 5)]
    with reviewing(tmp_path, lines) as review:
        page = page_of(window, review, "/?view=newest")
        press(page, "y", "n", "s")
        review.process.kill()
    with reviewing(tmp_path, lines) as review:
        page = page_of(window, review, "/?view=newest")
        assert shown(page) == ["question 1"]

        press(page, "u")
        assert shown(page) == ["question 2"]
        press(page, "u")
        assert (review.strong, review.weak, told(page)) == ([few_shot(lines[3], "strong")], [], "It is no longer weak. 1 strong, 0 weak.")
        press(page, "u")
        assert (review.strong, shown(page)) == ([], ["question 4"])
        assert page.get_by_role("button", name="Undo").is_disabled()


@pytest.mark.slow
def test_two_tabs_decide_once(tmp_path: Path, window: BrowserContext):
    """The same example in both: the second decision changes nothing, and neither undoes what it did not show."""
    lines = [example(number) for number in range(1, 4)]
    with reviewing(tmp_path, lines) as review:
        one, other = (page_of(window, review, "/?view=newest") for _ in range(2))

        press(one, "y")
        press(other, "n")
        assert (len(review.strong), len(review.weak)) == (1, 0)
        assert told(other) == "It was strong already: nothing is changed."
        press(other, "n")
        press(one, "u")

        assert (len(review.strong), len(review.weak)) == (1, 1)
        assert told(one) == "Something else was decided in the meantime: nothing is undone."


def test_it_works_without_scripts(tmp_path: Path, browser: Browser):
    """By its forms alone."""
    lines = [example(1), example(2)]
    context = browser.new_context(java_script_enabled=False)
    with reviewing(tmp_path, lines) as review:
        page = page_of(context, review, "/?view=newest")
        page.get_by_role("button", name="Weak").click()
        assert review.weak == [few_shot(lines[1], "weak")]
        assert told(page) == "Kept as weak. 0 strong, 1 weak."
        assert shown(page) == ["question 1"]
        page.get_by_role("button", name="Undo").click()
        assert review.weak == []
    context.close()


def test_what_cant_be_kept_is_told(tmp_path: Path, window: BrowserContext):
    """The file was changed by somebody else: it is left alone, and the reviewer hears of it."""
    with reviewing(tmp_path, [example(1), example(2)]) as review:
        page = page_of(window, review)
        press(page, "y")
        (review.folder / POSITIVE).write_bytes(b"")
        press(page, "y")

        assert "was changed by somebody else" in page.locator("#notice .failed").inner_text()
        assert review.strong == []


def test_a_review_that_has_ended_says_so(tmp_path: Path, browser: Browser):
    """A key that is pressed then is not lost in silence."""
    context = browser.new_context()
    with reviewing(tmp_path, [example(1)]) as review:
        page = page_of(context, review)
        review.end(signal.SIGTERM)
        page.keyboard.press("y")

        expect(page.locator("#notice .failed")).to_contain_text("The review has ended")
    context.close()


# What it is given


def test_silences_repeated_prompts_and_what_was_retracted_are_not_shown(tmp_path: Path, window: BrowserContext):
    """A few-shot whose message was deleted since leaves its file, too."""
    lines = [example(1), example(2, answer=[], answer_ts=None), example(3, "question 1"), example(4), example(5)]
    (tmp_path / "examples.retractions.jsonl").write_bytes(b"".join(b'{"id":"%032x","retracted_ts":"1"}\n' % number for number in (4, 5)))
    (tmp_path / "few-shots").mkdir()
    (tmp_path / "few-shots" / NEGATIVE).write_bytes(few_shot(lines[4], "weak") + few_shot(example(9), "weak"))
    with reviewing(tmp_path, [*lines, b"{}", b"no json"]) as review:
        page = page_of(window, review)

        assert shown(page) == ["question 1"]
        press(page, "s")
        assert page.locator("h2").inner_text() == "Nothing is left here"
        assert review.weak == [few_shot(example(9), "weak")]
        said = review.end()
        assert f"few-shot {5:032x} is taken out: a message of it was deleted" in said
        assert "2 lines are no examples, and are left out (the first: the one after 5 others)" in said


def test_a_prompt_that_was_decided_on_in_another_file_is_not_asked_about_again(tmp_path: Path, window: BrowserContext):
    """Its few-shot is of another example with the same words."""
    (tmp_path / "few-shots").mkdir()
    (tmp_path / "few-shots" / NEGATIVE).write_bytes(few_shot(example(9, "question 1"), "weak"))
    with reviewing(tmp_path, [example(1), example(2)]) as review:
        page = page_of(window, review)
        assert shown(page) == ["question 2"]
        press(page, "s")
        assert page.locator("h2").inner_text() == "Nothing is left here"


def test_what_cant_be_reviewed_is_named(tmp_path: Path):
    """What is wrong, where, and what to do."""
    events = tmp_path / "events.jsonl"
    events.write_text('{"type": "message", "channel": "C1", "ts": "1704103200.000000", "text": "secret words"}\n')
    silent = tmp_path / "silent.jsonl"
    silent.write_bytes(example(1, answer=[]) + b"\n")
    fine = tmp_path / "fine.jsonl"
    fine.write_bytes(example(1) + b"\n")
    into = ("--few-shots", tmp_path / "few-shots")

    assert "holds no example that somebody answered (1 lines of something else)" in refused(events, *into)
    assert "holds no example that somebody answered (1 silences)" in refused(silent, *into)
    assert "no such file" in refused(tmp_path / "none.jsonl", *into)
    assert "--names" in refused(fine, *into, "--names", events)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "the port is taken" in refused(fine, *into, "--port", taken.getsockname()[1])
    with reviewing(tmp_path, [example(1)]):
        assert "a review is adding to it" in refused(fine, *into)


# Which examples, and in which order


def examples_of(numbers: Sequence[int]) -> list[bytes]:
    return [example(number) for number in numbers]


@given(order=st.permutations(range(30)), most=st.integers(1, 40), newest=st.integers(0, 5))
def test_a_sample_is_the_same_in_whatever_order_its_examples_come(order: list[int], most: int, newest: int):
    """So many by chance, and the newest; the same ones again when the run is repeated."""
    samples = []
    for numbers in (order, sorted(order)):
        sample = Sample(most, newest)
        for line in examples_of(numbers):
            sample.add(line)
        samples.append([each.id for each in sample.examples()])

    assert samples[0] == samples[1]
    assert min(most, 30) <= len(samples[0]) <= min(most + newest, 30)
    assert {f"{number:032x}" for number in range(30 - newest, 30)} <= set(samples[0])


def test_a_few_shot_of_a_strangers_hand_is_shown(tmp_path: Path):
    """An id and a prompt are all that it must have; and an example with something odd in it is none, or is shown as far as it goes."""
    (tmp_path / "few-shots").mkdir()
    (tmp_path / "few-shots" / POSITIVE).write_bytes(b'{"id":"x","prompt":"by hand","window":7,"answer":null}\n{"id":"y","prompt":""}\n')
    odd = [
        example(1, window=5),
        example(2, answer="UBO"),
        example(3, prompt_ts="soon"),
        example(4, window=[1, {}, {"ts": 3, "user": None}]),
    ]
    with reviewing(tmp_path, [*odd, example(5, channel=None, answer=[7], signal=3, signal_p="x")]) as review:
        cookie = cookie_of(review)
        assert "by hand" in asked(review, "GET", "/chosen", Cookie=cookie).text
        for number in (5, 4):
            assert f"question {number}" in asked(review, "GET", "/?view=newest", Cookie=cookie).text
            asked(review, "POST", "/decide", f"example={number:032x}&decision=skipped", Cookie=cookie, Origin=review.url)
        assert "Nothing is left here" in asked(review, "GET", "/", Cookie=cookie).text
        assert "3 lines are no examples" in review.end()


def test_conversations_take_turns():
    """The windows of one conversation overlap: its second example waits until every conversation had its first."""
    made = [ReviewedExample(name, b"", "", name[0], "") for name in ("a1", "a2", "b1", "a3", "b2", "c1")]

    assert [each.id for each in spread(made)] == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_authors_are_named_only_where_they_are_known():
    """A window also names messages that the prompt leaves out: then more than one may have written what is shown."""
    users = ["UA", "UA", "UB", "UB"]
    body = {"window": [{"ts": f"170410320{place}.000000", "user": user} for place, user in enumerate(users)], "answer": ["UC"]}
    whole, left_out = messages_of(body | {"prompt": "a\n\nb\n\nc\n\nd" + SUFFIX}, {})
    partly, said = messages_of(body | {"prompt": "b\n\nc\n\nd" + SUFFIX}, {"UB": "Bo"})

    assert [(each.author, each.when) for each in whole] == [
        ("Person A", ""),
        ("Person A", "1 s later"),
        ("Person B", "1 s later"),
        ("Person B", "1 s later"),
    ]
    assert left_out == ""
    assert [(each.author, each.seat) for each in partly] == [("Person A", 1), ("Person A or Bo", 0), ("Bo", 2)]
    assert said == "1 more in the window, without words or too far back"
    assert answer_of(body, {}) == "Somebody not seen above answered"
    assert answer_of(body | {"answer": ["UB", "UC", "UD"], "target": "reactors"}, {"UC": "Cleo"}) == (
        "Person B, Cleo, not seen above, and somebody not seen above took part"
    )
