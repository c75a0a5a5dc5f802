"""Checks of training data: which lines are usable examples, what a model accepts, and the counted rules of `prepare_data`.

`prepare_data` was OpenAI's tool for files of prompts and completions, removed in openai 2.35. Two of its faults are not repeated: long rows
are identified by their ids (it dropped them by position, after duplicates had moved the positions), and completions are never rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import Any, Literal, NamedTuple

import orjson

from beepgpt.conversations.events import micros
from beepgpt.conversations.tokens import SUFFIX, Encoding
from beepgpt.errors import BeepGPTError

MAX_PREFIX = 12
"""Characters that all prompts may begin with: a longer common prefix is reported."""
MAX_COMPLETION_PREFIX = 5
NAMED = 20
"""Ids that are kept of the rows that break a rule."""
MOST_LABELS = 1000
"""`"0"` to `"999"` are single tokens, `"1000"` is none."""
NIL, OTHER, WEAK = "nil", "other", "weak"
"""Labels of nobody, of people without a label, and of answers with a weak signal."""

LineSignal = Literal["strong", "weak"]


class CannotPrepare(BeepGPTError):
    """No training set can be made of this; the message says why, and what to do."""


# Lines


class ExampleLine(NamedTuple):
    """The fields of an example that decide its side and its labels."""

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


def read_line(line: bytes) -> ExampleLine | str:
    """Parse a line; returns its example, or the name of its fault.

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
        parsed = _line(body)
    except (AttributeError, KeyError, TypeError, ValueError):
        return "not_an_example"
    if isinstance(parsed, str):
        return parsed
    if not parsed.prompt.endswith(SUFFIX):
        return "no_suffix"
    return parsed if parsed.prompt.find(SUFFIX) == len(parsed.prompt) - len(SUFFIX) else "suffix_inside"


def _line(body: dict[str, Any]) -> ExampleLine | str:
    texts = [body[name] for name in ("spec", "target", "scope", "channel", "conversation")]
    identity = bytes.fromhex(body["id"])
    window = [each["ts"] for each in body["window"]]
    prompt, answer, signal = body.get("prompt"), body.get("answer"), body.get("signal")
    if not all(type(each) is str for each in (*texts, *window)) or not window or len(identity) != 16:
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
    return ExampleLine(identity, *texts, *times, answer, window, prompt, signal, candidates is not None)  # type: ignore[call-arg]


# Models


class ModelLimits(NamedTuple):
    """What a trainable model accepts."""

    encoding: str
    max_tokens: int | None
    """Tokens of a training example; None: not known."""


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
"""By prefix of the model's name; the longest match counts."""


def model_of(name: str, encoding: str | None = None) -> ModelLimits:
    """A model's limits, by its name or its fine-tuned name. `encoding`: for models that aren't known. Raises CannotPrepare.

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
    """Raise CannotPrepare unless each label is one token: a model answers with one."""
    split = [label for label in labels if len(encoding.encode_ordinary(label)) != 1]
    if split:
        named = ", ".join(f'"{label}"' for label in split[:5])
        raise CannotPrepare(
            f"{len(split):,} labels are more than one token of {encoding.name} ({named}), and a model that answers with one token can't say"
            " them: give another model or --encoding, or have fewer labels with a higher --min-answers"
        )


def takes_leading_space(encoding: Encoding) -> bool:
    """Whether every label is one token with a space before it, too: then completions begin with one, as `prepare_data` wanted.

    In o200k and cl100k `" 1"` is two tokens, and a model that answers with one token would only ever write the space.
    """
    return all(len(encoding.encode_ordinary(f" {label}")) == 1 for label in (*map(str, range(MOST_LABELS)), NIL, OTHER))


# Rows


@dataclass
class Broken:
    """How many rows break a rule, the first of them by id, and what was done about them."""

    count: int = 0
    done: str = ""
    ids: list[str] = field(default_factory=list)

    def add(self, identity: str) -> None:
        """Count a row."""
        self.count += 1
        if len(self.ids) < NAMED:
            self.ids.append(identity)


class CommonPrefix:
    """The length of the prefix that all texts share.

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
        """Shorten the prefix to what this text shares."""
        self._differs = self._differs or (self._seen is not None and text != self._seen)
        self._seen = text if self._seen is None else commonprefix([self._seen, text])  # noqa: RUF071  # by characters

    @property
    def length(self) -> int:
        """The length of the prefix; 0 unless there were two different texts."""
        return len(self._seen or "") if self._differs else 0
