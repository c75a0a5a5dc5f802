"""Kafka topics, as bytes: in by chunks of records, out by messages whose delivery is confirmed before a snapshot says so.

Partitions are assigned and sought: no group is joined, so where a run stands is in its snapshots alone. Offsets are also
committed to a group's name, for the tools that show lag.
"""

from beepgpt.connectors.kafka.connection import (
    HOW,
    PATIENCE,
    BadAddress,
    Connection,
    KafkaAddress,
    KafkaFailed,
    NoBroker,
    NotDelivered,
    NoTopic,
    OffsetsGone,
    TopicChanged,
    WrongTopic,
    parse_address,
)
from beepgpt.connectors.kafka.outages import OUTAGES, Outage, Outages
from beepgpt.connectors.kafka.source import KafkaSource, KafkaState, chunks_of
from beepgpt.connectors.kafka.topics import (
    LOOK_BACK,
    Record,
    RecordChunk,
    Topic,
    TopicSpec,
    begin_and_end_offsets,
    check_keeps,
    check_kept,
    check_same,
    check_topics,
    create_topics,
    delete_topic,
    describe_topic,
    describe_topics,
    offsets_at,
    records_of,
    tails,
    topic_settings,
)
from beepgpt.connectors.kafka.writer import KafkaSink, OutgoingRecord, Writer, murmur2, partition_of
