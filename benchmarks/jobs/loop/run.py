"""The job in a plain loop: the floor, and what every peer's output is compared with."""

import sys
from collections import defaultdict
from pathlib import Path

import orjson


def main(source: Path, to: Path) -> None:
    """For each message, the last five texts before it in its conversation, and its author."""
    said: dict[str, list[str]] = defaultdict(list)
    with source.open("rb") as lines, to.open("wb") as out:
        for line in lines:
            message = orjson.loads(line)
            texts = said[message["conversation"]]
            if texts:
                example = {"conversation": message["conversation"], "ts": message["ts"], "window": texts, "label": message["user"]}
                out.write(orjson.dumps(example) + b"\n")
            texts.append(message["text"])
            del texts[:-5]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
