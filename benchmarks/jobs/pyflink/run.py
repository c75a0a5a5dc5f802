"""The job in PyFlink's DataStream API: a keyed process function with a list as its state."""
# mypy: ignore-errors
# It runs in an environment of its own.

import sys
from collections.abc import Iterator
from typing import Any

import orjson
from pyflink.common import Configuration, Encoder, Types, WatermarkStrategy
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSink, FileSource, StreamFormat
from pyflink.datastream.state import ValueStateDescriptor


class FollowConversation(KeyedProcessFunction):
    """A conversation's last five texts."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self._window = runtime_context.get_state(ValueStateDescriptor("window", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value: str, ctx: Any) -> Iterator[str]:
        message = orjson.loads(value)
        texts = self._window.value() or []
        if texts:
            example = {"conversation": message["conversation"], "ts": message["ts"], "window": texts, "label": message["user"]}
            yield orjson.dumps(example).decode()
        self._window.update([*texts, message["text"]][-5:])


def main(source: str, to: str) -> None:
    """The file as a stream, to its end."""
    env = StreamExecutionEnvironment.get_execution_environment()
    env.configure(Configuration().set_string("python.execution-mode", "thread"))  # Python inside of the JVM
    lines = FileSource.for_record_stream_format(StreamFormat.text_line_format(), source).build()
    messages = env.from_source(lines, WatermarkStrategy.no_watermarks(), "messages")
    examples = messages.key_by(lambda line: orjson.loads(line)["conversation"], key_type=Types.STRING())
    made = examples.process(FollowConversation(), output_type=Types.STRING())
    made.sink_to(FileSink.for_row_format(to, Encoder.simple_string_encoder()).build())
    env.execute("windows")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
