"""Prompts and completions of other tools: what is read of a file, and which messages of the history its prompts show."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple
from zlib import crc32

import orjson

from beepgpt.audit.example_rows import body_of
from beepgpt.audit.findings import Findings
from beepgpt.audit.history import ChannelHistories
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.cleaning import clean

CUT = 20
"""Characters that a cut message must keep to be recognized by its beginning."""

_WORDS = re.compile(r"\w+")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_SPEAKER = re.compile(r"[^\n:]{1,40}:\s")
_CRUDE = re.compile(r"<[^<>]*>|:[^:]*:", re.DOTALL)


class Pair(NamedTuple):
    """A row of a file: a prompt and the completion that should follow it."""

    where: str
    prompt: str
    completion: str


class PostedMessage(NamedTuple):
    """A message of the history."""

    channel: str
    ts: int
    user: str
    thread_ts: int | None
    bot: bool
    known_from: int
    """Since when a text of it was known; later than `ts` for an export's edited messages."""
    shown: bool
    """Whether any word of it can stand in a prompt."""


Unit = list[int]
"""The messages (their numbers in the index) that a sentence of a prompt may be."""


def read_pairs(lines: Iterable[bytes], side: str, findings: Findings) -> Iterator[Pair]:
    """Yield the rows of a file. Lines without one become findings. `side`: "train ", "valid " or nothing."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{side}line {number:,}"
        pair = pair_of(line, where)
        if pair is None:
            findings.add(4, "lines without a prompt and a completion", where, 'neither {"prompt", "completion"} nor {"messages": [...]}')
        else:
            yield pair


def pair_of(line: bytes, where: str = "") -> Pair | None:
    """A line's prompt and completion; of a chat, its last message is the completion.

    >>> pair_of(b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "1"}]}')
    Pair(where='', prompt='hi', completion='1')
    """
    if (body := body_of(line)) is None:
        return None
    prompt, completion = body.get("prompt"), body.get("completion", body.get("answer"))
    messages = body.get("messages")
    if prompt is None and isinstance(messages, list):
        texts = [each.get("content") if isinstance(each, dict) else None for each in messages]
        present = [text for text in texts if isinstance(text, str)]
        if len(present) != len(texts) or len(present) < 2:
            return None
        prompt, completion = "\n\n".join(present[:-1]), present[-1]
    if not isinstance(prompt, str):
        return None
    return Pair(where, prompt, completion if isinstance(completion, str) else orjson.dumps(completion).decode())


def sampled(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """`count` rows in their order, chosen by a hash, so that every audit of a file takes the same."""
    chosen = sorted(range(len(pairs)), key=lambda number: (crc32(pairs[number].prompt.encode()), number))[:count]
    return [pairs[number] for number in sorted(chosen)]


def key_of(text: str) -> str:
    """A text's words: equal for texts that differ only in case, white space and punctuation.

    >>> key_of("Good  morning,\\n*everyone*!")
    'good morning everyone'
    """
    return " ".join(_WORDS.findall(text.casefold()))


class Index:
    """The messages of a history, by their words."""

    def __init__(self, history: ChannelHistories) -> None:
        self.messages: list[PostedMessage] = []
        """In order of time: of two messages, the later one has the greater number."""
        self.by_key: defaultdict[str, list[int]] = defaultdict(list)
        self.known_from: dict[tuple[str, int], int] = {}
        """Since when a message has had a text, by (words, message)."""
        every = [(message, name) for name, channel in history.channels.items() for message in channel.messages().values()]
        for message, name in sorted(every, key=lambda each: (each[0].ts, each[1])):
            number = len(self.messages)
            first, shown = FOREVER, False
            for known_from, text in message.versions:
                if text is None:
                    continue
                first = min(first, known_from)
                for key in _keys(text):
                    shown = True
                    if (key, number) not in self.known_from:
                        self.known_from[key, number] = known_from
                        self.by_key[key].append(number)
            self.messages.append(PostedMessage(name, message.ts, message.user, message.thread_ts, message.bot, first, shown))
        self.sorted_keys = sorted(self.by_key)
        self._find = cache(self._find_uncached)

    def units_of(self, prompt: str) -> list[tuple[str, str, Unit]]:
        """A prompt's sentences: (text, its words as in the index, the messages it may be; none if nobody posted it)."""
        units: list[tuple[str, str, Unit]] = []
        for paragraph in _PARAGRAPHS.split(prompt):
            key, found = self._find(paragraph)
            if not found and "\n" in paragraph.strip():
                lines = [(line, *self._find(line)) for line in paragraph.splitlines()]
                units += [line for line in lines if line[1]]
            elif key:
                units.append((paragraph.strip(), key, found))
        return units

    def _find_uncached(self, text: str) -> tuple[str, Unit]:
        """The words of a text and the messages it may be: whole, without a leading name of the speaker, or cut short."""
        whole = key_of(text)
        speaker = _SPEAKER.match(text.lstrip())
        for key in (whole, key_of(text.lstrip()[speaker.end() :]) if speaker else ""):
            if key in self.by_key:
                return key, self.by_key[key]
        if len(whole) >= CUT:
            place = bisect_left(self.sorted_keys, whole)
            if place < len(self.sorted_keys) and self.sorted_keys[place].startswith(whole):
                return self.sorted_keys[place], self.by_key[self.sorted_keys[place]]
        return whole, []


def _keys(text: str) -> set[str]:
    """The words of a message as it came, cleaned by us, and cleaned crudely; and of each of its paragraphs and lines."""
    forms = {text, clean(text), _CRUDE.sub("", text)}
    for form in (text, _CRUDE.sub("", text)):
        if "\n" in form:
            forms.update(_PARAGRAPHS.split(form))
            forms.update(form.splitlines())
    return {key for form in forms if (key := key_of(form))}


def template_of(units: Sequence[Sequence[tuple[str, str, Unit]]]) -> set[str]:
    """The other tool's own sentences, such as an instruction: nobody posted them, and they stand in most prompts."""
    counted = Counter(key for row in units for key in {key for _, key, found in row if not found})
    return {key for key, count in counted.items() if len(units) > 3 and count * 2 > len(units)}


KnownUnits = list[tuple[str, str, Unit]]


def match(units: Sequence[Sequence[tuple[str, str, Unit]]], template: set[str]) -> tuple[list[KnownUnits], list[list[str]]]:
    """For each row, the sentences that somebody posted, and the texts that nobody did."""
    found: list[KnownUnits] = []
    unknown: list[list[str]] = []
    for row in units:
        found.append([unit for unit in row if unit[2]])
        unknown.append([text for text, key, messages in row if not messages and key not in template])
    return found, unknown


def window_of(found: Sequence[KnownUnits]) -> int:
    """The tool's window: the greatest number of sentences that at least 1 % of the prompts have."""
    counted = Counter(len({key for _, key, _ in row}) for row in found)
    often = [size for size, count in counted.items() if count * 100 >= len(found)]
    return max(often, default=1) or 1
