"""Yes-or-no questions to OpenAI, or to a server that speaks its protocol: at once, with a probability per option, or in batches; and jobs
that fine-tune its models.

The one module that knows openai and backoff. What comes back is an `ProviderAnswer`, or one of the few errors below, which tell
what to do and never what people wrote. All requests of a client run in one event loop, in a thread of its own: so a
time-out is a time-out, however slowly bytes come, and limits hold whoever asks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import random
import re
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import backoff
from aiohttp import ClientConnectionError
from aiolimiter import AsyncLimiter
from httpx2 import Response
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    DefaultAioHttpClient,
    OpenAIError,
    RequestOptions,
    Timeout,
    omit,
)
from openai.types import Batch as TheirBatch
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from beepgpt.errors import BadAnswer, NoMoney, NotAllowed, ProviderFailed, RequestRefused, TooBusy, TrainingNotAvailable

OPENAI = "https://api.openai.com/v1"
FIRST_WAIT = 0.5
"""Seconds before the second try, at most: the longest wait doubles with each try, and a wait is anything up to that."""
LONGEST_WAIT = 30.0
BURST = 3.0
"""Seconds' worth of an allowance per minute that may be used at once."""
MINUTE = 60.0
BATCH_REQUESTS = 50_000
BATCH_BYTES = 100_000_000
"""Of a batch's file: half of what OpenAI takes, since all of it is in memory while it is sent, and sent again if that fails."""
PAGE = 100
FAMILIAR_BATCHES = 10 * PAGE
"""How many of the account's newest batches are looked through for one that was started before."""
FAMILIAR_JOBS = 20 * PAGE
"""How many of the newest fine-tuning jobs, and of the files for them, are looked through for those that were made before."""
BATCH_PATIENCE = 26 * 3600.0
"""Seconds: a batch is done, or has expired, after 24 hours."""
CHOICES = ("yes", "no")
NO_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
NO_TRAINING = "training_not_available"
OVER = {"completed", "failed", "expired", "cancelled"}
USELESS = {"failed", "expired", "cancelling", "cancelled"}
FAILED_JOBS = {"failed", "cancelled", "canceled"}
"""Azure writes the second."""
OVER_JOBS = {"succeeded", *FAILED_JOBS}
READ_FILES = {"processed", "succeeded"}
BAD_FILES = {"error", "failed", "deleted"}
LATER = {408, 409, 425, 429}
"""What may work at another time; as does all from 500 on."""

log = logging.getLogger(__name__)

T = TypeVar("T")
QuestionApi = Literal["chat", "decisions"]
PATHS: dict[QuestionApi, str] = {"chat": "/chat/completions", "decisions": "/decisions"}
EMBEDDINGS = "/embeddings"
_JSON: RequestOptions = {"headers": {"Content-Type": "application/json"}}


# What can go wrong


# Whom we ask, and what


@dataclass(frozen=True)
class Provider:
    """A server that speaks OpenAI's protocol, and how it may be used: values, whose key stays out of the repr.

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
    """Seconds for a request and all its tries, from when its turn has come."""
    timeout: float = 120.0
    """Seconds for one try, however slowly its answer comes."""
    stall: float = 60.0
    """Seconds of one try without a byte."""
    connect: float = 10.0
    """Seconds until a connection stands."""
    transfer: float = 900.0
    """Seconds for one try to send or fetch a file."""
    api_version: str | None = None
    """For Azure's older addresses: `api-version` in each, and the key in a header of its own."""

    @property
    def place(self) -> str:
        """Host and port, without what else may stand in an address.

        >>> Provider("http://ana:secret@localhost:8000/v1").place
        'localhost:8000'
        """
        return urlsplit(self.base_url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class AskedModel:
    """Which model is asked, and what it takes."""

    name: str
    way: QuestionApi = "chat"
    """`decisions` gives a calibrated probability, where the server has that."""
    logprobs: bool = True
    """For the probability, in the way `chat`: reasoning models give them with `effort="none"` only."""
    effort: str | None = None
    """`reasoning_effort`; None: not sent, so that the model does as it does by default."""
    marks_prefix: bool = False
    """Tells where the part that requests share ends: OpenAI's models from gpt-5.6 on don't cache it otherwise, older ones know no mark."""
    max_tokens: int = 256
    """Of the answer, reasoning included."""


@dataclass(frozen=True, slots=True)
class Request:
    """A yes-or-no question about a text.

    What requests share comes first and the text last, so that the provider has to read the shared part only once.
    """

    model: AskedModel
    instructions: str
    shots: tuple[tuple[str, str], ...]
    """Texts with their right answers, `yes` or `no`."""
    text: str
    tokens: int = field(default=0, compare=False)
    """How many it has with all that is shared, for the allowance per minute; 0: not known, and guessed from its length."""

    @property
    def id(self) -> str:
        """A hash of all that is asked: two requests of one id get one answer.

        >>> model = AskedModel("gpt-6-luna")
        >>> Request(model, "A question?", (), "hello").id == Request(model, "A question?", (), "hello", tokens=9).id
        True
        """
        return hashlib.sha256(_encode([self.model.way, body_of(self)])).hexdigest()


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A wish for a text that is made of another one."""

    model: AskedModel
    """Asked in the way `chat`, whatever its own way is; `max_tokens` has to be enough for the text."""
    instructions: str
    text: str

    @property
    def id(self) -> str:
        """A hash of all that is asked."""
        return hashlib.sha256(_encode(["text", text_body(self)])).hexdigest()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were paid for."""

    input: int = 0
    """All of them, with those from the cache and those written to it."""
    cached: int = 0
    written: int = 0
    """To the cache, which newer models take more for."""
    output: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input + other.input, self.cached + other.cached, self.written + other.written, self.output + other.output)


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """What the model says to a request."""

    choice: str
    """`yes` or `no`."""
    probability: float | None
    """Of `yes`; None: the server gave none."""
    model: str
    """As the server calls it."""
    usage: Usage | None
    """None: the server told nothing."""


