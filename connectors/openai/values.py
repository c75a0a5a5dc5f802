"""Values: a provider, requests with their JSON bodies, answers and usage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

OPENAI = "https://api.openai.com/v1"
CHOICES = ("yes", "no")
QuestionApi = Literal["chat", "decisions"]
PATHS: dict[QuestionApi, str] = {"chat": "/chat/completions", "decisions": "/decisions"}
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"answer": {"type": "string", "enum": list(CHOICES)}},
            "required": ["answer"],
            "additionalProperties": False,
        },
    },
}
_TOP = 10
"""Alternatives requested for each token; `yes` and `no` are among them, unless one is very unlikely."""


@dataclass(frozen=True)
class Provider:
    """A server that speaks OpenAI's protocol, and the limits of its use. The key stays out of the repr.

    >>> Provider(key="sk-secret", requests_per_minute=500)
    Provider(base_url='https://api.openai.com/v1', organisation=None, project=None, concurrency=16, requests_per_minute=500, ...)
    """

    base_url: str = OPENAI
    key: str = field(default="", repr=False)
    """Empty for servers that want none."""
    organisation: str | None = None
    project: str | None = None
    concurrency: int = 16
    """Requests in flight at the same time; as many again may wait for their next try."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tries: int = 8
    deadline: float = 300.0
    """Seconds for all tries of a request, from the first one on."""
    timeout: float = 120.0
    """Seconds for one try, even if bytes keep coming."""
    stall: float = 60.0
    """Seconds of one try without a byte."""
    connect: float = 10.0
    """Seconds to connect."""
    transfer: float = 900.0
    """Seconds for one try to send or fetch a file."""
    allow_external: bool = False
    """Whether the address may lead to another machine."""
    proxy: str = field(default="", repr=False)
    """For other machines, as in `Outbound`."""
    api_version: str | None = None
    """For Azure's older addresses: `api-version` in each, and the key in a header of its own."""

    @property
    def place(self) -> str:
        """Host and port of the address, without user and password.

        >>> Provider("http://ana:secret@localhost:8000/v1").place
        'localhost:8000'
        """
        return urlsplit(self.base_url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class AskedModel:
    """A model, and the options of its requests."""

    name: str
    way: QuestionApi = "chat"
    """Which API: `decisions` gives a calibrated probability, if the server has it."""
    logprobs: bool = True
    """Request log probabilities, for the probability (`chat` only); reasoning models give them only with `effort="none"`."""
    effort: str | None = None
    """`reasoning_effort`; None: the model's default."""
    marks_prefix: bool = False
    """Mark the end of the shared prefix: OpenAI's models from gpt-5.6 on don't cache it otherwise, older ones refuse the mark."""
    max_tokens: int = 256
    """Of the answer, reasoning included."""


@dataclass(frozen=True, slots=True)
class Request:
    """A yes-or-no question about a text.

    The shared parts come first and the text last, so that the provider can cache the shared prefix.
    """

    model: AskedModel
    instructions: str
    shots: tuple[tuple[str, str], ...]
    """Texts with their right answers, `yes` or `no`."""
    text: str
    tokens: int = field(default=0, compare=False)
    """Tokens of the whole request, for the limit per minute; 0: estimated from its length."""

    @property
    def id(self) -> str:
        """A hash of the whole request: two requests of one id get one answer.

        >>> model = AskedModel("gpt-6-luna")
        >>> Request(model, "A question?", (), "hello").id == Request(model, "A question?", (), "hello", tokens=9).id
        True
        """
        return hashlib.sha256(encode([self.model.way, body_of(self)])).hexdigest()


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A request for a text that is made of another one."""

    model: AskedModel
    """Always asked through `chat`; `max_tokens` has to be enough for the text."""
    instructions: str
    text: str

    @property
    def id(self) -> str:
        """A hash of the whole request."""
        return hashlib.sha256(encode(["text", text_body(self)])).hexdigest()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were paid for."""

    input: int = 0
    """All input tokens, including those from the cache and those written to it."""
    cached: int = 0
    written: int = 0
    """Written to the cache, which costs more with newer models."""
    output: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input + other.input, self.cached + other.cached, self.written + other.written, self.output + other.output)


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """The model's answer to a yes-or-no question."""

    choice: str
    """`yes` or `no`."""
    probability: float | None
    """Of `yes`; None: the server gave none."""
    model: str
    """Its name, by the server."""
    usage: Usage | None
    """None: the server gave none."""


@dataclass(frozen=True, slots=True)
class ClientUsage:
    """Counts of a client's requests, tries and tokens."""

    asked: int = 0
    """Requests that were started; each is answered, failed or in flight."""
    answered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    """By the reason of the error."""
    tries: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    """By the reason of the error before the retry."""
    waited: float = 0.0
    """Seconds of waiting between tries, summed over requests."""
    limited: float = 0.0
    """Seconds of waiting for the limits per minute, summed over requests."""
    usage: Usage = Usage()
    batch_usage: Usage = Usage()
    """Of batches, which have another price."""
    untold: int = 0
    """Answers without token usage."""


def body_of(request: Request) -> dict[str, Any]:
    """The JSON body of a question: the instructions, the few-shots, and last the text."""
    return chat_body(request) if request.model.way == "chat" else decision_body(request)


def chat_body(request: Request) -> dict[str, Any]:
    """The body for `chat.completions`, also in a batch: the answer is `{"answer": "yes"}` or `{"answer": "no"}`."""
    model = request.model
    messages: list[dict[str, Any]] = [{"role": "system", "content": request.instructions}]
    for text, choice in request.shots:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": encode({"answer": choice}).decode()}]
    body: dict[str, Any] = {"model": model.name, "messages": messages}
    if model.marks_prefix:
        shared = messages[-2] if request.shots else messages[0]  # the assistant's few tokens after it don't count
        shared["content"] = [{"type": "text", "text": shared["content"], "prompt_cache_breakpoint": {"mode": "explicit"}}]
        body["prompt_cache_options"] = {"mode": "explicit", "ttl": "30m"}
        body["prompt_cache_key"] = hashlib.sha256(encode(messages)).hexdigest()[:32]
    messages.append({"role": "user", "content": request.text})
    body |= {"response_format": _SCHEMA, "max_completion_tokens": model.max_tokens}
    if model.logprobs:
        body |= {"logprobs": True, "top_logprobs": _TOP}
    if model.effort is not None:
        body["reasoning_effort"] = model.effort
    return body


def text_body(request: TextRequest) -> dict[str, Any]:
    """The body for `chat.completions`: the answer is free text."""
    model = request.model
    said = [("system", request.instructions), ("user", request.text)]
    body: dict[str, Any] = {"model": model.name, "messages": [{"role": role, "content": content} for role, content in said]}
    body["max_completion_tokens"] = model.max_tokens
    if model.effort is not None:
        body["reasoning_effort"] = model.effort
    return body


def decision_body(request: Request) -> dict[str, Any]:
    """The body for `decisions`: the answer is a probability for each choice."""
    said = [("system", request.instructions)]
    for text, choice in request.shots:
        said += [("user", text), ("assistant", choice)]
    said.append(("user", request.text))
    question = {
        "type": "choice",
        "name": "answer",
        "instructions": "What is the right answer to the last user message, by the instructions and the examples above?",
        "choices": [{"value": each} for each in CHOICES],
    }
    return {
        "model": request.model.name,
        "input": [{"type": "message", "role": role, "content": content} for role, content in said],
        "questions": [question],
    }


def encode(value: object) -> bytes:
    """Compact JSON, the same bytes for the same value; half a surrogate pair, which no server takes, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
