"""What people ask for in words ("tell me about Kafka upgrades"): how close a text is to it.

No vocabulary is fitted: words are hashed into buckets, and how rare each is, is counted as messages come.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from zlib import crc32

BUCKETS = 1 << 16
ALL = -1
"""Where the number of messages is counted."""
STEM = 5
"""Letters by which words are taken for the same: upgrade, upgrades, upgraded."""
FEW = 20.0
"""Messages that are taken to have been seen before the first, so that the first words aren't all rare."""

_WORD = re.compile(r"\w{2,}")
_LEAD = re.compile(
    r"^\W*(please\s+)?(tell|alert|notify|ping|inform)\s+me\s+(about|of|on|when)\b(\s+(any|some)(body|one|thing))?", re.IGNORECASE
)

Seen = Mapping[int, int]
"""In how many messages each bucket stood; under `ALL`, how many messages there were."""


def features_of(text: str) -> frozenset[int]:
    """The buckets of a text's words.

    >>> features_of("Kafka upgrades") == features_of("upgraded: KAFKA!")
    True
    """
    return frozenset(crc32(word[:STEM].encode("utf-8", "surrogatepass")) % BUCKETS for word in _WORD.findall(text.lower()[:4000]))


def wanted_of(words: str) -> frozenset[int]:
    """The buckets of what somebody asked for, without the words of asking.

    >>> wanted_of("Tell me about Kafka upgrades") == features_of("Kafka upgrades")
    True
    """
    return features_of(_LEAD.sub("", words, count=1)) or features_of(words)


def weight_of(bucket: int, seen: Seen) -> float:
    """How much a word tells: less, the more messages have it."""
    return math.log((seen.get(ALL, 0) + FEW) / (seen.get(bucket, 0) + 1.0))


def closeness_of(wanted: frozenset[int], said: frozenset[int], seen: Seen) -> float:
    """What part of a topic's weight a text has, from 0 to 1.

    A cosine over what was asked for alone: a text isn't farther from a topic because it says other things, too.
    """
    whole = sum(weight_of(bucket, seen) ** 2 for bucket in sorted(wanted))
    shared = sum(weight_of(bucket, seen) ** 2 for bucket in sorted(wanted & said))
    return math.sqrt(shared / whole) if whole > 0 else 0.0