@dataclass(frozen=True, slots=True)
class ClientUsage:
    """What a client has done so far."""

    asked: int = 0
    """Requests that were begun; each is answered, failed or still in flight."""
    answered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    """By the reason of the error."""
    tries: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    """By the reason of the error that a further try was made after."""
    waited: float = 0.0
    """Seconds between tries, of all requests together."""
    limited: float = 0.0
    """Seconds for the allowance per minute, of all requests together."""
    usage: Usage = Usage()
    batch_usage: Usage = Usage()
    """Of the batches' results that were read: their price is another one."""
    untold: int = 0
    """Answers without a word on tokens."""


# A request as the protocol wants it, and its answer


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
"""Alternatives to each token that are asked for; among them are `yes` and `no`, unless one is out of the question."""


def body_of(request: Request) -> dict[str, Any]:
    """What is sent, whichever way is taken: the instructions, the shots, and last the text itself."""
    return chat_body(request) if request.model.way == "chat" else decision_body(request)


def chat_body(request: Request) -> dict[str, Any]:
    """For `chat.completions`, alone or as a line of a batch: the answer is `{"answer": "yes"}` or `{"answer": "no"}`."""
    model = request.model
    messages: list[dict[str, Any]] = [{"role": "system", "content": request.instructions}]
    for text, choice in request.shots:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": _encode({"answer": choice}).decode()}]
    body: dict[str, Any] = {"model": model.name, "messages": messages}
    if model.marks_prefix:
        shared = messages[-2] if request.shots else messages[0]  # the assistant's few tokens after it don't count
        shared["content"] = [{"type": "text", "text": shared["content"], "prompt_cache_breakpoint": {"mode": "explicit"}}]
        body["prompt_cache_options"] = {"mode": "explicit", "ttl": "30m"}
        body["prompt_cache_key"] = hashlib.sha256(_encode(messages)).hexdigest()[:32]
    messages.append({"role": "user", "content": request.text})
    body |= {"response_format": _SCHEMA, "max_completion_tokens": model.max_tokens}
    if model.logprobs:
        body |= {"logprobs": True, "top_logprobs": _TOP}
    if model.effort is not None:
        body["reasoning_effort"] = model.effort
    return body


def text_body(request: TextRequest) -> dict[str, Any]:
    """For `chat.completions`: the answer is whatever the model writes."""
    model = request.model
    said = [("system", request.instructions), ("user", request.text)]
    body: dict[str, Any] = {"model": model.name, "messages": [{"role": role, "content": content} for role, content in said]}
    body["max_completion_tokens"] = model.max_tokens
    if model.effort is not None:
        body["reasoning_effort"] = model.effort
    return body


def decision_body(request: Request) -> dict[str, Any]:
    """For `decisions`, which reads its input once and says how likely each choice is."""
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


def read_answer(way: QuestionApi, content: bytes) -> ProviderAnswer:
    """An answer's bytes. Raises BadAnswer, which says whether another try may help."""
    return read_body(way, _decoded(content))


def read_text(content: bytes) -> str:
    """A text that was asked for. Raises BadAnswer, as above."""
    body = _decoded(content)
    if not isinstance(body, dict):
        raise BadAnswer(_EMPTY, passes=True)
    return _said_in_chat(body)[0].strip()


def read_vectors(content: bytes, count: int) -> list[tuple[float, ...]]:
    """As many vectors as were asked for, in their order, all of one length. Raises BadAnswer, as above."""
    body = _decoded(content)
    listed = body.get("data") if isinstance(body, dict) else None
    if not isinstance(listed, list) or len(listed) != count:
        raise BadAnswer(_EMPTY, passes=True)
    try:
        found = {each["index"]: tuple(map(float, each["embedding"])) for each in listed}
        vectors = [found[number] for number in range(count)]
    except (KeyError, TypeError, ValueError):
        raise BadAnswer("the answer holds no vectors: name a model of embeddings") from None
    if len({len(each) for each in vectors}) > 1 or not all(each and all(map(math.isfinite, each)) for each in vectors):
        raise BadAnswer("the answer's vectors can't be compared: name another model of embeddings")
    return vectors


def _decoded(content: bytes) -> object:
    try:
        body: object = json.loads(content)
    except ValueError:
        is_page = content.lstrip()[:1] == b"<"
        raise BadAnswer(
            "the answer is a web page: check provider.base_url, and what stands between here and the server"
            if is_page
            else "the answer's JSON is cut short, or none: ask again",
            passes=True,
        ) from None
    return body


def read_body(way: QuestionApi, body: object) -> ProviderAnswer:
    """The same, once it is decoded."""
    if not isinstance(body, dict):
        raise BadAnswer(_EMPTY, passes=True)
    choice, probability = (_chosen_in_chat if way == "chat" else _chosen_in_decision)(body)
    return ProviderAnswer(choice, probability, str(body.get("model", "")), usage_of(body))


_EMPTY = "the answer is empty: ask again"
_REFUSAL = "the model declines to answer: look at the text yourself"
_OTHER = (
    "the answer is neither yes nor no in the agreed form: use a model that keeps to a JSON schema, or say in the instructions"
    ' that the answer is {"answer": "yes"} or {"answer": "no"}'
)


def _chosen_in_chat(body: Mapping[str, Any]) -> tuple[str, float | None]:
    content, logprobs = _said_in_chat(body)
    choice = read_choice(content)
    if choice is None:
        raise BadAnswer(_OTHER)
    return choice, _probability(content, choice, logprobs)


def _said_in_chat(body: Mapping[str, Any]) -> tuple[str, object]:
    """What the model wrote, to the end, and its likelihoods."""
    first = _first(body.get("choices"))
    message = first.get("message") if first else None
    if first is None or not isinstance(message, dict):
        raise BadAnswer(_EMPTY, passes=True)
    if message.get("refusal") or first.get("finish_reason") == "content_filter":
        raise BadAnswer(_REFUSAL)
    content = message.get("content")
    if first.get("finish_reason") == "length":
        raise BadAnswer("the model did not come to an end: raise max_tokens, or lower the model's reasoning effort")
    if not isinstance(content, str) or not content.strip():
        raise BadAnswer(_EMPTY, passes=True)
    return content, first.get("logprobs")


