"""The job in Quix Streams: a file source, a topic keyed by conversation, and a window of texts in its state."""
# mypy: ignore-errors
# It runs in an environment of its own.

import json
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

from quixstreams import Application, State
from quixstreams.sinks import BatchingSink, SinkBatch
from quixstreams.sources import Source


class MessageSource(Source):
    """The lines of a file, keyed by conversation."""

    def __init__(self, path: str) -> None:
        super().__init__(name="messages")
        self._path = path

    def run(self) -> None:
        with open(self._path, encoding="utf-8") as lines:
            for line in lines:
                if not self.running:
                    return
                message = json.loads(line)
                made = self.serialize(key=message["conversation"], value=message)
                self.produce(key=made.key, value=made.value)


class JsonLinesSink(BatchingSink):
    """A file of lines."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def write(self, batch: SinkBatch) -> None:
        with open(self._path, "a", encoding="utf-8") as out:
            out.writelines(json.dumps(item.value) + "\n" for item in batch)


def example_of(message: dict[str, str], state: State) -> dict[str, Any] | None:
    """The example that a message answers, if anything was said before it; then it joins the window."""
    texts = state.get("window", [])
    state.set("window", [*texts, message["text"]][-5:])
    if not texts:
        return None
    return {"conversation": message["conversation"], "ts": message["ts"], "window": texts, "label": message["user"]}


def main(source: str, to: str) -> None:
    """The file through a topic, until the last message has come out of it."""
    Path(to).unlink(missing_ok=True)
    name = f"windows-{uuid.uuid4().hex[:8]}"  # a topic, a group and a state of its own for each run
    state = f"{to}.state"
    with open(source, "rb") as lines:
        waiting = sum(1 for _ in lines)

    def processed(*_: object) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            app.stop()  # a file ends, a topic doesn't

    app = Application(
        broker_address=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        consumer_group=name,
        auto_offset_reset="earliest",
        state_dir=state,
        loglevel="WARNING",
        on_message_processed=processed,
    )
    messages = app.dataframe(app.topic(name), source=MessageSource(source))
    examples = messages.apply(example_of, stateful=True)
    examples.filter(lambda example: example is not None).sink(JsonLinesSink(to))
    app.run()
    shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
