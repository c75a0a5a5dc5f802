"""The core in PyFlink's DataStream API: a keyed process function, and a channel's state by key.

The states stay in the operator, as they do in `beepgpt examples` without --recovery: in Flink's own they would be pickled for each record.
"""
# mypy: ignore-errors
# It runs in an environment of its own.

import sys
from collections.abc import Iterator
from typing import Any

from our_core import CoreChannel, channel_of
from pyflink.common import Configuration, Encoder, Types, WatermarkStrategy
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSink, FileSource, StreamFormat

END = (1 << 63) - 1
"""The watermark that comes when the input has ended."""


class FollowChannel(KeyedProcessFunction):
    """The channels of this operator."""

    def __init__(self, candidates: bool) -> None:
        self._candidates = candidates

    def open(self, runtime_context: RuntimeContext) -> None:
        self._channels: dict[str, CoreChannel] = {}

    def process_element(self, value: str, ctx: Any) -> Iterator[str]:
        name = ctx.get_current_key()
        if name not in self._channels:
            self._channels[name] = CoreChannel(self._candidates)
            ctx.timer_service().register_event_time_timer(END)
        for line in self._channels[name].feed(value.encode()):
            yield line.decode()

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[str]:
        for line in self._channels[ctx.get_current_key()].end():
            yield line.decode()


def main(source: str, to: str, candidates: bool) -> None:
    """The file as a stream, to its end."""
    env = StreamExecutionEnvironment.get_execution_environment()
    env.configure(Configuration().set_string("python.execution-mode", "thread"))  # Python inside of the JVM
    lines = FileSource.for_record_stream_format(StreamFormat.text_line_format(), source).build()
    records = env.from_source(lines, WatermarkStrategy.no_watermarks(), "records")
    keyed = records.key_by(lambda line: channel_of(line.encode()), key_type=Types.STRING())
    made = keyed.process(FollowChannel(candidates), output_type=Types.STRING())
    made.sink_to(FileSink.for_row_format(to, Encoder.simple_string_encoder()).build())
    env.execute("core")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "with")
