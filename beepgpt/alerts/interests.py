"""Topics that people ask for in words ("tell me about Kafka upgrades"): how close a text is to one, by its words or by embeddings.

By words, no vocabulary is fitted: they are hashed into buckets, and messages are counted by bucket, so that rare words weigh more.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol
from zlib import crc32

from beepgpt.alerts.store import AlertStore
from beepgpt.errors import ProviderFailed

BUCKETS = 1 << 16
ALL = -1
"""The key under which all messages are counted."""
STEM = 5
"""Letters after which words are cut, so that they match: upgrade, upgrades, upgraded."""
FEW = 20.0
"""Messages assumed before the first, so that the first words don't all count as rare."""

_WORD = re.compile(r"\w{2,}")
_LEAD = re.compile(
    r"^\W*(please\s+)?(tell|alert|notify|ping|inform)\s+me\s+(about|of|on|when)\b(\s+(any|some)(body|one|thing))?", re.IGNORECASE
)

WordCounts = Mapping[int, int]
"""In how many messages each bucket stood; under `ALL`, the number of messages."""


class TopicMatcher(Protocol):
    """Computes how close texts are to topics: by words, or by embeddings."""

    def closeness(self, words: str, text: str) -> float:
        """How close a text is to a topic in words, from 0 to 1."""

    def learn(self, text: str) -> None:
        """Count a message that has passed."""


class WordMatcher:
    """A `TopicMatcher` by words; word counts are kept in the alert store."""

    def __init__(self, store: AlertStore) -> None:
        self._store = store
        self._counts: dict[int, int] = store.word_counts()

    def closeness(self, words: str, text: str) -> float:
        """How close a text is to a topic in words, from 0 to 1."""
        return closeness_of(topic_buckets(words), word_buckets(text), self._counts)

    def learn(self, text: str) -> None:
        """Count a message's words."""
        buckets = sorted(word_buckets(text))
        self._store.count_words(buckets)
        for bucket in (ALL, *buckets):
            self._counts[bucket] = self._counts.get(bucket, 0) + 1


def word_buckets(text: str) -> frozenset[int]:
    """The buckets of a text's words; of its first 4,000 characters.

    >>> word_buckets("Kafka upgrades") == word_buckets("upgraded: KAFKA!")
    True
    """
    return frozenset(crc32(word[:STEM].encode("utf-8", "surrogatepass")) % BUCKETS for word in _WORD.findall(text.lower()[:4000]))


def topic_buckets(words: str) -> frozenset[int]:
    """The buckets of a topic, without the words of asking for it.

    >>> topic_buckets("Tell me about Kafka upgrades") == word_buckets("Kafka upgrades")
    True
    """
    return word_buckets(_LEAD.sub("", words, count=1)) or word_buckets(words)


def weight_of(bucket: int, counts: WordCounts) -> float:
    """A bucket's inverse document frequency: less, the more messages hold it."""
    return math.log((counts.get(ALL, 0) + FEW) / (counts.get(bucket, 0) + 1.0))


def closeness_of(topic: frozenset[int], text: frozenset[int], counts: WordCounts) -> float:
    """How much of a topic's weight a text has, from 0 to 1.

    This is a cosine over the topic's words alone: a text isn't farther from a topic because it says other things, too.
    """
    whole = sum(weight_of(bucket, counts) ** 2 for bucket in sorted(topic))
    shared = sum(weight_of(bucket, counts) ** 2 for bucket in sorted(topic & text))
    return math.sqrt(shared / whole) if whole > 0 else 0.0


MOST_CHARACTERS = 4_000
"""Characters of a text that are sent: no embedding model reads much more."""
AT_ONCE = 100
"""Texts in one request."""
PATIENCE = 10.0
"""Seconds: what isn't embedded by then is decided on without topics, so that a provider's outage holds up no other alert."""
REST = 60.0
"""Seconds for which a provider that failed is not called."""
KEPT = 2_000
"""Vectors kept in memory."""

Vector = tuple[float, ...]
Embed = Callable[[Sequence[str], float], "Future[list[Vector]]"]
"""A call of the provider: texts, and the seconds it may take, to a vector for each."""

log = logging.getLogger(__name__)


class EmbeddingMatcher:
    """A `beepgpt.alerts.interests.TopicMatcher` by the angle between vectors.

    Vectors are asked for before a chunk is decided on, and kept in memory alone: what is deleted in Slack leaves none on the disk.
    """

    def __init__(
        self,
        embed: Embed,
        may_leave: Callable[[str, Collection[str]], bool],
        redact: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`may_leave`: whether texts of a channel and of people may be sent; `redact` takes out what must not be; `clock`: seconds."""
        self._embed, self._may_leave, self._redact, self._clock = embed, may_leave, redact, clock
        self._vectors: dict[str, Vector] = {}
        self._rests_until = 0.0

    def closeness(self, words: str, text: str) -> float:
        """How close a text is to a topic in words, from 0 to 1; 0 where a vector is missing."""
        return cosine(self._vectors.get(words), self._vectors.get(text))

    def learn(self, text: str) -> None:
        """Do nothing: the model does not change."""

    def prepare(self, topics: Collection[str], messages: Iterable[tuple[str, Collection[str], str]]) -> Mapping[str, int]:
        """Embed topics and messages (channel, people, text) that have no vector yet. Returns counts of what was done, and what was not."""
        found = list(messages)
        allowed = [text for channel, people, text in found if text.strip() and self._may_leave(channel, people)]
        counts = {"may_not_leave": sum(bool(text.strip()) for _, _, text in found) - len(allowed)}
        wanted = [each for each in dict.fromkeys((*topics, *allowed)) if each.strip() and each not in self._vectors]
        if wanted and self._clock() < self._rests_until:
            return counts | {"not_embedded": len(wanted)}
        batches = [wanted[at : at + AT_ONCE] for at in range(0, len(wanted), AT_ONCE)]
        asked = [self._embed([self._redact(each)[:MOST_CHARACTERS] for each in batch], PATIENCE) for batch in batches]
        for batch, future in zip(batches, asked, strict=True):
            try:
                vectors = future.result()
            except ProviderFailed as error:
                log.warning("topics are not looked for: %s", error, extra={"reason": error.reason})
                self._rests_until = self._clock() + REST
                counts["not_embedded"] = counts.get("not_embedded", 0) + len(batch)
                continue
            counts["embedded"] = counts.get("embedded", 0) + len(batch)
            self._vectors.update(zip(batch, vectors, strict=True))
        kept = frozenset(topics) | frozenset(allowed)
        for each in [each for each in self._vectors if each not in kept][: max(len(self._vectors) - KEPT, 0)]:
            del self._vectors[each]
        return counts


def cosine(one: Vector | None, other: Vector | None) -> float:
    """The cosine of the angle between two vectors, from 0 to 1; 0 if one is missing, or if they point in opposite directions.

    >>> cosine((1.0, 0.0), (0.6, 0.8)), cosine((1.0, 0.0), (-1.0, 0.0)), cosine(None, (1.0, 0.0))
    (0.6, 0.0, 0.0)
    """
    if one is None or other is None or len(one) != len(other):
        return 0.0
    lengths = math.hypot(*one) * math.hypot(*other)
    return min(max(sum(a * b for a, b in zip(one, other, strict=True)) / lengths, 0.0), 1.0) if lengths else 0.0
