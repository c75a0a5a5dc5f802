"""Names of people on a page, each with what stands for it where names are hidden."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256

from markupsafe import Markup, escape

LONGEST = 4
"""Words of a name, at most."""
LEAST = 3
"""Letters of a part of a name (a first name, say) that is looked for alone."""
_WORD = re.compile(r"\w+")


class PageNames:
    """The names of people that a page may show: each has a number, the same on all pages of one workspace, in no order of theirs.

    Where the page's switch is on, `Person 3` stands for a person, and for each name of a person that is found in what people wrote.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """`names`: of all people of the workspace; none where ids are shown."""
        self._whole: dict[tuple[str, ...], str] = {}
        self._parts: dict[str, str] = {}
        in_order = sorted({*names}, key=lambda name: sha256(name.encode("utf-8", "surrogatepass")).digest())
        self._numbers = {name: number for number, name in enumerate(in_order, 1)}
        for name in sorted(self._numbers):
            words = tuple(_WORD.findall(name.casefold()))
            if 0 < len(words) <= LONGEST:
                self._whole.setdefault(words, name)
            for each in words:
                if len(each) >= LEAST:
                    self._parts.setdefault(each, name)

    def __bool__(self) -> bool:
        return bool(self._whole)

    @property
    def count(self) -> int:
        """How many people have a number, at the least: those whom the export lists."""
        return len(self._numbers)

    def person(self, name: str) -> Markup:
        """A person's name; plain where the page shows ids."""
        return self._marked(name, name) if self else escape(name)

    def text(self, text: str) -> Markup:
        """What somebody wrote, with the names in it: whole ones however they are written, and parts of them with a capital letter."""
        found, end = Markup(), 0
        for start, stop, name in self._names_in(text):
            found += escape(text[end:start]) + self._marked(text[start:stop], name)
            end = stop
        return found + escape(text[end:])

    def _names_in(self, text: str) -> Iterator[tuple[int, int, str]]:
        words = list(_WORD.finditer(text))
        at = 0
        while at < len(words):
            for count in range(min(LONGEST, len(words) - at), 0, -1):
                run = words[at : at + count]
                name = self._whole.get(tuple(each[0].casefold() for each in run))
                if name is None and count == 1 and run[0][0][0].isupper():
                    name = self._parts.get(run[0][0].casefold())
                if name is not None:
                    yield run[0].start(), run[-1].end(), name
                    at += count - 1
                    break
            at += 1

    def _marked(self, shown: str, name: str) -> Markup:
        number = self._numbers.setdefault(name, len(self._numbers) + 1)  # of somebody who isn't listed: an id
        return Markup('<span class="named">{}</span><span class="unnamed">Person {}</span>').format(shown, number)
