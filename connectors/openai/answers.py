"""Reads response bodies: answers with a probability, texts, vectors, token usage. Errors of the SDK, and statuses, become ours here."""

from __future__ import annotations

import json
import math
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from aiohttp import ClientConnectionError
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

from beepgpt.connectors.http import redirected
from beepgpt.connectors.openai.values import CHOICES, ProviderAnswer, QuestionApi, Usage
from beepgpt.errors import AddressRefused, BadAnswer, NoMoney, NotAllowed, ProviderFailed, RequestRefused, TooBusy, TrainingNotAvailable

NO_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
SETTING = "provider.base_url"
NO_TRAINING = "training_not_available"
LATER = {408, 409, 425, 429}
"""Statuses that may pass, as those from 500 on do."""
FOREIGN = (OpenAIError, AddressRefused, TimeoutError, ValueError, TypeError, AttributeError)
"""What the SDK raises, or lets through; the last three when it stumbles over a response of an unexpected form."""


def failure_of(status: int, error: object, headers: Mapping[str, str], model: str = "") -> ProviderFailed:
    """The error for an HTTP status. Of the server's message it has the codes only: the rest may quote text or keys.

    >>> failure_of(429, {"code": "insufficient_quota"}, {})
    NoMoney('the account has no money or quota left: add credit... (HTTP 429, insufficient_quota)')
    """
    details = error if isinstance(error, dict) else {}
    codes = [each for name in ("code", "type") if (each := code_of(details.get(name)))]
    where = f", {parameter}" if (parameter := code_of(details.get("param"))) else ""
    how = f" (HTTP {status}{''.join(f', {each}' for each in codes[:1])}{where})"
    if 300 <= status < 400:
        return NotAllowed(redirected(SETTING, status, headers.get("location", "")))
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
        return NotAllowed(f"the key may not do this: check its rights, the organization and the project, or ask for access{how}")
    if status in LATER or status >= 500:
        passes = headers.get("x-should-retry", "").lower() != "false"
        return TooBusy(f"the server is busy or broken: try again later{how}", passes=passes, after=retry_after(headers))
    if status == 404:
        return RequestRefused(f"there is no such model{f' as {model}' if model else ''}, file, job, batch or address: check them{how}")
    if parameter and parameter.split("[")[0].split(".")[0] not in ("messages", "input", "questions"):
        return RequestRefused(f"the model doesn't take this request: check {parameter} and the model's settings{how}")
    return RequestRefused(f"the server refuses this request, as it would again: look at what is asked{how}")


def code_of(value: object) -> str:
    """An identifier, or nothing: free text may quote what people wrote."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\[\]]{1,63}", value) else ""


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the server asks to wait, by its headers: in milliseconds, in seconds, or as a date.

    >>> retry_after({"retry-after": "2.5"}), retry_after({"retry-after-ms": "40", "retry-after": "1"}), retry_after({})
    (2.5, 0.04, None)
    >>> retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT", "date": "Thu, 01 Jan 1970 00:01:00 GMT"})
    30.0
    """
    if (seconds := _seconds(headers.get("retry-after-ms"))) is not None:
        return seconds / 1000
    wait = headers.get("retry-after")
    if (seconds := _seconds(wait)) is not None:
        return seconds
    until = _date(wait)
    if until is None:
        return None
    begun = _date(headers.get("date"))  # the server's own clock, if it sends it: ours may be off
    return max(until - (begun if begun is not None else now if now is not None else time.time()), 0.0)


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def translated(error: Exception, model: str) -> ProviderFailed:
    """The SDK's exception as one of our errors."""
    if isinstance(error, APIStatusError):
        return failure_of(error.status_code, error.body, error.response.headers, model)
    causes = list(_causes(error))
    if refused := [each for each in causes if isinstance(each, AddressRefused)]:
        return NotAllowed(str(refused[0]))
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


EMPTY = "the answer is empty: ask again"
_REFUSAL = "the model declines to answer: look at the text yourself"
_OTHER = (
    "the answer is neither yes nor no in the agreed form: use a model that keeps to a JSON schema, or say in the instructions"
    ' that the answer is {"answer": "yes"} or {"answer": "no"}'
)


def read_answer(way: QuestionApi, content: bytes) -> ProviderAnswer:
    """Decode a yes-or-no answer. Raises BadAnswer, whose `passes` says whether another try may help."""
    return read_body(way, _decoded(content))


def read_text(content: bytes) -> str:
    """Decode a text. Raises BadAnswer."""
    body = _decoded(content)
    if not isinstance(body, dict):
        raise BadAnswer(EMPTY, passes=True)
    return _said_in_chat(body)[0].strip()


