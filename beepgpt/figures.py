"""How numbers are written for people: the same on pages and on terminals.

A share stands in per cent with a space before the sign and its 95 % interval behind it, as in `57 % (42–71)`; in the columns of a table,
whose heads say `%`, without the sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NONE = "–"
"""Shown in the place of a number that is not known."""
FEW = "too few to tell"
UNSCALED = {"mrr", "log_loss"}
"""Figures that are no shares; all others are."""
DIFFERENCES = ("calibration",)
"""Beginnings of the names of figures that are in per cent, but no share of something that was counted."""


def thousands(value: int) -> str:
    """Format a count with separators.

    >>> thousands(12345)
    '12,345'
    """
    return f"{value:,}"


def decimals(value: float | None, digits: int = 2) -> str:
    """Format a number with a fixed count of decimals.

    >>> decimals(0.1234), decimals(0.1234, 3), decimals(None)
    ('0.12', '0.123', '–')
    """
    return NONE if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """Format a share in per cent.

    >>> percent(0.3), percent(0.1234, 1), percent(None)
    ('30 %', '12.3 %', '–')
    """
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def threshold(value: float | None) -> str:
    """Format a threshold: in per cent, with a decimal where it has one.

    >>> threshold(0.2), threshold(0.358), threshold(None)
    ('20 %', '35.8 %', '–')
    """
    return percent(value, 0 if value is None or abs(100 * value - round(100 * value)) < 0.05 else 1)


def in_days(days: float) -> str:
    """A time in days as people say it; a few of them to a tenth, since most begin or end within a day. Less of it is in hours or minutes.

    >>> in_days(6.44), in_days(88.2), in_days(1.0), in_days(0.31), in_days(0.006)
    ('6.4 days', '88 days', '1 day', '7.4 hours', '9 minutes')
    """
    value, unit = (days, "day") if days >= 0.95 else (24 * days, "hour") if days >= 1 / 24 else (24 * 60 * days, "minute")
    number = f"{value:.0f}" if value >= 20 or unit == "minute" or not round(10 * value) % 10 else f"{value:.1f}"
    return f"{number} {unit}{'' if number == '1' else 's'}"


def counted(count: int, what: str) -> str:
    """A count with its noun.

    >>> counted(1, "day"), counted(1200, "message")
    ('1 day', '1,200 messages')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def count_of(figure: Mapping[str, Any]) -> str:
    """Format a share as a count.

    >>> count_of({"value": 0.59091, "count": 22}), count_of({"value": None, "count": 0})
    ('13 of 22', '–')
    """
    return NONE if figure["value"] is None else f"{right_of(figure):,} of {figure['count']:,}"


def right_of(figure: Mapping[str, Any]) -> int:
    """The count that a share is made of.

    >>> right_of({"value": 0.59091, "count": 22}), right_of({"value": None, "count": 0})
    (13, 0)
    """
    count: int = round((figure["value"] or 0.0) * figure["count"])
    return count


def share(figure: Mapping[str, Any], digits: int = 0) -> str:
    """Format a share with its interval; a share of too few as a count.

    >>> share({"value": 0.571, "low": 0.42, "high": 0.71, "count": 30}), share({"value": 0.5, "low": None, "high": None, "count": 4})
    ('57 % (42–71)', '2 of 4')
    """
    if figure["value"] is None:
        return NONE
    if figure["low"] is None:
        return count_of(figure)
    low, high = (f"{100 * figure[end]:.{digits}f}" for end in ("low", "high"))
    return f"{percent(figure['value'], digits)} ({low}–{high})"


def share_or_few(figure: Mapping[str, Any] | None, digits: int = 1) -> str:
    """Format a share with its interval for a sentence, which says so where there are too few to tell.

    >>> share_or_few({"value": 0.571, "low": 0.42, "high": 0.71, "count": 30}), share_or_few({"value": 0.5, "low": None, "count": 4})
    ('57.1 % (42.0–71.0)', 'too few to tell (2 of 4)')
    """
    if figure is None or figure["value"] is None:
        return NONE
    return share(figure, digits) if figure["low"] is not None else f"{FEW} ({share(figure)})"


# In columns of tables, whose heads have the unit


def with_interval(value: Mapping[str, Any] | None, name: str) -> str:
    """A figure with its interval, for a column; a share by its `name` is in per cent.

    >>> with_interval({"value": 0.3214, "low": 0.3, "high": 0.34, "count": 9}, "hit@1")
    '32.1 (30.0–34.0)'
    >>> with_interval({"value": 0.75, "low": None, "high": None, "count": 4}, "hit@1")
    'too few to tell (3 of 4)'
    """
    if value is None or value["value"] is None:
        return NONE
    if value["low"] is None:
        return FEW if name in UNSCALED or name.startswith(DIFFERENCES) else share_or_few(value)
    scale, digits = (1, 3) if name in UNSCALED else (100, 1)
    number, low, high = (f"{value[part] * scale:.{digits}f}" for part in ("value", "low", "high"))
    return f"{number} ({low}–{high})"


def number(figure: Mapping[str, Any] | None, name: str) -> str:
    """A figure without its interval, for a column.

    >>> number({"value": 0.3214}, "hit@1"), number({"value": 0.3214}, "mrr"), number(None, "mrr")
    ('32.1', '0.321', '–')
    >>> number({"value": 1.0, "low": None, "high": None, "count": 3}, "hit@1")
    'few'
    """
    if figure is None or figure["value"] is None:
        return NONE
    if figure.get("low", 0.0) is None:
        return "few"
    return f"{figure['value']:.3f}" if name in UNSCALED else f"{100 * figure['value']:.1f}"


def short(figure: Mapping[str, Any] | None, name: str) -> str:
    """A figure with its interval, for a narrow column.

    >>> short({"value": 0.3214, "low": 0.3, "high": 0.34}, "hit@1"), short({"value": 1.783, "low": 1.565, "high": 2.051}, "log_loss")
    ('32.1 (30–34)', '1.783 (1.56–2.05)')
    """
    if figure is None or figure["low"] is None:
        return number(figure, name)
    scale, digits = (1, 2) if name in UNSCALED else (100, 0)
    return f"{number(figure, name)} ({scale * figure['low']:.{digits}f}–{scale * figure['high']:.{digits}f})"


def about(seconds: float) -> str:
    """How long something takes, for people.

    >>> about(0.4), about(61), about(600)
    ('less than a minute', 'about 2 minutes', 'about 10 minutes')
    """
    minutes = math.ceil(seconds / 60)
    return "less than a minute" if minutes <= 1 else f"about {minutes:,} minutes"
