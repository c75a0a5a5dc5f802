"""Prompts: which messages they hold, and how they are cut to size."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.rules import MINUTE, Rules
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX, build_prompt, unit_tokens
from tests.support import made_from, post

MOMENT = 1 / MINUTE
"""A microsecond, in minutes."""
TOMORROW = 24 * 60.0
"""Minutes after which a horizon ends."""
ENCODING = load_encoding("o200k_base")


def rules(**more: Any) -> Rules:
    """The default settings without candidates, but for these."""
    return Rules(**({"candidates": False} | more))


texts = st.text(max_size=30) | st.sampled_from(["a?", "/remind", "...", "//", "###", "e.g.", "日本語。", "x" * 50, "one two three"])


class TestPrompts:
    """Messages oldest first, a suffix, an exact count, and what gives way when there is no room."""

    def prompt(self, *said: str, most: int = 2000, encoding: str = "o200k_base") -> Any:
        """The prompt of some texts."""
        found = load_encoding(encoding)
        cleaned = [" ".join(each.split()) for each in said]
        return build_prompt([(each, unit_tokens(each, found)) for each in cleaned], found, most)

    def test_oldest_first_and_a_suffix(self):
        """Joined by an empty line, ended by the suffix; what shows nothing is left out."""
        assert self.prompt("one", "", "###", "two").text == f"one{SEPARATOR}two{SUFFIX}" == "one\n\ntwo\n\n###\n\n"

    @given(st.lists(texts, max_size=5), st.sampled_from(["o200k_base", "cl100k_base"]))
    def test_counts_are_exact(self, said: list[str], encoding: str):
        """As many tokens as the whole prompt has, encoded in one piece."""
        prompt = self.prompt(*said, encoding=encoding)

        assert prompt.tokens == len(load_encoding(encoding).encode_ordinary(prompt.text))

    @given(st.lists(texts, min_size=1, max_size=5), st.integers(16, 60))
    def test_the_oldest_give_way(self, said: list[str], most: int):
        """It fits; it ends with the newest; one message more would not fit."""
        prompt = self.prompt(*said, most=most)
        shown = [each for each in (" ".join(each.split()) for each in said) if each not in ("", "###")]

        assert prompt.tokens <= most
        assert bool(prompt.text) == bool(shown)
        if prompt.shown > 1:
            assert prompt.text == SEPARATOR.join(shown[-prompt.shown :]) + SUFFIX
        if 0 < prompt.shown < len(shown):
            longer = SEPARATOR.join(shown[-prompt.shown - 1 :]) + SUFFIX
            assert len(ENCODING.encode_ordinary(longer)) > most

    def test_a_single_longer_message_keeps_its_beginning(self):
        """Cut at a whole character, in a text whose characters are several tokens."""
        text = "🦀" * 100
        prompt = self.prompt("before", text, most=20)

        assert prompt.tokens <= 20
        assert text.startswith(prompt.text.removesuffix(SUFFIX))
        assert len(prompt.text) > len(SUFFIX)

    def test_an_example_counts_its_prompt(self):
        """`prompt_tokens` is what the model will count."""
        made = made_from(post("ana", "it broke?", minute=0), post("bo", "/remind me", minute=1), post("ana", minute=2))

        for each in made.examples:
            assert each["prompt_tokens"] == len(ENCODING.encode_ordinary(each["prompt"]))
