"""The job in Spark's structured streaming: a stateful processor keyed by conversation, with a list as its state."""
# mypy: ignore-errors
# It runs in an environment of its own.

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyspark.sql import Row, SparkSession
from pyspark.sql.streaming import StatefulProcessor, StatefulProcessorHandle

MESSAGE = "conversation STRING, ts STRING, user STRING, text STRING"
EXAMPLE = "conversation STRING, ts STRING, window ARRAY<STRING>, label STRING"


class FollowConversation(StatefulProcessor):
    """A conversation's last five texts."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._window = handle.getValueState("window", "texts ARRAY<STRING>")

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:
        texts = list(self._window.get()[0]) if self._window.exists() else []
        for row in sorted(rows, key=lambda row: row.ts):  # a shuffle keeps no order
            if texts:
                yield Row(conversation=row.conversation, ts=row.ts, window=texts[:], label=row.user)
            texts = [*texts, row.text][-5:]
        self._window.update((texts,))

    def close(self) -> None:
        pass


def main(source: str, to: str) -> None:
    """The file as a stream, to its end."""
    spark = (
        SparkSession.builder.master("local[*]")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.shuffle.partitions", str(len(os.sched_getaffinity(0))))
        .config("spark.ui.enabled", "false")
        .config("spark.sql.streaming.stateStore.providerClass", "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider")
        .getOrCreate()
    )
    messages = spark.readStream.schema(MESSAGE).json(str(Path(source).parent))  # it reads folders only
    examples = messages.groupBy("conversation").transformWithState(
        statefulProcessor=FollowConversation(), outputStructType=EXAMPLE, outputMode="Append", timeMode="None"
    )
    examples.writeStream.format("json").trigger(availableNow=True).option("checkpointLocation", f"{to}.checkpoint").start(
        to
    ).awaitTermination()
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
