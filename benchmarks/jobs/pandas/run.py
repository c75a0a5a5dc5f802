"""The job in pandas: each column of the window is the texts shifted within their conversation."""
# mypy: ignore-errors
# It runs in an environment of its own.

import sys

import pandas as pd


def main(source: str, to: str) -> None:
    """The whole file as one table."""
    messages = pd.read_json(source, lines=True, engine="pyarrow")
    before = messages.groupby("conversation", sort=False)["text"].shift([5, 4, 3, 2, 1])
    columns = before.astype(object).where(before.notna(), None)
    messages["window"] = [[text for text in row if text is not None] for row in columns.to_numpy()]
    examples = messages[messages["window"].str.len() > 0].rename(columns={"user": "label"})
    examples[["conversation", "ts", "window", "label"]].to_json(to, orient="records", lines=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
