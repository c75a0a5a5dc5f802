"""Kafka topics, as bytes: in by chunks of records, out by messages whose delivery is confirmed before a snapshot says so.

Partitions are assigned and sought: no group is joined, so where a run stands is in its snapshots alone. Offsets are also
committed to a group's name, for the tools that show lag.
"""

from beepgpt.connectors.kafka.connection import Connection, NoBroker
from beepgpt.connectors.kafka.log import KafkaLog
from beepgpt.connectors.kafka.outages import OUTAGES, Outage, Outages
from beepgpt.connectors.kafka.source import KafkaSource
from beepgpt.connectors.kafka.topics import (
    begin_and_end_offsets,
    create_topics,
    delete_topic,
    describe_topic,
    describe_topics,
    offsets_at,
    records_of,
    topic_settings,
)
from beepgpt.connectors.kafka.writer import Writer
