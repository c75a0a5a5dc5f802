"""What a line has to be to teach anything, what a model takes, and the rules that `prepare_data` had, each with its name and its count.

`prepare_data` was OpenAI's tool for files of prompts and completions, removed in openai 2.35. Two of its faults are not repeated: long rows
are known by their ids (it dropped them by position, after duplicates had moved the positions), and completions are never rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal, NamedTuple

import orjson

from beepgpt.conversations.events import micros
from beepgpt.conversations.tokens import SUFFIX, Encoding
from beepgpt.errors import BeepGPTError

MAX_PREFIX = 12
"""Characters: prompts that all begin with more than these waste them."""
MAX_COMPLETION_PREFIX = 5
NAMED = 20
"""Ids that are told of the rows that break a rule."""
MOST_LABELS = 1000
"""`"0"` to `"999"` are single tokens, `"1000"` is none."""
NIL, OTHER = "nil", "other"

LineSignal = Literal["strong", "weak"]


class CannotPrepare(BeepGPTError):
    """No training set can be made of this; the message says why, and what to do."""


# Lines


class ExampleLine(NamedTuple):
    """What is needed of an example before it is known what becomes of it."""

    id: bytes
    spec: str
    target: str
    scope: str
    channel: str
    conversation: str
    prompt_ts: int
    settled_ts: int
    answer: list[str]
    window: list[str]
    """The messages' `ts`."""
    prompt: str
    signal: LineSignal | None
    has_candidates: bool


FAULTS = ("not_json", "not_an_example", "no_prompt", "no_answer", "no_suffix", "suffix_inside")
"""Why a line is no example that a model could learn from."""


def read_line(line: bytes) -> ExampleLine | str:
    """A line's example, or its fault by name.

    >>> read_line(b'{"prompt": "hello", "completion": " 1"}')
    'not_an_example'
    >>> read_line(b'{"prompt": "hel')
    'not_json'
    """
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "not_json"
    try:
        made = _line(body)
    except (AttributeError, KeyError, TypeError, ValueError):
        return "not_an_example"
    if isinstance(made, str):
        return made
    if not made.prompt.endswith(SUFFIX):
        return "no_suffix"
    return made if made.prompt.find(SUFFIX) == len(made.prompt) - len(SUFFIX) else "suffix_inside"


def _line(body: dict[str, Any]) -> ExampleLine | str:
    told = [body[name] for name in ("spec", "target", "scope", "channel", "conversation")]
    identity = bytes.fromhex(body["id"])
    window = [each["ts"] for each in body["window"]]
    prompt, answer, signal = body.get("prompt"), body.get("answer"), body.get("signal")
    if not all(type(each) is str for each in (*told, *window)) or not window or len(identity) != 16:
        raise ValueError
    if signal not in (None, "strong", "weak"):
        raise ValueError
    if type(prompt) is not str or not prompt.removesuffix(SUFFIX).strip():
        return "no_prompt"
    if type(answer) is not list or not all(type(each) is str for each in answer):
        return "no_answer"
    candidates = body.get("candidates")
    if candidates is not None and not isinstance(candidates["user"], list):
        raise TypeError
    times = micros(body["prompt_ts"]), micros(body["settled_ts"])
    return ExampleLine(identity, *told, *times, answer, window, prompt, signal, candidates is not None)  # type: ignore[call-arg]


# Models


class ModelLimits(NamedTuple):
    """What has to be known of a model that is to be trained."""

    encoding: str
    max_tokens: int | None
    """Of one training example; None: not known."""


MODELS: Mapping[str, ModelLimits] = {
    "gpt-6": ModelLimits("o200k_base", None),
    "gpt-5": ModelLimits("o200k_base", None),
    "gpt-4.1": ModelLimits("o200k_base", 65_536),
    "gpt-4o": ModelLimits("o200k_base", 65_536),
    "gpt-4-turbo": ModelLimits("cl100k_base", None),
    "gpt-4": ModelLimits("cl100k_base", 8_192),
    "gpt-3.5-turbo": ModelLimits("cl100k_base", 16_385),
    "babbage-002": ModelLimits("cl100k_base", 16_384),
    "davinci-002": ModelLimits("cl100k_base", 16_384),
}
"""By the beginning of the name; the longest counts."""


def model_of(name: str, encoding: str | None = None) -> ModelLimits:
    """What is known of a model, fine-tuned ones included; `encoding` is for those that aren't known.

    >>> model_of("ft:gpt-4.1-mini-2025-04-14:acme::abc").encoding, model_of("gpt-4-0613").encoding
    ('o200k_base', 'cl100k_base')
    >>> model_of("qwen3-8b")
    Traceback (most recent call last):
    beepgpt.training.checks.CannotPrepare: the model qwen3-8b is not known, so neither is its encoding: give --encoding ...
    """
    base = name.split(":")[1] if name.startswith("ft:") else name
    begins = [each for each in MODELS if base == each or base.startswith((f"{each}-", f"{each}."))]
    known = MODELS[max(begins, key=len)] if begins else None
    if encoding is not None:
        return ModelLimits(encoding, known.max_tokens if known else None)
    if known is None:
        raise CannotPrepare(f"the model {name} is not known, so neither is its encoding: give --encoding o200k_base or cl100k_base")
    return known


# Labels


def check_single_tokens(labels: Iterable[str], encoding: Encoding) -> None:
    """A model that says one token must be able to say each label. Raises CannotPrepare."""
    split = [label for label in labels if len(encoding.encode_ordinary(label)) != 1]
    if split:
        told = ", ".join(f'"{label}"' for label in split[:5])
        raise CannotPrepare(
            f"{len(split):,} labels are more than one token of {encoding.name} ({told}), and a model that answers with one token can't say"
            " them: give another model or --encoding, or have fewer labels with a higher --min-answers"
        )


def takes_leading_space(encoding: Encoding) -> bool:
    """Whether every label with a space before it is still one token: then completions begin with one, as `prepare_data` wanted.

    In o200k and cl100k `" 1"` is two tokens, and a model that answers with one would only ever say the space.
    """
    return all(len(encoding.encode_ordinary(f" {label}")) == 1 for label in (*map(str, range(MOST_LABELS)), NIL, OTHER))


# Rows


@dataclass
class Broken:
    """How many rows break a rule, a few of them by id, and what was done about it."""

    count: int = 0
    done: str = ""
    ids: list[str] = field(default_factory=list)

    def add(self, identity: str) -> None:
        """One more."""
        self.count += 1
        if len(self.ids) < NAMED:
            self.ids.append(identity)


class CommonPrefix:
    """How many characters all texts begin with.

    >>> common = CommonPrefix()
    >>> common.see("Slack: hello"), common.see("Slack: hi")
    (None, None)
    >>> common.length
    8
    """

    def __init__(self) -> None:
        self._seen: str | None = None
        self._differs = False

    def see(self, text: str) -> None:
        """One more text."""
        if self._seen is None:
            self._seen = text
        elif not text.startswith(self._seen):
            self._seen = text[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._seen, text, strict=False)))]
            self._differs = True
        elif text != self._seen:
            self._differs = True

    @property
    def length(self) -> int:
        """0 where there were not two different texts."""
        return len(self._seen or "") if self._differs else 0
