"""Processors that are idle: with as many threads a model is fitted. On a busy machine, more of them wait for each other."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where a container's share of the processors stands: microseconds of work in so many."""


def idle_cores() -> int:
    """How many of the processors that this process may use are idle, this process itself aside; at least one."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = QUOTA.read_text() if QUOTA.exists() else "max"
    return idle_of(min(here, cores_in(quota)), os.cpu_count() or 1, os.getloadavg()[0])


def cores_in(quota: str) -> int:
    """The processors that a container's quota is worth; a part of one counts as one.

    >>> cores_in("150000 100000"), cores_in("200000 100000"), cores_in("max 100000") > 1000
    (2, 2, True)
    """
    work, *period = quota.split()
    return 1 << 16 if work == "max" or not period else max(ceil(int(work) / int(period[0])), 1)


def idle_of(usable: int, processors: int, load: float) -> int:
    """How many are idle of the `usable` ones of all `processors`, by the load of the last minute, of which this process is one.

    >>> idle_of(2, 2, 1.0), idle_of(2, 2, 1.9), idle_of(2, 2, 14.0), idle_of(2, 16, 3.0)
    (2, 1, 1, 2)
    """
    return max(min(usable, round(processors - max(load - 1.0, 0.0))), 1)
