"""Topics that people ask for in words ("tell me about Kafka upgrades"): how close a text is to one, by its words.

No vocabulary is fitted: words are hashed into buckets, and messages are counted by bucket as they pass, so that rare words weigh more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol
from zlib import crc32

from beepgpt.alerts.store import AlertStore

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
