"""A plain flow: a file of chat events in, a file of training examples out.

python -m bytewax.run 'examples/events_to_examples.py:flow("events.jsonl", "examples.jsonl")'

`events.jsonl` has a record of Slack's Events API on each line, or a `ChatEvent.record` of another chat.
"""

from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.files import FileSink, FileSource
from bytewax.dataflow import Dataflow

import beepgpt
from beepgpt.dataflows import follow_channels


def flow(events: str, examples: str) -> Dataflow:
    """The flow. Settings: `horizon`, say, as `beepgpt settings examples` lists them."""
    flow = Dataflow("events_to_examples")
    lines = op.input("read_events", flow, FileSource(events))
    records = op.map("encode", lines, str.encode)
    followed = follow_channels("follow_channels", records, beepgpt.rules(horizon="4h"))
    written = op.map("decode", op.key_on("in_one_file", followed.examples, lambda line: "all"), lambda keyed: (keyed[0], keyed[1].decode()))
    op.output("write_examples", written, FileSink(Path(examples)))
    return flow
