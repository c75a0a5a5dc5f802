"""The page of a rehearsal: the alerts of past predictions. It needs nothing else: no script, no network, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beepgpt.web.pages import rendered

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


def rehearsal_page(found: Mapping[str, Any]) -> str:
    """The page of a rehearsal's figures and alerts."""
    return rendered("rehearsal.html", found=found, reasons=REASONS)