def _chosen_in_decision(body: Mapping[str, Any]) -> tuple[str, float | None]:
    answer = _first(body.get("answers"))
    if answer is None:
        raise BadAnswer(_EMPTY, passes=True)
    if answer.get("type") == "refusal":
        raise BadAnswer(_REFUSAL)
    choice = answer.get("choice")
    if choice not in CHOICES:
        raise BadAnswer(_OTHER)
    told = answer.get("probabilities")
    for each in told if isinstance(told, list) else []:
        if isinstance(each, dict) and each.get("value") == "yes":
            return choice, _share(each.get("probability"))
    return choice, None


def read_choice(content: str) -> str | None:
    """What was chosen, if that is beyond doubt: the agreed form, or the bare word, as servers without schemas give it.

    >>> read_choice('{"answer": "yes"}'), read_choice("Yes."), read_choice("Yes, but no"), read_choice('{"answer": "maybe"}')
    ('yes', 'yes', None, None)
    """
    said: object = content
    try:
        decoded = json.loads(content)
    except ValueError:
        pass
    else:
        said = decoded.get("answer") if isinstance(decoded, dict) and len(decoded) == 1 else decoded
    word = said.strip().rstrip(".!").casefold() if isinstance(said, str) else ""
    return word if word in CHOICES else None


def _probability(content: str, choice: str, logprobs: object) -> float | None:
    """How likely `yes` was at the token where the answer parted from the other one."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list):
        return None
    start = content.casefold().rfind(choice)
    at = 0
    for each in tokens:
        token = each.get("token") if isinstance(each, dict) else None
        if not isinstance(token, str):
            return None
        if at + len(token) > start:
            return _weighed(token, max(start - at, 0), each, choice)
        at += len(token)
    return None


def _weighed(token: str, before: int, told: Mapping[str, Any], choice: str) -> float | None:
    """The weight of `yes` among the alternatives to a token, of which `before` characters come before the answer."""
    weights = dict.fromkeys(CHOICES, 0.0)
    alternatives = told.get("top_logprobs")
    for each in alternatives if isinstance(alternatives, list) else []:
        text = each.get("token") if isinstance(each, dict) else None
        if isinstance(text, str) and text[:before] == token[:before] and (rest := text[before:].strip().casefold()):
            for word in CHOICES:
                if word.startswith(rest) or rest.startswith(word):
                    weights[word] += _likelihood(each.get("logprob"))
    if not weights[choice]:
        weights[choice] = _likelihood(told.get("logprob"))
    if total := sum(weights.values()):
        other = CHOICES[choice == "yes"]
        if not weights[other]:  # not among the alternatives: at most what the chosen one leaves
            return _rounded(weights[choice] if choice == "yes" else 1 - weights[choice])
        return _rounded(weights["yes"] / total)
    return None


def _likelihood(logprob: object) -> float:
    return math.exp(min(logprob, 0.0)) if isinstance(logprob, int | float) else 0.0


def _share(value: object) -> float | None:
    return _rounded(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _rounded(value: float) -> float:
    """To 6 decimals, between 0 and 1: more is noise, and the same answer should have the same bytes."""
    return round(min(max(value, 0.0), 1.0), 6)


def usage_of(body: object) -> Usage | None:
    """What an answer says of its tokens, whichever way it came."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return None
    told = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    details = told if isinstance(told, dict) else {}
    return Usage(
        input=_number(usage, "prompt_tokens", "input_tokens"),
        cached=_number(details, "cached_tokens"),
        written=_number(details, "cache_write_tokens"),
        output=_number(usage, "completion_tokens", "output_tokens"),
    )


def usage_in(content: bytes) -> Usage | None:
    """The same, of an answer that may be anything."""
    try:
        return usage_of(json.loads(content))
    except ValueError:
        return None


def _number(told: Mapping[str, Any], *names: str) -> int:
    return next((value for name in names if type(value := told.get(name)) is int and value > 0), 0)


def _first(listed: object) -> dict[str, Any] | None:
    return listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else None


def _encode(value: object) -> bytes:
    """JSON, the same bytes for the same value; half a surrogate pair, which no server takes, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


# Errors, translated


def failure_of(status: int, error: object, headers: Mapping[str, str], model: str = "") -> ProviderFailed:
    """A status that isn't a good one. Of the server's words only its own codes are told: the rest may quote text or keys.

    >>> failure_of(429, {"code": "insufficient_quota"}, {})
    NoMoney('the account has no money or quota left: add credit... (HTTP 429, insufficient_quota)')
    """
    told = error if isinstance(error, dict) else {}
    codes = [each for name in ("code", "type") if (each := _code(told.get(name)))]
    where = f", {parameter}" if (parameter := _code(told.get("param"))) else ""
    how = f" (HTTP {status}{''.join(f', {each}' for each in codes[:1])}{where})"
    if status == 402 or NO_MONEY & set(codes):
        return NoMoney(f"the account has no money or quota left: add credit, or raise its limit, and start again{how}")
    if status == 401:
        return NotAllowed(f"the key is not accepted: check provider.key and provider.base_url{how}")
    if status == 403 and NO_TRAINING in codes:
        return TrainingNotAvailable(
            f"this account can't start fine-tuning jobs any more: train the local model (--model local), or export the training set"
            f" (--model export){how}"
        )
    if status == 403:
        return NotAllowed(f"the key may not do this: check its rights, the organisation and the project, or ask for access{how}")
    if status in LATER or status >= 500:
        passes = headers.get("x-should-retry", "").lower() != "false"
        return TooBusy(f"the server is busy or broken: try again later{how}", passes=passes, after=retry_after(headers))
    if status == 404:
        return RequestRefused(f"there is no such model{f' as {model}' if model else ''}, file, job, batch or address: check them{how}")
    if parameter and parameter.split("[")[0].split(".")[0] not in ("messages", "input", "questions"):
        return RequestRefused(f"the model doesn't take this request: check {parameter} and the model's settings{how}")
    return RequestRefused(f"the server refuses this request, as it would again: look at what is asked{how}")


def _code(told: object) -> str:
    """A name that a program made, or nothing."""
    return told if isinstance(told, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\[\]]{1,63}", told) else ""


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the server wants us to wait: in milliseconds, in seconds, or until a date.

    >>> retry_after({"retry-after": "2.5"}), retry_after({"retry-after-ms": "40", "retry-after": "1"}), retry_after({})
    (2.5, 0.04, None)
    >>> retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT", "date": "Thu, 01 Jan 1970 00:01:00 GMT"})
    30.0
    """
    if (seconds := _seconds(headers.get("retry-after-ms"))) is not None:
        return seconds / 1000
    told = headers.get("retry-after")
    if (seconds := _seconds(told)) is not None:
        return seconds
    until = _date(told)
    if until is None:
        return None
    begun = _date(headers.get("date"))  # the server's own clock, if it tells it: ours may be off
    return max(until - (begun if begun is not None else now if now is not None else time.time()), 0.0)


