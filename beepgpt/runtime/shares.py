"""How a run's work is shared among its workers."""

from __future__ import annotations

from collections import Counter

from beepgpt.connectors.files import jsonl
from beepgpt.conversations.events import channels_in
from beepgpt.conversations.shard import SHARDS, assign_shards, shard_of, shard_of_bytes
from beepgpt.runtime.places import Origin


def shares_among(origin: Origin, workers: int) -> list[tuple[str, ...]]:
    """The shards of each worker. Workers of a topic share its partitions instead, and each follows all shards.

    Channels differ in size a thousandfold, so shards are weighed: of a file by some of its lines, of an export by its files' sizes.
    """
    if origin.address is not None:
        return [SHARDS] * workers
    weights: Counter[str] = Counter()
    if origin.export is not None:
        for channel in origin.export.channels:
            weights[shard_of(channel.id)] += sum(copy.stored for day in channel.days for copy in day.copies)
    elif origin.file is not None:
        weights.update(shard_of_bytes(name) for line in jsonl.samples(origin.file) for name in channels_in(line)[:1])
    return assign_shards(weights, workers)
