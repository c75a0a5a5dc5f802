"""Prompts and their token counts are exact, though each message is encoded once."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX, build_prompt, is_shown, unit_tokens

ENCODINGS = ("o200k_base", "cl100k_base")

WORDS = ("deploy", "why?", "/remind me", "!", "…", "///", "don't", "I'LL", "123456", "日本語", "é́", "🎉", "#", "###", "\u200d", "a", " ")
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.lists(st.sampled_from(["!", "/", "?", "#", "a", "1", "-", "字", "ا"]), max_size=12).map("".join),
).map(clean)
"""Cleaned texts, full of what the encodings' split patterns treat alike or apart."""


@pytest.mark.parametrize("name", ENCODINGS)
@given(texts=st.lists(TEXTS, max_size=6), most=st.integers(16, 60))
@example(texts=["Look…", "/etc/hosts"], most=60)
@example(texts=["🎉", "/remind me"], most=60)
@example(texts=["why?", "///"], most=60)
def test_a_prompts_count_is_that_of_the_whole_prompt(name, texts, most):
    """Added up from messages that were encoded alone, it is what the encoding gives for the whole."""
    encoding = load_encoding(name)

    prompt = build_prompt([(text, unit_tokens(text, encoding)) for text in texts], encoding, most)

    assert prompt.tokens == (len(encoding.encode_ordinary(prompt.text)))
    assert prompt.tokens <= most


@given(texts=st.lists(TEXTS, max_size=6), most=st.integers(16, 60))
def test_a_prompt_shows_as_many_of_the_newest_as_fit(texts, most):
    """One more message would be too many; and what is shown is shown whole."""
    encoding = load_encoding("o200k_base")
    shown = [text for text in texts if is_shown(text)]

    prompt = build_prompt([(text, unit_tokens(text, encoding)) for text in texts], encoding, most)

    if prompt.shown > 1 or (prompt.shown == 1 and prompt.text == shown[-1] + SUFFIX):
        assert prompt.text == SEPARATOR.join(shown[-prompt.shown :]) + SUFFIX
    if prompt.shown < len(shown):
        one_more = SEPARATOR.join(shown[-prompt.shown - 1 :]) + SUFFIX
        assert len(encoding.encode_ordinary(one_more)) > most
    assert (prompt.text == "") == (not shown)


@given(text=st.text(st.sampled_from("ab /!?#字ا🎉é́1 \u200d"), min_size=20, max_size=120).map(clean), most=st.integers(16, 24))
def test_a_message_that_is_too_long_keeps_its_longest_beginning(text, most):
    """Cut at a whole character: no longer beginning would fit."""
    encoding = load_encoding("o200k_base")

    def fits(beginning: str) -> bool:
        return is_shown(beginning) and len(encoding.encode_ordinary(beginning + SUFFIX)) <= most

    prompt = build_prompt([(text, unit_tokens(text, encoding))], encoding, most)

    beginnings = [text[:length].rstrip() for length in range(len(text), 0, -1)]
    assert prompt.text == next((beginning + SUFFIX for beginning in beginnings if fits(beginning)), "")


@pytest.mark.parametrize("name", ENCODINGS)
def test_labels_are_single_tokens(name):
    """FACTS of the encodings that the labels of training sets rely on; and no label with a space before it is one."""
    encoding = load_encoding(name)

    assert all(len(encoding.encode_ordinary(str(label))) == 1 for label in [*range(1000), "nil"])
    assert len(encoding.encode_ordinary(" 1")) == 2


def test_a_text_of_a_megabyte_is_cut_in_good_time():
    """The beginning that fits, and nothing hangs."""
    encoding = load_encoding("o200k_base")
    for text in ("a" * 1_000_000, "字" * 300_000, "word " * 200_000, "!" * 1_000_000):
        cleaned = clean(text)
        prompt = build_prompt([(cleaned, unit_tokens(cleaned, encoding))], encoding, 2000)
        assert 1_990 <= prompt.tokens <= 2_000
