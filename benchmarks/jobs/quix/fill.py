"""Puts the lines of a file on a topic, keyed, before the clock runs: a stream begins in Kafka there."""
# mypy: ignore-errors
# It runs in an environment of its own.

import os
import sys

import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic


def key_of(line: bytes) -> bytes:
    """A record's channel; the conversation of a message of the window job."""
    body = orjson.loads(line)
    return (body["event"]["channel"] if "event" in body else body["conversation"]).encode()


def main(source: str, topic: str) -> None:
    """All of it, acknowledged."""
    servers = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]}
    admin = AdminClient(servers)
    admin.create_topics([NewTopic(topic, 1)])[topic].result()
    producer = Producer(servers)
    with open(source, "rb") as lines:
        for line in lines:
            producer.produce(topic, line.rstrip(b"\n"), key_of(line))
            producer.poll(0)
    if left := producer.flush(60):
        sys.exit(f"{left} records were not acknowledged")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
