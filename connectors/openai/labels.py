"""The probability of each label, from one token of a model that was trained on labels.

Three APIs: chats and completions, whose server returns the likeliest tokens (vLLM returns the requested ones); and decisions, which return
all options. The prompt is the one of the training, byte for byte, at temperature 0.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from beepgpt.connectors.openai.client import Client
from beepgpt.errors import BadAnswer, BeepGPTError, NoMoney, NotAllowed, ProviderFailed, RequestRefused, TooBusy

LabelApi = Literal["chat", "completions", "decisions"]
PATHS: Mapping[LabelApi, str] = {"chat": "/chat/completions", "completions": "/completions", "decisions": "/decisions"}
TOP = 20
"""The most alternatives that a chat returns for a token."""
TOP_COMPLETIONS = 5
PROBE_TOKENS = 4
"""The most tokens of the check's answer: a label is one token, and then the model should end."""

log = logging.getLogger(__name__)


class LabelsMissing(BeepGPTError):
    """The server or the model doesn't return what a prediction needs; the message says what is missing, and which servers return it."""

    exit_status = 2


@dataclass(frozen=True)
class Scorer:
    """A model that answers with labels, and how to ask it."""

    name: str
    way: LabelApi
    labels: tuple[str, ...]
    """Empty for the API `decisions`, whose options come with each question."""
    system: str = ""
    """The system message of each chat; the instructions of a decision."""
    token_ids: tuple[int, ...] = ()
    """The labels' tokens, for a server that returns exactly those: vLLM."""


Options = tuple[tuple[str, str], ...]
"""The options of a decision: value and description of each."""


def body_of(scorer: Scorer, prompt: str, options: Options = (), *, tokens: int = 1) -> dict[str, Any]:
    """The JSON body of a request.

    >>> body_of(Scorer("m", "completions", ("0", "nil")), "red?")
    {'model': 'm', 'prompt': 'red?', 'max_tokens': 1, 'temperature': 0, 'logprobs': 5}
    """
    if scorer.way == "completions":
        body: dict[str, Any] = {"model": scorer.name, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "logprobs": TOP_COMPLETIONS}
    elif scorer.way == "chat":
        system = [{"role": "system", "content": scorer.system}] if scorer.system else []
        body = {
            "model": scorer.name,
            "messages": [*system, {"role": "user", "content": prompt}],
            "max_completion_tokens": tokens,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": TOP,
        }
    else:
        choices = [{"value": value, "description": description} for value, description in options]
        return {
            "model": scorer.name,
            "input": [{"type": "message", "role": "user", "content": prompt}],
            "questions": [{"type": "choice", "name": "answer", "instructions": scorer.system, "choices": choices}],
        }
    if scorer.token_ids:
        body["logprob_token_ids"] = list(scorer.token_ids)
    return body


def ask(client: Client, scorer: Scorer, prompt: str, options: Options = (), *, deadline: float | None = None) -> Future[dict[str, float]]:
    """The probability of each label that the server returns. May be called by any thread. The future raises ProviderFailed."""
    known = frozenset(value for value, _ in options) or frozenset(scorer.labels)
    return client.post(
        PATHS[scorer.way],
        body_of(scorer, prompt, options),
        lambda content: likelihoods_of(scorer.way, known, content),
        model=scorer.name,
        deadline=deadline,
    )


def likelihoods_of(way: LabelApi, labels: frozenset[str], content: bytes) -> dict[str, float]:
    """The probability of each label in a response: the sum over its tokens, with a space before it or without. Raises BadAnswer.

    >>> body = {"choices": [{"text": " 1", "logprobs": {"top_logprobs": [{" 1": -0.5, "1": -2.0, "nil": -3.0, "the": -4.0}]}}]}
    >>> likelihoods_of("completions", frozenset({"1", "nil"}), json.dumps(body).encode())
    {'1': 0.741866, 'nil': 0.049787}
    """
    body = _decoded(content)
    sums: dict[str, float] = {}
    for token, p in _probabilities_in(way, body):
        label = token if token in labels else token.strip(" \t\n▁Ġ")
        if label in labels:
            sums[label] = sums.get(label, 0.0) + p
    total = max(sum(sums.values()), 1.0)
    return {label: round(p / total, 6) for label, p in sums.items()}


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        raise BadAnswer("the answer's JSON is cut short, or none: ask again", passes=True) from None
    if not isinstance(body, dict) or not body:
        raise BadAnswer("the answer is empty: ask again", passes=True)
    return body


