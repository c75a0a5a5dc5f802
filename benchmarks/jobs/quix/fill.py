"""Puts the lines of a file on a topic, keyed, before the clock runs: a stream begins in Kafka there."""
# mypy: ignore-errors
# It runs in an environment of its own.

import os
import sys

import orjson
from quixstreams import Application


def key_of(line: bytes) -> bytes:
    """A record's channel; the conversation of a message of the window job."""
    body = orjson.loads(line)
    return (body["event"]["channel"] if "event" in body else body["conversation"]).encode()


def main(source: str, topic: str) -> None:
    """All of it, acknowledged."""
    app = Application(broker_address=os.environ["KAFKA_BOOTSTRAP_SERVERS"], loglevel="WARNING")
    with open(source, "rb") as lines, app.get_producer() as producer:
        for line in lines:
            producer.produce(topic=topic, key=key_of(line), value=line.rstrip(b"\n"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
