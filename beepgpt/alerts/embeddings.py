"""Topics in words by a provider's embeddings: which texts it is asked about, and what its silence means."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future

from beepgpt.errors import ProviderFailed
from beepgpt.labeling.redaction import redact

MOST_CHARACTERS = 4_000
"""Of a text: no model of embeddings reads much more than that."""
AT_ONCE = 100
"""Texts in one request."""
PATIENCE = 10.0
"""Seconds: what isn't embedded by then is decided on without topics, so that a provider's outage holds up nobody's alerts."""
REST = 60.0
"""Seconds for which a provider that failed is left alone."""
KEPT = 2_000
"""Vectors that are remembered."""

Vector = tuple[float, ...]
Embed = Callable[[Sequence[str], float], "Future[list[Vector]]"]
"""Texts, and the seconds there are, to a vector for each."""

log = logging.getLogger(__name__)


class Embeddings:
    """How close texts are to topics by the angle between their vectors.

    Vectors are asked for before a chunk is decided on, and kept in memory alone: what is deleted in Slack leaves none on the disk.
    """

    def __init__(
        self, embed: Embed, may_leave: Callable[[str, Collection[str]], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._embed, self._may_leave, self._clock = embed, may_leave, clock
        self._vectors: dict[str, Vector] = {}
        self._rests_until = 0.0

    def closeness(self, words: str, text: str) -> float:
        """From 0 to 1; 0 where there is no vector."""
        return cosine(self._vectors.get(words), self._vectors.get(text))

    def learn(self, text: str) -> None:
        """Nothing is learned from messages: the model is as it is."""

    def prepare(self, topics: Collection[str], messages: Iterable[tuple[str, Collection[str], str]]) -> Mapping[str, int]:
        """Asks about what isn't known of topics and of messages (channel, people, text). Returns what was done, and what was not."""
        found = list(messages)
        allowed = [text for channel, people, text in found if text.strip() and self._may_leave(channel, people)]
        counts = {"may_not_leave": sum(bool(text.strip()) for _, _, text in found) - len(allowed)}
        wanted = [each for each in dict.fromkeys((*topics, *allowed)) if each.strip() and each not in self._vectors]
        if wanted and self._clock() < self._rests_until:
            return counts | {"not_embedded": len(wanted)}
        parts = [wanted[at : at + AT_ONCE] for at in range(0, len(wanted), AT_ONCE)]
        asked = [self._embed([redact(each).text[:MOST_CHARACTERS] for each in part], PATIENCE) for part in parts]
        for part, future in zip(parts, asked, strict=True):
            try:
                told = future.result()
            except ProviderFailed as error:
                log.warning("topics are not looked for: %s", error, extra={"reason": error.reason})
                self._rests_until = self._clock() + REST
                counts["not_embedded"] = counts.get("not_embedded", 0) + len(part)
                continue
            counts["embedded"] = counts.get("embedded", 0) + len(part)
            self._vectors.update(zip(part, told, strict=True))
        kept = frozenset(topics) | frozenset(allowed)
        for each in [each for each in self._vectors if each not in kept][: max(len(self._vectors) - KEPT, 0)]:
            del self._vectors[each]
        return counts


def cosine(one: Vector | None, other: Vector | None) -> float:
    """Of the angle between two, where both are there; what points the other way is as far as can be.

    >>> cosine((1.0, 0.0), (0.6, 0.8)), cosine((1.0, 0.0), (-1.0, 0.0)), cosine(None, (1.0, 0.0))
    (0.6, 0.0, 0.0)
    """
    if one is None or other is None or len(one) != len(other):
        return 0.0
    lengths = math.hypot(*one) * math.hypot(*other)
    return min(max(sum(a * b for a, b in zip(one, other, strict=True)) / lengths, 0.0), 1.0) if lengths else 0.0
