"""What the tests' OpenAI server says: by a rule, as a writer, by what a job has learned, as vectors."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

Rule = Callable[[str], float]
"""How likely `yes` is, for the text of the last message."""
Writer = Callable[[str], str]
"""What is written where a text is asked for, and no yes or no: of the text of the last message."""
Labeler = Callable[[str], dict[str, float]]
"""How likely each label is, for a prompt."""


def by_hash(text: str) -> float:
    """A rule for any text: the same answer at any time, and yes for about half of them."""
    return int(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 0xFFFFFFFF


def in_short(text: str) -> str:
    """A writer: the first words."""
    return " ".join(text.split()[:10])


def text_of(content: Any) -> str:
    """A message's text, whether it came as one or in parts."""
    return content if isinstance(content, str) else "".join(each["text"] for each in content)


def embedded(model: str, texts: list[str]) -> dict[str, Any]:
    """Vectors of texts by their words, of which SAME ones point the same way; returned in another order, as the protocol allows."""

    def vector(text: str) -> list[float]:
        found = [0.0] * 256
        for word in re.findall(r"\w+", text.lower()):
            found[crc32(SAME.get(word, word).encode()) % 256] += 1.0
        return found

    data = [{"object": "embedding", "index": number, "embedding": vector(text)} for number, text in enumerate(texts)]
    tokens = sum(map(len, texts)) // 4
    return {"object": "list", "model": model, "data": data[::-1], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


SAME = {"postgres": "database", "mysql": "database"}
"""Words that mean the same to the server's model of embeddings."""


def learned(chats: Sequence[Sequence[Mapping[str, Any]]]) -> Labeler:
    """What was seen with each word, and a prompt that was seen as a whole: what a model of labels might have learned."""
    whole: dict[str, Counter[str]] = {}
    words: dict[str, Counter[str]] = {}
    every: Counter[str] = Counter()
    for *_, asked, answer in chats:
        label = answer["content"]
        whole.setdefault(asked["content"], Counter())[label] += 1
        every[label] += 1
        for word in set(asked["content"].split()):
            words.setdefault(word, Counter())[label] += 1

    def say(prompt: str) -> dict[str, float]:
        weights: dict[str, float] = {}
        by_word = [(words.get(word, Counter()), 0.2) for word in sorted(set(prompt.split()))]
        for counts, weight in [(every, 0.5), *by_word, (whole.get(prompt, Counter()), 9)]:
            for label, count in counts.items():
                weights[label] = weights.get(label, 0.0) + weight * count / counts.total()
        return {label: weight / sum(weights.values()) for label, weight in weights.items()}

    return say


def logprob_of(token: str, yes: float) -> dict[str, Any]:
    """A token with its alternatives: at the answer `yes` and `no`, elsewhere none."""
    word = token.casefold()
    likelihoods = {token: 0.999}
    if word in ("yes", "no"):
        names = {"yes": "yes", "no": "no"} if token == word else {"yes": "Yes", "no": "No"}
        likelihoods = {names["yes"]: max(yes, 1e-9), names["no"]: max(1 - yes, 1e-9)}
    top = [{"token": name, "logprob": math.log(share), "bytes": None} for name, share in likelihoods.items()]
    return {"token": token, "logprob": math.log(likelihoods[token]), "bytes": None, "top_logprobs": top}
