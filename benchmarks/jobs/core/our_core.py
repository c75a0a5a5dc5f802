"""Our own core under another engine: one channel, fed with the records of its key. It runs in the peers' environments."""
# mypy: ignore-errors
# It is imported where only the core's few packages are.

import gc
import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("beepgpt") is None:  # else it is the compiled build's, on PYTHONPATH
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import orjson

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import parse
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import Shard

DRAIN_EVERY = 64
"""Records between two times that a channel's examples are written: features of many points at once are cheaper."""


def channel_of(record: bytes) -> str:
    """The key."""
    return orjson.loads(record)["event"]["channel"]


def channel_and_time_of(record: bytes) -> tuple[str, str]:
    """The key, and what records are in order of."""
    event = orjson.loads(record)["event"]
    return event["channel"], event["ts"]


class CoreChannel:
    """A channel's state, and the examples that its records settle."""

    def __init__(self, candidates: bool) -> None:
        if not gc.get_freeze_count():  # as in our flow: what it keeps has no cycles
            gc.freeze()
            gc.set_threshold(20_000, 20, 1_000)
        rules = Rules(candidates=candidates)
        self._shard = Shard(rules, load_encoding(rules.encoding), recoverable=False)
        self._waiting = 0

    def feed(self, record: bytes) -> list[bytes]:
        """Take in the channel's next record; returns the lines that are to be written now."""
        self._shard.read(parse(record, FOREVER), "all")
        self._waiting = (self._waiting + 1) % DRAIN_EVERY
        return [] if self._waiting else self._shard.drain().examples

    def end(self) -> list[bytes]:
        """The last lines, once the input has ended."""
        self._shard.end()
        return self._shard.drain().examples
