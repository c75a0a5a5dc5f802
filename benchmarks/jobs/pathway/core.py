"""The core in Pathway: each channel's records reduced to a tuple in order of time, and the core over it."""
# mypy: ignore-errors
# It runs in an environment of its own.

import sys

import pathway as pw
from our_core import CoreChannel, channel_and_time_of


def main(source: str, to: str, candidates: bool) -> None:
    """The file as a table, grouped by channel."""

    @pw.udf(deterministic=True)
    def examples_of(said: tuple[tuple[str, str], ...]) -> list[str]:
        channel = CoreChannel(candidates)
        lines = [line for _, record in said for line in channel.feed(record.encode())]
        return [line.decode() for line in (*lines, *channel.end())]

    @pw.udf(deterministic=True)
    def key_of(record: str) -> tuple[str, str]:
        return channel_and_time_of(record.encode())

    records = pw.io.plaintext.read(source, mode="static")
    keyed = records.select(pw.this.data, key=key_of(pw.this.data))
    said = keyed.select(channel=pw.this.key[0], said=pw.make_tuple(pw.this.key[1], pw.this.data))
    channels = said.groupby(pw.this.channel).reduce(pw.this.channel, said=pw.reducers.sorted_tuple(pw.this.said))
    made = channels.select(example=examples_of(pw.this.said)).flatten(pw.this.example)
    pw.io.jsonlines.write(made, to)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "with")
