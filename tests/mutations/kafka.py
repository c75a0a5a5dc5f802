"""Of Kafka: what is read, written and committed."""

from tests.mutations.mutation import mutation

SOURCE_PY = "connectors/log/source.py"
RECORDS_OF_LOG_PY = "connectors/log/records.py"
SINK_PY = "connectors/log/sink.py"
CONNECTION_PY = "connectors/kafka/connection.py"
READER_PY = "connectors/kafka/reader.py"
WRITER_PY = "connectors/kafka/writer.py"
RECORDS_PY = "dataflows/records.py"
KAFKA = "tests/connectors/kafka/test_kafka.py"
FLOW = "tests/dataflows/test_kafka_flow.py"

ROWS = (
    mutation(
        "a topic that was made again is looked for only after a pause in which no broker answered",
        "law 6",
        "beepgpt/connectors/kafka/reader.py",
        "tests/connectors/kafka/test_kafka_faults.py::test_a_topic_that_was_made_again_is_told_after_a_pause",
        ("if now - self._asked > PAUSE or now - self._heard >", "if now - self._asked > PAUSE and now - self._heard >"),
    ),
    mutation(
        "an offset is committed as soon as it is read",
        "law 6",
        SOURCE_PY,
        "tests/connectors/kafka/test_kafka_offsets.py",
        (
            "        self._source.took(len(records))\n",
            "        self._source.took(len(records))\n        self._covered = self.state.next\n        self._commit()\n",
        ),
    ),
    mutation(
        "a snapshot does not wait for what was written",
        "law 6",
        SINK_PY,
        "tests/connectors/log/test_log.py::test_a_snapshot_of_a_sink_waits_until_all_is_in_the_log",
        ("            self._writer.flush()\n", "            pass\n"),
    ),
    mutation(
        "the time of a record is that of the machine",
        "law 4",
        "beepgpt/conversations/chunks.py",
        (
            "tests/dataflows/test_kafka_topics.py::test_kafka_timestamp_seconds",
            "tests/dataflows/test_kafka_topics.py::test_what_can_not_be_used_goes_to_topics_of_its_own",
        ),
        ("written = log_time(value.timestamp, now)", "written = now"),
    ),
    mutation(
        "a retraction is not written",
        "law 6",
        RECORDS_PY,
        f"{FLOW}::test_live_equals_replay_equals_batch",
        (
            '    if kind == "retractions":\n        return [(id_of(line), None,',
            '    if kind == "retracted":\n        return [(id_of(line), None,',
        ),
    ),
    mutation(
        "a retraction goes out under another key than its example",
        "law 4",
        RECORDS_PY,
        f"{FLOW}::test_live_equals_replay_equals_batch",
        ('return [(id_of(line), None, [("retracted_ts"', 'return [(id_of(line)[:8], None, [("retracted_ts"'),
    ),
    mutation(
        "a topic that was made again goes on from the old offset",
        "law 6",
        SOURCE_PY,
        "tests/connectors/kafka/test_kafka_faults.py::test_a_topic_that_was_made_again_is_not_resumed",
        ("        check_same(Topic(self.name, state.topic_id, state.partitions), self.topic, self.place)\n", ""),
    ),
    mutation(
        "what retention removed is passed over",
        "law 6",
        CONNECTION_PY,
        "tests/connectors/kafka/test_kafka_faults.py::test_what_retention_removed_is_an_error_on_resume",
        ('"auto_offset_reset": "none"', '"auto_offset_reset": "earliest"'),
    ),
    mutation(
        "a partition ends one record early",
        "law 6",
        SOURCE_PY,
        "tests/connectors/kafka/test_kafka.py::test_from_a_time_to_a_time",
        (
            "            records = [record for record in records if record.offset < end]\n",
            "            records = [record for record in records if record.offset < end - 1]\n",
        ),
    ),
    mutation(
        "a chunk that was polled and not handed out is in the snapshot as read",
        "law 6",
        SOURCE_PY,
        "tests/connectors/log/test_log.py::test_a_position_is_of_what_was_handed_out",
        (
            "            self.ready.append(records[start : start + CHUNK])\n",
            "            self.ready.append(records[start : start + CHUNK])\n        self.state = self.state._replace(next=records[-1].offset + 1) if records else self.state\n",
        ),
    ),
    mutation(
        "a record that is too large is dropped",
        "law 6",
        WRITER_PY,
        "tests/connectors/kafka/test_kafka.py::test_a_record_over_the_limit_stops_the_flow",
        (
            "                    placed = self._placing.place(message)\n",
            "                    try:\n                        placed = self._placing.place(message)\n                    except LogFailed:\n                        return\n",
        ),
    ),
    mutation(
        "a dead letter that is cut loses its reason",
        "law 6",
        RECORDS_OF_LOG_PY,
        f"{KAFKA}::test_what_is_cut_to_fit_keeps_its_key_and_headers",
        ('headers = [*headers, ("cut_from"', 'headers = [("cut_from"'),
    ),
    mutation(
        "a partition that comes moves the others back to what was handed out of them",
        "law 4",
        READER_PY,
        "tests/connectors/log/test_log.py::test_a_partition_that_comes_or_goes_moves_no_other",
        ("            if partition not in before:\n", "            if partition is not None:\n"),
    ),
)
