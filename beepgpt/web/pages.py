"""Render templates: one environment for all pages. What people wrote is text in each of them: templates escape it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from beepgpt.web.numbers import decimals, percent, thousands, with_interval

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
"""The stylesheet of all pages, and the script and the icon of the review page."""


@cache
def environment() -> Environment:
    """Templates with the filters that format numbers. A name that a template uses and nobody gave is an error."""
    made = Environment(
        loader=FileSystemLoader((TEMPLATES, STATIC)), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(decimals=decimals, percent=percent, thousands=thousands, with_interval=with_interval)
    return made


def rendered(template: str, **values: object) -> str:
    """The page that a template makes of values."""
    return environment().get_template(template).render(**values)
