"""Render templates: one environment for all pages. What people wrote is text in each of them: templates escape it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

NONE = "–"
"""Shown in the place of a number that is not known."""
FEW = "too few to tell"
SHARES = ("hit@", "precision", "recall", "came", "calibration", "joined", "next", "reacted", "announced")
"""Beginnings of the names of figures that are shares."""


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


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share in percent.

    >>> percent(0.1234), percent(0.3, 0), percent(None)
    ('12.3 %', '30 %', '–')
    """
    return NONE if value is None else f"{value * 100:.{digits}f} %"


def with_interval(value: Mapping[str, Any] | None, name: str) -> str:
    """A figure with its interval; what is a share by its `name` in per cent.

    >>> with_interval({"value": 0.3214, "low": 0.3, "high": 0.34, "count": 9}, "hit@1")
    '32.1 (30.0–34.0)'
    >>> with_interval({"value": 0.75, "low": None, "high": None, "count": 4}, "hit@1")
    'too few to tell (3 of 4)'
    """
    if value is None or value["value"] is None:
        return NONE
    if value["low"] is None:
        is_share = name.startswith(SHARES) and not name.startswith("calibration")
        return f"{FEW} ({round(value['value'] * value['count'])} of {value['count']})" if is_share else FEW
    scale, digits = (100, 1) if name.startswith(SHARES) else (1, 3)
    number, low, high = (f"{value[part] * scale:.{digits}f}" for part in ("value", "low", "high"))
    return f"{number} ({low}–{high})"


def share(figure: Mapping[str, Any]) -> str:
    """Format a share with its interval, without decimals; a share of too few as a count.

    >>> share({"value": 0.571, "low": 0.42, "high": 0.71, "count": 30}), share({"value": 0.5, "low": None, "high": None, "count": 4})
    ('57 % (42–71)', '2 of 4')
    """
    if figure["value"] is None:
        return NONE
    if figure["low"] is None:
        return f"{round(figure['value'] * figure['count'])} of {figure['count']}"
    return f"{figure['value']:.0%} ({100 * figure['low']:.0f}–{100 * figure['high']:.0f})".replace("%", " %")


def unbroken(text: str) -> str:
    """A text in which no line ends between a number and its per cent."""
    return text.replace(" %", "\u00a0%")


def bands(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A picture of shares, each with the band that it lies in, in per cent. Those of too few are left out.

    `rows`: names and figures, ours first.
    """
    return [
        {
            "name": name,
            "ours": place == 0,
            "says": f"{share(figure)} of {figure['count']:,}",
            "at": round(100 * figure["value"], 1),
            "low": round(100 * figure["low"], 1),
            "width": round(100 * (figure["high"] - figure["low"]), 1),
        }
        for place, (name, figure) in enumerate(rows)
        if figure["low"] is not None
    ]


TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
"""The stylesheet of all pages, and the script and the icon of the review page."""


@cache
def environment() -> Environment:
    """Templates with the filters that format numbers. A name that a template uses and nobody gave is an error."""
    made = Environment(
        loader=FileSystemLoader((TEMPLATES, STATIC)), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(
        decimals=decimals,
        percent=percent,
        share=lambda figure: unbroken(share(figure)),
        unbroken=unbroken,
        thousands=thousands,
        with_interval=with_interval,
    )
    return made


def rendered(template: str, **values: object) -> str:
    """The page that a template makes of values."""
    return environment().get_template(template).render(**values)


REASONS = {
    "author": "wrote the newest message",
    "participant": "took part already",
    "muted": "had muted the channel",
    "told before": "had been alerted to it",
    "root alone": "the session that the message stands in is asked instead of its thread, which has no reply",
    "not a member": "could not see the channel",
    "too old": "the newest message was too old, as where an old one was edited",
    "not fresh": "scored too late",
    "deleted": "a message of it was deleted",
}
"""Why somebody is passed over, as the page says it; other reasons are shown as they are."""
