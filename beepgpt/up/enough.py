"""Whether there are examples enough for a first model, as they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from beepgpt.connectors.log import Log
from beepgpt.conversations.events import micros
from beepgpt.conversations.rules import SECOND
from beepgpt.training.parts import LEAST_ANSWERED

SHARE = 5
"""One fifth of the time is for choosing and judging, as `beepgpt prepare` has it."""


@dataclass
class ExamplesSoFar:
    """Counts the answered examples on a topic; each look reads what is new."""

    log: Log
    topic: str
    _answered: dict[bytes, int] = field(default_factory=dict)
    """When each was made, by its id."""
    _read: dict[int, int] = field(default_factory=dict)
    """The offset to go on at, by partition."""

    def look(self) -> None:
        """Read what came since the last look. Raises LogFailed."""
        for partition, record in self.log.records(self.topic, starts=self._read):
            self._read[partition] = record.offset + 1
            key = record.key or b""
            example = {} if record.value is None else orjson.loads(record.value)
            if example.get("answer"):
                self._answered[key] = micros(example["prompt_ts"])
            else:
                self._answered.pop(key, None)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._answered)

    @property
    def are_enough(self) -> bool:
        """Whether something can be learned from them."""
        return self.count >= LEAST_ANSWERED

    @property
    def says(self) -> str:
        """How many are there, and how many are needed."""
        if self.are_enough:
            return f"{self.count:,} answered examples are there, enough for a first model"
        return f"{self.count:,} of the {LEAST_ANSWERED:,} answered examples that a first model needs are there"

    @property
    def judged_for(self) -> str:
        """How long before the end the first model's own time ends, as `beepgpt retrain --since` takes it."""
        times = self._answered.values()
        return f"{max((max(times) - min(times)) // SHARE // SECOND, 1)}s"
