"""Reads response bodies: answers with a probability, texts, vectors, and token usage."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from beepgpt.connectors.openai.values import CHOICES, ProviderAnswer, QuestionApi, Usage
from beepgpt.errors import BadAnswer

EMPTY = "the answer is empty: ask again"
_REFUSAL = "the model declines to answer: look at the text yourself"
_OTHER = (
    "the answer is neither yes nor no in the agreed form: use a model that keeps to a JSON schema, or say in the instructions"
    ' that the answer is {"answer": "yes"} or {"answer": "no"}'
)


def read_answer(way: QuestionApi, content: bytes) -> ProviderAnswer:
    """Decodes a yes-or-no answer. Raises BadAnswer, whose `passes` says whether another try may help."""
    return read_body(way, _decoded(content))


def read_text(content: bytes) -> str:
    """Decodes a text. Raises BadAnswer."""
    body = _decoded(content)
    if not isinstance(body, dict):
        raise BadAnswer(EMPTY, passes=True)
    return _said_in_chat(body)[0].strip()


def read_vectors(content: bytes, count: int) -> list[tuple[float, ...]]:
    """Decodes `count` vectors of one length, in the order of their texts. Raises BadAnswer."""
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
    """Reads a yes-or-no answer from decoded JSON. Raises BadAnswer."""
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
