"""Messages, points, and the bytes of examples (docs/semantics.md, "Examples")."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.features import Lineup, mentions_of, words_of
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.snapshots import State
from beepgpt.conversations.tokens import Encoding, Prompt, build_prompt, is_shown, unit_tokens


class Message(State):
    """A message as known at some time; an edit makes another one. Never changed, but for its token count, which is computed once needed."""

    __slots__ = ("bot", "mark", "mentions", "text", "tokens", "ts", "user", "words")

    def __init__(self, ts: int, user: str, bot: bool, text: str | None, *, with_words: bool) -> None:
        self.ts = ts
        self.user = user
        self.bot = bot
        self.text = None if text is None else clean(text)
        """Cleaned; None if it is not known."""
        self.mark = mark_of(text, self.text)
        self.tokens = -1
        self.words = words_of(self.text) if with_words and self.text else ()
        self.mentions = mentions_of(text) if with_words and text else ()


def mark_of(text: str | None, cleaned: str | None) -> str | bytes | None:
    """A value that is equal for equal texts: to see whether an edit changed anything, no second copy of a long text is kept."""
    if text is None or text == cleaned:
        return cleaned
    return text if len(text) <= 40 else sha256(text.encode()).digest()


class Point(State):
    """A moment at which a window changed: the window as known then, and who might answer."""

    __slots__ = ("author", "columns", "lineup", "prompt", "t", "window")

    def __init__(self, t: int, window: tuple[Message, ...], lineup: Lineup | None = None) -> None:
        self.t = t
        """`prompt_ts`, microseconds."""
        self.window = window
        self.author = window[-1].user
        self.lineup = lineup
        """The candidates; None: nobody asks for them, or not any more."""
        self.columns: bytes | None = None
        """Their columns, as JSON or packed, once they are needed."""
        self.prompt: Prompt | None = None

    def let_go(self) -> None:
        """Forget what only its line needs: that is written, and there will be no example."""
        self.lineup = self.columns = self.prompt = None

    def prompt_of(self, encoding: Encoding, max_tokens: int) -> Prompt:
        """The prompt, built at the first call: a superseded point needs none."""
        if self.prompt is None:
            count_tokens([self], encoding)
            self.prompt = build_prompt([(message.text or "", message.tokens) for message in self.window], encoding, max_tokens)
        return self.prompt


def count_tokens(points: Sequence[Point], encoding: Encoding) -> None:
    """Count the tokens of these points' messages that were not counted yet: in one go, which the processor's caches like."""
    for point in points:
        if point.prompt is None:
            for message in point.window:
                if message.tokens < 0:
                    message.tokens = unit_tokens(message.text or "", encoding)


def fill_in(points: Sequence[Point], *, are_packed: bool = False) -> None:
    """Make the columns of these points' candidates, of all at once."""
    missing = [point for point in dict.fromkeys(points) if point.lineup is not None and point.columns is None]
    if not missing:
        return
    from beepgpt.conversations.columns import columns_of_all  # NumPy takes a while to load: not for a page of help, nor without candidates

    lineups = [point.lineup for point in missing if point.lineup is not None]
    for point, columns in zip(missing, columns_of_all(lineups, are_packed=are_packed), strict=True):
        point.columns = columns


def is_withheld(window: Sequence[Message]) -> bool:
    """Whether a window holds unknown text."""
    return None in [message.text for message in window]


def is_empty(window: Sequence[Message]) -> bool:
    """Whether a window's prompt would be empty."""
    return not is_shown(window[-1].text or "") and not any(is_shown(message.text or "") for message in window)


def example_id(rules: Rules, conversation: str, prompt_ts: int, answer_ts: int | None) -> str:
    """An example's id, 32 hex digits: the same in every run that makes the example."""
    answered = "" if answer_ts is None else ts_text(answer_ts)
    named = (rules.workspace, rules.spec, rules.target, rules.scope, conversation, ts_text(prompt_ts), answered)
    return sha256("\n".join(named).encode()).hexdigest()[:32]


def example_bytes(
    identity: str,
    rules: Rules,
    channel: str,
    conversation: str,
    point: Point,
    prompt: Prompt,
    *,
    speakers: int,
    root_missing: bool,
    settled_ts: int,
    answer_ts: int | None,
    answer: Sequence[str],
) -> bytes:
    """An example as a line of compact JSON, its keys in the order of the README's example."""
    body: dict[str, Any] = {
        "id": identity,
        "spec": rules.spec,
        "target": rules.target,
        "scope": rules.scope,
        "channel": channel,
        "conversation": conversation,
        "speakers": speakers,
        "root_missing": root_missing,
        "prompt_ts": ts_text(point.t),
        "settled_ts": ts_text(settled_ts),
        "answer_ts": None if answer_ts is None else ts_text(answer_ts),
        "answer": list(answer),
    }
    return orjson.dumps(body | shown_fields(point, prompt))


class ExampleDraft(NamedTuple):
    """An example whose line is not written yet: prompts and columns are made of many at once."""

    identity: str
    rules: Rules
    encoding: Encoding
    channel: str
    conversation: str
    point: Point
    speakers: int
    root_missing: bool
    settled_ts: int
    answer_ts: int | None
    answer: Sequence[str]

    def line(self) -> bytes:
        """The example's bytes; where its columns are packed, their numbers follow a line's end."""
        point, rules = self.point, self.rules
        line = example_bytes(
            self.identity, rules, self.channel, self.conversation, point, point.prompt_of(self.encoding, rules.max_prompt_tokens),
            speakers=self.speakers, root_missing=self.root_missing,
            settled_ts=self.settled_ts, answer_ts=self.answer_ts, answer=self.answer,
        )  # fmt: skip
        _, end, numbers = (point.columns or b"").partition(b"\n")
        return line + end + numbers if end else line


def shown_fields(point: Point, prompt: Prompt) -> dict[str, Any]:
    """The fields that a model is shown of a point: the same bytes in an example and in a scored point."""
    body: dict[str, Any] = {
        "window": [{"ts": ts_text(message.ts), "user": message.user} for message in point.window],
        "prompt": prompt.text,
        "prompt_tokens": prompt.tokens,
    }
    if point.lineup is not None:
        if point.columns is None:
            fill_in([point])
        assert point.columns is not None
        body["candidates"] = orjson.Fragment(point.columns.partition(b"\n")[0])
    return body


def retraction_bytes(identity: str, retracted_ts: int) -> bytes:
    """A retraction as a line of JSON: readers of the example must forget it."""
    return orjson.dumps({"id": identity, "retracted_ts": ts_text(retracted_ts)})
