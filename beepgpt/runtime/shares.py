"""How a run's work is shared among its workers, and among how many."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.events import channels_in
from beepgpt.conversations.shard import SHARDS, assign_shards, shard_of, shard_of_bytes
from beepgpt.runtime.places import Origin
from beepgpt.runtime.recovery import noted_in

RECORDS_EACH = 50_000
"""With fewer records for each, another worker takes longer to start than it saves."""
ZIPPED, PLAIN = 100, 350
"""Bytes of a message in an export's zip and in its folder: a rough mean of real ones."""


def shares_among(origin: Origin, workers: int) -> list[tuple[str, ...]]:
    """The shards of each worker. Workers of a topic share its partitions instead, and each follows all shards.

    Channels differ in size a thousandfold, so shards are weighed: of a file by some of its lines, of an export by its files' sizes.
    """
    return [SHARDS] * workers if origin.address is not None or workers == 1 else assign_shards(_weights(origin)[0], workers)


def with_workers(settings: Settings, origin: Origin, recovery: Path | None = None, *, alone: bool = False) -> Settings:
    """The settings with a number of workers in place of `auto`: that of the run that goes on, or as many as help.

    `alone`: the run can't be divided, or needs not be. A topic is read by one, since its order of writing is that of reading.
    """
    if settings.run.workers is not None:
        return settings
    workers = noted_in(recovery, "workers") if recovery is not None else None
    if workers is None:
        weights, records = (Counter(), 0) if alone or origin.address is not None else _weights(origin)
        workers = max(min(usable_processors(), -(-records // RECORDS_EACH), len(weights)), 1)
    return settings.model_copy(update={"run": settings.run.model_copy(update={"workers": workers})})


def usable_processors() -> int:
    """How many processors this process may use, also in a container that has a quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no such file, or "max"
        quota, period = map(int, Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split())
        usable = min(usable, -(-quota // period))
    return usable


def _weights(origin: Origin) -> tuple[Counter[str], int]:
    """What each shard weighs, and about how many records a file or an export has; of a pipe nothing is known."""
    weights: Counter[str] = Counter()
    records = 0
    if origin.export is not None:
        for channel in origin.export.channels:
            weights[shard_of(channel.id)] += sum(copy.stored for day in channel.days for copy in day.copies)
        records = weights.total() // (PLAIN if origin.export.path.is_dir() else ZIPPED)
    elif origin.file is not None and (lines := jsonl.samples(origin.file)):
        weights.update(shard_of_bytes(name) for line in lines for name in channels_in(line)[:1])
        records = origin.file.stat().st_size * len(lines) // sum(len(line) + 1 for line in lines)
    return weights, records
