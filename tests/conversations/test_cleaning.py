"""What prompts show of a text (docs/semantics.md, "Cleaning")."""

from __future__ import annotations

import pytest

from beepgpt.conversations.cleaning import clean


def test_cleaning_colons():
    """The reported text: code with colons stays, a date shows its fallback, a group's label stays out."""
    text = (
        "Use std::vector::iterator, base::paste::x or registry:5000/img:tag:x; ask <!subteam^S01ABC|@oncall-db>, "
        "due <!date^1716200000^{date_short}|20 May>"
    )

    assert clean(text) == "Use std::vector::iterator, base::paste::x or registry:5000/img:tag:x; ask , due 20 May"


@pytest.mark.parametrize(
    "text",
    [
        "a:b:c",
        "ERROR:root:failed",
        "10:30:45",
        "::first",
        "std::",
        "og:image:height",
        "2606:4700::6811:cacc",
        "like ::this:: one",
        ":x::",
        "u:ultra:rwx",
    ],
)
def test_what_looks_like_an_emoji_and_is_none(text: str):
    """Neither end stands at a word's edge, a colon is doubled, or a digit touches it."""
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Thanks:sweat_smile:", "Thanks"),
        (":wave:Hi", "Hi"),
        (":point_up::skin-tone-3: this", "this"),
        ("お願いします:bow::bow:。", "お願いします 。"),
        ("また:tada:あした", "また あした"),
        ("(:+1:)", "( )"),
        ("due <!date^1716200000^{date}>", "due"),
    ],
)
def test_what_is_an_emoji(text: str, shown: str):
    """People write them right behind a word, in a row with a skin tone, and between characters of Japanese."""
    assert clean(text) == shown
