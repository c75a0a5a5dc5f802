"""Our own core under another engine: one channel, fed with the records of its key. It runs in the peers' environments."""
# mypy: ignore-errors
# It is imported where only the core's few packages are.

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from beepgpt.connectors.tokenizer import load_encoding  # noqa: E402
from beepgpt.conversations.channel import FOREVER  # noqa: E402
from beepgpt.conversations.events import parse  # noqa: E402
from beepgpt.conversations.rules import Rules  # noqa: E402
from beepgpt.conversations.shard import Shard  # noqa: E402

DRAIN_EVERY = 64
"""Records between two times that a channel's examples are written: features of many points at once are cheaper."""


def channel_of(record: bytes) -> str:
    """The key."""
    return orjson.loads(record)["event"]["channel"]


def time_of(record: bytes) -> str:
    """What records are in order of."""
    return orjson.loads(record)["event"]["ts"]


class CoreChannel:
    """A channel's state, and the examples that its records settle."""

    def __init__(self, candidates: bool) -> None:
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
