"""The job as a flow of our own design: chunks of lines, lists by shard, one stateful step, blobs of lines (dataflows/examples.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

ROOT = Path(__file__).resolve().parents[3]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # run as a script, it finds ours, installed or not

import bytewax.operators as op  # noqa: E402
import orjson  # noqa: E402
from bytewax.dataflow import Dataflow  # noqa: E402
from bytewax.operators import StatefulBatchLogic  # noqa: E402
from bytewax.testing import run_main  # noqa: E402

from beepgpt.connectors.files.jsonl import JsonlSink, JsonlSource, LineChunk  # noqa: E402
from beepgpt.conversations.shard import SHARDS  # noqa: E402
from beepgpt.dataflows.records import as_lines  # noqa: E402

WINDOW = 5

Message = dict[str, str]
Windows = dict[str, list[str]]
"""The last texts of each conversation, oldest first."""


def windows_flow(source: Path, to: Path) -> Dataflow:
    """Messages to examples: the window before each, and its author."""
    flow = Dataflow("windows")
    chunks = op.input("read_messages", flow, JsonlSource(source))
    sharded = op.flat_map_batch("parse_and_shard", chunks, by_shard)
    made = op.stateful_batch("follow_conversations", sharded, FollowConversations)
    op.output("write_examples", op.map_value("join_lines", made, as_lines), JsonlSink(to, fresh=True))
    return flow


def by_shard(batch: Iterable[LineChunk]) -> Iterable[tuple[str, list[Message]]]:
    """Messages parsed and put with their conversation's shard, in order."""
    grouped: dict[str, list[Message]] = {shard: [] for shard in SHARDS}
    for _, _, lines in batch:
        for line in lines:
            message: Message = orjson.loads(line)
            grouped[SHARDS[crc32(message["conversation"].encode()) % len(SHARDS)]].append(message)
    return [(shard, messages) for shard, messages in grouped.items() if messages]


class FollowConversations(StatefulBatchLogic[list[Message], list[bytes], Windows]):
    """The one stateful step: a shard's conversations, fed in order."""

    def __init__(self, state: Windows | None) -> None:
        self._windows: Windows = state or {}

    def on_batch(self, values: list[list[Message]]) -> tuple[Iterable[list[bytes]], bool]:
        lines = [line for messages in values for message in messages if (line := example_of(message, self._windows))]
        return [lines] if lines else [], StatefulBatchLogic.RETAIN

    def snapshot(self) -> Any:
        return None  # as in `beepgpt examples` without --recovery


def example_of(message: Message, windows: Windows) -> bytes | None:
    """The example that a message answers, if anything was said before it; then it joins its conversation's window."""
    conversation, text = message["conversation"], message["text"]
    window = windows.get(conversation)
    if window is None:
        windows[conversation] = [text]
        return None
    line = orjson.dumps({"conversation": conversation, "ts": message["ts"], "window": window, "label": message["user"]})
    window.append(text)
    if len(window) > WINDOW:
        del window[0]
    return line


if __name__ == "__main__":
    run_main(windows_flow(Path(sys.argv[1]), Path(sys.argv[2])), epoch_interval=timedelta(seconds=10))  # type: ignore[no-untyped-call]