def read_vectors(content: bytes, count: int) -> list[tuple[float, ...]]:
    """Decode `count` vectors of one length, in the order of their texts. Raises BadAnswer."""
    body = _decoded(content)
    listed = body.get("data") if isinstance(body, dict) else None
    if not isinstance(listed, list) or len(listed) != count:
        raise BadAnswer(EMPTY, passes=True)
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
    """Read a yes-or-no answer from decoded JSON. Raises BadAnswer."""
    if not isinstance(body, dict):
        raise BadAnswer(EMPTY, passes=True)
    choice, probability = (_chosen_in_chat if way == "chat" else _chosen_in_decision)(body)
    return ProviderAnswer(choice, probability, str(body.get("model", "")), usage_of(body))


def _chosen_in_chat(body: Mapping[str, Any]) -> tuple[str, float | None]:
    content, logprobs = _said_in_chat(body)
    choice = read_choice(content)
    if choice is None:
        raise BadAnswer(_OTHER)
    return choice, _probability(content, choice, logprobs)


def _said_in_chat(body: Mapping[str, Any]) -> tuple[str, object]:
    """The model's whole text, and its log probabilities. Raises BadAnswer."""
    first = first_of(body.get("choices"))
    message = first.get("message") if first else None
    if first is None or not isinstance(message, dict):
        raise BadAnswer(EMPTY, passes=True)
    if message.get("refusal") or first.get("finish_reason") == "content_filter":
        raise BadAnswer(_REFUSAL)
    content = message.get("content")
    if first.get("finish_reason") == "length":
        raise BadAnswer("the model did not come to an end: raise max_tokens, or lower the model's reasoning effort")
    if not isinstance(content, str) or not content.strip():
        raise BadAnswer(EMPTY, passes=True)
    return content, first.get("logprobs")


def _chosen_in_decision(body: Mapping[str, Any]) -> tuple[str, float | None]:
    answer = first_of(body.get("answers"))
    if answer is None:
        raise BadAnswer(EMPTY, passes=True)
    if answer.get("type") == "refusal":
        raise BadAnswer(_REFUSAL)
    choice = answer.get("choice")
    if choice not in CHOICES:
        raise BadAnswer(_OTHER)
    probabilities = answer.get("probabilities")
    for each in probabilities if isinstance(probabilities, list) else []:
        if isinstance(each, dict) and each.get("value") == "yes":
            return choice, _share(each.get("probability"))
    return choice, None


def read_choice(content: str) -> str | None:
    """`yes` or `no`, if the content is exactly that: in the agreed form, or the bare word, as servers without schemas give it.

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
    """The probability of `yes` at the first token where `yes` and `no` differ; None if it can't be read."""
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


def _weighed(token: str, before: int, entry: Mapping[str, Any], choice: str) -> float | None:
    """The share of `yes` among the alternatives to a token; its first `before` characters precede the answer."""
    weights = dict.fromkeys(CHOICES, 0.0)
    alternatives = entry.get("top_logprobs")
    for each in alternatives if isinstance(alternatives, list) else []:
        text = each.get("token") if isinstance(each, dict) else None
        if isinstance(text, str) and text[:before] == token[:before] and (rest := text[before:].strip().casefold()):
            for word in CHOICES:
                if word.startswith(rest) or rest.startswith(word):
                    weights[word] += _likelihood(each.get("logprob"))
    if not weights[choice]:
        weights[choice] = _likelihood(entry.get("logprob"))
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
    """Clipped to 0..1, with 6 decimals: more is noise, and the same answer should have the same bytes."""
    return round(min(max(value, 0.0), 1.0), 6)


def usage_of(body: object) -> Usage | None:
    """The token usage in a decoded response of any endpoint; None if there is none."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return None
    listed = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    details = listed if isinstance(listed, dict) else {}
    return Usage(
        input=_number(usage, "prompt_tokens", "input_tokens"),
        cached=_number(details, "cached_tokens"),
        written=_number(details, "cache_write_tokens"),
        output=_number(usage, "completion_tokens", "output_tokens"),
    )


def usage_in(content: bytes) -> Usage | None:
    """The token usage in a response's bytes, which may be anything."""
    try:
        return usage_of(json.loads(content))
    except ValueError:
        return None


def _number(counts: Mapping[str, Any], *names: str) -> int:
    return next((value for name in names if type(value := counts.get(name)) is int and value > 0), 0)


def first_of(listed: object) -> dict[str, Any] | None:
    return listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else None
