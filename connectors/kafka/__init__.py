"""Kafka topics, as bytes: in by chunks of records, out by messages whose delivery is confirmed before a snapshot says so.

Partitions are assigned and sought: no group is joined, so where a run stands is in its snapshots alone. Offsets are also
committed to a group's name, for the tools that show lag.
"""

from beepgpt.connectors.kafka.address import HOW, KafkaAddress, parse_address
from beepgpt.connectors.kafka.connection import Connection
from beepgpt.connectors.kafka.errors import BadAddress, KafkaFailed, NoBroker, NotDelivered, NoTopic, OffsetsGone, TopicChanged, WrongTopic
from beepgpt.connectors.kafka.partitioner import murmur2, partition_of
from beepgpt.connectors.kafka.records import LOOK_BACK, KafkaHeaders, Record, RecordChunk, records_of, tails
from beepgpt.connectors.kafka.sink import KafkaSink
from beepgpt.connectors.kafka.source import KafkaSource, KafkaState, chunks_of
from beepgpt.connectors.kafka.topics import (
    Topic,
    TopicSpec,
    begin_and_end_offsets,
    check_keeps,
    check_kept,
    check_same,
    check_topics,
    create_topics,
    describe_topic,
    describe_topics,
    offsets_at,
    topic_settings,
)
from beepgpt.connectors.kafka.writer import OutgoingRecord, Writer

__all__ = [
    "HOW",
    "LOOK_BACK",
    "BadAddress",
    "Connection",
    "KafkaAddress",
    "KafkaFailed",
    "KafkaHeaders",
    "KafkaSink",
    "KafkaSource",
    "KafkaState",
    "NoBroker",
    "NoTopic",
    "NotDelivered",
    "OffsetsGone",
    "OutgoingRecord",
    "Record",
    "RecordChunk",
    "Topic",
    "TopicChanged",
    "TopicSpec",
    "Writer",
    "WrongTopic",
    "begin_and_end_offsets",
    "check_keeps",
    "check_kept",
    "check_same",
    "check_topics",
    "chunks_of",
    "create_topics",
    "describe_topic",
    "describe_topics",
    "murmur2",
    "offsets_at",
    "parse_address",
    "partition_of",
    "records_of",
    "tails",
    "topic_settings",
]
