"""A log is topics with partitions, offsets, keys, headers and times: what is written stays in its order, and is read from any offset.

`Log` is what all rooms above know of it; `connectors/kafka` and `connectors/sqlite` are the two that there are. Sources and sinks for
flows, the partition of a key and how a record is made to fit are the same for both.
"""

from beepgpt.connectors.log.address import EITHER, KAFKA, SCHEMES, SQLITE, TopicAddress, folder_of, folder_place, parse_address
from beepgpt.connectors.log.errors import BadAddress, LogFailed, NotDelivered, NoTopic, OffsetsGone, TopicChanged, TopicInUse, WrongTopic
from beepgpt.connectors.log.log import Log
from beepgpt.connectors.log.records import LOOK_BACK, OutgoingRecord, Record, RecordChunk, Topic, TopicSpec, murmur2, partition_of
from beepgpt.connectors.log.sink import LogSink, LogWriter
from beepgpt.connectors.log.source import PATIENCE, LogSource, LogState, check_kept, check_same, chunks_of
