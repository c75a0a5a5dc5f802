"""What people would have been told, as one page that needs nothing else: no script, no network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def rehearsal_page(told: Mapping[str, Any]) -> str:
    """The page; whatever was written or is somebody's name is text."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = percent
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.2f}"
    environment.filters["in_words"] = lambda reason: REASONS.get(reason, reason)
    return environment.get_template("rehearsal.html").render(told=told)


REASONS = {
    "author": "wrote the newest message",
    "participant": "took part already",
    "muted": "had muted the channel",
    "told before": "had been told of it",
    "root alone": "the session that the message stands in is asked instead of its thread, which has no reply",
    "not a member": "could not see the channel",
    "too old": "the newest message was too old, as where an old one was edited",
    "not fresh": "scored too late",
    "deleted": "a message of it was deleted",
}
"""Why somebody is passed over, as the page says it."""


def percent(value: float | None) -> str:
    """A share.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '–')
    """
    return "–" if value is None else f"{value * 100:.1f} %"
