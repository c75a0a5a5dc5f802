"""Numbers and times as several commands print them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

UNSCALED = {"mrr", "log_loss"}
"""Figures that are no shares."""


def number(figure: Mapping[str, Any] | None, name: str) -> str:
    """A figure without its interval: shares in per cent.

    >>> number({"value": 0.3214}, "hit@1"), number({"value": 0.3214}, "mrr"), number(None, "mrr")
    ('32.1', '0.321', '–')
    """
    if figure is None or figure["value"] is None:
        return "–"
    return f"{figure['value']:.3f}" if name in UNSCALED else f"{100 * figure['value']:.1f}"


def moment(ts: str) -> str:
    """A message's time as ISO 8601, UTC.

    >>> moment("1670453893.000100")
    '2022-12-07T22:58:13.000100Z'
    """
    seconds, _, fraction = ts.partition(".")
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{fraction}Z"
