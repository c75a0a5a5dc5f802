"""Render templates: one environment for all pages. What people wrote is text in each of them: templates escape it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from beepgpt.figures import count_of, counted, decimals, in_days, percent, share, share_or_few, thousands, threshold, with_interval

NO_BREAK = "\u00a0"
"""A space at which no line ends."""
_PER_CENT = re.compile(r"(?<=\d) ?%")
_RANGE = re.compile(r"\([\d.,]+–[\d.,]+\)")


def unbroken(text: str) -> Markup:
    r"""A text as HTML, in which no line ends within a share's interval, or before a per cent sign.

    >>> unbroken("35 % (17–59) <joined>")
    Markup('35\xa0% <span class="whole">(17–59)</span> &lt;joined&gt;')
    """
    return Markup(_RANGE.sub(r'<span class="whole">\g<0></span>', str(escape(_per_cent(text)))))


def _per_cent(text: str) -> str:
    """A text in which a space that breaks no line stands before each per cent sign."""
    return _PER_CENT.sub(f"{NO_BREAK}%", text)


def bands(rows: Iterable[tuple[str, Mapping[str, Any]]], *, of: bool = True) -> list[dict[str, Any]]:
    """A picture of shares, each with the band that it lies in, in per cent. Those of too few are left out.

    `rows`: names and figures, ours first; `of`: whether to say of how many a share is.
    """
    return [
        {
            "name": name,
            "ours": place == 0,
            "says": f"{share(figure)} of {figure['count']:,}" if of else share(figure),
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
        count_of=count_of,
        counted=counted,
        decimals=decimals,
        in_days=in_days,
        percent=lambda value, digits=0: _per_cent(percent(value, digits)),
        share=lambda figure: unbroken(share(figure)),
        share_or_few=lambda figure: unbroken(share_or_few(figure, 0)),
        threshold=lambda value: _per_cent(threshold(value)),
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
    "told before": "had been alerted to it already",
    "root alone": "the message began a thread that nobody had replied to yet: it was counted with the channel's conversation instead",
    "not a member": "could not see the channel",
    "too old": "what changed was an old message, such as one that was edited later",
    "not fresh": "scored too late",
    "deleted": "a message of it was deleted",
    "not opted in": "had not turned alerts on",
    "quiet hours": "had quiet hours, by their own clock",
    "hourly limit": "had got as many within the hour as they want",
    "less likely": "less likely than the threshold",
    "membership in doubt": "Slack did not say whether they see the channel",
    "no permalink": "Slack gave no link to the message",
    "unlikely": "wanted only likelier ones, by a threshold of their own",
}
"""Why somebody is passed over, as the page says it; other reasons are shown as they are."""
ENDS = {
    "answered": "somebody else answered",
    "silent": "nobody answered in time",
    "superseded": "the conversation changed again before anybody answered",
    "elsewhere": "answered in the message's thread, and counted there",
    "merged": "a thread that nobody replied to, counted with the channel's conversation",
    "moved": "the channel got another id in between",
    "censored": "the data ended before the time for an answer did",
}
"""What became of a predicted point, as the page says it."""
