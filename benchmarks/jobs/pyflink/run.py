"""The job in PyFlink's DataStream API: a keyed process function with a list as its state."""
# mypy: ignore-errors
# It runs in an environment of its own.

import json
import sys
from collections.abc import Iterator
from typing import Any

from pyflink.common import Configuration, Encoder, Types, WatermarkStrategy
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSink, FileSource, StreamFormat
from pyflink.datastream.state import ValueStateDescriptor


class FollowConversation(KeyedProcessFunction):
    """A conversation's last five texts."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self._window = runtime_context.get_state(ValueStateDescriptor("window", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value: dict[str, str], ctx: Any) -> Iterator[str]:
        texts = self._window.value() or []
        if texts:
            example = {"conversation": value["conversation"], "ts": value["ts"], "window": texts, "label": value["user"]}
            yield json.dumps(example)
        self._window.update([*texts, value["text"]][-5:])


def main(source: str, to: str) -> None:
    """The file as a stream, to its end."""
    env = StreamExecutionEnvironment.get_execution_environment()
    env.configure(Configuration().set_string("python.execution-mode", "thread"))  # Python inside of the JVM
    lines = FileSource.for_record_stream_format(StreamFormat.text_line_format(), source).build()
    messages = env.from_source(lines, WatermarkStrategy.no_watermarks(), "messages").map(json.loads)
    examples = messages.key_by(lambda message: message["conversation"], key_type=Types.STRING())
    made = examples.process(FollowConversation(), output_type=Types.STRING())
    made.sink_to(FileSink.for_row_format(to, Encoder.simple_string_encoder()).build())
    env.execute("windows")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
