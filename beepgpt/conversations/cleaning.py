"""A message's text as prompts show it (docs/semantics.md, "Cleaning")."""

from __future__ import annotations

import re

_CODE = re.compile(r"```.*?```", re.DOTALL)
_MARKUP = re.compile(r"<([^<>]*)>")
_URL = re.compile(r"(?:https?|ftp)://\S+", re.IGNORECASE)
_SCHEME = re.compile(r"^(?:https?://|ftp://|mailto:)", re.IGNORECASE)
_NAMES = r"(?::[\w+'-]+:)+"
_EMOJI = re.compile(rf"(?<![A-Za-z0-9_:]){_NAMES}(?![0-9:])|(?<![0-9:]){_NAMES}(?![A-Za-z0-9_:])")
"""Names of emoji, also several in a row, of which one end stands at the edge of a word: `std::vector::iterator` and `a:b:c` have none.
A word is of ASCII letters here, since Japanese has no spaces and people write emoji right behind its characters."""
_SECRET = re.compile(r"xox[a-z]-[\w%-]+|xoxe\.xox[a-z]-[\w%-]+|xapp-[0-9]-[\w-]+")
"""Slack's own tokens: an export is read without them, so no prompt may show one."""
_ESCAPE = re.compile(r"&(amp|lt|gt);")
_UNESCAPED = {"amp": "&", "lt": "<", "gt": ">"}


def clean(text: str) -> str:
    """A message's text without code blocks, Slack's markup, bare addresses and emoji names, unescaped once, its white space folded.

    What is taken out leaves a space, so that no two words grow together. The result never holds a line break, so that a prompt's
    separator and suffix occur nowhere else in it.

    >>> clean("Hi <@U1>! See <https://x.org/a?b=1&amp;c|the guide> :tada: at 10:30:45, 1 &lt; 2 ```x = 1``` <#C1|random>")
    'Hi ! See the guide at 10:30:45, 1 < 2 random'
    """
    if "```" in text:
        text = _CODE.sub(" ", text)
    if "<" in text:
        text = _MARKUP.sub(_shown, text)
    if "xox" in text or "xapp-" in text:
        text = _SECRET.sub(" ", text)
    if "://" in text:
        text = _URL.sub(" ", text)
    if ":" in text:
        text = _EMOJI.sub(" ", text)
    if "&" in text:
        text = _ESCAPE.sub(lambda match: _UNESCAPED[match[1]], text)
    return " ".join(text.split())


def _shown(match: re.Match[str]) -> str:
    """What a reader sees of one `<…>`: a link's own label, a channel's name, a date; people, groups and broadcasts are left out."""
    target, _, label = match[1].partition("|")
    if target.startswith("!date^"):
        return label or " "
    if target[:1] in ("@", "!"):
        return " "
    if target[:1] == "#":
        return label or " "
    return " " if _without_scheme(label) == _without_scheme(target) else label or " "


def _without_scheme(address: str) -> str:
    """An address as people write it."""
    return _SCHEME.sub("", address).rstrip("/")
