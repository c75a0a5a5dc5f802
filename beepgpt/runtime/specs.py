"""Specs on topics: the settings that made the records stand in a header of some of them, so that a refusal can name what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from beepgpt.connectors.log import LOOK_BACK, Log, Record
from beepgpt.conversations.rules import Rules, differing, shaping_settings
from beepgpt.conversations.shard import OtherState

HEADER = "settings"
"""The header of a partition's first record, and of some after it: the settings that shaped it, as JSON."""


class SpecFound(NamedTuple):
    """The spec of records, and the settings behind it as far as they are recorded beside them."""

    spec: str
    recorded: dict[str, Any] | None


class SpecCheck:
    """Compares the specs of records with the one that is expected."""

    def __init__(self, expected: SpecFound, who: str) -> None:
        """`who`: what is of that spec, in a sentence: "this run", "the model in DIR"."""
        self._expected = expected
        self._who = who
        self._recorded: dict[str, dict[str, Any] | None] = {}

    def look(self, log: Log, topic: str) -> None:
        """Check a topic's last records, which may record their settings. Raises OtherState."""
        for spec, recorded in specs_on(log, topic):
            self._recorded[spec] = recorded
            self(spec, topic)

    def __call__(self, spec: str, where: str = "a prediction") -> None:
        """Check the spec of a record. Raises OtherState, which names the settings that differ."""
        if spec != self._expected.spec:
            how = differing(spec, self._expected.spec, self._recorded.get(spec), self._expected.recorded)
            raise OtherState(
                f"{where}: was made with other settings than {self._who}: {how}: give the topic or the model that was made with the same,"
                " or the settings that made it"
            )


def settings_mark(settings: Mapping[str, Any] | Rules) -> tuple[str, bytes]:
    """The header that records settings."""
    shaping = shaping_settings(settings) if isinstance(settings, Rules) else settings
    return HEADER, orjson.dumps(shaping, option=orjson.OPT_SORT_KEYS)


def specs_in(records: Iterable[Record]) -> list[SpecFound]:
    """The specs of records, each once, with the settings that one of its records has."""
    found: dict[str, dict[str, Any] | None] = {}
    for record in records:
        with suppress(ValueError, TypeError, KeyError):
            if record.value is not None:
                spec = str(orjson.loads(record.value)["spec"])
                recorded = dict(record.headers or ()).get(HEADER)
                found[spec] = found.get(spec) or (orjson.loads(recorded) if recorded else None)
    return [SpecFound(*each) for each in found.items()]


def specs_on(log: Log, topic: str) -> list[SpecFound]:
    """The specs among a topic's last records, which may end with tombstones."""
    return specs_in(record for _, record in log.records(topic, back=LOOK_BACK))
