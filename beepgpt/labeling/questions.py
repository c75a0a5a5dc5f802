"""An example's line as a question to a labeler, and the verdict written into the line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import NamedTuple, Protocol

import orjson

from beepgpt.conversations.signals import SignalVerdict
from beepgpt.errors import BeepGPTError


class CannotLabel(BeepGPTError):
    """A prompt can't be labeled; the message says why, and quotes nobody."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason`: the name for counts and dead letters."""
        super().__init__(message)
        self.reason = reason


class CannotGoOn(CannotLabel):
    """No prompt can be labeled now: the run stops, and the rest waits until it is resumed."""


class Labeler(Protocol):
    """Judges whether a prompt teaches something."""

    @property
    def fingerprint(self) -> str:
        """A hash of all that it judges by, written as `signal_instructions`."""

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """The verdict, now or later; the future may raise CannotLabel or CannotGoOn."""


class LabelQuestion(NamedTuple):
    """The fields of an example that labeling needs."""

    id: str
    prompt: str
    is_silent: bool
    """Nobody answered, so it needs no label."""
    channel: str
    people: frozenset[str]
    """The authors of the window's messages."""


class SourceContents(NamedTuple):
    """What has to be known of a bounded SOURCE before it is labeled."""

    questions: Callable[[], Iterator[LabelQuestion]]
    """Reads its examples; lines that are none are skipped."""
    retracted: frozenset[str]
    """Ids of retracted examples."""


def question_in(line: bytes) -> LabelQuestion:
    """Parse a line. Raises CannotLabel if it is no example.

    >>> question_in(b'{"id": "6f1c", "channel": "C1", "prompt": "hello", "answer": [], "window": [{"ts": "1.0", "user": "U1"}]}')
    LabelQuestion(id='6f1c', prompt='hello', is_silent=True, channel='C1', people=frozenset({'U1'}))
    """
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise CannotLabel("not_json", "the line is no JSON") from None
    try:
        question = LabelQuestion(
            body["id"], body["prompt"], body["answer"] == [], body["channel"], frozenset(each["user"] for each in body["window"])
        )
        texts = [question.id, question.prompt, question.channel, *question.people]
        if all(isinstance(each, str) for each in texts) and isinstance(body["answer"], list) and question.id:
            return question
    except (KeyError, TypeError):
        pass
    raise CannotLabel("not_an_example", "the line lacks what an example has")


_LABELED = re.compile(
    rb',"signal":"(?:strong|weak)","signal_p":[^,"{}\[\]]+,"signal_model":"(?:[^"\\]|\\.)*+","signal_instructions":"[0-9a-f]*"\}$'
)
_NAMES = ("signal", "signal_p", "signal_model", "signal_instructions")


def labeled_line(line: bytes, verdict: SignalVerdict, fingerprint: str) -> bytes:
    """An example's line with its label at the end, in the place of any other. `fingerprint`: the labeler's.

    >>> once = labeled_line(b'{"id":"6f1c"}', SignalVerdict("strong", 0.93, "gpt-6-luna"), "0123456789ab")
    >>> once
    b'{"id":"6f1c","signal":"strong","signal_p":0.93,"signal_model":"gpt-6-luna","signal_instructions":"0123456789ab"}'
    >>> labeled_line(once, SignalVerdict("weak", None, "person"), "ba9876543210")
    b'{"id":"6f1c","signal":"weak","signal_p":null,"signal_model":"person","signal_instructions":"ba9876543210"}'
    """
    if b'"signal' in line:
        line = _LABELED.sub(b"}", line)
        if any(name in (body := orjson.loads(line)) for name in _NAMES):  # somewhere else in it
            line = orjson.dumps({name: value for name, value in body.items() if name not in _NAMES})
    label = orjson.dumps(dict(zip(_NAMES, (verdict.signal, verdict.p, verdict.model, fingerprint), strict=True)))
    return line.rstrip()[:-1] + b"," + label[1:]
