"""The job in Quix Streams: a topic keyed by conversation (fill.py), and a window of texts in its state."""
# mypy: ignore-errors
# It runs in an environment of its own.

import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

import orjson
from quixstreams import Application, State
from quixstreams.sinks import BatchingSink, SinkBatch


class JsonLinesSink(BatchingSink):
    """A file of lines."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def write(self, batch: SinkBatch) -> None:
        with open(self._path, "ab") as out:
            out.writelines(orjson.dumps(item.value) + b"\n" for item in batch)


def example_of(message: dict[str, str], state: State) -> dict[str, Any] | None:
    """The example that a message answers, if anything was said before it; then it joins the window."""
    texts = state.get("window", [])
    state.set("window", [*texts, message["text"]][-5:])
    if not texts:
        return None
    return {"conversation": message["conversation"], "ts": message["ts"], "window": texts, "label": message["user"]}


def main(source: str, to: str) -> None:
    """The topic that has the file's lines, until the last message has come out of it."""
    Path(to).unlink(missing_ok=True)
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
        consumer_group=f"windows-{uuid.uuid4().hex[:8]}",  # a group and a state of its own for each run
        auto_offset_reset="earliest",
        state_dir=state,
        use_changelog_topics=False,  # nobody else's windows outlive their process
        loglevel="WARNING",
        on_message_processed=processed,
    )
    messages = app.dataframe(app.topic(os.environ["QUIX_TOPIC"]))
    examples = messages.apply(example_of, stateful=True)
    examples.filter(lambda example: example is not None).sink(JsonLinesSink(to))
    app.run()
    shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
