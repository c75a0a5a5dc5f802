"""The core in a plain Python loop, no engine: a dict of channels."""
# mypy: ignore-errors

import sys

from our_core import CoreChannel, channel_of


def main(source: str, to: str, candidates: bool) -> None:
    """The file, to its end."""
    channels: dict[str, CoreChannel] = {}
    with open(source, "rb") as records, open(to, "wb") as out:
        for line in records:
            record = line.strip()
            name = channel_of(record)
            if name not in channels:
                channels[name] = CoreChannel(candidates)
            out.writelines(line + b"\n" for line in channels[name].feed(record))
        for channel in channels.values():
            out.writelines(line + b"\n" for line in channel.end())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "with")
