"""The core in Quix Streams: a topic keyed by channel (fill.py), and a channel's state by key.

The states stay in the process, as in `beepgpt examples` without --recovery: Quix's own store would write a channel's for each record.
"""
# mypy: ignore-errors
# It runs in an environment of its own.

import os
import shutil
import sys
import uuid
from pathlib import Path

from our_core import CoreChannel
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch


class LinesSink(BatchingSink):
    """A file of lines."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def write(self, batch: SinkBatch) -> None:
        with open(self._path, "ab") as out:
            out.writelines(item.value + b"\n" for item in batch)


def main(source: str, to: str, candidates: bool) -> None:
    """The topic that has the file's lines, until the last record has come out of it."""
    Path(to).unlink(missing_ok=True)
    state = f"{to}.state"
    with open(source, "rb") as lines:
        waiting = sum(1 for _ in lines)
    channels: dict[bytes, CoreChannel] = {}

    def follow(record: bytes, key: bytes, *_: object) -> list[bytes]:
        if key not in channels:
            channels[key] = CoreChannel(candidates)
        return channels[key].feed(record)

    def processed(*_: object) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            app.stop()  # a file ends, a topic doesn't

    app = Application(
        broker_address=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        consumer_group=f"core-{uuid.uuid4().hex[:8]}",  # a group and a state of its own for each run
        auto_offset_reset="earliest",
        state_dir=state,
        loglevel="WARNING",
        on_message_processed=processed,
    )
    topic = app.topic(os.environ["QUIX_TOPIC"], key_deserializer="bytes", value_deserializer="bytes")
    examples = app.dataframe(topic).apply(follow, expand=True, metadata=True)
    examples.sink(LinesSink(to))
    app.run()
    with open(to, "ab") as out:
        out.writelines(line + b"\n" for channel in channels.values() for line in channel.end())
    shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "with")
