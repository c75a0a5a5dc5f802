"""The job in Kaskada: texts collected by conversation, and lagged by one message."""
# mypy: ignore-errors
# It runs in an environment of its own.

import asyncio
import sys

import kaskada as kd
import pandas as pd


async def main(source: str, to: str) -> None:
    """A timestream of messages to one of examples."""
    kd.init_session()
    table = pd.read_json(source, lines=True, engine="pyarrow")
    table["time"] = pd.to_datetime(table["ts"].str.replace(".", "").astype("int64"), unit="us")  # its JSON source wants no text here
    messages = await kd.sources.Pandas.create(table, time_column="time", key_column="conversation")
    window = messages.col("text").collect(max=5).lag(1)
    examples = kd.record(
        {"conversation": messages.col("conversation"), "ts": messages.col("ts"), "window": window, "label": messages.col("user")}
    )
    with open(to, "w", encoding="utf-8") as out:
        for made in examples.filter(window.is_not_null()).run_iter("pandas"):
            made[["conversation", "ts", "window", "label"]].to_json(out, orient="records", lines=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
