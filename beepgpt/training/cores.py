"""Processors that are idle: with as many threads a model is fitted. On a busy machine, more of them wait for each other."""

from __future__ import annotations

import os

from joblib import cpu_count


def idle_cores() -> int:
    """How many of the processors that this process may use, also in a container, are idle, itself aside; at least one."""
    return idle_of(cpu_count(), os.cpu_count() or 1, os.getloadavg()[0])


def idle_of(usable: int, processors: int, load: float) -> int:
    """How many are idle of the `usable` ones of all `processors`, by the load of the last minute, of which this process is one.

    >>> idle_of(2, 2, 1.0), idle_of(2, 2, 1.9), idle_of(2, 2, 14.0), idle_of(2, 16, 3.0)
    (2, 1, 1, 2)
    """
    return max(min(usable, round(processors - max(load - 1.0, 0.0))), 1)