def _seconds(told: str | None) -> float | None:
    try:
        seconds = float(told or "")
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _date(told: str | None) -> float | None:
    try:
        return parsedate_to_datetime(told or "").timestamp()
    except (ValueError, OverflowError):
        return None


# Batches


@dataclass(frozen=True)
class BatchPart:
    """Requests that make one batch."""

    digest: str
    """Of `data`: the batch carries it, so that it can be found again."""
    requests: int
    data: bytes = field(repr=False)


class Batch(NamedTuple):
    """Where a batch stands."""

    id: str
    status: str
    total: int
    done: int
    failed: int

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in OVER


def batch_parts(requests: Iterable[Request], *, most: int = BATCH_REQUESTS, most_bytes: int = BATCH_BYTES) -> Iterator[BatchPart]:
    """Requests, cut into as many batches as it takes, each request once. Raises Refused for the way `decisions`, which has none."""
    seen: set[str] = set()
    lines: list[bytes] = []
    size = 0
    for request in requests:
        if request.model.way != "chat":
            raise RequestRefused("there are no batches of decisions: ask in the way chat, or without --batch")
        if request.id in seen:
            continue
        seen.add(request.id)
        line = _encode({"custom_id": request.id, "method": "POST", "url": "/v1/chat/completions", "body": chat_body(request)}) + b"\n"
        if lines and (len(lines) >= most or size + len(line) > most_bytes):
            yield _part(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield _part(lines)


def _part(lines: list[bytes]) -> BatchPart:
    data = b"".join(lines)
    return BatchPart(hashlib.sha256(data).hexdigest(), len(lines), data)


# Fine-tuning


class JobRequest(NamedTuple):
    """A fine-tuning job as it is wanted."""

    key: str
    """A hash of all that makes it what it is: the job carries it, so that it can be found again."""
    model: str
    training_file: str
    validation_file: str | None = None
    epochs: int | None = None
    """None: as many as the provider thinks right."""
    suffix: str | None = None
    seed: int | None = None


class File(NamedTuple):
    """A file at the provider's."""

    id: str
    status: str

    @property
    def is_ready(self) -> bool:
        """Whether it was read and found good."""
        return self.status in READ_FILES

    @property
    def is_bad(self) -> bool:
        """Whether it was read and can't be used."""
        return self.status in BAD_FILES


class TuningJob(NamedTuple):
    """Where a fine-tuning job stands."""

    id: str
    status: str
    base: str
    model: str | None
    """What it has made."""
    error: str
    """Why it failed, by the provider's own codes; empty: nothing is told."""
    tokens: int | None
    """That were trained on, and are paid for."""
    settings: dict[str, Any]
    """Epochs, batch size, rate and seed, as the provider has chosen or been told."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in OVER_JOBS

    @property
    def has_failed(self) -> bool:
        """Or was cancelled."""
        return self.status in FAILED_JOBS


class JobEvent(NamedTuple):
    """What a job tells of itself: the words are the provider's, for a person's eyes and no log."""

    id: str
    at: int
    """Seconds since 1970."""
    level: str
    message: str
    data: dict[str, Any]
    """Step and losses, where it is about those."""


class Checkpoint(NamedTuple):
    """A model as it was at a step on the way."""

    model: str
    step: int
    metrics: dict[str, float]


_FOREIGN = (OpenAIError, TimeoutError, ValueError, TypeError, AttributeError)
"""What the SDK raises; the last three where it takes anything for an answer, and stumbles over it."""

Result = tuple[str, "ProviderAnswer | ProviderFailed"]
"""A request's id, and what became of it."""


def read_results(content: bytes) -> Iterator[tuple[str, ProviderAnswer | ProviderFailed, Usage | None]]:
    """A batch's output file or its error file, line by line: id, answer or error, and what it cost."""
    for line in content.splitlines():
        try:
            told = json.loads(line)
            request_id = told["custom_id"]
        except (ValueError, TypeError, KeyError):
            raise BadAnswer("a batch's file can't be read: fetch it again", passes=True) from None
        response = told.get("response")
        if not isinstance(response, dict):
            yield request_id, TooBusy("the batch ended before this request's turn: ask again"), None
            continue
        status, body = response.get("status_code"), response.get("body")
        if status != 200:
            error = body.get("error") if isinstance(body, dict) else None
            yield request_id, failure_of(status if isinstance(status, int) else 500, error, {}), None
            continue
        try:
            yield request_id, read_body("chat", body), usage_of(body)
        except BadAnswer as error:
            yield request_id, error, usage_of(body)


# Asking


class Client:
    """Asks one provider, from any thread; use it in a `with`, or close it.

    A request that waits for an answer when the client is closed ends with `CancelledError`.
    """

    def __init__(self, provider: Provider) -> None:
        """Raises ProviderFailed if an address or a key can't be one; nothing is sent."""
        self.provider = provider
        self._api = _api(provider)
        self._transfer = Timeout(provider.transfer, connect=provider.connect)
        self._slots = asyncio.Semaphore(provider.concurrency)
        self._begun = asyncio.Semaphore(2 * provider.concurrency)  # so that a further try waits for few others, however many were submitted
        self._requests = _bucket(provider.requests_per_minute)
        self._tokens = _bucket(provider.tokens_per_minute)
        self._account = ClientUsage()
        self._closing = threading.Event()
        self._door = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="provider", daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives up what is under way."""
        with self._door:
            if self._closing.is_set():
                return
            self._closing.set()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def account(self) -> ClientUsage:
        """What was done so far; a value, which doesn't change any more."""
        return self._account

    def ask(self, request: Request) -> ProviderAnswer:
        """The answer, after as many tries as are allowed. Raises ProviderFailed."""
        return self._result(self.submit(request))

    def submit(self, request: Request) -> Future[ProviderAnswer]:
        """The same, without waiting: as many as one likes, of which `concurrency` run at the same time, in the order they came."""
        return self._begin(self._ask(request))

    def ask_text(self, request: TextRequest) -> Future[str]:
        """A text, in the same way, under the same limits."""
        return self._begin(self._ask_text(request))

    def embed(self, model: str, texts: Sequence[str], deadline: float | None = None) -> Future[list[tuple[float, ...]]]:
        """A vector for each text, in one request, under the same limits. `deadline`: seconds for all of it."""
        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        return self._begin(
            self._asked(EMBEDDINGS, body, lambda content: read_vectors(content, len(texts)), _guessed(*texts), model, deadline)
        )

    # Batches: half the price, up to 24 hours

    def start_batch(self, part: BatchPart) -> Batch:
        """Sends it off. One of the same requests that was started before, and can still be used, is taken up instead."""
        return self._result(self._begin(self._start_batch(part)))

    def batch(self, batch_id: str) -> Batch:
        """Where it stands."""
        return self._result(self._begin(self._batch(batch_id)))[0]

    def cancel_batch(self, batch_id: str) -> Batch:
        """Stops it; what is done by then is paid for, and can be read."""
        return self._result(self._begin(self._retried(lambda: self._api.batches.cancel(batch_id), read=_batch)))

    def wait_for_batch(self, batch_id: str, *, every: float = 30.0, told: Callable[[Batch], None] = lambda _: None) -> Batch:
        """Returns once it is over, and tells where it stands at each look. A provider that can't be reached meanwhile is waited for."""
        deadline = time.monotonic() + BATCH_PATIENCE
        while True:
            try:
                batch = self.batch(batch_id)
            except TooBusy as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("the batch can't be looked at: %s", error, extra={"batch": batch_id})
            else:
                told(batch)
                if batch.is_over:
                    return batch
                if time.monotonic() > deadline:
                    raise TooBusy(
                        f"batch {batch_id} is {batch.status} after {BATCH_PATIENCE / 3600:.0f} hours: look at it at the provider's"
                    )
            if self._closing.wait(every):
                raise TooBusy("the client was closed while it waited for a batch: wait for it again")

    def batch_results(self, batch_id: str) -> Iterator[Result]:
        """What became of each of its requests; of one that isn't told, nothing is known, and it was not paid for.

        Raises Refused or TooBusy if the whole batch was turned down.
        """
        for request_id, answer, _ in self._result(self._begin(self._results(batch_id))):
            yield request_id, answer

    # Anything else that gives an answer, as connectors/openai/labels.py has it

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        understand: Callable[[bytes], T],
        *,
        tokens: int = 0,
        model: str = "",
        deadline: float | None = None,
    ) -> Future[T]:
        """Sends a body, and understands what comes; `deadline`: seconds from now on, the wait for a turn and all tries included.

        `path` may be a whole address: what a server has beside the protocol stands elsewhere.
        """
        if not tokens and self._tokens:
            tokens = _guessed(_encode(body).decode())
        return self._begin(self._asked(path, body, understand, tokens, model, deadline))

    def owner(self) -> str:
        """Who owns the first of the server's models, as vLLM tells its name; empty: nothing is told."""

        async def look() -> str:
            page: Any = await self._api.models.list()
            if isinstance(page, str):  # a web page, where a server has no such list
                return ""
            first = _first(page.model_dump().get("data"))
            return str(first.get("owned_by") or "") if first else ""

        try:
            return self._result(self._begin(self._retried(look, read=str)))
        except (NotAllowed, NoMoney):
            raise
        except ProviderFailed:
            return ""

    # Fine-tuning

    def send_file(self, name: str, data: bytes) -> File:
        """Sends a file to be trained on. One of that name and size that the account has, and that can be used, is taken instead."""
        return self._result(self._begin(self._send_file(name, data)))

    def file(self, file_id: str) -> File:
        """Where it stands."""
        return self._result(self._begin(self._retried(lambda: self._api.files.retrieve(file_id), read=_file)))

    def delete_file(self, file_id: str) -> None:
        """Takes it away from the provider; it is no error if it is gone."""
        try:
            self._result(self._begin(self._retried(lambda: self._api.files.delete(file_id), read=lambda _: None)))
        except RequestRefused:
            log.info("there is no such file any more", extra={"file": file_id})

    def start_job(self, wish: JobRequest, *, again: bool = False) -> TuningJob:
        """Starts it, unless the account has such a job: then that one is taken, failed ones too, unless it is to be tried `again`."""
        return self._result(self._begin(self._start_job(wish, again=again)))

    def job(self, job_id: str) -> TuningJob:
        """Where it stands."""
        return self._result(self._begin(self._retried(lambda: self._api.fine_tuning.jobs.retrieve(job_id), read=_job)))

    def cancel_job(self, job_id: str) -> TuningJob:
        """Stops it; what is done by then is paid for."""
        return self._result(self._begin(self._retried(lambda: self._api.fine_tuning.jobs.cancel(job_id), read=_job)))

    def job_events(self, job_id: str, after: str | None = None) -> list[JobEvent]:
        """What it has told since the event `after`, the oldest first."""

        async def look() -> list[JobEvent]:
            found: list[JobEvent] = []
            async for each in _all_of(await self._api.fine_tuning.jobs.list_events(job_id, limit=PAGE)):
                if each.id == after:
                    break
                found.append(_event(each))
            return found[::-1]

        return self._result(self._begin(self._retried(look, read=lambda found: found)))

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """The models on the way, the oldest first."""

        async def look() -> list[Checkpoint]:
            page = await self._api.fine_tuning.jobs.checkpoints.list(job_id, limit=PAGE)
            return sorted([_checkpoint(each) async for each in _all_of(page)], key=lambda each: each.step)

        return self._result(self._begin(self._retried(look, read=lambda found: found)))

    # Inside the loop

    async def _send_file(self, name: str, data: bytes) -> File:
        async def send() -> Any:
            seen = 0
            async for each in _all_of(await self._api.files.list(purpose="fine-tune", limit=PAGE)):
                if each.filename == name and each.bytes == len(data) and each.status not in BAD_FILES:
                    return each
                seen += 1
                if seen >= FAMILIAR_JOBS:
                    break
            return await self._api.files.create(file=(name, data), purpose="fine-tune", timeout=self._transfer)

        return await self._retried(send, read=_file, seconds=self.provider.transfer)

    async def _start_job(self, wish: JobRequest, *, again: bool) -> TuningJob:
        async def send() -> Any:
            found = await self._familiar_job(wish)
            if found is not None and not (again and found.status in FAILED_JOBS):
                return found
            method: Any = {"type": "supervised"}
            if wish.epochs is not None:
                method["supervised"] = {"hyperparameters": {"n_epochs": wish.epochs}}
            return await self._api.fine_tuning.jobs.create(
                model=wish.model,
                training_file=wish.training_file,
                validation_file=wish.validation_file if wish.validation_file is not None else omit,
                method=method,
                suffix=wish.suffix if wish.suffix is not None else omit,
                seed=wish.seed if wish.seed is not None else omit,
                metadata={"beepgpt_job": wish.key},
            )

        return await self._retried(send, read=_job, model=wish.model)

    async def _familiar_job(self, wish: JobRequest) -> FineTuningJob | None:
        """A job for these very bytes: one that lives or is done, else the newest that failed.

        Where a server keeps no metadata, its files tell: of one file no two jobs are made.
        """
        failed: FineTuningJob | None = None
        seen = 0
        async for each in _all_of(await self._api.fine_tuning.jobs.list(limit=PAGE)):
            key = (each.metadata or {}).get("beepgpt_job")
            is_same_base = each.model == wish.model or each.model.startswith(f"{wish.model}-")
            if key == wish.key or (key is None and each.training_file == wish.training_file and is_same_base):
                if each.status not in FAILED_JOBS:
                    found: FineTuningJob = each
                    return found
                failed = failed or each
            seen += 1
            if seen >= FAMILIAR_JOBS:
                break
        return failed

    async def _ask(self, request: Request) -> ProviderAnswer:
        way = request.model.way
        tokens = request.tokens or _guessed(request.instructions, request.text, *(text for text, _ in request.shots))
        return await self._asked(PATHS[way], body_of(request), lambda content: read_answer(way, content), tokens, request.model.name)

    async def _ask_text(self, request: TextRequest) -> str:
        tokens = _guessed(request.instructions, request.text) + request.model.max_tokens
        return await self._asked(PATHS["chat"], text_body(request), read_text, tokens, request.model.name)

    async def _asked(
        self,
        path: str,
        body: Mapping[str, Any],
        understand: Callable[[bytes], T],
        tokens: int,
        model: str,
        deadline: float | None = None,
    ) -> T:
        self._note(asked=1)
        content = _encode(body)

        async def send() -> bytes:
            # The SDK's own methods take 10 ms and more to look through the types of 100 messages, and anything for an answer.
            sent = await self._api.post(path, content=content, cast_to=Response, options=_JSON)
            return sent.content

        def read(content: bytes) -> tuple[T | BadAnswer, Usage | None]:
            usage = usage_in(content)
            try:
                return understand(content), usage
            except BadAnswer as error:  # no good, and paid for if it tells so
                if error.passes:
                    self._spend(usage)
                    raise
                return error, usage

        failure: ProviderFailed
        try:
            async with asyncio.timeout(deadline), self._begun:
                answer, usage = await self._retried(send, read=read, tokens=tokens, model=model)
        except TimeoutError:
            failure = TooBusy(f"no answer came within {deadline:g} seconds", passes=True)
        except ProviderFailed as error:
            failure = error
        else:
            self._settle(answer, usage)
            if isinstance(answer, BadAnswer):
                raise answer
            return answer
        self._settle(failure, None)
        raise failure

    async def _start_batch(self, part: BatchPart) -> Batch:
        name = f"beepgpt-{part.digest[:12]}.jsonl"

        async def send() -> Any:
            if found := await self._familiar(part.digest):
                return found
            file = await self._api.files.create(file=(name, part.data), purpose="batch", timeout=self._transfer)
            if not isinstance(file, FileObject) or not file.id:
                raise BadAnswer(_EMPTY, passes=True)
            return await self._api.batches.create(
                completion_window="24h",
                endpoint="/v1/chat/completions",
                input_file_id=file.id,
                metadata={"beepgpt_part": part.digest},
            )

        return await self._retried(send, read=_batch, seconds=self.provider.transfer)

    async def _familiar(self, digest: str) -> Any:
        """A batch of these very requests that the account has: a kill, or an answer that got lost, must not start it twice."""
        seen = 0
        async for each in _all_of(await self._api.batches.list(limit=PAGE)):
            if (each.metadata or {}).get("beepgpt_part") == digest and each.status not in USELESS:
                return each
            seen += 1
            if seen >= FAMILIAR_BATCHES:
                break
        return None

    async def _batch(self, batch_id: str) -> tuple[Batch, Any]:
        return await self._retried(lambda: self._api.batches.retrieve(batch_id), read=lambda found: (_batch(found), found))

    async def _results(self, batch_id: str) -> list[tuple[str, ProviderAnswer | ProviderFailed, Usage | None]]:
        batch, found = await self._batch(batch_id)
        if not batch.is_over:
            raise TooBusy(f"batch {batch_id} is {batch.status}: wait until it is over")
        if batch.status == "failed":
            raise _turned_down(batch_id, found)
        results: list[tuple[str, ProviderAnswer | ProviderFailed, Usage | None]] = []
        for file_id in (found.output_file_id, found.error_file_id):
            if file_id:
                results += await self._retried(
                    lambda file_id=file_id: self._api.files.content(file_id, timeout=self._transfer),  # type: ignore[misc]
                    read=lambda file: list(read_results(file.content)),
                    seconds=self.provider.transfer,
                )
        for _, answer, usage in results:
            self._settle(answer, usage, is_batch=True)
        return results

    async def _retried(
        self,
        send: Callable[[], Awaitable[Any]],
        *,
        read: Callable[[Any], T],
        tokens: int = 0,
        model: str = "",
        seconds: float | None = None,
    ) -> T:
        """Sends, reads, and does so again as long as that may help and there is time."""
        provider = self.provider
        most = seconds or provider.timeout
        deadline, tries = 0.0, 0

        async def attempt() -> T:
            nonlocal deadline, tries
            async with self._slots:
                await self._admit(tokens)
                now = time.monotonic()
                deadline = deadline or now + provider.deadline + (seconds or 0.0)
                tries += 1
                self._note(tries=1)
                return await self._once(send, read, min(most, max(deadline - now, 0.0)), model)

        def waits() -> Generator[float, ProviderFailed, None]:
            """As backoff wants it: told the error, says how long to wait, and ends when no time is left for that."""
            error = yield 0.0
            longest = FIRST_WAIT
            while True:
                wait = max((error.after or 0.0) * random.uniform(1.0, 1.1), random.uniform(0.0, longest))
                if time.monotonic() + wait >= deadline:
                    return
                self._retry(error, wait)
                longest = min(2 * longest, LONGEST_WAIT)
                error = yield wait

        repeated: Callable[[], Coroutine[Any, Any, T]] = backoff.on_exception(
            waits,  # type: ignore[arg-type]
            ProviderFailed,
            max_tries=provider.tries,
            giveup=lambda error: not getattr(error, "passes", False),
            jitter=None,
            logger=None,
        )(attempt)
        started = time.monotonic()
        try:
            return await repeated()
        except TooBusy as error:
            after = f", which asks for {error.after:.0f} seconds" if error.after else ""
            many = "1 try" if tries == 1 else f"{tries} tries"
            message = f"{error} - {provider.place}{after}; {many} in {time.monotonic() - started:.0f} seconds"
            busy = TooBusy(message, passes=error.passes, after=error.after)
        raise busy

    async def _once(self, send: Callable[[], Awaitable[Any]], read: Callable[[Any], T], seconds: float, model: str) -> T:
        """One try. What the SDK raises ends here; it is left without its cause, whose words may quote text or keys."""
        try:
            async with asyncio.timeout(seconds):
                sent = await send()
        except _FOREIGN as error:
            failure = _translated(error, model)
        else:
            return read(sent)
        raise failure

    async def _admit(self, tokens: int) -> None:
        """Returns when the allowance per minute lets a try begin."""
        started = time.monotonic()
        if self._requests:
            await self._requests.acquire()
        if self._tokens:
            left = float(tokens)
            while left > 0:  # what is more than the bucket holds is taken in turns
                taken = min(left, self._tokens.max_rate)
                await self._tokens.acquire(taken)
                left -= taken
        if (waited := time.monotonic() - started) > 0.001:
            self._note(limited=waited)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._api.close()

    # Between the loop and the others

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._door:
            if not self._closing.is_set():
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise RuntimeError("the client is closed")

    @staticmethod
    def _result(future: Future[T]) -> T:
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    # The account: written inside the loop alone, and replaced as a whole, so that anybody may read it

    def _settle(self, answer: object, usage: Usage | None, *, is_batch: bool = False) -> None:
        self._spend(usage, is_batch=is_batch)
        if is_batch:
            self._note(asked=1)
        if isinstance(answer, ProviderFailed):
            self._account = replace(self._account, failed=_more(self._account.failed, answer.reason))
        else:
            self._note(answered=1, untold=int(usage is None))

    def _spend(self, usage: Usage | None, *, is_batch: bool = False) -> None:
        if usage and is_batch:
            self._account = replace(self._account, batch_usage=self._account.batch_usage + usage)
        elif usage:
            self._account = replace(self._account, usage=self._account.usage + usage)

    def _retry(self, error: ProviderFailed, wait: float) -> None:
        log.info("another try", extra={"reason": error.reason, "told": str(error), "seconds": round(wait, 3)})
        self._account = replace(self._account, retries=_more(self._account.retries, error.reason), waited=self._account.waited + wait)

    def _note(self, **more: float) -> None:
        self._account = replace(self._account, **{name: getattr(self._account, name) + each for name, each in more.items()})