def _probabilities_in(way: LabelApi, body: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The alternatives to the first token and their probabilities, each once."""
    if way == "decisions":
        yield from _decided(body)
        return
    first = _first(body.get("choices"))
    if first is None:
        raise BadAnswer("the answer is empty: ask again", passes=True)
    if first.get("finish_reason") == "content_filter" or (isinstance(first.get("message"), dict) and first["message"].get("refusal")):
        raise BadAnswer("the model declines to answer: look at the text yourself")
    logprobs = first.get("logprobs")
    logprobs_by_token = _completion_tokens(logprobs) if way == "completions" else _chat_tokens(logprobs)
    if not logprobs_by_token:
        raise BadAnswer(NO_LIKELIHOODS)
    yield from ((token, math.exp(min(logprob, 0.0))) for token, logprob in logprobs_by_token.items())


NO_LIKELIHOODS = (
    "the server gives no likelihoods of tokens (logprobs): OpenAI does for models that don't reason, vLLM and llama.cpp do, and Ollama from"
    " 0.12.11 on; older ones and some gateways drop them without a word"
)


def _chat_tokens(logprobs: object) -> dict[str, float]:
    first = _first(logprobs.get("content")) if isinstance(logprobs, dict) else None
    if first is None:
        return {}
    top = first.get("top_logprobs")
    entries = [first, *(top if isinstance(top, list) else [])]
    return {
        each["token"]: each["logprob"] for each in entries if isinstance(each, dict) and _is_logprob(each.get("token"), each.get("logprob"))
    }


def _completion_tokens(logprobs: object) -> dict[str, float]:
    if not isinstance(logprobs, dict):
        return {}
    top = _first(logprobs.get("top_logprobs")) or {}
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    own = {tokens[0]: values[0]} if isinstance(tokens, list) and isinstance(values, list) and tokens and values else {}
    return {token: logprob for token, logprob in {**own, **top}.items() if _is_logprob(token, logprob)}


def _is_logprob(token: object, logprob: object) -> bool:
    return isinstance(token, str) and isinstance(logprob, int | float) and not isinstance(logprob, bool)


def _decided(body: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    answer = _first(body.get("answers"))
    if answer is None:
        raise BadAnswer("the answer is empty: ask again", passes=True)
    if answer.get("type") == "refusal":
        raise BadAnswer("the model declines to answer: look at the text yourself")
    listed = answer.get("probabilities")
    if not isinstance(listed, list) or not listed:
        raise BadAnswer("the server decides, and doesn't say how likely each option is: use another way")
    for each in listed:
        if isinstance(each, dict) and isinstance(p := each.get("probability"), int | float) and 0 <= p <= 1:
            yield str(each.get("value")), float(p)


def _first(listed: object) -> dict[str, Any] | None:
    return listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else None


# Check


def checked(client: Client, scorer: Scorer, probe: str) -> Scorer:
    """Try a model with a small request, and return it with the best way to ask it.

    Raises LabelsMissing if the responses lack labels or their probabilities, and ProviderFailed if the server can't be asked.
    """
    if scorer.way == "decisions":
        _tried(client, scorer, probe, (("0", "somebody"), ("nil", "nobody"), ("other", "somebody else")))
        return scorer
    if client.owner() == "vllm" and (ids := _token_ids(client, scorer)):
        exact = replace(scorer, token_ids=ids)
        try:
            trial = _tried(client, exact, probe)
        except RequestRefused as error:
            log.info("the server doesn't take logprob_token_ids: its likeliest tokens are asked for", extra={"told": str(error)})
        else:
            if {token.strip() for token in trial.alternatives} >= set(scorer.labels):  # an older vLLM returns its likeliest
                return exact
    trial = _tried(client, scorer, probe)
    if len(trial.alternatives) < 2:
        raise LabelsMissing(
            f"{scorer.name} at {client.provider.place} returns the likelihood of one token alone, and a prediction needs those of others:"
            f" let the server return {TOP if scorer.way == 'chat' else TOP_COMPLETIONS} (vLLM: --max-logprobs 20)"
        )
    if len(trial.said) > 1 and all(part.isdigit() for part in trial.said):
        raise LabelsMissing(
            f"{scorer.name} says a label in {len(trial.said)} tokens ({' + '.join(trial.said)}), and a prediction is of one: its tokenizer"
            " takes numbers apart. Train a model whose tokenizer has 0 to 999 as single tokens"
        )
    if not trial.is_label:
        log.warning(
            "the model said something that is no label to a first question: was it trained on this training set?",
            extra={"model": scorer.name},
        )
    return scorer


@dataclass(frozen=True)
class _Tried:
    said: tuple[str, ...]
    """The answer's tokens."""
    alternatives: tuple[str, ...]
    is_label: bool


def _tried(client: Client, scorer: Scorer, probe: str, options: Options = ()) -> _Tried:
    def read(content: bytes) -> _Tried:
        body = _decoded(content)
        alternatives = tuple(token for token, _ in _probabilities_in(scorer.way, body))
        said = _said(scorer.way, body)
        return _Tried(said, alternatives, bool(said) and said[0].strip() in scorer.labels)

    body = body_of(scorer, probe, options, tokens=PROBE_TOKENS)
    try:
        return client.post(PATHS[scorer.way], body, read, model=scorer.name).result()
    except BadAnswer as error:
        raise LabelsMissing(f"{scorer.name} at {client.provider.place}: {error}") from error


def _said(way: LabelApi, body: Mapping[str, Any]) -> tuple[str, ...]:
    first = _first(body.get("choices")) or {}
    logprobs = first.get("logprobs")
    if not isinstance(logprobs, dict):
        return ()
    if way == "completions":
        tokens = logprobs.get("tokens")
        return tuple(each for each in tokens if isinstance(each, str)) if isinstance(tokens, list) else ()
    content = logprobs.get("content")
    tokens = [each.get("token") for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    return tuple(each for each in tokens if isinstance(each, str) and each and not each.startswith("<"))


def _token_ids(client: Client, scorer: Scorer) -> tuple[int, ...]:
    """The labels' tokens by vLLM's /tokenize; empty if the server has none. Raises LabelsMissing for a label of several tokens."""
    address = urlsplit(client.provider.base_url)
    path = address._replace(path=address.path.rstrip("/").removesuffix("/v1") + "/tokenize", query="").geturl()

    def read(content: bytes) -> list[int]:
        tokens = _decoded(content).get("tokens")
        if not isinstance(tokens, list) or not all(type(each) is int for each in tokens):
            raise BadAnswer("the tokens can't be read")
        return tokens

    futures = [
        client.post(path, {"model": scorer.name, "prompt": label, "add_special_tokens": False}, read, tokens=1, model=scorer.name)
        for label in scorer.labels
    ]
    found: list[int] = []
    for label, future in zip(scorer.labels, futures, strict=True):
        try:
            tokens = future.result()
        except (NotAllowed, NoMoney, TooBusy):
            raise
        except ProviderFailed:
            return ()
        if len(tokens) != 1:
            raise LabelsMissing(
                f'{scorer.name} takes {len(tokens)} tokens to say the label "{label}", and a prediction is of one: train a model whose'
                " tokenizer has 0 to 999, nil and other as single tokens, or have fewer labels (prepare --min-answers)"
            )
        found += tokens
    return tuple(found)
