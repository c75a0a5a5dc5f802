"""Prompts and their exact token counts: each message is encoded once, not once for every window it stands in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Protocol

SEPARATOR = "\n\n"
SUFFIX = "\n\n###\n\n"

HIDDEN = ("", "###")
"""Cleaned texts that no prompt shows: nothing, and what would look like the prompt's end."""

ADDS_UP = frozenset({"cl100k_base", "o200k_base"})
"""Encodings in which the counts of `text + SEPARATOR` add up, by their split patterns: line breaks end a piece, and the next piece starts
with what is no white space. `_merges` finds the one exception."""


class Encoding(Protocol):
    """The methods of `tiktoken.Encoding` that are used here."""

    @property
    def name(self) -> str: ...

    def encode_ordinary(self, text: str) -> list[int]: ...

    def __hash__(self) -> int: ...

    def decode_bytes(self, tokens: Sequence[int]) -> bytes: ...


class Prompt(NamedTuple):
    """A prompt, its length in tokens, and how many of the newest messages it shows."""

    text: str
    tokens: int
    shown: int


def is_shown(cleaned: str) -> bool:
    """Whether a message stands in a prompt."""
    return cleaned not in HIDDEN


def unit_tokens(cleaned: str, encoding: Encoding) -> int:
    """Tokens of one message and the separator after it."""
    return len(encoding.encode_ordinary(cleaned + SEPARATOR))


@lru_cache(maxsize=8)
def end_tokens(encoding: Encoding) -> int:
    """Tokens of the suffix, after the last message's own separator."""
    return len(encoding.encode_ordinary(SUFFIX.removeprefix(SEPARATOR)))


def build_prompt(messages: Sequence[tuple[str, int]], encoding: Encoding, max_tokens: int) -> Prompt:
    """Messages (cleaned text, `unit_tokens`), oldest first, as a prompt of at most `max_tokens`.

    The oldest are dropped until it fits; a single longer one keeps its beginning, cut at a whole character.
    """
    end = end_tokens(encoding)
    shown = [unit for unit in messages if unit[0] not in HIDDEN]
    while shown:
        prompt = SEPARATOR.join([text for text, _ in shown]) + SUFFIX
        count = _count(prompt, shown, end, encoding)
        if count <= max_tokens:
            return Prompt(prompt, count, len(shown))
        if len(shown) == 1:
            return _beginning(shown[0][0], encoding, max_tokens)
        del shown[0]
    return Prompt("", 0, 0)


def _count(prompt: str, shown: Sequence[tuple[str, int]], end: int, encoding: Encoding) -> int:
    if encoding.name not in ADDS_UP or ("\n/" in prompt and any(_merges(one[0], after[0]) for one, after in pairwise(shown))):
        return len(encoding.encode_ordinary(prompt))
    return sum([tokens for _, tokens in shown]) + end


def _merges(one: str, after: str) -> bool:
    """o200k's pattern takes punctuation, the line breaks after it and slashes after those as one piece."""
    return after.startswith("/") and not one[-1].isalnum()


def _beginning(text: str, encoding: Encoding, max_tokens: int) -> Prompt:
    """The longest beginning, cut at a whole character, with which the prompt fits."""
    tokens = encoding.encode_ordinary(text)[:max_tokens]  # with the suffix, more of them can't fit
    beginning = encoding.decode_bytes(tokens).decode("utf-8", errors="ignore")
    while beginning:
        beginning = beginning.rstrip()
        prompt = beginning + SUFFIX
        count = len(encoding.encode_ordinary(prompt))
        if count <= max_tokens and is_shown(beginning):
            return Prompt(prompt, count, 1)
        beginning = beginning[:-1]
    return Prompt("", 0, 0)