def _api(provider: Provider) -> AsyncOpenAI:
    """The SDK's client, which takes nothing from the environment but proxies and certificates, and never tries again by itself."""
    address = urlsplit(provider.base_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ProviderFailed(f"provider.base_url is no address like {OPENAI}")
    if not provider.key and address.hostname == urlsplit(OPENAI).hostname:
        raise NotAllowed("there is no key: set provider.key, or provider.base_url to a server that wants none")
    if not all("!" <= each <= "~" for each in provider.key):
        raise NotAllowed("the key holds what no key holds, such as a space or a line's end: check provider.key")
    for name in ("openai", "httpx2", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below that they tell what is sent, whoever turned it on
    api = AsyncOpenAI(
        base_url=provider.base_url,
        api_key=provider.key or "none",
        admin_api_key="",
        webhook_secret="",
        organization=provider.organisation,
        project=provider.project,
        timeout=Timeout(provider.stall, connect=provider.connect, pool=provider.timeout),
        max_retries=0,
        http_client=DefaultAioHttpClient(),  # half the processor time of the SDK's own: at 200 requests a second that is what counts
    )
    api.organization, api.project = provider.organisation, provider.project  # it has put variables where there was nothing
    api._custom_headers = {}  # those of OPENAI_CUSTOM_HEADERS, which may hold another key
    if provider.api_version:
        api._custom_headers = {"api-key": provider.key}
        api._custom_query = {"api-version": provider.api_version}
    return api


async def _all_of(page: Any) -> AsyncIterator[Any]:
    """All that is listed, page by page."""
    while True:
        if not isinstance(page.model_dump().get("data"), list):  # `{}` is no list, and not an empty one
            raise BadAnswer(_EMPTY, passes=True)
        for each in page.data:
            yield each
        if not page.has_next_page():
            return
        page = await page.get_next_page()


def _file(found: object) -> File:
    if not isinstance(found, FileObject) or not found.id:
        raise BadAnswer(_EMPTY, passes=True)
    return File(found.id, found.status or "uploaded")


def _job(found: object) -> TuningJob:
    if not isinstance(found, FineTuningJob) or not found.id or not found.status:
        raise BadAnswer(_EMPTY, passes=True)
    error = found.error
    told = [each for each in (_code(error.code), _code(error.param)) if each] if error else []
    hyper = found.method.supervised.hyperparameters if found.method and found.method.supervised else None
    given: Any = hyper or found.hyperparameters
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    settings = {name: value for name in names if isinstance(value := getattr(given, name, None), int | float | str)}
    return TuningJob(
        found.id,
        found.status,
        found.model or "",
        found.fine_tuned_model,
        ", ".join(told),
        found.trained_tokens,
        settings | ({"seed": found.seed} if isinstance(found.seed, int) else {}),
    )


def _event(found: object) -> JobEvent:
    if not isinstance(found, FineTuningJobEvent) or not found.id:
        raise BadAnswer(_EMPTY, passes=True)
    message = " ".join("".join(each if each.isprintable() else " " for each in str(found.message)).split())
    return JobEvent(
        found.id, found.created_at or 0, found.level or "info", message[:500], found.data if isinstance(found.data, dict) else {}
    )


def _checkpoint(found: object) -> Checkpoint:
    if not isinstance(found, FineTuningJobCheckpoint) or not found.fine_tuned_model_checkpoint:
        raise BadAnswer(_EMPTY, passes=True)
    told = found.metrics.model_dump() if found.metrics else {}
    metrics = {name: float(value) for name, value in told.items() if isinstance(value, int | float)}
    return Checkpoint(found.fine_tuned_model_checkpoint, found.step_number or 0, metrics)


def _bucket(per_minute: int | None) -> AsyncLimiter | None:
    """What lets no more than that through in any minute: a burst, and the rest drop by drop."""
    if not per_minute:
        return None
    burst = max(per_minute * BURST / (MINUTE + BURST), 1.0)
    per_second = max(per_minute - burst, per_minute / 2) / MINUTE
    return AsyncLimiter(burst, burst / per_second)


def _guessed(*texts: str) -> int:
    """Tokens, rather too many than too few: three bytes each."""
    return sum(len(each.encode("utf-8", "surrogatepass")) for each in texts) // 3 + 8 * len(texts)


def _translated(error: Exception, model: str) -> ProviderFailed:
    """What the SDK raised, as one of ours."""
    if isinstance(error, APIStatusError):
        return failure_of(error.status_code, error.body, error.response.headers, model)
    causes = list(_causes(error))
    # The SDK's transport over aiohttp takes every broken connection for a time-out; aiohttp itself knows better.
    is_broken = any(isinstance(each, ClientConnectionError) and not isinstance(each, TimeoutError) for each in causes)
    if isinstance(error, APITimeoutError | TimeoutError) and not is_broken:
        return TooBusy("no answer came in time", passes=True)
    if isinstance(error, APIConnectionError):
        if any(isinstance(each, ssl.SSLCertVerificationError) for each in causes):
            return TooBusy("the server's certificate is not trusted: check provider.base_url, and which certificates this machine trusts")
        return TooBusy(f"the connection failed ({type(causes[-1]).__name__}): check provider.base_url", passes=True)
    return BadAnswer(f"the answer can't be read ({type(error).__name__}): ask again", passes=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


def _batch(found: object) -> Batch:
    if not isinstance(found, TheirBatch) or not found.id or not found.status:
        raise BadAnswer(_EMPTY, passes=True)
    counts = found.request_counts
    total, done, failed = (counts.total, counts.completed, counts.failed) if counts else (0, 0, 0)
    return Batch(found.id, found.status, total or 0, done or 0, failed or 0)


def _turned_down(batch_id: str, found: TheirBatch) -> ProviderFailed:
    """Why a batch failed before any of it was asked."""
    told = (found.errors.data if found.errors else None) or []
    codes = sorted({code for each in told if (code := _code(each.code))})
    if "token_limit_exceeded" in codes:
        return TooBusy(
            f"batch {batch_id}: too many tokens are queued for this model: wait until other batches are done, then start it again"
        )
    if NO_MONEY & set(codes):
        return NoMoney(f"batch {batch_id}: the account has no money or quota left: add credit, or raise its limit, and start again")
    return RequestRefused(f"batch {batch_id} was turned down ({', '.join(codes) or 'no reason given'}): look at it at the provider's")


def _more(counts: Mapping[str, int], reason: str) -> dict[str, int]:
    return {**counts, reason: counts.get(reason, 0) + 1}
