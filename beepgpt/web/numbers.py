"""Numbers as pages and tables show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "–"
"""Shown in the place of a number that is not known."""
SHARES = ("hit@", "precision", "recall", "came", "calibration")
"""Beginnings of the names of figures that are shares."""


def thousands(value: int) -> str:
    """A count.

    >>> thousands(12345)
    '12,345'
    """
    return f"{value:,}"


def decimals(value: float | None, digits: int = 2) -> str:
    """A number with a fixed count of decimals.

    >>> decimals(0.1234), decimals(0.1234, 3), decimals(None)
    ('0.12', '0.123', '–')
    """
    return NONE if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share.

    >>> percent(0.1234), percent(0.3, 0), percent(None)
    ('12.3 %', '30 %', '–')
    """
    return NONE if value is None else f"{value * 100:.{digits}f} %"


def with_interval(value: Mapping[str, Any] | None, name: str) -> str:
    """A figure with its interval; what is a share by its `name` in per cent.

    >>> with_interval({"value": 0.3214, "low": 0.3, "high": 0.34, "count": 9}, "hit@1")
    '32.1 (30.0–34.0)'
    """
    if value is None or value["value"] is None:
        return NONE
    scale, digits = (100, 1) if name.startswith(SHARES) else (1, 3)
    number, low, high = (f"{value[part] * scale:.{digits}f}" for part in ("value", "low", "high"))
    return f"{number} ({low}–{high})"
